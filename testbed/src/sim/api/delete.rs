//! DELETE: preconditions, grace, finalizers; of one object and of a collection.
//!
//! Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go (Delete), rest/delete.go.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    ApiServer, ChangeKind, User,
    kind::{Kind, Rules},
    list::{Page, Scope},
    meta, namespaces,
    query::ListOptions,
    server::stamp,
    status::{
        FieldError, Result, delete_conflict, deleted, forbidden, invalid_named, not_found, not_simulated,
    },
    update::At,
};

/// Deleting a page of a collection at a time, as upstream does without a limit.
const PAGE: u64 = 10_000;
/// Waits for the dependents to lose their owner references.
const ORPHAN: &str = "orphan";

/// What a delete comes to.
enum Fate {
    /// It goes at once.
    Removed,
    /// It stays, changed: for its finalizers or its grace.
    Kept(Value),
    /// It is changed, then goes.
    MarkedThenRemoved(Value),
    /// It is being deleted already.
    Unchanged,
}

impl ApiServer {
    /// Deletes one object; what upstream answers.
    ///
    /// # Errors
    /// As upstream, in upstream's order.
    pub(crate) fn delete_object(
        &mut self,
        by: &User,
        kind: &Arc<Kind>,
        (namespace, name): At<'_>,
        options: &Value,
    ) -> Result<Arc<Value>> {
        check(options)?;
        if matches!(kind.rules, Rules::PriorityClass) && name.starts_with("system-") {
            let why = "this is a system priority class and cannot be deleted";
            return Err(forbidden(kind, name, why));
        }
        if matches!(kind.rules, Rules::Namespace) && namespaces::is_immortal(name) {
            return Err(forbidden(kind, name, "this namespace may not be deleted"));
        }
        let object = self.store.get(&kind.plural, namespace, name).cloned();
        let object = object.ok_or_else(|| not_found(kind, name))?;
        check_preconditions(kind, name, options, &object)?;
        let fate = if matches!(kind.rules, Rules::Namespace) {
            namespaces::marked(&object, self.now()).map_or(Fate::Removed, Fate::Kept)
        } else {
            fate(kind, &object, options, self.now())
        };
        Ok(self.meet(by, kind, object, fate))
    }

    fn meet(&mut self, by: &User, kind: &Arc<Kind>, object: Arc<Value>, fate: Fate) -> Arc<Value> {
        let now = self.now();
        let gone = match fate {
            Fate::Unchanged => return object,
            Fate::Kept(changed) if changed == *object => return object,
            Fate::Kept(changed) => {
                self.bare.remove(meta::uid(&object));
                return self.store.commit(by, now, kind, ChangeKind::Modified, changed);
            }
            Fate::Removed => self.remove(by, kind, &object),
            Fate::MarkedThenRemoved(changed) => {
                let marked = self.store.commit(by, now, kind, ChangeKind::Modified, changed);
                self.remove(by, kind, &marked)
            }
        };
        if matches!(kind.rules, Rules::Pod) {
            gone
        } else {
            Arc::new(deleted(kind, meta::name(&gone), meta::uid(&gone)))
        }
    }

    /// Deletes what a scope selects; the list as it was before.
    ///
    /// # Errors
    /// The first refusal; the objects before it are deleted.
    pub(crate) fn delete_collection(
        &mut self,
        by: &User,
        scope: &Scope,
        options: &Value,
        mut listing: ListOptions,
    ) -> Result<Page> {
        check(options)?;
        let limited = listing.limit > 0;
        if !limited {
            listing.limit = PAGE;
        }
        let mut whole: Option<Page> = None;
        loop {
            let page = self.page(scope, &listing, self.revision())?;
            for item in &page.items {
                let at = (meta::namespace(item), meta::name(item));
                match self.delete_object(by, &scope.kind, at, options) {
                    Err(reply) if reply.code != 404 => return Err(reply),
                    _ => {}
                }
            }
            let next = page.metadata["continue"].as_str().unwrap_or_default().to_owned();
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => whole.items.extend(page.items),
            }
            match whole {
                Some(whole) if limited || next.is_empty() => return Ok(whole),
                _ => {
                    listing.continued = next;
                    listing.revision.clear();
                    (listing.exact, listing.not_older) = (false, false);
                }
            }
        }
    }
}

fn fate(kind: &Kind, object: &Arc<Value>, options: &Value, now: Timestamp) -> Fate {
    let mut changed = Value::clone(object);
    let graceful = match kind.rules {
        Rules::Pod => match grace(&mut changed, options, now) {
            Grace::Set => true,
            Grace::None => false,
            Grace::Pending => return Fate::Unchanged,
        },
        _ => false,
    };
    if !matches!(kind.rules, Rules::Event) {
        orphan(&mut changed, options);
    }
    let finalizers = !meta::finalizers(&changed).is_empty();
    if graceful {
        let at_once = changed["metadata"]["deletionGracePeriodSeconds"] == 0;
        return if finalizers || !at_once {
            Fate::Kept(changed)
        } else {
            Fate::MarkedThenRemoved(changed)
        };
    }
    if !finalizers {
        return Fate::Removed;
    }
    mark(&mut changed, now);
    Fate::Kept(changed)
}

/// Sets the time of deletion of an object that only its finalizers keep.
fn mark(object: &mut Value, now: Timestamp) {
    let first = !meta::is_deleting(object);
    if first {
        meta::next_generation(object);
    }
    let later = !first && later_than(object, now);
    if first || later {
        meta::set(object, "deletionTimestamp", Some(stamp(now)));
    }
    meta::set(object, "deletionGracePeriodSeconds", Some(json!(0)));
}

fn later_than(object: &Value, now: Timestamp) -> bool {
    deletion_time(object).is_some_and(|time| time > now)
}

fn deletion_time(object: &Value) -> Option<Timestamp> {
    object["metadata"]["deletionTimestamp"].as_str()?.parse().ok()
}

enum Grace {
    /// The time of deletion was set or brought forward.
    Set,
    /// Nothing is left to wait for.
    None,
    /// It waits already, and not longer than asked now.
    Pending,
}

/// rest.BeforeDelete for Pods.
fn grace(pod: &mut Value, options: &Value, now: Timestamp) -> Grace {
    let asked = options["gracePeriodSeconds"]
        .as_i64()
        .map(|seconds| if seconds < 0 { 1 } else { seconds });
    let Some(deletion) = deletion_time(pod) else {
        let seconds = super::pods::grace_period(pod, asked);
        meta::next_generation(pod);
        let at = now + SignedDuration::from_secs(seconds);
        meta::set(pod, "deletionTimestamp", Some(stamp(at)));
        meta::set(pod, "deletionGracePeriodSeconds", Some(json!(seconds)));
        return Grace::Set;
    };
    let present = pod["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or_default();
    if present == 0 {
        return Grace::None;
    }
    let Some(mut seconds) = asked.filter(|asked| *asked < present) else {
        return Grace::Pending;
    };
    let mut at = deletion - SignedDuration::from_secs(present) + SignedDuration::from_secs(seconds);
    if at < now {
        at = now;
        seconds = seconds.min(1);
    }
    meta::set(pod, "deletionTimestamp", Some(stamp(at)));
    meta::set(pod, "deletionGracePeriodSeconds", Some(json!(seconds)));
    Grace::Set
}

/// Adds or removes the finalizer by which dependents are left alone.
fn orphan(object: &mut Value, options: &Value) {
    let has = meta::finalizers(object).contains(&ORPHAN);
    let wanted = match options["propagationPolicy"].as_str() {
        Some(policy) => policy == "Orphan",
        None => options["orphanDependents"].as_bool().unwrap_or(has),
    };
    if wanted == has {
        return;
    }
    let mut finalizers: Vec<String> = meta::finalizers(object)
        .into_iter()
        .filter(|finalizer| *finalizer != ORPHAN)
        .map(str::to_owned)
        .collect();
    if wanted {
        finalizers.push(ORPHAN.to_owned());
    }
    let finalizers = (!finalizers.is_empty()).then(|| json!(finalizers));
    meta::set(object, "finalizers", finalizers);
}

fn check(options: &Value) -> Result<()> {
    let policy = options["propagationPolicy"].as_str();
    if !options["orphanDependents"].is_null() && policy.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        let value = &options["propagationPolicy"];
        return Err(refused(FieldError::invalid("propagationPolicy", value, why)));
    }
    match policy {
        None | Some("Background" | "Orphan") => {}
        Some("Foreground") => return Err(not_simulated("propagationPolicy Foreground")),
        Some(_) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"].map(str::to_owned);
            let value = &options["propagationPolicy"];
            return Err(refused(FieldError::unsupported(
                "propagationPolicy",
                value,
                &supported,
            )));
        }
    }
    if options["dryRun"].as_array().is_some_and(|dry| !dry.is_empty()) {
        return Err(not_simulated("dryRun"));
    }
    Ok(())
}

fn refused(error: FieldError) -> super::Reply {
    invalid_named("meta.k8s.io", "DeleteOptions", "", &[error])
}

fn check_preconditions(kind: &Kind, name: &str, options: &Value, object: &Value) -> Result<()> {
    let asked = &options["preconditions"];
    if let Some(uid) = asked["uid"].as_str().filter(|uid| *uid != meta::uid(object)) {
        let why = if matches!(kind.rules, Rules::Namespace) {
            let is = meta::uid(object);
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}");
            return Err(super::status::conflict(kind, name, &why));
        } else {
            format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                meta::uid(object)
            )
        };
        return Err(delete_conflict(kind, name, &why));
    }
    let revision = asked["resourceVersion"].as_str();
    if let Some(revision) = revision.filter(|revision| *revision != meta::revision(object)) {
        let is = meta::revision(object);
        if matches!(kind.rules, Rules::Namespace) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {is}"
            );
            return Err(super::status::conflict(kind, name, &why));
        }
        let why = format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({is}). The object might have been modified"
        );
        return Err(delete_conflict(kind, name, &why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{PODS, TICKETS, pod, server, ticket};

    #[test]
    fn a_delete_of_an_unbound_pod_marks_it_and_then_removes_it() {
        let mut server = server();
        let mut watch = server.watch(&format!("{PODS}?watch=true"));
        server.good("POST", PODS, pod("a"));
        let gone = server.good("DELETE", &format!("{PODS}/a"), Value::Null);
        assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
        let last = server.revision();
        let expected = [
            format!("ADDED a {}", last - 2),
            format!("MODIFIED a {}", last - 1),
            format!("DELETED a {last}"),
        ];
        assert_eq!(watch.seen(&server), expected);
    }

    #[test]
    fn a_bound_pod_waits_for_its_grace_unless_it_is_terminal() {
        let mut server = server();
        let mut wanted = pod("a");
        wanted["spec"]["nodeName"] = json!("n1");
        server.good("POST", PODS, wanted.clone());
        let waiting = server.good("DELETE", &format!("{PODS}/a"), Value::Null);
        assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(waiting["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(waiting["metadata"]["generation"], 2);
        let revision = server.revision();
        server.good(
            "DELETE",
            &format!("{PODS}/a"),
            json!({ "gracePeriodSeconds": 500 }),
        );
        assert_eq!(server.revision(), revision, "a longer grace changes nothing");
        server.good("DELETE", &format!("{PODS}/a"), json!({ "gracePeriodSeconds": 0 }));
        assert!(server.get("pods", "default", "a").is_none());

        wanted["metadata"]["name"] = json!("b");
        server.good("POST", PODS, wanted);
        server.good(
            "PATCH",
            &format!("{PODS}/b/status"),
            json!({ "status": { "phase": "Failed" } }),
        );
        server.good("DELETE", &format!("{PODS}/b"), Value::Null);
        assert!(server.get("pods", "default", "b").is_none());
    }

    #[test]
    fn finalizers_keep_a_deleted_object_until_the_last_is_removed() {
        let mut server = server();
        let mut wanted = ticket("a");
        wanted["metadata"]["finalizers"] = json!(["x.y/z"]);
        server.good("POST", TICKETS, wanted);
        let kept = server.good("DELETE", &format!("{TICKETS}/a"), Value::Null);
        assert_eq!(kept["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(kept["metadata"]["generation"], 2);
        let (code, message) = server.refused("POST", TICKETS, ticket("a"));
        assert_eq!(
            (code, message.as_str()),
            (
                409,
                "object is being deleted: tickets.core.korder.dev \"a\" already exists"
            )
        );
        let patch = json!({ "metadata": { "finalizers": ["x.y/z", "q/r"] } });
        assert_eq!(server.refused("PATCH", &format!("{TICKETS}/a"), patch).0, 422);
        let last = server.good(
            "PATCH",
            &format!("{TICKETS}/a"),
            json!({ "metadata": { "finalizers": null } }),
        );
        assert_eq!(
            last["metadata"]["resourceVersion"],
            kept["metadata"]["resourceVersion"]
        );
        assert!(server.get("tickets", "default", "a").is_none());
    }

    #[test]
    fn a_collection_is_deleted_by_selector() {
        let mut server = server();
        for (name, label) in [("a", "0"), ("b", "1"), ("c", "0")] {
            let mut wanted = ticket(name);
            wanted["metadata"]["labels"] = json!({ "k": label });
            server.good("POST", TICKETS, wanted);
        }
        let gone = server.good("DELETE", &format!("{TICKETS}?labelSelector=k%3D0"), json!({}));
        assert_eq!(gone["items"].as_array().unwrap().len(), 2);
        assert_eq!(server.list("tickets").len(), 1);
    }
}
