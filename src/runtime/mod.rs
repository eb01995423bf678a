//! The composition root: configuration, clients, clock, metrics, and what runs.

pub mod clients;
pub mod clock;
pub mod config;
pub mod error;
pub mod http;
pub mod kubeconfig;
pub mod metrics;
pub mod pause;
pub mod replica;
pub mod run;
pub mod server_time;
pub mod tasks;
