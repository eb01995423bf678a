//! What earlier answers of one arm said, and the placeholders that refer to it.
//!
//! `${ns}` and `${id}` name the case; `${uid KEY}` and `${rv KEY}` are an object's last known uid and
//! resourceVersion, `${uid0 KEY}` and `${rv0 KEY}` the first known ones; `${list RESOURCE}` is the
//! resourceVersion of the last list, `${continue}` the last continue token or nothing. A key is `pods/name`;
//! `${A|B}` is B if A was never seen.

use std::{collections::HashMap, fmt::Write as _};

use http::Method;
use serde_json::Value;
use testbed::sim::api::Request;

use crate::step::{Body, Call};

/// What stands for a uid or resourceVersion that was never seen.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";
const NO_REVISION: &str = "1";

/// The values one arm has answered.
#[derive(Debug)]
pub(crate) struct Memory {
    id: String,
    values: HashMap<String, String>,
    objects: HashMap<String, Value>,
}

impl Memory {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            values: HashMap::new(),
            objects: HashMap::new(),
        }
    }

    /// The request with every placeholder replaced.
    pub(crate) fn fill(&self, call: &Call) -> Request {
        let target = self.fill_text(&call.target);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = match &call.body {
            Body::None => Vec::new(),
            Body::Json(value) => self.fill_value(value).to_string().into_bytes(),
            Body::Text(text) => self.fill_text(text).into_bytes(),
            Body::Seen(key, change) => {
                let mut object = self
                    .objects
                    .get(&self.fill_text(key))
                    .cloned()
                    .unwrap_or_default();
                merge(&mut object, &self.fill_value(change));
                object.to_string().into_bytes()
            }
        };
        Request {
            user: "admin".into(),
            method: call.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            accept: call.accept.to_owned(),
            content_type: call.content_type.to_owned(),
            body,
        }
    }

    fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill_text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (self.fill_text(name), self.fill_value(value)))
                .collect(),
            other => other.clone(),
        }
    }

    /// The text with every placeholder replaced.
    pub(crate) fn fill_text(&self, text: &str) -> String {
        let text = text
            .replace("${id}", &self.id)
            .replace("${ns}", &format!("c-{}", self.id));
        let mut filled = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').expect("a placeholder ends with }");
            write!(filled, "{before}{}", self.value(name)).expect("a String takes all");
            rest = after;
        }
        filled + rest
    }

    fn value(&self, name: &str) -> &str {
        let known = name
            .split('|')
            .find_map(|name| self.values.get(name))
            .map(String::as_str);
        known.unwrap_or(match name {
            "continue" => "",
            name if name.starts_with("uid") => NO_UID,
            _ => NO_REVISION,
        })
    }

    /// Keeps what an answer says about objects.
    pub(crate) fn learn(&mut self, request: &Request, body: &Value) {
        let Some(resource) = resource(&request.path) else {
            return;
        };
        let metadata = &body["metadata"];
        if metadata["continue"]
            .as_str()
            .is_some_and(|token| !token.is_empty())
        {
            self.set("continue".to_owned(), &metadata["continue"]);
        }
        let Some(items) = body["items"].as_array() else {
            return self.learn_object(resource, body);
        };
        if request.method != Method::GET {
            return;
        }
        self.set(format!("list {resource}"), &metadata["resourceVersion"]);
        for item in items {
            self.learn_object(resource, item);
        }
    }

    fn learn_object(&mut self, resource: &str, object: &Value) {
        let metadata = &object["metadata"];
        let (Some(name), true) = (metadata["name"].as_str(), metadata["uid"].is_string()) else {
            return;
        };
        let key = format!("{resource}/{name}");
        for (what, field) in [("uid", "uid"), ("rv", "resourceVersion")] {
            let first = format!("{what}0 {key}");
            if !self.values.contains_key(&first) {
                self.set(first, &metadata[field]);
            }
            self.set(format!("{what} {key}"), &metadata[field]);
        }
        let whole = object["kind"] != "PartialObjectMetadata";
        if whole && object["kind"].is_string() {
            self.objects.insert(key, object.clone());
        }
    }

    fn set(&mut self, name: String, value: &Value) {
        if let Some(value) = value.as_str() {
            self.values.insert(name, value.to_owned());
        }
    }
}

/// The resource a path is about: `/api/v1/...` or `/apis/GROUP/VERSION/...`.
fn resource(path: &str) -> Option<&str> {
    let mut parts = path.split('/').skip(1);
    match parts.next()? {
        "api" => parts.next()?,
        "apis" => parts.nth(1)?,
        _ => return None,
    };
    match parts.next()? {
        "namespaces" => {
            let namespace = parts.next();
            match (namespace, parts.next()) {
                (Some(_), Some("status" | "finalize")) | (_, None) => Some("namespaces"),
                (_, resource) => resource,
            }
        }
        other => Some(other),
    }
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let object = target.as_object_mut().expect("made one");
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
