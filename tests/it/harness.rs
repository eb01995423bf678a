//! What the trials of one run share, and how a trial is made from a function.
//!
//! A module contributes `pub(crate) fn trials() -> Vec<Trial>`; one whose trials need the control
//! plane takes an `Arc<Harness>` and gives each of them a clone.

use libtest_mimic::{Failed, Trial};

/// Shared by the trials of one run. The control plane is kept here, behind a `OnceLock`, so that it
/// is started at most once and only when a trial asks for it.
#[derive(Default)]
pub(crate) struct Harness {}

impl Harness {
    /// Stops what was started. Called once, after the last trial, also when trials failed.
    pub(crate) fn shut_down(&self) {}
}

/// A trial named `fast::<module>::<name>`; a panic or an `Err` fails it.
pub(crate) fn fast(module: &str, name: &str, test: fn() -> Result<(), Failed>) -> Trial {
    Trial::test(format!("fast::{module}::{name}"), test)
}
