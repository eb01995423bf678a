//! Writes of the roll-up: Order status and Events.
//!
//! Both may be lost without harm: a status is written again, an Event is not.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use super::writer::Writer;
use crate::{
    api::{self, OrderStatus},
    domain::{order::spec::Order, pair::observed::Revision},
    queue::Lane,
};

/// Longest note the API server takes.
const NOTE_BYTES: usize = 1024;

/// An Event to be written on an Order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// A CamelCase word.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// The text.
    pub note: String,
}

impl Writer {
    /// Writes an Order's status on the revision it was computed from; returns the one since, none if it
    /// did not land. So a roll-out goes on from what was granted last, whoever granted it.
    pub async fn order_status(
        &self,
        order: &Order,
        revision: Revision,
        status: &OrderStatus,
    ) -> Option<Revision> {
        let writer = self.in_lane(Lane::Status);
        // The answer may hold a spec that cannot be decoded.
        let orders: Api<PartialObjectMeta<api::Order>> = self.api(&order.key);
        let mut body = json!(status);
        for absent in ["nextScheduleTime", "rollout", "unavailableReasons", "conditions"] {
            // A merge patch removes only what it names. Of an Order that cannot be read, what is granted is
            // not known, and stays.
            if absent != "rollout" || order.spec.is_ok() {
                body[absent] = body.get(absent).cloned().unwrap_or_default();
            }
        }
        let patch = Patch::Merge(json!({
            "metadata": { "uid": order.uid.as_str(), "resourceVersion": revision.0.to_string() },
            "status": body,
        }));
        let sent = writer
            .ask(orders.patch_status(&order.key.name, &PatchParams::default(), &patch))
            .await;
        match sent {
            Ok(written) => Some(Revision::parse(written.metadata.resource_version.as_deref())),
            Err(failure) => {
                tracing::debug!(order = %order.key, ?failure, "order status not written");
                None
            }
        }
    }

    /// Writes an Event on an Order.
    pub async fn event(&self, order: &Order, event: &NewEvent, instance: &str, now: Timestamp) {
        let writer = self.in_lane(Lane::Status);
        let events: Api<Event> = self.api(&order.key);
        let body = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", order.key.name, now.as_nanosecond())),
                namespace: Some(order.key.namespace.to_string()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            action: Some("Reconcile".to_owned()),
            reason: Some(event.reason.to_owned()),
            note: Some(clip(&event.note)),
            type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
            reporting_controller: Some("korder.dev/controller".to_owned()),
            reporting_instance: Some(instance.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(api::Order::api_version(&()).into_owned()),
                kind: Some(api::Order::kind(&()).into_owned()),
                name: Some(order.key.name.to_string()),
                namespace: Some(order.key.namespace.to_string()),
                uid: Some(order.uid.to_string()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        if let Err(failure) = writer.ask(events.create(&PostParams::default(), &body)).await {
            tracing::debug!(order = %order.key, reason = event.reason, ?failure, "event not written");
        }
    }
}

fn clip(note: &str) -> String {
    match note
        .char_indices()
        .map(|(index, _)| index)
        .find(|&index| index >= NOTE_BYTES - 4)
    {
        Some(cut) if note.len() > NOTE_BYTES => format!("{}…", &note[..cut]),
        _ => note.to_owned(),
    }
}
