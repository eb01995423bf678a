//! korder keeps room free on every eligible node of very large Kubernetes clusters.
//!
//! The modules are listed from the inside out; each may use those above it and none below.

pub mod api;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod env;
pub mod index;
pub mod lease;
pub mod queue;
pub mod runtime;
pub mod shard;
pub mod watch;
pub mod write;
