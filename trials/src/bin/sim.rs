//! Simulated runs: `sim seed N`, `sim scenario NAME [--crash N | --drop N]`, `sim soak`, `sim sweep`.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use testbed::sim::{journal::Keep, link::Plan};
use trials::{
    month,
    run::{Kind, Options, Outcome, run},
    scenarios,
    script::Script,
    sweep::{self, Break, Failure, Sum},
};

/// Runs consist of small allocations; this allocator makes them about a third faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs korder in a simulated cluster on virtual time.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One seed's own script
    Seed {
        seed: u64,
        /// How many replicas run
        #[arg(long, default_value_t = 1)]
        replicas: usize,
        /// Orders have windows
        #[arg(long, conflicts_with = "full")]
        timed: bool,
        /// A roll-out on full nodes
        #[arg(long)]
        full: bool,
        /// Print all that happened
        #[arg(long)]
        journal: bool,
    },
    /// One of the fixed plots
    Scenario {
        name: String,
        /// Die with this write
        #[arg(long, default_value_t = 0)]
        crash: u64,
        /// Drop this watch event
        #[arg(long, default_value_t = 0)]
        drop: u64,
        /// Print all that happened
        #[arg(long)]
        journal: bool,
    },
    /// Many seeds
    Soak {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// So many seeds
        #[arg(long, default_value_t = u64::MAX)]
        count: u64,
        /// At most so many minutes
        #[arg(long)]
        minutes: Option<f64>,
        /// End with the first violation
        #[arg(long)]
        stop: bool,
        /// How many replicas run
        #[arg(long, default_value_t = 1)]
        replicas: usize,
        /// Orders have windows
        #[arg(long, conflicts_with = "full")]
        timed: bool,
        /// Roll-outs on full nodes
        #[arg(long)]
        full: bool,
    },
    /// Weeks with twenty Orders, disturbed, against the same undisturbed
    Month {
        /// So many days
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// What befalls korder
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The fixed plots, undisturbed, and the seeds that once went wrong
    Fixed,
    /// Every crash and every lost event of the fixed plots
    Sweep,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Seed {
            seed,
            replicas,
            timed,
            full,
            journal,
        } => {
            let options = Options {
                keep: kept(journal),
                replicas,
                kind: kind(timed, full),
                ..Options::default()
            };
            show(
                &sweep::seed(seed, options),
                &sweep::script(seed, options),
                journal,
            )
        }
        Command::Scenario {
            name,
            crash,
            drop,
            journal,
        } => {
            let Some(script) = scenarios::all().into_iter().find(|script| script.name == name) else {
                let names: Vec<String> = scenarios::all().into_iter().map(|script| script.name).collect();
                eprintln!("sim: no scenario {name}: one of {}", names.join(", "));
                return ExitCode::from(2);
            };
            let plan = Plan {
                crash_at_write: crash,
                drop_delivery: drop,
            };
            let options = Options {
                keep: kept(journal),
                plan,
                ..Options::default()
            };
            show(&run(&script, 1, options), &script, journal)
        }
        Command::Soak {
            first,
            count,
            minutes,
            stop,
            replicas,
            timed,
            full,
        } => {
            let options = Options {
                replicas,
                kind: kind(timed, full),
                ..Options::default()
            };
            soak(first, count, minutes, stop, options)
        }
        Command::Month { days, seed } => of_days(days, seed),
        Command::Fixed => fixed(),
        Command::Sweep => sweep_all(),
    }
}

fn kind(timed: bool, full: bool) -> Kind {
    match (timed, full) {
        (true, _) => Kind::Timed,
        (_, true) => Kind::Full,
        _ => Kind::Any,
    }
}

fn kept(journal: bool) -> Keep {
    if journal { Keep::Lines } else { Keep::Digest }
}

fn show(outcome: &Outcome, script: &Script, journal: bool) -> ExitCode {
    if journal {
        print!("{}", outcome.journal);
    } else {
        println!(
            "{} nodes, {} steps; faults: {}",
            script.nodes.len(),
            script.steps.len(),
            script.faults
        );
    }
    let (digest, lines) = outcome.digest;
    eprintln!("journal: {lines} lines, digest {digest:016x}");
    let (torn, writes) = outcome.repair;
    let after = outcome.settled_after.as_secs();
    eprintln!("{torn} pairs to repair, {writes} writes, settled {after} s after the faults");
    for violation in &outcome.violations {
        eprintln!("VIOLATION: {violation}");
    }
    verdict(outcome.violations.len())
}

fn fixed() -> ExitCode {
    let sum = sweep::fixed();
    report("fixed runs", &sum);
    verdict(sum.failures.len())
}

fn soak(first: u64, count: u64, minutes: Option<f64>, stop: bool, options: Options) -> ExitCode {
    let begun = std::time::Instant::now();
    let within = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let sum = sweep::seeds(first, count, within, stop, options, tell);
    let per_second = sum.runs as f64 / begun.elapsed().as_secs_f64();
    total("schedules", &sum);
    println!("{per_second:.1} schedules a second");
    verdict(sum.failures.len())
}

fn of_days(days: u64, seed: u64) -> ExitCode {
    let wrong = month::differences(days, seed);
    match &wrong {
        Ok(told) => println!("{days} days: {told}"),
        Err(wrong) => wrong.iter().for_each(|wrong| println!("VIOLATION: {wrong}")),
    }
    verdict(wrong.err().map_or(0, |wrong| wrong.len()))
}

fn sweep_all() -> ExitCode {
    let mut failures = 0;
    for (kind, name) in [(Break::Crash, "crashes"), (Break::Drop, "dropped events")] {
        let (sum, points) = sweep::points(kind);
        for (plot, points) in points {
            println!("{plot}: {points} {name}");
        }
        report(name, &sum);
        failures += sum.failures.len();
    }
    verdict(failures)
}

fn report(what: &str, sum: &Sum) {
    sum.failures.iter().for_each(tell);
    total(what, sum);
}

fn tell(failure: &Failure) {
    println!("{}", failure.command);
    for violation in failure.violations.iter().take(5) {
        println!("    {violation}");
    }
}

fn total(what: &str, sum: &Sum) {
    let (runs, revisions, writes, failures) = (sum.runs, sum.revisions, sum.writes, sum.failures.len());
    println!("{runs} {what}, {revisions} revisions judged, {writes} writes: {failures} with violations");
}

fn verdict(failures: usize) -> ExitCode {
    ExitCode::from(u8::from(failures > 0))
}
