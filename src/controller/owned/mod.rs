//! The shards that this replica has, and what waits for each.

pub(crate) mod mailbox;
pub(crate) mod shard;
