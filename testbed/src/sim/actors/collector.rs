//! The garbage collector, the Pod collector and the namespace controller, as slow as the real ones.
//!
//! An object goes some time after all its owners are gone, a Pod some time after its Node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    object::{deleting, items, key, text, uid},
    sim::{
        api::{Change, ChangeKind, User},
        cluster::Cluster,
    },
};

/// How long a Pod outlives its Node, about as the real collector's rounds have it.
const POD_AFTER_NODE: Duration = Duration::from_secs(40);

/// The collectors' task.
pub struct Collector {
    cluster: Cluster,
    news: mpsc::UnboundedReceiver<Arc<Change>>,
    user: User,
    /// Between two deletes.
    pace: Duration,
    /// Objects by the owner's uid.
    owned: BTreeMap<String, BTreeSet<Target>>,
    owners: BTreeMap<Target, Vec<String>>,
    alive: BTreeSet<String>,
    doomed: BTreeSet<Target>,
    due: BTreeSet<(Instant, Target, Why)>,
    on_node: BTreeMap<String, BTreeSet<Target>>,
}

/// What is gone, so that an object has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Owners,
    Node,
    Namespace,
}

/// Resource, namespace, name and uid.
type Target = (String, String, String, String);

impl Collector {
    /// A collector that deletes one object every `pace`.
    pub fn new(cluster: &Cluster, pace: Duration) -> Self {
        Self {
            cluster: cluster.clone(),
            news: cluster.listen(),
            user: "collector".into(),
            pace,
            owned: BTreeMap::new(),
            owners: BTreeMap::new(),
            alive: BTreeSet::new(),
            doomed: BTreeSet::new(),
            due: BTreeSet::new(),
            on_node: BTreeMap::new(),
        }
    }

    /// Collects for ever.
    pub async fn run(mut self) {
        loop {
            let next = self.due.first().map(|(at, ..)| *at);
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
                    if let Some((_, target, why)) = self.due.pop_first() {
                        self.doomed.remove(&target);
                        self.collect(&target, why);
                        tokio::time::sleep(self.pace).await;
                    }
                }
            }
        }
    }

    fn hear(&mut self, change: &Change) {
        let object = &change.after;
        if &*change.resource == "nodes" && change.kind == ChangeKind::Modified {
            return; // nobody owns a Node
        }
        let (namespace, name) = key(object);
        let target = (
            change.resource.to_string(),
            namespace,
            name,
            uid(object).to_owned(),
        );
        if change.kind == ChangeKind::Deleted {
            return self.forget(&target, object);
        }
        self.alive.insert(target.3.clone());
        let owners: Vec<String> = items(object, "/metadata/ownerReferences")
            .iter()
            .map(|owner| text(owner, "/uid").to_owned())
            .collect();
        for before in self.owners.remove(&target).unwrap_or_default() {
            self.owned.entry(before).or_default().remove(&target);
        }
        for owner in &owners {
            self.owned
                .entry(owner.clone())
                .or_default()
                .insert(target.clone());
        }
        self.owners.insert(target.clone(), owners);
        self.doom_if_orphaned(&target);
        if &*change.resource == "pods" && !text(object, "/spec/nodeName").is_empty() {
            let node = text(object, "/spec/nodeName").to_owned();
            self.on_node.entry(node).or_default().insert(target.clone());
        }
        if &*change.resource == "namespaces" && deleting(object) {
            self.doom(target, Why::Namespace, Duration::ZERO);
        }
    }

    fn forget(&mut self, target: &Target, object: &Value) {
        self.alive.remove(&target.3);
        for owner in self.owners.remove(target).unwrap_or_default() {
            self.owned.entry(owner).or_default().remove(target);
        }
        for dependent in self.owned.remove(&target.3).unwrap_or_default() {
            self.doom_if_orphaned(&dependent);
        }
        match target.0.as_str() {
            "nodes" => {
                for pod in self.on_node.remove(&target.2).unwrap_or_default() {
                    self.doom(pod, Why::Node, POD_AFTER_NODE);
                }
            }
            "pods" => {
                let node = text(object, "/spec/nodeName");
                self.on_node.entry(node.to_owned()).or_default().remove(target);
            }
            _ => {}
        }
    }

    fn doom_if_orphaned(&mut self, target: &Target) {
        let owners = self.owners.get(target).map_or(&[][..], Vec::as_slice);
        if !owners.is_empty() && owners.iter().all(|owner| !self.alive.contains(owner)) {
            self.doom(target.clone(), Why::Owners, self.pace);
        }
    }

    fn doom(&mut self, target: Target, why: Why, after: Duration) {
        if self.doomed.insert(target.clone()) {
            self.due.insert((Instant::now() + after, target, why));
        }
    }

    fn collect(&mut self, target: &Target, why: Why) {
        let (resource, namespace, name, uid) = target;
        let orphaned = self.owners.get(target).is_some_and(|owners| {
            !owners.is_empty() && owners.iter().all(|owner| !self.alive.contains(owner))
        });
        let still = match why {
            Why::Owners => orphaned,
            Why::Node => true,
            Why::Namespace => return self.empty(target),
        };
        if !still || !self.alive.contains(uid) {
            return;
        }
        let mut options = json!({ "preconditions": { "uid": uid } });
        if why == Why::Node {
            options["gracePeriodSeconds"] = json!(0);
        }
        // Gone already is as good.
        let _gone = self
            .cluster
            .api(|api| api.delete(&self.user, resource, namespace, name, &options));
    }

    /// Empties a namespace that is being deleted, then lets it go.
    fn empty(&mut self, namespace: &Target) {
        let inside: Vec<Target> = self
            .owners
            .keys()
            .filter(|(_, within, ..)| *within == namespace.2)
            .cloned()
            .collect();
        self.cluster.api(|api| {
            for (resource, within, name, uid) in &inside {
                let options = json!({ "preconditions": { "uid": uid } });
                // Gone already is as good; what has finalizers or a grace is looked at again.
                let _gone = api.delete(&self.user, resource, within, name, &options);
            }
        });
        if !inside.is_empty() {
            return self.doom(namespace.clone(), Why::Namespace, Duration::from_secs(1));
        }
        self.cluster.api(|api| {
            let Some(object) = api.get("namespaces", "", &namespace.2) else {
                return;
            };
            let mut object = (*object).clone();
            object["spec"]["finalizers"] = json!([]);
            let finalized = api.replace(&self.user, "namespaces", Some("finalize"), object);
            finalized.expect("a terminating namespace without content can be finalized");
        });
    }
}
