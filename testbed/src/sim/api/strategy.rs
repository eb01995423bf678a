//! What each kind sets, keeps and refuses when it is created or updated.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    events,
    kind::{Kind, Rules},
    meta, names, namespaces, nodes, pod_update, pods,
    status::FieldError,
};

impl Kind {
    /// Sets what only the server sets.
    pub(crate) fn prepare_create(&self, object: &mut Value, now: Timestamp) {
        match &self.rules {
            Rules::Pod => pods::prepare_create(object, now),
            Rules::Namespace => namespaces::prepare_create(object),
            Rules::PriorityClass => meta::set(object, "generation", Some(json!(1))),
            Rules::Custom(custom) => {
                meta::set(object, "generation", Some(json!(1)));
                if custom.status {
                    if let Some(fields) = object.as_object_mut() {
                        fields.remove("status");
                    }
                    // What comes back from the store is defaulted again.
                    custom.schema.normalize(object);
                }
            }
            Rules::Node | Rules::Lease | Rules::Event => {}
        }
    }

    pub(crate) fn check_create(&self, object: &Value) -> Vec<FieldError> {
        if let Some(error) = self.other_kind(object) {
            return vec![error];
        }
        let rule = match self.rules {
            Rules::Namespace => names::dns_label,
            _ => names::dns_subdomain,
        };
        let mut errors = meta::check(object, rule, self.namespaced);
        match &self.rules {
            Rules::Node => errors.extend(nodes::check(object)),
            Rules::Pod => errors.extend(pods::check_create(object)),
            Rules::Event => errors = events::check(object),
            Rules::Lease => errors.extend(check_lease(object)),
            Rules::PriorityClass => errors.extend(check_class(object)),
            Rules::Custom(custom) => custom.schema.check(object, None, &mut errors),
            Rules::Namespace => {}
        }
        errors
    }

    /// Puts back what this endpoint may not change, and counts generations.
    pub(crate) fn prepare_update(&self, subresource: Option<&str>, object: &mut Value, old: &Value) {
        match &self.rules {
            Rules::Node => nodes::prepare_update(subresource, object, old),
            Rules::Pod => pod_update::prepare_update(subresource, object, old),
            Rules::Namespace => namespaces::prepare_update(subresource, object, old),
            Rules::Custom(custom) => {
                if subresource == Some("status") {
                    let status = object.get("status").cloned();
                    // All metadata too: another uid in it is not even refused.
                    *object = old.clone();
                    replace(object, "status", status);
                    return;
                }
                if custom.status {
                    replace(object, "status", old.get("status").cloned());
                }
                if changed(object, old, custom.status) {
                    meta::next_generation(object);
                }
            }
            Rules::Lease | Rules::Event | Rules::PriorityClass => {}
        }
    }

    pub(crate) fn check_update(
        &self,
        subresource: Option<&str>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if let Some(error) = self.other_kind(object) {
            return vec![error];
        }
        let mut errors = meta::check_update(object, old);
        match &self.rules {
            Rules::Node => errors.extend(nodes::check_update(object, old)),
            Rules::Pod => errors.extend(pod_update::check_update(subresource, object, old)),
            Rules::Namespace if subresource == Some("status") => {
                errors.extend(namespaces::check_status(object));
            }
            Rules::Lease => errors.extend(check_lease(object)),
            Rules::PriorityClass => {
                for field in ["value", "preemptionPolicy"] {
                    if object[field] != old[field] {
                        let error = FieldError::forbidden(field, "may not be changed in an update.");
                        errors.push(error);
                    }
                }
            }
            Rules::Event => errors.extend(events::check(object)),
            Rules::Custom(custom) => {
                // Upstream checks the metadata of a custom object once more.
                let again: Vec<FieldError> = errors
                    .iter()
                    .filter(|error| {
                        error.message.ends_with("field is immutable") || error.field == "metadata.finalizers"
                    })
                    .cloned()
                    .collect();
                errors.extend(again);
                custom.schema.check(object, Some(old), &mut errors);
            }
            Rules::Namespace => {}
        }
        errors
    }

    /// What upstream writes of an object without anything, as in bookmarks.
    pub(crate) fn empty(&self) -> Value {
        let mut object = json!({});
        match &self.rules {
            Rules::Pod => object = json!({ "spec": { "containers": null }, "status": {} }),
            Rules::Lease => object = json!({ "spec": {} }),
            Rules::Namespace => object = json!({ "spec": {}, "status": {} }),
            Rules::PriorityClass => object = json!({ "value": 0 }),
            Rules::Node => nodes::complete(&mut object),
            Rules::Event => events::complete(&mut object),
            Rules::Custom(_) => {}
        }
        object
    }

    fn other_kind(&self, object: &Value) -> Option<FieldError> {
        let kind = &object["kind"];
        let detail = format!("must be {}", self.kind);
        (*kind != self.kind.as_str()).then(|| FieldError::invalid("kind", kind, &detail))
    }
}

fn replace(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}

/// Whether anything but the metadata differs, and but the status where that is a subresource.
fn changed(object: &Value, old: &Value, status: bool) -> bool {
    let ignored = |name: &&String| *name != "metadata" && !(status && *name == "status");
    let names = |object: &Value| -> Vec<String> {
        let fields = object.as_object().into_iter().flatten().map(|(name, _)| name);
        fields.filter(ignored).cloned().collect()
    };
    names(object) != names(old) || names(object).iter().any(|name| object[name] != old[name])
}

fn check_lease(lease: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &lease["spec"];
    if spec["leaseDurationSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds <= 0)
    {
        let value = &spec["leaseDurationSeconds"];
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            value,
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let value = &spec["leaseTransitions"];
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            value,
            "must be greater than or equal to 0",
        ));
    }
    errors
}

fn check_class(class: &Value) -> Vec<FieldError> {
    let system = meta::name(class).starts_with("system-");
    let known = ["system-node-critical", "system-cluster-critical"].contains(&meta::name(class));
    let mut errors = Vec::new();
    if system && !known {
        let why = "priority class names with 'system-' prefix are reserved for system use only";
        errors.push(FieldError::forbidden("metadata.name", why));
    } else if !system && class["value"].as_i64().is_some_and(|value| value > 1_000_000_000) {
        let why = "maximum allowed value of a user defined priority is 1000000000";
        errors.push(FieldError::forbidden("value", why));
    }
    errors
}
