//! Tickets as the watch decodes them, and as decisions read them.
//!
//! An object without a controlling Order is not korder's and yields nothing.

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::Deserialize;

use super::meta;
use crate::{
    api::{
        KEY_PREFIX, LABEL_NODE_UID, LABEL_ORDER, LABEL_ORDER_UID, LABEL_SHARD, Ticket,
        order::{Lifecycle, Resources},
        ticket::TicketStatus,
    },
    domain::{
        order::demand::Demand,
        pair::observed::{Revision, TicketView},
        values::{
            ids::TicketKey,
            shard::{ShardCount, ShardId},
        },
    },
};

/// A Ticket with only the fields that decisions read.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Ticket)]
pub(crate) struct SlimTicket {
    /// Name, uid, labels, annotations, owner.
    #[serde(deserialize_with = "meta::annotated")]
    pub(crate) metadata: ObjectMeta,
    spec: SlimSpec,
    #[serde(default)]
    status: TicketStatus,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: String,
    #[serde(rename = "nodeUID")]
    node_uid: String,
    sequence: i64,
    template_hash: String,
    #[serde(default)]
    resources: Option<Resources>,
    #[serde(default)]
    tolerations: Vec<Toleration>,
    #[serde(default)]
    priority_class_name: Option<String>,
    #[serde(default)]
    scheduler_name: Option<String>,
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    lifecycle: Lifecycle,
}

impl SlimTicket {
    /// The shard of the Ticket's Node and the view of the Ticket; none if no Order controls it.
    pub(crate) fn view(self, shards: ShardCount) -> Option<(ShardId, TicketView)> {
        let owner = meta::controller(&self.metadata, "Order")?.clone();
        let node = self.spec.node_uid.into();
        let shard = shards.of_node(&node);
        let label = |key: &str| meta::label(&self.metadata, key);
        let labels_intact = label(LABEL_ORDER) == Some(&owner.name)
            && label(LABEL_ORDER_UID) == Some(&owner.uid)
            && label(LABEL_NODE_UID) == Some(node.as_str())
            && label(LABEL_SHARD) == Some(&shard.to_string());
        let unlabelled = label(LABEL_SHARD).is_none();
        let mut labels = self.metadata.labels.unwrap_or_default();
        labels.retain(|key, _| !key.starts_with(KEY_PREFIX));
        let view = TicketView {
            key: TicketKey::new(self.metadata.namespace?, self.metadata.name?),
            uid: self.metadata.uid?.into(),
            revision: Revision::parse(self.metadata.resource_version.as_deref()),
            created: self
                .metadata
                .creation_timestamp
                .map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
            order: owner.uid.into(),
            order_name: owner.name.into(),
            node,
            node_name: self.spec.node_name.into(),
            sequence: self.spec.sequence,
            template_hash: self.spec.template_hash.into(),
            demand: Demand::of(
                self.spec.resources.as_ref(),
                self.spec.priority_class_name.as_deref(),
                self.spec.scheduler_name.as_deref(),
                &self.spec.tolerations,
            ),
            duration: self.spec.duration.map(Into::into),
            lifecycle: self.spec.lifecycle,
            phase: self.status.phase,
            window_start: self.status.window_start.map(|time| time.0),
            expires: self.status.expiration_time.map(|time| time.0),
            finished_at: self.status.finished_time.map(|time| time.0),
            reason: self.status.reason.map(Into::into),
            message: self.status.message.map(Into::into),
            pod_name: self.status.pod_name.map(Into::into),
            activated: self.status.activation_time.map(|time| time.0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            labels_intact,
            unlabelled,
            labels,
            annotations: self.metadata.annotations.unwrap_or_default(),
        };
        Some((shard, view))
    }
}
