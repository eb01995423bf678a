//! What is believed of a pair's Tickets and Guardians, each by the one machine of [`object`].
//!
//! Owns what has been seen, what korder's own writes have yet to show, and what a GET is to tell. A shard tells it what
//! it hears; `plan` asks it. Guardians belong to a Ticket that is known, and leave with it.

mod object;

use self::object::{Ended, Object, Shows, View};
use super::{
    observed::{GuardianView, TicketView},
    op::Expect,
};
use crate::domain::values::{
    ids::{PodKey, PodUid, TicketKey, TicketUid},
    time::Mono,
};

/// What is believed of one pair's objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Belief {
    tickets: Vec<Named<TicketKey, TicketView>>,
    guardians: Vec<Named<(TicketKey, PodKey), GuardianView>>,
}

/// A GET that has to come before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Ticket(TicketKey),
    Guardian(TicketKey, PodKey),
}

/// What the end of an object, as a watch shows it, comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing that was believed.
    Nothing,
    /// The Ticket is gone, and these Guardians are nobody's now.
    Ticket(Vec<GuardianView>),
    /// A GET is to confirm it.
    Doubted,
}

/// What was believed of a Guardian that a GET does not find.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// The one that was believed in.
    pub(crate) view: Option<GuardianView>,
    /// It should have been there: it was just made, or the watch had said that it is gone.
    pub(crate) lost: bool,
    /// korder itself has removed it.
    pub(crate) removed: bool,
}

#[derive(Clone, Debug)]
struct Named<K, V: View> {
    name: K,
    object: Object<V>,
}

fn find<K: Eq, V: View>(all: &[Named<K, V>], name: &K) -> Option<usize> {
    all.iter().position(|one| one.name == *name)
}

fn of<K: Eq, V: View>(all: &mut Vec<Named<K, V>>, name: K) -> &mut Object<V> {
    let at = find(all, &name).unwrap_or_else(|| {
        let object = Object::default();
        all.push(Named { name, object });
        all.len() - 1
    });
    &mut all[at].object
}

impl Belief {
    /// What a watch that is believed shows, such as what was just read.
    pub(crate) fn of(
        tickets: impl IntoIterator<Item = TicketView>,
        guardians: impl IntoIterator<Item = GuardianView>,
    ) -> Self {
        let mut belief = Self::default();
        for ticket in tickets {
            belief.ticket_shown(ticket);
        }
        for guardian in guardians {
            belief.guardian_shown(guardian);
        }
        belief
    }

    /// The watch shows a Ticket, new or changed.
    pub(crate) fn ticket_shown(&mut self, view: TicketView) -> bool {
        of(&mut self.tickets, view.key.clone()).shown(view)
    }

    /// A read shows a Ticket.
    pub(crate) fn ticket_read(&mut self, view: TicketView, now: Mono) -> bool {
        of(&mut self.tickets, view.key.clone()).read(view, now)
    }

    /// A watch, that of Tickets without labels or the other, shows the end of a Ticket. Only the one that had it last
    /// is to be believed.
    pub(crate) fn ticket_ended(
        &mut self,
        key: &TicketKey,
        uid: &TicketUid,
        unlabelled: bool,
        now: Mono,
    ) -> End {
        let Some(at) = find(&self.tickets, key) else {
            return End::Nothing;
        };
        let object = &mut self.tickets[at].object;
        let elsewhere = object.view().is_some_and(|view| view.unlabelled != unlabelled);
        if elsewhere && !object.removed(uid) {
            return End::Nothing;
        }
        match object.ended(uid, now) {
            Ended::Other => End::Nothing,
            Ended::Doubted => End::Doubted,
            Ended::Removed => self.forget(at),
        }
    }

    /// A Ticket is gone; of any uid, if none is named.
    pub(crate) fn ticket_gone(&mut self, key: &TicketKey, uid: Option<&TicketUid>) -> End {
        let Some(at) = find(&self.tickets, key) else {
            return End::Nothing;
        };
        let view = self.tickets[at].object.view();
        if uid.is_some_and(|uid| view.is_some_and(|view| view.uid != *uid)) {
            return End::Nothing;
        }
        self.forget(at)
    }

    fn forget(&mut self, at: usize) -> End {
        let ticket = self.tickets.remove(at).name;
        let mut left = Vec::new();
        self.guardians.retain(|one| {
            let other = one.name.0 != ticket;
            if !other {
                left.extend(one.object.view().cloned());
            }
            other
        });
        End::Ticket(left)
    }

    /// The watch shows a Guardian of a known Ticket, new or changed. Returns whether that is news.
    pub(crate) fn guardian_shown(&mut self, view: GuardianView) -> bool {
        of(&mut self.guardians, name(&view)).shown(view)
    }

    /// A GET shows a Guardian of a known Ticket. Returns whether that is news.
    pub(crate) fn guardian_read(&mut self, view: GuardianView, now: Mono) -> bool {
        of(&mut self.guardians, name(&view)).read(view, now)
    }

    /// The watch shows the end of a Guardian.
    pub(crate) fn guardian_ended(&mut self, ticket: &TicketKey, pod: &PodKey, uid: &PodUid, now: Mono) {
        let name = (ticket.clone(), pod.clone());
        let Some(at) = find(&self.guardians, &name) else {
            return;
        };
        // That of an earlier Ticket of this name goes with it.
        let owner = self.guardians[at]
            .object
            .view()
            .map(|view| view.ticket_uid.clone());
        let stranger = owner.is_some_and(|owner| self.tickets().all(|ticket| ticket.uid != owner));
        let object = &mut self.guardians[at].object;
        let known = object.view().is_some_and(|view| view.uid == *uid);
        object.ended(uid, now);
        if (known && stranger) || object.is_empty() {
            self.guardians.remove(at);
        }
    }

    /// A GET finds no Guardian of this name.
    pub(crate) fn guardian_absent(&mut self, ticket: &TicketKey, pod: &PodKey) -> Missed {
        let object = of(&mut self.guardians, (ticket.clone(), pod.clone()));
        let expected = object.doubted() || object.awaits_revision();
        let removed = object.view().is_some_and(|view| object.removed(&view.uid));
        let view = object.absent();
        let owner = view.as_ref().map(|view| &view.ticket_uid);
        let own = owner.is_some_and(|owner| self.tickets().any(|ticket| ticket.uid == *owner));
        Missed {
            lost: expected || own,
            view,
            removed,
        }
    }

    /// An own write to an object of this Ticket has landed. Returns what it ended, if the watch had shown that before.
    pub(crate) fn landed(&mut self, ticket: &TicketKey, expect: Expect, now: Mono) -> End {
        let guardian = |pod| (ticket.clone(), pod);
        match expect {
            Expect::Ticket(uid, least) => {
                of(&mut self.tickets, ticket.clone()).landed(uid, Shows::Revision(least), now);
            }
            Expect::TicketGone(uid) => {
                if of(&mut self.tickets, ticket.clone()).landed(uid, Shows::End, now)
                    && let Some(at) = find(&self.tickets, ticket)
                {
                    return self.forget(at);
                }
            }
            Expect::Guardian(pod, uid, least) => {
                of(&mut self.guardians, guardian(pod)).landed(uid, Shows::Revision(least), now);
            }
            Expect::GuardianGone(pod, uid) => {
                of(&mut self.guardians, guardian(pod)).landed(uid, Shows::End, now);
            }
        }
        self.tidy();
        End::Nothing
    }

    /// Whether a write to the Ticket landed is not known.
    pub(crate) fn unknown(&mut self, ticket: &TicketKey) {
        of(&mut self.tickets, ticket.clone()).unknown();
    }

    /// The GET of a Ticket, or of one of its Guardians, has been answered.
    pub(crate) fn answered(&mut self, ticket: &TicketKey, pod: Option<&PodKey>) {
        match pod {
            None => of(&mut self.tickets, ticket.clone()).answered(),
            Some(pod) => of(&mut self.guardians, (ticket.clone(), pod.clone())).answered(),
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.tickets.retain(|one| !one.object.is_empty());
        self.guardians.retain(|one| !one.object.is_empty());
    }

    /// Time has passed: until when nothing is to be decided, as own writes are yet to be shown.
    pub(crate) fn look(&mut self, now: Mono) -> Option<Mono> {
        self.tickets.iter_mut().for_each(|one| one.object.look(now));
        self.guardians.iter_mut().for_each(|one| one.object.look(now));
        self.awaited_until().min().filter(|_| !self.asks())
    }

    fn awaited_until(&self) -> impl Iterator<Item = Mono> {
        let tickets = self.tickets.iter().map(|one| one.object.awaited_until());
        let guardians = self.guardians.iter().map(|one| one.object.awaited_until());
        tickets.chain(guardians).flatten()
    }

    /// The Tickets that are believed in.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &TicketView> + Clone {
        self.tickets.iter().filter_map(|one| one.object.view())
    }

    /// The Guardians of this Ticket that are believed in.
    pub(crate) fn guardians(&self, ticket: &TicketKey) -> Vec<&GuardianView> {
        let of_ticket = self.guardians.iter().filter(|one| one.name.0 == *ticket);
        of_ticket.filter_map(|one| one.object.view()).collect()
    }

    /// Whether a GET has to come before anything else.
    pub(crate) fn asks(&self) -> bool {
        self.tickets.iter().any(|one| one.object.asks()) || self.guardians.iter().any(|one| one.object.asks())
    }

    /// The GETs that have to come before anything else.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Question> {
        let tickets = self.tickets.iter().filter(|one| one.object.asks());
        let guardians = self.guardians.iter().filter(|one| one.object.asks());
        let guardian = |(ticket, pod): &(TicketKey, PodKey)| Question::Guardian(ticket.clone(), pod.clone());
        let tickets = tickets.map(|one| Question::Ticket(one.name.clone()));
        tickets.chain(guardians.map(move |one| guardian(&one.name)))
    }

    /// Tickets that a watch says are gone, although nobody here has removed them: a GET is to confirm it.
    pub(crate) fn doubted_tickets(&self) -> impl Iterator<Item = &TicketKey> {
        let doubted = self.tickets.iter().filter(|one| one.object.doubted());
        doubted.map(|one| &one.name)
    }

    /// A Guardian of this Ticket that the watch says is gone, although nobody here has removed it.
    pub(crate) fn doubted_guardian(&self, ticket: &TicketKey) -> Option<&PodKey> {
        let doubted =
            |one: &&Named<(TicketKey, PodKey), GuardianView>| one.name.0 == *ticket && one.object.doubted();
        self.guardians.iter().find(doubted).map(|one| &one.name.1)
    }

    /// Whether a GET has found no Guardian of this name, and none has been seen since.
    pub(crate) fn absent(&self, ticket: &TicketKey, pod: &PodKey) -> bool {
        let is =
            |one: &&Named<(TicketKey, PodKey), GuardianView>| one.name.0 == *ticket && one.name.1 == *pod;
        self.guardians
            .iter()
            .find(is)
            .is_some_and(|one| one.object.is_absent())
    }

    /// Whether korder has removed the Guardian of this uid, and the watch has yet to show that.
    pub(crate) fn guardian_removed(&self, uid: &PodUid) -> bool {
        self.guardians.iter().any(|one| one.object.removed(uid))
    }

    /// Whether the watch has yet to show an own write.
    pub(crate) fn awaits(&self) -> bool {
        self.awaited_until().next().is_some()
    }

    /// When the next object is to be asked for that only a read has shown.
    pub(crate) fn ask_again_at(&self) -> Option<Mono> {
        let tickets = self.tickets.iter().filter_map(|one| one.object.ask_again_at());
        let guardians = self.guardians.iter().filter_map(|one| one.object.ask_again_at());
        tickets.chain(guardians).min().filter(|_| !self.asks())
    }
}

fn name(view: &GuardianView) -> (TicketKey, PodKey) {
    (view.ticket.clone(), view.key.clone())
}
