//! A pair of Order and Node: its Tickets and Guardians as they are seen, and what is done about them.

pub(crate) mod backoff;
pub(crate) mod belief;
pub(crate) mod cover;
pub(crate) mod flap;
pub(crate) mod names;
pub(crate) mod observed;
pub(crate) mod op;
pub(crate) mod plan;
pub(crate) mod reason;
pub(crate) mod rollout;
