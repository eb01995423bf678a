//! Counts: of own shards into Shard objects, of all shards into the status of Orders.

mod board;
pub mod publish;
pub mod rollup;
