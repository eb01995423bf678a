//! Metadata without what nobody reads: `managedFields`, and for Nodes the annotations.
//!
//! A full Node decodes to hundreds of allocations; these keep it to a handful.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{
    api::{GROUP, LABEL_SHARD},
    domain::values::shard::ShardId,
};

/// Metadata whose annotations are read as `A`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta<A: Default> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    annotations: A,
}

impl<A: Default> Meta<A> {
    fn with(self, annotations: impl FnOnce(A) -> Option<BTreeMap<String, String>>) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            labels: self.labels,
            owner_references: self.owner_references,
            annotations: annotations(self.annotations),
            ..ObjectMeta::default()
        }
    }
}

/// Reads metadata without annotations and managed fields.
pub(crate) fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(Meta::<IgnoredAny>::deserialize(deserializer)?.with(|_| None))
}

/// Reads metadata without managed fields.
pub(crate) fn annotated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(Meta::<Option<BTreeMap<String, String>>>::deserialize(deserializer)?.with(|annotations| annotations))
}

/// The owner that controls the object, if it is of korder's API group and of this kind.
pub(crate) fn controller<'a>(meta: &'a ObjectMeta, kind: &str) -> Option<&'a OwnerReference> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let ours = |owner: &&OwnerReference| {
        owner.kind == kind
            && owner
                .api_version
                .split_once('/')
                .is_some_and(|(group, _)| group == GROUP)
    };
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .filter(ours)
}

/// The value of a label.
pub(crate) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The label selector of what belongs to these shards.
pub(crate) fn shard_selector(shards: &[ShardId]) -> String {
    let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
    format!("{LABEL_SHARD} in ({})", shards.join(","))
}
