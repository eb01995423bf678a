//! Events: one object, served as events.k8s.io/v1 (the stored form) and as core/v1.
//!
//! Source: k8s.io/kubernetes/pkg/apis/events/v1/conversion.go, pkg/apis/core/validation/events.go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Reply, kind::Rules, meta, names, route::Target, status::FieldError};

/// (events.k8s.io/v1, core/v1).
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The core/v1 form.
pub(crate) fn to_core(event: &Value) -> Value {
    let mut core = event.clone();
    if let Some(fields) = core
        .as_object_mut()
        .filter(|fields| fields.contains_key("metadata"))
    {
        for (new, old) in NAMES {
            if let Some(value) = fields.remove(new) {
                fields.insert(old.to_owned(), value);
            }
        }
        fields.insert("apiVersion".into(), json!("v1"));
        for field in ["reportingComponent", "reportingInstance"] {
            fields.entry(field).or_insert_with(|| json!(""));
        }
    }
    core
}

/// The stored form of a core/v1 Event.
pub(crate) fn from_core(event: &Value) -> Value {
    let mut stored = event.clone();
    if let Some(fields) = stored.as_object_mut() {
        for (new, old) in NAMES {
            if let Some(value) = fields.remove(old) {
                fields.insert(new.to_owned(), value);
            }
        }
        fields.insert("apiVersion".into(), json!("events.k8s.io/v1"));
    }
    stored
}

/// Fields that are written even when empty.
pub(crate) fn complete(event: &mut Value) {
    for (field, empty) in [
        ("eventTime", Value::Null),
        ("deprecatedFirstTimestamp", Value::Null),
        ("deprecatedLastTimestamp", Value::Null),
        ("deprecatedSource", json!({})),
        ("regarding", json!({})),
    ] {
        if event[field].is_null() {
            event[field] = empty;
        }
    }
}

/// Errors name the resource by the group it was asked for in, while an Event is stored as a core one.
pub(crate) fn named_by_group(target: &Target, mut reply: Reply) -> Reply {
    if !matches!(target.kind.rules, Rules::Event) || target.core_event || ![404, 409].contains(&reply.code) {
        return reply;
    }
    let body = Arc::make_mut(&mut reply.body);
    let message = body["message"].as_str().unwrap_or_default();
    let message = message.replacen("events ", "events.events.k8s.io ", 1);
    body["message"] = json!(message);
    body["details"]["group"] = json!("events.k8s.io");
    reply
}

/// What is wrong with it. An Event without `eventTime` is of the old kind, which is hardly checked.
pub(crate) fn check(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let regarding = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let own = meta::namespace(event);
    if event["eventTime"].is_null() {
        let fits = own == regarding || (regarding.is_empty() && own == "default");
        if !fits {
            let why = "does not match event.namespace";
            errors.push(FieldError::invalid(
                "involvedObject.namespace",
                &json!(regarding),
                why,
            ));
        }
        return errors;
    }
    for (field, named) in [
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        if event[field].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(named, ""));
        }
    }
    let controller = event["reportingController"].as_str().unwrap_or_default();
    for why in names::qualified_name(controller) {
        errors.push(FieldError::invalid(
            "reportingController",
            &json!(controller),
            &why,
        ));
    }
    let limits = [
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("note", 1024),
    ];
    for (field, limit) in limits {
        let length = event[field].as_str().unwrap_or_default().len();
        if length > limit {
            let named = if field == "note" { "message" } else { field };
            let why = format!("can have at most {limit} characters");
            errors.push(FieldError::invalid(named, &json!(""), &why));
        }
    }
    let kind = event["type"].as_str().unwrap_or_default();
    if !["Normal", "Warning"].contains(&kind) {
        let why = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid("type", &json!(""), &why));
    }
    errors
}
