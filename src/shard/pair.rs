//! What a shard remembers of one pair: its Tickets, what is under way, what is awaited.
//!
//! Own writes are read back here: while an expectation stands, the pair is not decided.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::report::PairSummary;
use crate::{
    api::ticket::Phase,
    domain::{
        order::spec::Template,
        pair::{
            cover,
            flap::Flaps,
            observed::{GuardianState, GuardianView, Revision, TicketView},
            op::{Expect, Op},
            plan::{Memory, Overdue, Trouble},
            reason,
        },
        values::{
            hash::fnv1a64,
            ids::{NodeName, PairKey, PodKey, PodUid, TicketKey, TicketUid},
            time::Mono,
        },
    },
};

/// How long the watch may take to show an own write before a GET asks for it.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long at most an object that only a GET has shown is believed in before it is asked for again.
const BELIEVED_FOR: Duration = Duration::from_secs(300);
/// Tickets that others remove less often than this are made again without a pause.
const SELDOM: Duration = Duration::from_secs(600);
/// First and longest pause after a write that did not land.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What a shard remembers of one pair.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) node_name: NodeName,
    pub(super) tickets: Vec<TicketView>,
    pub(super) memory: Memory,
    pub(super) flaps: Flaps,
    pub(super) node_gone: bool,
    /// Objects whose end no watch may tell of, since none has shown them.
    unshown: Vec<Unshown>,
    /// Operations offered whose outcome is not known.
    pub(super) busy: Vec<(TicketKey, Op)>,
    /// What the watch must show, and by when.
    pub(super) expects: Vec<(TicketKey, Expect, Mono)>,
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
            tickets: Vec::new(),
            memory: Memory::default(),
            flaps: Flaps::default(),
            node_gone: false,
            unshown: Vec::new(),
            busy: Vec::new(),
            expects: Vec::new(),
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

/// An object that a GET has shown and no watch: it may have come and gone between two lists, or the
/// answer may be older than its end.
#[derive(Debug)]
struct Unshown {
    uid: Arc<str>,
    revision: Revision,
    ask: Overdue,
    due: Mono,
    pause: Duration,
}

/// Something seen that may meet an expectation.
pub(super) enum Settled<'a> {
    Ticket(&'a TicketView),
    TicketGone(&'a TicketUid),
    Guardian(&'a GuardianView),
    GuardianGone(&'a PodUid),
}

impl Pair {
    /// Takes a newer view of a Ticket; an older one is ignored.
    pub(super) fn see_ticket(&mut self, view: TicketView) {
        let known = self.tickets.iter().position(|known| known.key == view.key);
        // Two watches tell of Tickets, each in its own time; and two Tickets never have one name at once.
        if known.is_some_and(|known| self.tickets[known].revision > view.revision) {
            return;
        }
        self.settle(&Settled::Ticket(&view));
        self.memory.lost_tickets.retain(|lost| *lost != view.key);
        self.node_name = view.node_name.clone();
        match known {
            Some(known) => self.tickets[known] = view,
            None => self.tickets.push(view),
        }
    }

    /// Forgets a Ticket, if it still is the one of this uid; returns whether it did.
    pub(super) fn lose_ticket(&mut self, key: &TicketKey, uid: Option<&TicketUid>) -> bool {
        self.memory.lost_tickets.retain(|lost| lost != key);
        self.unshown.retain(|unshown| unshown.ask.ticket() != key);
        let gone = |known: &TicketView| known.key == *key && uid.is_none_or(|uid| known.uid == *uid);
        let Some(index) = self.tickets.iter().position(gone) else {
            return false;
        };
        let lost = self.tickets.remove(index);
        self.settle(&Settled::TicketGone(&lost.uid));
        self.memory.lost_guardian = None;
        self.memory.absent.clear();
        true
    }

    /// A watch says that a Ticket is gone which nobody here removed: it may only have lost its labels. That
    /// the other watch has it now, of Tickets with or without labels, explains it.
    pub(super) fn doubt_ticket(&mut self, key: &TicketKey, uid: &TicketUid, unlabelled: bool, now: Mono) {
        let is =
            |known: &&TicketView| known.key == *key && known.uid == *uid && known.unlabelled == unlabelled;
        let known = self.tickets.iter().find(is).map(|known| known.revision);
        if let Some(revision) = known
            && !self.memory.lost_tickets.contains(key)
        {
            self.memory.lost_tickets.push(key.clone());
            self.told(uid.as_str(), revision, Overdue::Ticket(key.clone()), now);
        }
    }

    /// A GET shows an object: unless the watch shows it soon, it is asked for again, less and less often.
    pub(super) fn told(&mut self, uid: &str, revision: Revision, ask: Overdue, now: Mono) {
        if self.unshown.iter().any(|unshown| &*unshown.uid == uid) {
            return;
        }
        self.outlive(&ask, revision);
        self.unshown.push(Unshown {
            uid: uid.into(),
            revision,
            ask,
            due: now.after(SHOWN_WITHIN),
            pause: SHOWN_WITHIN,
        });
    }

    /// The watch shows an object, and so the end of those that had its name before.
    pub(super) fn shown(&mut self, uid: &str, revision: Revision, ask: &Overdue) {
        self.shown_to_end(uid);
        self.outlive(ask, revision);
    }

    /// The watch shows the end of an object.
    pub(super) fn shown_to_end(&mut self, uid: &str) {
        self.unshown.retain(|unshown| &*unshown.uid != uid);
    }

    fn outlive(&mut self, ask: &Overdue, revision: Revision) {
        self.unshown
            .retain(|unshown| unshown.ask != *ask || unshown.revision > revision);
    }

    /// A GET says that there is no Guardian of this name.
    pub(super) fn not_there(&mut self, pod: &PodKey) {
        let named = |ask: &Overdue| matches!(ask, Overdue::Guardian(_, asked) if asked == pod);
        self.unshown.retain(|unshown| !named(&unshown.ask));
        if !self.memory.absent.contains(pod) {
            self.memory.absent.push(pod.clone());
        }
    }

    /// When the next object is to be asked for that only a GET has shown.
    pub(super) fn ask_again_at(&self) -> Option<Mono> {
        // One question at a time.
        let due = self.unshown.iter().map(|unshown| unshown.due).min();
        due.filter(|_| self.memory.overdue.is_none())
    }

    /// Whether the end of this Ticket is korder's own doing.
    pub(super) fn removed(&self, uid: &TicketUid) -> bool {
        let landed =
            |(_, expect, _): &(_, Expect, _)| matches!(expect, Expect::TicketGone(gone) if gone == uid);
        self.expects.iter().any(landed)
    }

    /// Drops the expectations that `seen` meets.
    pub(super) fn settle(&mut self, seen: &Settled<'_>) {
        self.expects.retain(|(_, expect, _)| !meets(seen, expect));
    }

    /// Notes what the watch will show, unless it has shown it already.
    pub(super) fn expect(
        &mut self,
        ticket: &TicketKey,
        expect: Expect,
        guardians: &[GuardianView],
        now: Mono,
    ) {
        let shown = match &expect {
            Expect::TicketGone(uid) => self.tickets.iter().all(|known| known.uid != *uid),
            Expect::GuardianGone(_, uid) => guardians.iter().all(|known| known.uid != *uid),
            Expect::Ticket(..) => self
                .tickets
                .iter()
                .any(|known| meets(&Settled::Ticket(known), &expect)),
            Expect::Guardian(..) => guardians
                .iter()
                .any(|known| meets(&Settled::Guardian(known), &expect)),
        };
        if !shown {
            self.expects
                .push((ticket.clone(), expect, now.after(SHOWN_WITHIN)));
        }
    }

    /// Until when the pair must not be decided; an expectation past its deadline becomes a GET.
    pub(super) fn waits_until(&mut self, now: Mono) -> Option<Mono> {
        if let Some((ticket, expect, deadline)) = self.expects.first() {
            if now < *deadline {
                return Some(*deadline);
            }
            self.memory.overdue.get_or_insert_with(|| match expect {
                Expect::Ticket(..) | Expect::TicketGone(_) => Overdue::Ticket(ticket.clone()),
                Expect::Guardian(pod, ..) | Expect::GuardianGone(pod, _) => {
                    Overdue::Guardian(ticket.clone(), pod.clone())
                }
            });
        }
        if self.memory.overdue.is_none()
            && let Some(unshown) = self.unshown.iter_mut().find(|unshown| now >= unshown.due)
        {
            unshown.pause = unshown.pause.saturating_mul(2).min(BELIEVED_FOR);
            unshown.due = now.after(unshown.pause);
            self.memory.overdue = Some(unshown.ask.clone());
        }
        self.hold_until.take_if(|until| now >= *until);
        self.hold_until
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
        if self.tickets.iter().any(|ticket| ticket.phase == Phase::Reserved) {
            self.changed = None;
        }
    }

    /// Whether the end of this Guardian is korder's own doing.
    pub(super) fn doomed(&self, uid: &PodUid) -> bool {
        self.busy
            .iter()
            .any(|(_, op)| matches!(op, Op::DeleteGuardian { uid: doomed, .. } | Op::DeleteOrphan { uid: doomed, .. } if doomed == uid))
            || self
                .expects
                .iter()
                .any(|(_, expect, _)| matches!(expect, Expect::GuardianGone(_, doomed) if doomed == uid))
    }

    /// Whether korder has removed this Guardian; one that is about to be removed may still only have lost
    /// its labels.
    pub(super) fn guardian_removed(&self, uid: &PodUid) -> bool {
        self.expects
            .iter()
            .any(|(_, expect, _)| matches!(expect, Expect::GuardianGone(_, gone) if gone == uid))
    }

    /// Whether this Guardian was made a moment ago and has not been seen yet.
    pub(super) fn made(&self, uid: &PodUid) -> bool {
        self.expects
            .iter()
            .any(|(_, expect, _)| matches!(expect, Expect::Guardian(_, made, _) if made == uid))
    }

    /// Whether a Guardian of this name was made a moment ago and has not been seen yet.
    pub(super) fn awaits_guardian(&self, pod: &PodKey) -> bool {
        self.expects
            .iter()
            .any(|(_, expect, _)| matches!(expect, Expect::Guardian(made, ..) if made == pod))
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
        !self.busy.is_empty() || !self.expects.is_empty()
    }

    /// Whether nothing is left that must be remembered.
    pub(super) fn idle(&self) -> bool {
        self.tickets.is_empty() && !self.awaits()
    }

    /// What the pair adds to its Order's counts; `spent` if no Ticket is due in this window any more.
    pub(super) fn summary(
        &self,
        desired: bool,
        spent: bool,
        template: Option<&Template>,
        guardians: &BTreeMap<TicketKey, Vec<GuardianView>>,
    ) -> PairSummary {
        let held =
            |ticket: &TicketView| matches!(ticket.phase, Phase::Reserved | Phase::Claiming | Phase::Claimed);
        let outdated = |ticket: &TicketView, template: &Template| {
            ticket.template_hash.as_ref() != template.hash.as_str()
        };
        let guarded = |ticket: &TicketView, template: &Template| {
            let own = guardians.get(&ticket.key).map_or(&[][..], Vec::as_slice);
            cover::guarded(own, ticket, template.hash.as_str())
        };
        let updated = |ticket: &TicketView| {
            template.is_some_and(|template| !outdated(ticket, template) && guarded(ticket, template))
        };
        // What is only to tolerate more, or is about to go, needs no grant.
        let stale = |ticket: &TicketView| {
            let replaced = |template: &Template| match outdated(ticket, template) {
                true => !ticket.outline.grows_into(&template.outline),
                false => !guarded(ticket, template),
            };
            !ticket.deleting && template.is_some_and(replaced)
        };
        let unavailable = desired && !spent && !self.tickets.iter().any(held);
        let reserved = |ticket: &&TicketView| ticket.phase == Phase::Reserved;
        // Also while its node is in its grace: its Guardian may not be bound when that is over.
        let rolling = |ticket: &TicketView| {
            ticket.phase == Phase::Pending && ticket.activated.is_some() && !ticket.deleting
        };
        PairSummary {
            desired,
            phases: self.tickets.iter().map(|ticket| ticket.phase).collect(),
            unavailable: unavailable.then(|| self.why(guardians)),
            updated: self.tickets.iter().filter(reserved).any(updated),
            stale: desired && self.tickets.iter().filter(reserved).any(stale),
            rolling: !self.node_gone && self.tickets.iter().any(rolling),
        }
    }

    fn why(&self, guardians: &BTreeMap<TicketKey, Vec<GuardianView>>) -> Arc<str> {
        let unschedulable = |ticket: &TicketView| {
            guardians.get(&ticket.key).is_some_and(|siblings| {
                siblings.iter().any(|guardian| {
                    matches!(
                        guardian.state,
                        GuardianState::Unbound {
                            unschedulable: Some(_)
                        }
                    )
                })
            })
        };
        // What a Ticket says outlasts what this replica remembers.
        let said = self
            .tickets
            .iter()
            .find_map(|ticket| ticket.reason.as_ref().filter(|_| ticket.phase == Phase::Pending));
        match &self.memory.trouble {
            Some(trouble) => trouble.reason.into(),
            None if self.tickets.iter().any(unschedulable) => reason::INSUFFICIENT_RESOURCES.into(),
            None => said.cloned().unwrap_or_else(|| reason::RESERVING.into()),
        }
    }
}

fn meets(seen: &Settled<'_>, expect: &Expect) -> bool {
    match (seen, expect) {
        (Settled::Ticket(view), Expect::Ticket(uid, revision)) => {
            view.uid == *uid && view.revision >= *revision
        }
        (Settled::TicketGone(gone), Expect::Ticket(uid, _) | Expect::TicketGone(uid)) => *gone == uid,
        (Settled::Guardian(view), Expect::Guardian(pod, uid, revision)) => {
            view.key == *pod && view.uid == *uid && view.revision >= *revision
        }
        (Settled::GuardianGone(gone), Expect::Guardian(_, uid, _) | Expect::GuardianGone(_, uid)) => {
            *gone == uid
        }
        _ => false,
    }
}
