//! Counts: of own shards into Shard objects, of all shards into the status of Orders.

pub(crate) mod publish;
pub(crate) mod rollup;
mod shard_objects;
