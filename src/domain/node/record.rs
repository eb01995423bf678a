//! The slim record of a Node: what rules read, and nothing else.
//!
//! Immutable once built; shared between shards by `Arc`.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::domain::values::ids::{NodeName, NodeUid};

/// What the rules read of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// `metadata.uid`.
    pub(crate) uid: NodeUid,
    /// `metadata.name`.
    pub(crate) name: NodeName,
    /// `metadata.labels`.
    pub(crate) labels: Labels,
    /// `spec.unschedulable`.
    pub(crate) unschedulable: bool,
    /// `spec.taints`, in their order.
    pub(crate) taints: Vec<Taint>,
    /// The condition `Ready`.
    pub(crate) ready: Ready,
    /// Whether `metadata.deletionTimestamp` is set.
    pub(crate) deleting: bool,
}

impl Node {
    /// Since which second it is NotReady.
    pub(crate) fn not_ready_since(&self) -> Option<Timestamp> {
        let second = Timestamp::from_second(self.ready.since.as_second());
        second.ok().filter(|_| self.ready.status != ReadyStatus::True)
    }
}

/// Labels sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key))
            .ok()
            .map(|index| self.0[index].1.as_ref())
    }

    /// All pairs, sorted by key.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self(pairs.into())
    }
}

/// A taint of a Node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Taint {
    pub(crate) key: Arc<str>,
    /// The value, empty if absent.
    pub(crate) value: Arc<str>,
    pub(crate) effect: Effect,
    /// `timeAdded`, or when this replica first saw the taint.
    pub(crate) since: Timestamp,
}

/// What a taint does to Pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    /// New Pods are not scheduled.
    NoSchedule,
    /// New Pods are scheduled elsewhere if possible.
    PreferNoSchedule,
    /// New Pods are not scheduled and running ones evicted.
    NoExecute,
}

/// The condition `Ready` of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ready {
    pub(crate) status: ReadyStatus,
    /// `lastTransitionTime`, or when this replica first saw the status.
    pub(crate) since: Timestamp,
}

/// Status of the condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ReadyStatus {
    /// The node is healthy.
    True,
    /// The kubelet says that it is not, or says nothing yet (the condition is absent).
    False,
    /// The kubelet has not been heard of.
    Unknown,
}

impl Effect {
    /// The effect as Kubernetes writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// `key=value:effect`, as `kubectl taint` writes it.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{}", self.effect.as_str())
    }
}
