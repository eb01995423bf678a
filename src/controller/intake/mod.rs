//! What comes in: watches, and the router that hands it to shards.

pub(crate) mod common_watches;
pub(crate) mod listed;
pub(crate) mod orders;
pub(crate) mod own_nodes;
pub(crate) mod own_watches;
pub(crate) mod router;
pub(crate) mod shards_watch;
