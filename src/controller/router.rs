//! The router: every watch event goes to the shard it belongs to, or stops here.
//!
//! Keeps the slim record of all Nodes, and Tickets without labels, also of shards that another replica owns: both
//! are watched once, whatever the shards are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::{
    mailbox::{GuardianNews, Inbox, NodeNews, TicketNews},
    slots::Slots,
};
use crate::{
    domain::{
        ids::{NodeUid, PodKey, PodUid, TicketKey, TicketUid},
        node::Node,
        observed::{GuardianView, TicketView},
        outage::Outage,
    },
    runtime::{clock::Clock, metrics},
    shard::{ShardCount, ShardId, state::Fleet},
    watch::{node::SlimNode, relist::Change},
};

/// Where the end of a Ticket is to be told.
pub type TicketRoute = (ShardId, TicketKey, TicketUid);
/// Where the end of a Guardian is to be told.
pub type GuardianRoute = (ShardId, TicketKey, PodKey, PodUid);

/// Hands events to shards.
pub struct Router {
    shards: ShardCount,
    nodes: DashMap<NodeUid, Arc<Node>, ahash::RandomState>,
    unlabelled: Mutex<BTreeMap<TicketUid, (ShardId, TicketView)>>,
    outage: Mutex<Outage>,
    slots: Arc<Slots>,
    clock: Clock,
}

impl Router {
    /// A router to these shards.
    pub fn new(shards: ShardCount, slots: Arc<Slots>, clock: Clock) -> Self {
        Self {
            shards,
            nodes: DashMap::default(),
            unlabelled: Mutex::default(),
            outage: Mutex::default(),
            slots,
            clock,
        }
    }

    /// Nodes known.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A Node changed or is gone. What is as it was, such as after a heartbeat, stops here.
    pub fn node(&self, change: Change<SlimNode, NodeUid>) {
        match change {
            Change::Apply(node) => self.apply_node(node),
            Change::Delete(uid) => {
                if let Some((_, node)) = self.nodes.remove(&uid) {
                    self.outage.lock().see(Some(&node), None);
                }
                self.put(self.shards.of_node(&uid), |inbox| {
                    inbox.nodes.insert(uid, NodeNews::Delete);
                });
            }
            Change::Synced => {}
        }
        metrics::nodes(self.nodes.len());
    }

    fn apply_node(&self, node: SlimNode) {
        let now = self.clock.now();
        let uid = NodeUid::from(node.metadata.uid.as_deref().unwrap_or_default());
        let before = self.nodes.get(&uid).map(|before| before.clone());
        let Some(node) = node.record(before.as_deref(), now.server) else {
            return;
        };
        if before.as_deref() == Some(&node) {
            metrics::node_events_stopped("record", 1);
            return;
        }
        self.outage.lock().see(before.as_deref(), Some(&node));
        let node = Arc::new(node);
        self.nodes.insert(uid.clone(), node.clone());
        self.put(self.shards.of_node(&uid), |inbox| {
            inbox.nodes.insert(uid, NodeNews::Apply(node, now.mono));
        });
    }

    /// Tells shards that were just taken of their nodes, and of their Tickets without labels. News that came since
    /// they were taken is newer.
    pub fn fill(&self, shards: &[ShardId]) {
        let now = self.clock.mono();
        let wanted: BTreeSet<ShardId> = shards.iter().copied().collect();
        let mut nodes: Vec<Arc<Node>> = self
            .nodes
            .iter()
            .filter(|node| wanted.contains(&self.shards.of_node(&node.uid)))
            .map(|node| node.clone())
            .collect();
        nodes.sort_by(|one, other| one.uid.cmp(&other.uid));
        for node in nodes {
            self.put(self.shards.of_node(&node.uid), |inbox| {
                inbox
                    .nodes
                    .entry(node.uid.clone())
                    .or_insert(NodeNews::Apply(node, now));
            });
        }
        for (uid, (shard, view)) in &*self.unlabelled.lock() {
            if wanted.contains(shard) {
                self.put(*shard, |inbox| {
                    let news = TicketNews::Apply(Box::new(view.clone()));
                    inbox.tickets.entry((uid.clone(), true)).or_insert(news);
                });
            }
        }
    }

    /// A Ticket changed or is gone.
    pub fn ticket(&self, change: Change<(ShardId, TicketView), TicketRoute>) {
        self.put_ticket(change, false);
    }

    /// A Ticket without the label of a shard changed, or is gone or labelled again.
    pub fn unlabelled(&self, change: Change<(ShardId, TicketView), TicketRoute>) {
        match &change {
            Change::Apply((shard, view)) => {
                let ticket = (*shard, view.clone());
                self.unlabelled.lock().insert(view.uid.clone(), ticket);
            }
            Change::Delete((_, _, uid)) => {
                self.unlabelled.lock().remove(uid);
            }
            Change::Synced => {}
        }
        self.put_ticket(change, true);
    }

    fn put_ticket(&self, change: Change<(ShardId, TicketView), TicketRoute>, unlabelled: bool) {
        match change {
            Change::Apply((shard, view)) => self.put(shard, |inbox| {
                let key = (view.uid.clone(), unlabelled);
                inbox.tickets.insert(key, TicketNews::Apply(Box::new(view)));
            }),
            Change::Delete((shard, key, uid)) => self.put(shard, |inbox| {
                inbox.tickets.insert((uid, unlabelled), TicketNews::Delete(key));
            }),
            Change::Synced => {}
        }
    }

    /// A Guardian changed or is gone.
    pub fn guardian(&self, change: Change<(ShardId, GuardianView), GuardianRoute>) {
        match change {
            Change::Apply((shard, view)) => self.put(shard, |inbox| {
                inbox
                    .guardians
                    .insert(view.uid.clone(), GuardianNews::Apply(Box::new(view)));
            }),
            Change::Delete((shard, ticket, pod, uid)) => self.put(shard, |inbox| {
                inbox.guardians.insert(uid, GuardianNews::Delete(ticket, pod));
            }),
            Change::Synced => {}
        }
    }

    fn put(&self, shard: ShardId, put: impl FnOnce(&mut Inbox)) {
        self.slots.put(shard, put);
    }
}

impl Fleet for Router {
    fn spared(&self, node: &NodeUid) -> Duration {
        self.outage.lock().spared(node)
    }
}
