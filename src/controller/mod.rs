//! What runs: the router, one worker per shard, the pump, and what looks after Orders.
//!
//! Every module is passed once, in one direction; the loop closes only through the API server.

mod board;
pub mod covers;
pub mod events;
pub mod keeper;
pub mod mailbox;
pub mod membership;
pub mod orders;
pub mod own_nodes;
pub mod publish;
pub mod pump;
pub mod rollup;
pub mod router;
pub mod slots;
pub mod synced;
pub mod watches;
pub mod worker;
