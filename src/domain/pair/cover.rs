//! A Guardian that takes over the room of another: made under cover, nominated, the other one removed,
//! the gate lifted.
//!
//! Pure, and of the Guardians alone that there are: whoever finds them goes on where another left off.
//! kube-scheduler counts a nominated Pod on its node, gated or not, so that no Pod of its priority or a
//! lower one can take the room in between.

use std::cmp::Reverse;

use super::{
    names::cover_name,
    observed::{GuardianState, GuardianView, TicketView},
    op::Cause,
};
use crate::domain::values::ids::{NodeName, PodKey};

/// The next step of a replacement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Make a Guardian of this name under cover.
    Make(PodKey),
    /// Nominate it to the node.
    Nominate(&'a GuardianView),
    Remove(&'a GuardianView, Cause),
    /// Lift its gate.
    Ungate(&'a GuardianView),
    /// Something has to end first, or the node is not eligible now.
    Wait,
}

/// What to do next about the Guardians of a Pending Ticket; none if none of them takes over from another.
/// One that has never been Reserved has no room to lose: what it has of another template just goes.
/// `others` are all of them, `lasting` says whether one that is made now could run.
pub(crate) fn step<'a>(
    ticket: &TicketView,
    others: &[&'a GuardianView],
    node: &NodeName,
    lasting: bool,
) -> Option<Step<'a>> {
    let (fit, old): (Vec<&GuardianView>, Vec<_>) = others.iter().partition(|one| fits(one, ticket));
    let present = |one: &&&GuardianView| !one.deleting;
    let holder = old
        .iter()
        .filter(present)
        .max_by_key(|one| (hold(one, node), one.key.name.len()));
    let holder = holder.filter(|one| ticket.activated.is_some() && hold(one, node) > Hold::None);
    let superfluous = |one: &&&GuardianView| !one.deleting && holder.is_none_or(|kept| kept.uid != one.uid);
    if let Some(one) = old.iter().find(superfluous) {
        return Some(Step::Remove(one, Cause::Replaced));
    }
    let successor = fit
        .iter()
        .filter(present)
        .max_by_key(|one| (hold(one, node), Reverse(one.key.name.len())));
    let Some(holder) = holder else {
        let successor = successor?;
        // One that was made for another template may have come to tolerate as much.
        let mut fit = fit.iter().filter(present);
        return match fit.find(|one| one.uid != successor.uid) {
            Some(second) => Some(Step::Remove(second, Cause::Duplicate)),
            None if !successor.covered() => None,
            None if others.len() == 1 => Some(Step::Ungate(successor)),
            // Those that are left of the old are about to end.
            None => Some(Step::Wait),
        };
    };
    let Some(successor) = successor else {
        let name = cover_name(&ticket.key.name, &holder.key.name);
        let free = others.iter().all(|one| *one.key.name != name);
        let key = PodKey::new(ticket.key.namespace.clone(), name);
        return Some(if free && lasting {
            Step::Make(key)
        } else {
            Step::Wait
        });
    };
    Some(match (hold(successor, node), &successor.state) {
        (Hold::Bound, _) => Step::Remove(holder, Cause::Replaced),
        (_, GuardianState::Ended { .. }) => Step::Remove(successor, Cause::GuardianEnded),
        (_, GuardianState::Bound(_)) => Step::Remove(successor, Cause::WrongNode),
        (Hold::None, GuardianState::Unbound { .. }) => Step::Nominate(successor),
        (Hold::Nominated, _) if lasting => Step::Remove(holder, Cause::Replaced),
        (Hold::Nominated, _) => Step::Wait,
    })
}

/// Whether one of a Ticket's Guardians was made from this template, if there are any.
pub(crate) fn guarded(guardians: &[&GuardianView], ticket: &TicketView, template_hash: &str) -> bool {
    let own = |one: &&&GuardianView| one.ticket_uid == ticket.uid;
    let asked = |one: &&GuardianView| {
        one.template_hash
            .as_ref()
            .is_none_or(|hash| **hash == *template_hash)
    };
    let mut own = guardians.iter().filter(own).peekable();
    own.peek().is_none() || own.any(asked)
}

/// Whether a Guardian was made from what its Ticket asks for now.
pub(crate) fn fits(guardian: &GuardianView, ticket: &TicketView) -> bool {
    let hash = guardian.template_hash.as_ref();
    hash.is_none_or(|hash| *hash == ticket.template_hash)
}

/// How well a Guardian holds the room on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// Not at all.
    None,
    /// It is counted there before it is bound.
    Nominated,
    /// It is bound there.
    Bound,
}

/// How well this one does.
pub(crate) fn hold(guardian: &GuardianView, node: &NodeName) -> Hold {
    match &guardian.state {
        GuardianState::Bound(on) if on == node => Hold::Bound,
        GuardianState::Unbound { .. } if guardian.nominated.as_ref() == Some(node) => Hold::Nominated,
        _ => Hold::None,
    }
}

#[cfg(test)]
mod tests;
