//! Nodes: the taint of a new one, defaults of its status, what may not change.
//!
//! Source: k8s.io/kubernetes/pkg/registry/core/node/strategy.go, plugin/pkg/admission/nodetaint.

use serde_json::{Value, json};

use super::{quantity, status::FieldError};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node is tainted until its life cycle controller finds it ready.
pub(crate) fn admit(node: &mut Value) {
    let taint = json!({ "key": NOT_READY, "effect": "NoSchedule" });
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    match node["spec"]["taints"].as_array_mut() {
        Some(taints)
            if taints
                .iter()
                .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") => {}
        Some(taints) => taints.push(taint),
        None => node["spec"]["taints"] = json!([taint]),
    }
}

/// Fields that are written even when empty, and amounts in their canonical form.
pub(crate) fn complete(node: &mut Value) {
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    if !node["status"].is_object() {
        node["status"] = json!({});
    }
    let status = &mut node["status"];
    for list in ["capacity", "allocatable"] {
        quantity::canonicalize(&mut status[list]);
    }
    if status["capacity"].is_null() {
        let fields = status.as_object_mut().expect("just made so");
        fields.remove("capacity");
    }
    if status["allocatable"].is_null() {
        let capacity = status.get("capacity").cloned();
        let fields = status.as_object_mut().expect("just made so");
        match capacity {
            Some(capacity) => fields.insert("allocatable".into(), capacity),
            None => fields.remove("allocatable"),
        };
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        for time in ["lastHeartbeatTime", "lastTransitionTime"] {
            if condition[time].is_null() {
                condition[time] = Value::Null;
            }
        }
    }
    if status["conditions"].is_null() {
        status.as_object_mut().expect("just made so").remove("conditions");
    }
    if status["daemonEndpoints"]["kubeletEndpoint"].is_null() {
        status["daemonEndpoints"] = json!({ "kubeletEndpoint": { "Port": 0 } });
    }
    let info = [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ];
    for field in info {
        if status["nodeInfo"][field].is_null() {
            status["nodeInfo"][field] = json!("");
        }
    }
    let cidr = node["spec"]["podCIDR"].clone();
    if cidr.is_string() && node["spec"]["podCIDRs"].is_null() {
        node["spec"]["podCIDRs"] = json!([cidr]);
    }
    let spec = node["spec"].as_object_mut().expect("just made so");
    spec.retain(|_, value| !value.is_null());
}

pub(crate) fn prepare_update(subresource: Option<&str>, node: &mut Value, old: &Value) {
    let kept = if subresource == Some("status") {
        "spec"
    } else {
        "status"
    };
    node[kept] = old[kept].clone();
}

/// What is wrong with its taints.
pub(crate) fn check(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<(&Value, &Value)> = Vec::new();
    for (index, taint) in node["spec"]["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = format!("metadata.taints[{index}]");
        let key = taint["key"].as_str().unwrap_or_default();
        for message in super::names::qualified_name(key) {
            errors.push(FieldError::invalid(format!("{field}.key"), &json!(key), &message));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        let effect = taint["effect"].as_str().unwrap_or_default();
        if effect.is_empty() {
            errors.push(FieldError::required(format!("{field}.effect"), ""));
        } else if !effects.contains(&effect) {
            let supported = effects.map(str::to_owned);
            errors.push(FieldError::unsupported(
                format!("{field}.effect"),
                &json!(effect),
                &supported,
            ));
        }
        let pair = (&taint["key"], &taint["effect"]);
        if seen.contains(&pair) {
            let value = taint["value"].as_str().unwrap_or_default();
            let mut error = FieldError::duplicate(field, &Value::Null);
            error.message = format!(
                "Duplicate value: {{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\"TimeAdded\":null}}: taints must be unique by key and effect pair"
            );
            errors.push(error);
        }
        seen.push(pair);
    }
    errors
}

pub(crate) fn check_update(node: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = check(node);
    let was = old["spec"]["providerID"].as_str().unwrap_or_default();
    let is = node["spec"]["providerID"].as_str().unwrap_or_default();
    if !was.is_empty() && was != is {
        let why = "field cannot be modified once set";
        errors.push(FieldError::invalid("spec.providerID", &Value::Null, why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{NODES, server};

    #[test]
    fn a_created_node_is_tainted_and_complete() {
        let mut server = server();
        let node = json!({ "metadata": { "name": "n2" }, "status": { "capacity": { "cpu": "4000m", "memory": "16777216Ki" } } });
        let made = server.good("POST", NODES, node);
        assert_eq!(
            made["spec"],
            json!({ "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] })
        );
        assert_eq!(
            made["status"]["allocatable"],
            json!({ "cpu": "4", "memory": "16Gi" })
        );
        assert_eq!(made["status"]["nodeInfo"]["kubeletVersion"], "");
        assert!(made["metadata"].get("generation").is_none());
    }
}
