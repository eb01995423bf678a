//! What a case is made of: requests, watches opened on the way, and where each watch's events end.
//!
//! Pure data. Strings may name values of earlier answers as `${...}`; see [`crate::memory`].

use http::Method;
use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// As `kube` asks for metadata only.
pub(crate) const META: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
pub(crate) const META_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// As `kubectl get` asks for columns.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// The body of a request.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    Json(Value),
    /// Bytes that need not be JSON.
    Text(String),
    /// The object of this key as last seen, with a merge patch applied: what a PUT sends.
    Seen(String, Value),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) accept: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Body,
}

impl Call {
    pub(crate) fn new(method: Method, target: impl Into<String>, body: Body) -> Self {
        let content_type = if method == Method::PATCH { MERGE } else { JSON };
        Self {
            method,
            target: target.into(),
            accept: JSON,
            content_type,
            body,
        }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target, Body::None)
    }

    pub(crate) fn post(target: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, target, Body::Json(body))
    }

    pub(crate) fn merge(target: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, target, Body::Json(body))
    }

    pub(crate) fn put(target: impl Into<String>, seen: impl Into<String>, change: Value) -> Self {
        Self::new(Method::PUT, target, Body::Seen(seen.into(), change))
    }

    /// DELETE; no body if the options are null.
    pub(crate) fn delete(target: impl Into<String>, options: Value) -> Self {
        let body = if options.is_null() {
            Body::None
        } else {
            Body::Json(options)
        };
        Self::new(Method::DELETE, target, body)
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    pub(crate) fn content_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }
}

/// One step of a case.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A request; the code both arms must answer, if the case states it.
    Ask(Option<u16>, Call),
    /// What a controller would do on the real server; not compared.
    Prepare(Call),
    /// Opens a watch.
    Watch(String, Call),
    /// Both arms forget their history up to now.
    Forget,
    /// Compares a watch's events up to the first of the object of this name, or with this value in
    /// the annotation `end`.
    Collect(String, String),
}

/// A named list of steps; each step sees the values of those before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            steps: Vec::new(),
        }
    }

    pub(crate) fn ask(mut self, code: u16, call: Call) -> Self {
        self.steps.push(Step::Ask(Some(code), call));
        self
    }

    pub(crate) fn get(self, code: u16, target: &str) -> Self {
        self.ask(code, Call::get(target))
    }

    pub(crate) fn post(self, code: u16, target: &str, body: Value) -> Self {
        self.ask(code, Call::post(target, body))
    }

    pub(crate) fn merge(self, code: u16, target: &str, body: Value) -> Self {
        self.ask(code, Call::merge(target, body))
    }

    pub(crate) fn put(self, code: u16, target: &str, seen: &str, change: Value) -> Self {
        self.ask(code, Call::put(target, seen, change))
    }

    pub(crate) fn delete(self, code: u16, target: &str, options: Value) -> Self {
        self.ask(code, Call::delete(target, options))
    }

    pub(crate) fn watch(self, name: &str, target: &str) -> Self {
        self.watch_as(name, JSON, target)
    }

    pub(crate) fn watch_as(mut self, name: &str, accept: &'static str, target: &str) -> Self {
        let call = Call::get(target).accept(accept);
        self.steps.push(Step::Watch(name.to_owned(), call));
        self
    }

    pub(crate) fn forget(mut self) -> Self {
        self.steps.push(Step::Forget);
        self
    }

    /// Whether no other case may run beside it.
    pub(crate) fn is_alone(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Forget))
    }

    pub(crate) fn collect(mut self, name: &str, end: &str) -> Self {
        self.steps.push(Step::Collect(name.to_owned(), end.to_owned()));
        self
    }
}

/// DeleteOptions with preconditions; null leaves one out.
pub(crate) fn only_if(uid: Value, resource_version: Value) -> Value {
    let mut preconditions = json!({});
    for (name, value) in [("uid", uid), ("resourceVersion", resource_version)] {
        if !value.is_null() {
            preconditions[name] = value;
        }
    }
    json!({ "preconditions": preconditions })
}
