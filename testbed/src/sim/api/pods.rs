//! New Pods: defaults, admission, validation; and how long a deleted one may run.
//!
//! Sources: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go, pkg/registry/core/pod/strategy.go,
//! pkg/apis/core/validation/validation.go, plugin/pkg/admission/{priority,defaulttolerationseconds,serviceaccount}.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ApiServer,
    kind::Kind,
    meta, names,
    quantity::{self, Quantity},
    server::stamp,
    status::{FieldError, Result, forbidden},
};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(crate) fn default(object: &mut Value, field: &str, value: Value) {
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

pub(crate) fn is_gated(pod: &Value) -> bool {
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
pub(crate) fn tolerate(pod: &mut Value) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{PODS, pod, server};

    #[test]
    fn a_created_pod_is_what_a_real_server_stores() {
        let mut server = server();
        let mut wanted = pod("p0");
        wanted["spec"]["containers"][0]["resources"] =
            json!({ "requests": { "cpu": "0.5", "memory": "1024Mi" }, "limits": { "cpu": "1000m" } });
        let made = server.good("POST", PODS, wanted);
        let expected = json!({
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "c", "image": "pause:1",
                "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "500m", "memory": "1Gi" } },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default",
            "securityContext": {}, "schedulerName": "default-scheduler",
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            ],
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        });
        assert_eq!(made["spec"], expected);
        assert_eq!(
            made["status"],
            json!({ "phase": "Pending", "qosClass": "Burstable" })
        );
    }
}
