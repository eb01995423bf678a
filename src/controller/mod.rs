//! What runs: the shards this replica has, what comes in for them, the work on them, and what is counted.
//!
//! Every module is passed once, in one direction; the loop closes only through the API server.

pub mod counts;
pub mod events;
pub mod intake;
pub mod owned;
pub mod shards;
