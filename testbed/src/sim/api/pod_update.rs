//! What an update may change of a Pod.
//!
//! Sources: k8s.io/kubernetes/pkg/registry/core/pod/strategy.go, pkg/apis/core/validation/validation.go
//! (ValidatePodUpdate, ValidatePodStatusUpdate).

use serde_json::{Value, json};

use super::{
    meta,
    pods::{default, is_gated, tolerate},
    status::FieldError,
};

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// What an endpoint may not change is put back.
pub(crate) fn prepare_update(subresource: Option<&str>, pod: &mut Value, old: &Value) {
    if subresource == Some("status") {
        pod["spec"] = old["spec"].clone();
        for field in ["ownerReferences", "deletionTimestamp"] {
            let was = Some(&old["metadata"][field])
                .filter(|value| !value.is_null())
                .cloned();
            meta::set(pod, field, was);
        }
        let class = old["status"]["qosClass"].clone();
        default(&mut pod["status"], "qosClass", class);
        return;
    }
    pod["status"] = old["status"].clone();
    tolerate(pod);
    for field in ["priority", "preemptionPolicy"] {
        let was = old["spec"][field].clone();
        default(&mut pod["spec"], field, was);
    }
    if pod["spec"] != old["spec"] {
        meta::next_generation(pod);
    }
}

pub(crate) fn check_update(subresource: Option<&str>, pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if subresource == Some("status") {
        let (is, was) = (
            &pod["status"]["nominatedNodeName"],
            &old["status"]["nominatedNodeName"],
        );
        let bound = old["spec"]["nodeName"]
            .as_str()
            .is_some_and(|node| !node.is_empty());
        if bound && is.as_str().is_some_and(|node| !node.is_empty()) && is != was {
            let why = "may not be set on pods that are already bound to a node";
            errors.push(FieldError::forbidden("status.nominatedNodeName", why));
        }
        return errors;
    }
    if pod["spec"] == old["spec"] {
        return errors;
    }
    check_gates(pod, old, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    check_container_images(pod, &mut errors);
    check_deadline(pod, old, &mut errors);
    check_added_tolerations(pod, old, &mut errors);
    if unfixed(pod, old) != old["spec"] {
        errors.push(FieldError::forbidden("spec", FIXED));
    }
    errors
}

fn check_gates(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let gates = |pod: &Value| {
        pod["spec"]["schedulingGates"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let had = gates(old);
    for (index, gate) in gates(pod).iter().enumerate() {
        if !had.contains(gate) {
            let name = gate["name"].as_str().unwrap_or_default();
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let place = format!("spec.schedulingGates[{index}].name");
            errors.push(FieldError::forbidden(place, &why));
        }
    }
}

fn check_container_images(pod: &Value, errors: &mut Vec<FieldError>) {
    for (index, container) in pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if container["image"].as_str().is_none_or(str::is_empty) {
            let place = format!("spec.containers[{index}].image");
            errors.push(FieldError::required(place, ""));
        }
    }
}

fn check_deadline(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (is, was) = (
        &pod["spec"]["activeDeadlineSeconds"],
        &old["spec"]["activeDeadlineSeconds"],
    );
    let place = "spec.activeDeadlineSeconds";
    match (is.as_i64(), was.as_i64()) {
        (Some(is), Some(was)) if is > was => {
            let why = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(place, &json!(is), why));
        }
        (Some(seconds), _) if seconds < 0 => {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(place, is, why));
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(place, &Value::Null, why));
        }
        _ => {}
    }
}

fn check_added_tolerations(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let list = |pod: &Value| pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let now: Vec<Value> = list(pod).iter().map(without_seconds).collect();
    if !list(old)
        .iter()
        .all(|toleration| now.contains(&without_seconds(toleration)))
    {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
}

/// The new spec with the old values of everything that may change.
fn unfixed(pod: &Value, old: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let was = &old["spec"];
    for list in ["containers", "initContainers"] {
        let images = was[list]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| &container["image"]);
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for (container, image) in containers.into_iter().flatten().zip(images) {
            container["image"] = image.clone();
        }
    }
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    let negative = was["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0);
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        fields.push("terminationGracePeriodSeconds");
    }
    if is_gated(old) {
        let kept = |name: &str| {
            let was = was[name].as_object();
            was.is_none_or(|was| was.iter().all(|(key, value)| spec[name][key] == *value))
        };
        if kept("nodeSelector") {
            fields.push("nodeSelector");
        }
        // Upstream checks that terms are only narrowed; nobody here widens them.
        fields.push("affinity");
    }
    for field in fields {
        match (was.get(field), spec.as_object_mut()) {
            (Some(value), Some(spec)) => spec.insert(field.to_owned(), value.clone()),
            (None, Some(spec)) => spec.remove(field),
            _ => None,
        };
    }
    spec
}
