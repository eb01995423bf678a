//! What runs: the router, one worker per shard, the pump, and what looks after Orders.
//!
//! Every module is passed once, in one direction; the loop closes only through the API server.

pub mod events;
pub mod mailbox;
pub mod orders;
pub mod pump;
pub mod rollup;
pub mod router;
pub mod slots;
pub mod synced;
pub mod worker;
