//! An API server that carries out only a few requests at a time.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use serde_json::json;
use testbed::{
    sim::{actors::users::order, journal::Keep},
    trial::{
        run::{Options, Outcome, run},
        script::{Script, Step, template},
    },
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "overload::few_seats_are_not_overrun_and_full_speed_comes_back",
        few_seats,
    )]
}

/// Nodes of the cluster: enough that the overload lasts for minutes.
const NODES: usize = 600;

/// Five minutes with 3 seats of 100 ms, while every Ticket is made, removed and made again.
fn few_seats() -> Result<(), Failed> {
    let orders: Vec<String> = (0..6).map(|n| format!("order-{n}")).collect();
    let mut script =
        Script::quiet("few seats", NODES).at(0, Step::Seats(Some(3), Duration::from_millis(100)));
    script.scheduling = Duration::from_millis(1);
    script.shards = 64;
    for name in &orders {
        script = script.at(1, Step::Order(order(name, &template(0))));
    }
    let script = script
        .at(300, Step::Seats(None, Duration::from_millis(1)))
        .at(
            300,
            Step::Edit("order-0".to_owned(), json!({ "spec": { "paused": false } })),
        )
        .at(420, Step::Compact);
    let outcome = run(
        &script,
        1,
        Options {
            keep: Keep::Lines,
            ..Options::default()
        },
    );
    crate::judged(&outcome.violations)?;
    steady(&outcome)?;
    recovered(&outcome)
}

/// The times of answers with this code, in seconds.
fn answers(outcome: &Outcome, wanted: impl Fn(&str) -> bool) -> Vec<f64> {
    let answer = |line: &str| {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let code = rest.rsplit_once(" -> ")?.1;
        let write = !rest.contains("korder GET ");
        (write && wanted(code)).then(|| at.parse().ok())?
    };
    outcome.journal.lines().filter_map(answer).collect()
}

fn within(times: &[f64], from: f64, to: f64) -> usize {
    times.iter().filter(|&&at| from <= at && at < to).count()
}

/// After the first minute at most one request in ten is refused.
fn steady(outcome: &Outcome) -> Result<(), Failed> {
    let (refused, accepted) = (
        answers(outcome, |code| code == "429"),
        answers(outcome, |code| code != "429"),
    );
    let (refused, accepted) = (within(&refused, 60.0, 300.0), within(&accepted, 60.0, 300.0));
    let ratio = refused as f64 / accepted.max(1) as f64;
    println!("steady state: {refused} refused, {accepted} accepted, ratio {ratio:.3}");
    if ratio > 0.1 || accepted < 1000 {
        return Err(format!("{refused} refused, {accepted} accepted").into());
    }
    Ok(())
}

/// Within 30 s after the limit is gone, as many a second as before there ever was one, or all that is left.
fn recovered(outcome: &Outcome) -> Result<(), Failed> {
    let accepted = answers(outcome, |code| code != "429");
    let overloaded = within(&accepted, 290.0, 300.0) as f64 / 10.0;
    let fastest =
        (0..30).map(|second| within(&accepted, 300.0 + f64::from(second), 301.0 + f64::from(second)));
    let fastest = fastest.max().unwrap_or_default();
    println!("writes a second: {overloaded:.0} with 3 seats, {fastest} within 30 s after");
    if (fastest as f64) < 5.0 * overloaded {
        return Err(format!("{overloaded:.0} a second before, at most {fastest} within 30 s after").into());
    }
    Ok(())
}
