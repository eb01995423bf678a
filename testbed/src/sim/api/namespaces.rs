//! Namespaces: their finalizer and their end.
//!
//! Source: k8s.io/kubernetes/pkg/registry/core/namespace.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{meta, server::stamp, status::FieldError};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Whether it may not be deleted.
pub(crate) fn is_immortal(name: &str) -> bool {
    ["default", "kube-system", "kube-public"].contains(&name)
}

/// A new one is active and holds itself until `/finalize`.
pub(crate) fn prepare_create(namespace: &mut Value) {
    namespace["status"] = json!({ "phase": "Active" });
    let mut finalizers: Vec<Value> = namespace["spec"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push(json!("kubernetes"));
    }
    namespace["spec"] = json!({ "finalizers": finalizers });
    label(namespace);
}

/// Its own name is a label that cannot be lost.
pub(crate) fn label(namespace: &mut Value) {
    let name = json!(meta::name(namespace));
    if !namespace["metadata"]["labels"].is_object() {
        namespace["metadata"]["labels"] = json!({});
    }
    namespace["metadata"]["labels"][NAME_LABEL] = name;
}

/// What a subresource may change.
pub(crate) fn prepare_update(subresource: Option<&str>, namespace: &mut Value, old: &Value) {
    if subresource != Some("finalize") {
        namespace["spec"] = old["spec"].clone();
    }
    if subresource != Some("status") {
        namespace["status"] = old["status"].clone();
    }
    label(namespace);
}

pub(crate) fn check_status(namespace: &Value) -> Vec<FieldError> {
    let phase = &namespace["status"]["phase"];
    let (expected, when) = if meta::is_deleting(namespace) {
        ("Terminating", "is not empty")
    } else {
        ("Active", "is empty")
    };
    if phase == expected {
        return Vec::new();
    }
    let why = format!("may only be '{expected}' if `deletionTimestamp` {when}");
    vec![FieldError::invalid("status.Phase", phase, &why)]
}

/// The namespace on its way out, or nothing when it can go at once.
pub(crate) fn marked(namespace: &Value, now: Timestamp) -> Option<Value> {
    let held = namespace["spec"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if meta::is_deleting(namespace) && !held && meta::finalizers(namespace).is_empty() {
        return None;
    }
    let mut marked = namespace.clone();
    if !meta::is_deleting(namespace) {
        meta::set(&mut marked, "deletionTimestamp", Some(stamp(now)));
        marked["status"]["phase"] = json!("Terminating");
    }
    Some(marked)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{server, ticket};

    #[test]
    fn a_namespace_on_its_way_out_takes_nothing_new() {
        let mut server = server();
        server.good(
            "POST",
            "/api/v1/namespaces",
            json!({ "metadata": { "name": "t1" } }),
        );
        let marked = server.good("DELETE", "/api/v1/namespaces/t1", Value::Null);
        assert_eq!(marked["status"]["phase"], "Terminating");
        let path = "/apis/core.korder.dev/v1alpha1/namespaces/t1/tickets";
        let refused = server.ask("POST", path, ticket("y"));
        assert_eq!(refused.code, 403);
        assert_eq!(
            refused.body["details"]["causes"][0]["reason"],
            "NamespaceTerminating"
        );
        let mut namespace = Value::clone(&marked);
        namespace["spec"]["finalizers"] = json!([]);
        server.good("PUT", "/api/v1/namespaces/t1/finalize", namespace);
        assert!(server.get("namespaces", "", "t1").is_none());
        let (code, message) = server.refused("DELETE", "/api/v1/namespaces/default", Value::Null);
        assert_eq!(
            (code, message.as_str()),
            (
                403,
                "namespaces \"default\" is forbidden: this namespace may not be deleted"
            )
        );
    }
}
