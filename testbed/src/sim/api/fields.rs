//! Field selectors: which fields each kind can be selected by, and how.
//!
//! Source: k8s.io/apimachinery/pkg/fields/selector.go, k8s.io/kubernetes/pkg/apis/core/v1/conversion.go.

use serde_json::Value;

use super::{
    kind::{Kind, Rules},
    status::{Result, bad_request},
};

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<Term>);

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// A JSON pointer into the stored form.
    pointer: String,
    equal: bool,
    value: String,
}

const PODS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];
const EVENTS: [(&str, &str); 13] = [
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
    ("involvedObject.kind", "/regarding/kind"),
    ("involvedObject.namespace", "/regarding/namespace"),
    ("involvedObject.name", "/regarding/name"),
    ("involvedObject.uid", "/regarding/uid"),
    ("involvedObject.apiVersion", "/regarding/apiVersion"),
    ("involvedObject.resourceVersion", "/regarding/resourceVersion"),
    ("involvedObject.fieldPath", "/regarding/fieldPath"),
    ("reason", "/reason"),
    ("reportingComponent", "/reportingController"),
    ("source", "/deprecatedSource/component"),
    ("type", "/type"),
];

/// The fields of an Event as the API version that is asked calls them.
fn event_pointer(field: &str, core: bool) -> Option<String> {
    let regarding = field
        .strip_prefix("regarding.")
        .map(|rest| format!("involvedObject.{rest}"));
    let as_core = match (core, regarding) {
        (true, _) => field.to_owned(),
        (false, Some(field)) => field,
        (false, None) if field.starts_with("involvedObject.") => return None,
        (false, None) if field == "reportingController" => "reportingComponent".to_owned(),
        (false, None) => field.to_owned(),
    };
    let place = EVENTS.into_iter().find(|(name, _)| *name == as_core)?;
    Some(place.1.to_owned())
}

/// Where a field is, or why it cannot be selected by.
fn pointer(kind: &Kind, core: bool, field: &str) -> std::result::Result<String, String> {
    let as_is = || Ok(format!("/{}", field.replace('.', "/")));
    let unsupported = || Err(format!("field label not supported: {field}"));
    let meta = ["metadata.name", "metadata.namespace"].contains(&field);
    let known = match &kind.rules {
        Rules::Pod => PODS.contains(&field),
        Rules::Node => ["metadata.name", "spec.unschedulable"].contains(&field),
        Rules::Namespace => ["metadata.name", "status.phase"].contains(&field),
        Rules::Custom(custom) => {
            field == "metadata.name"
                || (kind.namespaced && field == "metadata.namespace")
                || custom.selectable.iter().any(|known| known == field)
        }
        Rules::Event => {
            return event_pointer(field, core).map_or_else(unsupported, Ok);
        }
        Rules::Lease | Rules::PriorityClass if meta => true,
        Rules::Lease | Rules::PriorityClass => {
            return Err(format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ));
        }
    };
    if known { as_is() } else { unsupported() }
}

impl Fields {
    /// # Errors
    /// 400 with upstream's words.
    pub(crate) fn parse(kind: &Kind, core: bool, text: &str) -> Result<Self> {
        let mut terms = Vec::new();
        for part in split(text).into_iter().filter(|part| !part.is_empty()) {
            let (field, equal, value) = term(&part).ok_or_else(|| {
                bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            terms.push(Term {
                pointer: pointer(kind, core, field).map_err(bad_request)?,
                equal,
                value: unescaped(value),
            });
        }
        Ok(Self(terms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| term.matches(object))
    }

    /// Whether the terms that ask for one value of these fields match.
    pub(crate) fn match_of(&self, pointers: &[&str], object: &Value) -> bool {
        let mut terms = self
            .0
            .iter()
            .filter(|term| term.equal && pointers.contains(&term.pointer.as_str()));
        terms.all(|term| term.matches(object))
    }
}

impl Term {
    fn matches(&self, object: &Value) -> bool {
        let is = match object.pointer(&self.pointer) {
            None | Some(Value::Null) => self.value.is_empty() || is_false(self),
            Some(Value::String(text)) => *text == self.value,
            Some(other) => self.value == format!("{other}"),
        };
        is == self.equal
    }
}

/// Upstream writes absent booleans as `false`.
fn is_false(term: &Term) -> bool {
    let booleans = ["/spec/unschedulable", "/spec/hostNetwork"];
    booleans.contains(&term.pointer.as_str()) && term.value == "false"
}

/// At commas that are not escaped.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn term(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, equal, value));
        }
    }
    None
}

fn unescaped(value: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in value.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}
