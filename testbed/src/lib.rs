//! Places to run korder without a cluster. `real` starts an actual control plane (etcd, kube-apiserver,
//! kube-scheduler, kube-controller-manager, kwok) on loopback; `sim` is a cluster within this process, on
//! virtual time. Neither knows korder's types. `trial` runs korder in `sim`. Nothing here is part of the shipped
//! binary.

pub mod real;
pub mod sim;
pub mod stopwatch;
pub mod trial;
