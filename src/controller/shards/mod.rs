//! The work on shards: Leases taken and given up, workers, and the pump of their writes.

pub(crate) mod membership;
pub(crate) mod pump;
pub(crate) mod worker;
pub(crate) mod workers;
