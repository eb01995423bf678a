//! The rules of korder as pure functions: no client, no async, no clock, no log.
//!
//! Time is an argument, effects are return values. The folders are listed from the inside out; each may
//! use those above it and none below.

pub(crate) mod node;
pub(crate) mod order;
pub(crate) mod pair;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod testing;
pub mod values;
