//! A cluster in this process: an API server, actors that play the scheduler, kubelets, the garbage
//! collector, nodes and users, and faults, all on virtual time and from one seed.
//!
//! Nothing here knows korder's types; a controller under test comes in through its HTTP transport.

pub mod actors;
pub mod api;
pub mod bell;
mod careless;
pub mod cluster;
pub mod faults;
pub mod journal;
pub mod link;
pub mod transport;
