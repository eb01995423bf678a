//! The composition root: configuration, clients, clock, metrics, and what runs.

pub mod clients;
pub mod clock;
pub mod http;
pub mod metrics;
pub mod server_time;
