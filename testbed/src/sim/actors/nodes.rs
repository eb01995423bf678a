//! Nodes: how they look, their heartbeats, and what befalls them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    object::{items, text},
    sim::{
        api::{ApiServer, User},
        cluster::Cluster,
    },
};

/// Greatest time between two status reports of an unchanged node.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// What befalls a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fortune {
    /// Its Ready condition becomes `True`, `False` or `Unknown`.
    Ready(&'static str),
    /// It is cordoned, or no longer.
    Cordon(bool),
    /// It gets a taint: key, value and effect.
    Taint(&'static str, &'static str, &'static str),
    /// Its taints of this key go.
    Untaint(&'static str),
    /// A label changes, or goes.
    Label(&'static str, Option<&'static str>),
    /// It leaves the cluster.
    Leave,
    /// It leaves and joins again at once, as another.
    Again,
}

/// The nodes' hands on the cluster.
#[derive(Clone)]
pub struct Nodes {
    cluster: Cluster,
    user: User,
}

/// A Node as it joins: Ready, with the labels and room given.
pub fn node(name: &str, labels: &[(&str, &str)], cpu: &str, memory: &str) -> Value {
    let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
    all.insert("kubernetes.io/hostname", name);
    all.entry("kubernetes.io/os").or_insert("linux");
    let room = json!({ "cpu": cpu, "memory": memory, "pods": "110" });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": all },
        "spec": {},
        "status": { "capacity": room, "allocatable": room },
    })
}

impl Nodes {
    /// The nodes of this cluster.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            user: "nodes".into(),
        }
    }

    /// Lets a Node join, Ready.
    pub fn join(&self, node: &Value) {
        let stamp = self.stamp();
        self.cluster.api(|api| self.create(api, node, &stamp));
    }

    fn create(&self, api: &mut ApiServer, node: &Value, stamp: &str) {
        let mut node = node.clone();
        node["status"]["conditions"] = json!([ready("True", stamp, stamp)]);
        let made = api
            .create(&self.user, "nodes", "", node)
            .expect("a Node of a new name can join");
        // Admission taints every new Node; the node controller sees that it is Ready.
        self.turn(api, &made, "True", stamp);
    }

    /// Lets something befall a node; nothing if it is not there.
    pub fn befall(&self, name: &str, fortune: &Fortune) {
        let stamp = self.stamp();
        self.cluster.api(|api| {
            let Some(node) = api.get("nodes", "", name) else {
                return;
            };
            match fortune {
                Fortune::Leave => self.remove(api, name),
                Fortune::Again => {
                    self.remove(api, name);
                    let mut fresh = json!({
                        "apiVersion": "v1", "kind": "Node",
                        "metadata": { "name": name, "labels": node["metadata"]["labels"] },
                        "spec": {},
                    });
                    fresh["status"] = json!({
                        "capacity": node["status"]["capacity"],
                        "allocatable": node["status"]["allocatable"],
                    });
                    self.create(api, &fresh, &stamp);
                }
                Fortune::Ready(status) => self.turn(api, &node, status, &stamp),
                _ => {
                    let patch = patch(&node, fortune, &stamp);
                    let patched = api.merge(&self.user, "nodes", "", name, None, &patch);
                    patched.expect("a Node that is there can be changed");
                }
            }
        });
    }

    fn remove(&self, api: &mut ApiServer, name: &str) {
        let deleted = api.delete(&self.user, "nodes", "", name, &json!({}));
        deleted.expect("a Node that is there can be deleted");
    }

    /// The condition by the kubelet, the taints by the node controller.
    fn turn(&self, api: &mut ApiServer, node: &Value, status: &str, stamp: &str) {
        let name = text(node, "/metadata/name");
        let before = crate::object::condition(node, "Ready");
        let same = before.is_some_and(|before| text(before, "/status") == status);
        let since = if same {
            before.map_or(stamp, |before| text(before, "/lastTransitionTime"))
        } else {
            stamp
        };
        let patch = json!({ "status": { "conditions": [ready(status, since, stamp)] } });
        let told = api.merge(&self.user, "nodes", "", name, Some("status"), &patch);
        told.expect("a Node that is there can be changed");
        let keys = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
        let mut taints = without(node, &keys);
        let key = match status {
            "True" => None,
            "False" => Some(keys[0]),
            _ => Some(keys[1]),
        };
        for effect in ["NoSchedule", "NoExecute"] {
            taints.extend(key.map(|key| json!({ "key": key, "effect": effect, "timeAdded": stamp })));
        }
        if json!(taints) != json!(items(node, "/spec/taints")) {
            let patch = json!({ "spec": { "taints": taints } });
            let told = api.merge(&self.user, "nodes", "", name, None, &patch);
            told.expect("a Node that is there can be changed");
        }
    }

    /// Reports the status of every node again and again, for ever.
    pub async fn heartbeats(self) {
        loop {
            let names: Vec<String> = self.cluster.api(|api| {
                let nodes = api.list("nodes");
                nodes
                    .iter()
                    .map(|node| text(node, "/metadata/name").to_owned())
                    .collect()
            });
            let pause = HEARTBEAT / u32::try_from(names.len().max(1)).expect("fewer than 2^32 nodes");
            for name in &names {
                self.beat(name);
                tokio::time::sleep(pause).await;
            }
            if names.is_empty() {
                tokio::time::sleep(HEARTBEAT).await;
            }
        }
    }

    fn beat(&self, name: &str) {
        let stamp = self.stamp();
        self.cluster.api(|api| {
            let Some(node) = api.get("nodes", "", name) else {
                return;
            };
            let Some(condition) = crate::object::condition(&node, "Ready") else {
                return;
            };
            if text(condition, "/status") == "Unknown" {
                return;
            }
            let mut condition = condition.clone();
            condition["lastHeartbeatTime"] = json!(stamp);
            let patch = json!({ "status": { "conditions": [condition] } });
            let told = api.merge(&self.user, "nodes", "", name, Some("status"), &patch);
            told.expect("a Node that is there can be changed");
        });
    }

    fn stamp(&self) -> String {
        self.cluster.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

fn ready(status: &str, since: &str, now: &str) -> Value {
    let reason = match status {
        "True" => "KubeletReady",
        "False" => "KubeletNotReady",
        _ => "NodeStatusUnknown",
    };
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": "",
        "lastTransitionTime": since, "lastHeartbeatTime": now,
    })
}

fn without(node: &Value, keys: &[&str]) -> Vec<Value> {
    let other = |taint: &&Value| !keys.contains(&text(taint, "/key"));
    items(node, "/spec/taints")
        .iter()
        .filter(other)
        .cloned()
        .collect()
}

fn patch(node: &Value, fortune: &Fortune, stamp: &str) -> Value {
    match fortune {
        Fortune::Cordon(cordoned) => {
            let key = "node.kubernetes.io/unschedulable";
            let mut taints = without(node, &[key]);
            let taint = json!({ "key": key, "effect": "NoSchedule", "timeAdded": stamp });
            taints.extend(cordoned.then_some(taint));
            json!({ "spec": { "unschedulable": cordoned, "taints": taints } })
        }
        Fortune::Taint(key, value, effect) => {
            let mut taints = without(node, &[key]);
            taints.push(json!({ "key": key, "value": value, "effect": effect, "timeAdded": stamp }));
            json!({ "spec": { "taints": taints } })
        }
        Fortune::Untaint(key) => json!({ "spec": { "taints": without(node, &[key]) } }),
        Fortune::Label(key, value) => json!({ "metadata": { "labels": { *key: value } } }),
        Fortune::Ready(_) | Fortune::Leave | Fortune::Again => unreachable!("no patch"),
    }
}
