//! Configuration of `korder run`: flags, each also an environment variable.
//!
//! Everything that is wrong is said before anything starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::domain::values::{duration, shard::ShardCount};

/// Flags of `korder run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Number of shards: a power of two up to 1024, fixed at install
    #[arg(long, env = "KORDER_SHARDS", default_value = "64")]
    pub shards: ShardCount,
    /// Namespace of korder's Leases and Shard objects [default: POD_NAMESPACE, else korder-system]
    #[arg(long, env = "KORDER_NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of this replica [default: POD_NAME, else the host name]
    #[arg(long, env = "KORDER_REPLICA_ID")]
    pub replica_id: Option<String>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "KORDER_LISTEN", default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// How long a node may be NotReady before korder removes its open Tickets
    #[arg(long, env = "KORDER_NOT_READY_GRACE", default_value = "60s", value_parser = span)]
    pub not_ready_grace: Duration,
    /// No effect yet, as Pods cannot claim: how long a claimant that does not require a Ticket waits for one
    #[arg(long, env = "KORDER_CLAIM_WAIT", default_value = "10s", value_parser = span)]
    pub claim_wait: Duration,
    /// No effect yet, as Pods cannot claim: how long a claim may take before korder undoes it
    #[arg(long, env = "KORDER_CLAIM_DEADLINE", default_value = "30s", value_parser = span)]
    pub claim_deadline: Duration,
    /// Image of Guardians: any image that starts and does nothing
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
    /// Text for people.
    Text,
}

impl Config {
    /// Where Leases and Shard objects live.
    pub fn namespace(&self) -> String {
        namespace(self.namespace.clone())
    }

    /// The replica's name; empty if there is none.
    pub fn replica(&self) -> String {
        let host = || std::fs::read_to_string(PathBuf::from("/etc/hostname")).ok();
        said(self.replica_id.clone())
            .or_else(|| said(std::env::var("POD_NAME").ok()))
            .or_else(|| said(host()))
            .unwrap_or_default()
    }

    /// What no attempt can mend.
    ///
    /// # Errors
    /// The flag, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let (replica, namespace) = (self.replica(), self.namespace());
        if replica.is_empty() {
            return Err("this replica has no name: give it one with --replica-id".to_owned());
        }
        if !is_name(&replica, 200, ".") {
            return Err(format!(
                "--replica-id {replica:?} cannot be part of the name of a Lease: use at most 200 lower-case letters, \
                 digits, '-' and '.', with a letter or digit at both ends (default: POD_NAME, else the host name)"
            ));
        }
        if !is_name(&namespace, 63, "") {
            return Err(format!(
                "--namespace {namespace:?} is not the name of a namespace: use at most 63 lower-case letters, digits \
                 and '-', with a letter or digit at both ends"
            ));
        }
        Ok(())
    }
}

/// Something that is not empty.
fn said(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

/// Whether a name follows RFC 1123, in parts between any of these separators.
fn is_name(text: &str, longest: usize, separators: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.into_iter().all(|end| end.is_some_and(plain))
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    };
    text.len() <= longest && text.split(|c| separators.contains(c)).all(part)
}

/// Where Leases and Shard objects live, if that is what was said.
pub(crate) fn namespace(flag: Option<String>) -> String {
    said(flag)
        .or_else(|| said(std::env::var("POD_NAMESPACE").ok()))
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
    fn names_are_what_kubernetes_takes() {
        for good in ["a", "korder-5d9c-x2", "node.example.org", "0"] {
            assert!(is_name(good, 200, "."), "{good}");
        }
        for bad in ["", "My_Host", "vm.", "-a", "a-", "a..b", "ä", &"a".repeat(201)] {
            assert!(!is_name(bad, 200, "."), "{bad}");
        }
        assert!(!is_name("a.b", 63, ""));
    }

    #[test]
    fn what_is_empty_has_not_been_said() {
        assert_eq!(said(Some(" \n".to_owned())), None);
        assert_eq!(said(Some("vm\n".to_owned())), Some("vm".to_owned()));
    }

    #[test]
    fn spans_are_go_durations_that_are_not_negative() {
        assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["-1s", "60", "soon"] {
            assert!(span(bad).unwrap_err().contains("such as 60s"), "{bad}");
        }
    }
}
