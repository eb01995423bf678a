//! The seconds of a trial, in the one form that `.ci/run` makes its table of the slowest from.

use std::time::Instant;

/// Runs a trial and says on standard error how long it took: `   12.3 s  module::name`.
pub fn timed<T>(name: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = run();
    eprintln!("{:7.1} s  {name}", start.elapsed().as_secs_f64());
    done
}
