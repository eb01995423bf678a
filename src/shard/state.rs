//! The state of one shard: what has been seen, and which pairs it marks.
//!
//! `apply_*` and `delete_*` take what was seen; `decide` (beside this file) plans what they marked and
//! offers operations to a [`Sink`]. Nothing here waits, and nothing reads a clock.

mod grant;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use indexmap::{IndexMap, IndexSet};
use jiff::Timestamp;

use self::grant::Grant;
use super::{
    pair::{Pair, Settled},
    report::{Counts, Notice, NoticeKind, Report},
};
use crate::domain::values::shard::ShardId;
use crate::{
    api::{shard::OrderCounts, ticket::Phase},
    domain::{
        node::record::Node,
        order::window::Agenda,
        pair::{
            observed::{GuardianState, GuardianView, TicketView},
            op::{Expect, Observation, Op, Outcome},
            plan::{DELETED, Overdue},
            reason,
        },
        values::{
            ids::{Namespace, NodeUid, OrderUid, PairKey, PodKey, PodUid, TicketKey, TicketUid},
            time::Mono,
        },
    },
    index::{Nodes, Snapshot, Touched},
};

type Map<K, V> = IndexMap<K, V, ahash::RandomState>;
type Set<K> = IndexSet<K, ahash::RandomState>;

/// How long nothing is made in a namespace after the API server said that it is being deleted.
const BARRED_FOR: Duration = Duration::from_secs(60);
/// How long a Guardian may be without its Ticket before a GET asks for it.
pub(super) const ORPHANED_AFTER: Duration = Duration::from_secs(5);

/// Where a shard's operations go: one pending operation per Ticket.
pub trait Sink {
    /// Puts `work` in the place of what was pending for its Ticket.
    fn offer(&mut self, work: Work);
    /// Takes back what is pending for a Ticket; false if it has started.
    fn cancel(&mut self, ticket: &TicketKey) -> bool;
    /// Whether an operation for this Ticket has started.
    fn in_flight(&self, ticket: &TicketKey) -> bool;
}

/// What is known of all nodes, also of those in other shards.
pub trait Fleet {
    /// How much longer than its grace a NotReady node keeps its Tickets, because many others turned
    /// NotReady with it.
    fn spared(&self, node: &NodeUid) -> Duration;
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
    /// When the change was seen that this is the first answer to.
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

#[derive(Debug, Default)]
pub(super) struct OrderEntry {
    pub(super) pairs: Set<NodeUid>,
    pub(super) counts: Counts,
    pub(super) reported: Option<OrderCounts>,
    /// Its Tickets are being removed as a whole.
    pub(super) purging: bool,
    /// It is gone, or its Tickets have been removed as a whole.
    pub(super) gone: bool,
    /// Nodes whose Ticket is about to be replaced, and is not counted as that yet.
    pub(super) replacing: BTreeSet<NodeUid>,
    pub(super) stale: BTreeSet<NodeUid>,
    /// Its windows around the present.
    pub(super) agenda: Option<Arc<Agenda>>,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) nodes: Nodes,
    pub(super) orders: Map<OrderUid, OrderEntry>,
    pub(super) grants: Map<OrderUid, Grant>,
    pub(super) pairs: Map<PairKey, Pair>,
    pub(super) on_node: Map<NodeUid, Vec<OrderUid>>,
    pub(super) by_ticket: Map<TicketKey, PairKey>,
    pub(super) guardians: BTreeMap<TicketKey, Vec<GuardianView>>,
    pub(super) orphans: BTreeMap<TicketKey, Mono>,
    pub(super) barred: BTreeMap<Namespace, Mono>,
    pub(super) marked: Set<PairKey>,
    pub(super) timers: BTreeSet<(Mono, PairKey)>,
    pub(super) touched: BTreeSet<OrderUid>,
    /// Orders of which another Ticket may be replaced.
    pub(super) seeking: BTreeSet<OrderUid>,
    pub(super) notices: Vec<Notice>,
    pub(super) stats: Stats,
}

impl Shard {
    /// An empty shard. `grace` is how long a NotReady node keeps its Tickets.
    pub fn new(id: ShardId, grace: Duration) -> Self {
        Self {
            id,
            nodes: Nodes::new(grace),
            orders: Map::default(),
            grants: Map::default(),
            pairs: Map::default(),
            on_node: Map::default(),
            by_ticket: Map::default(),
            guardians: BTreeMap::new(),
            orphans: BTreeMap::new(),
            barred: BTreeMap::new(),
            marked: Set::default(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            seeking: BTreeSet::new(),
            notices: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// A Node was added or changed. A heartbeat stops here.
    pub fn apply_node(&mut self, node: Arc<Node>, seen: Mono) {
        let (uid, name) = (node.uid.clone(), node.name.clone());
        let known = self.on_node.get(&uid).map_or(&[][..], Vec::as_slice);
        let Touched::Pairs(orders) = self.nodes.apply(node, known) else {
            self.stats.stopped += 1;
            return;
        };
        for order in orders {
            let node = uid.clone();
            self.mark(PairKey { order, node }, |pair| {
                pair.node_name = name.clone();
                pair.note_change(seen);
            });
        }
    }

    /// A Node is gone.
    pub fn delete_node(&mut self, uid: &NodeUid) {
        let Some(gone) = self.nodes.delete(uid) else {
            return;
        };
        for order in self.on_node.get(uid).cloned().unwrap_or_default() {
            let node = uid.clone();
            self.mark(PairKey { order, node }, |pair| {
                pair.node_gone = true;
                pair.node_name = gone.name.clone();
            });
        }
    }

    /// Orders were added, changed or deleted; `snapshot` is what holds from now on.
    pub fn apply_orders(&mut self, snapshot: Arc<Snapshot>, changed: &[OrderUid], now: Mono) {
        for (uid, gained) in self.nodes.apply_orders(snapshot, changed) {
            match self.nodes.order(&uid).map(|order| order.deleting) {
                None => {
                    if let Some(entry) = self.orders.get_mut(&uid) {
                        entry.gone = true;
                    }
                }
                // What is back was not gone.
                Some(deleting) => self.orders.entry(uid.clone()).or_default().gone &= deleting,
            }
            for (node, name) in gained {
                let order = uid.clone();
                self.mark(PairKey { order, node }, |pair| {
                    pair.node_name = name;
                    pair.note_change(now);
                });
            }
            self.mark_order(&uid);
            self.touched.insert(uid);
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

    /// The watch shows a Ticket, new or changed.
    pub fn apply_ticket(&mut self, view: TicketView) {
        let (uid, revision, ask) = (view.uid.clone(), view.revision, Overdue::Ticket(view.key.clone()));
        let key = self.see_ticket(view);
        self.mark(key, |pair| pair.shown(uid.as_str(), revision, &ask));
    }

    fn see_ticket(&mut self, view: TicketView) -> PairKey {
        let key = PairKey {
            order: view.order.clone(),
            node: view.node.clone(),
        };
        self.by_ticket.insert(view.key.clone(), key.clone());
        self.orphans.remove(&view.key);
        self.mark(key.clone(), |pair| pair.see_ticket(view));
        key
    }

    /// A watch, that of Tickets without labels or the other, says that a Ticket is gone. Unless that is
    /// korder's own doing a GET has to confirm it.
    pub fn lose_ticket(&mut self, ticket: &TicketKey, uid: &TicketUid, unlabelled: bool, now: Mono) {
        let Some(key) = self.by_ticket.get(ticket).cloned() else {
            return;
        };
        let order = self.orders.get(&key.order);
        let all_go = order.is_some_and(|entry| entry.purging || entry.gone);
        let removed = self.pairs.get(&key).is_some_and(|pair| pair.removed(uid));
        if all_go || removed {
            return self.delete_ticket(ticket, Some(uid), now);
        }
        self.mark(key, |pair| pair.doubt_ticket(ticket, uid, unlabelled, now));
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

    /// The watch shows a Guardian, new or changed.
    pub fn apply_guardian(&mut self, view: GuardianView, now: Mono) {
        if let Some(key) = self.by_ticket.get(&view.ticket).cloned() {
            let ask = Overdue::Guardian(view.ticket.clone(), view.key.clone());
            self.mark(key, |pair| pair.shown(view.uid.as_str(), view.revision, &ask));
        }
        self.see_guardian(view, now);
    }

    fn see_guardian(&mut self, view: GuardianView, now: Mono) {
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
            pair.memory.absent.retain(|absent| *absent != view.key);
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
        let siblings = self.guardians.get_mut(ticket);
        let lost = siblings.and_then(|siblings| {
            let index = siblings.iter().position(|known| known.uid == *uid)?;
            Some(siblings.remove(index))
        });
        if self.guardians.get(ticket).is_some_and(Vec::is_empty) {
            self.guardians.remove(ticket);
            self.orphans.remove(ticket);
        }
        if let Some(key) = self.by_ticket.get(ticket).cloned() {
            self.mark(key, |pair| {
                // That of an earlier Ticket of this name goes with it.
                let own = |lost: &GuardianView| pair.tickets.iter().any(|known| known.uid == lost.ticket_uid);
                let own = lost.as_ref().is_some_and(own) || pair.made(uid);
                if own && !pair.guardian_removed(uid) {
                    pair.memory.lost_guardian = Some(pod.clone());
                }
                pair.shown_to_end(uid.as_str());
                pair.settle(&Settled::GuardianGone(uid));
            });
        }
    }

    /// An operation ended.
    pub fn apply_outcome(&mut self, work: &Work, outcome: Outcome, now: Mono) {
        let Some(key) = &work.pair else {
            return self.orphan_outcome(&work.ticket, &outcome, now);
        };
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        pair.busy.retain(|(ticket, _)| *ticket != work.ticket);
        let awaited = matches!(&outcome, Outcome::Observed(Observation::GuardianGone(pod)) if pair.awaits_guardian(pod));
        let told = !matches!(outcome, Outcome::Retry { .. } | Outcome::Busy { .. });
        if told
            && matches!(work.op, Op::ConfirmTicket | Op::ConfirmGuardian(_))
            && pair.memory.overdue.is_some()
        {
            pair.memory.overdue = None;
            pair.expects.clear();
        }
        match outcome {
            Outcome::Landed(expect) => self.landed(key, work, expect, now),
            Outcome::Observed(observation) => self.observe(key, work, observation, awaited, now),
            Outcome::Refused { reason, message } => {
                // The backoff holds up creates alone.
                if !matches!(work.op, Op::CreateTicket { .. } | Op::CreateGuardian { .. }) {
                    pair.hold_off(key, now);
                }
                self.fail(key, reason, message, now);
            }
            Outcome::NamespaceTerminating => {
                self.barred.retain(|_, until| now < *until);
                self.barred
                    .insert(work.ticket.namespace.clone(), now.after(BARRED_FOR));
            }
            Outcome::Retry { .. } => pair.hold_off(key, now),
            Outcome::Busy { .. } => pair.step_back(key, now),
        }
        if !told && work.op.begins_replacement() {
            // It may have landed all the same: a GET comes before anything else.
            let pair = self.pairs.get_mut(key).expect("just held off");
            pair.memory.overdue = Some(Overdue::Ticket(work.ticket.clone()));
        }
        self.mark(key.clone(), |_| ());
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
            let live = self.nodes.order(&uid).map(|order| order.generation);
            let (begun, grant_seq) = (self.begun(&uid), self.acts_on(&uid));
            let Some(entry) = self.orders.get_mut(&uid) else {
                continue;
            };
            let keep = live.is_some() || !entry.pairs.is_empty();
            let summary = |entry: &OrderEntry| {
                let generation = live.unwrap_or_default();
                entry.counts.summary(&uid, generation, begun, grant_seq)
            };
            let counts = keep.then(|| summary(entry));
            if !keep {
                self.orders.swap_remove(&uid);
                self.grants.swap_remove(&uid);
            } else if entry.reported == counts {
                continue;
            } else {
                entry.reported.clone_from(&counts);
            }
            reports.push(Report {
                shard: self.id,
                order: uid,
                counts,
            });
        }
        reports
    }

    /// Nodes of the shard.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that are NotReady, by since when.
    pub fn not_ready(&self) -> &BTreeMap<Timestamp, u32> {
        self.nodes.not_ready()
    }

    /// News since it was last taken.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Counters since they were last taken.
    pub fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    /// How much is remembered: nodes, pairs, timers, marks, notices and the like.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let keyed = self.nodes.len() + self.pairs.len() + self.by_ticket.len() + self.guardians.len();
        let timed = self.timers.len() + self.marked.len() + self.orphans.len() + self.barred.len();
        keyed + timed + self.notices.len()
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
    pub(super) fn mark(&mut self, key: PairKey, change: impl FnOnce(&mut Pair)) {
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

    fn landed(&mut self, key: &PairKey, work: &Work, expect: Expect, now: Mono) {
        let pair = self.pairs.get_mut(key).expect("checked by the caller");
        pair.landed(&work.op);
        match &work.op {
            // A GET has told first.
            Op::UngateGuardian { unless, .. } => pair.not_there(unless),
            Op::CreateGuardian { pod, unless, .. } => {
                pair.memory.absent.retain(|absent| absent != pod);
                unless.iter().for_each(|unless| pair.not_there(unless));
            }
            _ => {}
        }
        if let Expect::GuardianGone(pod, _) = &expect {
            pair.memory.lost_guardian.take_if(|lost| lost == pod);
        }
        if let Expect::TicketGone(uid) = &expect
            && pair.memory.lost_tickets.contains(&work.ticket)
        {
            // The watch was faster than the answer.
            self.delete_ticket(&work.ticket, Some(uid), now);
        }
        let pair = self.pairs.get_mut(key).expect("a pair with an operation stays");
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

    fn observe(&mut self, key: &PairKey, work: &Work, observation: Observation, awaited: bool, now: Mono) {
        match observation {
            Observation::Ticket(view) => self.told_ticket(*view, now),
            Observation::TicketGone(ticket) => {
                let known = self.by_ticket.contains_key(&ticket);
                self.delete_ticket(&ticket, None, now);
                if known && !matches!(work.op, Op::DeleteTicket { .. }) {
                    self.mark(key.clone(), |pair| pair.taken_away(key, now));
                }
            }
            Observation::Guardian(view) => self.told_guardian(key, *view, now),
            Observation::GuardianGone(pod) => self.guardian_gone(key, work, &pod, awaited, now),
            Observation::OrderGone(gone) => {
                self.orders.entry(key.order.clone()).or_default().gone |= gone;
                let seen = self.nodes.order(&key.order).is_some();
                let pair = self.pairs.get_mut(key).expect("checked by the caller");
                pair.memory.order_in_doubt &= gone;
                pair.hold_off_unless(gone || seen, key, now);
            }
            Observation::NodeGone(gone) => {
                let pair = self.pairs.get_mut(key).expect("checked by the caller");
                pair.node_gone |= gone;
                pair.hold_off_unless(gone, key, now);
            }
        }
    }

    /// A read shows a Ticket; the watch is expected to show it, too.
    pub fn told_ticket(&mut self, view: TicketView, now: Mono) {
        let (uid, revision, ask) = (view.uid.clone(), view.revision, Overdue::Ticket(view.key.clone()));
        let known = self.by_ticket.get(&view.key).and_then(|key| self.pairs.get(key));
        let known = known.is_some_and(|pair| pair.tickets.iter().any(|known| known.uid == uid));
        let key = self.see_ticket(view);
        if !known {
            self.mark(key, |pair| pair.told(uid.as_str(), revision, ask, now));
        }
    }

    /// A GET shows a Guardian.
    fn told_guardian(&mut self, key: &PairKey, view: GuardianView, now: Mono) {
        let (uid, revision) = (view.uid.clone(), view.revision);
        let ask = Overdue::Guardian(view.ticket.clone(), view.key.clone());
        let known = self.guardians.get(&view.ticket);
        let known = known.is_some_and(|siblings| siblings.iter().any(|known| known.uid == uid));
        self.see_guardian(view, now);
        if !known {
            self.mark(key.clone(), |pair| pair.told(uid.as_str(), revision, ask, now));
        }
    }

    /// A GET says that the Guardian is gone: now it counts as a failure.
    fn guardian_gone(&mut self, key: &PairKey, work: &Work, pod: &PodKey, awaited: bool, now: Mono) {
        let known = self.guardians.get(&work.ticket);
        let known = known
            .and_then(|siblings| siblings.iter().find(|known| known.key == *pod))
            .cloned();
        self.forget_guardian(&work.ticket, pod);
        let pair = self.pairs.get_mut(key).expect("checked by the caller");
        pair.not_there(pod);
        let lost = pair.memory.lost_guardian.take_if(|lost| lost == pod).is_some();
        let of_pair = |known: &GuardianView| pair.tickets.iter().any(|ticket| ticket.uid == known.ticket_uid);
        let lost = lost || awaited || known.as_ref().is_some_and(of_pair);
        let removed = known.is_some_and(|known| pair.guardian_removed(&known.uid));
        let own = removed || matches!(work.op, Op::DeleteGuardian { .. } | Op::DeleteOrphan { .. });
        let open = pair
            .tickets
            .iter()
            .any(|ticket| ticket.key == work.ticket && ticket.open());
        if lost && open && !own && pair.memory.trouble.is_none() {
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

    fn orphan_outcome(&mut self, ticket: &TicketKey, outcome: &Outcome, now: Mono) {
        if let Outcome::Observed(Observation::GuardianGone(pod)) = outcome {
            self.forget_guardian(ticket, pod);
        }
        if let Some(since) = self.orphans.get_mut(ticket) {
            *since = now;
        }
    }

    /// A GET says that no Guardian of this name exists.
    fn forget_guardian(&mut self, ticket: &TicketKey, pod: &PodKey) {
        let Some(siblings) = self.guardians.get_mut(ticket) else {
            return;
        };
        siblings.retain(|known| known.key != *pod);
        if siblings.is_empty() {
            self.guardians.remove(ticket);
            self.orphans.remove(ticket);
        }
    }
}
