//! The status of an Order.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use super::Writer;
use crate::{
    api::{self, OrderStatus},
    domain::{order::spec::Order, pair::observed::Revision},
    queue::Lane,
};

impl Writer {
    /// Writes an Order's status on the revision it was computed from; returns the one since, none if it
    /// did not land. So a roll-out goes on from what was granted last, whoever granted it.
    pub(crate) async fn order_status(
        &self,
        order: &Order,
        revision: Revision,
        status: &OrderStatus,
    ) -> Option<Revision> {
        let writer = self.in_lane(Lane::Status);
        // The answer may hold a spec that cannot be decoded.
        let orders: Api<PartialObjectMeta<api::Order>> = self.api(&order.key);
        let patch = Patch::Merge(json!({
            "metadata": { "uid": order.uid.as_str(), "resourceVersion": revision.0.to_string() },
            "status": status_patch(order, status),
        }));
        let sent = writer
            .ask(orders.patch_status(&order.key.name, &PatchParams::default(), &patch))
            .await;
        match sent {
            Ok(written) => Some(Revision::parse(written.metadata.resource_version.as_deref())),
            Err(error) => {
                tracing::debug!(order = %order.key, ?error, "order status not written");
                None
            }
        }
    }
}

fn status_patch(order: &Order, status: &OrderStatus) -> Value {
    let mut patch = json!(status);
    for absent in ["nextScheduleTime", "rollout", "unavailableReasons", "conditions"] {
        // A merge patch removes only what it names. Of an Order that cannot be read, what is granted is
        // not known, and stays.
        if absent != "rollout" || order.spec.is_ok() {
            patch[absent] = patch.get(absent).cloned().unwrap_or_default();
        }
    }
    patch
}
