//! The work on shards: Leases taken and given up, workers, and the pump of their writes.

pub mod membership;
pub mod pump;
pub mod worker;
pub mod workers;
