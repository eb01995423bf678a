//! The brakes, on a cluster that breaks down in just the way each is for.

use std::{collections::BTreeMap, time::Duration};

use libtest_mimic::{Failed, Trial};
use serde_json::json;
use testbed::sim::{
    actors::{nodes::Fortune, users::order},
    journal::Keep,
};
use trials::{
    run::{Options, Outcome, run},
    script::{Script, Step, template},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        crate::trial("brakes::a_node_list_that_is_empty_deletes_nothing", empty_list),
        crate::trial(
            "brakes::a_start_with_an_empty_node_list_deletes_nothing",
            empty_at_start,
        ),
        crate::trial("brakes::an_outage_of_many_nodes_is_paced", outage),
        crate::trial("brakes::refused_guardians_back_off", refused),
    ]
}

const KEEP: fn() -> Options = || Options {
    keep: Keep::Lines,
    ..Options::default()
};

/// Seconds at which korder did this to objects of a resource, by name.
fn times(outcome: &Outcome, what: &str) -> Vec<(f64, String)> {
    let line = |line: &str| {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let object = rest.split_once(what)?.1;
        let own = object.contains(" by korder ");
        own.then_some((at.parse().ok()?, object.split(' ').next()?.to_owned()))
    };
    outcome.journal.lines().filter_map(line).collect()
}

fn sound(outcome: &Outcome) -> Result<(), Failed> {
    crate::judged(&outcome.violations)
}

fn none_removed(outcome: &Outcome) -> Result<(), Failed> {
    sound(outcome)?;
    let made = times(outcome, "Added tickets/");
    let removed = times(outcome, "Deleted tickets/");
    if made.len() != 20 || !removed.is_empty() {
        return Err(format!("{} made, {} removed", made.len(), removed.len()).into());
    }
    Ok(())
}

fn empty_list() -> Result<(), Failed> {
    let script = Script::quiet("empty list", 20)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(20, Step::HideNodes(1))
        .at(20, Step::Partition(Duration::from_secs(5)))
        .at(21, Step::Compact)
        .at(60, Step::Compact);
    none_removed(&run(&script, 1, KEEP()))
}

fn empty_at_start() -> Result<(), Failed> {
    let script = Script::quiet("empty list at start", 20)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(20, Step::Crash(Duration::from_secs(1)))
        .at(21, Step::HideNodes(1))
        .at(60, Step::Compact);
    none_removed(&run(&script, 1, KEEP()))
}

/// 40 of 100 nodes fail at once: r = 10, so they go 10 a minute from the end of their grace on.
fn outage() -> Result<(), Failed> {
    let mut script = Script::quiet("outage", 100).at(1, Step::Order(order("agents", &template(0))));
    for node in 0..40 {
        script = script.at(
            60,
            Step::Befall(format!("node-{node}"), Fortune::Ready("Unknown")),
        );
    }
    let outcome = run(&script, 1, KEEP());
    sound(&outcome)?;
    let mut by_minute = BTreeMap::<u64, usize>::new();
    for (at, _) in times(&outcome, "Deleted tickets/") {
        let after_grace = at - 120.0;
        if after_grace < -2.0 {
            return Err(
                format!("a Ticket went {at} s after the beginning, before its grace was over").into(),
            );
        }
        // The API server's time is known to the second.
        *by_minute
            .entry(((after_grace + 2.0).max(0.0) / 60.0) as u64)
            .or_default() += 1;
    }
    let expected = BTreeMap::from([(0, 10), (1, 10), (2, 10), (3, 10)]);
    if by_minute != expected {
        return Err(format!("Tickets removed by minute after the grace: {by_minute:?}").into());
    }
    Ok(())
}

/// Three hours of a quota that refuses every Guardian.
fn refused() -> Result<(), Failed> {
    let script = Script::quiet("refused", 5)
        .at(0, Step::RefusePods(true))
        .at(1, Step::Order(order("agents", &template(0))))
        .at(3 * 3600, Step::RefusePods(false));
    let outcome = run(&script, 1, KEEP());
    sound(&outcome)?;
    let mut tries = BTreeMap::<u64, usize>::new();
    for line in outcome
        .journal
        .lines()
        .filter(|line| line.contains("POST /api/v1/namespaces/default/pods"))
    {
        let at: f64 = line
            .trim_start()
            .split(' ')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| "no time")?;
        *tries.entry(at as u64 / 3600).or_default() += 1;
    }
    println!("creations of 5 Guardians by hour: {tries:?}");
    let most = |hour: u64| if hour == 0 { 21 * 5 } else { 12 * 5 };
    match tries
        .iter()
        .find(|(hour, tries)| **hour < 3 && **tries > most(**hour))
    {
        Some((hour, tries)) => {
            Err(format!("{tries} creations in hour {hour}: {}", json!(most(*hour))).into())
        }
        None if tries.len() < 3 => Err("Guardians were not tried again".into()),
        None => Ok(()),
    }
}
