//! The one integration binary: every test is a `Trial` named `fast::…` or `e2e::…`.
//!
//! `fast` trials need no control plane. `e2e` trials share one through [`harness::Harness`], which
//! starts it for the first that asks and stops it after the last; a filter that leaves no `e2e`
//! trial starts none.

mod architecture;
mod cli;
mod crds;
mod deploy;
mod e2e;
mod harness;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::Arguments;

/// Trials at a time: most only wait for the control plane, which two cores have to carry.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let harness = Arc::new(harness::Harness::default());
    let trials = [
        architecture::trials(),
        cli::trials(),
        crds::trials(),
        deploy::trials(),
        e2e::trials(&harness),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness.shut_down();
    conclusion.exit_code()
}
