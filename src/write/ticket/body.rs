//! The bodies of Tickets and of their patches.
//!
//! Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::{
    api::{
        self, LABEL_NODE_UID, LABEL_ORDER, LABEL_ORDER_UID, LABEL_SHARD, Ticket, TicketSpec,
        order::Resources, ticket::Phase,
    },
    domain::{
        node::record::Node,
        order::spec::{Order, Template},
        pair::{
            names::ticket_name,
            observed::{Revision, TicketView},
            op::{StatusChange, Term},
        },
        values::{
            ids::{NodeUid, OrderUid, TicketUid},
            shard::ShardId,
        },
    },
    write::metadata::{owner, whole_seconds},
};

/// A new Ticket.
pub(in crate::write) fn ticket(
    order: &Order,
    template: &Template,
    node: &Node,
    sequence: i64,
    shard: ShardId,
) -> Ticket {
    Ticket {
        metadata: ObjectMeta {
            name: Some(ticket_name(&order.key.name, &order.uid, &node.uid, sequence)),
            namespace: Some(order.key.namespace.to_string()),
            labels: Some(labels(template, &order.key.name, &order.uid, &node.uid, shard)),
            annotations: Some(template.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![owner::<api::Order>(&order.key.name, order.uid.as_str())]),
            ..ObjectMeta::default()
        },
        spec: TicketSpec {
            node_name: node.name.to_string(),
            node_uid: node.uid.to_string(),
            sequence,
            template_hash: template.hash.to_string(),
            duration: template.duration.clone(),
            resources: Some(template.resources.clone()),
            tolerations: template.tolerations.clone(),
            priority_class_name: template.priority_class_name.clone(),
            scheduler_name: template.scheduler_name.clone(),
            lifecycle: template.lifecycle.clone(),
        },
        status: None,
    }
}

/// The merge patch of all that is edited in place, without what a Ticket asks for.
pub(in crate::write) fn align_patch(view: &TicketView, template: &Template, shard: ShardId) -> Value {
    json!({
        "metadata": {
            "uid": view.uid.as_str(),
            "labels": labels(template, &view.order_name, &view.order, &view.node, shard),
            "annotations": template.annotations,
        },
        "spec": { "duration": template.duration, "lifecycle": template.lifecycle },
    })
}

/// The merge patch that brings a Ticket in line with its Order's template; `present` is what the
/// Ticket asks for now.
pub(in crate::write) fn sync_patch(
    view: &TicketView,
    template: &Template,
    present: Option<&Resources>,
    shard: ShardId,
) -> Value {
    let mut patch = align_patch(view, template, shard);
    let asked = [
        ("templateHash", json!(template.hash.to_string())),
        ("resources", resources_patch(&template.resources, present)),
        ("tolerations", json!(template.tolerations)),
        ("priorityClassName", json!(template.priority_class_name)),
        ("schedulerName", json!(template.scheduler_name)),
    ];
    for (field, asked) in asked {
        patch["spec"][field] = asked;
    }
    patch
}

/// A merge patch removes only what it names: amounts that are no longer asked for become null.
fn resources_patch(wanted: &Resources, present: Option<&Resources>) -> Value {
    let list = |wanted: &BTreeMap<String, api::Quantity>,
                present: Option<&BTreeMap<String, api::Quantity>>| {
        let gone = present
            .into_iter()
            .flatten()
            .map(|(name, _)| (name.clone(), Value::Null));
        let asked = wanted.iter().map(|(name, amount)| (name.clone(), json!(amount)));
        gone.chain(asked).collect::<serde_json::Map<_, _>>()
    };
    json!({
        "requests": list(&wanted.requests, present.map(|present| &present.requests)),
        "limits": list(&wanted.limits, present.map(|present| &present.limits)),
    })
}

/// The merge patch of a Ticket's status, on the revision it was decided on.
pub(in crate::write) fn status_patch(
    uid: &TicketUid,
    revision: Revision,
    change: &StatusChange,
    term: Option<Term>,
) -> Value {
    let mut status = json!({
        "phase": change.phase,
        "reason": change.reason.as_deref(),
        "message": change.message.as_deref(),
        "podName": change.pod_name.as_deref(),
    });
    if let Some(activation) = change.activation {
        status["activationTime"] = json!(whole_seconds(activation.0));
    }
    on_revision(uid, revision, status, term)
}

/// The merge patch that carries a Ticket over into a window.
pub(in crate::write) fn renewal_patch(uid: &TicketUid, revision: Revision, term: Term) -> Value {
    on_revision(uid, revision, json!({}), Some(term))
}

/// The merge patch of a Ticket whose window has ended.
pub(in crate::write) fn expiry_patch(
    uid: &TicketUid,
    revision: Revision,
    term: Option<Term>,
    finished: Timestamp,
    (reason, message): (Option<&str>, Option<&str>),
) -> Value {
    let status = json!({
        "phase": Phase::Expired,
        "reason": reason,
        "message": message,
        "podName": null,
        "finishedTime": whole_seconds(finished),
    });
    on_revision(uid, revision, status, term)
}

fn on_revision(uid: &TicketUid, revision: Revision, mut status: Value, term: Option<Term>) -> Value {
    if let Some(term) = term {
        status["windowStart"] = json!(whole_seconds(term.start));
        status["expirationTime"] = json!(term.end.map(whole_seconds));
    }
    json!({
        "metadata": { "uid": uid.as_str(), "resourceVersion": revision.0.to_string() },
        "status": status,
    })
}

/// The template's labels and korder's own.
fn labels(
    template: &Template,
    order_name: &str,
    order: &OrderUid,
    node: &NodeUid,
    shard: ShardId,
) -> BTreeMap<String, String> {
    let mut labels = template.labels.clone();
    labels.extend([
        (LABEL_ORDER.to_owned(), order_name.to_owned()),
        (LABEL_ORDER_UID.to_owned(), order.to_string()),
        (LABEL_NODE_UID.to_owned(), node.to_string()),
        (LABEL_SHARD.to_owned(), shard.to_string()),
    ]);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(value: Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn amounts_no_longer_asked_for_are_removed() {
        let present =
            resources(json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "2" } }));
        let wanted = resources(json!({ "requests": { "cpu": "3" } }));
        let patch = resources_patch(&wanted, Some(&present));
        let expected = json!({ "requests": { "cpu": "3", "memory": null }, "limits": { "cpu": null } });
        assert_eq!(patch, expected);
    }
}
