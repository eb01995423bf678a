//! Which Orders a node is eligible for, and which changes of a node can matter at all.
//!
//! [`Nodes`] is one shard's: nodes and Orders go in, the pairs that a change touches come out. What is behind it is
//! nobody else's concern.

mod nodes;
mod orders;

pub(crate) use nodes::{Nodes, Touched};
pub(crate) use orders::{Index, Snapshot};
