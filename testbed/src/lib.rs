//! Places to run korder without a cluster.
