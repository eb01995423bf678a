//! What the half with IO stands on: the clock, the API server's time, metrics, pauses for tests, and tasks.
//!
//! The pure half never uses it.

pub mod clock;
pub(crate) mod metrics;
pub mod pause;
pub(crate) mod server_time;
pub mod tasks;
