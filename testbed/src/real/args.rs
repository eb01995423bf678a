//! The command line and the files of each component. Pure: a configuration and places in, text out.

use std::path::{Path, PathBuf};

use super::{Component, config::PlaneConfig};

/// Controllers that every plane runs: without them namespaces, owner references, node taints, evictions,
/// quotas or the ServiceAccounts that Pods need do not work. The workload controllers are left to the test.
const CONTROLLERS: [&str; 9] = [
    "garbage-collector-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "taint-eviction-controller",
];

/// The ports of one plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
    pub(crate) scheduler: u16,
    pub(crate) controller_manager: u16,
    pub(crate) kwok: u16,
}

impl Ports {
    /// Where a component answers.
    pub(crate) fn of(&self, component: Component) -> u16 {
        match component {
            Component::Etcd => self.etcd,
            Component::ApiServer => self.apiserver,
            Component::Scheduler => self.scheduler,
            Component::ControllerManager => self.controller_manager,
            Component::Kwok => self.kwok,
        }
    }
}

/// Where a component's files are: all in the plane's directory.
#[derive(Clone, Debug)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    pub(crate) fn log(&self, component: Component) -> PathBuf {
        self.0.join(format!("{component}.log"))
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.kubeconfig"))
    }
}

/// The arguments of a component.
pub(crate) fn of(component: Component, config: &PlaneConfig, ports: &Ports, files: &Files) -> Vec<String> {
    let mut args = match component {
        Component::Etcd => etcd(ports, files),
        Component::ApiServer => apiserver(config, ports, files),
        Component::Scheduler => scheduler(config, ports, files),
        Component::ControllerManager => controller_manager(config, ports, files),
        Component::Kwok => kwok(ports, files),
    };
    let extra = config.extra_args.iter().filter(|(of, _)| *of == component);
    args.extend(extra.map(|(_, arg)| arg.clone()));
    args
}

/// The environment of a component. The ones that carry the load collect garbage less often than Go's default: here
/// memory is plenty and cores are few. kube-controller-manager, which korder is compared with, is left as it is.
pub(crate) fn env(component: Component) -> Vec<(String, String)> {
    match component {
        Component::Etcd | Component::ApiServer | Component::Kwok => {
            vec![("GOGC".to_owned(), "400".to_owned())]
        }
        Component::ControllerManager | Component::Scheduler => Vec::new(),
    }
}

fn etcd(ports: &Ports, files: &Files) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        "--name=plane".to_owned(),
        format!("--data-dir={}", files.at("etcd")),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=plane={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--quota-backend-bytes=8589934592".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn apiserver(config: &PlaneConfig, ports: &Ports, files: &Files) -> Vec<String> {
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.apiserver),
        format!("--cert-dir={}", files.at("certs")),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        format!("--token-auth-file={}", files.at("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", files.at("sa.key")),
        format!("--service-account-key-file={}", files.at("sa.pub")),
    ];
    if config.audit {
        args.push(format!("--audit-policy-file={}", files.at("audit-policy.yaml")));
        args.push(format!("--audit-log-path={}", files.audit_log().display()));
        args.push("--audit-log-maxsize=0".to_owned()); // one file, never rotated
    }
    args.extend(feature_gates(config));
    args
}

fn scheduler(config: &PlaneConfig, ports: &Ports, files: &Files) -> Vec<String> {
    let mut args = vec![format!("--config={}", files.at("scheduler.yaml"))];
    args.extend(serving(ports.scheduler));
    args.extend(feature_gates(config));
    args
}

fn controller_manager(config: &PlaneConfig, ports: &Ports, files: &Files) -> Vec<String> {
    let controllers: Vec<&str> = CONTROLLERS
        .into_iter()
        .chain(config.extra_controllers.iter().map(String::as_str))
        .collect();
    let (qps, burst) = config.controller_manager_qps;
    let mut args = vec![
        format!(
            "--kubeconfig={}",
            files.kubeconfig("controller-manager").display()
        ),
        "--leader-elect=false".to_owned(),
        format!("--controllers={}", controllers.join(",")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", files.at("sa.key")),
        format!("--root-ca-file={}", files.at("certs/apiserver.crt")),
        format!("--kube-api-qps={qps}"),
        format!("--kube-api-burst={burst}"),
        // Readiness belongs to the test: without heartbeats no node shall turn Unknown by itself.
        "--node-monitor-grace-period=24h".to_owned(),
        "--node-startup-grace-period=24h".to_owned(),
    ];
    args.extend(serving(ports.controller_manager));
    args.extend(feature_gates(config));
    args
}

fn kwok(ports: &Ports, files: &Files) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.kubeconfig("kwok").display()),
        format!("--config={}", files.at("kwok.yaml")),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=0".to_owned(),
        format!("--server-address=127.0.0.1:{}", ports.kwok),
    ]
}

/// Health and metrics on loopback, open to everybody there.
fn serving(port: u16) -> [String; 3] {
    [
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics".to_owned(),
    ]
}

fn feature_gates(config: &PlaneConfig) -> Option<String> {
    let gates: Vec<String> = config
        .feature_gates
        .iter()
        .map(|(name, on)| format!("{name}={on}"))
        .collect();
    (!gates.is_empty()).then(|| format!("--feature-gates={}", gates.join(",")))
}

/// The audit policy: everything once, when it is complete (watches also when they start).
pub(crate) fn audit_policy(config: &PlaneConfig) -> String {
    let with_bodies = |(group, resource): &(String, String)| {
        format!(
            "- level: RequestResponse
  omitManagedFields: true
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: '{group}'
    resources: [{resource}, {resource}/status]
"
        )
    };
    let bodies: String = config.audit_bodies.iter().map(with_bodies).collect();
    format!(
        "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
{bodies}- level: Metadata
"
    )
}

/// kube-scheduler's configuration file.
pub(crate) fn scheduler_config(config: &PlaneConfig, kubeconfig: &Path) -> String {
    let (qps, burst) = config.scheduler_qps;
    format!(
        "apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: false
clientConnection:
  kubeconfig: {}
  qps: {qps}
  burst: {burst}
",
        kubeconfig.display()
    )
}
