//! What a shard has yet to look at: the latest state per object, so bounded by objects.
//!
//! Senders never wait; a newer state takes the place of the one that was not looked at.

use std::{collections::BTreeSet, sync::Arc};

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    api::order::Rollout,
    domain::{
        node::record::Node,
        pair::{
            observed::{GuardianView, TicketView},
            op::Outcome,
        },
        values::{
            ids::{NodeUid, OrderUid, PodKey, PodUid, TicketKey, TicketUid},
            time::Mono,
        },
    },
    shard::state::Work,
};

type Latest<K, V> = IndexMap<K, V, ahash::RandomState>;

/// The latest of a Node.
#[derive(Clone, Debug)]
pub(crate) enum NodeUpdate {
    /// It is there, and changed when the replica's clock showed this.
    Apply(Arc<Node>, Mono),
    /// It is gone.
    Delete,
}

/// The latest of a Ticket.
#[derive(Clone, Debug)]
pub(crate) enum TicketUpdate {
    /// It is there.
    Apply(Box<TicketView>),
    /// It was there when somebody looked; a watch may have more to say.
    Told(Box<TicketView>),
    /// It is gone.
    Delete(TicketKey),
}

/// The latest of a Guardian.
#[derive(Clone, Debug)]
pub(crate) enum GuardianUpdate {
    /// It is there.
    Apply(Box<GuardianView>),
    /// It is gone.
    Delete(TicketKey, PodKey),
}

/// All that a shard has yet to look at.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Orders whose Tickets are being removed at once (true), or have been (false).
    pub(crate) purges: Latest<OrderUid, bool>,
    /// Orders that changed.
    pub(crate) orders: BTreeSet<OrderUid>,
    /// Nodes that changed.
    pub(crate) nodes: Latest<NodeUid, NodeUpdate>,
    /// Tickets that changed, as the watch of those without labels shows it, or the other.
    pub(crate) tickets: Latest<(TicketUid, bool), TicketUpdate>,
    /// Guardians that changed.
    pub(crate) guardians: Latest<PodUid, GuardianUpdate>,
    /// Operations that ended: at most as many as are in flight.
    pub(crate) outcomes: Vec<(Work, Outcome)>,
    /// Roll-outs that changed, each with the number below which grants were another process's.
    pub(crate) rollouts: Latest<OrderUid, (Arc<Rollout>, i64)>,
}

impl Inbox {
    /// Puts a roll-out in the place of the one that was not looked at.
    pub(crate) fn rollout(&mut self, order: OrderUid, rollout: Arc<Rollout>, floor: i64) {
        let before = self.rollouts.get(&order).map_or(0, |(_, floor)| *floor);
        self.rollouts.insert(order, (rollout, floor.max(before)));
    }
}

/// A shard's [`Inbox`] and the bell that rings when something is put in.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    bell: Notify,
}

impl Mailbox {
    /// Puts something in.
    pub(crate) fn put(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.inbox.lock());
        self.bell.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock())
    }

    /// Waits until something is put in; at once if that has happened since the last wait.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }
}
