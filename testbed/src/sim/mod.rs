//! A cluster in this process: an API server, actors that play the scheduler, kubelets, the garbage
//! collector, nodes and users, and faults, all on virtual time and from one seed.
//!
//! Nothing here knows korder's types; a controller under test comes in through its HTTP transport.

pub mod api;
