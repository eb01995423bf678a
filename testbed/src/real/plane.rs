//! A whole control plane: starts the programs, hands out clients and kubeconfigs, and lets a test stop, freeze
//! and restart each of them. Dropping it ends everything and removes its directory.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    AuditLog, Component, PlaneConfig, Signal, Usage, binaries, http, kubeconfig, stack::Stack, wait,
};

/// A running control plane.
///
/// Keep it in a variable that is dropped: a `static` is not, and leaves its directory for the next plane to
/// sweep (its processes end in any case).
pub struct Plane {
    client: Client,
    kubeconfig: PathBuf,
    stack: Stack,
}

impl Plane {
    /// Starts a plane: about 5 s once the programs are built. On a port that a stranger took in the meantime
    /// it tries again with others.
    ///
    /// # Errors
    /// When the programs cannot be built, or one does not become ready; with the end of its log.
    pub async fn start(config: PlaneConfig) -> Result<Self> {
        let programs = binaries::directory().await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let stack = Stack::prepare(config.clone(), programs.clone())?;
            match Self::on(stack).await {
                Err(error) if attempts < 3 && port_taken(&error) => {}
                result => return result,
            }
        }
    }

    async fn on(stack: Stack) -> Result<Self> {
        stack.start(Component::Etcd).await?;
        stack.start(Component::ApiServer).await?;
        let kubeconfig = stack.files().kubeconfig("admin");
        let client = kubeconfig::client(&kubeconfig).await?;
        let (controllers, kwok) = (stack.config().controllers, stack.config().kwok);
        let wanted = async |component, wanted| match wanted {
            true => stack.start(component).await,
            false => Ok(()),
        };
        tokio::try_join!(
            wanted(Component::ControllerManager, controllers),
            wanted(Component::Scheduler, controllers),
            wanted(Component::Kwok, kwok),
        )?;
        let plane = Self {
            client,
            kubeconfig,
            stack,
        };
        if controllers {
            plane.wait_service_account("default", "default").await?;
        }
        Ok(plane)
    }

    /// A client of an administrator that the API server does not throttle; no retries of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The plane's directory: logs, kubeconfigs, etcd's data, the audit log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.stack.dir().path()
    }

    /// The configuration it was started with.
    #[must_use]
    pub fn config(&self) -> &PlaneConfig {
        self.stack.config()
    }

    /// The directory of the control plane's programs, kubectl among them.
    #[must_use]
    pub fn programs(&self) -> &Path {
        self.stack.programs()
    }

    /// The last `lines` lines of each component's log.
    #[must_use]
    pub fn logs_tail(&self, lines: usize) -> String {
        self.stack.logs_tail(lines)
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.stack.files().audit_log(), self.client())
    }

    /// A kubeconfig with a token of a ServiceAccount, valid for a year.
    ///
    /// # Errors
    /// When there is no such ServiceAccount or the API server refuses.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let year = Some(365 * 24 * 3600);
        let spec = TokenRequestSpec {
            expiration_seconds: year,
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let granted = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let granted = granted.with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?;
        let token = granted.status.context("a TokenRequest without a status")?.token;
        let file = format!("sa-{namespace}-{name}.kubeconfig");
        self.stack
            .dir()
            .write(&file, &kubeconfig::render(self.stack.ports().apiserver, &token))
    }

    /// Waits until a ServiceAccount exists; `default` is made shortly after its namespace.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn wait_service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let what = format!("ServiceAccount {namespace}/{name}");
        wait::until(Duration::from_secs(30), &what, async || accounts.get(name).await)
            .await
            .map(|_| ())
    }

    /// Runs kubectl as administrator: its standard output.
    ///
    /// # Errors
    /// When kubectl fails; carries its standard error.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// Applies manifests server-side: kubectl's output.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub async fn apply_yaml(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], yaml)
            .await
    }

    /// Applies manifests server-side, and takes a warning of the API server for a failure: kubectl's output.
    ///
    /// # Errors
    /// As [`Self::kubectl`], and with the warnings.
    pub async fn apply_strictly(&self, yaml: &str) -> Result<String> {
        let args = ["apply", "--server-side", "--warnings-as-errors", "-f", "-"];
        self.kubectl_with_input(&args, yaml).await
    }

    /// Applies every manifest in a directory, server-side: kubectl's output.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub async fn apply_dir(&self, dir: &Path) -> Result<String> {
        let dir = dir.to_str().context("a path that is not UTF-8")?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-R", "-f", dir])
            .await
    }

    async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut kubectl = Command::new(self.programs().join("kubectl"));
        // A cache of its own: kubectl keeps discovery by address, and another plane may have had this one.
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        kubectl
            .arg("--cache-dir")
            .arg(self.dir().join("kubectl-cache"))
            .args(args);
        kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut kubectl = kubectl.spawn().context("cannot start kubectl")?;
        let mut stdin = kubectl.stdin.take().expect("piped");
        let feed = async {
            // kubectl may end without reading it all; its exit status tells.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let (output, ()) = tokio::join!(kubectl.wait_with_output(), feed);
        let output = output?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            error.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Ends a component cleanly (SIGTERM, after 3 s SIGKILL).
    ///
    /// # Errors
    /// When it is not running.
    pub async fn stop(&self, component: Component) -> Result<()> {
        self.stack.stop(component).await
    }

    /// Starts a component that was stopped, with the same ports and data, and waits until it answers.
    ///
    /// # Errors
    /// When it is running already, or does not become ready; with the end of its log.
    pub async fn start_again(&self, component: Component) -> Result<()> {
        self.stack.start(component).await
    }

    /// Stops and starts a component; for etcd, also waits until the API server can use it again.
    ///
    /// # Errors
    /// As [`Self::start_again`].
    pub async fn restart(&self, component: Component) -> Result<()> {
        self.stop(component).await?;
        self.start_again(component).await?;
        if component == Component::Etcd {
            self.stack.ready(Component::ApiServer).await?;
        }
        Ok(())
    }

    /// Makes the API server forget its history: etcd's is compacted up to now, and the API server starts again,
    /// so that its caches begin at now too.
    ///
    /// # Errors
    /// When etcd refuses, or as [`Self::start_again`].
    pub async fn forget_history(&self) -> Result<()> {
        self.stop(Component::ApiServer).await?;
        let etcd = http::client("http", self.stack.ports().of(Component::Etcd))?;
        let status = http::post_ok(&etcd, "/v3/maintenance/status", &json!({})).await?;
        let revision = &status["header"]["revision"];
        http::post_ok(&etcd, "/v3/kv/compaction", &json!({ "revision": revision })).await?;
        self.start_again(Component::ApiServer).await
    }

    /// Sends a signal to a component; after [`Signal::Kill`] it may be started again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, component: Component, signal: Signal) -> Result<()> {
        self.stack.signal(component, signal)
    }

    /// Memory and processor time of a component.
    ///
    /// # Errors
    /// When it is not running.
    pub fn usage(&self, component: Component) -> Result<Usage> {
        self.stack.usage(component)
    }

    /// The process id of a component.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pid(&self, component: Component) -> Result<u32> {
        self.stack.pid(component)
    }

    /// `/metrics` of a component, in Prometheus' text format.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self, component: Component) -> Result<String> {
        if component == Component::ApiServer {
            return http::get_ok(&self.client, "/metrics").await;
        }
        let server = http::client(component.health().0, self.stack.ports().of(component))?;
        http::get_ok(&server, "/metrics").await
    }
}

/// Whether a start failed because a port was taken between its choice and its use.
fn port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}
