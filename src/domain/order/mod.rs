//! An Order: what it asks for, and when.

pub(crate) mod demand;
pub(crate) mod resources;
pub(crate) mod schedule;
pub(crate) mod spec;
pub(crate) mod window;
