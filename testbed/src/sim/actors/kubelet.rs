//! All kubelets: run what is bound to their nodes, refuse what does not fit, end what is deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::amounts::{Amounts, add, allocatable, lacking, occupies, requests};
use crate::{
    object::{Key, at, deleting, items, key, text, uid},
    sim::{
        api::{Change, ChangeKind, User},
        cluster::Cluster,
    },
};

/// The kubelets' task.
pub struct Kubelets {
    cluster: Cluster,
    news: mpsc::UnboundedReceiver<Arc<Change>>,
    user: User,
    rng: fastrand::Rng,
    /// Greatest time between a change and what a kubelet does about it, in milliseconds.
    reaction: u64,
    nodes: BTreeMap<String, Amounts>,
    taken: BTreeMap<Key, (String, Amounts)>,
    used: BTreeMap<String, Amounts>,
    due: BTreeSet<(Instant, Key)>,
}

impl Kubelets {
    /// Kubelets that take up to so many milliseconds.
    pub fn new(cluster: &Cluster, seed: u64, reaction: u64) -> Self {
        Self {
            cluster: cluster.clone(),
            news: cluster.listen(),
            user: "kubelet".into(),
            rng: fastrand::Rng::with_seed(seed),
            reaction,
            nodes: BTreeMap::new(),
            taken: BTreeMap::new(),
            used: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        loop {
            let next = self.due.first().map(|(at, _)| *at);
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased; // what happened before what is due
                change = self.news.recv() => match change {
                    Some(change) => self.hear(&change),
                    None => return,
                },
                () = wait => {
                    if let Some((_, pod)) = self.due.pop_first() {
                        self.act(&pod);
                    }
                }
            }
        }
    }

    fn hear(&mut self, change: &Change) {
        let gone = change.kind == ChangeKind::Deleted;
        match &*change.resource {
            "nodes" if gone => {
                self.nodes.remove(&*change.name);
            }
            "nodes" => {
                let [before, now] = [change.before.as_deref(), Some(&*change.after)]
                    .map(|node| node.and_then(|node| at(node, "/status/allocatable")));
                if before == now && self.nodes.contains_key(&*change.name) {
                    return;
                }
                self.nodes
                    .insert(change.name.to_string(), allocatable(&change.after));
            }
            "pods" => self.see_pod(&change.after, gone),
            _ => {}
        }
    }

    fn see_pod(&mut self, pod: &Value, gone: bool) {
        let key = key(pod);
        if gone || !occupies(pod) {
            self.free(&key);
        }
        let starting = text(pod, "/status/phase") == "Pending" && occupies(pod);
        if !gone && occupies(pod) && (starting || deleting(pod)) {
            let after = Duration::from_millis(self.rng.u64(1..=self.reaction));
            let grace = pod
                .pointer("/metadata/deletionGracePeriodSeconds")
                .and_then(Value::as_u64);
            let grace = Duration::from_secs(self.rng.u64(0..=grace.unwrap_or_default()));
            self.due.insert((Instant::now() + after + grace, key));
        }
    }

    fn free(&mut self, pod: &Key) {
        if let Some((node, amounts)) = self.taken.remove(pod) {
            add(self.used.entry(node).or_default(), &amounts, -1);
        }
    }

    fn act(&mut self, pod: &Key) {
        let (namespace, name) = pod;
        let Some(object) = self.cluster.api(|api| api.get("pods", namespace, name)) else {
            return;
        };
        let node = text(&object, "/spec/nodeName").to_owned();
        if !occupies(&object) || !self.nodes.contains_key(&node) {
            return;
        }
        if deleting(&object) {
            let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid(&object) } });
            // Somebody else may have ended it meanwhile.
            let _gone = self
                .cluster
                .api(|api| api.delete(&self.user, "pods", namespace, name, &options));
            return;
        }
        if text(&object, "/status/phase") != "Pending" {
            return;
        }
        let asked = requests(&object);
        let used = self.used.entry(node.clone()).or_default();
        let status = match lacking(&asked, used, &self.nodes[&node]) {
            Some(resource) => json!({
                "phase": "Failed", "reason": format!("OutOf{resource}"),
                "message": format!("Pod was rejected: Node didn't have enough resource: {resource}"),
            }),
            None => {
                add(used, &asked, 1);
                self.taken.insert(pod.clone(), (node, asked));
                json!({ "phase": "Running", "containerStatuses": running(&object) })
            }
        };
        let patch = json!({ "metadata": { "uid": uid(&object) }, "status": status });
        // Only a delete in between can refuse it, and that is heard.
        let _told = self
            .cluster
            .api(|api| api.merge(&self.user, "pods", namespace, name, Some("status"), &patch));
    }
}

fn running(pod: &Value) -> Vec<Value> {
    let running = |container: &Value| {
        let [name, image] = [text(container, "/name"), text(container, "/image")];
        json!({
            "name": name, "image": image, "imageID": "", "ready": true, "started": true, "restartCount": 0,
        })
    };
    items(pod, "/spec/containers").iter().map(running).collect()
}
