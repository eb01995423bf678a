//! One shard: which nodes it has, what it has seen of them, what it decides.
//!
//! Synchronous and pure: events and time go in, operations come out. The same code runs whether a
//! replica owns one shard or all.

mod decide;
mod pair;
pub(crate) mod report;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub(crate) use report::{Notice, Report};
pub(crate) use state::Shard;
