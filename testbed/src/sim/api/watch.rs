//! A watch: a cursor into the log of changes.
//!
//! An object that starts or stops being selected is added or deleted; what is delivered never lies beyond the
//! revision that the caller names.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ApiServer, Change, ChangeKind,
    list::Scope,
    meta,
    query::{ListOptions, parse_revision},
    status::{Result, expired, unknown},
    view::View,
};

/// A cursor into the log of changes; owns no borrow of the server.
#[derive(Debug)]
pub struct Watch {
    scope: Scope,
    view: View,
    cursor: u64,
    /// What there was at the start, until it is delivered.
    initial: Option<Vec<Arc<Value>>>,
    bookmarks: bool,
    timeout: Option<u64>,
    ended: bool,
}

/// One watch event.
#[derive(Clone, Debug)]
pub struct Line {
    /// The revision of the change; for what there was at the start, the revision of the start.
    pub revision: u64,
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: &'static str,
    /// The object's namespace; empty for cluster-scoped ones, bookmarks and errors.
    pub namespace: Arc<str>,
    /// The object's name; empty for bookmarks and errors.
    pub name: Arc<str>,
    /// The event as JSON, without a newline.
    pub json: Vec<u8>,
}

impl Line {
    fn new(revision: u64, kind: &'static str, object: &Value) -> Self {
        // The type first, as upstream: a client then knows what the rest is.
        let json = format!("{{\"type\":\"{kind}\",\"object\":{object}}}");
        Self {
            revision,
            kind,
            namespace: meta::namespace(object).into(),
            name: meta::name(object).into(),
            json: json.into_bytes(),
        }
    }
}

impl Watch {
    /// A watch that starts at the server's present state or at the revision that was asked for.
    ///
    /// # Errors
    /// 500 when the resourceVersion is no number, as upstream.
    pub(crate) fn new(server: &ApiServer, scope: Scope, view: View, options: &ListOptions) -> Result<Self> {
        let asked = parse_revision(&options.revision).map_err(|why| {
            unknown(format!(
                "resourceVersion: Invalid value: {:?}: {why}",
                options.revision
            ))
        })?;
        let now = server.revision();
        let present = || {
            let found = server
                .store
                .range(&scope.kind.plural, &scope.namespace, None, now);
            let selected = found.into_iter().map(|(_, object)| object);
            selected.filter(|object| scope.selects(object)).collect()
        };
        let initial: Option<Vec<_>> = options.initial.then(present);
        // Upstream waits for a revision that does not exist yet; here it lies ahead of the cursor.
        let cursor = if initial.is_some() || asked == 0 {
            now.max(asked)
        } else {
            asked
        };
        Ok(Self {
            scope,
            view,
            cursor,
            initial,
            bookmarks: options.bookmarks,
            timeout: options.timeout,
            ended: false,
        })
    }

    /// Lines for changes up to and including revision `up_to`; advances the cursor. After an ERROR line
    /// (compaction passed the cursor) the watch is over.
    pub fn poll(&mut self, server: &ApiServer, up_to: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.ended || (self.initial.is_some() && up_to < self.cursor) {
            return lines;
        }
        if let Some(objects) = self.initial.take() {
            for object in objects {
                lines.push(self.line(server, self.cursor, "ADDED", &object));
            }
            lines.extend(self.mark(server, true));
        }
        if self.cursor < server.compacted() {
            self.ended = true;
            let message = format!(
                "too old resource version: {} ({})",
                self.cursor,
                server.compacted()
            );
            let mut line = Line::new(self.cursor, "ERROR", &expired(message).body);
            (line.namespace, line.name) = ("".into(), "".into());
            lines.push(line);
            return lines;
        }
        for change in server
            .changes(self.cursor)
            .take_while(|change| change.revision <= up_to)
        {
            lines.extend(self.event(server, change));
        }
        self.cursor = self.cursor.max(up_to.min(server.revision()));
        lines
    }

    /// A BOOKMARK at the cursor, if bookmarks were asked for.
    pub fn bookmark(&mut self, server: &ApiServer) -> Option<Line> {
        if self.ended || self.initial.is_some() {
            return None;
        }
        self.mark(server, false)
    }

    /// The resource's plural.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.scope.kind.plural
    }

    /// The revision up to which everything was delivered; before the initial events, the one of the start.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor
    }

    /// Whether it is over.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// `timeoutSeconds`, which the caller keeps.
    #[must_use]
    pub fn timeout_seconds(&self) -> Option<u64> {
        self.timeout
    }

    fn mark(&self, server: &ApiServer, initial: bool) -> Option<Line> {
        if !self.bookmarks {
            return None;
        }
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string() });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        if let Some(shards) = &self.scope.shards {
            metadata["shardInfo"] = json!({ "selector": shards.text() });
        }
        let mut object = self.view.kind.empty();
        object["kind"] = json!(self.view.kind.kind);
        object["apiVersion"] = json!(self.view.api_version());
        object["metadata"] = metadata;
        let object = self.view.object(&Arc::new(object), server.now());
        let mut line = Line::new(self.cursor, "BOOKMARK", &object);
        (line.namespace, line.name) = ("".into(), "".into());
        Some(line)
    }

    fn line(&self, server: &ApiServer, revision: u64, kind: &'static str, object: &Arc<Value>) -> Line {
        let shown = self.view.object(object, server.now());
        let mut line = Line::new(revision, kind, &shown);
        line.namespace = meta::namespace(object).into();
        line.name = meta::name(object).into();
        line
    }

    /// What a change is to this watch.
    fn event(&self, server: &ApiServer, change: &Arc<Change>) -> Option<Line> {
        let ours = change.resource == self.scope.kind.plural
            && (self.scope.namespace.is_empty() || *change.namespace == *self.scope.namespace);
        if !ours {
            return None;
        }
        let before = change.before.as_ref().filter(|before| self.scope.selects(before));
        let selected = change.kind != ChangeKind::Deleted && self.scope.selects(&change.after);
        let line = |kind, object: &Arc<Value>| Some(self.line(server, change.revision, kind, object));
        match (before, selected) {
            (None, true) => line("ADDED", &change.after),
            (Some(_), true) => line("MODIFIED", &change.after),
            (Some(_), false) if change.kind == ChangeKind::Deleted => line("DELETED", &change.after),
            (Some(before), false) => {
                // Upstream shows the last selected state, at the revision that ended it.
                let mut last = Value::clone(before);
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                line("DELETED", &Arc::new(last))
            }
            (None, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{TICKETS, server, ticket};

    #[test]
    fn a_watch_with_selectors_sees_objects_come_and_go() {
        let mut server = server();
        let mut watch = server.watch(&format!("{TICKETS}?watch=true&labelSelector=a%3Db"));
        let label = |value: Value| json!({ "metadata": { "labels": { "a": value } } });
        server.good("POST", TICKETS, ticket("l"));
        let path = format!("{TICKETS}/l");
        for value in [json!("b"), json!("c"), json!("d"), json!("b")] {
            server.good("PATCH", &path, label(value));
        }
        server.good("DELETE", &path, Value::Null);
        let last = server.revision();
        let expected = [
            format!("ADDED l {}", last - 4),
            format!("DELETED l {}", last - 3),
            format!("ADDED l {}", last - 1),
            format!("DELETED l {last}"),
        ];
        assert_eq!(watch.seen(&server), expected);
    }

    #[test]
    fn a_watch_never_delivers_beyond_what_it_is_allowed() {
        let mut server = server();
        let mut watch = server.watch(&format!("{TICKETS}?watch=true&allowWatchBookmarks=true"));
        let start = server.revision();
        server.good("POST", TICKETS, ticket("a"));
        server.good("POST", TICKETS, ticket("b"));
        assert!(watch.poll(&server, start - 1).is_empty());
        let lines = watch.poll(&server, start + 1);
        assert_eq!(
            lines.iter().map(|line| line.kind).collect::<Vec<_>>(),
            ["BOOKMARK", "ADDED"]
        );
        assert_eq!(watch.position(), start + 1);
        let bookmark = watch.bookmark(&server).unwrap();
        assert_eq!(bookmark.revision, start + 1);
    }

    #[test]
    fn initial_events_end_with_a_bookmark_that_says_so() {
        let mut server = server();
        server.good("POST", TICKETS, ticket("a"));
        let query =
            "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut watch = server.watch(&format!("{TICKETS}?{query}"));
        let lines = watch.poll(&server, server.revision());
        assert_eq!(lines.len(), 2);
        let bookmark: Value = serde_json::from_slice(&lines[1].json).unwrap();
        let expected = json!({ "type": "BOOKMARK", "object": {
            "kind": "Ticket",
            "apiVersion": "core.korder.dev/v1alpha1",
            "metadata": {
                "resourceVersion": server.revision().to_string(),
                "annotations": { "k8s.io/initial-events-end": "true" },
            },
        } });
        assert_eq!(bookmark, expected);
    }

    #[test]
    fn a_watch_behind_a_compaction_ends_with_410() {
        let mut server = server();
        let start = server.revision();
        let mut watch = server.watch(&format!("{TICKETS}?watch=true&resourceVersion={start}"));
        server.good("POST", TICKETS, ticket("a"));
        server.good("POST", TICKETS, ticket("b"));
        server.compact(server.revision() - 1);
        let lines = watch.poll(&server, server.revision());
        assert_eq!(lines.len(), 1);
        let error: Value = serde_json::from_slice(&lines[0].json).unwrap();
        assert_eq!(
            (&error["type"], &error["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
        assert!(watch.ended());
    }
}
