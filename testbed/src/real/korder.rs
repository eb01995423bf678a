//! The `korder` binary as a child process, started by path: `korder run` against a plane.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kube::Client;

use super::{Process, Signal, Usage, http, ports::Port, wait};

/// How to run korder.
#[derive(Clone, Debug)]
pub struct KorderConfig {
    /// The binary.
    pub binary: PathBuf,
    /// Passed as `KUBECONFIG`.
    pub kubeconfig: PathBuf,
    /// Names the log file `NAME.log`, and the replica unless `args` say `--replica-id`.
    pub name: String,
    /// Where the log goes; usually the plane's directory.
    pub log_dir: PathBuf,
    /// After `korder run --listen 127.0.0.1:PORT`.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
}

/// A running korder. Dropping it kills it.
#[derive(Debug)]
pub struct KorderProcess {
    process: Process,
    config: KorderConfig,
    port: Port,
}

impl KorderProcess {
    /// Starts `korder run` on a free port and does not wait for it; see [`Self::wait_ready`].
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn start(config: KorderConfig) -> Result<Self> {
        let port = Port::reserve()?;
        Ok(Self {
            process: launch(&config, port.number())?,
            config,
            port,
        })
    }

    /// Starts it again with the same arguments and the same port; the old process is killed if it still runs.
    /// The log goes on in the same file.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(&self.config, self.port.number())?;
        Ok(())
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill9(&self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it has ended before, or still runs after `deadline`.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.terminate(deadline).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait_exit(deadline).await
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// SIGSTOP: freezes it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn sigstop(&self) -> Result<()> {
        self.process.signal(Signal::Stop)
    }

    /// SIGCONT: lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn sigcont(&self) -> Result<()> {
        self.process.signal(Signal::Continue)
    }

    /// `/metrics` in Prometheus' text format.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        http::get_ok(&self.server()?, "/metrics").await
    }

    /// The sum of a metric's samples, over all labels; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::metrics`].
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        Ok(sum_metric(&self.metrics().await?, name))
    }

    /// The answer of `/readyz`: status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ready(&self) -> Result<(u16, String)> {
        self.get("/readyz").await
    }

    /// The answer to a GET on `--listen`: status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        http::get(&self.server()?, path).await
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends, or is not ready after `deadline`; with the end of its log.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let server = self.server()?;
        let what = format!("{} to be ready", self.config.name);
        let ready = wait::until(deadline, &what, async || match self.process.exited() {
            Some(status) => Ok(Some(status)),
            None => http::get_ok(&server, "/readyz").await.map(|_| None),
        });
        match ready.await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("{} ended: {status}\n{}", self.config.name, self.log_tail(20)),
            Err(error) => Err(error.context(self.log_tail(20))),
        }
    }

    /// Memory and processor time.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The port of `--listen`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// The last `lines` lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    fn server(&self) -> Result<Client> {
        http::client("http", self.port.number())
    }
}

fn launch(config: &KorderConfig, port: u16) -> Result<Process> {
    let mut args = vec![
        "run".to_owned(),
        "--listen".to_owned(),
        format!("127.0.0.1:{port}"),
    ];
    args.extend(config.args.iter().cloned());
    let kubeconfig = config.kubeconfig.to_str().context("a path that is not UTF-8")?;
    // POD_NAME is korder's default for the replica's id; the host name would be the same for all.
    let mut env = vec![
        ("KUBECONFIG".to_owned(), kubeconfig.to_owned()),
        ("POD_NAME".to_owned(), config.name.clone()),
    ];
    env.extend(config.env.iter().cloned());
    Process::start(
        &config.binary,
        &args,
        &env,
        &config.log_dir.join(format!("{}.log", config.name)),
    )
}

/// Sums `name{...} value` lines of Prometheus' text format.
fn sum_metric(text: &str, name: &str) -> Option<f64> {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(sample).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_is_summed_over_labels_and_not_over_longer_names() {
        let text = "# HELP a b\na_total{x=\"} 7\"} 2\na_total{x=\"z\"} 3.5\na_total_more 9\nb 1\n";
        assert_eq!(sum_metric(text, "a_total"), Some(5.5));
        assert_eq!(sum_metric(text, "b"), Some(1.0));
        assert_eq!(sum_metric(text, "c"), None);
    }
}
