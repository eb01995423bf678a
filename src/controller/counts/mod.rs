//! Counts: of own shards into Shard objects, of all shards into the status of Orders.

pub mod publish;
pub mod rollup;
mod shard_objects;
