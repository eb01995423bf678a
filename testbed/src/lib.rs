//! Places to run korder without a cluster. `real` starts an actual control plane (etcd, kube-apiserver,
//! kube-scheduler, kube-controller-manager, kwok) on loopback; `sim` is a cluster within this process, on
//! virtual time. Nothing here is part of the shipped binary, and neither knows korder's types.

pub mod real;
pub mod sim;
