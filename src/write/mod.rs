//! Writes: operations out, outcomes back.
//!
//! One place makes the bodies, one sends them, one reads the answers. Every write is safe to repeat:
//! names, uid preconditions and resource versions see to that.

pub mod body;
pub mod events;
pub mod leases;
pub mod pending;
pub mod purge;
mod settle;
pub mod shards;
pub mod writer;

pub use pending::Pending;
pub use writer::{Guardians, Writer};
