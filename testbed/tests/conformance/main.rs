//! The conformance suite: every case runs on the simulated API server and on a real kube-apiserver, and
//! both must answer the same.
//!
//! `case::` trials are written by hand, `random::` ones come from a seed. What is not compared stands in
//! one table, in [`normal`].

mod arm;
mod bodies;
mod cases;
mod compare;
mod ground;
mod memory;
mod normal;
mod random;
mod step;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use crate::ground::Ground;

/// Trials at a time: most only wait for the real server, which two cores have to carry.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let ground = Arc::new(Ground::default());
    // Those that must be alone come last, so that none waits for them.
    let mut cases = cases::all();
    cases.sort_by_key(step::Case::is_alone);
    let trials = cases.into_iter().map(|case| {
        let ground = ground.clone();
        Trial::test(format!("case::{}", case.name), move || ground.case(&case))
    });
    let random = ground.clone();
    let random = Trial::test("random::sequences", move || random::run(&random));
    let trials = std::iter::once(random).chain(trials).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("{}", ground.summary());
    ground.shut_down();
    conclusion.exit_code()
}
