//! Users: make Orders, change them, and meddle with what the controller has made.

use serde_json::{Value, json};

use crate::{
    object::{deleting, items, key, text, uid},
    sim::{api::User, cluster::Cluster},
};

/// Value of the label `app` of a Pod that waits for room that is not its own.
pub const THIEF: &str = "thief";

/// The users' hands on the cluster. Whatever they try may be refused, as in life.
#[derive(Clone)]
pub struct Users {
    cluster: Cluster,
    user: User,
}

/// An Order of this name in `default`, with this template spec.
pub fn order(name: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1", "kind": "Order",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "daemonSet": true, "strategy": { "type": "OneTime" }, "template": { "spec": template } },
    })
}

impl Users {
    /// The users of this cluster.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            user: "user".into(),
        }
    }

    /// Makes an object; returns whether that went through.
    pub fn create(&self, resource: &str, object: &Value) -> bool {
        let namespace = text(object, "/metadata/namespace").to_owned();
        let created = self
            .cluster
            .api(|api| api.create(&self.user, resource, &namespace, object.clone()));
        created.is_ok()
    }

    /// Changes an object; returns whether that went through.
    pub fn merge(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> bool {
        let merged = self
            .cluster
            .api(|api| api.merge(&self.user, resource, namespace, name, None, patch));
        merged.is_ok()
    }

    /// Deletes an object; returns whether that went through.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let deleted = self
            .cluster
            .api(|api| api.delete(&self.user, resource, namespace, name, &json!({})));
        deleted.is_ok()
    }

    /// Objects of a resource that are not being deleted.
    pub fn all(&self, resource: &str) -> Vec<Value> {
        let all = self.cluster.api(|api| api.list(resource));
        all.iter()
            .filter(|object| !deleting(object))
            .map(|object| (**object).clone())
            .collect()
    }

    /// The Guardians.
    pub fn guardians(&self) -> Vec<Value> {
        let guards = |pod: &Value| text(pod, "/metadata/labels/korder.dev~1guardian") == "true";
        self.all("pods").into_iter().filter(guards).collect()
    }

    /// Deletes a Ticket, and makes one of the same name that is not korder's.
    pub fn squat(&self, ticket: &Value) {
        let (namespace, name) = key(ticket);
        if !self.delete("tickets", &namespace, &name) {
            return;
        }
        let mut foreign = json!({
            "apiVersion": "core.korder.dev/v1alpha1", "kind": "Ticket",
            "metadata": { "name": name, "namespace": namespace },
        });
        foreign["spec"] = ticket["spec"].clone();
        self.create("tickets", &foreign);
    }

    /// Takes the labels off an object.
    pub fn strip(&self, resource: &str, object: &Value) -> bool {
        let (namespace, name) = key(object);
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let gone = labels
            .into_iter()
            .flatten()
            .map(|(label, _)| (label.clone(), Value::Null));
        let patch = json!({ "metadata": { "labels": gone.collect::<serde_json::Map<_, _>>() } });
        self.merge(resource, &namespace, &name, &patch)
    }

    /// Fails a Guardian, as a kubelet that evicts it; no kubelet has one that is not bound.
    pub fn evict(&self, pod: &Value) {
        if text(pod, "/spec/nodeName").is_empty() {
            return;
        }
        let (namespace, name) = key(pod);
        let patch = json!({
            "metadata": { "uid": uid(pod) },
            "status": { "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." },
        });
        let by: User = "kubelet".into();
        // It may be gone by now.
        let _told = self
            .cluster
            .api(|api| api.merge(&by, "pods", &namespace, &name, Some("status"), &patch));
    }

    /// A workload's Pod that asks for so much, pinned to a node or not.
    pub fn workload(&self, name: &str, cpu: &str, node: Option<&str>, priority: Option<&str>) -> bool {
        self.create("pods", &workload("load", name, cpu, node, priority))
    }

    /// The same of somebody who waits for room that is not his.
    pub fn thief(&self, name: &str, cpu: &str, node: Option<&str>) -> bool {
        self.create("pods", &workload(THIEF, name, cpu, node, None))
    }

    /// Takes finalizers off everything, so that what is being deleted can go.
    pub fn finalize(&self, resource: &str) {
        let all = self.cluster.api(|api| api.list(resource));
        for object in all
            .iter()
            .filter(|object| !items(object, "/metadata/finalizers").is_empty())
        {
            let (namespace, name) = key(object);
            self.merge(
                resource,
                &namespace,
                &name,
                &json!({ "metadata": { "finalizers": null } }),
            );
        }
    }
}

fn workload(app: &str, name: &str, cpu: &str, node: Option<&str>, priority: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": {
            "containers": [{
                "name": "c", "image": "load",
                "resources": { "requests": { "cpu": cpu } },
            }],
            "terminationGracePeriodSeconds": 2,
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
    }
    if let Some(class) = priority {
        pod["spec"]["priorityClassName"] = json!(class);
    }
    pod
}
