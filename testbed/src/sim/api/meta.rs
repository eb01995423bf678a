//! Reading and checking `metadata`.
//!
//! Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go.

use serde_json::{Map, Value, json};

use super::{names, status::FieldError};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The name, or what it will be generated from: admission, which comes before that, names objects so.
pub(crate) fn name_or_prefix(object: &Value) -> &str {
    match name(object) {
        "" => object["metadata"]["generateName"].as_str().unwrap_or_default(),
        name => name,
    }
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub(crate) fn revision(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// Whether it has a deletionTimestamp.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The labels, or nothing.
pub(crate) fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

/// `metadata` as a map; makes one if there is none.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("just made so")
}

/// Sets a field, or takes it away.
pub(crate) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    match value {
        Some(value) => of(object).insert(field.to_owned(), value),
        None => of(object).remove(field),
    };
}

/// One more than before, if it is counted.
pub(crate) fn next_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"]
        .as_i64()
        .filter(|number| *number > 0)
    {
        object["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Whether a JSON value can be decoded as ObjectMeta; upstream's words for what cannot.
pub(crate) fn decodes(metadata: &Value) -> Result<(), String> {
    let Some(fields) = metadata.as_object() else {
        return if metadata.is_null() {
            Ok(())
        } else {
            Err(mismatch(metadata, "metadata", "v1.ObjectMeta"))
        };
    };
    let strings = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "selfLink",
    ];
    for field in strings {
        match fields.get(field) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => return Err(mismatch(other, &format!("ObjectMeta.{field}"), "string")),
        }
    }
    for field in ["labels", "annotations"] {
        match fields.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(pairs)) => {
                if let Some(other) = pairs
                    .values()
                    .find(|value| !value.is_string() && !value.is_null())
                {
                    return Err(mismatch(other, &format!("ObjectMeta.{field}"), "string"));
                }
            }
            Some(other) => {
                return Err(mismatch(
                    other,
                    &format!("ObjectMeta.{field}"),
                    "map[string]string",
                ));
            }
        }
    }
    for (field, of) in [
        ("finalizers", "[]string"),
        ("ownerReferences", "[]v1.OwnerReference"),
    ] {
        match fields.get(field) {
            None | Some(Value::Null | Value::Array(_)) => {}
            Some(other) => return Err(mismatch(other, &format!("ObjectMeta.{field}"), of)),
        }
    }
    Ok(())
}

fn mismatch(value: &Value, field: &str, of: &str) -> String {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {is} into Go struct field {field} of type {of}")
}

/// The fields that ObjectMeta has; the others are dropped.
const FIELDS: [&str; 14] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "selfLink",
];

/// Drops what ObjectMeta does not have, and what it does not write: empty and null fields.
pub(crate) fn tidy(object: &mut Value) {
    let fields = of(object);
    fields.retain(|field, value| FIELDS.contains(&field.as_str()) && !is_empty(value));
    for field in ["labels", "annotations"] {
        for value in fields
            .get_mut(field)
            .and_then(Value::as_object_mut)
            .into_iter()
            .flat_map(Map::values_mut)
        {
            if value.is_null() {
                *value = json!("");
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What is wrong with the metadata of a new object.
pub(crate) fn check(object: &Value, name_rule: fn(&str) -> Vec<String>, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let prefix = text(object, "generateName");
    if !prefix.is_empty() {
        let masked = prefix.strip_suffix('-').map(|rest| format!("{rest}a"));
        for message in name_rule(masked.as_deref().unwrap_or(prefix)) {
            errors.push(FieldError::invalid(
                "metadata.generateName",
                &json!(prefix),
                &message,
            ));
        }
    }
    let name = name(object);
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        for message in name_rule(name) {
            errors.push(FieldError::invalid("metadata.name", &json!(name), &message));
        }
    }
    let namespace = namespace(object);
    if namespaced && namespace.is_empty() {
        errors.push(FieldError::required("metadata.namespace", ""));
    } else if namespaced {
        for message in names::dns_label(namespace) {
            errors.push(FieldError::invalid(
                "metadata.namespace",
                &json!(namespace),
                &message,
            ));
        }
    }
    errors.extend(check_lists(object));
    errors
}

/// Labels, annotations, owner references and finalizers.
fn check_lists(object: &Value) -> Vec<FieldError> {
    let metadata = &object["metadata"];
    let mut errors = Vec::new();
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", &json!(key), &message));
        }
        for message in names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.labels", value, &message));
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &json!(key), &message));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > 256 << 10 {
        errors.push(FieldError::too_long("metadata.annotations", 256 << 10));
    }
    errors.extend(check_owners(metadata));
    for (index, finalizer) in finalizers(object).into_iter().enumerate() {
        for message in names::qualified_name(finalizer) {
            let field = format!("metadata.finalizers[{index}]");
            errors.push(FieldError::invalid(field, &json!(finalizer), &message));
        }
    }
    errors
}

fn check_owners(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    for (index, owner) in owners.enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::required(field, "must not be empty"));
            }
        }
        if owner["controller"] == true {
            let kind = owner["kind"].as_str().unwrap_or_default();
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {kind}"
                );
                errors.push(FieldError::invalid(
                    "metadata.ownerReferences",
                    &Value::Null,
                    &detail,
                ));
            }
            controller = Some(kind);
        }
    }
    errors
}

/// What is wrong with the metadata of an object that replaces another.
pub(crate) fn check_update(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if is_deleting(old) {
        let had = finalizers(old);
        let added: Vec<_> = finalizers(object)
            .into_iter()
            .filter(|finalizer| !had.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    let fixed = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fixed {
        if object["metadata"][field] != old["metadata"][field] {
            let value = &object["metadata"][field];
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                value,
                "field is immutable",
            ));
        }
    }
    errors.extend(check_lists(object));
    errors
}
