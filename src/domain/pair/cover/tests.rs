//! Every state that a replacement can come to when its template changes at any moment.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::*;
use crate::{
    api::{GATE_COVER, ticket::Phase},
    domain::{
        order::demand::Demand,
        pair::{
            names::{guardian_name, ticket_name},
            observed::Revision,
        },
        values::ids::TicketKey,
    },
};

/// A Guardian: its name with `-1`, its template, under cover, nominated, bound.
type Guardian = (bool, char, bool, bool, bool);
/// The template that the Ticket asks for, and its Guardians.
type State = (char, BTreeSet<Guardian>);

const TEMPLATES: [char; 3] = ['a', 'b', 'c'];

fn ticket(template: char) -> TicketView {
    TicketView {
        key: TicketKey::new("default", ticket_name("o", &"o-uid".into(), &"n1-uid".into(), 0)),
        uid: "t-uid".into(),
        revision: Revision(1),
        order: "o-uid".into(),
        order_name: "o".into(),
        node: "n1-uid".into(),
        node_name: "n1".into(),
        sequence: 0,
        template_hash: template.to_string().into(),
        demand: Demand::default(),
        duration: None,
        lifecycle: crate::api::order::Lifecycle::default(),
        phase: Phase::Pending,
        reason: None,
        message: None,
        pod_name: None,
        activated: Some(jiff::Timestamp::UNIX_EPOCH),
        created: jiff::Timestamp::UNIX_EPOCH,
        window_start: None,
        expires: None,
        finished_at: None,
        deleting: false,
        labels_intact: true,
        unlabelled: false,
        labels: [].into(),
        annotations: [].into(),
    }
}

fn view((suffix, template, covered, nominated, bound): Guardian, ticket: &TicketView) -> GuardianView {
    let plain = guardian_name(&ticket.key.name);
    let name = if suffix {
        cover_name(&ticket.key.name, &plain)
    } else {
        plain
    };
    let gates: &[Arc<str>] = if covered { &[GATE_COVER.into()] } else { &[] };
    GuardianView {
        uid: name.as_str().into(),
        key: PodKey::new("default", name),
        revision: Revision(1),
        ticket: ticket.key.clone(),
        ticket_uid: ticket.uid.clone(),
        order: ticket.order.clone(),
        state: match bound {
            true => GuardianState::Bound("n1".into()),
            false => GuardianState::Unbound { unschedulable: None },
        },
        gates: gates.into(),
        nominated: nominated.then(|| "n1".into()),
        deleting: false,
        labels_intact: true,
        template_hash: Some(template.to_string().into()),
    }
}

/// The state after the next step; none if there is none to take.
fn next((template, guardians): &State, lasting: bool) -> Option<State> {
    let ticket = ticket(*template);
    let views: Vec<_> = guardians.iter().map(|&one| view(one, &ticket)).collect();
    let mut after = guardians.clone();
    let take = |after: &mut BTreeSet<Guardian>, of: &GuardianView| {
        let gone = *guardians
            .iter()
            .find(|one| view(**one, &ticket).key == of.key)
            .unwrap();
        after.remove(&gone);
        gone
    };
    match step(&ticket, &views.iter().collect::<Vec<_>>(), &"n1".into(), lasting)? {
        Step::Make(key) => {
            let suffix = key.name.ends_with("-1");
            assert!(after.iter().all(|one| one.0 != suffix), "the name is taken");
            after.insert((suffix, *template, true, false, false));
        }
        Step::Nominate(of) => {
            let (suffix, template, covered, _, bound) = take(&mut after, of);
            after.insert((suffix, template, covered, true, bound));
        }
        Step::Remove(of, _) => drop(take(&mut after, of)),
        Step::Ungate(of) => {
            let (suffix, template, _, nominated, bound) = take(&mut after, of);
            after.insert((suffix, template, false, nominated, bound));
        }
        Step::Wait => return None,
    }
    Some((*template, after))
}

/// What the scheduler does: it binds what nothing stands in the way of.
fn bound((template, guardians): &State) -> Option<State> {
    let [&(suffix, of, false, _, false)] = guardians.iter().collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((*template, [(suffix, of, false, false, true)].into()))
}

/// What an edit to a template that only tolerates more does: a Guardian changes, the Ticket not yet.
fn extended((template, guardians): &State) -> impl Iterator<Item = State> {
    let fit = guardians.iter().filter(move |one| one.1 == *template);
    fit.flat_map(move |&one| {
        TEMPLATES.map(|wider| {
            let mut after = guardians.clone();
            after.remove(&one);
            after.insert((one.0, wider, one.2, one.3, one.4));
            (*template, after)
        })
    })
}

fn held(state: &State) -> bool {
    state
        .1
        .iter()
        .any(|(_, _, _, nominated, bound)| *nominated || *bound)
}

/// Every state that can be reached while the template changes and the node comes and goes.
fn reachable() -> BTreeSet<State> {
    let first: State = ('a', [(false, 'a', false, false, true)].into());
    let (mut seen, mut todo) = (BTreeSet::from([first.clone()]), VecDeque::from([first]));
    while let Some(state) = todo.pop_front() {
        let edited = TEMPLATES.map(|template| Some((template, state.1.clone())));
        let steps = [next(&state, true), next(&state, false), bound(&state)];
        let others = edited.into_iter().chain(extended(&state).map(Some));
        for after in others.chain(steps).flatten() {
            if seen.insert(after.clone()) {
                todo.push_back(after);
            }
        }
    }
    seen
}

#[test]
fn room_is_held_at_every_moment_and_there_are_never_more_than_two() {
    let states = reachable();
    assert!(states.len() > 100, "only {} states", states.len());
    for state in &states {
        assert!(held(state) && state.1.len() <= 2, "{state:?}");
    }
}

#[test]
fn from_every_state_a_replacement_comes_to_its_end() {
    for first in reachable() {
        let mut state = first.clone();
        for _ in 0..12 {
            match next(&state, true).or_else(|| bound(&state)) {
                Some(after) => state = after,
                None => break,
            }
        }
        let of_ticket = |(_, of, _, _, bound): &Guardian| *of == state.0 && *bound;
        assert!(
            state.1.len() == 1 && state.1.iter().all(of_ticket),
            "{first:?} ends as {state:?}"
        );
    }
}

#[test]
fn where_a_new_guardian_could_not_run_the_old_one_stays() {
    for state in reachable().iter().filter(|state| state.1.iter().any(|one| one.4)) {
        let mut after = state.clone();
        while let Some(next) = next(&after, false) {
            after = next;
        }
        assert!(after.1.iter().any(|one| one.4), "{state:?} ends as {after:?}");
    }
}

#[test]
fn what_is_about_to_end_is_waited_for() {
    let ticket = ticket('b');
    let [mut old, new] =
        [(false, 'a', false, false, true), (true, 'b', true, true, false)].map(|one| view(one, &ticket));
    old.deleting = true;
    let both = [old, new];
    assert_eq!(
        step(&ticket, &both.each_ref(), &"n1".into(), true),
        Some(Step::Wait)
    );
    assert_eq!(
        step(&ticket, &[&both[1]], &"n1".into(), true),
        Some(Step::Ungate(&both[1]))
    );
}

#[test]
fn one_that_failed_or_runs_elsewhere_goes_and_not_the_old_one() {
    let ticket = ticket('b');
    let [old, new] =
        [(false, 'a', false, false, true), (true, 'b', false, true, false)].map(|one| view(one, &ticket));
    for (state, cause) in [
        (GuardianState::Ended { message: "x".into() }, Cause::GuardianEnded),
        (GuardianState::Bound("n2".into()), Cause::WrongNode),
    ] {
        let both = [old.clone(), GuardianView { state, ..new.clone() }];
        assert_eq!(
            step(&ticket, &both.each_ref(), &"n1".into(), true),
            Some(Step::Remove(&both[1], cause))
        );
    }
}
