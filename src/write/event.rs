//! Events on Orders. One that is lost stays lost.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Resource, api::PostParams};

use super::Writer;
use crate::{api, domain::order::spec::Order, queue::Lane};

/// Longest note the API server takes.
const NOTE_BYTES: usize = 1024;

/// An Event to be written on an Order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewEvent {
    /// A CamelCase word.
    pub(crate) reason: &'static str,
    pub(crate) warning: bool,
    /// The text.
    pub(crate) note: String,
}

impl Writer {
    /// Writes an Event on an Order.
    pub(crate) async fn event(&self, order: &Order, event: &NewEvent, instance: &str, now: Timestamp) {
        let writer = self.in_lane(Lane::Status);
        let events: Api<Event> = self.api(&order.key);
        let body = body(order, event, instance, now);
        if let Err(error) = writer.ask(events.create(&PostParams::default(), &body)).await {
            tracing::debug!(order = %order.key, reason = event.reason, ?error, "event not written");
        }
    }
}

fn body(order: &Order, event: &NewEvent, instance: &str, now: Timestamp) -> Event {
    Event {
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
