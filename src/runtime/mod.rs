//! The composition root: configuration, clients, clock, metrics, and what runs.

pub mod config;
pub mod error;
pub mod http;
pub mod kubeconfig;
mod preflight;
pub mod replica;
pub mod run;
