//! The control plane, the nodes, and korder under its own ServiceAccount.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use kube::Client;
use testbed::real::{KorderConfig, KorderProcess, Plane, PlaneConfig, create_nodes, wait_nodes_ready};

use trials::show::grouped;

use crate::{rules::node, story::Story};

/// The user that korder writes as.
pub(crate) const KORDER: &str = "system:serviceaccount:korder-system:korder";
/// korder's `--not-ready-grace`.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How often each node's status is patched.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// Longer lines of logs are cut.
const LOG_COLUMNS: usize = 300;
const DEADLINE: Duration = Duration::from_secs(300);

/// All that runs. korder ends before its API server.
pub(crate) struct Cluster {
    pub(crate) korder: KorderProcess,
    pub(crate) client: Client,
    pub(crate) plane: Plane,
}

impl Cluster {
    /// Starts everything; no Order is there yet.
    pub(crate) async fn start(korder: &Path, nodes: usize, story: &mut Story) -> Result<Self> {
        story.open(
            "Control plane",
            "etcd, kube-apiserver, -scheduler, -controller-manager",
        )?;
        let config = PlaneConfig {
            name: "demo".to_owned(),
            keep: false,
            heartbeat: Some(HEARTBEAT),
            ..PlaneConfig::default()
        };
        let plane = Plane::start(config).await?;
        let client = plane.client();
        story.close("up");

        story.open("Nodes", "kwok plays their kubelets, in 3 pools and 3 zones")?;
        create_nodes(&client, (0..nodes).map(node)).await?;
        wait_nodes_ready(&client, "", nodes, DEADLINE).await?;
        story.close(format!("{} nodes Ready", grouped(nodes)));

        story.open("korder", "CRDs, roles, and korder under its ServiceAccount")?;
        for part in ["rbac/namespace.yaml", "crds", "rbac"] {
            plane
                .kubectl(&["apply", "--server-side", "-f", &deploy(part)])
                .await?;
        }
        let korder = KorderProcess::start(KorderConfig {
            binary: korder.to_owned(),
            kubeconfig: plane
                .service_account_kubeconfig("korder-system", "korder")
                .await?,
            name: "korder".to_owned(),
            log_dir: plane.dir().to_owned(),
            args: ["--log-format", "text", "--not-ready-grace", "10s"]
                .map(str::to_owned)
                .to_vec(),
            env: vec![("NO_COLOR".to_owned(), "1".to_owned())],
        })?;
        korder.wait_ready(DEADLINE).await?;
        story.close("ready");
        Ok(Self {
            korder,
            client,
            plane,
        })
    }

    /// The two Orders of the documentation, unchanged, and a selective one.
    pub(crate) async fn apply_orders(&self) -> Result<()> {
        let examples = deploy("examples");
        self.plane.kubectl(&["apply", "-f", &examples]).await?;
        self.plane.apply_yaml(include_str!("storage-cache.yaml")).await?;
        Ok(())
    }

    /// The ends of all logs.
    pub(crate) fn show_logs(&self) {
        let logs = format!(
            "\n--- korder\n{}\n{}",
            self.korder.log_tail(20),
            self.plane.logs_tail(6)
        );
        for line in logs.lines() {
            println!("{}", line.chars().take(LOG_COLUMNS).collect::<String>());
        }
    }

    /// How to look around while everything stays up.
    pub(crate) fn show_commands(&self, korder: &Path) {
        let korder = std::path::absolute(korder).unwrap_or_else(|_| korder.to_owned());
        let korder = korder.parent().unwrap_or(Path::new(".")).display();
        let (dir, programs) = (self.plane.dir().display(), self.plane.programs().display());
        println!(
            "\nEverything stays up until Ctrl-C. In another shell:\n\n\
             export KUBECONFIG={}\n\
             export KUBECACHEDIR={dir}/kubectl-cache\n\
             export PATH={programs}:{korder}:$PATH\n\n\
             kubectl get orders\n\
             kubectl get tickets -o wide | head\n\
             kubectl get events | grep Tickets\n\
             korder explain infrastructure-reservation node-00013\n\
             kubectl cordon node-00004; kubectl get tickets -w\n\
             korder run --replica-id b --listen 127.0.0.1:8081 --not-ready-grace 10s & sleep 9; korder shards\n\
             kubectl get shards -n korder-system -l '!korder.dev/page'\n\
             curl -s localhost:{}/metrics | grep ^korder_\n\
             tail -f {dir}/korder.log",
            self.plane.kubeconfig().display(),
            self.korder.port(),
        );
    }
}

fn deploy(part: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    root.join(part).to_string_lossy().into_owned()
}
