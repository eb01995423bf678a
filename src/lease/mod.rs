//! Who holds which shard: the record in a Lease, one replica's membership, who should own what, and until
//! when something may be decided.
//!
//! Pure: what the watch shows, what requests are answered and what the time is goes in; requests and the
//! start and end of shards come out.

pub(crate) mod assign;
pub(crate) mod deadline;
pub mod member;
pub mod record;
