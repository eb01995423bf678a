//! The commands of the `korder` binary: arguments in, text out.

pub mod crds;
