//! Reading collections: revisions, pages, selectors.
//!
//! Source: k8s.io/apiserver/pkg/storage/continue.go, k8s.io/apiserver/pkg/storage/cacher.

use std::sync::Arc;

use base64::{DecodeError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    ApiServer,
    fields::Fields,
    kind::{Kind, Rules},
    meta,
    query::{ListOptions, parse_revision},
    route::Target,
    selectors::Labels,
    shards::Ranges,
    status::{Result, bad_request, expired, too_large_revision},
};

const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const TOKEN_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Which objects of a resource are meant.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) kind: Arc<Kind>,
    /// Empty for all namespaces.
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
    pub(crate) shards: Option<Ranges>,
}

impl Scope {
    /// # Errors
    /// 400 when a selector cannot be read.
    pub(crate) fn new(target: &Target, options: &ListOptions, sharded: bool) -> Result<Self> {
        let shards = if sharded && !options.shards.is_empty() {
            Some(Ranges::parse(&options.shards)?)
        } else {
            None
        };
        Ok(Self {
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            labels: Labels::parse(&options.labels)?,
            fields: Fields::parse(&target.kind, target.core_event, &options.fields)?,
            shards,
        })
    }

    /// Whether the object itself is selected; its namespace is not looked at.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        self.labels.matches(meta::labels(object))
            && self.fields.matches(object)
            && self
                .shards
                .as_ref()
                .is_none_or(|shards| shards.contain(meta::uid(object)))
    }

    /// Whether upstream comes across the object while it reads: by name it reads one object, and `indexed` Pods,
    /// which are those of the cache's present state, by their node.
    fn comes_across(&self, object: &Value, indexed: bool) -> bool {
        let mut pointers = Vec::new();
        if !self.kind.namespaced || !self.namespace.is_empty() {
            pointers.push("/metadata/name");
        }
        if indexed && matches!(self.kind.rules, Rules::Pod) {
            pointers.push("/spec/nodeName");
        }
        self.fields.match_of(&pointers, object)
    }

    fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.shards.is_none()
    }
}

/// One page.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Value>>,
    /// `metadata` of the list.
    pub(crate) metadata: Value,
}

impl ApiServer {
    /// A page of what a scope selects, by a server whose newest revision is `newest`.
    ///
    /// # Errors
    /// 400, 410, 504 as upstream.
    pub(crate) fn page(&self, scope: &Scope, options: &ListOptions, newest: u64) -> Result<Page> {
        let prefix = if scope.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", scope.namespace)
        };
        let mut limit = options.limit;
        let (at, from, indexed) = if options.continued.is_empty() {
            let asked = parse_revision(&options.revision).map_err(|why| {
                bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {:?}: {why}",
                    options.revision
                ))
            })?;
            if asked > newest {
                return Err(too_large_revision(asked, newest));
            }
            // A limit with a revision and no match rule means that revision, for compatibility.
            let exact = options.exact || (limit > 0 && asked > 0 && !options.not_older);
            if options.revision == "0" {
                limit = 0; // the cache answers, and does not page
            }
            if exact && asked < self.store.compacted() {
                return Err(expired(TOO_OLD));
            }
            (if exact { asked } else { newest }, None, !exact)
        } else {
            let (at, start) = self.resumed(options, newest)?;
            (at, Some(format!("{prefix}{start}")), false)
        };
        let mut found = self
            .store
            .range(&scope.kind.plural, &scope.namespace, from.as_deref(), at);
        found.retain(|(_, object)| scope.comes_across(object, indexed));
        Ok(page_of(found, scope, limit, at, &prefix))
    }

    /// Revision and key, relative to the namespace, where a continued list goes on.
    fn resumed(&self, options: &ListOptions, newest: u64) -> Result<(u64, String)> {
        if !options.revision.is_empty() && options.revision != "0" {
            return Err(bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (revision, start) = decode_token(&options.continued)
            .map_err(|why| bad_request(format!("invalid continue token: {why}")))?;
        match u64::try_from(revision) {
            Err(_) => Ok((newest, start)),
            Ok(revision) if revision < self.store.compacted() => {
                let reply = expired(TOKEN_TOO_OLD);
                let mut body = Value::clone(&reply.body);
                body["metadata"]["continue"] = json!(encode_token(-1, &start));
                Err(super::Reply {
                    body: Arc::new(body),
                    ..reply
                })
            }
            Ok(revision) => Ok((revision.min(newest), start)),
        }
    }
}

fn page_of(found: Vec<(String, Arc<Value>)>, scope: &Scope, limit: u64, at: u64, prefix: &str) -> Page {
    let total = found.len();
    let mut items = Vec::new();
    let mut metadata = json!({ "resourceVersion": at.to_string() });
    for (index, (key, object)) in found.into_iter().enumerate() {
        if !scope.selects(&object) {
            continue;
        }
        items.push(object);
        if limit > 0 && items.len() as u64 == limit {
            let left = total - index - 1;
            if left > 0 {
                let next = format!("{}\0", key.strip_prefix(prefix).unwrap_or(&key));
                metadata["continue"] = json!(encode_token(at as i64, &next));
                if scope.selects_all() {
                    metadata["remainingItemCount"] = json!(left);
                }
            }
            break;
        }
    }
    if let Some(shards) = &scope.shards {
        metadata["shardInfo"] = json!({ "selector": shards.text() });
    }
    Page { items, metadata }
}

fn encode_token(revision: i64, start: &str) -> String {
    // Go's encoder: this field order, and a leading slash.
    let start = json!(format!("/{start}"));
    let token = format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{revision},\"start\":{start}}}");
    URL_SAFE_NO_PAD.encode(token)
}

/// Where Go's decoder stops.
fn bad_byte(token: &str, why: &DecodeError) -> usize {
    match why {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => *at,
        _ => token.len() / 4 * 4,
    }
}

fn decode_token(token: &str) -> std::result::Result<(i64, String), String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|why| {
        format!(
            "continue key is not valid: illegal base64 data at input byte {}",
            bad_byte(token, &why)
        )
    })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
        let first = bytes.first().map_or(' ', |byte| char::from(*byte));
        // As Go quotes it.
        let first = match u32::from(first) {
            code if first.is_control() && code >= 0x80 => format!("\\u{code:04x}"),
            code if first.is_control() => format!("\\x{code:02x}"),
            _ => first.to_string(),
        };
        format!("continue key is not valid: invalid character '{first}' looking for beginning of value")
    })?;
    if value["v"] != "meta.k8s.io/v1" {
        let version = value["v"].as_str().unwrap_or_default();
        return Err(format!(
            "continue key is not valid: server does not recognize this encoded version {version:?}"
        ));
    }
    let start = value["start"].as_str().unwrap_or_default();
    let start = start.strip_prefix('/').unwrap_or(start);
    if start.is_empty() {
        return Err("continue key is not valid: encoded start key is empty".to_owned());
    }
    Ok((value["rv"].as_i64().unwrap_or_default(), start.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{
        Answer,
        testing::{TICKETS, request, server, ticket},
    };

    #[test]
    fn pages_show_one_revision_until_it_is_compacted() {
        let mut server = server();
        for name in ["a", "b", "c"] {
            server.good("POST", TICKETS, ticket(name));
        }
        let first = server.good("GET", &format!("{TICKETS}?limit=1"), Value::Null);
        assert_eq!(first["metadata"]["remainingItemCount"], 2);
        let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
        server.good("DELETE", &format!("{TICKETS}/b"), Value::Null);
        let rest = server.good("GET", &format!("{TICKETS}?limit=5&continue={token}"), Value::Null);
        let names: Vec<_> = rest["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| &item["metadata"]["name"])
            .collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(
            rest["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        server.compact(server.revision());
        let gone = server.ask("GET", &format!("{TICKETS}?continue={token}"), Value::Null);
        assert_eq!(gone.code, 410);
        let token = gone.body["metadata"]["continue"].as_str().unwrap();
        let rest = server.good("GET", &format!("{TICKETS}?continue={token}"), Value::Null);
        assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_server_that_lags_shows_the_old_state() {
        let mut server = server();
        server.good("POST", TICKETS, ticket("a"));
        let before = server.revision();
        server.good(
            "PATCH",
            &format!("{TICKETS}/a/status"),
            json!({ "status": { "phase": "Reserved" } }),
        );
        server.good("POST", TICKETS, ticket("b"));
        let list = request("GET", TICKETS, &Value::Null);
        let Answer::Whole(reply) = server.handle_stale(&list, before) else {
            panic!("a watch");
        };
        assert_eq!(reply.body["metadata"]["resourceVersion"], before.to_string());
        assert_eq!(reply.body["items"].as_array().unwrap().len(), 1);
        assert_eq!(reply.body["items"][0]["status"]["phase"], "Pending");
    }
}
