//! Places to run a controller without a cluster. `real` starts an actual control plane (etcd, kube-apiserver,
//! kube-scheduler, kube-controller-manager, kwok) on loopback; `sim` is a cluster within this process, on
//! virtual time. Neither depends on korder. `eligibility` is what judges of either go by. Nothing here is part of
//! the shipped binary.

pub mod eligibility;
pub mod object;
#[cfg(feature = "real")]
pub mod real;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stopwatch;
