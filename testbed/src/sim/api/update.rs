//! PUT and PATCH: preconditions, what a subresource may change, validation, then the store.
//!
//! Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go (Update), rest/update.go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ApiServer, ChangeKind, User,
    create::place,
    kind::{Kind, Rules},
    meta,
    query::parse_revision,
    status::{
        MODIFIED, Result, bad_request, conflict, failure, invalid, not_found, revision_missing, uid_conflict,
        unknown,
    },
};

/// Namespace and name.
pub(crate) type At<'a> = (&'a str, &'a str);

impl ApiServer {
    /// Replaces with a decoded object; also says whether it was created.
    ///
    /// # Errors
    /// As upstream, in upstream's order.
    pub(crate) fn put_object(
        &mut self,
        by: &User,
        kind: &Arc<Kind>,
        (namespace, name): At<'_>,
        subresource: Option<&str>,
        mut object: Value,
    ) -> Result<(Arc<Value>, bool)> {
        let own = meta::name(&object);
        if own.is_empty() {
            return Err(bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        if own != name {
            return Err(other_name(own, name));
        }
        place(kind, namespace, &mut object)?;
        let uid = meta::uid(&object).to_owned();
        let Some(old) = self.store.get(&kind.plural, namespace, name).cloned() else {
            if !kind.creates_on_update() || subresource.is_some() {
                return Err(not_found(kind, name));
            }
            if !uid.is_empty() {
                return Err(uid_conflict(kind, namespace, name, &uid, ""));
            }
            meta::set(&mut object, "resourceVersion", None);
            return Ok((self.create_object(by, kind, namespace, object)?, true));
        };
        if !uid.is_empty() && uid != meta::uid(&old) {
            return Err(uid_conflict(kind, namespace, name, &uid, meta::uid(&old)));
        }
        Ok((self.update(by, kind, subresource, object, &old)?, false))
    }

    /// Applies a JSON merge patch.
    ///
    /// # Errors
    /// As upstream, in upstream's order.
    pub(crate) fn patch_object(
        &mut self,
        by: &User,
        kind: &Arc<Kind>,
        (namespace, name): At<'_>,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<Arc<Value>> {
        if !patch.is_object() {
            return Err(bad_request(not_a_map(patch)));
        }
        let old = self.store.get(&kind.plural, namespace, name).cloned();
        let old = old.ok_or_else(|| not_found(kind, name))?;
        let mut merged = Value::clone(&old);
        merge(&mut merged, patch);
        let mut object = kind
            .decoded(merged)
            .map_err(|reply| undecodable(kind, reply, &old, patch))?;
        if meta::name(&object) != name {
            return Err(other_name(meta::name(&object), name));
        }
        place(kind, namespace, &mut object)?;
        self.update(by, kind, subresource, object, &old)
    }

    /// Commits an update of `old`, or finds that nothing changes, or that the last finalizer went.
    pub(crate) fn update(
        &mut self,
        by: &User,
        kind: &Arc<Kind>,
        subresource: Option<&str>,
        mut object: Value,
        old: &Arc<Value>,
    ) -> Result<Arc<Value>> {
        let name = meta::name(old).to_owned();
        let asked = parse_revision(meta::revision(&object)).map_err(unknown)?;
        if asked == 0 && !kind.updates_unconditionally() {
            return Err(revision_missing(kind, &name));
        }
        if asked != 0 && meta::revision(&object) != meta::revision(old) {
            return Err(conflict(kind, &name, MODIFIED));
        }
        let called = object["kind"].as_str().unwrap_or_default().to_owned();
        meta::set(
            &mut object,
            "resourceVersion",
            Some(old["metadata"]["resourceVersion"].clone()),
        );
        inherit(&mut object, old);
        kind.prepare_update(subresource, &mut object, old);
        let errors = kind.check_update(subresource, &object, old);
        if !errors.is_empty() {
            return Err(invalid(kind, &called, &name, &errors));
        }
        if is_released(kind, &object, old) {
            self.remove(by, kind, old);
            return Ok(Arc::new(object));
        }
        // A status is dropped on create and its default comes from reading; the first update stores it, which
        // is a change even if nothing else is.
        if !self.bare.remove(meta::uid(old)) && object == **old {
            return Ok(old.clone());
        }
        Ok(self
            .store
            .commit(by, self.now(), kind, ChangeKind::Modified, object))
    }

    /// Takes an object out of the store; its last state is the stored one.
    pub(crate) fn remove(&mut self, by: &User, kind: &Kind, object: &Arc<Value>) -> Arc<Value> {
        let last = Value::clone(object);
        self.bare.remove(meta::uid(object));
        self.store.commit(by, self.now(), kind, ChangeKind::Deleted, last)
    }
}

/// Whether an update takes the last thing away that kept a deleted object.
fn is_released(kind: &Kind, object: &Value, old: &Value) -> bool {
    let finalizers = meta::finalizers(object).is_empty();
    if matches!(kind.rules, Rules::Namespace) {
        let spec = object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        return finalizers && spec && meta::is_deleting(old);
    }
    finalizers && old["metadata"]["deletionGracePeriodSeconds"] == 0
}

/// What no update sets: taken from the old object.
fn inherit(object: &mut Value, old: &Value) {
    let was = |field: &str| {
        Some(&old["metadata"][field])
            .filter(|value| !value.is_null())
            .cloned()
    };
    for field in ["creationTimestamp", "generation"] {
        meta::set(object, field, was(field));
    }
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if object["metadata"][field].is_null() {
            meta::set(object, field, was(field));
        }
    }
}

fn other_name(own: &str, name: &str) -> super::Reply {
    bad_request(format!(
        "the name of the object ({own}) does not match the name on the URL ({name})"
    ))
}

fn not_a_map(patch: &Value) -> String {
    let is = match patch {
        Value::Null => return "invalid JSON patch".to_owned(),
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "array",
    };
    format!(
        "error decoding patch: json: cannot unmarshal {is} into Go value of type map[string]interface {{}}"
    )
}

/// A typed object that a patch made undecodable is upstream's 422 without a name.
fn undecodable(kind: &Kind, reply: super::Reply, old: &Value, patch: &Value) -> super::Reply {
    if kind.custom().is_some() || reply.code != 400 {
        return reply;
    }
    let message = reply.body["message"].as_str().unwrap_or_default();
    let why = message.split_once(": ").map_or(message, |(_, why)| why);
    let mut merged = old.clone();
    merge(&mut merged, patch);
    let cause = format!("Invalid value: {}: {why}", json!(merged.to_string()));
    let details =
        json!({ "causes": [{ "reason": "FieldValueInvalid", "message": cause, "field": "patch" }] });
    failure(
        422,
        "Invalid",
        format!(" \"\" is invalid: patch: {cause}"),
        Some(details),
    )
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(name);
            }
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{LEASES, TICKETS, server, ticket},
        *,
    };

    /// The table of RFC 7386, appendix A.
    #[test]
    fn merge_patches_apply_as_the_rfc_says() {
        let cases = [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (
                json!({ "a": "b" }),
                json!({ "b": "c" }),
                json!({ "a": "b", "b": "c" }),
            ),
            (json!({ "a": "b" }), json!({ "a": null }), json!({})),
            (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
            (
                json!({ "a": { "b": "c" } }),
                json!({ "a": { "b": "d", "c": null } }),
                json!({ "a": { "b": "d" } }),
            ),
            (
                json!({ "e": null }),
                json!({ "a": 1 }),
                json!({ "e": null, "a": 1 }),
            ),
            (
                json!({}),
                json!({ "a": { "bb": { "ccc": null } } }),
                json!({ "a": { "bb": {} } }),
            ),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn the_status_endpoint_and_the_main_one_keep_each_others_part() {
        let mut server = server();
        server.good("POST", TICKETS, ticket("a"));
        let both = json!({ "spec": { "duration": "5s" }, "status": { "phase": "Reserved" } });
        let main = server.good("PATCH", &format!("{TICKETS}/a"), both.clone());
        assert_eq!(
            (&main["status"]["phase"], &main["metadata"]["generation"]),
            (&json!("Pending"), &json!(2))
        );
        let other = json!({ "spec": { "duration": "6s" }, "status": { "phase": "Reserved" } });
        let status = server.good("PATCH", &format!("{TICKETS}/a/status"), other);
        assert_eq!(status["status"]["phase"], "Reserved");
        assert_eq!(
            (&status["spec"]["duration"], &status["metadata"]["generation"]),
            (&json!("5s"), &json!(2))
        );
        let revision = server.revision();
        server.good(
            "PATCH",
            &format!("{TICKETS}/a"),
            json!({ "spec": { "duration": "5s" } }),
        );
        assert_eq!(server.revision(), revision, "nothing changed");
    }

    #[test]
    fn a_lease_is_made_by_put_and_guarded_by_its_revision() {
        let mut server = server();
        let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "a" } });
        assert_eq!(server.ask("PUT", &format!("{LEASES}/l"), lease.clone()).code, 201);
        let (code, message) = server.refused("PUT", &format!("{LEASES}/l"), lease);
        assert_eq!(code, 422);
        assert_eq!(
            message,
            "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        );
        let other = json!({ "metadata": { "name": "m", "uid": "5" }, "spec": {} });
        let (code, message) = server.refused("PUT", &format!("{LEASES}/m"), other);
        assert_eq!(code, 409);
        assert!(message.ends_with("Precondition failed: UID in precondition: 5, UID in object meta: "));
    }
}
