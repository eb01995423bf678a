//! The shards that this replica has, and what waits for each.

pub mod mailbox;
pub mod shard;
