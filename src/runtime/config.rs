//! Configuration of `korder run`: flags, each also an environment variable.
//!
//! Everything that is wrong is said before anything starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{domain::duration, shard::ShardCount};

/// Flags of `korder run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Number of shards: a power of two up to 1024, fixed at install
    #[arg(long, env = "KORDER_SHARDS", default_value = "64")]
    pub shards: ShardCount,
    /// Namespace of Leases and Shard objects [default: POD_NAMESPACE, else korder-system]
    #[arg(long, env = "KORDER_NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of this replica [default: POD_NAME, else the host name]
    #[arg(long, env = "KORDER_REPLICA_ID")]
    pub replica_id: Option<String>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "KORDER_LISTEN", default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// How long a node may be NotReady before its open Tickets go
    #[arg(long, env = "KORDER_NOT_READY_GRACE", default_value = "60s", value_parser = span)]
    pub not_ready_grace: Duration,
    /// How long a claimant that does not require a Ticket waits for one (no effect yet: there are no claims)
    #[arg(long, env = "KORDER_CLAIM_WAIT", default_value = "10s", value_parser = span)]
    pub claim_wait: Duration,
    /// How long a hand-over may take before it is undone (no effect yet: there are no claims)
    #[arg(long, env = "KORDER_CLAIM_DEADLINE", default_value = "30s", value_parser = span)]
    pub claim_deadline: Duration,
    /// Image of Guardians: anything that starts and does nothing
    #[arg(
        long,
        env = "KORDER_GUARDIAN_IMAGE",
        default_value = "registry.k8s.io/pause:3.10.1"
    )]
    pub guardian_image: String,
    /// Priority class of Guardians whose Order names none
    #[arg(long, env = "KORDER_GUARDIAN_PRIORITY_CLASS")]
    pub guardian_priority_class: Option<String>,
    /// Format of the log on standard error
    #[arg(long, env = "KORDER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Where Leases and Shard objects live.
    pub fn namespace(&self) -> String {
        namespace(self.namespace.clone())
    }

    /// The replica's name.
    pub fn replica(&self) -> String {
        self.replica_id
            .clone()
            .or_else(|| std::env::var("POD_NAME").ok())
            .or_else(|| std::fs::read_to_string(PathBuf::from("/etc/hostname")).ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "korder".to_owned())
    }
}

/// Where Leases and Shard objects live, if that is what was said.
pub(crate) fn namespace(said: Option<String>) -> String {
    said.or_else(|| std::env::var("POD_NAMESPACE").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "korder-system".to_owned())
}

/// Reads a Go duration that is not negative.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let remedy = "use h, m and s, such as 60s";
    let span = duration::parse(text).map_err(|error| format!("{error}: {remedy}"))?;
    Duration::try_from(span).map_err(|_| format!("must not be negative: {remedy}"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "not an address and a port: use one such as 0.0.0.0:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_go_durations_that_are_not_negative() {
        assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["-1s", "60", "soon"] {
            assert!(span(bad).unwrap_err().contains("such as 60s"), "{bad}");
        }
    }
}
