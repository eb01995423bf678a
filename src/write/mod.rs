//! Writes: operations out, outcomes back.
//!
//! One place makes the bodies, one sends them, one reads the answers. Every write is safe to repeat:
//! names, uid preconditions and resource versions see to that.

pub mod body;
pub mod clients;
pub mod events;
pub mod leases;
pub mod pending;
pub mod purge;
mod settle;
pub mod shards;
pub mod writer;

pub use body::Guardians;
pub use pending::Pending;
pub use writer::Writer;
