//! POST: admission, system fields, validation, then the store.
//!
//! Source: k8s.io/apiserver/pkg/registry/rest/create.go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ApiServer, ChangeKind, User,
    kind::{Kind, Rules},
    meta,
    status::{Result, already_exists, bad_request, invalid, not_found, terminating, unknown},
};

impl ApiServer {
    /// Creates a decoded object.
    ///
    /// # Errors
    /// As upstream, in upstream's order.
    pub(crate) fn create_object(
        &mut self,
        by: &User,
        kind: &Arc<Kind>,
        namespace: &str,
        mut object: Value,
    ) -> Result<Arc<Value>> {
        place(kind, namespace, &mut object)?;
        self.admit_namespace(kind, &object)?;
        self.admit(kind, &mut object)?;
        self.name_generated(&mut object);
        let revision = meta::revision(&object).to_owned();
        self.fill(kind, &mut object);
        let errors = kind.check_create(&object);
        let name = meta::name(&object).to_owned();
        if !errors.is_empty() {
            return Err(invalid(
                kind,
                object["kind"].as_str().unwrap_or_default(),
                &name,
                &errors,
            ));
        }
        if !revision.is_empty() && revision != "0" {
            return Err(unknown(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if let Some(there) = self.store.get(&kind.plural, meta::namespace(&object), &name) {
            return Err(already_exists(kind, &name, meta::is_deleting(there)));
        }
        if kind.custom().is_some_and(|custom| custom.status) && !object["status"].is_null() {
            self.bare.insert(meta::uid(&object).to_owned());
        }
        Ok(self.store.commit(by, self.now(), kind, ChangeKind::Added, object))
    }

    /// System fields, and those that the kind sets itself.
    fn fill(&mut self, kind: &Kind, object: &mut Value) {
        let uid = self.uuid();
        let now = self.stamp();
        let fields = meta::of(object);
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
            "generation",
        ] {
            fields.remove(field);
        }
        fields.insert("uid".into(), json!(uid));
        fields.insert("creationTimestamp".into(), now);
        kind.prepare_create(object, self.now());
    }

    fn name_generated(&mut self, object: &mut Value) {
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
        if !meta::name(object).is_empty() || prefix.is_empty() {
            return;
        }
        let name = format!("{}{}", &prefix[..prefix.len().min(58)], self.suffix());
        meta::set(object, "name", Some(json!(name)));
    }

    /// The namespace must be there, and must not be on its way out.
    fn admit_namespace(&self, kind: &Kind, object: &Value) -> Result<()> {
        if !kind.namespaced {
            return Ok(());
        }
        let name = meta::namespace(object);
        let namespaces = self.kind("namespaces")?;
        let namespace = self.store.get("namespaces", "", name);
        let namespace = namespace.ok_or_else(|| not_found(&namespaces, name))?;
        if namespace["status"]["phase"] == "Terminating" {
            return Err(terminating(kind, meta::name_or_prefix(object), name));
        }
        Ok(())
    }

    /// Admission plugins that are on by default.
    fn admit(&mut self, kind: &Kind, object: &mut Value) -> Result<()> {
        match kind.rules {
            Rules::Pod => self.admit_pod(kind, object),
            Rules::Node => {
                super::nodes::admit(object);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Puts an object into the namespace of the request.
///
/// # Errors
/// 400 when it names another.
pub(crate) fn place(kind: &Kind, namespace: &str, object: &mut Value) -> Result<()> {
    if !kind.namespaced {
        meta::set(object, "namespace", None);
        return Ok(());
    }
    let own = meta::namespace(object);
    if own.is_empty() {
        meta::set(object, "namespace", Some(json!(namespace)));
    } else if own != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(bad_request(message));
    }
    Ok(())
}
