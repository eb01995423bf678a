//! The plan of one pair in time: which window a Ticket belongs to, when it is renewed or expires, and
//! when a finished one goes.
//!
//! A function of the Order, the API server's time and the Tickets, like all of the plan.

use std::{cmp::Reverse, time::Duration};

use jiff::Timestamp;

use super::{Live, Plan, delete_guardian, delete_stranger, guardian_key, guardians, other_key};
use crate::{
    api::{
        order::{CleanupPolicy, RefreshPolicy},
        ticket::Phase,
    },
    domain::{
        order::window::{Agenda, CREATED_LATE, Window},
        pair::{
            observed::{GuardianView, TicketView},
            op::{Cause, Op, Seen, Term},
        },
        values::{
            hash::fnv1a64,
            ids::{NodeUid, OrderUid, PodKey},
            time::later,
        },
    },
};

/// The Tickets of an Order are renewed within so long, and within half of their new window.
const SPREAD: Duration = Duration::from_secs(60);
/// A window that begins later than this from now is not due to clocks that differ: one was set back.
const AHEAD: Duration = Duration::from_secs(60);
/// How far the clocks of two replicas may be apart.
const APART: Duration = Duration::from_secs(5);
/// How many finished Tickets `Retain` keeps.
const RETAINED: usize = 3;

/// What an open Ticket's window comes to.
#[derive(Debug, PartialEq)]
enum Stage {
    /// It is as its status says.
    Lasts,
    /// From then on the status is to name the current window.
    Renewal(Timestamp),
    /// It is over, and nothing followed it at once.
    Over,
}

impl From<Window> for Term {
    fn from(window: Window) -> Self {
        Self {
            start: window.start,
            end: window.end,
        }
    }
}

/// The window that a Ticket belongs to.
pub(crate) fn window_of(agenda: &Agenda, ticket: &TicketView) -> Option<Window> {
    agenda.latest(belongs_to(ticket))
}

/// Whether a Ticket belongs to the current window.
pub(crate) fn is_current(agenda: &Agenda, ticket: &TicketView) -> bool {
    agenda.current.is_some() && window_of(agenda, ticket) == agenda.current
}

/// Whether a finished Ticket has used the current window up.
pub(crate) fn spent(agenda: &Agenda, policy: RefreshPolicy, ticket: &TicketView, now: Timestamp) -> bool {
    match ticket.phase {
        // One Ticket per window.
        Phase::Released => policy == RefreshPolicy::Never && is_current(agenda, ticket),
        // Somebody whose clock is a little ahead has seen this very window end.
        Phase::Expired => agenda.current.is_some_and(|current| {
            let soon = |end| now < end && end <= later(now, APART);
            ticket.window_start == Some(current.start)
                && ticket.expires == current.end
                && current.end.is_some_and(soon)
                && ticket.finished_at >= current.end
        }),
        _ => false,
    }
}

fn belongs_to(ticket: &TicketView) -> Timestamp {
    ticket
        .window_start
        .unwrap_or_else(|| later(ticket.created, CREATED_LATE))
}

/// How long after the beginning of `window` the pair's Ticket is renewed.
fn turn(window: Window, order: &OrderUid, node: &NodeUid) -> Duration {
    let length = window
        .end
        .and_then(|end| Duration::try_from(end.duration_since(window.start)).ok());
    let spread = length.map_or(SPREAD, |length| SPREAD.min(length / 2)).as_millis();
    let hash = fnv1a64(format!("{order}/{node}").as_bytes());
    Duration::from_millis(u64::try_from(u128::from(hash) % spread.max(1)).expect("less than a minute"))
}

fn stage(agenda: &Agenda, ticket: &TicketView, now: Timestamp) -> Stage {
    let start = belongs_to(ticket);
    // Nothing is over before it has begun, whatever has happened to a clock.
    if start > now && (start <= later(now, AHEAD) || agenda.current.is_none()) {
        return Stage::Lasts;
    }
    let own = agenda.latest(start);
    // Otherwise the Order's strategy has changed since, or a clock was set back.
    let known =
        start <= now && own.is_some_and(|own| ticket.window_start.is_none_or(|said| said == own.start));
    let Some(current) = agenda.current else {
        return Stage::Over;
    };
    match own {
        Some(own) if known && own.start == current.start => {
            let unsaid = ticket.window_start.is_none() && ticket.expires.is_none();
            let needless = ticket.phase == Phase::Pending || current.end.is_none();
            let said = ticket.window_start == Some(current.start) && ticket.expires == current.end;
            if said || (unsaid && needless) {
                Stage::Lasts
            } else {
                Stage::Renewal(now)
            }
        }
        Some(own) if known && own.followed => {
            let turn = turn(current, &ticket.order, &ticket.node);
            Stage::Renewal(later(current.start, turn))
        }
        Some(_) if known => Stage::Over,
        _ => Stage::Renewal(now),
    }
}

impl Live<'_> {
    /// Sees to the window of an open Ticket; returns whether that is to be written first.
    pub(super) fn keep_time(&self, ticket: &TicketView, plan: &mut Plan) -> bool {
        let now = self.view.now;
        let Some(agenda) = self.view.agenda else {
            return false;
        };
        let begins = belongs_to(ticket);
        if now.server < begins {
            plan.wake_at(now.mono_at(begins));
        }
        match stage(agenda, ticket, now.server) {
            Stage::Lasts => false,
            Stage::Renewal(at) if now.server < at => {
                plan.wake_at(now.mono_at(at));
                false
            }
            Stage::Renewal(_) => {
                let current = agenda.current.expect("a renewal is into the current window");
                let op = Op::Renew {
                    uid: ticket.uid.clone(),
                    revision: ticket.revision,
                    term: current.into(),
                };
                plan.push(&ticket.key, op);
                true
            }
            Stage::Over if ticket.phase == Phase::Claiming => false,
            Stage::Over if self.hidden(ticket, plan) => true,
            Stage::Over => {
                let waited = ticket.phase == Phase::Pending;
                let own = window_of(agenda, ticket);
                // Of other windows than those that the Order had then, it keeps what it says.
                let own = own.filter(|own| ticket.window_start.is_none_or(|said| said == own.start));
                let op = Op::Expire {
                    uid: ticket.uid.clone(),
                    revision: ticket.revision,
                    term: own.map(Term::from),
                    finished: Seen(now.server),
                    reason: ticket.reason.clone().filter(|_| waited),
                    message: ticket.message.clone().filter(|_| waited),
                };
                plan.push(&ticket.key, op);
                true
            }
        }
    }

    /// Sees to all Tickets but the one that is kept open, if any, and looks again when a window begins or ends.
    pub(super) fn keep_times(&self, keeper: Option<&TicketView>, plan: &mut Plan) {
        let Some(agenda) = self.view.agenda else {
            let finished = self.view.belief.tickets().filter(|ticket| ticket.finished());
            for ticket in finished {
                self.unguard(ticket, plan);
            }
            return;
        };
        let claiming = |ticket: &&TicketView| ticket.phase == Phase::Claiming && !ticket.deleting;
        for ticket in self.view.belief.tickets().filter(claiming) {
            self.keep_time(ticket, plan);
        }
        self.tidy(agenda, keeper, plan);
        let renewed = agenda.current.is_some_and(|current| current.followed);
        let turn = match (agenda.next, keeper) {
            // All that is to be done then is to renew it, in its turn.
            (Some(next), Some(_)) if renewed => turn(next, &self.order.uid, &self.node.uid),
            _ => Duration::ZERO,
        };
        if let Some(until) = agenda.until() {
            plan.wake_at(self.view.now.mono_at(later(until, turn)));
        }
    }

    /// Whether a Ticket may be made at this time.
    pub(super) fn in_window(&self) -> bool {
        self.view.agenda.is_some_and(|agenda| agenda.current.is_some())
    }

    pub(super) fn spent(&self, policy: RefreshPolicy, ticket: &TicketView) -> bool {
        self.view
            .agenda
            .is_some_and(|agenda| spent(agenda, policy, ticket, self.view.now.server))
    }

    /// Finished Tickets hold no room, and go when nothing needs them any more.
    fn tidy(&self, agenda: &Agenda, keeper: Option<&TicketView>, plan: &mut Plan) {
        let Some(spec) = self.spec else {
            return;
        };
        let (lifecycle, now) = (&spec.template.lifecycle, self.view.now);
        let ttl = Duration::from_secs(lifecycle.ttl_seconds_after_finished.max(0).unsigned_abs());
        // An open Ticket that is about to go is no memory.
        let stays = |ticket: &&TicketView| {
            !ticket.deleting && (!ticket.open() || keeper.is_some_and(|keeper| keeper.uid == ticket.uid))
        };
        let lasting = self.view.belief.tickets().filter(stays);
        let newest = lasting.map(|ticket| ticket.sequence).max();
        let mut finished: Vec<_> = self
            .view
            .belief
            .tickets()
            .filter(|ticket| ticket.finished())
            .collect();
        finished.sort_by_key(|ticket| Reverse(ticket.sequence));
        for (rank, ticket) in finished.into_iter().enumerate() {
            if ticket.deleting || self.unguard(ticket, plan) {
                continue;
            }
            let memory = newest == Some(ticket.sequence) && needed(agenda, ticket);
            let ended = ticket.finished_at.or(ticket.expires).unwrap_or(ticket.created);
            let end = later(ended, ttl);
            let goes = match lifecycle.cleanup_policy {
                _ if memory => false,
                CleanupPolicy::Retain => rank >= RETAINED,
                CleanupPolicy::Delete if now.server < end => {
                    plan.wake_at(now.mono_at(end));
                    false
                }
                CleanupPolicy::Delete => true,
            };
            if goes {
                let op = Op::DeleteTicket {
                    uid: ticket.uid.clone(),
                    revision: ticket.revision,
                    cause: Cause::Finished,
                };
                plan.push(&ticket.key, op);
            }
        }
    }

    /// Removes the Guardians of a finished Ticket; returns whether there are any.
    fn unguard(&self, ticket: &TicketView, plan: &mut Plan) -> bool {
        let guardians = guardians(self.view, ticket);
        match guardians.iter().find(|guardian| !guardian.deleting) {
            Some(guardian) if guardian.ticket_uid == ticket.uid => {
                delete_guardian(ticket, guardian, Cause::Finished, plan);
            }
            Some(stranger) => {
                delete_stranger(ticket, stranger, plan);
            }
            None if guardians.is_empty() => return self.lost(ticket, plan),
            None => {}
        }
        !guardians.is_empty()
    }

    /// Asks for a Guardian of a finished Ticket that the watch says is gone; returns whether there is one to
    /// ask for.
    fn lost(&self, ticket: &TicketView, plan: &mut Plan) -> bool {
        let lost = self.view.belief.doubted_guardian(&ticket.key);
        if let Some(lost) = lost {
            plan.push(&ticket.key, Op::ConfirmGuardian(lost.clone()));
        }
        lost.is_some()
    }

    /// Sees to Guardians of a Ticket that is about to expire which no label leads to: they would hold room for as
    /// long as the Ticket is remembered. One that has lost its labels goes first, one that is not seen is asked for.
    fn hidden(&self, ticket: &TicketView, plan: &mut Plan) -> bool {
        let seen = guardians(self.view, ticket);
        let stripped =
            |one: &&&GuardianView| one.ticket_uid == ticket.uid && !one.deleting && !one.labels_intact;
        if let Some(stripped) = seen.iter().find(stripped) {
            delete_guardian(ticket, stripped, Cause::Finished, plan);
            return true;
        }
        let plain = guardian_key(&ticket.key);
        let other = other_key(&ticket.key, &plain);
        let unknown = |pod: &PodKey| {
            let may_be = match &ticket.pod_name {
                Some(name) => pod.name == *name,
                // One that took over room may have the other name; a Ticket that never had any has none.
                None => *pod == plain || ticket.activated.is_some(),
            };
            seen.is_empty() && may_be && !self.view.belief.absent(&ticket.key, pod)
        };
        let Some(pod) = [&plain, &other].into_iter().find(|pod| unknown(pod)) else {
            return false;
        };
        plan.push(&ticket.key, Op::ConfirmGuardian(pod.clone()));
        true
    }

    /// Names the window in every status that is written.
    pub(super) fn date(&self, plan: &mut Plan) {
        let Some(agenda) = self.view.agenda else {
            return;
        };
        for (key, op) in &mut plan.ops {
            if let Op::SetStatus { term, .. } = op {
                let ticket = self.view.belief.tickets().find(|ticket| ticket.key == *key);
                let own = || window_of(agenda, ticket?);
                *term = agenda.current.or_else(own).map(Term::from);
            }
        }
    }
}

/// Whether the pair's newest Ticket has to be remembered: its window is open, or a later one comes.
fn needed(agenda: &Agenda, ticket: &TicketView) -> bool {
    let own = window_of(agenda, ticket);
    let later = agenda
        .current
        .is_some_and(|current| own.is_none_or(|own| own.start <= current.start));
    later || agenda.next.is_some()
}
