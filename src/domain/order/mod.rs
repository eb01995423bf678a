//! An Order: what it asks for, and when.

pub mod demand;
pub mod resources;
pub mod schedule;
pub mod spec;
pub mod window;
