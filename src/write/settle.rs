//! Settles a create that answered 409, or did not answer: a GET says whose the name is.
//!
//! Ours is observed, a dead owner's is deleted by uid, a foreign object is never touched.

use kube::{Api, Resource, ResourceExt, core::PartialObjectMeta};

use super::writer::{Failure, Writer};
use crate::{
    api::{Order, Ticket},
    domain::{
        pair::{
            observed::{GuardianView, Revision, TicketView},
            op::{Observation, Outcome},
            reason,
        },
        values::ids::{NodeUid, ObjectKey, OrderUid, PodKey, TicketKey, TicketUid},
    },
    shard::state::Work,
    watch::{guardian::SlimPod, meta, ticket::SlimTicket},
};

impl Writer {
    /// What the Ticket of this name is to the pair.
    pub(super) async fn settle_ticket(
        &self,
        key: &TicketKey,
        order: &OrderUid,
        node: &NodeUid,
        sequence: i64,
    ) -> Outcome {
        let tickets: Api<SlimTicket> = self.api(key);
        let found = match self.ask(tickets.get(&key.name)).await {
            Ok(found) => found,
            Err(failure) => return failure.outcome(reason::TICKET_REFUSED),
        };
        let (uid, owner) = (
            found.uid().unwrap_or_default(),
            meta::controller(&found.metadata, "Order").cloned(),
        );
        let revision = Revision::parse(found.resource_version().as_deref());
        match found.view(self.shards) {
            Some((_, view)) if ours(&view, order, node, sequence) => seen_ticket(view),
            _ => match owner {
                Some(owner) if self.dead::<Order>(key, &owner.name, &owner.uid).await => {
                    self.remove_dead::<Ticket>(key, &uid, revision).await
                }
                _ => taken("Ticket", key),
            },
        }
    }

    /// What the Pod of this name is to the Ticket.
    pub(super) async fn settle_guardian(&self, work: &Work, ticket: &TicketUid, key: &PodKey) -> Outcome {
        let pods: Api<SlimPod> = self.api(key);
        let found = match self.ask(pods.get(&key.name)).await {
            Ok(found) => found,
            Err(failure) => return failure.outcome(reason::GUARDIAN_REFUSED),
        };
        let (uid, owner) = (
            found.uid().unwrap_or_default(),
            meta::controller(&found.metadata, "Ticket").cloned(),
        );
        let revision = Revision::parse(found.resource_version().as_deref());
        match owner {
            Some(owner) if owner.uid == ticket.as_str() => seen_guardian(found, work),
            Some(owner) if self.dead::<Ticket>(key, &owner.name, &owner.uid).await => {
                self.remove_dead::<k8s_openapi::api::core::v1::Pod>(key, &uid, revision)
                    .await
            }
            _ => taken("Pod", key),
        }
    }

    /// Looks at the Ticket of this name.
    pub(super) async fn see_ticket(&self, key: &TicketKey) -> Outcome {
        let tickets: Api<SlimTicket> = self.api(key);
        match self.ask(tickets.get(&key.name)).await {
            Ok(found) => match found.view(self.shards) {
                Some((_, view)) => Outcome::Observed(Observation::Ticket(Box::new(view))),
                None => Outcome::Observed(Observation::TicketGone(key.clone())),
            },
            Err(Failure::NotFound) => Outcome::Observed(Observation::TicketGone(key.clone())),
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    /// Looks at the Pod of this name.
    pub(super) async fn see_guardian(&self, work: &Work, key: &PodKey) -> Outcome {
        let pods: Api<SlimPod> = self.api(key);
        match self.ask(pods.get(&key.name)).await {
            Ok(found) => match guardian_of(found, work) {
                Some(view) => Outcome::Observed(Observation::Guardian(Box::new(view))),
                None => Outcome::Observed(Observation::GuardianGone(key.clone())),
            },
            Err(Failure::NotFound) => Outcome::Observed(Observation::GuardianGone(key.clone())),
            Err(failure) => failure.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// Whether no object of this name and uid exists; false if that cannot be told.
    async fn dead<K>(&self, key: &ObjectKey, name: &str, uid: &str) -> bool
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug,
    {
        let owners: Api<PartialObjectMeta<K>> = self.api(key);
        match self.ask(owners.get(name)).await {
            Ok(owner) => owner.uid().as_deref() != Some(uid),
            Err(failure) => matches!(failure, Failure::NotFound),
        }
    }

    async fn remove_dead<K>(&self, key: &ObjectKey, uid: &str, revision: Revision) -> Outcome
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.api(key);
        let params = super::writer::delete_params(uid, Some(revision)).grace_period(0);
        match self.ask(api.delete(&key.name, &params)).await {
            Ok(_) | Err(Failure::NotFound | Failure::Conflict) => {
                let message = "an object left by a dead owner had the name and was deleted";
                Outcome::Retry {
                    message: message.into(),
                }
            }
            Err(failure) => failure.outcome(reason::NAME_TAKEN),
        }
    }
}

fn ours(view: &TicketView, order: &OrderUid, node: &NodeUid, sequence: i64) -> bool {
    view.order == *order && view.node == *node && view.sequence == sequence
}

fn seen_ticket(view: TicketView) -> Outcome {
    if view.deleting {
        return Outcome::Retry {
            message: "the Ticket of this name is being deleted".into(),
        };
    }
    Outcome::Observed(Observation::Ticket(Box::new(view)))
}

fn seen_guardian(found: SlimPod, work: &Work) -> Outcome {
    match guardian_of(found, work) {
        Some(view) if !view.deleting => Outcome::Observed(Observation::Guardian(Box::new(view))),
        _ => Outcome::Retry {
            message: "the Guardian of this name is being deleted".into(),
        },
    }
}

/// The Guardian as the pair's shard sees it: labelled for another shard is not labelled.
fn guardian_of(found: SlimPod, work: &Work) -> Option<GuardianView> {
    let (shard, mut view) = found.view().filter(|(_, view)| view.ticket == work.ticket)?;
    view.labels_intact &= shard == Some(work.shard);
    Some(view)
}

fn taken(kind: &str, key: &ObjectKey) -> Outcome {
    let message = format!("a {kind} named {key} exists and is not korder's: delete or rename it");
    Outcome::Refused {
        reason: reason::NAME_TAKEN,
        message: message.into(),
    }
}
