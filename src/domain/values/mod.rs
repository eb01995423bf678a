//! What everything else is made of: ids, times, amounts, shards, and how text becomes them.

pub(crate) mod duration;
pub(crate) mod hash;
pub mod ids;
pub(crate) mod invalid;
pub(crate) mod quantity;
pub mod shard;
pub(crate) mod shard_object;
pub(crate) mod syntax;
pub(crate) mod time;
