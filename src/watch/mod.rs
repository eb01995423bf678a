//! Watches: what the API server says, turned into what `domain` knows.
//!
//! Every stream is followed for ever, through errors and relists; a relist comes out as the
//! difference of keys. Nothing is decided here, and no stream is ever blocked by what reads it.

pub mod guardian;
pub mod meta;
pub mod node;
pub mod ranges;
pub mod relist;
pub mod shard;
pub mod stream;
pub mod ticket;
