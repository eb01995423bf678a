//! What a plane is to be like. The defaults suit functional tests of a few thousand nodes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::Component;

/// The configuration of a [`super::Plane`]; take the default and change fields.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// Part of the plane's directory name, so that a kept one can be told apart.
    pub name: String,
    /// Where the plane's directory is made; the system's temporary directory if `None`.
    pub root: Option<PathBuf>,
    /// Keep the directory after the plane has stopped. Set by `KEEP=1` in the environment by default.
    pub keep: bool,
    /// kube-scheduler's client limit in requests a second and its burst. The default is upstream's: about
    /// 55 Pods bound a second.
    pub scheduler_qps: (u32, u32),
    /// kube-controller-manager's client limit and burst, for each controller. Raised by default so that
    /// 2,000 nodes lose their `not-ready` taints in seconds; see [`Self::UPSTREAM_CONTROLLER_MANAGER_QPS`].
    pub controller_manager_qps: (u32, u32),
    /// Controllers beside the ones every plane runs, such as `daemonset-controller`.
    pub extra_controllers: Vec<String>,
    /// Feature gates for kube-apiserver, kube-scheduler and kube-controller-manager.
    pub feature_gates: BTreeMap<String, bool>,
    /// Write an audit log (one JSON object per line; Metadata level but for [`Self::audit_bodies`]).
    pub audit: bool,
    /// Resources (API group, plural) whose writes the audit log holds with the bodies of request and answer,
    /// by whomever. About 7 KB for each write; reads stay without.
    pub audit_bodies: Vec<(String, String)>,
    /// Run kube-controller-manager and kube-scheduler; without them nothing is collected or bound, and no
    /// namespace gets the ServiceAccount that its Pods need.
    pub controllers: bool,
    /// Run kwok; without it nodes never become Ready.
    pub kwok: bool,
    /// How often each node's status is patched, ± 20 %; never if `None`.
    pub heartbeat: Option<Duration>,
    /// About how many bytes of images each node's status carries, as real kubelets report them.
    pub status_padding: usize,
    /// More arguments for one component, after all others.
    pub extra_args: Vec<(Component, String)>,
}

impl PlaneConfig {
    /// kube-controller-manager's own default limit and burst.
    pub const UPSTREAM_CONTROLLER_MANAGER_QPS: (u32, u32) = (20, 30);
}

impl Default for PlaneConfig {
    fn default() -> Self {
        Self {
            name: "plane".to_owned(),
            root: None,
            keep: std::env::var("KEEP").is_ok_and(|keep| keep == "1"),
            scheduler_qps: (50, 100),
            controller_manager_qps: (500, 1000),
            extra_controllers: Vec::new(),
            feature_gates: BTreeMap::new(),
            audit: true,
            audit_bodies: Vec::new(),
            controllers: true,
            kwok: true,
            heartbeat: None,
            status_padding: 0,
            extra_args: Vec::new(),
        }
    }
}
