//! Writes: operations out, outcomes back.
//!
//! Each object has a file for its requests, bodies and answers; `request` sends one request, in the turn that
//! `pending` gives it. Every write is safe to repeat: names, uid preconditions and resource versions see to that.

use std::sync::{Arc, atomic::AtomicBool};

use kube::Client;
use parking_lot::Mutex;

use self::{guardian::body::GuardianOwner, pending::Permit};
use crate::{
    domain::{
        order::spec::{Order, Template},
        pair::op::{Op, Outcome},
        values::shard::ShardCount,
    },
    lease::deadline::Deadline,
    queue::Lane,
    shard::state::Work,
};

pub mod clients;
pub(crate) mod collection;
mod confirm;
pub(crate) mod event;
mod guardian;
pub(crate) mod lease;
mod metadata;
mod order;
pub(crate) mod pending;
pub mod request;
pub(crate) mod shard;
mod ticket;

#[cfg(test)]
mod testing;

pub(crate) use guardian::body::GuardianSettings;
pub(crate) use pending::Pending;

/// Sends operations and other requests of the write client; clones share all but their turn.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    shards: ShardCount,
    guardians: Arc<GuardianSettings>,
    pending: Arc<Pending>,
    /// Where requests line up.
    lane: Lane,
    /// For the first request of an operation whose turn it is.
    permit: Arc<Mutex<Option<Permit>>>,
    /// Nothing begins that could end after this.
    lease: Arc<Deadline>,
    /// The log has said that a right is missing.
    warned: Arc<AtomicBool>,
}

impl Writer {
    /// A writer that sends with `client`, whose own retries are off, when `pending` lets it and `lease`
    /// is held.
    pub(crate) fn new(
        client: Client,
        pending: Arc<Pending>,
        shards: ShardCount,
        guardians: GuardianSettings,
        lease: Arc<Deadline>,
    ) -> Self {
        Self {
            client,
            shards,
            guardians: Arc::new(guardians),
            pending,
            lane: Lane::Settle,
            permit: Arc::default(),
            lease,
            warned: Arc::default(),
        }
    }

    /// This writer for one operation whose turn it is, under the Lease of its shard.
    pub(crate) fn holding(&self, permit: Permit, lease: Arc<Deadline>) -> Self {
        Self {
            lease,
            permit: Arc::new(Mutex::new(Some(permit))),
            ..self.in_lane(Lane::Settle)
        }
    }

    /// This writer for requests that line up in `lane`.
    fn in_lane(&self, lane: Lane) -> Self {
        Self {
            lane,
            permit: Arc::default(),
            ..self.clone()
        }
    }

    /// Carries out one operation.
    pub(crate) async fn perform(&self, work: &Work) -> Outcome {
        let (key, shard) = (&work.ticket, work.shard);
        match &work.op {
            Op::CreateTicket {
                order,
                node,
                sequence,
            } => self.create_ticket(order, node, *sequence, shard).await,
            Op::SyncTicket {
                order, ticket, asks, ..
            } => self.sync_ticket(order, ticket, *asks, shard).await,
            Op::SetStatus {
                uid,
                revision,
                status,
                term,
            } => {
                let patch = ticket::body::status_patch(uid, *revision, status, *term);
                self.patch_ticket_status(key, &patch).await
            }
            Op::Renew { uid, revision, term } => {
                let patch = ticket::body::renewal_patch(uid, *revision, *term);
                self.patch_ticket_status(key, &patch).await
            }
            Op::Expire {
                uid,
                revision,
                term,
                finished,
                reason,
                message,
            } => {
                let said = (reason.as_deref(), message.as_deref());
                let patch = ticket::body::expiry_patch(uid, *revision, *term, finished.0, said);
                self.patch_ticket_status(key, &patch).await
            }
            Op::DeleteTicket { uid, revision, .. } => self.delete_ticket(key, uid, *revision).await,
            Op::CreateGuardian {
                pod,
                covered,
                unless,
                uid,
                order,
                node,
            } => {
                let owner = GuardianOwner {
                    ticket: key,
                    uid,
                    order: &order.uid,
                    shard,
                };
                let template = template(order);
                let body = guardian::body::guardian(pod, *covered, &owner, template, node, &self.guardians);
                self.create_guardian(work, uid, unless.as_ref(), pod, &body).await
            }
            Op::ExtendGuardian { pod, uid, order } => self.extend_guardian(work, pod, uid, order).await,
            Op::NominateGuardian {
                pod,
                uid,
                revision,
                node,
            } => {
                let patch = guardian::body::nominate_patch(uid, *revision, node);
                self.nominate_guardian(work, pod, &patch).await
            }
            Op::UngateGuardian {
                pod,
                uid,
                gates,
                unless,
            } => {
                let patch = guardian::body::ungate_patch(uid, gates);
                self.ungate_guardian(work, pod, unless, &patch).await
            }
            Op::RelabelGuardian {
                pod,
                uid,
                order,
                template_hash,
            } => {
                let hash = template_hash.as_deref();
                let patch = guardian::body::relabel_patch(uid, key, order, shard, hash);
                self.relabel_guardian(work, pod, &patch).await
            }
            Op::DeleteGuardian { pod, uid, .. } => self.delete_guardian(work, pod, uid).await,
            Op::DeleteOrphan { pod, uid, ticket } => self.delete_orphan(work, pod, uid, ticket).await,
            Op::ConfirmTicket => self.confirm_ticket(key).await,
            Op::ConfirmGuardian(pod) => self.confirm_guardian(work, pod).await,
            Op::ConfirmOrder { key, uid } => self.confirm_order(key, uid).await,
            Op::ConfirmNode(ticket) => self.confirm_node(ticket).await,
        }
    }
}

fn template(order: &Order) -> &Template {
    let spec = order.spec.as_ref();
    &spec.expect("only valid Orders get Tickets").template
}
