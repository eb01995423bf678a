//! What comes in: watches, and the router that hands it to shards.

pub mod common_watches;
pub mod listed;
pub mod orders;
pub mod own_nodes;
pub mod own_watches;
pub mod router;
pub mod shards_watch;
