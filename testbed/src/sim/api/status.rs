//! Answers that are not objects: `Status`, as apimachinery's `api/errors` words them.
//!
//! Sources: k8s.io/apimachinery/pkg/api/errors/errors.go, k8s.io/apimachinery/pkg/util/validation/field/errors.go.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Reply, kind::Kind};

/// What a write or read comes to.
pub(crate) type Result<T> = std::result::Result<T, Reply>;

/// What an update on an old revision is told.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// One field that is not valid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self {
            reason,
            field: field.into(),
            message,
        }
    }

    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueRequired", field, with_detail("Required value", detail))
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(
            "FieldValueInvalid",
            field,
            with_detail(&format!("Invalid value: {value}"), detail),
        )
    }

    /// For lists and maps, whose value upstream leaves out.
    pub(crate) fn invalid_omitted(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueInvalid", field, with_detail("Invalid value", detail))
    }

    pub(crate) fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(
            "FieldValueTypeInvalid",
            field,
            with_detail(&format!("Invalid value: {value}"), detail),
        )
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, supported: &[String]) -> Self {
        let supported = supported
            .iter()
            .map(|value| json!(value).to_string())
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!("Unsupported value: {value}: supported values: {supported}");
        Self::new("FieldValueNotSupported", field, message)
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueForbidden", field, with_detail("Forbidden", detail))
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {value}"))
    }

    pub(crate) fn too_long(field: impl Into<String>, limit: u64) -> Self {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        let message = format!("Too long: may not be more than {limit} {unit}");
        Self::new("FieldValueTooLong", field, message)
    }

    pub(crate) fn too_many(field: impl Into<String>, actual: usize, limit: u64) -> Self {
        let unit = if limit == 1 { "item" } else { "items" };
        let message = format!("Too many: {actual}: must have at most {limit} {unit}");
        Self::new("FieldValueTooMany", field, message)
    }

    /// Whether CEL rules are left out because of it.
    pub(crate) fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    }
}

fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {detail}")
    }
}

/// A failure.
pub(crate) fn failure(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Reply {
    let mut status = Map::new();
    status.insert("kind".into(), json!("Status"));
    status.insert("apiVersion".into(), json!("v1"));
    status.insert("metadata".into(), json!({}));
    status.insert("status".into(), json!("Failure"));
    status.insert("message".into(), Value::String(message.into()));
    if !reason.is_empty() {
        status.insert("reason".into(), json!(reason));
    }
    if let Some(details) = details {
        status.insert("details".into(), details);
    }
    status.insert("code".into(), json!(code));
    Reply {
        code,
        body: Arc::new(Value::Object(status)),
        retry_after: None,
    }
}

/// 501: what no one here needs. Loud, so that a new need is noticed.
pub(crate) fn not_simulated(what: &str) -> Reply {
    failure(
        501,
        "NotImplemented",
        format!("testbed: {what} is not simulated"),
        None,
    )
}

pub(crate) fn bad_request(message: impl Into<String>) -> Reply {
    failure(400, "BadRequest", message, None)
}

/// 500 of an error that is no `Status` upstream.
pub(crate) fn unknown(message: impl Into<String>) -> Reply {
    failure(500, "", message, None)
}

/// 404 of a path.
pub(crate) fn no_such_path() -> Reply {
    let message = "the server could not find the requested resource";
    failure(404, "NotFound", message, Some(json!({})))
}

pub(crate) fn method_not_allowed() -> Reply {
    let message = "the server does not allow this method on the requested resource";
    failure(405, "MethodNotAllowed", message, Some(json!({})))
}

pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Reply {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    failure(415, "UnsupportedMediaType", message, None)
}

fn resource_details(kind: &Kind, name: &str, named: &str) -> Map<String, Value> {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), json!(name));
    }
    if !kind.group.is_empty() {
        details.insert("group".into(), json!(kind.group));
    }
    details.insert("kind".into(), json!(named));
    details
}

pub(crate) fn not_found(kind: &Kind, name: &str) -> Reply {
    let message = format!("{} \"{name}\" not found", kind.resource_name());
    let details = resource_details(kind, name, &kind.plural);
    failure(404, "NotFound", message, Some(details.into()))
}

pub(crate) fn already_exists(kind: &Kind, name: &str, being_deleted: bool) -> Reply {
    let prefix = if being_deleted {
        "object is being deleted: "
    } else {
        ""
    };
    let message = format!("{prefix}{} \"{name}\" already exists", kind.resource_name());
    let details = resource_details(kind, name, &kind.plural);
    failure(409, "AlreadyExists", message, Some(details.into()))
}

/// 409 of an update: names the resource.
pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Reply {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": {why}",
        kind.resource_name()
    );
    let details = resource_details(kind, name, &kind.plural);
    failure(409, "Conflict", message, Some(details.into()))
}

/// 409 of a delete's preconditions: names the kind.
pub(crate) fn delete_conflict(kind: &Kind, name: &str, why: &str) -> Reply {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": {why}",
        kind.kind_name()
    );
    let details = resource_details(kind, name, &kind.kind);
    failure(409, "Conflict", message, Some(details.into()))
}

/// 409 of `pods/binding`.
pub(crate) fn binding_conflict(name: &str, why: &str) -> Reply {
    let message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {why}");
    let details = json!({ "name": name, "kind": "pods/binding" });
    failure(409, "Conflict", message, Some(details))
}

/// 409 of a precondition that the storage layer checks.
pub(crate) fn uid_conflict(kind: &Kind, namespace: &str, name: &str, asked: &str, is: &str) -> Reply {
    let place = if namespace.is_empty() {
        String::new()
    } else {
        format!("{namespace}/")
    };
    let key = format!("/registry/{}/{place}{name}", kind.registry_prefix());
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {asked}, UID in object meta: {is}"
    );
    conflict(kind, name, &why)
}

pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Reply {
    let named = if name.is_empty() {
        kind.resource_name()
    } else {
        format!("{} \"{name}\"", kind.resource_name())
    };
    let message = format!("{named} is forbidden: {why}");
    let details = resource_details(kind, name, &kind.plural);
    failure(403, "Forbidden", message, Some(details.into()))
}

/// 403 in a namespace that is being deleted.
pub(crate) fn terminating(kind: &Kind, name: &str, namespace: &str) -> Reply {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let reply = forbidden(kind, name, &why);
    let mut body = Value::clone(&reply.body);
    body["details"]["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    Reply {
        body: Arc::new(body),
        ..reply
    }
}

/// 422 of an object: names the kind, as the object calls itself.
pub(crate) fn invalid(kind: &Kind, called: &str, name: &str, errors: &[FieldError]) -> Reply {
    invalid_named(&kind.group, called, name, errors)
}

/// 422 of anything.
pub(crate) fn invalid_named(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Reply {
    let mut said: Vec<String> = Vec::new();
    for error in errors {
        let text = format!("{}: {}", error.field, error.message);
        if !said.contains(&text) {
            said.push(text);
        }
    }
    let what = match said.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let of = if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    };
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), json!(name));
    }
    if !group.is_empty() {
        details.insert("group".into(), json!(group));
    }
    if !kind.is_empty() {
        details.insert("kind".into(), json!(kind));
    }
    let causes: Vec<Value> = errors
        .iter()
        .map(|error| json!({ "reason": error.reason, "message": error.message, "field": error.field }))
        .collect();
    details.insert("causes".into(), causes.into());
    let message = format!("{of} \"{name}\" is invalid: {what}");
    failure(422, "Invalid", message, Some(details.into()))
}

/// 422 of an update without the revision it is based on: upstream names the resource as kind.
pub(crate) fn revision_missing(kind: &Kind, name: &str) -> Reply {
    let error = FieldError::invalid(
        "metadata.resourceVersion",
        &json!(0),
        "must be specified for an update",
    );
    invalid_named(&kind.group, &kind.plural, name, &[error])
}

/// 504 of a revision that does not exist yet.
pub(crate) fn too_large_revision(asked: u64, current: u64) -> Reply {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let details = json!({
        "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
        "retryAfterSeconds": 1,
    });
    let reply = failure(504, "Timeout", message, Some(details));
    Reply {
        retry_after: Some(1),
        ..reply
    }
}

/// 410.
pub(crate) fn expired(message: impl Into<String>) -> Reply {
    failure(410, "Expired", message, None)
}

/// 200 of a delete that left nothing to show.
pub(crate) fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = resource_details(kind, name, &kind.plural);
    details.insert("uid".into(), json!(uid));
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}
