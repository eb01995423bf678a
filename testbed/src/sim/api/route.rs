//! From a path to what it names.

use std::sync::Arc;

use super::{ApiServer, kind::Kind, kind::Rules};

/// What a path names.
#[derive(Debug)]
pub(crate) enum Route {
    /// The objects of a kind, in one namespace or (empty) in all.
    Collection(Target),
    Object {
        target: Target,
        name: String,
        subresource: Option<String>,
    },
    /// A document that does not depend on objects.
    Document,
    Unknown,
}

/// A kind, as one API version of it, in a namespace.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    pub(crate) core_event: bool,
}

impl ApiServer {
    pub(crate) fn route(&self, path: &str) -> Route {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() && self.serves(group, version) => {
                (*group, rest)
            }
            _ => return Route::Document,
        };
        let find = |plural: &str| {
            let kind = self.kinds.get(plural)?;
            let events = ["", "events.k8s.io"].contains(&group) && matches!(kind.rules, Rules::Event);
            (kind.group == group || events).then(|| kind.clone())
        };
        let (namespace, rest) = match rest {
            // Namespaces themselves, and their subresources.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            _ => ("", rest),
        };
        let Some(kind) = rest.first().and_then(|plural| find(plural)) else {
            return Route::Unknown;
        };
        let target = Target {
            namespace: namespace.to_owned(),
            core_event: group.is_empty() && matches!(kind.rules, Rules::Event),
            kind,
        };
        // A namespace in the path of a cluster-scoped kind, or none in that of an object with one.
        if !target.kind.namespaced && !namespace.is_empty() {
            return Route::Unknown;
        }
        match rest {
            [_] => Route::Collection(target),
            [_, name, tail @ ..] if tail.len() < 2 => {
                if target.kind.namespaced && namespace.is_empty() {
                    return Route::Unknown;
                }
                Route::Object {
                    target,
                    name: (*name).to_owned(),
                    subresource: tail.first().map(|sub| (*sub).to_owned()),
                }
            }
            _ => Route::Unknown,
        }
    }

    fn serves(&self, group: &str, version: &str) -> bool {
        group == "events.k8s.io" && version == "v1"
            || self
                .kinds
                .values()
                .any(|kind| kind.group == group && kind.version == version)
    }
}
