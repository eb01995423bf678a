//! A pair of Order and Node: its Tickets and Guardians as they are seen, and what is done about them.

pub mod backoff;
pub mod belief;
pub mod cover;
pub mod flap;
pub mod names;
pub mod observed;
pub mod op;
pub mod plan;
pub mod reason;
pub mod rollout;
