//! What a shard remembers of one pair: its Tickets, what is under way, what is awaited.
//!
//! Own writes are read back here: while an expectation stands, the pair is not decided.

use std::{sync::Arc, time::Duration};

use super::report::PairSummary;
use crate::{
    api::ticket::Phase,
    domain::{
        order::spec::Template,
        pair::{
            belief::Belief,
            cover,
            flap::Flaps,
            observed::{GuardianState, GuardianView, TicketView},
            op::Op,
            plan::{Memory, Trouble},
            reason,
        },
        values::{
            hash::fnv1a64,
            ids::{NodeName, PairKey, PodUid, TicketKey},
            time::Mono,
        },
    },
};

/// Tickets that others remove less often than this are made again without a pause.
const SELDOM: Duration = Duration::from_secs(600);
/// First and longest pause after a write that did not land.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What a shard remembers of one pair.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) node_name: NodeName,
    pub(super) belief: Belief,
    pub(super) memory: Memory,
    pub(super) flaps: Flaps,
    pub(super) node_gone: bool,
    /// Operations offered whose outcome is not known.
    pub(super) busy: Vec<(TicketKey, Op)>,
    /// When the Node's change was seen that is not answered yet.
    pub(super) changed: Option<Mono>,
    /// The same, until the first write.
    pub(super) unanswered: Option<Mono>,
    pub(super) counted: PairSummary,
    pub(super) counted_as: NodeName,
    pub(super) wake: Option<Mono>,
    retries: u32,
    hold_until: Option<Mono>,
    /// When somebody else last removed a Ticket.
    taken_away_at: Option<Mono>,
}

impl Default for Pair {
    fn default() -> Self {
        let nameless = NodeName::from("");
        Self {
            node_name: nameless.clone(),
            belief: Belief::default(),
            memory: Memory::default(),
            flaps: Flaps::default(),
            node_gone: false,
            busy: Vec::new(),
            changed: None,
            unanswered: None,
            counted: PairSummary::default(),
            counted_as: nameless,
            wake: None,
            retries: 0,
            hold_until: None,
            taken_away_at: None,
        }
    }
}

impl Pair {
    /// Until when the pair must not be decided.
    pub(super) fn waits_until(&mut self, now: Mono) -> Option<Mono> {
        let shown = self.belief.look(now);
        self.hold_until.take_if(|until| now >= *until);
        shown.or(self.hold_until)
    }

    /// A write did not land: doubling pauses.
    pub(super) fn hold_off(&mut self, key: &PairKey, now: Mono) {
        let base = RETRY.0.saturating_mul(1 << self.retries.min(10)).min(RETRY.1);
        self.pause(key, base, now);
        self.retries += 1;
    }

    /// A write did not land, and it is nobody's fault: the shortest pause, however often. What is decided
    /// again waits in line for the API server, where it can still be changed, and begins when that is well.
    pub(super) fn step_back(&mut self, key: &PairKey, now: Mono) {
        self.pause(key, RETRY.0, now);
    }

    fn pause(&mut self, key: &PairKey, base: Duration, now: Mono) {
        let seed = fnv1a64(format!("{}/{}/{}", key.order, key.node, self.retries).as_bytes());
        let pause = base + base.mul_f64((seed % 1024) as f64 / 4096.0);
        self.hold_until = Some(now.after(pause));
    }

    /// A GET contradicts the watch: ask again later.
    pub(super) fn hold_off_unless(&mut self, settled: bool, key: &PairKey, now: Mono) {
        if !settled {
            self.hold_off(key, now);
        }
    }

    /// Somebody else has removed a Ticket, perhaps because the Order is gone. It is made again at once, but
    /// not over and over.
    pub(super) fn taken_away(&mut self, key: &PairKey, now: Mono) {
        self.memory.order_in_doubt = true;
        let before = self.taken_away_at.replace(now);
        if before.is_some_and(|before| now.since(before) < SELDOM) {
            self.memory.backoff.fail(key, now);
        }
    }

    /// A write landed: what stood in its way is over.
    pub(super) fn landed(&mut self, op: &Op) {
        self.retries = 0;
        if matches!(op, Op::CreateTicket { .. } | Op::CreateGuardian { .. }) {
            self.memory.trouble = None;
        }
    }

    /// Notes a failure of the Guardian, or a refusal.
    pub(super) fn fail(&mut self, key: &PairKey, reason: &'static str, message: Arc<str>, now: Mono) {
        self.memory.backoff.fail(key, now);
        self.memory.trouble = Some(Trouble { reason, message });
    }

    /// A change was seen that may have to be answered by a write.
    pub(super) fn note_change(&mut self, seen: Mono) {
        (self.changed, self.unanswered) = (Some(seen), Some(seen));
    }

    /// What changed asks for no write, or not yet: it is no measure of how fast writes follow.
    pub(super) fn nothing_to_answer(&mut self) {
        self.unanswered = None;
        if self
            .belief
            .tickets()
            .any(|ticket| ticket.phase == Phase::Reserved)
        {
            self.changed = None;
        }
    }

    /// Whether the end of this Guardian is korder's own doing.
    pub(super) fn doomed(&self, uid: &PodUid) -> bool {
        let dooms = |op: &Op| matches!(op, Op::DeleteGuardian { uid: doomed, .. } | Op::DeleteOrphan { uid: doomed, .. } if doomed == uid);
        self.busy.iter().any(|(_, op)| dooms(op)) || self.belief.guardian_removed(uid)
    }

    /// Remembers since when a Pending Ticket has had its reason.
    pub(super) fn remember(&mut self, pending: Option<Arc<str>>, now: Mono) {
        self.memory.pending = pending.map(|gist| match self.memory.pending.take() {
            Some((before, since)) if before == gist => (before, since),
            _ => (gist, now),
        });
    }

    /// Whether a write is on its way, or has yet to be shown.
    pub(super) fn awaits(&self) -> bool {
        !self.busy.is_empty() || self.belief.awaits()
    }

    /// Whether nothing is left that must be remembered.
    pub(super) fn idle(&self) -> bool {
        self.belief.tickets().next().is_none() && !self.awaits()
    }

    /// What the pair adds to its Order's counts; `spent` if no Ticket is due in this window any more.
    pub(super) fn summary(&self, desired: bool, spent: bool, template: Option<&Template>) -> PairSummary {
        let held =
            |ticket: &TicketView| matches!(ticket.phase, Phase::Reserved | Phase::Claiming | Phase::Claimed);
        let outdated = |ticket: &TicketView, template: &Template| {
            ticket.template_hash.as_ref() != template.hash.as_str()
        };
        let guarded = |ticket: &TicketView, template: &Template| {
            let own = self.belief.guardians(&ticket.key);
            cover::guarded(&own, ticket, template.hash.as_str())
        };
        let updated = |ticket: &TicketView| {
            template.is_some_and(|template| !outdated(ticket, template) && guarded(ticket, template))
        };
        // What is only to tolerate more, or is about to go, needs no grant.
        let stale = |ticket: &TicketView| {
            let replaced = |template: &Template| match outdated(ticket, template) {
                true => !ticket.demand.grows_into(&template.demand),
                false => !guarded(ticket, template),
            };
            !ticket.deleting && template.is_some_and(replaced)
        };
        let unavailable = desired && !spent && !self.belief.tickets().any(held);
        let reserved = |ticket: &&TicketView| ticket.phase == Phase::Reserved;
        // Also while its node is in its grace: its Guardian may not be bound when that is over.
        let rolling = |ticket: &TicketView| {
            ticket.phase == Phase::Pending && ticket.activated.is_some() && !ticket.deleting
        };
        PairSummary {
            desired,
            phases: self.belief.tickets().map(|ticket| ticket.phase).collect(),
            unavailable: unavailable.then(|| self.why()),
            updated: self.belief.tickets().filter(reserved).any(updated),
            stale: desired && self.belief.tickets().filter(reserved).any(stale),
            rolling: !self.node_gone && self.belief.tickets().any(rolling),
        }
    }

    fn why(&self) -> Arc<str> {
        let unschedulable = |ticket: &TicketView| {
            let found_no_room = |guardian: &&GuardianView| matches!(&guardian.state, GuardianState::Unbound { unschedulable } if unschedulable.is_some());
            self.belief.guardians(&ticket.key).iter().any(found_no_room)
        };
        // What a Ticket says outlasts what this replica remembers.
        let said = self
            .belief
            .tickets()
            .find_map(|ticket| ticket.reason.as_ref().filter(|_| ticket.phase == Phase::Pending));
        match &self.memory.trouble {
            Some(trouble) => trouble.reason.into(),
            None if self.belief.tickets().any(unschedulable) => reason::INSUFFICIENT_RESOURCES.into(),
            None => said.cloned().unwrap_or_else(|| reason::RESERVING.into()),
        }
    }
}
