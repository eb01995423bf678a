//! The router: every watch event goes to the shard it belongs to, or stops here.
//!
//! Keeps the slim record of all Nodes, and Tickets without labels, also of shards that another replica owns: both
//! are watched once, whatever the shards are. Where the API server sends Nodes by ranges, those of own shards are
//! all there is, and the owners of the others say how many they have and how many are NotReady.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::controller::owned::{
    mailbox::{GuardianUpdate, Inbox, NodeUpdate, TicketUpdate},
    shard::OwnedShards,
};
use crate::{
    api::ShardStatus,
    domain::{
        node::{outage::Outage, record::Node},
        pair::observed::{GuardianView, TicketView},
        values::{
            ids::{NodeUid, PodKey, PodUid, TicketKey, TicketUid},
            shard::{ShardCount, ShardId},
        },
    },
    env::{clock::Clock, metrics},
    shard::state::Fleet,
    watch::{guardian::SlimPod, node::SlimNode, relist::Change, ticket::SlimTicket},
};

/// Where the end of a Ticket is to be told.
pub(crate) type TicketRoute = (ShardId, TicketKey, TicketUid);
/// Where the end of a Guardian is to be told.
pub(crate) type GuardianRoute = (ShardId, TicketKey, PodKey, PodUid);

/// Where the end of each Ticket is to be told, and its view with its shard.
pub(crate) fn route_ticket(
    shards: ShardCount,
) -> impl Fn(SlimTicket) -> Option<(TicketRoute, (ShardId, TicketView))> + Copy {
    move |ticket| {
        let (shard, view) = ticket.view(shards)?;
        Some(((shard, view.key.clone(), view.uid.clone()), (shard, view)))
    }
}

/// Where the end of a Guardian is to be told, and its view with its shard; none if it is labelled for no shard.
pub(crate) fn route_guardian(pod: SlimPod) -> Option<(GuardianRoute, (ShardId, GuardianView))> {
    let (shard, view) = pod.view()?;
    let shard = shard?;
    let route = (shard, view.ticket.clone(), view.key.clone(), view.uid.clone());
    Some((route, (shard, view)))
}

/// Hands events to shards.
pub(crate) struct Router {
    shards: ShardCount,
    nodes: DashMap<NodeUid, Arc<Node>, ahash::RandomState>,
    unlabelled: Mutex<BTreeMap<TicketUid, (ShardId, TicketView)>>,
    outage: Mutex<Outage>,
    owned_shards: Arc<OwnedShards>,
    clock: Clock,
    /// Only Nodes of own shards are seen.
    by_ranges: AtomicBool,
}

impl Router {
    /// A router to these shards.
    pub(crate) fn new(shards: ShardCount, owned_shards: Arc<OwnedShards>, clock: Clock) -> Self {
        Self {
            shards,
            nodes: DashMap::default(),
            unlabelled: Mutex::default(),
            outage: Mutex::default(),
            owned_shards,
            clock,
            by_ranges: AtomicBool::new(false),
        }
    }

    /// Nodes come by ranges: from now on only those of own shards are kept, as the watches will say nothing of the
    /// others.
    pub(crate) fn use_ranges(&self) {
        self.by_ranges.store(true, Ordering::Release);
        self.outage.lock().use_ranges();
    }

    fn by_ranges(&self) -> bool {
        self.by_ranges.load(Ordering::Acquire)
    }

    /// Whether this replica has the shard.
    pub(crate) fn has(&self, shard: ShardId) -> bool {
        self.owned_shards.get(shard).is_some()
    }

    /// Nodes known.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A Node changed or is gone. What is as it was, such as after a heartbeat, stops here.
    pub(crate) fn node(&self, change: Change<SlimNode, NodeUid>) {
        match change {
            Change::Apply(node) => self.apply_node(node),
            Change::Delete(uid) => {
                self.forget(&uid);
                self.put(self.shards.of_node(&uid), |inbox| {
                    inbox.nodes.insert(uid, NodeUpdate::Delete);
                });
            }
            Change::Listed => {}
        }
        metrics::nodes(self.nodes.len());
    }

    fn apply_node(&self, node: SlimNode) {
        let now = self.clock.now();
        let uid = NodeUid::from(node.metadata.uid.as_deref().unwrap_or_default());
        let shard = self.shards.of_node(&uid);
        if self.by_ranges() && !self.has(shard) {
            return;
        }
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
        if self.by_ranges() && !self.has(shard) {
            // It was given up meanwhile, perhaps before this was kept.
            return self.forget(&uid);
        }
        self.put(shard, |inbox| {
            inbox.nodes.insert(uid, NodeUpdate::Apply(node, now.mono));
        });
    }

    fn forget(&self, uid: &NodeUid) {
        if let Some((_, node)) = self.nodes.remove(uid) {
            self.outage.lock().see(Some(&node), None);
        }
    }

    /// A shard was given up: where Nodes come by ranges, the watches say nothing more of these.
    pub(crate) fn leave(&self, shard: ShardId) {
        self.outage.lock().own(self.shards.range(shard).0, false);
        if !self.by_ranges() {
            return;
        }
        let of_shard = |uid: &NodeUid| self.shards.of_node(uid) == shard;
        let uids: Vec<NodeUid> = self
            .nodes
            .iter()
            .map(|node| node.uid.clone())
            .filter(of_shard)
            .collect();
        uids.iter().for_each(|uid| self.forget(uid));
        metrics::nodes(self.nodes.len());
    }

    /// What the owner of a shard says of its nodes.
    pub(crate) fn told(&self, shard: ShardId, totals: &ShardStatus) {
        let not_ready = totals.not_ready.iter().map(|group| (group.since.0, group.count));
        let mut outage = self.outage.lock();
        outage.told(self.shards.range(shard).0, totals.nodes, not_ready.collect());
    }

    /// Tells shards that were just taken of their nodes, and of their Tickets without labels. What came since
    /// they were taken is newer.
    pub(crate) fn fill(&self, shards: &[ShardId]) {
        let mut outage = self.outage.lock();
        shards
            .iter()
            .for_each(|shard| outage.own(self.shards.range(*shard).0, true));
        drop(outage);
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
                    .or_insert(NodeUpdate::Apply(node, now));
            });
        }
        for (uid, (shard, view)) in &*self.unlabelled.lock() {
            if wanted.contains(shard) {
                self.put(*shard, |inbox| {
                    let update = TicketUpdate::Apply(Box::new(view.clone()));
                    inbox.tickets.entry((uid.clone(), true)).or_insert(update);
                });
            }
        }
    }

    /// A Ticket changed or is gone.
    pub(crate) fn ticket(&self, change: Change<(ShardId, TicketView), TicketRoute>) {
        self.put_ticket(change, false);
    }

    /// A Ticket without the label of a shard changed, or is gone or labelled again.
    pub(crate) fn unlabelled(&self, change: Change<(ShardId, TicketView), TicketRoute>) {
        match &change {
            Change::Apply((shard, view)) => {
                let ticket = (*shard, view.clone());
                self.unlabelled.lock().insert(view.uid.clone(), ticket);
            }
            Change::Delete((_, _, uid)) => {
                self.unlabelled.lock().remove(uid);
            }
            Change::Listed => {}
        }
        self.put_ticket(change, true);
    }

    /// A list shows a Ticket without the label of a shard. What a watch has shown is newer, or will be.
    pub(crate) fn found(&self, shard: ShardId, view: TicketView) {
        self.put(shard, |inbox| {
            let update = || TicketUpdate::Told(Box::new(view.clone()));
            inbox
                .tickets
                .entry((view.uid.clone(), true))
                .or_insert_with(update);
        });
    }

    fn put_ticket(&self, change: Change<(ShardId, TicketView), TicketRoute>, unlabelled: bool) {
        match change {
            Change::Apply((shard, view)) => self.put(shard, |inbox| {
                let key = (view.uid.clone(), unlabelled);
                inbox.tickets.insert(key, TicketUpdate::Apply(Box::new(view)));
            }),
            Change::Delete((shard, key, uid)) => self.put(shard, |inbox| {
                inbox.tickets.insert((uid, unlabelled), TicketUpdate::Delete(key));
            }),
            Change::Listed => {}
        }
    }

    /// A Guardian changed or is gone.
    pub(crate) fn guardian(&self, change: Change<(ShardId, GuardianView), GuardianRoute>) {
        match change {
            Change::Apply((shard, view)) => self.put(shard, |inbox| {
                inbox
                    .guardians
                    .insert(view.uid.clone(), GuardianUpdate::Apply(Box::new(view)));
            }),
            Change::Delete((shard, ticket, pod, uid)) => self.put(shard, |inbox| {
                inbox.guardians.insert(uid, GuardianUpdate::Delete(ticket, pod));
            }),
            Change::Listed => {}
        }
    }

    fn put(&self, shard: ShardId, put: impl FnOnce(&mut Inbox)) {
        self.owned_shards.put(shard, put);
    }
}

impl Fleet for Router {
    fn spared(&self, node: &NodeUid) -> Duration {
        self.outage.lock().spared(node)
    }
}
