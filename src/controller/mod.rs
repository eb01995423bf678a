//! What runs: the shards this replica has, what comes in for them, the work on them, and what is counted.
//!
//! Every module is passed once, in one direction; the loop closes only through the API server.

pub(crate) mod counts;
pub(crate) mod events;
pub(crate) mod intake;
pub(crate) mod owned;
pub(crate) mod shards;
