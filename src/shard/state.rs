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
    pair::Pair,
    report::{Counts, Notice, NoticeKind, Report},
};
use crate::{
    api::{shard::OrderCounts, ticket::Phase},
    domain::{
        node::record::Node,
        order::window::Agenda,
        pair::{
            belief::{Belief, End},
            observed::{GuardianState, GuardianView, TicketView},
            op::{Expect, Observation, Op, Outcome},
            plan::DELETED,
            reason,
        },
        values::{
            ids::{Namespace, NodeUid, OrderUid, PairKey, PodKey, PodUid, TicketKey, TicketUid},
            shard::ShardId,
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
pub(super) const STRAY_FOR: Duration = Duration::from_secs(5);

/// Where a shard's operations go: one pending operation per Ticket.
pub(crate) trait Sink {
    /// Puts `work` in the place of what was pending for its Ticket.
    fn offer(&mut self, work: Work);
    /// Takes back what is pending for a Ticket; false if it has started.
    fn cancel(&mut self, ticket: &TicketKey) -> bool;
    /// Whether an operation for this Ticket has started.
    fn in_flight(&self, ticket: &TicketKey) -> bool;
}

/// What is known of all nodes, also of those in other shards.
pub(crate) trait Fleet {
    /// How much longer than its grace a NotReady node keeps its Tickets, because many others turned
    /// NotReady with it.
    fn spared(&self, node: &NodeUid) -> Duration;
}

/// An operation on its way to the API server.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The shard that decided it.
    pub(crate) shard: ShardId,
    /// The pair it was decided for; none for a Guardian whose Ticket is gone.
    pub(crate) pair: Option<PairKey>,
    pub(crate) ticket: TicketKey,
    /// What to do.
    pub(crate) op: Op,
    /// When the change was seen that this is the first answer to.
    pub(crate) changed: Option<Mono>,
}

/// What the shard has counted since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Node events that changed nothing any Order can see.
    pub(crate) stopped: u64,
    /// Pairs planned.
    pub(crate) decisions: u64,
    /// Time from a change of a Node to Reserved.
    pub(crate) reserved_after: Vec<Duration>,
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

/// Guardians whose Ticket is not known.
#[derive(Debug)]
pub(super) struct Strays {
    /// Since when, or when a GET was last asked.
    pub(super) since: Mono,
    pub(super) guardians: Vec<GuardianView>,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(super) id: ShardId,
    pub(super) nodes: Nodes,
    pub(super) orders: Map<OrderUid, OrderEntry>,
    pub(super) grants: Map<OrderUid, Grant>,
    pub(super) pairs: Map<PairKey, Pair>,
    pub(super) on_node: Map<NodeUid, Vec<OrderUid>>,
    pub(super) by_ticket: Map<TicketKey, PairKey>,
    /// Guardians of Tickets that are not known, or not any more.
    pub(super) strays: BTreeMap<TicketKey, Strays>,
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
    pub(crate) fn new(id: ShardId, grace: Duration) -> Self {
        Self {
            id,
            nodes: Nodes::new(grace),
            orders: Map::default(),
            grants: Map::default(),
            pairs: Map::default(),
            on_node: Map::default(),
            by_ticket: Map::default(),
            strays: BTreeMap::new(),
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
    pub(crate) fn apply_node(&mut self, node: Arc<Node>, seen: Mono) {
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
    pub(crate) fn delete_node(&mut self, uid: &NodeUid) {
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
    pub(crate) fn apply_orders(&mut self, snapshot: Arc<Snapshot>, changed: &[OrderUid], now: Mono) {
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
    pub(crate) fn purge(&mut self, uid: &OrderUid, running: bool) {
        let Some(entry) = self.orders.get_mut(uid) else {
            return;
        };
        entry.purging = running;
        entry.gone |= !running;
        self.mark_order(uid);
    }

    /// The watch shows a Ticket, new or changed.
    pub(crate) fn apply_ticket(&mut self, view: TicketView) {
        self.see_ticket(view, Belief::ticket_shown);
    }

    /// A read shows a Ticket; the watch is expected to show it, too.
    pub(crate) fn told_ticket(&mut self, view: TicketView, now: Mono) {
        self.see_ticket(view, |belief, view| belief.ticket_read(view, now));
    }

    fn see_ticket(&mut self, view: TicketView, see: impl FnOnce(&mut Belief, TicketView) -> bool) {
        let key = PairKey {
            order: view.order.clone(),
            node: view.node.clone(),
        };
        self.by_ticket.insert(view.key.clone(), key.clone());
        let strays = self.strays.remove(&view.key);
        self.mark(key, |pair| {
            let node_name = view.node_name.clone();
            if see(&mut pair.belief, view) {
                pair.node_name = node_name;
            }
            for stray in strays.into_iter().flat_map(|strays| strays.guardians) {
                pair.belief.guardian_shown(stray);
            }
        });
    }

    /// A watch, that of Tickets without labels or the other, says that a Ticket is gone. Unless that is
    /// korder's own doing a GET has to confirm it.
    pub(crate) fn lose_ticket(&mut self, ticket: &TicketKey, uid: &TicketUid, unlabelled: bool, now: Mono) {
        let Some(key) = self.by_ticket.get(ticket).cloned() else {
            return;
        };
        let order = self.orders.get(&key.order);
        if order.is_some_and(|entry| entry.purging || entry.gone) {
            return self.delete_ticket(ticket, Some(uid), now);
        }
        let end = match self.pairs.get_mut(&key) {
            Some(pair) => pair.belief.ticket_ended(ticket, uid, unlabelled, now),
            None => End::Nothing,
        };
        match end {
            End::Ticket(left) => self.ticket_left(key, ticket, left, now),
            End::Nothing | End::Doubted => self.mark(key, |_| ()),
        }
    }

    /// A Ticket is gone.
    pub(crate) fn delete_ticket(&mut self, ticket: &TicketKey, uid: Option<&TicketUid>, now: Mono) {
        let Some(key) = self.by_ticket.get(ticket).cloned() else {
            return;
        };
        if let Some(pair) = self.pairs.get_mut(&key)
            && let End::Ticket(left) = pair.belief.ticket_gone(ticket, uid)
        {
            self.ticket_left(key, ticket, left, now);
        }
    }

    fn ticket_left(&mut self, key: PairKey, ticket: &TicketKey, guardians: Vec<GuardianView>, now: Mono) {
        self.by_ticket.swap_remove(ticket);
        if !guardians.is_empty() {
            let strays = Strays {
                since: now,
                guardians,
            };
            self.strays.insert(ticket.clone(), strays);
        }
        self.mark(key, |_| ());
    }

    /// The watch shows a Guardian, new or changed.
    pub(crate) fn apply_guardian(&mut self, view: GuardianView, now: Mono) {
        self.see_guardian(view, now, Belief::guardian_shown);
    }

    /// A GET shows a Guardian.
    fn told_guardian(&mut self, view: GuardianView, now: Mono) {
        self.see_guardian(view, now, |belief, view| belief.guardian_read(view, now));
    }

    fn see_guardian(
        &mut self,
        view: GuardianView,
        now: Mono,
        see: impl FnOnce(&mut Belief, GuardianView) -> bool,
    ) {
        let Some(key) = self.by_ticket.get(&view.ticket).cloned() else {
            return self.see_stray(view, now);
        };
        let mut failed = None;
        self.mark(key.clone(), |pair| {
            let ended = |known: &&GuardianView| {
                known.uid == view.uid && matches!(known.state, GuardianState::Ended { .. })
            };
            let ended_before = pair
                .belief
                .guardians(&view.ticket)
                .into_iter()
                .any(|known| ended(&known));
            let (uid, state) = (view.uid.clone(), view.state.clone());
            if !see(&mut pair.belief, view) {
                return;
            }
            match state {
                GuardianState::Bound(_) => {
                    pair.memory.backoff.bound(now);
                    pair.memory.trouble = None;
                }
                GuardianState::Ended { message } if !ended_before && !pair.doomed(&uid) => {
                    failed = Some(message);
                }
                _ => {}
            }
        });
        if let Some(message) = failed {
            self.fail(&key, reason::GUARDIAN_ENDED, message, now);
        }
    }

    fn see_stray(&mut self, view: GuardianView, now: Mono) {
        let strays = self.strays.entry(view.ticket.clone()).or_insert_with(|| Strays {
            since: now,
            guardians: Vec::new(),
        });
        match strays.guardians.iter_mut().find(|known| known.key == view.key) {
            Some(known) if known.uid == view.uid && known.revision > view.revision => {}
            Some(known) => *known = view,
            None => strays.guardians.push(view),
        }
    }

    /// The watch says that a Guardian is gone.
    pub(crate) fn delete_guardian(&mut self, ticket: &TicketKey, pod: &PodKey, uid: &PodUid, now: Mono) {
        match self.by_ticket.get(ticket).cloned() {
            Some(key) => self.mark(key, |pair| pair.belief.guardian_ended(ticket, pod, uid, now)),
            None => self.forget_strays(ticket, |known| known.uid == *uid),
        }
    }

    fn forget_strays(&mut self, ticket: &TicketKey, gone: impl Fn(&GuardianView) -> bool) {
        if let Some(strays) = self.strays.get_mut(ticket) {
            strays.guardians.retain(|known| !gone(known));
            if strays.guardians.is_empty() {
                self.strays.remove(ticket);
            }
        }
    }

    /// An operation ended.
    pub(crate) fn apply_outcome(&mut self, work: &Work, outcome: Outcome, now: Mono) {
        let Some(key) = &work.pair else {
            return self.stray_outcome(&work.ticket, &outcome, now);
        };
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        pair.busy.retain(|(ticket, _)| *ticket != work.ticket);
        let told = !matches!(outcome, Outcome::Retry { .. } | Outcome::Busy { .. });
        match outcome {
            Outcome::Landed(expect) => self.landed(key, work, expect, now),
            Outcome::Observed(observation) => self.observe(key, work, observation, now),
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
        let belief = &mut self
            .pairs
            .get_mut(key)
            .expect("a pair with an operation stays")
            .belief;
        match &work.op {
            Op::ConfirmTicket if told => belief.answered(&work.ticket, None),
            Op::ConfirmGuardian(pod) if told => belief.answered(&work.ticket, Some(pod)),
            // It may have landed all the same.
            op if !told && op.begins_replacement() => belief.unknown(&work.ticket),
            _ => {}
        }
        self.mark(key.clone(), |_| ());
    }

    /// When to decide again even if nothing is seen.
    pub(crate) fn next_wake(&self) -> Option<Mono> {
        let stray = self.strays.values().map(|strays| strays.since).min();
        let stray = stray.map(|since| since.after(STRAY_FOR));
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(stray).min()
    }

    /// Counts of Orders that have changed since they were last taken.
    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
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
            reports.push(Report { order: uid, counts });
        }
        reports
    }

    /// Nodes of the shard.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that are NotReady, by since when.
    pub(crate) fn not_ready(&self) -> &BTreeMap<Timestamp, u32> {
        self.nodes.not_ready()
    }

    /// News since it was last taken.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Counters since they were last taken.
    pub(crate) fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    /// How much is remembered: nodes, pairs, timers, marks, notices and the like.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let keyed = self.nodes.len() + self.pairs.len() + self.by_ticket.len() + self.strays.len();
        let timed = self.timers.len() + self.marked.len() + self.barred.len();
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
        // A GET has told first.
        if let Op::UngateGuardian { unless: absent, .. }
        | Op::CreateGuardian {
            unless: Some(absent), ..
        } = &work.op
        {
            pair.belief.guardian_absent(&work.ticket, absent);
        }
        if let End::Ticket(left) = pair.belief.landed(&work.ticket, expect, now) {
            self.ticket_left(key.clone(), &work.ticket, left, now);
        }
        let pair = self.pairs.get_mut(key).expect("a pair with an operation stays");
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
            Observation::Ticket(view) => self.told_ticket(*view, now),
            Observation::TicketGone(ticket) => {
                let known = self.by_ticket.contains_key(&ticket);
                self.delete_ticket(&ticket, None, now);
                let pair = self.pairs.get_mut(key).expect("checked by the caller");
                pair.belief.ticket_gone(&ticket, None);
                if known && !matches!(work.op, Op::DeleteTicket { .. }) {
                    self.mark(key.clone(), |pair| pair.taken_away(key, now));
                }
            }
            Observation::Guardian(view) => self.told_guardian(*view, now),
            Observation::GuardianGone(pod) => self.guardian_gone(key, work, &pod, now),
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

    /// A GET says that the Guardian is gone: now it counts as a failure.
    fn guardian_gone(&mut self, key: &PairKey, work: &Work, pod: &PodKey, now: Mono) {
        self.forget_strays(&work.ticket, |known| known.key == *pod);
        let pair = self.pairs.get_mut(key).expect("checked by the caller");
        let missed = pair.belief.guardian_absent(&work.ticket, pod);
        let deletes = matches!(work.op, Op::DeleteGuardian { .. } | Op::DeleteOrphan { .. });
        let open = |ticket: &TicketView| ticket.key == work.ticket && ticket.open();
        let open = pair.belief.tickets().any(open);
        let own = missed.removed || deletes;
        if missed.lost && open && !own && pair.memory.trouble.is_none() {
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

    fn stray_outcome(&mut self, ticket: &TicketKey, outcome: &Outcome, now: Mono) {
        if let Outcome::Observed(Observation::GuardianGone(pod)) = outcome {
            self.forget_strays(ticket, |known| known.key == *pod);
        }
        if let Some(strays) = self.strays.get_mut(ticket) {
            strays.since = now;
        }
    }
}
