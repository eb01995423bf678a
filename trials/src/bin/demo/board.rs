//! What there is, counted change by change: nodes by state and shard, Tickets by phase and Order, writes by
//! time. Fed by the API server itself, so it shows what is stored, not what korder believes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use korder::domain::values::{ids::NodeUid, shard::ShardCount};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use testbed::{
    eligibility::ready,
    object::{items, text, uid},
    sim::{
        api::{Change, ChangeKind},
        cluster::Cluster,
    },
};
use trials::{oracle::owner, run::KORDER};

use crate::fleet::ORDERS;

/// Writes and queue are counted in spans of this.
pub(crate) const BUCKET: Duration = Duration::from_millis(250);
/// The taint of nodes under maintenance.
pub(crate) const MAINTENANCE: &str = "maintenance";

/// Counts what there is; clones share it.
#[derive(Clone)]
pub(crate) struct Board {
    counts: Arc<Mutex<Counts>>,
}

/// How a node is; the first that holds, from the last to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing is wrong with it.
    Ready,
    /// It has the taint [`MAINTENANCE`].
    Tainted,
    /// It is unschedulable.
    Cordoned,
    /// Its condition Ready is not True.
    NotReady,
}

/// The nodes and Tickets of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardCounts {
    /// By [`Condition`].
    pub(crate) nodes: [u32; 4],
    pub(crate) tickets: u32,
    pub(crate) reserved: u32,
}

/// The Tickets of one Order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OrderCounts {
    /// Eligible nodes, by the Order's status.
    pub(crate) desired: u64,
    pub(crate) pending: u64,
    pub(crate) reserved: u64,
}

/// Everything that is counted.
pub(crate) struct Counts {
    shard_count: ShardCount,
    begin: Timestamp,
    pub(crate) shards: Vec<ShardCounts>,
    /// As in [`ORDERS`].
    pub(crate) orders: [OrderCounts; ORDERS.len()],
    /// Changes by korder, per [`BUCKET`].
    pub(crate) writes: Vec<u32>,
    /// Tickets made and removed so far.
    pub(crate) made: u64,
    pub(crate) removed: u64,
    pub(crate) reports: u64,
    pub(crate) last_write: Timestamp,
    nodes: HashMap<String, (usize, Condition)>,
    tickets: HashMap<String, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    order: usize,
    shard: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pending,
    Reserved,
    Other,
}

impl Board {
    /// Counts all that happens in `cluster` from now on.
    pub(crate) fn watch(cluster: &Cluster, shard_count: ShardCount) -> Self {
        let begin = cluster.now();
        let counts = Counts {
            shard_count,
            begin,
            shards: vec![ShardCounts::default(); usize::from(shard_count.get())],
            orders: Default::default(),
            writes: Vec::new(),
            made: 0,
            removed: 0,
            reports: 0,
            last_write: begin,
            nodes: HashMap::new(),
            tickets: HashMap::new(),
        };
        let board = Self {
            counts: Arc::new(Mutex::new(counts)),
        };
        let shared = board.counts.clone();
        cluster.observe(Box::new(move |change| shared.lock().see(change)));
        board
    }

    /// The counts at present; nothing is counted while they are held.
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }
}

impl Counts {
    /// How many nodes are in this condition.
    pub(crate) fn nodes(&self, condition: Condition) -> u32 {
        self.shards
            .iter()
            .map(|shard| shard.nodes[condition as usize])
            .sum()
    }

    /// How many Tickets are Reserved.
    pub(crate) fn reserved(&self) -> u64 {
        self.orders.iter().map(|order| order.reserved).sum()
    }

    fn see(&mut self, change: &Change) {
        let gone = change.kind == ChangeKind::Deleted;
        if &*change.by == KORDER && &*change.resource != "leases" {
            self.last_write = change.at;
            let span = change.at.duration_since(self.begin).as_millis();
            let bucket = usize::try_from(span).unwrap_or(0) / BUCKET.as_millis() as usize;
            let length = self.writes.len().max(bucket + 1);
            self.writes.resize(length, 0);
            self.writes[bucket] += 1;
        }
        match &*change.resource {
            "nodes" => self.see_node(change, gone),
            "tickets" => self.see_ticket(change, gone),
            "orders" => self.see_order(&change.after),
            _ => {}
        }
    }

    fn see_node(&mut self, change: &Change, gone: bool) {
        let id = uid(&change.after);
        self.reports += u64::from(change.kind == ChangeKind::Modified);
        if let Some((shard, before)) = self.nodes.remove(id) {
            self.shards[shard].nodes[before as usize] -= 1;
        }
        if !gone {
            let shard = usize::from(self.shard_count.of_node(&NodeUid::from(id)).0);
            let condition = condition(&change.after);
            self.shards[shard].nodes[condition as usize] += 1;
            self.nodes.insert(id.to_owned(), (shard, condition));
        }
    }

    fn see_ticket(&mut self, change: &Change, gone: bool) {
        let ticket = &change.after;
        if let Some(before) = self.tickets.remove(uid(ticket)) {
            self.count(before, |count| *count -= 1, |count| *count -= 1);
        }
        self.made += u64::from(change.kind == ChangeKind::Added);
        self.removed += u64::from(gone);
        if gone || owner(ticket, "Order").is_none() {
            return;
        }
        let name = text(ticket, "/metadata/labels/korder.dev~1order");
        let shard = text(ticket, "/metadata/labels/korder.dev~1shard").parse().ok();
        let shard = shard.filter(|shard| *shard < self.shards.len());
        let order = ORDERS.iter().position(|order| *order == name);
        let (Some(order), Some(shard)) = (order, shard) else {
            return;
        };
        let phase = match text(ticket, "/status/phase") {
            "Pending" => Phase::Pending,
            "Reserved" => Phase::Reserved,
            _ => Phase::Other,
        };
        let seen = Seen { order, shard, phase };
        self.count(seen, |count| *count += 1, |count| *count += 1);
        self.tickets.insert(uid(ticket).to_owned(), seen);
    }

    fn count(&mut self, seen: Seen, of_order: impl FnOnce(&mut u64), of_shard: impl Fn(&mut u32)) {
        let (order, shard) = (&mut self.orders[seen.order], &mut self.shards[seen.shard]);
        of_shard(&mut shard.tickets);
        match seen.phase {
            Phase::Pending => of_order(&mut order.pending),
            Phase::Reserved => {
                of_order(&mut order.reserved);
                of_shard(&mut shard.reserved);
            }
            Phase::Other => {}
        }
    }

    fn see_order(&mut self, order: &Value) {
        let name = text(order, "/metadata/name");
        if let Some(index) = ORDERS.iter().position(|order| *order == name) {
            let desired = order.pointer("/status/replicas").and_then(Value::as_u64);
            self.orders[index].desired = desired.unwrap_or_default();
        }
    }
}

fn condition(node: &Value) -> Condition {
    if !ready(node) {
        return Condition::NotReady;
    }
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        return Condition::Cordoned;
    }
    let maintained = |taint: &Value| text(taint, "/key") == MAINTENANCE;
    match items(node, "/spec/taints").iter().any(maintained) {
        true => Condition::Tainted,
        false => Condition::Ready,
    }
}
