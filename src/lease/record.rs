//! What a Lease records, and what that is worth now.
//!
//! Expiry is judged by when this replica last saw the record change, on its own monotonic clock. The
//! times that are written in a Lease are for people.

use std::{fmt, sync::Arc, time::Duration};

use crate::domain::values::shard::{ShardCount, ShardId};
use crate::domain::{pair::observed::Revision, values::time::Mono};

/// Name of a replica, the same after a restart in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    /// The text of the id.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for ReplicaId {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of korder's Leases.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LeaseName {
    /// The membership of a replica, `korder-replica-ID`.
    Replica(ReplicaId),
    /// The lock of a shard, `korder-shard-07`.
    Shard(ShardId),
}

impl LeaseName {
    /// `metadata.name`. Shards are padded to the width of the greatest, at least 2.
    pub(crate) fn object_name(&self, count: ShardCount) -> String {
        match self {
            Self::Replica(id) => format!("korder-replica-{id}"),
            Self::Shard(shard) => {
                let width = (count.get() - 1).to_string().len().max(2);
                format!("korder-shard-{:0width$}", shard.0)
            }
        }
    }

    /// Reads `metadata.name`; none for a Lease that is not korder's.
    ///
    /// Any width is read, so that the Leases of an installation with more shards are seen for what they
    /// are.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some(id) = name.strip_prefix("korder-replica-") {
            return (!id.is_empty()).then(|| Self::Replica(id.into()));
        }
        let digits = name.strip_prefix("korder-shard-")?;
        let plain = digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok().map(|shard| Self::Shard(ShardId(shard))))?
    }
}

/// Who holds a Lease: a replica, and which of its processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    /// The replica, `spec.holderIdentity`.
    pub(crate) replica: ReplicaId,
    /// Different for every process.
    pub(crate) incarnation: Arc<str>,
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    /// `metadata.resourceVersion`: a decimal number that grows (KEP-5504).
    pub(crate) version: Arc<str>,
    /// Who holds it; none once it is released.
    pub(crate) holder: Option<Holder>,
    /// How many shards the installation has, if it says so.
    pub(crate) shards: Option<u16>,
}

impl Record {
    /// Whether this record came after the one with `version`.
    pub(crate) fn newer_than(&self, version: &str) -> bool {
        match (
            Revision::parse(Some(&self.version)),
            Revision::parse(Some(version)),
        ) {
            (Revision(0), _) | (_, Revision(0)) => *self.version != *version,
            (own, other) => own > other,
        }
    }
}

/// A record, and when this replica saw it change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) record: Record,
    /// When this version was seen first.
    pub(crate) changed: Mono,
}

/// The times that leases are held and judged by.
///
/// Safe while `lease` / `deadline` is at least the ratio of any two replicas' clock rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Another's record that has not changed for this long may be taken.
    pub lease: Duration,
    /// Time from one renewal to the next.
    pub renew: Duration,
    /// Own Leases are given up this long after the start of the last renewal that landed.
    pub deadline: Duration,
    /// How long one request may take. The caller keeps it.
    pub request: Duration,
    /// Time from a failure to the next try; shards wait at most this long for the membership.
    pub retry: Duration,
    /// How long an expired membership of another is kept before it is deleted.
    pub forget: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
            request: Duration::from_secs(2),
            retry: Duration::from_millis(500),
            forget: Duration::from_secs(600),
        }
    }
}

/// What a Lease is worth to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grade {
    /// There is none, or nobody holds it.
    Free,
    /// Another holds it.
    Live,
    /// Another holds it and has missed a renewal.
    Late,
    /// Another held it, and has not renewed it for the length of a lease.
    Expired,
    /// This process is recorded.
    Own,
    /// Another process of this replica is recorded, however long ago.
    Foreign,
}

/// The grade of what was seen of a Lease, for the process `me`.
pub(crate) fn grade(seen: Option<&Seen>, me: &Holder, times: &LeaseTimes, now: Mono) -> Grade {
    let Some((seen, holder)) = seen.and_then(|seen| Some((seen, seen.record.holder.as_ref()?))) else {
        return Grade::Free;
    };
    let age = now.since(seen.changed);
    match () {
        () if holder == me => Grade::Own,
        () if holder.replica == me.replica => Grade::Foreign,
        () if age >= times.lease => Grade::Expired,
        () if age > 2 * times.renew => Grade::Late,
        () => Grade::Live,
    }
}

#[cfg(test)]
mod tests;
