//! Every write of a Ticket, and what comes of it.
//!
//! A create that answered 409 or not at all is settled by a GET of the name, any other write by a GET of the
//! Ticket.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::{
    Writer,
    metadata::{delete_params, stays, undone},
    request::RequestError,
    template,
};
use crate::{
    api::{Order, Ticket, order::Resources},
    domain::{
        node::record::Node,
        order::spec::{self, Template},
        pair::{
            names::ticket_name,
            observed::{Revision, TicketView},
            op::{Expect, Observation, Outcome},
            reason,
        },
        values::{
            ids::{NodeUid, OrderUid, TicketKey, TicketUid},
            shard::ShardId,
        },
    },
    watch::{meta, ticket::SlimTicket},
};

pub(super) mod body;

impl Writer {
    pub(super) async fn create_ticket(
        &self,
        order: &spec::Order,
        node: &Node,
        sequence: i64,
        shard: ShardId,
    ) -> Outcome {
        let ticket = body::ticket(order, template(order), node, sequence, shard);
        let name = ticket_name(&order.key.name, &order.uid, &node.uid, sequence);
        let key = TicketKey::new(order.key.namespace.clone(), name);
        match self
            .ask(self.tickets(&key).create(&PostParams::default(), &ticket))
            .await
        {
            Ok(ticket) => landed(&ticket),
            Err(RequestError::AlreadyExists | RequestError::Unknown { .. }) => {
                self.settle_ticket(&key, &order.uid, &node.uid, sequence).await
            }
            Err(error) => error.outcome(reason::TICKET_REFUSED),
        }
    }

    /// Brings a Ticket in line with its Order's template; with what that `asks` for only if it is its turn.
    pub(super) async fn sync_ticket(
        &self,
        order: &spec::Order,
        ticket: &TicketView,
        asks: bool,
        shard: ShardId,
    ) -> Outcome {
        let (key, template) = (&ticket.key, template(order));
        let patch = match asks {
            false => body::align_patch(ticket, template, shard),
            true => match self.asked_now(ticket, template).await {
                Ok(present) => body::sync_patch(ticket, template, present.as_ref(), shard),
                Err(RequestError::NotFound) => {
                    return Outcome::Observed(Observation::TicketGone(key.clone()));
                }
                Err(error) => return error.outcome(reason::TICKET_REFUSED),
            },
        };
        let (params, merge) = (PatchParams::default(), Patch::Merge(&patch));
        match self
            .ask(self.tickets(key).patch(&key.name, &params, &merge))
            .await
        {
            Ok(patched) if !stays(&patch, &patched.metadata) => undone("Tickets"),
            sent => self.patched_ticket(key, sent).await,
        }
    }

    /// What the Ticket asks for now, if that may have to be taken back.
    async fn asked_now(
        &self,
        ticket: &TicketView,
        template: &Template,
    ) -> Result<Option<Resources>, RequestError> {
        if ticket.template_hash.as_ref() == template.hash.as_str() {
            return Ok(None);
        }
        let found = self.ask(self.tickets(&ticket.key).get(&ticket.key.name)).await?;
        Ok(found.spec.resources)
    }

    pub(super) async fn patch_ticket_status(&self, key: &TicketKey, patch: &Value) -> Outcome {
        let (params, merge) = (PatchParams::default(), Patch::Merge(patch));
        let tickets = self.tickets(key);
        let sent = self.ask(tickets.patch_status(&key.name, &params, &merge)).await;
        self.patched_ticket(key, sent).await
    }

    async fn patched_ticket(&self, key: &TicketKey, sent: Result<Ticket, RequestError>) -> Outcome {
        match sent {
            Ok(ticket) => landed(&ticket),
            Err(RequestError::NotFound | RequestError::Conflict | RequestError::Unknown { .. }) => {
                self.confirm_ticket(key).await
            }
            Err(error) => error.outcome(reason::TICKET_REFUSED),
        }
    }

    pub(super) async fn delete_ticket(
        &self,
        key: &TicketKey,
        uid: &TicketUid,
        revision: Revision,
    ) -> Outcome {
        let params = delete_params(uid.as_str(), Some(revision));
        match self.ask(self.tickets(key).delete(&key.name, &params)).await {
            Ok(_) => Outcome::Landed(Expect::TicketGone(uid.clone())),
            Err(RequestError::NotFound) => Outcome::Observed(Observation::TicketGone(key.clone())),
            Err(RequestError::Conflict | RequestError::Unknown { .. }) => self.confirm_ticket(key).await,
            Err(error) => error.outcome(reason::TICKET_REFUSED),
        }
    }

    /// Looks at the Ticket of this name.
    pub(super) async fn confirm_ticket(&self, key: &TicketKey) -> Outcome {
        let tickets: Api<SlimTicket> = self.api(key);
        match self.ask(tickets.get(&key.name)).await {
            Ok(found) => Outcome::Observed(match found.view(self.shards) {
                Some((_, view)) => Observation::Ticket(Box::new(view)),
                None => Observation::TicketGone(key.clone()),
            }),
            Err(RequestError::NotFound) => Outcome::Observed(Observation::TicketGone(key.clone())),
            Err(error) => error.outcome(reason::TICKET_REFUSED),
        }
    }

    /// What the Ticket of this name is to the pair.
    async fn settle_ticket(
        &self,
        key: &TicketKey,
        order: &OrderUid,
        node: &NodeUid,
        sequence: i64,
    ) -> Outcome {
        let tickets: Api<SlimTicket> = self.api(key);
        let found = match self.ask(tickets.get(&key.name)).await {
            Ok(found) => found,
            Err(error) => return error.outcome(reason::TICKET_REFUSED),
        };
        let (uid, owner) = (
            found.uid().unwrap_or_default(),
            meta::controller(&found.metadata, "Order").cloned(),
        );
        let revision = Revision::parse(found.resource_version().as_deref());
        let ours =
            |view: &TicketView| view.order == *order && view.node == *node && view.sequence == sequence;
        match found.view(self.shards) {
            Some((_, view)) if ours(&view) => seen(view),
            _ => {
                let owner = owner.as_ref().map(|owner| (&*owner.name, &*owner.uid));
                self.settle_other::<Ticket, Order>(key, &uid, revision, owner)
                    .await
            }
        }
    }

    fn tickets(&self, key: &TicketKey) -> Api<Ticket> {
        self.api(key)
    }
}

fn seen(view: TicketView) -> Outcome {
    if view.deleting {
        return Outcome::Retry {
            message: "the Ticket of this name is being deleted".into(),
        };
    }
    Outcome::Observed(Observation::Ticket(Box::new(view)))
}

fn landed(ticket: &Ticket) -> Outcome {
    let revision = Revision::parse(ticket.metadata.resource_version.as_deref());
    Outcome::Landed(Expect::Ticket(ticket.uid().unwrap_or_default().into(), revision))
}
