//! Nodes as the watch decodes them, and as the rules read them.
//!
//! Unknown fields are skipped while decoding, so that a heartbeat of a 15 KB Node costs little.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Node as FullNode,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::meta;
use crate::domain::{
    node::record::{Effect, Labels, Node, Ready, ReadyStatus, Taint},
    values::ids::NodeUid,
};

/// Nodes are large; a page of them should not be.
pub(crate) const PAGE: u32 = 100;

/// A Node with only the fields that rules read.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = FullNode)]
pub(crate) struct SlimNode {
    /// Name, uid, labels, deletion.
    #[serde(deserialize_with = "meta::slim")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SlimSpec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<SlimTaint>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct SlimTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: String,
    time_added: Option<Time>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SlimStatus {
    #[serde(default, deserialize_with = "ready")]
    conditions: Option<SlimReady>,
}

#[derive(Clone, Debug)]
struct SlimReady {
    status: ReadyStatus,
    since: Option<Timestamp>,
}

/// Picks the condition `Ready` out of the list.
fn ready<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SlimReady>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Condition<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        status: Cow<'a, str>,
        #[serde(default)]
        last_transition_time: Option<Time>,
    }
    let conditions: Option<Vec<Condition<'de>>> = Deserialize::deserialize(deserializer)?;
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.kind == "Ready");
    Ok(ready.map(|condition| SlimReady {
        status: match condition.status.as_ref() {
            "True" => ReadyStatus::True,
            "Unknown" => ReadyStatus::Unknown,
            _ => ReadyStatus::False,
        },
        since: condition.last_transition_time.map(|time| time.0),
    }))
}

impl SlimNode {
    /// The uid, by which its end is told, and the Node; none without a uid.
    pub(crate) fn keyed(self) -> Option<(NodeUid, Self)> {
        let uid = NodeUid::from(self.metadata.uid.as_deref()?);
        Some((uid, self))
    }

    /// The record of this Node. Times that the object does not carry are taken from `before`, the
    /// record so far, or are `now`: the moment of first sight.
    pub(crate) fn record(self, before: Option<&Node>, now: Timestamp) -> Option<Node> {
        let ready = self.status.conditions;
        let status = ready.as_ref().map_or(ReadyStatus::False, |ready| ready.status);
        let seen = before
            .map(|node| node.ready)
            .filter(|ready| ready.status == status);
        let since = ready
            .and_then(|ready| ready.since)
            .unwrap_or_else(|| seen.map_or(now, |ready| ready.since));
        Some(Node {
            uid: self.metadata.uid?.into(),
            name: self.metadata.name?.into(),
            labels: self
                .metadata
                .labels
                .unwrap_or_default()
                .into_iter()
                .collect::<Labels>(),
            unschedulable: self.spec.unschedulable,
            taints: self
                .spec
                .taints
                .into_iter()
                .filter_map(|taint| taint.record(before, now))
                .collect(),
            ready: Ready { status, since },
            deleting: self.metadata.deletion_timestamp.is_some(),
        })
    }
}

impl SlimTaint {
    fn record(self, before: Option<&Node>, now: Timestamp) -> Option<Taint> {
        let effect = match self.effect.as_str() {
            "NoSchedule" => Effect::NoSchedule,
            "PreferNoSchedule" => Effect::PreferNoSchedule,
            "NoExecute" => Effect::NoExecute,
            _ => return None,
        };
        let same = |taint: &&Taint| {
            taint.key.as_ref() == self.key && taint.value.as_ref() == self.value && taint.effect == effect
        };
        let seen = before
            .and_then(|node| node.taints.iter().find(same))
            .map(|taint| taint.since);
        let since = self
            .time_added
            .as_ref()
            .map_or_else(|| seen.unwrap_or(now), |time| time.0);
        Some(Taint {
            key: self.key.into(),
            value: self.value.into(),
            effect,
            since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str) -> SlimNode {
        serde_json::from_str(json).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NODE: &str = r#"{
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "n1", "uid": "u1", "labels": { "b": "2", "a": "1" },
            "annotations": { "x": "y" }, "managedFields": [{ "manager": "kubelet" }] },
        "spec": { "podCIDR": "10.0.0.0/24", "taints": [{ "key": "k", "effect": "NoExecute" }] },
        "status": { "images": [{ "names": ["a"] }], "conditions": [
            { "type": "MemoryPressure", "status": "False" },
            { "type": "Ready", "status": "Unknown", "reason": "r", "message": "a \"quoted\" one",
              "lastTransitionTime": "1970-01-01T00:00:07Z" }] }
    }"#;

    #[test]
    fn reads_what_the_rules_need_and_skips_the_rest() {
        let node = decode(NODE).record(None, at(9)).unwrap();
        assert_eq!((node.uid.as_str(), node.name.as_str()), ("u1", "n1"));
        assert_eq!(node.labels.get("a"), Some("1"));
        assert_eq!(
            node.ready,
            Ready {
                status: ReadyStatus::Unknown,
                since: at(7)
            }
        );
        assert_eq!(node.taints[0].since, at(9), "no timeAdded: first seen");
    }

    #[test]
    fn first_sight_of_a_taint_is_kept_over_later_events() {
        let first = decode(NODE).record(None, at(9)).unwrap();
        let second = decode(NODE).record(Some(&first), at(50)).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn node_without_the_condition_is_not_ready_since_it_was_first_seen() {
        let bare = r#"{ "metadata": { "name": "n1", "uid": "u1" } }"#;
        let first = decode(bare).record(None, at(3)).unwrap();
        assert_eq!(
            first.ready,
            Ready {
                status: ReadyStatus::False,
                since: at(3)
            }
        );
        assert_eq!(
            decode(bare).record(Some(&first), at(30)).unwrap().ready.since,
            at(3)
        );
    }
}
