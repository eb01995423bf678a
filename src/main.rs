//! korder: see the library crate.

fn main() {}
