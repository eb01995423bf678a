//! From JSON that a client sent to the object that is stored: unknown fields dropped, defaults filled in.
//!
//! Typed resources pass through their Go-like types, which decide what a field is.

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
    events::v1::Event,
    scheduling::v1::PriorityClass,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    events,
    kind::{Kind, Rules},
    meta, nodes, pods,
    status::{Result, bad_request},
};

/// Maps whose keys are the user's: kept as they are, dropped when empty.
const MAPS: [&str; 12] = [
    "labels",
    "annotations",
    "nodeSelector",
    "matchLabels",
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "overhead",
    "data",
    "parameters",
    "deprecatedSeries",
];
/// Strings that are written although empty, for they are pointers upstream or have no `omitempty`.
const KEPT: [&str; 7] = [
    "holderIdentity",
    "topologyKey",
    "type",
    "status",
    "operator",
    "effect",
    "name",
];
/// metav1.Time: whole seconds.
const TIMES: [&str; 12] = [
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "lastHeartbeatTime",
    "lastProbeTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "timeAdded",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "lastObservedTimeDeprecated",
];
/// metav1.MicroTime.
const MICRO: [&str; 4] = ["renewTime", "acquireTime", "eventTime", "lastObservedTime"];

impl Kind {
    /// # Errors
    /// 400 when it cannot be decoded.
    pub(crate) fn decoded(&self, mut object: Value) -> Result<Value> {
        let undecodable = |why: &str| {
            bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {why}",
                self.kind,
                self.api_version().rsplit('/').next().unwrap_or_default(),
                self.kind
            ))
        };
        if !object.is_object() {
            return Err(undecodable("json: cannot unmarshal into an object"));
        }
        meta::decodes(&object["metadata"]).map_err(|why| undecodable(&why))?;
        meta::tidy(&mut object);
        if let Some(custom) = self.custom() {
            let fields = object.as_object_mut().expect("checked");
            fields
                .entry("apiVersion")
                .or_insert_with(|| json!(self.api_version()));
            fields.entry("kind").or_insert_with(|| json!(self.kind));
            custom.schema.normalize(&mut object);
            return Ok(object);
        }
        if matches!(self.rules, Rules::Event) && object["apiVersion"] == "v1" {
            object = events::from_core(&object);
        }
        object["apiVersion"] = json!(self.api_version());
        object["kind"] = json!(self.kind);
        if let Some(why) = malformed_amount(&object) {
            return Err(undecodable(why));
        }
        if let Some(why) = malformed_time(&object) {
            return Err(undecodable(&why));
        }
        let typed = match self.rules {
            Rules::Node => typed::<Node>(object),
            Rules::Pod => typed::<Pod>(object),
            Rules::Lease => typed::<Lease>(object),
            Rules::Event => typed::<Event>(object),
            Rules::Namespace => typed::<Namespace>(object),
            Rules::PriorityClass => typed::<PriorityClass>(object),
            Rules::Custom(_) => return Ok(object),
        };
        let mut object = typed.map_err(|why| undecodable(&why))?;
        clean(&mut object);
        match self.rules {
            Rules::Node => nodes::complete(&mut object),
            Rules::Pod => pods::complete(&mut object),
            Rules::Lease if object["spec"].is_null() => object["spec"] = json!({}),
            Rules::Event => events::complete(&mut object),
            Rules::Namespace => {
                for part in ["spec", "status"] {
                    if object[part].is_null() {
                        object[part] = json!({});
                    }
                }
                if object["status"]["phase"].is_null() {
                    object["status"]["phase"] = json!("Active");
                }
            }
            Rules::PriorityClass if object["preemptionPolicy"].is_null() => {
                object["preemptionPolicy"] = json!("PreemptLowerPriority");
            }
            _ => {}
        }
        Ok(object)
    }
}

fn typed<T: Serialize + DeserializeOwned>(object: Value) -> std::result::Result<Value, String> {
    let typed: T = serde_json::from_value(object).map_err(|why| format!("json: {why}"))?;
    serde_json::to_value(typed).map_err(|why| why.to_string())
}

const AMOUNT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

fn malformed_amount(object: &Value) -> Option<&'static str> {
    let lists = |value: &Value| {
        ["limits", "requests"]
            .iter()
            .any(|list| super::quantity::malformed(&value["resources"][*list]))
    };
    let containers = ["containers", "initContainers"]
        .iter()
        .filter_map(|list| object["spec"][*list].as_array())
        .flatten();
    let status = ["capacity", "allocatable"]
        .iter()
        .any(|list| super::quantity::malformed(&object["status"][*list]));
    (status || containers.into_iter().any(lists)).then_some(AMOUNT)
}

/// metav1.MicroTime has six digits of a second, no more and no less.
fn malformed_time(object: &Value) -> Option<String> {
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    for (holder, field) in [("spec", "renewTime"), ("spec", "acquireTime"), ("", "eventTime")] {
        let holder = if holder.is_empty() {
            object
        } else {
            &object[holder]
        };
        let Some(text) = holder[field].as_str() else {
            continue;
        };
        if text.parse::<Timestamp>().is_err() {
            return Some(format!(
                "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
            ));
        }
        let second = text.get(19..).unwrap_or_default();
        let digits = second
            .get(1..)
            .unwrap_or_default()
            .find(|c: char| !c.is_ascii_digit());
        if !second.starts_with('.') || digits != Some(6) {
            return Some(format!(
                "parsing time {text:?} as {layout:?}: cannot parse {second:?} as \".000000\""
            ));
        }
    }
    None
}

/// What Go's `omitempty` leaves out, and times in Go's form.
fn clean(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if MAPS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(text) = value.as_str().and_then(|text| written(name, text)) {
                    *value = json!(text);
                }
                clean(value);
            }
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !(fields.is_empty() && MAPS.contains(&name.as_str())),
                Value::String(text) => !text.is_empty() || KEPT.contains(&name.as_str()),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

fn written(name: &str, text: &str) -> Option<String> {
    let form = if TIMES.contains(&name) {
        "%Y-%m-%dT%H:%M:%SZ"
    } else if MICRO.contains(&name) {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        return None;
    };
    let time: Timestamp = text.parse().ok()?;
    Some(time.strftime(form).to_string())
}
