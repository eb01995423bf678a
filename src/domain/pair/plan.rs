//! The plan of one pair: from what should be and what is seen to at most one [`Op`] per Ticket.
//!
//! A pure function, called again after every change; it remembers nothing. What it needs of the past
//! (failures, first sight of a reason) comes in as [`Memory`].

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    backoff::Backoff,
    belief::{Belief, Question},
    cover::{self, Step},
    names::{cover_name, guardian_name, next_sequence, ticket_name},
    observed::{GuardianState, GuardianView, TicketView},
    op::{Cause, Op, Seen, StatusChange},
    reason,
};
use crate::api::{order::RefreshPolicy, ticket::Phase};
use crate::domain::{
    node::{
        eligibility::{Keep, Verdict},
        record::Node,
    },
    order::{
        spec::{Order, Spec, Template},
        window::Agenda,
    },
    values::{
        ids::{NodeName, OrderKey, PodKey, TicketKey},
        time::{Mono, Now},
    },
};

pub(crate) mod term;

/// A reason must last this long before a Ticket that is Pending says it.
const REASON_LASTS: Duration = Duration::from_secs(5);

/// What is said of a Guardian that somebody else removed.
pub(crate) const DELETED: &str =
    "a user or another controller deleted or evicted the Guardian; korder makes another";

/// What is known of an object that a pair depends on.
#[derive(Clone, Debug)]
pub(crate) enum Fate<T> {
    /// It exists.
    Live(Arc<T>),
    /// It was seen to go, or a GET said that it is gone.
    Gone,
    /// This replica has not seen it; only a GET can tell.
    Unseen,
    /// It is being removed as a whole elsewhere: nothing is to be done pair by pair.
    Purging,
}

/// What a pair remembers between decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Failures of the Guardian, or refusals.
    pub(crate) backoff: Backoff,
    /// Why the pair has no running Guardian, if something failed.
    pub(crate) trouble: Option<Trouble>,
    /// The reason a Pending Ticket has now, and since when.
    pub(crate) pending: Option<(Arc<str>, Mono)>,
    /// Somebody else has removed a Ticket: the Order may be gone as well; a GET is to tell.
    pub(crate) order_in_doubt: bool,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A CamelCase word.
    pub(crate) reason: &'static str,
    /// The message for people.
    pub(crate) message: Arc<str>,
}

/// All that one decision reads.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) order: Fate<Order>,
    pub(crate) node: Fate<Node>,
    /// Whether the pair is eligible; read only when both live.
    pub(crate) verdict: Verdict,
    /// The Order's windows around `now`; none if it is invalid or does not live.
    pub(crate) agenda: Option<&'a Agenda>,
    /// The pair flaps: nothing is made for it and no Ticket taken away.
    pub(crate) held: bool,
    /// The pair's Tickets and Guardians.
    pub(crate) belief: &'a Belief,
    /// The past.
    pub(crate) memory: &'a Memory,
    /// Whether a Reserved Ticket of another template may be replaced now.
    pub(crate) may_replace: bool,
    /// Nothing may be created (the namespace is being deleted) until then.
    pub(crate) barred_until: Option<Mono>,
    /// The moment.
    pub(crate) now: Now,
}

/// What to do, and when to look again.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// At most one per Ticket.
    pub(crate) ops: Vec<(TicketKey, Op)>,
    /// Look again then even if nothing changes.
    pub(crate) wake: Option<Mono>,
    /// The reason a Pending Ticket has now, to be remembered with the time it began.
    pub(crate) pending: Option<Arc<str>>,
}

impl Plan {
    fn wake_at(&mut self, at: Mono) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn push(&mut self, ticket: &TicketKey, op: Op) {
        self.ops.push((ticket.clone(), op));
    }
}

/// Decides one pair.
pub(crate) fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    for question in view.belief.questions() {
        match question {
            Question::Ticket(key) => plan.push(&key, Op::ConfirmTicket),
            Question::Guardian(key, _) if plan.ops.iter().any(|(planned, _)| *planned == key) => {}
            Question::Guardian(key, pod) => plan.push(&key, Op::ConfirmGuardian(pod)),
        }
    }
    if plan.ops.is_empty() && !matches!(view.order, Fate::Purging) {
        for key in view.belief.doubted_tickets() {
            plan.push(key, Op::ConfirmTicket);
        }
    }
    if !plan.ops.is_empty() {
        return plan;
    }
    match (&view.order, &view.node) {
        (Fate::Purging, _) => {}
        (Fate::Gone, _) => remove_all(view, Cause::OrderGone, &mut plan),
        (Fate::Unseen, _) => {
            for ticket in view.belief.tickets() {
                let key = OrderKey {
                    namespace: ticket.key.namespace.clone(),
                    name: ticket.order_name.clone(),
                };
                plan.push(
                    &ticket.key,
                    Op::ConfirmOrder {
                        key,
                        uid: ticket.order.clone(),
                    },
                );
            }
        }
        (Fate::Live(_), Fate::Gone | Fate::Purging) => remove_all(view, Cause::NodeGone, &mut plan),
        (Fate::Live(_), Fate::Unseen) => {
            for ticket in view.belief.tickets() {
                plan.push(&ticket.key, Op::ConfirmNode(Box::new(ticket.clone())));
            }
        }
        (Fate::Live(order), Fate::Live(node)) => {
            let spec = order.spec.as_ref().ok();
            let live = Live {
                view,
                order,
                spec,
                node,
            };
            live.decide(&mut plan);
            live.date(&mut plan);
        }
    }
    plan
}

fn remove_all(view: &View<'_>, cause: Cause, plan: &mut Plan) {
    for ticket in view.belief.tickets() {
        remove(view, ticket, cause, plan);
    }
}

/// The Guardians first, then the Ticket once they are seen to be gone.
fn remove(view: &View<'_>, ticket: &TicketView, cause: Cause, plan: &mut Plan) {
    let guardians = guardians(view, ticket);
    if let Some(guardian) = guardians.iter().find(|guardian| !guardian.deleting) {
        if guardian.ticket_uid == ticket.uid {
            delete_guardian(ticket, guardian, cause, plan);
        } else {
            delete_stranger(ticket, guardian, plan);
        }
    } else if guardians.is_empty() && !ticket.deleting {
        plan.push(
            &ticket.key,
            Op::DeleteTicket {
                uid: ticket.uid.clone(),
                revision: ticket.revision,
                cause,
            },
        );
    }
}

fn guardians<'a>(view: &View<'a>, ticket: &TicketView) -> Vec<&'a GuardianView> {
    view.belief.guardians(&ticket.key)
}

/// Whether a Ticket keeps its pair from getting another, whatever its window is.
fn counts(ticket: &TicketView, policy: RefreshPolicy) -> bool {
    match ticket.phase {
        Phase::Pending | Phase::Reserved | Phase::Claiming => true,
        Phase::Claimed => matches!(policy, RefreshPolicy::OnRelease | RefreshPolicy::Never),
        Phase::Released | Phase::Expired => false,
    }
}

/// The decision when Order and Node both live.
struct Live<'a> {
    view: &'a View<'a>,
    order: &'a Arc<Order>,
    /// None if the Order is invalid: then nothing is made, replaced or taken away, but what is there says
    /// what it is.
    spec: Option<&'a Spec>,
    node: &'a Arc<Node>,
}

impl Live<'_> {
    fn decide(&self, plan: &mut Plan) {
        let mut open: Vec<&TicketView> = self
            .view
            .belief
            .tickets()
            .filter(|ticket| ticket.open())
            .collect();
        open.sort_by_key(|ticket| (ticket.deleting, ticket.phase != Phase::Reserved, ticket.sequence));
        if self.spec.is_some() {
            for duplicate in open.iter().skip(1).filter(|ticket| !ticket.deleting) {
                remove(self.view, duplicate, Cause::Duplicate, plan);
            }
        }
        let keeper = open.first().filter(|ticket| !ticket.deleting);
        let mut goes = false;
        match self.view.verdict {
            Verdict::Ineligible { reason, keep } if !self.order.paused && !self.view.held => {
                goes = keep.ends(self.view.now.server);
                match (keep, keeper) {
                    (_, None) => {}
                    (Keep::Remove, Some(ticket)) => {
                        remove(self.view, ticket, Cause::Ineligible(reason), plan)
                    }
                    (Keep::Until(end), Some(ticket)) if self.view.now.server >= end => {
                        remove(self.view, ticket, Cause::Ineligible(reason), plan);
                    }
                    (Keep::Until(end), Some(ticket)) => {
                        plan.wake_at(self.view.now.mono_at(end));
                        self.hold(ticket, plan);
                    }
                    (Keep::Forever, Some(ticket)) => self.hold(ticket, plan),
                }
            }
            _ => match keeper {
                Some(ticket) => self.hold(ticket, plan),
                None => self.create_ticket(plan),
            },
        }
        self.keep_times(keeper.copied().filter(|_| !goes), plan);
    }

    fn eligible(&self) -> bool {
        self.spec.is_some() && self.view.verdict.is_eligible() && !self.view.held
    }

    fn create_ticket(&self, plan: &mut Plan) {
        let Some(spec) = self.spec.filter(|_| self.eligible() && self.in_window()) else {
            return;
        };
        let policy = spec.strategy.refresh_policy;
        let keeps = |ticket| counts(ticket, policy) || self.spent(policy, ticket);
        if self.view.belief.tickets().any(keeps) || !self.may_create(plan) {
            return;
        }
        let sequence = next_sequence(self.view.belief.tickets().map(|ticket| ticket.sequence));
        let name = ticket_name(&self.order.key.name, &self.order.uid, &self.node.uid, sequence);
        let key = TicketKey::new(self.order.key.namespace.clone(), name);
        if self.view.memory.order_in_doubt {
            let (order, uid) = (self.order.key.clone(), self.order.uid.clone());
            return plan.push(&key, Op::ConfirmOrder { key: order, uid });
        }
        plan.push(
            &key,
            Op::CreateTicket {
                order: self.order.clone(),
                node: self.node.clone(),
                sequence,
            },
        );
    }

    /// Not while paused, barred or backing off; looks again when the last two end.
    fn may_create(&self, plan: &mut Plan) -> bool {
        let (now, retry_at) = (self.view.now.mono, self.view.memory.backoff.retry_at());
        let not_before = self
            .view
            .barred_until
            .map_or(retry_at, |barred| barred.max(retry_at));
        if now < not_before {
            plan.wake_at(not_before);
        }
        !self.order.paused && now >= not_before
    }

    /// Keeps one open Ticket as it should be.
    fn hold(&self, ticket: &TicketView, plan: &mut Plan) {
        if self.keep_time(ticket, plan) {
            return;
        }
        if let Some(spec) = self.spec {
            let template = &spec.template;
            let outdated = ticket.template_hash.as_ref() != template.hash.as_str();
            let replaced = ticket.phase == Phase::Reserved
                && !cover::guarded(&guardians(self.view, ticket), ticket, &ticket.template_hash);
            let due = (outdated || replaced) && self.eligible() && !self.order.paused;
            let grows = outdated && ticket.demand.grows_into(&template.demand);
            let waits = !due || (!grows && ticket.phase == Phase::Reserved && !self.view.may_replace);
            if waits && (!ticket.labels_intact || out_of_line(ticket, template)) {
                return self.sync(ticket, !outdated, plan);
            }
            if due && let Some(nameless) = self.nameless(ticket) {
                self.relabel(ticket, nameless, plan);
                return;
            }
            if due && grows && !self.taking_over(ticket) {
                return self.extend(ticket, plan);
            }
            if due && !grows {
                return self.replace(ticket, plan);
            }
        }
        match self.standing(ticket, plan) {
            Standing::Done => {}
            Standing::Bound(pod) => self.reserved(ticket, pod, plan),
            Standing::Waiting(message) => self.waiting(ticket, message, plan),
            Standing::Missing => self.missing(ticket, plan),
        }
    }

    /// The Guardian of a Reserved Ticket, if it has lost what says of which template it is: once the Ticket asks
    /// for something else, nothing could tell.
    fn nameless(&self, ticket: &TicketView) -> Option<&GuardianView> {
        let own = |one: &&GuardianView| {
            one.ticket_uid == ticket.uid && !one.deleting && one.template_hash.is_none()
        };
        let found = guardians(self.view, ticket).into_iter().find(own);
        found.filter(|_| ticket.phase == Phase::Reserved)
    }

    /// Whether one of the Ticket's Guardians is taking over from another: nothing is written to either of
    /// them then but what that asks for.
    fn taking_over(&self, ticket: &TicketView) -> bool {
        ticket.phase == Phase::Pending && guardians(self.view, ticket).len() > 1
    }

    /// A Ticket of another template: Pending first, then the new spec; its Guardian is replaced under cover.
    fn replace(&self, ticket: &TicketView, plan: &mut Plan) {
        if ticket.phase == Phase::Reserved && self.view.may_replace {
            let message = "the Order's template has changed; korder replaces the Guardian";
            self.set_pending(ticket, reason::ROLLING_OUT, message.into(), plan);
        } else if ticket.phase == Phase::Reserved {
            // Until its turn comes it is Reserved only while its Guardian holds the room.
            match self.standing(ticket, plan) {
                Standing::Missing => self.missing(ticket, plan),
                Standing::Waiting(message) => self.waiting(ticket, message, plan),
                Standing::Bound(_) | Standing::Done => {}
            }
        } else if let Some(pod) = self.held_by(ticket) {
            // Nobody said that it may be replaced.
            self.reserved(ticket, pod, plan);
        } else {
            self.sync(ticket, true, plan);
        }
    }

    /// The Guardian that holds a Pending Ticket's room as the Ticket asks, unless it is being replaced.
    fn held_by(&self, ticket: &TicketView) -> Option<Arc<str>> {
        let bound = |guardian: &&GuardianView| {
            let here = matches!(&guardian.state, GuardianState::Bound(node) if *node == self.node.name);
            here && guardian.ticket_uid == ticket.uid && !guardian.deleting && cover::fits(guardian, ticket)
        };
        let rolling = ticket.reason.as_deref() == Some(reason::ROLLING_OUT);
        let holder = guardians(self.view, ticket).into_iter().find(bound);
        holder.filter(|_| !rolling).map(|holder| holder.key.name.clone())
    }

    /// A Ticket that is to tolerate more, and nothing else: its Guardian first, which keeps running.
    fn extend(&self, ticket: &TicketView, plan: &mut Plan) {
        let of_ticket = |guardian: &&GuardianView| {
            guardian.ticket_uid == ticket.uid && !guardian.deleting && cover::fits(guardian, ticket)
        };
        match guardians(self.view, ticket).into_iter().find(of_ticket) {
            Some(guardian) => plan.push(
                &ticket.key,
                Op::ExtendGuardian {
                    pod: guardian.key.clone(),
                    uid: guardian.uid.clone(),
                    order: self.order.clone(),
                },
            ),
            // One that is out of sight is found first: it is known to tolerate no more than it did.
            None if ticket.phase == Phase::Reserved && guardians(self.view, ticket).is_empty() => {
                self.missing(ticket, plan);
            }
            None => self.sync(ticket, true, plan),
        }
    }

    /// Edits a Ticket in place; `asks` if it is to ask for what the template asks for, too.
    fn sync(&self, ticket: &TicketView, asks: bool, plan: &mut Plan) {
        let op = Op::SyncTicket {
            uid: ticket.uid.clone(),
            order: self.order.clone(),
            ticket: Box::new(ticket.clone()),
            asks,
        };
        plan.push(&ticket.key, op);
    }

    /// What the Ticket's Guardians come to; sees to those that must go or be mended.
    fn standing(&self, ticket: &TicketView, plan: &mut Plan) -> Standing {
        let all = guardians(self.view, ticket);
        let stranger = |guardian: &&GuardianView| guardian.ticket_uid != ticket.uid && !guardian.deleting;
        if let Some(stranger) = all.iter().copied().find(stranger) {
            return delete_stranger(ticket, stranger, plan);
        }
        let Some(guardian) = best(&all, ticket, &self.node.name) else {
            return if all.is_empty() {
                Standing::Missing
            } else {
                Standing::Done
            };
        };
        if ticket.phase == Phase::Pending
            && let Some(step) = cover::step(ticket, &all, &self.node.name, self.eligible())
        {
            return self.take_over(ticket, step, plan);
        }
        if let Some(extra) = all
            .iter()
            .find(|other| other.uid != guardian.uid && !other.deleting)
        {
            return delete_guardian(ticket, extra, Cause::Duplicate, plan);
        }
        if guardian.deleting {
            return self.demote(ticket, (reason::GUARDIAN_DELETED, DELETED.into()), plan);
        }
        if !guardian.labels_intact || guardian.order != self.order.uid {
            return self.relabel(ticket, guardian, plan);
        }
        match &guardian.state {
            GuardianState::Ended { message } if ticket.phase == Phase::Reserved => {
                self.demote(ticket, (reason::GUARDIAN_ENDED, message.clone()), plan)
            }
            GuardianState::Ended { .. } => delete_guardian(ticket, guardian, Cause::GuardianEnded, plan),
            GuardianState::Bound(node) if *node == self.node.name => {
                Standing::Bound(guardian.key.name.clone())
            }
            GuardianState::Bound(_) => delete_guardian(ticket, guardian, Cause::WrongNode, plan),
            GuardianState::Unbound { unschedulable } => Standing::Waiting(unschedulable.clone()),
        }
    }

    /// Puts back what a Guardian is known by.
    fn relabel(&self, ticket: &TicketView, guardian: &GuardianView, plan: &mut Plan) -> Standing {
        let op = Op::RelabelGuardian {
            pod: guardian.key.clone(),
            uid: guardian.uid.clone(),
            order: self.order.uid.clone(),
            // While nothing is being replaced, it is what the Ticket asks for.
            template_hash: (ticket.phase == Phase::Reserved && guardian.template_hash.is_none())
                .then(|| ticket.template_hash.clone()),
        };
        plan.push(&ticket.key, op);
        Standing::Done
    }

    /// One step of a replacement under cover.
    fn take_over(&self, ticket: &TicketView, step: Step<'_>, plan: &mut Plan) -> Standing {
        let op = match step {
            Step::Make(pod) => {
                self.create_guardian(ticket, pod, true, plan);
                return Standing::Done;
            }
            Step::Nominate(guardian) => Op::NominateGuardian {
                pod: guardian.key.clone(),
                uid: guardian.uid.clone(),
                revision: guardian.revision,
                node: self.node.name.clone(),
            },
            Step::Ungate(guardian) => Op::UngateGuardian {
                pod: guardian.key.clone(),
                uid: guardian.uid.clone(),
                gates: guardian.other_gates(),
                unless: other_key(&ticket.key, &guardian.key),
            },
            Step::Remove(guardian, cause) => return delete_guardian(ticket, guardian, cause, plan),
            Step::Wait => return Standing::Done,
        };
        plan.push(&ticket.key, op);
        Standing::Done
    }

    /// Makes a Guardian if that may be; or else says why there is none.
    fn create_guardian(&self, ticket: &TicketView, pod: PodKey, covered: bool, plan: &mut Plan) {
        let trouble = self.view.memory.trouble.as_ref();
        if self.eligible() && self.may_create(plan) {
            // A try does not end what a Ticket says of the tries before it.
            plan.pending = trouble.map(|trouble| reason::gist(trouble.reason, &trouble.message));
            // One that took over room may have the other name; a Ticket that never had any has none.
            let unless = (!covered && ticket.activated.is_some()).then(|| other_key(&ticket.key, &pod));
            let op = Op::CreateGuardian {
                pod,
                covered,
                unless,
                uid: ticket.uid.clone(),
                order: self.order.clone(),
                node: self.node.clone(),
            };
            plan.push(&ticket.key, op);
        } else if let Some(trouble) = trouble {
            self.say(ticket, trouble.reason, trouble.message.clone(), plan);
        }
    }

    fn reserved(&self, ticket: &TicketView, pod: Arc<str>, plan: &mut Plan) {
        if ticket.phase == Phase::Reserved && ticket.pod_name.as_ref() == Some(&pod) {
            return;
        }
        if let Some(other) = self.unseen(ticket, &pod) {
            return plan.push(&ticket.key, Op::ConfirmGuardian(other));
        }
        let status = StatusChange {
            phase: Phase::Reserved,
            reason: None,
            message: None,
            pod_name: Some(pod),
            activation: ticket.activated.is_none().then_some(Seen(self.view.now.server)),
        };
        set_status(ticket, status, plan);
    }

    /// Where a second Guardian may be that no watch shows, as it has lost its labels: it would hold room
    /// beside this one for as long as the Ticket lives.
    fn unseen(&self, ticket: &TicketView, pod: &str) -> Option<PodKey> {
        let name = cover_name(&ticket.key.name, pod);
        let other = PodKey::new(ticket.key.namespace.clone(), name);
        let again = ticket.phase == Phase::Pending && ticket.activated.is_some();
        let seen = guardians(self.view, ticket).iter().any(|one| one.key == other);
        (again && !seen && !self.view.belief.absent(&ticket.key, &other)).then_some(other)
    }

    /// A Guardian that is not bound yet, with the scheduler's message if there is one.
    fn waiting(&self, ticket: &TicketView, message: Option<Arc<str>>, plan: &mut Plan) {
        if ticket.phase == Phase::Reserved {
            self.demote(ticket, missing(), plan);
        } else if let Some(message) = message {
            self.say(ticket, reason::INSUFFICIENT_RESOURCES, message, plan);
        }
    }

    /// No Guardian: confirmed by a GET, then Pending, then made again when it may be.
    fn missing(&self, ticket: &TicketView, plan: &mut Plan) {
        let named = ticket
            .pod_name
            .as_ref()
            .filter(|_| ticket.phase == Phase::Reserved);
        let named = named.map(|name| PodKey::new(ticket.key.namespace.clone(), name.clone()));
        let named = named.filter(|named| !self.view.belief.absent(&ticket.key, named));
        if let Some(pod) = self.view.belief.doubted_guardian(&ticket.key).cloned().or(named) {
            plan.push(&ticket.key, Op::ConfirmGuardian(pod));
        } else if ticket.phase == Phase::Reserved {
            self.demote(ticket, missing(), plan);
        } else {
            self.create_guardian(ticket, guardian_key(&ticket.key), false, plan);
        }
    }

    /// Reserved → Pending, at once, with the trouble that is known, or else with what is seen.
    fn demote(&self, ticket: &TicketView, seen: (&'static str, Arc<str>), plan: &mut Plan) -> Standing {
        let trouble = self.view.memory.trouble.as_ref();
        let (reason, message) = trouble.map_or(seen, |trouble| (trouble.reason, trouble.message.clone()));
        if ticket.phase == Phase::Reserved {
            self.set_pending(ticket, reason, message, plan);
        }
        Standing::Done
    }

    fn set_pending(&self, ticket: &TicketView, reason: &'static str, message: Arc<str>, plan: &mut Plan) {
        let status = StatusChange {
            phase: Phase::Pending,
            reason: Some(reason.into()),
            message: Some(message),
            pod_name: None,
            activation: None,
        };
        set_status(ticket, status, plan);
    }

    /// Writes a Pending Ticket's reason once it has lasted.
    fn say(&self, ticket: &TicketView, reason: &'static str, message: Arc<str>, plan: &mut Plan) {
        let gist = reason::gist(reason, &message);
        let said = ticket.reason.as_deref() == Some(reason)
            && ticket
                .message
                .as_deref()
                .is_some_and(|said| reason::gist(reason, said) == gist);
        let since = match &self.view.memory.pending {
            Some((before, since)) if *before == gist => *since,
            _ => self.view.now.mono,
        };
        plan.pending = Some(gist);
        if said {
        } else if self.view.now.mono >= since.after(REASON_LASTS) {
            self.set_pending(ticket, reason, message, plan);
        } else {
            plan.wake_at(since.after(REASON_LASTS));
        }
    }
}

/// What can be said of a Guardian that nobody saw go.
fn missing() -> (&'static str, Arc<str>) {
    (
        reason::GUARDIAN_MISSING,
        "there is no Guardian, and korder did not see it go".into(),
    )
}

/// What the Guardians of a Ticket come to.
enum Standing {
    /// Nothing more to do now.
    Done,
    /// Bound to the pair's node.
    Bound(Arc<str>),
    /// Not bound, with the scheduler's message.
    Waiting(Option<Arc<str>>),
    /// There is none.
    Missing,
}

/// The Guardian of this Ticket that holds room best. One that a Reserved Ticket names is bound, whatever an old list
/// says of it and of the one before it.
fn best<'a>(
    guardians: &[&'a GuardianView],
    ticket: &TicketView,
    node: &NodeName,
) -> Option<&'a GuardianView> {
    guardians
        .iter()
        .copied()
        .filter(|guardian| guardian.ticket_uid == ticket.uid)
        .min_by_key(|guardian| {
            let named =
                ticket.phase == Phase::Reserved && ticket.pod_name.as_ref() == Some(&guardian.key.name);
            let lost = match &guardian.state {
                GuardianState::Bound(on) => on != node,
                GuardianState::Ended { .. } => true,
                GuardianState::Unbound { .. } => false,
            };
            (
                guardian.deleting,
                !named || lost,
                Reverse(cover::hold(guardian, node)),
                !cover::fits(guardian, ticket),
                guardian.key.name.len(),
            )
        })
}

fn delete_guardian(ticket: &TicketView, guardian: &GuardianView, cause: Cause, plan: &mut Plan) -> Standing {
    let (pod, uid) = (guardian.key.clone(), guardian.uid.clone());
    plan.push(&ticket.key, Op::DeleteGuardian { pod, uid, cause });
    Standing::Done
}

/// A Guardian of another Ticket of this name. Which of the two Tickets is the older one only a GET can tell:
/// the list that this one is from may be stale.
fn delete_stranger(ticket: &TicketView, guardian: &GuardianView, plan: &mut Plan) -> Standing {
    let op = Op::DeleteOrphan {
        pod: guardian.key.clone(),
        uid: guardian.uid.clone(),
        ticket: guardian.ticket_uid.clone(),
    };
    plan.push(&ticket.key, op);
    Standing::Done
}

fn set_status(ticket: &TicketView, status: StatusChange, plan: &mut Plan) {
    let op = Op::SetStatus {
        uid: ticket.uid.clone(),
        revision: ticket.revision,
        status,
        term: None,
    };
    plan.push(&ticket.key, op);
}

/// Whether something that is edited in place differs from the template.
fn out_of_line(ticket: &TicketView, template: &Template) -> bool {
    ticket.duration.as_deref() != template.duration.as_deref()
        || ticket.lifecycle != template.lifecycle
        || !contains(&ticket.labels, &template.labels)
        || !contains(&ticket.annotations, &template.annotations)
}

fn contains(all: &BTreeMap<String, String>, some: &BTreeMap<String, String>) -> bool {
    some.iter().all(|(key, value)| all.get(key) == Some(value))
}

/// The other of the two names that a Ticket's Guardian may have.
fn other_key(ticket: &TicketKey, pod: &PodKey) -> PodKey {
    PodKey::new(ticket.namespace.clone(), cover_name(&ticket.name, &pod.name))
}

/// The name under which a Ticket's Guardian is made.
pub(crate) fn guardian_key(ticket: &TicketKey) -> PodKey {
    PodKey::new(ticket.namespace.clone(), guardian_name(&ticket.name))
}
