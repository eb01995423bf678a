//! Nodes made to order, and the things that happen to nodes. kwok makes them Ready; a test that wants to decide
//! over a node's conditions itself uses [`set_ready`], which takes the node out of kwok's hands (annotation
//! [`super::HOLD`]) until [`hand_back`].

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeSpec as Spec, NodeStatus, Taint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, Object, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::kwok::HOLD;

/// How many creates are in flight at once; one API server on two cores gains nothing from more.
const PARALLEL: usize = 32;

/// A node to create: 8 CPUs, 32 GiB and 110 Pods in no pool and no zone unless told otherwise.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<Taint>,
    unschedulable: bool,
    allocatable: [(&'static str, String); 3],
}

impl NodeSpec {
    /// A node with the labels that every kubelet sets: os, arch, hostname (at most 63 characters of the name). The
    /// old names of os and arch are among them, or the node-lifecycle controller would add them, a write each.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let hostname: String = name.chars().take(63).collect();
        let spec = Self {
            name,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: [
                ("cpu", "8".into()),
                ("memory", "32Gi".into()),
                ("pods", "110".into()),
            ],
        };
        spec.label("kubernetes.io/os", "linux")
            .label("beta.kubernetes.io/os", "linux")
            .label("beta.kubernetes.io/arch", "amd64")
            .label("kubernetes.io/arch", "amd64")
            .label("kubernetes.io/hostname", hostname.trim_end_matches(['-', '.']))
    }

    /// Label `pool`.
    #[must_use]
    pub fn pool(self, pool: &str) -> Self {
        self.label("pool", pool)
    }

    /// Label `topology.kubernetes.io/zone`.
    #[must_use]
    pub fn zone(self, zone: &str) -> Self {
        self.label("topology.kubernetes.io/zone", zone)
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A taint; `effect` as in Kubernetes (`NoSchedule`, `PreferNoSchedule`, `NoExecute`).
    #[must_use]
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(taint(key, value, effect));
        self
    }

    /// What Pods may use: CPUs, memory, number of Pods, as quantities.
    #[must_use]
    pub fn allocatable(mut self, cpu: &str, memory: &str, pods: u32) -> Self {
        self.allocatable = [
            ("cpu", cpu.into()),
            ("memory", memory.into()),
            ("pods", pods.to_string()),
        ];
        self
    }

    /// Cordoned from the start.
    #[must_use]
    pub fn unschedulable(mut self) -> Self {
        self.unschedulable = true;
        self
    }

    /// Never made Ready by kwok: its status belongs to the test.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.annotations.insert(HOLD.to_owned(), "true".to_owned());
        self
    }

    /// The object to create.
    #[must_use]
    pub fn build(self) -> Node {
        let allocatable: BTreeMap<String, Quantity> = self
            .allocatable
            .into_iter()
            .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
            .collect();
        Node {
            metadata: ObjectMeta {
                name: Some(self.name),
                labels: Some(self.labels),
                annotations: (!self.annotations.is_empty()).then_some(self.annotations),
                ..ObjectMeta::default()
            },
            spec: Some(Spec {
                taints: (!self.taints.is_empty()).then_some(self.taints),
                unschedulable: self.unschedulable.then_some(true),
                ..Spec::default()
            }),
            status: Some(NodeStatus {
                allocatable: Some(allocatable.clone()),
                capacity: Some(allocatable),
                ..NodeStatus::default()
            }),
        }
    }
}

fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        value: (!value.is_empty()).then(|| value.to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    }
}

/// Creates nodes, 32 at a time, and gives them back in the order of the specs.
///
/// # Errors
/// At the first that the API server refuses; others may have been created.
pub async fn create_nodes(client: &Client, specs: impl IntoIterator<Item = NodeSpec>) -> Result<Vec<Node>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let create = async |spec: NodeSpec| {
        let (nodes, name) = (nodes.clone(), spec.name.clone());
        let created = nodes.create(&PostParams::default(), &spec.build()).await;
        created.with_context(|| format!("cannot create node {name}"))
    };
    stream::iter(specs)
        .map(create)
        .buffered(PARALLEL)
        .try_collect()
        .await
}

/// Waits until at least `count` nodes that `selector` matches (empty: all) are Ready and have lost the
/// `node.kubernetes.io/not-ready` taint, so that Pods can be scheduled there.
///
/// # Errors
/// After `deadline`: says how many are Ready, and names a few that are not.
pub async fn wait_nodes_ready(
    client: &Client,
    selector: &str,
    count: usize,
    deadline: Duration,
) -> Result<()> {
    let config = watcher::Config {
        label_selector: (!selector.is_empty()).then(|| selector.to_owned()),
        ..watcher::Config::default()
    };
    let nodes: Api<SlimNode> = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    let mut events = watcher(nodes, config).boxed();
    let mut usable: HashMap<String, bool> = HashMap::new();
    let mut error = None;
    let watching = async {
        while usable.values().filter(|usable| **usable).count() < count {
            match events.next().await {
                Some(Ok(Event::Init)) => usable.clear(),
                Some(Ok(Event::InitApply(node) | Event::Apply(node))) => {
                    usable.insert(node.name_any(), is_usable(&node));
                }
                Some(Ok(Event::Delete(node))) => drop(usable.remove(&node.name_any())),
                Some(Ok(Event::InitDone)) => {}
                // The watcher begins again by itself.
                Some(Err(seen)) => error = Some(seen),
                None => break,
            }
        }
    };
    if tokio::time::timeout(deadline, watching).await.is_ok() {
        return Ok(());
    }
    let ready = usable.values().filter(|usable| **usable).count();
    let others: Vec<&str> = usable
        .iter()
        .filter(|(_, usable)| !**usable)
        .map(|(name, _)| name.as_str())
        .take(5)
        .collect();
    let error = error
        .map(|error| format!("; last error: {error}"))
        .unwrap_or_default();
    bail!(
        "waited {deadline:?} for {count} Ready nodes (selector `{selector}`): {ready} of {} are; not, for example: {}{error}",
        usable.len(),
        others.join(", "),
    )
}

/// The part of a Node that tells whether it is usable: whole ones are dear to decode by the thousand.
type SlimNode = Object<SlimSpec, SlimStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
struct SlimSpec {
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct SlimStatus {
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

fn is_usable(node: &SlimNode) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && node
            .spec
            .taints
            .iter()
            .all(|taint| taint.key != "node.kubernetes.io/not-ready")
}

/// Marks a node unschedulable.
///
/// # Errors
/// When the API server refuses; so in all functions below.
pub async fn cordon(client: &Client, name: &str) -> Result<Node> {
    merge(client, name, json!({"spec": {"unschedulable": true}})).await
}

/// Marks a node schedulable again.
///
/// # Errors
/// As [`cordon`].
pub async fn uncordon(client: &Client, name: &str) -> Result<Node> {
    merge(client, name, json!({"spec": {"unschedulable": null}})).await
}

/// Adds a taint, replacing one with the same key and effect; `value` may be empty.
///
/// # Errors
/// As [`cordon`].
pub async fn add_taint(client: &Client, name: &str, key: &str, value: &str, effect: &str) -> Result<Node> {
    edit_taints(client, name, |taints| {
        taints.retain(|taint| taint.key != key || taint.effect != effect);
        taints.push(taint(key, value, effect));
    })
    .await
}

/// Removes every taint with this key.
///
/// # Errors
/// As [`cordon`].
pub async fn remove_taint(client: &Client, name: &str, key: &str) -> Result<Node> {
    edit_taints(client, name, |taints| taints.retain(|taint| taint.key != key)).await
}

/// Reads, changes and writes the taints, again when the node-lifecycle controller wrote in between.
async fn edit_taints(client: &Client, name: &str, edit: impl Fn(&mut Vec<Taint>)) -> Result<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    for _ in 0..10 {
        let mut node = nodes
            .get(name)
            .await
            .with_context(|| format!("cannot read node {name}"))?;
        edit(node.spec.get_or_insert_default().taints.get_or_insert_default());
        match nodes.replace(name, &PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            written => return written.with_context(|| format!("cannot change the taints of node {name}")),
        }
    }
    bail!("cannot change the taints of node {name}: ten conflicts in a row")
}

/// Sets labels (`Some`) and removes labels (`None`).
///
/// # Errors
/// As [`cordon`].
pub async fn relabel(client: &Client, name: &str, labels: &[(&str, Option<&str>)]) -> Result<Node> {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    merge(client, name, json!({"metadata": {"labels": labels}})).await
}

/// Deletes a node; it is gone when this returns, for nodes have no finalizers here.
///
/// # Errors
/// As [`cordon`].
pub async fn delete_node(client: &Client, name: &str) -> Result<()> {
    let deleted = Api::<Node>::all(client.clone())
        .delete(name, &DeleteParams::default())
        .await;
    deleted
        .map(|_| ())
        .with_context(|| format!("cannot delete node {name}"))
}

/// The status of a node's Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The kubelet reports ready.
    True,
    /// The kubelet reports not ready.
    False,
    /// The kubelet has not been heard of.
    Unknown,
}

/// Takes a node out of kwok's hands and writes its Ready condition, with a new `lastTransitionTime`. It stays
/// so until the next call or [`hand_back`]: kwok's Stages pass over nodes with the annotation
/// [`super::HOLD`], and a heartbeat already under way touches heartbeat times only. The node-lifecycle
/// controller adds and removes the `not-ready` and `unreachable` taints as in a real cluster.
///
/// # Errors
/// As [`cordon`].
pub async fn set_ready(client: &Client, name: &str, ready: Ready) -> Result<Node> {
    merge(client, name, json!({"metadata": {"annotations": {HOLD: "true"}}})).await?;
    let (status, reason) = match ready {
        Ready::True => ("True", "KubeletReady"),
        Ready::False => ("False", "KubeletNotReady"),
        Ready::Unknown => ("Unknown", "NodeStatusUnknown"),
    };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({
        "type": "Ready", "status": status, "reason": reason, "message": "set by the test",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    let nodes: Api<Node> = Api::all(client.clone());
    let patched = nodes.patch_status(name, &PatchParams::default(), &patch).await;
    patched.with_context(|| format!("cannot set the Ready condition of node {name}"))
}

/// Gives a node back to kwok, which makes it Ready.
///
/// # Errors
/// As [`cordon`].
pub async fn hand_back(client: &Client, name: &str) -> Result<Node> {
    merge(client, name, json!({"metadata": {"annotations": {HOLD: null}}})).await
}

async fn merge(client: &Client, name: &str, patch: Value) -> Result<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patched = nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.with_context(|| format!("cannot patch node {name}"))
}
