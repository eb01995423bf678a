//! Pods: defaults, admission, what may change, binding.
//!
//! Sources: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go, pkg/registry/core/pod/strategy.go,
//! pkg/apis/core/validation/validation.go, plugin/pkg/admission/{priority,defaulttolerationseconds,serviceaccount}.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ApiServer, ChangeKind, User,
    kind::Kind,
    meta, names,
    quantity::{self, Quantity},
    server::stamp,
    status::{
        FieldError, Result, bad_request, binding_conflict, conflict, forbidden, not_found, uid_conflict,
        unknown,
    },
};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// The defaults of a decoded Pod.
pub(crate) fn complete(pod: &mut Value) {
    let address = pod["status"]["podIP"].clone();
    if address.as_str().is_some_and(|address| !address.is_empty()) {
        let addresses = &mut pod["status"]["podIPs"];
        match addresses.get_mut(0) {
            Some(first) => first["ip"] = address,
            None => *addresses = json!([{ "ip": address }]),
        }
    }
    if !pod["spec"].is_object() {
        pod["spec"] = json!({});
    }
    let spec = &mut pod["spec"];
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "enableServiceLinks", json!(true));
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            complete_container(container);
        }
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec["serviceAccount"] = account;
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let conditions = pod["status"].get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            default(condition, time, Value::Null);
        }
    }
}

fn complete_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let after = image.rsplit('/').next().unwrap_or_default();
    let tagged = after.contains('@') || after.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    let policy = if tagged { "IfNotPresent" } else { "Always" };
    default(container, "imagePullPolicy", json!(policy));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    default(container, "resources", json!({}));
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        default(port, "protocol", json!("TCP"));
    }
    let resources = &mut container["resources"];
    let limits = resources["limits"].as_object().cloned().unwrap_or_default();
    for (name, amount) in limits {
        default(&mut resources["requests"], &name, amount);
    }
    for list in ["limits", "requests"] {
        quantity::canonicalize(&mut resources[list]);
    }
    if let Some(resources) = resources.as_object_mut() {
        resources.retain(|_, list| !list.is_null());
    }
}

pub(crate) fn prepare_create(pod: &mut Value, now: Timestamp) {
    meta::set(pod, "generation", Some(json!(1)));
    let mut status = json!({ "phase": "Pending", "qosClass": qos(pod) });
    if is_gated(pod) {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "lastTransitionTime": stamp(now),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod["status"] = status;
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
}

/// Source: pkg/apis/core/v1/helper/qos.
fn qos(pod: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in containers(pod) {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let amount = |list: &str| {
                let text = resources[list][name].as_str()?;
                Quantity::parse(text).filter(|amount| !amount.is_zero())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// How long a Pod that is deleted may still run, in seconds.
pub(crate) fn grace_period(pod: &Value, asked: Option<i64>) -> i64 {
    let own = pod["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or_default();
    let bound = pod["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    let terminal = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    if !bound || terminal {
        return 0;
    }
    let seconds = asked.unwrap_or(own);
    if seconds < 0 { 1 } else { seconds }
}

/// Tolerations that every Pod gets.
fn tolerate(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = pod["spec"]["tolerations"].as_array().into_iter().flatten();
        let covered = tolerations.into_iter().any(|toleration| {
            let keys = [json!(key), Value::Null];
            let effects = [json!("NoExecute"), Value::Null];
            keys.contains(&toleration["key"]) && effects.contains(&toleration["effect"])
        });
        if covered {
            continue;
        }
        let added = json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
        });
        match pod["spec"]["tolerations"].as_array_mut() {
            Some(tolerations) => tolerations.push(added),
            None => pod["spec"]["tolerations"] = json!([added]),
        }
    }
}

impl ApiServer {
    /// Admission of a new Pod.
    pub(crate) fn admit_pod(&mut self, kind: &Kind, pod: &mut Value) -> Result<()> {
        self.admit_service_account(pod);
        tolerate(pod);
        self.admit_priority(kind, pod)
    }

    /// The account `default` is taken to exist in every namespace.
    fn admit_service_account(&mut self, pod: &mut Value) {
        let spec = &mut pod["spec"];
        default(spec, "serviceAccountName", json!("default"));
        spec["serviceAccount"] = spec["serviceAccountName"].clone();
        let mounted = containers(pod).any(|container| {
            let mounts = container["volumeMounts"].as_array();
            mounts
                .into_iter()
                .flatten()
                .any(|mount| mount["mountPath"] == TOKEN_PATH)
        });
        if pod["spec"]["automountServiceAccountToken"] == false || mounted {
            return;
        }
        let name = format!("kube-api-access-{}", self.suffix());
        let volume = json!({ "name": name, "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": {
                "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                "name": "kube-root-ca.crt",
            } },
            { "downwardAPI": { "items": [{
                "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                "path": "namespace",
            }] } },
        ] } });
        let spec = &mut pod["spec"];
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(volume),
            None => spec["volumes"] = json!([volume]),
        }
        let mount = json!({ "name": name, "readOnly": true, "mountPath": TOKEN_PATH });
        for list in ["containers", "initContainers"] {
            for container in spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                match container["volumeMounts"].as_array_mut() {
                    Some(mounts) => mounts.push(mount.clone()),
                    None => container["volumeMounts"] = json!([mount]),
                }
            }
        }
    }

    fn admit_priority(&self, kind: &Kind, pod: &mut Value) -> Result<()> {
        let pod_name = meta::name_or_prefix(pod).to_owned();
        let named = pod["spec"]["priorityClassName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let class = if named.is_empty() {
            let classes = self.store.all("priorityclasses");
            classes.into_iter().find(|class| class["globalDefault"] == true)
        } else {
            let class = self.store.get("priorityclasses", "", &named);
            let missing = || {
                forbidden(
                    kind,
                    &pod_name,
                    &format!("no PriorityClass with name {named} was found"),
                )
            };
            Some(class.cloned().ok_or_else(missing)?)
        };
        let (value, preemption) = match &class {
            Some(class) => {
                pod["spec"]["priorityClassName"] = json!(meta::name(class));
                (
                    class["value"].as_i64().unwrap_or_default(),
                    class["preemptionPolicy"].clone(),
                )
            }
            None => (0, json!("PreemptLowerPriority")),
        };
        if let Some(own) = pod["spec"]["priority"].as_i64().filter(|own| *own != value) {
            let why = format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            );
            return Err(forbidden(kind, &pod_name, &why));
        }
        pod["spec"]["priority"] = json!(value);
        if let Some(own) = pod["spec"]["preemptionPolicy"]
            .as_str()
            .filter(|own| preemption != **own)
        {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                preemption.as_str().unwrap_or_default()
            );
            return Err(forbidden(kind, &pod_name, &why));
        }
        pod["spec"]["preemptionPolicy"] = preemption;
        Ok(())
    }

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

pub(crate) fn check_create(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &pod["spec"];
    if containers(pod).next().is_none() {
        errors.push(FieldError::required("spec.containers", ""));
    }
    for list in ["containers", "initContainers"] {
        let listed = spec[list].as_array().into_iter().flatten().enumerate();
        for (index, container) in listed {
            check_container(container, &format!("spec.{list}[{index}]"), &mut errors);
        }
    }
    let policies = ["Always", "OnFailure", "Never"];
    let policy = spec["restartPolicy"].as_str().unwrap_or_default();
    if !policies.contains(&policy) {
        let supported = policies.map(str::to_owned);
        errors.push(FieldError::unsupported(
            "spec.restartPolicy",
            &json!(policy),
            &supported,
        ));
    }
    check_tolerations(spec, &mut errors);
    let bound = spec["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if bound && is_gated(pod) {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", why));
    }
    errors
}

fn check_container(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let name = container["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), ""));
    } else {
        for message in names::dns_label(name) {
            errors.push(FieldError::invalid(
                format!("{field}.name"),
                &json!(name),
                &message,
            ));
        }
    }
    if container["image"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    }
    let amount = |list: &str, name: &str| Quantity::parse(container["resources"][list][name].as_str()?);
    for list in ["limits", "requests"] {
        for (name, value) in container["resources"][list].as_object().into_iter().flatten() {
            if amount(list, name).is_some_and(Quantity::is_negative) {
                let field = format!("{field}.resources.{list}[{name}]");
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(field, value, why));
            }
        }
    }
    for (name, value) in container["resources"]["requests"]
        .as_object()
        .into_iter()
        .flatten()
    {
        if let (Some(request), Some(limit)) = (amount("requests", name), amount("limits", name))
            && request > limit
        {
            let why = format!(
                "must be less than or equal to {name} limit of {}",
                limit.canonical()
            );
            errors.push(FieldError::invalid(
                format!("{field}.resources.requests"),
                value,
                &why,
            ));
        }
    }
}

fn check_tolerations(spec: &Value, errors: &mut Vec<FieldError>) {
    for (index, toleration) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        let field = format!("spec.tolerations[{index}]");
        let text = |name: &str| toleration[name].as_str().unwrap_or_default();
        let operator = text("operator");
        if text("key").is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            let error = FieldError::invalid(format!("{field}.operator"), &json!(operator), why);
            errors.push(error);
        }
        if !toleration["tolerationSeconds"].is_null() && text("effect") != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(
                format!("{field}.effect"),
                &json!(text("effect")),
                why,
            ));
        }
        if !["", "Equal", "Exists"].contains(&operator) {
            let supported = ["Equal", "Exists"].map(str::to_owned);
            let place = format!("{field}.operator");
            errors.push(FieldError::unsupported(place, &json!(operator), &supported));
        }
        if operator == "Exists" && !text("value").is_empty() {
            let why = "value must be empty when `operator` is 'Exists'";
            let place = format!("{field}.operator");
            errors.push(FieldError::invalid(place, &toleration["value"], why));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !text("effect").is_empty() && !effects.contains(&text("effect")) {
            let supported = effects.map(str::to_owned);
            let place = format!("{field}.effect");
            errors.push(FieldError::unsupported(place, &toleration["effect"], &supported));
        }
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
