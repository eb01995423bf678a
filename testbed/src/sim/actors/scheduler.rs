//! The scheduler: binds one Pod at a time, by priority, then age, where it fits.
//!
//! Like kube-scheduler it counts a nominated Pod as if it ran, gated or not, for all others of its priority or
//! a lower one; it leaves gated ones alone, and says of what does not fit why.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::amounts::{Amounts, add, allocatable, lacking, occupies, requests};
use crate::{
    eligibility::{UNSCHEDULABLE, selected, taints, tolerates},
    object::{Key, at, condition, deleting, items, key, text, uid},
    sim::{
        api::{Change, ChangeKind, User},
        cluster::Cluster,
    },
};

/// The scheduler's task.
pub struct Scheduler {
    cluster: Cluster,
    news: mpsc::UnboundedReceiver<Arc<Change>>,
    user: User,
    /// Between two bindings.
    pace: Duration,
    nodes: BTreeMap<String, Room>,
    /// Where each Pod counts, and how.
    counted: BTreeMap<Key, (String, Counted)>,
    pods: BTreeMap<Key, Arc<Value>>,
    queue: BTreeSet<Turn>,
    turns: BTreeMap<Key, Turn>,
    /// Pods that found no room, by the one node they could have gone to, or "".
    waiting: BTreeMap<String, BTreeSet<Key>>,
    waits_for: BTreeMap<Key, String>,
}

type Turn = (Reverse<i64>, u64, Key);

/// How a Pod counts on a node: bound, or nominated with its priority.
#[derive(Clone, PartialEq)]
enum Counted {
    Bound(Amounts),
    Nominated(i64, Amounts),
}

#[derive(Default)]
struct Room {
    node: Option<Arc<Value>>,
    all: Amounts,
    /// By Pods that are bound.
    used: Amounts,
    nominated: BTreeMap<Key, (i64, Amounts)>,
}

impl Room {
    /// What is taken for a Pod of this priority.
    fn taken(&self, pod: &Key, priority: i64) -> Amounts {
        let mut taken = self.used.clone();
        for (other, (of, amounts)) in &self.nominated {
            if other != pod && *of >= priority {
                add(&mut taken, amounts, 1);
            }
        }
        taken
    }
}

impl Scheduler {
    /// A scheduler that binds a Pod every `pace`.
    pub fn new(cluster: &Cluster, pace: Duration) -> Self {
        Self {
            cluster: cluster.clone(),
            news: cluster.listen(),
            user: "scheduler".into(),
            pace,
            nodes: BTreeMap::new(),
            counted: BTreeMap::new(),
            pods: BTreeMap::new(),
            queue: BTreeSet::new(),
            turns: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waits_for: BTreeMap::new(),
        }
    }

    /// Schedules for ever.
    pub async fn run(mut self) {
        while let Some(change) = self.news.recv().await {
            self.hear(&change);
            self.hear_more();
            while let Some(turn) = self.queue.pop_first() {
                let (_, _, pod) = turn;
                self.turns.remove(&pod);
                self.schedule(&pod);
                tokio::time::sleep(self.pace).await;
                self.hear_more();
            }
        }
    }

    fn hear_more(&mut self) {
        while let Ok(change) = self.news.try_recv() {
            self.hear(&change);
        }
    }

    fn hear(&mut self, change: &Change) {
        let gone = change.kind == ChangeKind::Deleted;
        match &*change.resource {
            "nodes" => self.see_node(&change.name, (!gone).then(|| change.after.clone())),
            "pods" => self.see_pod(&change.after, change.revision, gone),
            _ => {}
        }
    }

    fn see_node(&mut self, name: &str, node: Option<Arc<Value>>) {
        let room = self.nodes.entry(name.to_owned()).or_default();
        let matters = match (&room.node, &node) {
            (Some(before), Some(now)) => ["/spec", "/metadata/labels", "/status/allocatable"]
                .iter()
                .any(|part| at(before, part) != at(now, part)),
            _ => true,
        };
        let [before, now] =
            [&room.node, &node].map(|node| node.as_deref().and_then(|node| at(node, "/status/allocatable")));
        if before != now {
            room.all = node.as_deref().map(allocatable).unwrap_or_default();
        }
        room.node = node;
        if matters {
            self.wake(name);
        }
    }

    fn see_pod(&mut self, pod: &Arc<Value>, revision: u64, gone: bool) {
        let key = key(pod);
        let bound = text(pod, "/spec/nodeName");
        let nominated = text(pod, "/status/nominatedNodeName");
        let over = gone || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let counts = match (bound, nominated) {
            _ if over => None,
            ("", "") => None,
            ("", node) => Some((node.to_owned(), Counted::Nominated(priority(pod), requests(pod)))),
            (node, _) => Some((node.to_owned(), Counted::Bound(requests(pod)))),
        };
        self.count(&key, counts);
        let mine = text(pod, "/spec/schedulerName") == "default-scheduler";
        let gated = !items(pod, "/spec/schedulingGates").is_empty();
        let waits = mine && !over && bound.is_empty() && !gated && !deleting(pod);
        if gone {
            self.pods.remove(&key);
        } else {
            self.pods.insert(key.clone(), pod.clone());
        }
        if waits {
            if !self.turns.contains_key(&key) && !self.waits_for.contains_key(&key) {
                self.line_up(key, revision);
            }
        } else {
            if let Some(turn) = self.turns.remove(&key) {
                self.queue.remove(&turn);
            }
            if let Some(node) = self.waits_for.remove(&key) {
                self.waiting.entry(node).or_default().remove(&key);
            }
        }
    }

    fn line_up(&mut self, key: Key, revision: u64) {
        let turn = (Reverse(priority(&self.pods[&key])), revision, key.clone());
        self.turns.insert(key, turn.clone());
        self.queue.insert(turn);
    }

    /// Counts a Pod where it belongs now; room that came free wakes those who wait for it.
    fn count(&mut self, key: &Key, counts: Option<(String, Counted)>) {
        if self.counted.get(key) == counts.as_ref() {
            return;
        }
        if let Some((node, counted)) = self.counted.remove(key) {
            let room = self.nodes.entry(node.clone()).or_default();
            match counted {
                Counted::Bound(amounts) => add(&mut room.used, &amounts, -1),
                Counted::Nominated(..) => drop(room.nominated.remove(key)),
            }
            self.wake(&node);
        }
        if let Some((node, counted)) = counts {
            let room = self.nodes.entry(node.clone()).or_default();
            match &counted {
                Counted::Bound(amounts) => add(&mut room.used, amounts, 1),
                Counted::Nominated(priority, amounts) => {
                    room.nominated.insert(key.clone(), (*priority, amounts.clone()));
                }
            }
            self.counted.insert(key.clone(), (node, counted));
        }
    }

    fn wake(&mut self, node: &str) {
        for of in [node, ""] {
            for key in self.waiting.remove(of).unwrap_or_default() {
                self.waits_for.remove(&key);
                if self.pods.contains_key(&key) {
                    self.line_up(key, 0);
                }
            }
        }
    }

    fn schedule(&mut self, pod: &Key) {
        let Some(object) = self.pods.get(pod).cloned() else {
            return;
        };
        let pinned = pinned(&object).map(str::to_owned);
        let asked = requests(&object);
        let nominated = text(&object, "/status/nominatedNodeName").to_owned();
        let mut why = BTreeMap::<String, u32>::new();
        let candidates: Vec<&String> = match &pinned {
            Some(name) => self
                .nodes
                .get_key_value(name)
                .map(|(name, _)| name)
                .into_iter()
                .collect(),
            None => {
                let first = self.nodes.get_key_value(&nominated).map(|(name, _)| name);
                first.into_iter().chain(self.nodes.keys()).collect()
            }
        };
        for name in candidates {
            let room = &self.nodes[name];
            if room.node.is_none() && pinned.is_none() {
                continue;
            }
            let used = room.taken(pod, priority(&object));
            match refusal(room, &object, &asked, &used) {
                Some(reason) => *why.entry(reason).or_default() += 1,
                None => return self.bind(pod, &object, &name.clone(), asked),
            }
        }
        self.cannot(pod, &object, pinned.unwrap_or_default(), &why);
    }

    fn bind(&mut self, pod: &Key, object: &Value, node: &str, asked: Amounts) {
        let (namespace, name) = pod;
        let bound = self
            .cluster
            .api(|api| api.bind(&self.user, namespace, name, uid(object), node));
        if bound.is_ok() {
            self.count(pod, Some((node.to_owned(), Counted::Bound(asked))));
        }
    }

    fn cannot(&mut self, pod: &Key, object: &Value, only: String, why: &BTreeMap<String, u32>) {
        self.waits_for.insert(pod.clone(), only.clone());
        self.waiting.entry(only).or_default().insert(pod.clone());
        let there = self.nodes.values().filter(|room| room.node.is_some()).count();
        let reasons = why.iter().map(|(why, count)| format!("{count} {why}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let message = format!("0/{there} nodes are available: {reasons}.");
        let told =
            condition(object, "PodScheduled").is_some_and(|condition| text(condition, "/message") == message);
        if told {
            return;
        }
        let now = self.cluster.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": now,
        });
        let patch = json!({ "metadata": { "uid": uid(object) }, "status": { "conditions": [condition] } });
        let (namespace, name) = pod;
        // The Pod may be gone by now; its end is heard in time.
        let _told = self
            .cluster
            .api(|api| api.merge(&self.user, "pods", namespace, name, Some("status"), &patch));
    }
}

fn priority(pod: &Value) -> i64 {
    let priority = at(pod, "/spec/priority").and_then(Value::as_i64);
    priority.unwrap_or_default()
}

/// Why a Pod cannot go to a node, in the scheduler's words.
fn refusal(room: &Room, pod: &Value, asked: &Amounts, used: &Amounts) -> Option<String> {
    let Some(node) = room.node.as_deref().filter(|node| !deleting(node)) else {
        return Some("node(s) not found".to_owned());
    };
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if !selected(node, spec) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let tolerations = items(spec, "/tolerations");
    if let Some(taint) = taints(node).find(|taint| tolerates(tolerations, taint).is_none()) {
        let (key, value) = (text(taint, "/key"), text(taint, "/value"));
        return Some(format!("node(s) had untolerated taint {{{key}: {value}}}"));
    }
    let cordon = json!({ "key": UNSCHEDULABLE, "effect": "NoSchedule" });
    let cordoned = at(node, "/spec/unschedulable") == Some(&Value::Bool(true));
    if cordoned && tolerates(tolerations, &cordon).is_none() {
        return Some("node(s) were unschedulable".to_owned());
    }
    lacking(asked, used, &room.all).map(|resource| match resource {
        "pods" => "Too many pods".to_owned(),
        resource => format!("Insufficient {resource}"),
    })
}

/// The node a Pod is pinned to by `matchFields`, if it is.
pub fn pinned(pod: &Value) -> Option<&str> {
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    match items(pod, terms) {
        [term] => match items(term, "/matchFields") {
            [field] if text(field, "/operator") == "In" => at(field, "/values/0")?.as_str(),
            _ => None,
        },
        _ => None,
    }
}

/// The Pods that take more than a node has: none, or the scheduler or a kubelet is wrong.
pub fn overcommitted(nodes: &[Arc<Value>], pods: &[Arc<Value>]) -> Vec<String> {
    let mut used = BTreeMap::<&str, Amounts>::new();
    for pod in pods.iter().filter(|pod| occupies(pod)) {
        add(
            used.entry(text(pod, "/spec/nodeName")).or_default(),
            &requests(pod),
            1,
        );
    }
    let over = |node: &Arc<Value>| {
        let name = text(node, "/metadata/name");
        let (used, none) = (used.get(name)?, Amounts::new());
        let resource = lacking(used, &none, &allocatable(node))?;
        Some(format!("{name}: {resource}"))
    };
    nodes.iter().filter_map(over).collect()
}
