//! The objects and the log of their changes: one revision counter for all resources.
//!
//! A write touches one key. An old state is the present one with the later changes undone.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{Change, ChangeKind, User, kind::Kind, meta};

/// Objects of one resource by `namespace/name`, or `name` where there are no namespaces: etcd's order.
type Table = BTreeMap<String, Arc<Value>>;

/// The key of an object among those of its resource.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Store {
    revision: u64,
    compacted: u64,
    tables: BTreeMap<Arc<str>, Table>,
    log: VecDeque<Arc<Change>>,
}

impl Store {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// The last revision at a time, as far as that is not compacted.
    pub(crate) fn revision_at(&self, at: Timestamp) -> u64 {
        let before = self.log.iter().rev().find(|change| change.at <= at);
        before.map_or(self.compacted, |change| change.revision)
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables.get(resource)?.get(&key(namespace, name))
    }

    /// An object as it was at a revision that is not compacted.
    pub(crate) fn get_at(&self, resource: &str, namespace: &str, name: &str, at: u64) -> Option<Arc<Value>> {
        let later = self.changes(at).find(|change| {
            &*change.resource == resource && &*change.namespace == namespace && &*change.name == name
        });
        match later {
            Some(change) => change.before.clone(),
            None => self.get(resource, namespace, name).cloned(),
        }
    }

    /// The objects of a resource, all of them or those of one namespace, from a key on, as they were at a
    /// revision that is not compacted.
    pub(crate) fn range(
        &self,
        resource: &str,
        namespace: &str,
        from: Option<&str>,
        at: u64,
    ) -> Vec<(String, Arc<Value>)> {
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        let start = from.filter(|from| *from > prefix.as_str()).unwrap_or(&prefix);
        let mut undone: BTreeMap<String, Option<Arc<Value>>> = BTreeMap::new();
        for change in self.changes(at).filter(|change| &*change.resource == resource) {
            let key = key(&change.namespace, &change.name);
            if key.starts_with(&prefix) && key.as_str() >= start {
                undone.entry(key).or_insert_with(|| change.before.clone());
            }
        }
        let present = self
            .tables
            .get(resource)
            .into_iter()
            .flat_map(|table| table.range::<str, _>((Bound::Included(start), Bound::Unbounded)))
            .take_while(|(key, _)| key.starts_with(&prefix));
        if undone.is_empty() {
            return present
                .map(|(key, object)| (key.clone(), object.clone()))
                .collect();
        }
        let mut state: Table = present
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, before) in undone {
            match before {
                Some(object) => state.insert(key, object),
                None => state.remove(&key),
            };
        }
        state.into_iter().collect()
    }

    /// All objects of a resource, in key order.
    pub(crate) fn all(&self, resource: &str) -> Vec<Arc<Value>> {
        let table = self.tables.get(resource).into_iter();
        table.flat_map(|table| table.values().cloned()).collect()
    }

    /// Changes after a revision, which is taken to be at least the compacted one.
    pub(crate) fn changes(&self, after: u64) -> impl Iterator<Item = &Arc<Change>> {
        let skip = after.saturating_sub(self.compacted) as usize;
        self.log.range(skip.min(self.log.len())..)
    }

    /// Forgets changes up to and including a revision.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.compacted < revision && self.log.pop_front().is_some() {
            self.compacted += 1;
        }
    }

    /// Commits a change: `object` gets the new revision.
    pub(crate) fn commit(
        &mut self,
        by: &User,
        at: Timestamp,
        kind: &Kind,
        what: ChangeKind,
        mut object: Value,
    ) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let (namespace, name) = (meta::namespace(&object), meta::name(&object));
        let (key, namespace, name) = (key(namespace, name), namespace.into(), name.into());
        let after = Arc::new(object);
        let table = self.tables.entry(kind.plural.clone()).or_default();
        let before = match what {
            ChangeKind::Deleted => table.remove(&key),
            ChangeKind::Added | ChangeKind::Modified => table.insert(key, after.clone()),
        };
        self.log.push_back(Arc::new(Change {
            revision: self.revision,
            at,
            by: by.clone(),
            resource: kind.plural.clone(),
            namespace,
            name,
            kind: what,
            before,
            after: after.clone(),
        }));
        after
    }
}
