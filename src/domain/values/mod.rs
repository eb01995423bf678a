//! What everything else is made of: ids, times, amounts, shards, and how text becomes them.

pub mod duration;
pub mod hash;
pub mod ids;
pub mod invalid;
pub mod quantity;
pub mod shard;
pub mod shard_object;
pub mod syntax;
pub mod time;
