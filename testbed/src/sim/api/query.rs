//! The query of a request, and what it says of a list or watch.
//!
//! Source: k8s.io/apimachinery/pkg/apis/meta/internalversion/validation/validation.go.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::json;

use super::status::{FieldError, Result, bad_request, invalid_named};

/// A decoded query.
#[derive(Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// The first value of each name counts.
    pub(crate) fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.entry(decoded(name)).or_insert_with(|| decoded(value));
        }
        Self(fields)
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// As Go reads a bool of a query: anything but `false` and `0` is true.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.0.get(name)?;
        Some(!(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// # Errors
    /// 400 when it is no number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        let value = self.get(name);
        if value.is_empty() {
            return Ok(None);
        }
        let wrong = |_| bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"));
        value.parse().map(Some).map_err(wrong)
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// What a list or watch asks for.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) watch: bool,
    pub(crate) limit: u64,
    pub(crate) continued: String,
    pub(crate) revision: String,
    pub(crate) exact: bool,
    pub(crate) not_older: bool,
    pub(crate) labels: String,
    pub(crate) fields: String,
    pub(crate) bookmarks: bool,
    /// Whether a watch begins with what there is.
    pub(crate) initial: bool,
    pub(crate) timeout: Option<u64>,
    pub(crate) shards: String,
}

impl ListOptions {
    /// # Errors
    /// 400 and 422 as upstream.
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        let limit = query.number("limit")?.unwrap_or_default();
        let timeout = query.number("timeoutSeconds")?;
        let watch = query.flag("watch").unwrap_or_default();
        check(query, watch)?;
        let revision = query.get("resourceVersion").to_owned();
        let matching = query.get("resourceVersionMatch");
        let from_start = revision.is_empty() || revision == "0";
        Ok(Self {
            watch,
            limit: u64::try_from(limit).unwrap_or_default(),
            continued: query.get("continue").to_owned(),
            exact: matching == "Exact",
            not_older: matching == "NotOlderThan",
            labels: query.get("labelSelector").to_owned(),
            fields: query.get("fieldSelector").to_owned(),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or_default(),
            initial: query.flag("sendInitialEvents").unwrap_or(from_start),
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()),
            shards: query.get("shardSelector").to_owned(),
            revision,
        })
    }
}

fn check(query: &Query, watch: bool) -> Result<()> {
    let matching = query.get("resourceVersionMatch");
    let initial = query.has("sendInitialEvents");
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    let on_match = "resourceVersionMatch";
    if watch && initial && matching != "NotOlderThan" {
        forbid(
            on_match,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !matching.is_empty() {
        if watch && !initial {
            forbid(
                on_match,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && query.get("resourceVersion").is_empty() {
            forbid(
                on_match,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        let continued = !query.get("continue").is_empty();
        let when = "resourceVersionMatch is forbidden when continue is provided";
        if !watch && continued {
            forbid(on_match, when);
        }
        let supported: &[&str] = if watch {
            &["NotOlderThan"]
        } else {
            &["Exact", "NotOlderThan", ""]
        };
        if !supported.contains(&matching) {
            let supported: Vec<String> = supported.iter().map(|value| (*value).to_owned()).collect();
            errors.push(FieldError::unsupported(on_match, &json!(matching), &supported));
        }
        let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
        if watch && continued {
            forbid(on_match, when);
        }
        if !watch && matching == "Exact" && query.get("resourceVersion") == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            forbid(on_match, why);
        }
    }
    if !watch && initial {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid_named("meta.k8s.io", "ListOptions", "", &errors))
    }
}

/// A resourceVersion as a number; nothing means 0.
///
/// # Errors
/// Upstream's text of what is no number.
pub(crate) fn parse_revision(text: &str) -> std::result::Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
}
