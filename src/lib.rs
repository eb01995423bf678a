//! korder keeps room free on every eligible node of very large Kubernetes clusters.
//!
//! The modules are listed from the inside out; each may use those above it and none below.
//! `docs/decisions/layout.md` draws the order, and a test holds it.

pub mod api;
pub mod cli;
pub(crate) mod controller;
pub mod domain;
pub mod env;
pub(crate) mod index;
pub mod lease;
pub(crate) mod queue;
pub mod runtime;
pub(crate) mod shard;
pub(crate) mod watch;
pub mod write;
