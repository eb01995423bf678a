//! korder in the simulated cluster: scripts of what happens, runs of them, sweeps over many.
//!
//! The only part of this crate that knows korder, and only its composition root.

pub mod failover;
pub mod full;
pub mod month;
pub mod run;
pub mod scenarios;
pub mod script;
pub mod status;
pub mod sweep;
pub mod timed;
