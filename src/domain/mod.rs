//! The rules of korder as pure functions: no client, no async, no clock, no log.
//!
//! Time is an argument, effects are return values.

pub mod ids;
pub mod node;
pub mod time;
