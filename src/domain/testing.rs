//! Builders for tests: `node("n1").label("zone", "a").taint("gpu=yes:NoSchedule")`.
//!
//! Times are seconds since the epoch, which is also when everything began that names no time.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use super::{
    node::{
        eligibility::Placement,
        record::{Effect, Labels, Node, Ready, ReadyStatus, Taint},
        selector::NodeSelector,
        toleration::Toleration,
    },
    order::spec::Order,
};
use crate::api;

/// `seconds` after the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A Ready node without labels and taints whose uid is `<name>-uid`.
pub(crate) fn node(name: &str) -> Node {
    Node {
        uid: format!("{name}-uid").into(),
        name: name.into(),
        labels: Labels::default(),
        unschedulable: false,
        taints: Vec::new(),
        ready: Ready {
            status: ReadyStatus::True,
            since: at(0),
        },
        deleting: false,
    }
}

impl Node {
    /// With one more label.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        let others = self.labels.iter().filter(|(other, _)| *other != key);
        self.labels = others.chain([(key, value)]).collect();
        self
    }

    /// With one more taint, `key=value:effect` or `key:effect`, since the epoch.
    pub(crate) fn taint(self, text: &str) -> Self {
        self.taint_since(text, 0)
    }

    /// With one more taint since a time.
    pub(crate) fn taint_since(mut self, text: &str, since: i64) -> Self {
        self.taints.push(taint_since(text, since));
        self
    }

    /// With this Ready condition.
    pub(crate) fn ready(mut self, status: ReadyStatus, since: i64) -> Self {
        self.ready = Ready {
            status,
            since: at(since),
        };
        self
    }

    /// Cordoned, without the taint.
    pub(crate) fn cordoned(mut self) -> Self {
        self.unschedulable = true;
        self
    }
}

/// The taint `key=value:effect` or `key:effect`.
pub(crate) fn taint_since(text: &str, since: i64) -> Taint {
    let (pair, effect) = text.rsplit_once(':').unwrap();
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Taint {
        key: key.into(),
        value: value.into(),
        effect: match effect {
            "NoSchedule" => Effect::NoSchedule,
            "PreferNoSchedule" => Effect::PreferNoSchedule,
            "NoExecute" => Effect::NoExecute,
            other => panic!("no effect {other}"),
        },
        since: at(since),
    }
}

/// The toleration written as in a Pod.
pub(crate) fn toleration(json: Value) -> Toleration {
    let toleration: core::Toleration = serde_json::from_value(json).unwrap();
    Toleration::compile("t", &toleration).unwrap()
}

/// A placement that takes every node without taints.
pub(crate) fn placement() -> Placement {
    Placement::default()
}

impl Placement {
    /// With one more toleration, written as in a Pod.
    pub(crate) fn tolerate(mut self, json: Value) -> Self {
        self.tolerations.push(toleration(json));
        self
    }

    /// With this `nodeSelector`, and no affinity.
    pub(crate) fn select(mut self, json: Value) -> Self {
        let pairs = serde_json::from_value(json).unwrap();
        self.selector = NodeSelector::compile("s", &pairs, None).unwrap();
        self
    }

    /// With these terms of the required node affinity, and no `nodeSelector`.
    pub(crate) fn affinity(mut self, terms: Value) -> Self {
        self.selector = selector(json!({}), terms);
        self
    }
}

/// The selector of these pairs and terms.
pub(crate) fn selector(pairs: Value, terms: Value) -> NodeSelector {
    let pairs = serde_json::from_value(pairs).unwrap();
    let required = serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap();
    NodeSelector::compile("s", &pairs, Some(&required)).unwrap()
}

/// The Order `default/<name>` with this spec, compiled; `daemonSet` is true unless it says
/// otherwise.
pub(crate) fn order(name: &str, spec: Value) -> Order {
    Order::from_api(&api_order(name, spec))
}

/// The Order `default/<name>` with this spec, as the API server has it.
pub(crate) fn api_order(name: &str, spec: Value) -> api::Order {
    let mut whole = json!({ "daemonSet": true, "template": {} });
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Order",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": format!("{name}-uid"),
            "generation": 1,
            "creationTimestamp": "1970-01-01T00:00:00Z",
        },
        "spec": whole,
    }))
    .unwrap()
}
