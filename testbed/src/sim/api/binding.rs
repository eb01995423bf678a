//! `pods/binding`: how a scheduler gives a Pod to a node.
//!
//! Source: k8s.io/kubernetes/pkg/registry/core/pod/storage/storage.go (BindingREST),
//! plugin/pkg/admission/podtopologylabels.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ApiServer, ChangeKind, User, meta,
    pods::is_gated,
    status::{Result, bad_request, binding_conflict, conflict, not_found, uid_conflict, unknown},
};

impl ApiServer {
    /// `pods/binding`.
    pub(crate) fn bind_pod(
        &mut self,
        by: &User,
        namespace: &str,
        name: &str,
        binding: &Value,
    ) -> Result<Value> {
        let kind = self.kind("pods")?;
        let own = meta::name(binding);
        if !own.is_empty() && own != name {
            return Err(bad_request("name in URL does not match name in Binding object"));
        }
        let target = &binding["target"];
        if !target["kind"].is_null() && !["", "Node"].contains(&target["kind"].as_str().unwrap_or("x")) {
            let is = &target["kind"];
            return Err(unknown(format!(
                "target.kind: Unsupported value: {is}: supported values: \"Node\", \"<empty>\""
            )));
        }
        let node = target["name"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(unknown("target.name: Required value"));
        }
        let old = self.store.get("pods", namespace, name).cloned();
        let old = old.ok_or_else(|| not_found(&kind, name))?;
        let uid = meta::uid(binding);
        if !uid.is_empty() && uid != meta::uid(&old) {
            return Err(uid_conflict(&kind, namespace, name, uid, meta::uid(&old)));
        }
        let revision = meta::revision(binding);
        if !revision.is_empty() && revision != meta::revision(&old) {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/pods/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {}",
                meta::revision(&old)
            );
            return Err(conflict(&kind, name, &why));
        }
        refuse_binding(name, &old)?;
        let pod = self.bound(&old, node, binding);
        self.store
            .commit(by, self.now(), &kind, ChangeKind::Modified, pod);
        Ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        }))
    }

    fn bound(&self, old: &Arc<Value>, node: &str, binding: &Value) -> Value {
        let mut pod = Value::clone(old);
        pod["spec"]["nodeName"] = json!(node);
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        for (key, value) in binding["metadata"]["annotations"]
            .as_object()
            .into_iter()
            .flatten()
        {
            pod["metadata"]["annotations"][key] = value.clone();
        }
        let labels = self
            .store
            .get("nodes", "", node)
            .and_then(|node| meta::labels(node).cloned());
        for key in ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"] {
            if let Some(value) = labels.as_ref().and_then(|labels| labels.get(key)) {
                pod["metadata"]["labels"][key] = value.clone();
            }
        }
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": self.stamp(),
        });
        let conditions = pod["status"].get_mut("conditions").and_then(Value::as_array_mut);
        let place = conditions.and_then(|list| list.iter_mut().find(|one| one["type"] == "PodScheduled"));
        match place {
            Some(place) if place["status"] == "True" => {}
            Some(place) => *place = scheduled,
            None => match pod["status"]["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(scheduled),
                None => pod["status"]["conditions"] = json!([scheduled]),
            },
        }
        pod
    }
}

fn refuse_binding(name: &str, pod: &Value) -> Result<()> {
    let why = if meta::is_deleting(pod) {
        format!("pod {name} is being deleted, cannot be assigned to a host")
    } else if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        format!("pod {name} is already assigned to node {node:?}")
    } else if is_gated(pod) {
        format!("pod {name} has non-empty .spec.schedulingGates")
    } else {
        return Ok(());
    };
    Err(binding_conflict(name, &why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{PODS, pod, server};

    #[test]
    fn a_gated_pod_is_bound_only_when_its_gates_are_gone() {
        let mut server = server();
        let mut wanted = pod("a");
        wanted["spec"]["schedulingGates"] = json!([{ "name": "korder.dev/claim" }]);
        wanted["spec"]["priorityClassName"] = json!("system-node-critical");
        let made = server.good("POST", PODS, wanted);
        assert_eq!(made["spec"]["priority"], 2_000_001_000);
        assert_eq!(made["status"]["conditions"][0]["reason"], "SchedulingGated");
        let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
        let by = "scheduler".into();
        let refused = server.bind(&by, "default", "a", &uid, "n1").unwrap_err();
        assert_eq!(
            refused.body["message"],
            "Operation cannot be fulfilled on pods/binding \"a\": pod a has non-empty .spec.schedulingGates"
        );
        let more = json!({ "spec": { "schedulingGates": [{ "name": "x.y/z" }] } });
        assert_eq!(server.refused("PATCH", &format!("{PODS}/a"), more).0, 422);
        server.good(
            "PATCH",
            &format!("{PODS}/a"),
            json!({ "spec": { "schedulingGates": null } }),
        );
        let nominated = json!({ "status": { "nominatedNodeName": "n1" } });
        server.good("PATCH", &format!("{PODS}/a/status"), nominated);
        server.bind(&by, "default", "a", &uid, "n1").unwrap();
        let bound = server.get("pods", "default", "a").unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        assert!(bound["status"].get("nominatedNodeName").is_none());
        assert_eq!(bound["status"]["conditions"][0]["status"], "True");
        let refused = server.bind(&by, "default", "a", &uid, "n2").unwrap_err();
        assert_eq!(
            refused.body["message"],
            "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
        );
    }
}
