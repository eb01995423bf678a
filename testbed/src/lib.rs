//! Places to run korder without a cluster. `real` starts an actual control plane (etcd, kube-apiserver,
//! kube-scheduler, kube-controller-manager, kwok) on loopback. Nothing here is part of the shipped binary,
//! and nothing here knows korder's types: it starts korder by path, like any other program.

pub mod real;
