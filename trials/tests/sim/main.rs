//! korder in the simulated cluster: fixed plots, sweeps, drawn scripts, overload, and that a seed repeats.
//! Built with optimisation (`make test-sim`). The seeds are the same every time; `make soak` explores others, as do
//! `SIM_FIRST`, `SIM_SEEDS`, `SIM_SHARED_SEEDS` (with three replicas) and their like.

mod brakes;
mod failover;
mod overload;
mod repeats;
mod status;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::stopwatch::timed;
use trials::{
    run::{Kind, Options, run},
    scenarios,
    sweep::{self, Break, Sum},
};

/// Runs consist of small allocations; this allocator makes them about a third faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        trial("sweep::crash_with_every_write", || points(Break::Crash, "write")),
        trial("sweep::drop_every_event", || points(Break::Drop, "event")),
        trial("seeds::one_replica", || drawn("SIM_SEEDS", 1000, 1, Kind::Any)),
        trial("seeds::three_replicas", || {
            drawn("SIM_SHARED_SEEDS", 300, 3, Kind::Any)
        }),
        trial("seeds::roll_outs_on_full_nodes", || {
            drawn("SIM_FULL_SEEDS", 300, 1, Kind::Full)
        }),
        trial("seeds::roll_outs_on_full_nodes_with_three_replicas", || {
            drawn("SIM_SHARED_FULL_SEEDS", 100, 3, Kind::Full)
        }),
        trial("seeds::windows", || drawn("SIM_TIMED_SEEDS", 300, 1, Kind::Timed)),
        trial("month::same_tickets_as_undisturbed", month),
        trial(
            "repeats::one_seed_in_two_processes",
            repeats::one_seed_in_two_processes,
        ),
    ];
    trials.extend(scenarios::all().into_iter().map(|script| {
        trial(format!("plot::{}", script.name), move || {
            judged(&run(&script, 1, Options::default()).violations)
        })
    }));
    trials.extend(scenarios::regressions().map(|(seed, options, was)| {
        trial(format!("seeds::{seed}::{was}"), move || {
            judged(&sweep::seed(seed, options).violations)
        })
    }));
    trials.extend(brakes::trials());
    trials.extend(overload::trials());
    trials.extend(failover::trials());
    trials.extend(status::trials());
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial that says how long it took.
fn trial(name: impl Into<String>, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let name = name.into();
    Trial::test(name.clone(), move || timed(&name, run))
}

/// Fails with what was violated.
fn judged(violations: &[String]) -> Result<(), Failed> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(violations.join("\n").into())
}

fn summed(what: &str, sum: &Sum) -> Result<(), Failed> {
    let (runs, revisions, failures) = (sum.runs, sum.revisions, sum.failures.len());
    println!("{runs} {what}, {revisions} revisions judged, {failures} with violations");
    let told = sum.failures.iter().take(10).map(|failure| {
        let violations = failure
            .violations
            .iter()
            .take(3)
            .map(|violation| format!("    {violation}\n"));
        format!("{}\n{}", failure.command, violations.collect::<String>())
    });
    judged(&told.collect::<Vec<_>>())
}

fn points(kind: Break, what: &str) -> Result<(), Failed> {
    let (sum, points) = sweep::points(kind);
    for (plot, points) in &points {
        println!("{plot}: each of {points} {what}s");
        if *points == 0 {
            return Err(format!("{plot} has no {what} to break").into());
        }
    }
    summed("broken runs", &sum)
}

/// `SIM_DAYS` says how many days (2).
fn month() -> Result<(), Failed> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (days, seed) = (number("SIM_DAYS").unwrap_or(2), number("SIM_FIRST").unwrap_or(1));
    let told = trials::month::differences(days, seed).map_err(|wrong| wrong.join("\n"))?;
    println!("{days} days: {told}");
    Ok(())
}

/// The scripts of so many seeds from 1 on, unless told otherwise.
fn drawn(how_many: &str, unless_said: u64, replicas: usize, kind: Kind) -> Result<(), Failed> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("SIM_FIRST").unwrap_or(1);
    let count = number(how_many).unwrap_or(unless_said);
    println!("{count} seeds from {first}, replicas: {replicas}");
    let options = Options {
        replicas,
        kind,
        ..Options::default()
    };
    let sum = sweep::seeds(first, count, None, false, options, |_| ());
    summed("seeds", &sum)
}
