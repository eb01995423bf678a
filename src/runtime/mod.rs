//! The composition root: configuration, clients, clock, metrics, and what runs.

pub mod config;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod kubeconfig;
mod preflight;
pub mod replica;
pub(crate) mod run;
