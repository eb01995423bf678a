//! What comes in: watches, and the router that hands it to shards.

pub mod by_shard;
pub mod listed;
pub mod orders;
pub mod own_nodes;
pub mod router;
pub mod shard_objects;
pub mod watches;
