//! What is not compared as it is, and why. Everything else must be equal as JSON.
//! Of the headers only the status and `Retry-After` are compared.
//!
//! | what | how it is compared | why |
//! |---|---|---|
//! | `metadata.managedFields` | not | the simulator does not track field owners; nothing of korder's reads them |
//! | uids, also inside texts | by order of appearance: `uid-1` | random; equalities are kept |
//! | `resourceVersion` of an object | by order of appearance: `rv-1` | the real store counts other writes too; equalities are kept |
//! | `resourceVersion` of a list | which is the newest object revision seen that it is not older than | other writes move the real store's revision between ours |
//! | `resourceVersion` of a bookmark | whether it is at least that of the events before it | the same |
//! | times of whole seconds within 10 minutes of now | the distance from now when first seen, in steps of 10 s | the server set them, and the arms are asked one after the other; a grace period shows |
//! | `continue` | whether it is there | opaque; that it works is compared by using it |
//! | names made by `generateName`, also inside texts | by order of appearance: `PREFIX-name-1` | random |
//! | the volume `kube-api-access-…` | without its random end | random |
//! | what follows `cannot be handled as a KIND: ` | not | the words of Go's JSON decoder |
//! | the dump after `(allow it to be set to 1 if it was previously negative)` | not | it prints Go's view of a Pod's spec |
//! | bookmarks but the one that ends the initial events | not | sent at times of the server's choosing |
//! | revisions in texts | as for objects; one that no answer had not at all | as for objects |
//! | descriptions of the columns of a Table | not | kubectl does not show them |
//! | cells of the column AGE in a Table | not | they are relative to now |
//! | the order of `details.causes` | sorted, as are the errors in the message that lists them | the real server walks Go maps |

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The names that stand for one arm's values in one case.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    uids: HashMap<String, String>,
    revisions: BTreeMap<u64, String>,
    times: HashMap<String, String>,
    generated: HashMap<String, String>,
}

impl Symbols {
    /// The body as it is compared; `now` is when it was received.
    pub(crate) fn body(&mut self, mut body: Value, now: Timestamp) -> Value {
        self.collect_names(&body);
        if let Some(token) = body
            .pointer_mut("/metadata/continue")
            .filter(|token| **token != "")
        {
            *token = json!("<continue>");
        }
        if body["columnDefinitions"].is_array() {
            hide_ages(&mut body);
            for column in body["columnDefinitions"].as_array_mut().into_iter().flatten() {
                column["description"].take();
            }
        }
        if is_list(&body) {
            for entries in ["items", "rows"] {
                if let Some(entries) = body.get_mut(entries) {
                    self.value(entries, now);
                }
            }
            let revision = body["metadata"]["resourceVersion"].take();
            if !revision.is_null() {
                body["metadata"]["resourceVersion"] = self.list_revision(&revision);
            }
        } else {
            self.value(&mut body, now);
        }
        body
    }

    /// A watch event as it is compared, none if it is not; `newest` is the newest revision in its watch.
    pub(crate) fn event(&mut self, mut event: Value, newest: &mut u64, now: Timestamp) -> Option<Value> {
        let revision = event["object"]["metadata"]["resourceVersion"].as_str();
        let revision = revision.and_then(|text| text.parse::<u64>().ok());
        if event["type"] == "BOOKMARK" {
            let metadata = &mut event["object"]["metadata"];
            metadata["annotations"].get("k8s.io/initial-events-end")?;
            metadata["resourceVersion"] = json!(revision >= Some(*newest));
            return Some(event);
        }
        *newest = revision.unwrap_or_default().max(*newest);
        event["object"] = self.body(event["object"].take(), now);
        Some(event)
    }

    /// The name in the Status of a refused object whose name was generated from this prefix.
    pub(crate) fn generated_from(&mut self, prefix: &str, status: &Value) {
        if let Some(name) = status["details"]["name"].as_str() {
            self.generated(prefix, name);
        }
    }

    fn generated(&mut self, prefix: &str, name: &str) {
        if name.len() > prefix.len() && name.starts_with(prefix) {
            let n = self.generated.len() + 1;
            let symbol = || format!("{prefix}name-{n}");
            self.generated.entry(name.to_owned()).or_insert_with(symbol);
        }
    }

    /// Names that were generated have to be known before texts that hold them are rewritten.
    fn collect_names(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let name = fields.get("name").and_then(Value::as_str);
                let prefix = fields.get("generateName").and_then(Value::as_str);
                if let (Some(name), Some(prefix)) = (name, prefix) {
                    self.generated(prefix, name);
                }
                fields.values().for_each(|value| self.collect_names(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect_names(item)),
            _ => {}
        }
    }

    fn value(&mut self, value: &mut Value, now: Timestamp) {
        match value {
            Value::Object(fields) => {
                fields.remove("managedFields");
                for (name, field) in fields.iter_mut() {
                    match name.as_str() {
                        "resourceVersion" if field.is_string() => *field = self.revision(field),
                        _ => self.value(field, now),
                    }
                }
                if let Some(causes) = fields.get_mut("causes").and_then(Value::as_array_mut) {
                    causes.sort_by_key(Value::to_string);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, now)),
            Value::String(text) => *text = self.time(text, now).unwrap_or_else(|| self.text(text)),
            _ => {}
        }
    }

    fn revision(&mut self, value: &Value) -> Value {
        let Some(number) = value.as_str().and_then(|text| text.parse().ok()) else {
            return value.clone();
        };
        let n = self.revisions.len() + 1;
        let symbol = self.revisions.entry(number);
        symbol.or_insert_with(|| format!("rv-{n}")).clone().into()
    }

    fn list_revision(&self, value: &Value) -> Value {
        let Some(number) = value.as_str().and_then(|text| text.parse::<u64>().ok()) else {
            return value.clone();
        };
        match self.revisions.range(..=number).next_back() {
            Some((_, symbol)) => json!(format!("from {symbol}")),
            None if number > 0 => json!("before all"),
            None => value.clone(),
        }
    }

    fn time(&mut self, text: &str, now: Timestamp) -> Option<String> {
        if let Some(symbol) = self.times.get(text) {
            return Some(symbol.clone());
        }
        let time: Timestamp = (text.len() == SECONDS).then(|| text.parse().ok())??;
        let distance = time.duration_since(now).as_secs_f64();
        if distance.abs() > NEAR {
            return None;
        }
        let symbol = format!("now{:+}s", (distance / 10.0).round() * 10.0);
        self.times.insert(text.to_owned(), symbol.clone());
        Some(symbol)
    }

    fn text(&mut self, text: &str) -> String {
        if text.len() == ACCESS.len() + 5 && text.starts_with(ACCESS) {
            return ACCESS.to_owned();
        }
        let mut text = self.rename_uids(without_go(text));
        for (name, symbol) in &self.generated {
            if text.contains(name.as_str()) {
                text = text.replace(name.as_str(), symbol);
            }
        }
        sorted_errors(&self.rename_revisions(&text))
    }

    /// `Too large resource version: 9, current: 7`, `ResourceVersion in record (7).` and the like.
    fn rename_revisions(&self, text: &str) -> String {
        let mut before = "";
        let words = text.split(' ').map(|word| {
            let number = word.trim_matches(['(', ')', ',', '.']);
            let revision = number.parse::<u64>().ok();
            let known = revision.and_then(|revision| self.revisions.get(&revision));
            let renamed = match (before, known) {
                ("current:", _) if revision.is_some() => word.replace(number, "<revision>"),
                ("precondition:" | "meta:" | "precondition" | "record", known) if revision.is_some() => {
                    word.replace(number, known.map_or("<revision>", String::as_str))
                }
                ("version:", Some(symbol)) => word.replace(number, symbol),
                (version, _) if word.starts_with('(') && version.parse::<u64>().is_ok() => {
                    word.replace(number, "<revision>")
                }
                _ => word.to_owned(),
            };
            before = word;
            renamed
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn rename_uids(&mut self, text: &str) -> String {
        let mut renamed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = (0..rest.len()).find(|&at| is_uid(rest.as_bytes().get(at..at + UID))) {
            let n = self.uids.len() + 1;
            let uid = rest[at..at + UID].to_owned();
            let symbol = self.uids.entry(uid).or_insert_with(|| format!("uid-{n}"));
            renamed += &rest[..at];
            renamed += symbol;
            rest = &rest[at + UID..];
        }
        renamed + rest
    }
}

fn is_list(body: &Value) -> bool {
    let kind = body["kind"].as_str().unwrap_or_default();
    kind.ends_with("List") || kind == "Table"
}

fn hide_ages(table: &mut Value) {
    let columns = table["columnDefinitions"].as_array().into_iter().flatten();
    let ages: Vec<usize> = columns
        .enumerate()
        .filter(|(_, column)| {
            column["name"]
                .as_str()
                .is_some_and(|name| name.eq_ignore_ascii_case("age"))
        })
        .map(|(at, _)| at)
        .collect();
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        for at in &ages {
            row["cells"][*at] = json!("<age>");
        }
    }
}

const UID: usize = 36;
/// The name of the volume that holds a ServiceAccount's token, without its random end.
const ACCESS: &str = "kube-api-access-";
/// The length of `2030-01-01T00:00:00Z`.
const SECONDS: usize = 20;
/// How far from now, in seconds, a time may be that the server has set.
const NEAR: f64 = 600.0;

fn is_uid(bytes: Option<&[u8]>) -> bool {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.is_some_and(|bytes| {
        bytes.iter().enumerate().all(|(at, byte)| match dash(at) {
            true => *byte == b'-',
            false => byte.is_ascii_hexdigit(),
        })
    })
}

/// The text up to where Go's own words or types begin.
fn without_go(text: &str) -> &str {
    let ends = [" cannot be handled as a ", "if it was previously negative)\n"];
    for end in ends {
        if let Some(at) = text.find(end) {
            return &text[..at + end.len()];
        }
    }
    text
}

/// `... is invalid: [a, b]` with the errors in order.
fn sorted_errors(text: &str) -> String {
    let Some((head, tail)) = text.split_once(": [") else {
        return text.to_owned();
    };
    let Some(errors) = tail.strip_suffix(']') else {
        return text.to_owned();
    };
    let mut errors: Vec<&str> = errors.split(", ").collect();
    errors.sort_unstable();
    format!("{head}: [{}]", errors.join(", "))
}
