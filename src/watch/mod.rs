//! Watches: what the API server says, turned into what `domain` knows.
//!
//! Every stream is followed for ever, through errors and relists; a relist comes out as the
//! difference of keys. Nothing is decided here, and no stream is ever blocked by what reads it.

pub(crate) mod guardian;
pub(crate) mod meta;
pub(crate) mod node;
pub(crate) mod ranges;
pub(crate) mod relist;
pub(crate) mod shard;
pub(crate) mod stream;
pub(crate) mod ticket;
