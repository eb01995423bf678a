//! `Shard` objects as the watch decodes them, and as the roll-up reads them.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::meta;
use crate::{
    api::{Shard, ShardStatus, shard::OrderCounts},
    domain::{
        pair::observed::Revision,
        values::{ids::OrderUid, shard::ShardCount, shard_object::ShardObject},
    },
};

/// A Shard without what nobody reads.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Shard)]
pub(crate) struct SlimShard {
    /// Name, uid, resource version.
    #[serde(deserialize_with = "meta::slim")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    status: ShardStatus,
}

/// Which version of a Shard object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardVersion {
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// `metadata.resourceVersion`.
    pub(crate) revision: Revision,
}

/// The counts on one page, by Order.
pub(crate) type Listing = Vec<(OrderUid, Arc<OrderCounts>)>;

/// A Shard object as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShardView {
    pub(crate) version: ShardVersion,
    /// The totals, without their time.
    pub(crate) totals: ShardStatus,
    /// The counts.
    pub(crate) listing: Listing,
}

impl ShardVersion {
    /// The version that this metadata names.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            revision: Revision::parse(metadata.resource_version.as_deref()),
        }
    }
}

impl SlimShard {
    /// Which object it is, and its view; none if korder has not named it.
    pub(crate) fn view(self, shards: ShardCount) -> Option<(ShardObject, ShardView)> {
        let object = ShardObject::parse(self.metadata.name.as_deref()?, shards)?;
        let mut totals = self.status;
        totals.updated_time = None;
        let orders = std::mem::take(&mut totals.orders).into_iter();
        let listing = orders.map(|counts| (OrderUid::from(counts.order_uid.as_str()), Arc::new(counts)));
        let view = ShardView {
            version: ShardVersion::of(&self.metadata),
            listing: listing.collect(),
            totals,
        };
        Some((object, view))
    }
}
