//! One shard: which nodes it has, what it has seen of them, what it decides.
//!
//! Synchronous and pure: events and time go in, operations come out. The same code runs whether a
//! replica owns one shard or all.

pub mod assign;
mod decide;
mod grant;
pub mod key;
pub mod lease;
pub mod member;
pub mod object;
mod pair;
pub mod report;
pub mod state;
#[cfg(test)]
mod tests;

pub use key::{ShardCount, ShardId};
pub use lease::ReplicaId;
pub use member::Member;
pub use object::ShardObject;
pub use report::{Counts, Notice, Report};
pub use state::Shard;
