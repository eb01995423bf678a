//! The programs a control plane consists of.

use std::fmt;

/// One program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager, with the controllers of the configuration only.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kwok, which plays the kubelets.
    Kwok,
}

impl Component {
    /// Every component, in the order in which they start.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kwok,
    ];

    /// The program's file name, which also names its log.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }

    /// Where it answers when it is ready: scheme and path.
    pub(crate) fn health(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("http", "/health"),
            Self::ApiServer | Self::Scheduler => ("https", "/readyz"),
            Self::ControllerManager => ("https", "/healthz"),
            Self::Kwok => ("http", "/healthz"),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}
