//! The state of one shard, and the loop from events to operations.
//!
//! `apply_*` take what was seen and mark pairs; `decide` plans every marked pair and offers its
//! operations to a [`Sink`]. Nothing here waits, and nothing reads a clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use indexmap::{IndexMap, IndexSet};

use super::{
    ShardId,
    pair::{Pair, Settled},
    report::{Counts, Notice, NoticeKind, Report},
};
use crate::{
    api::{shard::OrderCounts, ticket::Phase},
    domain::{
        eligibility::{Verdict, evaluate},
        ids::{Namespace, NodeUid, OrderUid, PairKey, PodKey, PodUid, TicketKey, TicketUid},
        node::Node,
        observed::{GuardianState, GuardianView, TicketView},
        op::{Expect, Observation, Op, Outcome},
        order::Order,
        plan::{DELETED, Fate, View, plan},
        reason,
        time::{Mono, Now},
    },
    index::{Fingerprint, Snapshot, eligible},
};

type Map<K, V> = IndexMap<K, V, ahash::RandomState>;
type Set<K> = IndexSet<K, ahash::RandomState>;

/// How long nothing is made in a namespace after the API server said that it is being deleted.
const BARRED_FOR: Duration = Duration::from_secs(10);
/// How long a Guardian may be without its Ticket before a GET asks for it.
const ORPHANED_AFTER: Duration = Duration::from_secs(5);

/// Where a shard's operations go: one pending operation per Ticket.
pub trait Sink {
    /// Puts `work` in the place of what was pending for its Ticket.
    fn offer(&mut self, work: Work);
    /// Takes back what is pending for a Ticket; false if it has started.
    fn cancel(&mut self, ticket: &TicketKey) -> bool;
    /// Whether an operation for this Ticket has started.
    fn in_flight(&self, ticket: &TicketKey) -> bool;
}

/// An operation on its way to the API server.
#[derive(Clone, Debug)]
pub struct Work {
    /// The shard that decided it.
    pub shard: ShardId,
    /// The pair it was decided for; none for a Guardian whose Ticket is gone.
    pub pair: Option<PairKey>,
    /// The Ticket.
    pub ticket: TicketKey,
    /// What to do.
    pub op: Op,
    /// When the change of the Node was seen that led to it.
    pub changed: Option<Mono>,
}

/// What the shard has counted since it was last asked.
#[derive(Debug, Default)]
pub struct Stats {
    /// Node events that changed nothing any Order can see.
    pub stopped: u64,
    /// Pairs planned.
    pub decisions: u64,
    /// Time from a change of a Node to Reserved.
    pub reserved_after: Vec<Duration>,
}

#[derive(Debug)]
struct NodeEntry {
    node: Arc<Node>,
    fingerprint: Fingerprint,
    /// Orders the node is eligible for, sorted.
    matches: Vec<OrderUid>,
}

#[derive(Debug, Default)]
struct OrderEntry {
    pairs: Set<NodeUid>,
    counts: Counts,
    reported: Option<OrderCounts>,
    /// Its Tickets are being removed as a whole.
    purging: bool,
    /// It is gone, or its Tickets have been removed as a whole.
    gone: bool,
    /// This shard may replace Tickets of another template, one at a time.
    granted: bool,
    replacing: Option<NodeUid>,
    stale: BTreeSet<NodeUid>,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    grace: Duration,
    snapshot: Arc<Snapshot>,
    nodes: Map<NodeUid, NodeEntry>,
    orders: Map<OrderUid, OrderEntry>,
    pairs: Map<PairKey, Pair>,
    on_node: Map<NodeUid, Vec<OrderUid>>,
    by_ticket: Map<TicketKey, PairKey>,
    guardians: BTreeMap<TicketKey, Vec<GuardianView>>,
    orphans: BTreeMap<TicketKey, Mono>,
    barred: BTreeMap<Namespace, Mono>,
    marked: Set<PairKey>,
    timers: BTreeSet<(Mono, PairKey)>,
    touched: BTreeSet<OrderUid>,
    notices: Vec<Notice>,
    stats: Stats,
}

impl Shard {
    /// An empty shard. `grace` is how long a NotReady node keeps its Tickets.
    pub fn new(id: ShardId, grace: Duration) -> Self {
        Self {
            id,
            grace,
            snapshot: Arc::default(),
            nodes: Map::default(),
            orders: Map::default(),
            pairs: Map::default(),
            on_node: Map::default(),
            by_ticket: Map::default(),
            guardians: BTreeMap::new(),
            orphans: BTreeMap::new(),
            barred: BTreeMap::new(),
            marked: Set::default(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            notices: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// A Node was added or changed. A heartbeat stops here.
    pub fn apply_node(&mut self, node: Arc<Node>, seen: Mono) {
        let fingerprint = self.snapshot.fingerprint(&node);
        let uid = node.uid.clone();
        match self.nodes.get_mut(&uid) {
            Some(entry) if entry.fingerprint == fingerprint => {
                entry.node = node;
                self.stats.stopped += 1;
                return;
            }
            Some(entry) => (entry.node, entry.fingerprint) = (node, fingerprint),
            None => {
                self.nodes.insert(
                    uid.clone(),
                    NodeEntry {
                        node,
                        fingerprint,
                        matches: Vec::new(),
                    },
                );
            }
        }
        self.rematch(&uid, seen);
    }

    /// A Node is gone.
    pub fn delete_node(&mut self, uid: &NodeUid) {
        let Some(entry) = self.nodes.swap_remove(uid) else {
            return;
        };
        for order in self.on_node.get(uid).cloned().unwrap_or_default() {
            self.mark(
                PairKey {
                    order,
                    node: uid.clone(),
                },
                |pair| {
                    pair.node_gone = true;
                    pair.node_name = entry.node.name.clone();
                },
            );
        }
    }

    /// Orders were added, changed or deleted; `snapshot` is what holds from now on.
    pub fn apply_orders(&mut self, snapshot: Arc<Snapshot>, changed: &[OrderUid], now: Mono) {
        self.snapshot = snapshot;
        for uid in changed {
            let order = self.snapshot.order(uid).cloned();
            match &order {
                None => {
                    if let Some(entry) = self.orders.get_mut(uid) {
                        entry.gone = true;
                    }
                }
                Some(_) => {
                    self.orders.entry(uid.clone()).or_default();
                }
            }
            self.rematch_order(uid, order.as_deref(), now);
            self.touched.insert(uid.clone());
        }
        for entry in self.nodes.values_mut() {
            entry.fingerprint = self.snapshot.fingerprint(&entry.node);
        }
    }

    /// All Tickets of an Order are being removed at once (true), or have been (false).
    pub fn purge(&mut self, uid: &OrderUid, running: bool) {
        let Some(entry) = self.orders.get_mut(uid) else {
            return;
        };
        entry.purging = running;
        entry.gone |= !running;
        self.mark_order(uid);
    }

    /// Whether this shard may replace Tickets of this Order that have another template.
    pub fn grant(&mut self, uid: &OrderUid, granted: bool) {
        if let Some(entry) = self.orders.get_mut(uid) {
            entry.granted = granted;
            self.mark_next_stale(uid);
        }
    }

    /// A Ticket was added or changed.
    pub fn apply_ticket(&mut self, view: TicketView) {
        let key = PairKey {
            order: view.order.clone(),
            node: view.node.clone(),
        };
        self.by_ticket.insert(view.key.clone(), key.clone());
        self.orphans.remove(&view.key);
        self.mark(key, |pair| pair.see_ticket(view));
    }

    /// A Ticket is gone.
    pub fn delete_ticket(&mut self, ticket: &TicketKey, uid: Option<&TicketUid>, now: Mono) {
        let Some(key) = self.by_ticket.get(ticket).cloned() else {
            return;
        };
        let gone = self
            .pairs
            .get_mut(&key)
            .is_some_and(|pair| pair.lose_ticket(ticket, uid));
        if gone {
            self.by_ticket.swap_remove(ticket);
            if self.guardians.contains_key(ticket) {
                self.orphans.insert(ticket.clone(), now);
            }
            self.mark(key, |_| ());
        }
    }

    /// A Guardian was added or changed.
    pub fn apply_guardian(&mut self, view: GuardianView, now: Mono) {
        let siblings = self.guardians.entry(view.ticket.clone()).or_default();
        let before = siblings.iter().position(|known| known.key == view.key);
        let ended_before = match before {
            Some(index) if siblings[index].uid == view.uid && siblings[index].revision > view.revision => {
                return;
            }
            Some(index) => {
                let known = std::mem::replace(&mut siblings[index], view.clone());
                known.uid == view.uid && matches!(known.state, GuardianState::Ended { .. })
            }
            None => {
                siblings.push(view.clone());
                false
            }
        };
        let Some(key) = self.by_ticket.get(&view.ticket).cloned() else {
            self.orphans.entry(view.ticket).or_insert(now);
            return;
        };
        let mut failed = None;
        self.mark(key.clone(), |pair| {
            pair.settle(&Settled::Guardian(&view));
            pair.memory.lost_guardian.take_if(|lost| *lost == view.key);
            match &view.state {
                GuardianState::Bound(_) => {
                    pair.memory.backoff.bound(now);
                    pair.memory.trouble = None;
                }
                GuardianState::Ended { message } if !ended_before && !pair.doomed(&view.uid) => {
                    failed = Some(message.clone());
                }
                _ => {}
            }
        });
        if let Some(message) = failed {
            self.fail(&key, reason::GUARDIAN_ENDED, message, now);
        }
    }

    /// The watch says that a Guardian is gone.
    pub fn delete_guardian(&mut self, ticket: &TicketKey, pod: &PodKey, uid: &PodUid) {
        let Some(siblings) = self.guardians.get_mut(ticket) else {
            return;
        };
        siblings.retain(|known| known.uid != *uid);
        if siblings.is_empty() {
            self.guardians.remove(ticket);
            self.orphans.remove(ticket);
        }
        if let Some(key) = self.by_ticket.get(ticket).cloned() {
            self.mark(key, |pair| {
                if !pair.doomed(uid) {
                    pair.memory.lost_guardian = Some(pod.clone());
                }
                pair.settle(&Settled::GuardianGone(uid));
            });
        }
    }

    /// An operation ended.
    pub fn apply_outcome(&mut self, work: &Work, outcome: Outcome, now: Mono) {
        let Some(key) = &work.pair else {
            return self.orphan_outcome(&work.ticket, now);
        };
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        pair.busy.retain(|(ticket, _)| *ticket != work.ticket);
        if pair.memory.overdue.is_some() && matches!(work.op, Op::ConfirmTicket | Op::ConfirmGuardian(_)) {
            pair.memory.overdue = None;
            pair.expects.clear();
        }
        match outcome {
            Outcome::Landed(expect) => self.landed(key, work, expect, now),
            Outcome::Observed(observation) => self.observe(key, work, observation, now),
            Outcome::Refused { reason, message } => self.fail(key, reason, message, now),
            Outcome::NamespaceTerminating => {
                self.barred
                    .insert(work.ticket.namespace.clone(), now.after(BARRED_FOR));
            }
            Outcome::Retry { after, .. } => pair.hold_off(key, after, now),
        }
        self.mark(key.clone(), |_| ());
    }

    /// Plans every marked pair, and those whose time has come.
    pub fn decide(&mut self, now: Now, sink: &mut impl Sink) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
        {
            let (_, key) = self.timers.pop_first().expect("just seen");
            if let Some(pair) = self.pairs.get_mut(&key) {
                pair.wake = None;
                self.marked.insert(key);
            }
        }
        while let Some(key) = self.marked.pop() {
            self.decide_pair(key, now, sink);
        }
        self.seek_orphans(now.mono, sink);
    }

    /// When to decide again even if nothing is seen.
    pub fn next_wake(&self) -> Option<Mono> {
        let orphan = self
            .orphans
            .values()
            .min()
            .map(|since| since.after(ORPHANED_AFTER));
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(orphan).min()
    }

    /// Counts of Orders that have changed since they were last taken.
    pub fn take_reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        for uid in std::mem::take(&mut self.touched) {
            let live = self.snapshot.order(&uid).map(|order| order.generation);
            let Some(entry) = self.orders.get_mut(&uid) else {
                continue;
            };
            let keep = live.is_some() || !entry.pairs.is_empty();
            let counts = keep.then(|| entry.counts.summary(&uid, live.unwrap_or_default()));
            if !keep {
                self.orders.swap_remove(&uid);
            } else if entry.reported == counts {
                continue;
            } else {
                entry.reported = counts.clone();
            }
            reports.push(Report {
                shard: self.id,
                order: uid,
                counts,
            });
        }
        reports
    }

    /// News since it was last taken.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Counters since they were last taken.
    pub fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    fn rematch(&mut self, uid: &NodeUid, seen: Mono) {
        let entry = self.nodes.get_mut(uid).expect("just applied");
        let mut matches = Vec::new();
        self.snapshot.matching(&entry.node, self.grace, &mut matches);
        let before = std::mem::replace(&mut entry.matches, matches.clone());
        let name = entry.node.name.clone();
        let known = self.on_node.get(uid).cloned().unwrap_or_default();
        let gained = matches
            .iter()
            .filter(|order| before.binary_search(order).is_err());
        let unsettled = known
            .iter()
            .filter(|order| before.binary_search(order).is_err() || matches.binary_search(order).is_err());
        let affected: BTreeSet<OrderUid> = gained.chain(unsettled).cloned().collect();
        for order in affected {
            self.mark(
                PairKey {
                    order,
                    node: uid.clone(),
                },
                |pair| {
                    pair.node_name = name.clone();
                    pair.changed = Some(seen);
                },
            );
        }
    }

    fn rematch_order(&mut self, uid: &OrderUid, order: Option<&Order>, now: Mono) {
        let mut gained = Vec::new();
        for (node, entry) in &mut self.nodes {
            let matched = order.is_some_and(|order| eligible(order, &entry.node, self.grace));
            match (entry.matches.binary_search(uid), matched) {
                (Err(index), true) => {
                    entry.matches.insert(index, uid.clone());
                    gained.push((node.clone(), entry.node.name.clone()));
                }
                (Ok(index), false) => {
                    entry.matches.remove(index);
                }
                _ => {}
            }
        }
        for (node, name) in gained {
            self.mark(
                PairKey {
                    order: uid.clone(),
                    node,
                },
                |pair| {
                    pair.node_name = name;
                    pair.changed = Some(now);
                },
            );
        }
        self.mark_order(uid);
    }

    fn mark_order(&mut self, uid: &OrderUid) {
        if let Some(entry) = self.orders.get(uid) {
            let pairs = entry.pairs.iter().map(|node| PairKey {
                order: uid.clone(),
                node: node.clone(),
            });
            self.marked.extend(pairs);
            self.touched.insert(uid.clone());
        }
    }

    /// Changes a pair (made if it is new) and marks it for `decide`.
    fn mark(&mut self, key: PairKey, change: impl FnOnce(&mut Pair)) {
        if !self.pairs.contains_key(&key) {
            self.orders
                .entry(key.order.clone())
                .or_default()
                .pairs
                .insert(key.node.clone());
            self.on_node
                .entry(key.node.clone())
                .or_default()
                .push(key.order.clone());
        }
        change(self.pairs.entry(key.clone()).or_default());
        self.marked.insert(key);
    }

    fn mark_next_stale(&mut self, uid: &OrderUid) {
        let entry = &self.orders[uid];
        if entry.granted
            && entry.replacing.is_none()
            && let Some(node) = entry.stale.first()
        {
            self.marked.insert(PairKey {
                order: uid.clone(),
                node: node.clone(),
            });
        }
    }

    fn landed(&mut self, key: &PairKey, work: &Work, expect: Expect, now: Mono) {
        let pair = self.pairs.get_mut(key).expect("checked by the caller");
        pair.landed(&work.op);
        let guardians = self.guardians.get(&work.ticket).map_or(&[][..], Vec::as_slice);
        pair.expect(&work.ticket, expect, guardians, now);
        let (node, changed) = (pair.node_name.clone(), pair.changed);
        let news = match &work.op {
            Op::CreateTicket { .. } => Some((NoticeKind::Created, "")),
            Op::DeleteTicket { cause, .. } => Some((NoticeKind::Removed, cause.as_str())),
            Op::SetStatus { status, .. } if status.phase == Phase::Reserved => {
                pair.changed = None;
                self.stats
                    .reserved_after
                    .extend(changed.map(|changed| now.since(changed)));
                None
            }
            Op::SetStatus { status, .. }
                if status.reason.as_deref() == Some(reason::INSUFFICIENT_RESOURCES) =>
            {
                Some((NoticeKind::Failing, reason::INSUFFICIENT_RESOURCES))
            }
            _ => None,
        };
        if let Some((kind, reason)) = news {
            let message = match &work.op {
                Op::SetStatus { status, .. } => status.message.clone().unwrap_or_default(),
                _ => Arc::default(),
            };
            let (order, reason) = (key.order.clone(), reason.into());
            self.notices.push(Notice {
                order,
                kind,
                node,
                reason,
                message,
            });
        }
    }

    fn observe(&mut self, key: &PairKey, work: &Work, observation: Observation, now: Mono) {
        match observation {
            Observation::Ticket(view) => self.apply_ticket(*view),
            Observation::TicketGone(ticket) => self.delete_ticket(&ticket, None, now),
            Observation::Guardian(view) => self.apply_guardian(*view, now),
            Observation::GuardianGone(pod) => self.guardian_gone(key, work, &pod, now),
            Observation::OrderGone(gone) => {
                self.orders.entry(key.order.clone()).or_default().gone |= gone;
                let pair = self.pairs.get_mut(key).expect("checked by the caller");
                pair.hold_off_unless(gone, key, now);
            }
            Observation::NodeGone(gone) => {
                let pair = self.pairs.get_mut(key).expect("checked by the caller");
                pair.node_gone |= gone;
                pair.hold_off_unless(gone, key, now);
            }
        }
    }

    /// A GET says that the Guardian is gone: now it counts as a failure.
    fn guardian_gone(&mut self, key: &PairKey, work: &Work, pod: &PodKey, now: Mono) {
        if let Some(siblings) = self.guardians.get_mut(&work.ticket) {
            siblings.retain(|known| known.key != *pod);
            if siblings.is_empty() {
                self.guardians.remove(&work.ticket);
            }
        }
        let pair = self.pairs.get_mut(key).expect("checked by the caller");
        if pair.memory.lost_guardian.take_if(|lost| lost == pod).is_some() && pair.memory.trouble.is_none() {
            self.fail(key, reason::GUARDIAN_DELETED, DELETED.into(), now);
        }
    }

    fn fail(&mut self, key: &PairKey, reason: &'static str, message: Arc<str>, now: Mono) {
        let pair = self
            .pairs
            .get_mut(key)
            .expect("a pair that has something to fail");
        pair.fail(key, reason, message.clone(), now);
        self.notices.push(Notice {
            order: key.order.clone(),
            kind: NoticeKind::Failing,
            node: pair.node_name.clone(),
            reason: reason.into(),
            message,
        });
    }

    fn decide_pair(&mut self, key: PairKey, now: Now, sink: &mut impl Sink) {
        let Some(mut pair) = self.pairs.swap_remove(&key) else {
            return;
        };
        self.stats.decisions += 1;
        let (order, node) = (self.order_fate(&key), self.node_fate(&key, &pair));
        let (raw, mut wake) = (self.raw_verdict(&order, &node), None::<Mono>);
        let desired = raw == Some(Verdict::Eligible);
        let held_until = pair.flaps.note(desired, now.mono);
        wake = wake.or(held_until);
        if let Some(until) = pair.waits_until(now.mono) {
            wake = Some(until);
        } else if !pair.busy.iter().any(|(ticket, _)| sink.in_flight(ticket)) {
            let barred_until = self.barred.get(&order_namespace(&order, &pair)).copied();
            let view = View {
                order: order.clone(),
                node: node.clone(),
                verdict: raw.unwrap_or(Verdict::Eligible),
                held: held_until.is_some(),
                tickets: &pair.tickets,
                guardians: &self.guardians,
                memory: &pair.memory,
                may_replace: self.may_replace(&key),
                barred_until: barred_until.filter(|until| now.mono < *until),
                now,
            };
            let plan = plan(&view);
            wake = wake.into_iter().chain(plan.wake).min();
            pair.remember(plan.pending, now.mono);
            self.offer(&key, &mut pair, plan.ops, sink);
        }
        self.account(&key, &mut pair, &order, desired);
        self.settle_pair(key, pair, desired, wake, now.mono);
    }

    fn order_fate(&self, key: &PairKey) -> Fate<Order> {
        let entry = self.orders.get(&key.order);
        match self.snapshot.order(&key.order) {
            _ if entry.is_some_and(|entry| entry.purging) => Fate::Purging,
            _ if entry.is_some_and(|entry| entry.gone) => Fate::Gone,
            Some(order) if order.deleting => Fate::Purging,
            Some(order) => Fate::Live(order.clone()),
            None => Fate::Unseen,
        }
    }

    fn node_fate(&self, key: &PairKey, pair: &Pair) -> Fate<Node> {
        match self.nodes.get(&key.node) {
            Some(entry) => Fate::Live(entry.node.clone()),
            None if pair.node_gone => Fate::Gone,
            None => Fate::Unseen,
        }
    }

    fn raw_verdict(&self, order: &Fate<Order>, node: &Fate<Node>) -> Option<Verdict> {
        let (Fate::Live(order), Fate::Live(node)) = (order, node) else {
            return None;
        };
        let spec = order.spec.as_ref().ok()?;
        Some(evaluate(&spec.placement, node, self.grace))
    }

    fn may_replace(&self, key: &PairKey) -> bool {
        self.orders.get(&key.order).is_some_and(|entry| {
            let free = entry.replacing.is_none() && entry.counts.rolling == 0;
            entry.granted && (free || entry.replacing.as_ref() == Some(&key.node))
        })
    }

    /// Puts the plan in the place of what is pending for the pair.
    fn offer(&mut self, key: &PairKey, pair: &mut Pair, ops: Vec<(TicketKey, Op)>, sink: &mut impl Sink) {
        pair.busy
            .retain(|(ticket, _)| ops.iter().any(|(planned, _)| planned == ticket) || !sink.cancel(ticket));
        for (ticket, op) in ops {
            if pair
                .busy
                .iter()
                .any(|(busy, pending)| *busy == ticket && pending.same_effect(&op))
            {
                continue;
            }
            if matches!(&op, Op::SetStatus { status, .. } if status.reason.as_deref() == Some(reason::ROLLING_OUT))
            {
                self.orders[&key.order].replacing = Some(key.node.clone());
            }
            pair.busy.retain(|(busy, _)| *busy != ticket);
            pair.busy.push((ticket.clone(), op.clone()));
            sink.offer(Work {
                shard: self.id,
                pair: Some(key.clone()),
                ticket,
                op,
                changed: pair.changed,
            });
        }
    }

    /// Brings the Order's counts in line with the pair.
    fn account(&mut self, key: &PairKey, pair: &mut Pair, order: &Fate<Order>, desired: bool) {
        let hash = match order {
            Fate::Live(order) => order.spec.as_ref().ok().map(|spec| spec.template.hash.clone()),
            _ => None,
        };
        let summary = pair.summary(desired, hash.as_ref().map(|hash| hash.as_str()), &self.guardians);
        let entry = self.orders.entry(key.order.clone()).or_default();
        if summary.stale {
            entry.stale.insert(key.node.clone());
        } else {
            entry.stale.remove(&key.node);
        }
        let settled = entry.replacing.as_ref() == Some(&key.node) && !summary.stale && !summary.rolling;
        if settled {
            entry.replacing = None;
        }
        if summary != pair.counted {
            entry.counts.remove(&pair.counted_as, &pair.counted);
            entry.counts.add(&pair.node_name, &summary);
            (pair.counted, pair.counted_as) = (summary, pair.node_name.clone());
            self.touched.insert(key.order.clone());
        }
        if settled || self.orders[&key.order].counts.rolling == 0 {
            self.mark_next_stale_after(&key.order, &key.node);
        }
    }

    fn mark_next_stale_after(&mut self, order: &OrderUid, node: &NodeUid) {
        if self.orders[order].stale.first() != Some(node) {
            self.mark_next_stale(order);
        }
    }

    /// Puts the pair back with its next timer, or forgets it if there is nothing to remember.
    fn settle_pair(&mut self, key: PairKey, mut pair: Pair, desired: bool, wake: Option<Mono>, now: Mono) {
        if let Some(before) = pair.wake.take() {
            self.timers.remove(&(before, key.clone()));
        }
        let restless = pair.flaps.restless_until(now);
        if pair.idle() && !desired && restless.is_none() {
            let entry = self.orders.get_mut(&key.order).expect("made with its first pair");
            entry.counts.remove(&pair.counted_as, &pair.counted);
            entry.pairs.swap_remove(&key.node);
            entry.stale.remove(&key.node);
            entry.replacing.take_if(|node| *node == key.node);
            self.touched.insert(key.order.clone());
            if let Some(orders) = self.on_node.get_mut(&key.node) {
                orders.retain(|order| *order != key.order);
                if orders.is_empty() {
                    self.on_node.swap_remove(&key.node);
                }
            }
            return;
        }
        pair.wake = if pair.idle() && !desired { restless } else { wake };
        if let Some(wake) = pair.wake {
            self.timers.insert((wake, key.clone()));
        }
        self.pairs.insert(key, pair);
    }

    /// Guardians whose Ticket has been gone for a while are removed, if a GET agrees.
    fn seek_orphans(&mut self, now: Mono, sink: &mut impl Sink) {
        let due: Vec<TicketKey> = self
            .orphans
            .iter()
            .filter(|(_, since)| now >= since.after(ORPHANED_AFTER))
            .map(|(ticket, _)| ticket.clone())
            .collect();
        for ticket in due {
            self.orphans.insert(ticket.clone(), now);
            let Some(guardian) = self.guardians.get(&ticket).and_then(|siblings| siblings.first()) else {
                self.orphans.remove(&ticket);
                continue;
            };
            if !guardian.deleting && !sink.in_flight(&ticket) {
                let (pod, uid) = (guardian.key.clone(), guardian.uid.clone());
                let op = Op::DeleteOrphan {
                    pod,
                    uid,
                    ticket: guardian.ticket_uid.clone(),
                };
                sink.offer(Work {
                    shard: self.id,
                    pair: None,
                    ticket,
                    op,
                    changed: None,
                });
            }
        }
    }

    fn orphan_outcome(&mut self, ticket: &TicketKey, now: Mono) {
        if let Some(since) = self.orphans.get_mut(ticket) {
            *since = now;
        }
    }
}

fn order_namespace(order: &Fate<Order>, pair: &Pair) -> Namespace {
    match (order, pair.tickets.first()) {
        (Fate::Live(order), _) => order.key.namespace.clone(),
        (_, Some(ticket)) => ticket.key.namespace.clone(),
        _ => Namespace::from(""),
    }
}
