//! The one integration binary: every test is a `Trial` named `fast::…` or `e2e::…`.
//!
//! `fast` trials need no control plane. `e2e` trials share two through [`harness::Harness`], which
//! starts each for the first that asks and stops it after the last; a filter that leaves no `e2e`
//! trial starts none.

mod architecture;
mod cli;
mod crds;
mod deploy;
mod e2e;
mod harness;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let harness = Arc::new(harness::Harness::default());
    let trials: Vec<Trial> = [
        architecture::trials(),
        cli::trials(),
        crds::trials(),
        deploy::trials(),
        e2e::trials(&harness),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Which of them run at a time is for the harness to say.
    arguments.test_threads.get_or_insert(trials.len());
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness.shut_down();
    conclusion.exit_code()
}
