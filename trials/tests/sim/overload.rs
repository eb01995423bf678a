//! An API server that carries out only a few requests at a time.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use testbed::sim::{actors::users::order, journal::Keep};
use trials::{
    run::{Options, Outcome, run},
    script::{Script, Step, template},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "overload::few_seats_are_not_overrun_and_full_speed_comes_back",
        few_seats,
    )]
}

/// Nodes of the cluster: enough that the overload lasts for minutes.
const NODES: usize = 600;

/// Five minutes with 3 seats of 100 ms, while every Ticket is made; then without a limit, as it is from the
/// start in another run.
fn few_seats() -> Result<(), Failed> {
    let limited = played(Some(3), Duration::from_millis(100))?;
    let free = played(None, Duration::from_millis(1))?;
    steady(&limited)?;
    recovered(&limited, &free)
}

fn played(seats: Option<usize>, service: Duration) -> Result<Outcome, Failed> {
    let mut script = Script::quiet("few seats", NODES).at(0, Step::Seats(seats, service));
    script.scheduling = Duration::from_millis(1);
    script.shards = 64;
    for n in 0..6 {
        script = script.at(1, Step::Order(order(&format!("order-{n}"), &template(0))));
    }
    let script = script
        .at(300, Step::Seats(None, Duration::from_millis(1)))
        .at(420, Step::Compact);
    let options = Options {
        keep: Keep::Lines,
        ..Options::default()
    };
    let outcome = run(&script, 1, options);
    crate::judged(&outcome.violations)?;
    Ok(outcome)
}

/// The times of answers with this code, in seconds.
fn answers(outcome: &Outcome, wanted: impl Fn(&str) -> bool) -> Vec<f64> {
    let answer = |line: &str| {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let code = rest.rsplit_once(" -> ")?.1;
        let counts = rest.contains("korder ") && !rest.contains("watch=true");
        (counts && wanted(code)).then(|| at.parse().ok())?
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

/// Within 30 s after the limit is gone, as many requests a second as where there never was one, but for the
/// burst that a start has to spend.
fn recovered(limited: &Outcome, free: &Outcome) -> Result<(), Failed> {
    let best = |outcome: &Outcome, from: u32| {
        let accepted = answers(outcome, |code| code != "429");
        let second = |second: u32| within(&accepted, f64::from(second), f64::from(second + 1));
        (from..from + 30).map(second).max().unwrap_or_default()
    };
    let (after, ever) = (best(limited, 300), best(free, 1));
    println!("requests in the best second: {after} within 30 s after the limit, {ever} without a limit");
    if (after as f64) < 0.8 * ever as f64 || ever < 1000 {
        return Err(format!("{after} a second after the limit, {ever} without one").into());
    }
    Ok(())
}
