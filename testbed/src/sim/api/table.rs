//! Tables for `kubectl get`: columns of the built-in kinds, and those that a CustomResourceDefinition names.
//!
//! Sources: k8s.io/kubernetes/pkg/printers/internalversion/printers.go,
//! k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kind::Rules,
    meta,
    view::{View, metadata},
};

/// The description of the first column.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    /// The steps of its path; empty for built-in kinds.
    path: Vec<String>,
}

impl Column {
    fn new(name: &str, kind: &str, priority: i64) -> Self {
        let (format, description) = match name {
            "Name" => ("name", NAME),
            _ => ("", ""),
        };
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: format.to_owned(),
            description: description.to_owned(),
            priority,
            path: Vec::new(),
        }
    }

    pub(crate) fn of_crd(columns: &Value) -> Vec<Self> {
        let text = |column: &Value, field: &str| column[field].as_str().unwrap_or_default().to_owned();
        let columns = columns.as_array().into_iter().flatten();
        columns
            .map(|column| {
                let path = text(column, "jsonPath");
                let said = text(column, "description");
                let described = format!("Custom resource definition column (in JSONPath format): {path}");
                Self {
                    name: text(column, "name"),
                    kind: text(column, "type"),
                    format: text(column, "format"),
                    description: if said.is_empty() { described } else { said },
                    priority: column["priority"].as_i64().unwrap_or_default(),
                    path: steps(&path),
                }
            })
            .collect()
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let value = self.path.iter().try_fold(object, |value, step| value.get(step));
        match value {
            None | Some(Value::Null) => Value::Null,
            Some(value) if self.kind == "date" => json!(age(value, now)),
            Some(value) if self.kind == "string" && !value.is_string() => json!(value.to_string()),
            Some(value) => value.clone(),
        }
    }
}

/// `.metadata.labels.korder\.dev/order` as steps; only fields, no filters.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut escaped = false;
    for c in path.trim_start_matches('.').chars() {
        assert!(
            !"[]*?()".contains(c),
            "testbed: the path {path} of a column is not simulated"
        );
        match (c, escaped) {
            ('\\', false) => escaped = true,
            ('.', false) => steps.push(String::new()),
            _ => {
                steps.last_mut().expect("never empty").push(c);
                escaped = false;
            }
        }
    }
    steps
}

/// A whole table.
pub(crate) fn table(view: &View, list: Value, items: &[Arc<Value>], now: Timestamp) -> Value {
    let columns: Vec<Value> = columns(view).iter().map(Column::definition).collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| json!({ "cells": cells(view, item, now), "object": metadata(item) }))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn columns(view: &View) -> Vec<Column> {
    let named: &[(&str, &str, i64)] = match &view.kind.rules {
        Rules::Node => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Roles", "string", 0),
            ("Age", "string", 0),
            ("Version", "string", 0),
            ("Internal-IP", "string", 1),
            ("External-IP", "string", 1),
            ("OS-Image", "string", 1),
            ("Kernel-Version", "string", 1),
            ("Container-Runtime", "string", 1),
        ],
        Rules::Pod => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        Rules::Namespace => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Age", "string", 0),
        ],
        Rules::Lease => &[
            ("Name", "string", 0),
            ("Holder", "string", 0),
            ("Age", "string", 0),
        ],
        Rules::PriorityClass => &[
            ("Name", "string", 0),
            ("Value", "integer", 0),
            ("Global-Default", "boolean", 0),
            ("Age", "string", 0),
            ("PreemptionPolicy", "string", 0),
        ],
        Rules::Event => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
            ("Name", "string", 1),
        ],
        Rules::Custom(custom) => {
            let mut columns = vec![Column::new("Name", "string", 0)];
            columns.extend(custom.columns.iter().cloned());
            if custom.columns.is_empty() {
                columns.push(Column::new("Age", "date", 0));
            }
            return columns;
        }
    };
    let column = |(name, kind, priority): &(&str, &str, i64)| Column::new(name, kind, *priority);
    named.iter().map(column).collect()
}

fn cells(view: &View, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = json!(meta::name(object));
    let age = json!(age(&object["metadata"]["creationTimestamp"], now));
    match &view.kind.rules {
        Rules::Node => node(object, name, age),
        Rules::Pod => pod(object, name, age),
        Rules::Namespace => vec![name, object["status"]["phase"].clone(), age],
        Rules::Lease => {
            let holder = object["spec"]["holderIdentity"].as_str().unwrap_or_default();
            vec![name, json!(holder), age]
        }
        Rules::PriorityClass => vec![
            name,
            object["value"].clone(),
            json!(object["globalDefault"] == true),
            age,
            object["preemptionPolicy"].clone(),
        ],
        Rules::Event => event(object, name, now),
        Rules::Custom(custom) => {
            let mut cells = vec![name];
            cells.extend(custom.columns.iter().map(|column| column.cell(object, now)));
            if custom.columns.is_empty() {
                cells.push(age);
            }
            cells
        }
    }
}

fn or(value: &Value, otherwise: &str) -> Value {
    json!(
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .unwrap_or(otherwise)
    )
}

fn node(node: &Value, name: Value, age: Value) -> Vec<Value> {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions
        .into_iter()
        .find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let prefix = "node-role.kubernetes.io/";
    let labels = meta::labels(node).into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix(prefix)).collect();
    let roles = if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    };
    let address = |kind: &str| {
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let found = addresses.into_iter().find(|address| address["type"] == kind);
        or(
            found.map_or(&Value::Null, |address| &address["address"]),
            "<none>",
        )
    };
    let info = &node["status"]["nodeInfo"];
    vec![
        name,
        json!(status),
        json!(roles),
        age,
        info["kubeletVersion"].clone(),
        address("InternalIP"),
        address("ExternalIP"),
        or(&info["osImage"], "<unknown>"),
        or(&info["kernelVersion"], "<unknown>"),
        or(&info["containerRuntimeVersion"], "<unknown>"),
    ]
}

fn pod(pod: &Value, name: Value, age: Value) -> Vec<Value> {
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = || {
        pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
    };
    let ready = statuses().filter(|status| status["ready"] == true).count();
    let restarts: i64 = statuses()
        .filter_map(|status| status["restartCount"].as_i64())
        .sum();
    let gated = pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty());
    let status = if meta::is_deleting(pod) {
        json!("Terminating")
    } else if pod["status"]["reason"].is_string() {
        pod["status"]["reason"].clone()
    } else if gated {
        json!("SchedulingGated")
    } else {
        pod["status"]["phase"].clone()
    };
    vec![
        name,
        json!(format!("{ready}/{total}")),
        status,
        json!(restarts.to_string()),
        age,
        or(&pod["status"]["podIP"], "<none>"),
        or(&pod["spec"]["nodeName"], "<none>"),
        or(&pod["status"]["nominatedNodeName"], "<none>"),
        json!("<none>"),
    ]
}

fn event(event: &Value, name: Value, now: Timestamp) -> Vec<Value> {
    let seen = |field: &str| {
        let own = &event[field];
        let time = if own.is_null() { &event["eventTime"] } else { own };
        json!(age(time, now))
    };
    let object = &event["regarding"];
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let named = object["name"].as_str().unwrap_or_default();
    let component = event["deprecatedSource"]["component"]
        .as_str()
        .unwrap_or_default();
    let host = event["deprecatedSource"]["host"].as_str().unwrap_or_default();
    let (component, host) = if component.is_empty() {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        (text("reportingController"), text("reportingInstance"))
    } else {
        (component, host)
    };
    let source = if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    };
    vec![
        seen("deprecatedLastTimestamp"),
        event["type"].clone(),
        event["reason"].clone(),
        json!(format!("{kind}/{named}")),
        or(&object["fieldPath"], ""),
        json!(source),
        json!(event["note"].as_str().unwrap_or_default().trim()),
        seen("deprecatedFirstTimestamp"),
        json!(event["deprecatedCount"].as_i64().unwrap_or(1)),
        name,
    ]
}

/// Source: k8s.io/apimachinery/pkg/util/duration.HumanDuration.
fn age(since: &Value, now: Timestamp) -> String {
    let Some(since) = since.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    human(now.as_second() - since.as_second())
}

fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    let two = |large: i64, small: i64, units: (&str, &str)| match small {
        0 => format!("{large}{}", units.0),
        small => format!("{large}{}{small}{}", units.0, units.1),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, seconds % 60, ("m", "s")),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, minutes % 60, ("h", "m")),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, hours % 24, ("d", "h")),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(years, days % 365, ("y", "d")),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_shows_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (291, "4m51s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (3 * 86400 + 3600, "3d1h"),
            (30 * 86400, "30d"),
            ((2 * 365 + 327) * 86400, "2y327d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn a_path_may_have_dots_in_its_fields() {
        assert_eq!(
            steps(".metadata.labels.korder\\.dev/order"),
            ["metadata", "labels", "korder.dev/order"]
        );
    }
}
