//! Many runs: every crash, every lost event, many seeds; on as many threads as there are cores.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    full,
    run::{Kind, Options, Outcome, run},
    scenarios,
    script::Script,
    timed,
};
use testbed::sim::{journal::Keep, link::Plan};

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What repeats it.
    pub command: String,
    /// What was wrong.
    pub violations: Vec<String>,
}

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Runs.
    pub runs: u64,
    /// Revisions that the judges saw.
    pub revisions: u64,
    /// Writes that reached the API server.
    pub writes: u64,
    /// Those that went wrong.
    pub failures: Vec<Failure>,
}

impl Sum {
    fn add(&mut self, command: &str, outcome: Outcome) {
        self.runs += 1;
        self.revisions += outcome.revisions;
        let written = |tally: &testbed::sim::link::Tally| tally.writes.values().sum::<u64>();
        self.writes += outcome.tallies.iter().map(written).sum::<u64>();
        if !outcome.violations.is_empty() {
            self.failures.push(Failure {
                command: command.to_owned(),
                violations: outcome.violations,
            });
        }
    }
}

/// A seed's own script.
pub fn script(seed: u64, options: Options) -> Script {
    let script = match options.kind {
        Kind::Any => Script::drawn(seed),
        Kind::Full => full::drawn(seed),
        Kind::Timed => timed::drawn(seed),
    };
    match options.replicas {
        0 | 1 => script,
        replicas => script.with_replicas(replicas, seed),
    }
}

/// One run of a seed's own script.
pub fn seed(seed: u64, options: Options) -> Outcome {
    run(&script(seed, options), seed, options)
}

/// Runs these seeds until the time is over, or, with `stop`, until one goes wrong; tells of that at once.
pub fn seeds(
    first: u64,
    count: u64,
    within: Option<Duration>,
    stop: bool,
    options: Options,
    tell: impl Fn(&Failure) + Sync,
) -> Sum {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let begun = Instant::now();
    on_all_cores(|| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let over = within.is_some_and(|within| begun.elapsed() > within);
            if index >= count || over || (stop && !sum.lock().failures.is_empty()) {
                return;
            }
            let chosen = first.wrapping_add(index);
            let outcome = guarded(|| {
                let keep = Keep::Nothing;
                seed(chosen, Options { keep, ..options })
            });
            let wrong = !outcome.violations.is_empty();
            let mut sum = sum.lock();
            sum.add(&command(chosen, options), outcome);
            sum.failures.last().filter(|_| wrong).into_iter().for_each(&tell);
        }
    });
    sum.into_inner()
}

/// Runs the plots undisturbed, and the seeds that once went wrong.
pub fn fixed() -> Sum {
    let mut sum = Sum::default();
    for script in scenarios::all() {
        let outcome = guarded(|| run(&script, 1, Options::default()));
        sum.add(&format!("make sim SCENARIO={}", script.name), outcome);
    }
    for (number, options, _) in scenarios::regressions() {
        sum.add(&command(number, options), guarded(|| seed(number, options)));
    }
    sum
}

/// What repeats a run.
fn command(seed: u64, options: Options) -> String {
    let replicas = match options.replicas {
        0 | 1 => String::new(),
        replicas => format!(" REPLICAS={replicas}"),
    };
    let kind = match options.kind {
        Kind::Any => "",
        Kind::Full => " FULL=1",
        Kind::Timed => " TIMED=1",
    };
    format!("make sim SEED={seed}{replicas}{kind}")
}

/// Which of a plot's points are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The process dies with each write in turn.
    Crash,
    /// Each watch event in turn is not delivered.
    Drop,
}

/// Breaks every plot at every point; returns the sum and the number of points of each plot.
pub fn points(kind: Break) -> (Sum, Vec<(String, u64)>) {
    let mut jobs = Vec::new();
    let mut counts = Vec::new();
    for script in scenarios::all() {
        let (writes, deliveries) = run(
            &script,
            1,
            Options {
                brief: true,
                ..Options::default()
            },
        )
        .counts;
        let points = if kind == Break::Crash { writes } else { deliveries };
        counts.push((script.name.clone(), points));
        jobs.extend((1..=points).map(|point| (script.clone(), point)));
    }
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let work = || {
        while let Some((script, point)) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
            .ok()
            .and_then(|index| jobs.get(index))
        {
            let plan = match kind {
                Break::Crash => Plan {
                    crash_at_write: *point,
                    ..Plan::default()
                },
                Break::Drop => Plan {
                    drop_delivery: *point,
                    ..Plan::default()
                },
            };
            let outcome = guarded(|| {
                run(
                    script,
                    1,
                    Options {
                        plan,
                        ..Options::default()
                    },
                )
            });
            let verb = if kind == Break::Crash { "CRASH" } else { "DROP" };
            sum.lock().add(
                &format!("make sim SCENARIO={} {verb}={point}", script.name),
                outcome,
            );
        }
    };
    on_all_cores(work);
    (sum.into_inner(), counts)
}

/// A panic is a violation, not the end of a sweep.
fn guarded(run: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Outcome {
            violations: vec![format!("it panicked: {}", said.unwrap_or_default())],
            digest: (0, 0),
            journal: String::new(),
            tallies: Vec::new(),
            counts: (0, 0),
            dropped: None,
            revisions: 0,
            repair: (0, 0),
            settled_after: Duration::ZERO,
        }
    })
}

pub(super) fn on_all_cores(work: impl Fn() + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(&work);
        }
    });
}
