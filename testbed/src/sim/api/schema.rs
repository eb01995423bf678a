//! Structural schemas of CustomResourceDefinitions: pruning, defaults, validation.
//!
//! Sources: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/{pruning,defaulting,listtype},
//! k8s.io/apiextensions-apiserver/pkg/apiserver/validation, k8s.io/kube-openapi/pkg/validation/validate. What is
//! unchanged in an update is not judged again (CRDValidationRatcheting).

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{
    cel::{Rule, Rules},
    status::FieldError,
};

const SKIPPED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// A schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    kind: String,
    int_or_string: bool,
    nullable: bool,
    preserve: bool,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    required: Vec<String>,
    allowed: Vec<Value>,
    pattern: Option<Regex>,
    format: String,
    default: Option<Value>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    max_properties: Option<u64>,
    map_keys: Vec<String>,
    rules: Rules,
}

/// What a schema may say; anything else stops the installation.
const KNOWN: [&str; 26] = [
    "type",
    "title",
    "description",
    "properties",
    "additionalProperties",
    "items",
    "required",
    "enum",
    "pattern",
    "format",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "nullable",
    "anyOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

impl Schema {
    /// # Panics
    /// On keywords that are not simulated, and on rules that do not compile.
    pub(crate) fn compile(schema: &Value) -> Self {
        let fields = schema.as_object().expect("a schema is an object");
        for keyword in fields.keys() {
            assert!(
                KNOWN.contains(&keyword.as_str()),
                "testbed: schema keyword {keyword} is not simulated"
            );
        }
        let int_or_string = schema["x-kubernetes-int-or-string"] == true;
        assert!(
            int_or_string || schema["anyOf"].is_null(),
            "testbed: anyOf is simulated only for int-or-string"
        );
        let child = |name: &str| {
            fields
                .get(name)
                .filter(|child| child.is_object())
                .map(Self::compile)
                .map(Box::new)
        };
        let text = |name: &str| schema[name].as_str().unwrap_or_default().to_owned();
        let texts = |name: &str| -> Vec<String> {
            let list = schema[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let size = |name: &str| schema[name].as_u64();
        Self {
            kind: text("type"),
            int_or_string,
            nullable: schema["nullable"] == true,
            preserve: schema["x-kubernetes-preserve-unknown-fields"] == true,
            properties: schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Self::compile(schema)))
                .collect(),
            additional: child("additionalProperties"),
            items: child("items"),
            required: texts("required"),
            allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
            pattern: schema["pattern"]
                .as_str()
                .map(|pattern| Regex::new(pattern).expect("a pattern compiles")),
            format: text("format"),
            default: schema.get("default").cloned(),
            minimum: schema["minimum"].as_f64(),
            maximum: schema["maximum"].as_f64(),
            min_length: size("minLength"),
            max_length: size("maxLength"),
            min_items: size("minItems"),
            max_items: size("maxItems"),
            max_properties: size("maxProperties"),
            map_keys: texts("x-kubernetes-list-map-keys"),
            rules: schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Rule::compile)
                .collect(),
        }
    }

    /// Drops unknown fields and nulls that mean absent, then fills in defaults.
    pub(crate) fn normalize(&self, object: &mut Value) {
        self.prune(object, true);
        self.fill(object);
    }

    fn prune(&self, value: &mut Value, root: bool) {
        match value {
            Value::Object(fields) => {
                let typed = self.additional.is_none() && !self.preserve;
                fields.retain(|name, value| {
                    let always = root && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
                    let schema = self.properties.get(name).or(self.additional.as_deref());
                    match schema {
                        Some(schema) => schema.nullable || !value.is_null(),
                        None => always || !typed,
                    }
                });
                for (name, value) in fields {
                    if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                        schema.prune(value, false);
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    if let Some(schema) = &self.items {
                        schema.prune(item, false);
                    }
                }
            }
            _ => {}
        }
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, schema) in &self.properties {
                    if let (None, Some(default)) = (fields.get(name), &schema.default) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in fields {
                    if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                        schema.fill(value);
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    if let Some(schema) = &self.items {
                        schema.fill(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds everything that is wrong with an object, or with its change. Rules are left out when an error, also
    /// one found before, says that the object's form is wrong.
    pub(crate) fn check(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let root = Path {
            updating: old.is_some(),
            ..Path::default()
        };
        self.check_value(object, old, &root, errors);
        self.check_lists(object, &root, errors);
        if !self.has_rules() {
            return;
        }
        if errors.iter().any(FieldError::blocks_rules) {
            errors.push(FieldError::invalid("<nil>", &Value::Null, SKIPPED));
        } else {
            self.check_rules(object, old, &root, errors);
        }
    }

    fn has_rules(&self) -> bool {
        let children = self.properties.values();
        let others = self
            .additional
            .as_deref()
            .into_iter()
            .chain(self.items.as_deref());
        !self.rules.is_empty() || children.chain(others).any(Self::has_rules)
    }

    fn check_value(&self, value: &Value, old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
        if old == Some(value) {
            return;
        }
        let said = path.said();
        if !self.has_type(value) {
            let is = type_of(value, &self.kind, self.int_or_string);
            let fraction = value.is_f64() && self.kind == "integer" && !self.format.is_empty();
            let wanted = match (self.int_or_string, fraction) {
                (true, _) => "integer,string",
                (_, true) => &self.format,
                _ => &self.kind,
            };
            let detail = format!("{said} in body must be of type {wanted}: \"{is}\"");
            errors.push(FieldError::type_invalid(path.text(), &json!(is), &detail));
            if fraction {
                let detail = format!("Checked value must be of type integer with format {wanted} in {said}");
                errors.push(FieldError::invalid("<nil>", &json!(""), &detail));
            }
            return;
        }
        match value {
            Value::String(text) => self.check_text(text, &said, path, errors),
            Value::Number(_) => self.check_number(value, &said, path, errors),
            _ => {}
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let supported: Vec<String> = self
                .allowed
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            errors.push(FieldError::unsupported(path.text(), value, &supported));
        }
        match value {
            Value::Object(fields) => self.check_fields(fields, old, path, errors),
            Value::Array(items) => self.check_items(items, old, path, errors),
            _ => {}
        }
    }

    fn has_type(&self, value: &Value) -> bool {
        if value.is_null() {
            return self.nullable;
        }
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.kind.as_str() {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
            "number" => value.is_number(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            _ => true,
        }
    }

    fn check_text(&self, text: &str, said: &str, path: &Path, errors: &mut Vec<FieldError>) {
        let length = text.chars().count() as u64;
        if let Some(limit) = self.max_length.filter(|limit| length > *limit) {
            errors.push(FieldError::too_long(path.text(), limit));
        }
        let mut invalid = |detail: &str| errors.push(FieldError::invalid(path.text(), &json!(text), detail));
        if let Some(least) = self.min_length.filter(|least| length < *least) {
            invalid(&format!("{said} in body should be at least {least} chars long"));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            invalid(&format!("{said} in body should match '{pattern}'"));
        }
        if self.format == "date-time" && !is_date_time(text) {
            let detail = format!("{said} in body must be of type date-time: \"{text}\"");
            errors.push(FieldError::type_invalid(path.text(), &json!(text), &detail));
        }
    }

    fn check_number(&self, value: &Value, said: &str, path: &Path, errors: &mut Vec<FieldError>) {
        let number = value.as_f64().unwrap_or_default();
        let mut invalid = |detail: String| errors.push(FieldError::invalid(path.text(), value, &detail));
        if let Some(least) = self.minimum.filter(|least| number < *least) {
            invalid(format!(
                "{said} in body should be greater than or equal to {least}"
            ));
        }
        if let Some(most) = self.maximum.filter(|most| number > *most) {
            invalid(format!("{said} in body should be less than or equal to {most}"));
        }
        let fits = match self.format.as_str() {
            "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            "int64" => value.is_i64(),
            _ => true,
        };
        if !fits {
            errors.push(self.unfit(said));
        }
    }

    /// A number that the format cannot hold.
    fn unfit(&self, said: &str) -> FieldError {
        let format = &self.format;
        let detail = format!("Checked value must be of type integer with format {format} in {said}");
        FieldError::invalid("<nil>", &json!(""), &detail)
    }

    fn check_fields(
        &self,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &Path,
        errors: &mut Vec<FieldError>,
    ) {
        if let Some(limit) = self.max_properties.filter(|limit| fields.len() as u64 > *limit) {
            errors.push(FieldError::too_many(path.text(), fields.len(), limit));
        }
        for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
            errors.push(FieldError::required(path.field(name).text(), ""));
        }
        for (name, value) in fields {
            if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                let old = old.and_then(|old| old.get(name));
                schema.check_value(value, old, &path.field(name), errors);
            }
        }
    }

    fn check_items(&self, items: &[Value], old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
        let count = items.len() as u64;
        if let Some(limit) = self.max_items.filter(|limit| count > *limit) {
            errors.push(FieldError::too_many(path.text(), items.len(), limit));
        }
        if let Some(least) = self.min_items.filter(|least| count < *least) {
            let detail = format!("{} in body should have at least {least} items", path.text());
            errors.push(FieldError::invalid_omitted(path.text(), &detail));
        }
        let Some(schema) = &self.items else {
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let old = self.counterpart(item, old);
            schema.check_value(item, old, &path.index(index), errors);
        }
    }

    /// The item of the old list with the same keys.
    fn counterpart<'a>(&self, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
        if self.map_keys.is_empty() {
            return None;
        }
        let same = |other: &&Value| self.map_keys.iter().all(|key| other[key] == item[key]);
        old?.as_array()?.iter().find(same)
    }

    /// Items with the same keys in a list that is a map.
    fn check_lists(&self, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(schema) = self.properties.get(name).or(self.additional.as_deref()) {
                        schema.check_lists(value, &path.field(name), errors);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = path.index(index);
                    let first = self.counterpart(item, Some(value));
                    if first.is_some_and(|first| !std::ptr::eq(first, item)) {
                        let keys = self.map_keys.iter().map(|key| (key.clone(), item[key].clone()));
                        let keys = Value::Object(keys.collect());
                        errors.push(FieldError::duplicate(place.text(), &keys));
                    }
                    if let Some(schema) = &self.items {
                        schema.check_lists(item, &place, errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_rules(&self, value: &Value, old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
        if old == Some(value) {
            return;
        }
        let omitted = matches!(self.kind.as_str(), "object" | "array");
        for (field, broken) in self.rules.broken(value, old) {
            let place = field.iter().fold(path.clone(), |path, field| path.field(field));
            errors.push(broken.error(place.text(), value, omitted));
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let old = old.and_then(|old| old.get(name));
                    if let Some(schema) = self.properties.get(name) {
                        schema.check_rules(value, old, &path.field(name), errors);
                    } else if let Some(schema) = &self.additional {
                        schema.check_rules(value, old, &path.key(name), errors);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        let old = self.counterpart(item, old);
                        schema.check_rules(item, old, &path.index(index), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

/// RFC 3339, as strfmt reads it.
fn is_date_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

fn type_of(value: &Value, wanted: &str, int_or_string: bool) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => {
            if wanted == "integer" && !int_or_string {
                "float64"
            } else {
                "number"
            }
        }
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A place in an object.
#[derive(Clone, Debug, Default)]
struct Path {
    text: String,
    last: String,
    updating: bool,
}

impl Path {
    fn text(&self) -> String {
        if self.text.is_empty() {
            "<nil>".to_owned()
        } else {
            self.text.clone()
        }
    }

    /// How a message names it: upstream's validator of updates gives only the field itself.
    fn said(&self) -> String {
        if self.updating {
            self.last.clone()
        } else {
            self.text()
        }
    }

    fn field(&self, name: &str) -> Self {
        let dot = if self.text.is_empty() { "" } else { "." };
        Self {
            text: format!("{}{dot}{name}", self.text),
            last: name.to_owned(),
            updating: self.updating,
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            text: format!("{}[{index}]", self.text),
            last: format!("{}[{index}]", self.last),
            updating: self.updating,
        }
    }

    fn key(&self, key: &str) -> Self {
        Self {
            text: format!("{}[{key}]", self.text),
            last: key.to_owned(),
            updating: self.updating,
        }
    }
}
