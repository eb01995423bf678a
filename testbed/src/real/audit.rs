//! Reads the API server's audit log: who wrote what since when. The API server appends one JSON object per
//! line while it serves, and logs a request before its response is complete; a line that is half-written is
//! left for the next look.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wait;

/// A place in the log, between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// The beginning of the log.
    pub const START: Self = Self(0);
}

/// The audit log of a plane.
#[derive(Clone)]
pub struct AuditLog {
    file: PathBuf,
    admin: Client,
}

impl AuditLog {
    pub(crate) fn new(file: PathBuf, admin: Client) -> Self {
        Self { file, admin }
    }

    /// The end of the log as it is now: requests under way may still be logged after it.
    ///
    /// # Errors
    /// When there is no audit log.
    pub fn mark(&self) -> Result<Mark> {
        let mut file = self.open()?;
        let mut end = file.seek(SeekFrom::End(0))?;
        // Back to the end of the last whole line.
        let mut chunk = Vec::new();
        while end > 0 {
            let start = end.saturating_sub(64 * 1024);
            chunk.resize(usize::try_from(end - start)?, 0);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut chunk)?;
            if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Mark(start + newline as u64 + 1));
            }
            end = start;
        }
        Ok(Mark::START)
    }

    /// A mark behind every request that was answered before this call: sends a read of a unique name and
    /// waits until the log shows it. Needs the API server.
    ///
    /// # Errors
    /// When the read is not logged within 10 s.
    pub async fn settled_mark(&self) -> Result<Mark> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("audit-mark-{}-{n}", std::process::id());
        let mut from = self.mark()?;
        let maps: Api<ConfigMap> = Api::namespaced(self.admin.clone(), "default");
        maps.get_opt(&name)
            .await
            .context("the read that marks a place in the audit log")?;
        wait::until(Duration::from_secs(10), "the mark in the audit log", async || {
            let (entries, end) = self.read(from, &name)?;
            from = end;
            if entries.is_empty() {
                Err(anyhow::anyhow!("not in the log"))
            } else {
                Ok(end)
            }
        })
        .await
    }

    /// All requests of a user since a mark, reads and finished watches included.
    ///
    /// # Errors
    /// When the log cannot be read or a whole line of it is not an audit event.
    pub fn entries_since(&self, mark: Mark, user: &str) -> Result<Vec<AuditEntry>> {
        let (mut entries, _) = self.read(mark, user)?;
        entries.retain(|entry| entry.user == user);
        Ok(entries)
    }

    /// The writes of a user since a mark, refused ones included, Leases too.
    ///
    /// # Errors
    /// As [`Self::entries_since`].
    pub fn writes_since(&self, mark: Mark, user: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.entries_since(mark, user)?;
        entries.retain(AuditEntry::is_write);
        Ok(entries)
    }

    /// The writes of one resource since a mark by anybody, refused ones included.
    ///
    /// # Errors
    /// As [`Self::entries_since`].
    pub fn writes_of(&self, mark: Mark, resource: &str) -> Result<Vec<AuditEntry>> {
        let (mut entries, _) = self.read(mark, &format!("\"{resource}\""))?;
        entries.retain(|entry| entry.is_write() && entry.resource == resource);
        Ok(entries)
    }

    /// Entries whose line contains `needle`, and the end of the last whole line.
    fn read(&self, mark: Mark, needle: &str) -> Result<(Vec<AuditEntry>, Mark)> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut lines = BufReader::with_capacity(1024 * 1024, file);
        let (mut entries, mut end, mut line) = (Vec::new(), mark.0, String::new());
        loop {
            line.clear();
            let length = lines.read_line(&mut line).context("the audit log is not UTF-8")?;
            if !line.ends_with('\n') {
                return Ok((entries, Mark(end)));
            }
            end += length as u64;
            if line.contains(needle) {
                let event: Event = serde_json::from_str(&line).with_context(|| line.clone())?;
                entries.extend(event.completed());
            }
        }
    }

    fn open(&self) -> Result<File> {
        File::open(&self.file).context("no audit log; is `PlaneConfig::audit` set?")
    }
}

/// One request that the API server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who asked: `system:serviceaccount:NAMESPACE:NAME` for a ServiceAccount.
    pub user: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`, `get`, `list`, `watch`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource in plural, such as `pods`; empty for a path that is no resource.
    pub resource: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-wide objects.
    pub namespace: String,
    /// Empty for lists and for names that the server generates.
    pub name: String,
    /// The HTTP status; 0 if there was none.
    pub code: u16,
    /// When the request arrived.
    pub received: Timestamp,
    /// When the answer was complete.
    pub completed: Timestamp,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// Path and query.
    pub uri: String,
    /// Whether the user's roles did not allow it; a 403 without this came from admission.
    pub forbidden: bool,
    /// The body of the request as JSON, if [`super::PlaneConfig::audit_bodies`] has the resource.
    pub request: Option<String>,
    /// The body of the answer likewise.
    pub response: Option<String>,
}

impl AuditEntry {
    /// Whether the request asked for a change.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }

    /// Whether it is about a Lease.
    #[must_use]
    pub fn is_lease(&self) -> bool {
        self.group == "coordination.k8s.io" && self.resource == "leases"
    }
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteKind {
    /// See [`AuditEntry::resource`].
    pub resource: String,
    /// See [`AuditEntry::subresource`].
    pub subresource: String,
    /// See [`AuditEntry::verb`].
    pub verb: String,
    /// See [`AuditEntry::code`].
    pub code: u16,
}

/// Requests counted by kind. Prints as a table, one kind per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts(pub BTreeMap<WriteKind, usize>);

impl WriteCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Those of one verb, resource and subresource, whatever the code.
    #[must_use]
    pub fn of(&self, verb: &str, resource: &str, subresource: &str) -> usize {
        let wanted = |kind: &WriteKind| {
            kind.verb == verb && kind.resource == resource && kind.subresource == subresource
        };
        self.0
            .iter()
            .filter(|(kind, _)| wanted(kind))
            .map(|(_, count)| count)
            .sum()
    }
}

impl<'a> FromIterator<&'a AuditEntry> for WriteCounts {
    fn from_iter<I: IntoIterator<Item = &'a AuditEntry>>(entries: I) -> Self {
        let mut counts = BTreeMap::new();
        for entry in entries {
            let kind = WriteKind {
                resource: entry.resource.clone(),
                subresource: entry.subresource.clone(),
                verb: entry.verb.clone(),
                code: entry.code,
            };
            *counts.entry(kind).or_default() += 1;
        }
        Self(counts)
    }
}

impl fmt::Display for WriteCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.0 {
            let slash = if kind.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", kind.resource, kind.subresource);
            writeln!(f, "{count:8}  {:16} {resource:24} {}", kind.verb, kind.code)?;
        }
        Ok(())
    }
}

/// The part of an `audit.k8s.io/v1` Event that is used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: UserInfo,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    request_object: Option<Box<RawValue>>,
    #[serde(default)]
    response_object: Option<Box<RawValue>>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl Event {
    /// The entry, unless a watch has only begun. A request that panicked in the server counts as answered.
    fn completed(self) -> Option<AuditEntry> {
        let body = |body: Option<Box<RawValue>>| body.map(|body| body.get().to_owned());
        (self.stage != "ResponseStarted").then_some(AuditEntry {
            user: self.user.username,
            verb: self.verb,
            group: self.object_ref.api_group,
            resource: self.object_ref.resource,
            subresource: self.object_ref.subresource,
            namespace: self.object_ref.namespace,
            name: self.object_ref.name,
            code: self.response_status.code,
            received: self.request_received_timestamp,
            completed: self.stage_timestamp,
            user_agent: self.user_agent,
            uri: self.request_uri,
            forbidden: self
                .annotations
                .get("authorization.k8s.io/decision")
                .is_some_and(|decision| decision == "forbid"),
            request: body(self.request_object),
            response: body(self.response_object),
        })
    }
}
