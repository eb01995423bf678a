//! The rules of korder as pure functions: no client, no async, no clock, no log.
//!
//! Time is an argument, effects are return values.

pub mod backoff;
pub mod cover;
pub mod duration;
pub mod eligibility;
pub mod flap;
pub mod hash;
pub mod ids;
pub mod invalid;
pub mod node;
pub mod observed;
pub mod op;
pub mod order;
pub mod outage;
pub mod outline;
pub mod plan;
pub mod quantity;
pub mod reason;
pub mod resources;
pub mod rollout;
pub mod schedule;
pub mod selector;
pub mod status;
pub mod syntax;
#[cfg(test)]
pub(crate) mod testing;
pub mod ticket;
pub mod time;
pub mod toleration;
pub mod window;
