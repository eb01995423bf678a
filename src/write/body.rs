//! The bodies of what korder writes: Tickets, Guardians, patches.
//!
//! Pure. What a Guardian is stands here and nowhere else.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, NodeAffinity, NodeSelector, NodeSelectorRequirement,
        NodeSelectorTerm, Pod, PodSchedulingGate, PodSecurityContext, PodSpec, ResourceRequirements,
        SeccompProfile, SecurityContext,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    },
};
use kube::Resource;
use serde_json::{Value, json};

use crate::{
    api::{
        self, ANNOTATION_TEMPLATE_HASH, GATE_COVER, LABEL_GUARDIAN, LABEL_NODE_UID, LABEL_ORDER,
        LABEL_ORDER_UID, LABEL_SHARD, LABEL_TICKET, Ticket, TicketSpec, order::Resources, ticket::Phase,
    },
    domain::{
        node::record::Node,
        order::{
            demand::joined,
            spec::{Order, Template},
        },
        pair::{
            names::ticket_name,
            observed::{Revision, TicketView},
            op::{StatusChange, Term},
        },
        values::{
            ids::{NodeName, NodeUid, OrderUid, PodKey, PodUid, TicketKey, TicketUid},
            shard::ShardId,
        },
    },
};

/// What Guardians are made with besides their template.
#[derive(Clone, Debug)]
pub struct Guardians {
    /// The pause image.
    pub image: String,
    /// The priority class of Guardians whose Order names none.
    pub priority_class: Option<String>,
}

/// The user a Guardian's pause container runs as: nobody in particular.
const GUARDIAN_USER: i64 = 65535;

/// A new Ticket.
pub(super) fn ticket(
    order: &Order,
    template: &Template,
    node: &Node,
    sequence: i64,
    shard: ShardId,
) -> Ticket {
    let mut labels = template.labels.clone();
    labels.extend(ticket_labels(&order.key.name, &order.uid, &node.uid, shard));
    Ticket {
        metadata: ObjectMeta {
            name: Some(ticket_name(&order.key.name, &order.uid, &node.uid, sequence)),
            namespace: Some(order.key.namespace.to_string()),
            labels: Some(labels),
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
pub(super) fn align_patch(view: &TicketView, template: &Template, shard: ShardId) -> Value {
    let mut labels = template.labels.clone();
    labels.extend(ticket_labels(&view.order_name, &view.order, &view.node, shard));
    json!({
        "metadata": {
            "uid": view.uid.as_str(),
            "labels": labels,
            "annotations": template.annotations,
        },
        "spec": { "duration": template.duration, "lifecycle": template.lifecycle },
    })
}

/// The merge patch that brings a Ticket in line with its Order's template; `present` is what the
/// Ticket asks for now.
pub(super) fn sync_patch(
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
pub(super) fn status_patch(
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
        status["activationTime"] = whole_seconds(activation.0);
    }
    on_revision(uid, revision, status, term)
}

/// The merge patch that carries a Ticket over into a window.
pub(super) fn renewal_patch(uid: &TicketUid, revision: Revision, term: Term) -> Value {
    on_revision(uid, revision, json!({}), Some(term))
}

/// The merge patch of a Ticket whose window has ended.
pub(super) fn expiry_patch(
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
        status["windowStart"] = whole_seconds(term.start);
        status["expirationTime"] = term.end.map_or(Value::Null, whole_seconds);
    }
    json!({
        "metadata": { "uid": uid.as_str(), "resourceVersion": revision.0.to_string() },
        "status": status,
    })
}

/// The API's times have no fractions of a second.
fn whole_seconds(at: Timestamp) -> Value {
    json!(Time(
        Timestamp::from_second(at.as_second()).expect("seconds of a valid time")
    ))
}

/// The merge patch that puts a Guardian's labels back.
pub(super) fn relabel_patch(
    uid: &PodUid,
    ticket: &TicketKey,
    order: &OrderUid,
    shard: ShardId,
    template_hash: Option<&str>,
) -> Value {
    let annotations = template_hash.map(|hash| (ANNOTATION_TEMPLATE_HASH, hash));
    let annotations: BTreeMap<_, _> = annotations.into_iter().collect();
    let labels = guardian_labels(ticket, order, shard);
    json!({ "metadata": { "uid": uid.as_str(), "labels": labels, "annotations": annotations } })
}

/// The merge patch that adds tolerations to a Guardian, on the revision they were read at.
pub(super) fn extend_patch(uid: &PodUid, pod: &Pod, template: &Template) -> Value {
    let spec = pod.spec.as_ref();
    let present = spec
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    json!({
        "metadata": {
            "uid": uid.as_str(),
            "resourceVersion": pod.metadata.resource_version,
            "annotations": { ANNOTATION_TEMPLATE_HASH: template.hash.to_string() },
        },
        "spec": { "tolerations": joined(present, &template.tolerations) },
    })
}

/// The merge patch of a Guardian's status that lets the scheduler count it on the node.
pub(super) fn nominate_patch(uid: &PodUid, revision: Revision, node: &NodeName) -> Value {
    json!({
        "metadata": { "uid": uid.as_str(), "resourceVersion": revision.0.to_string() },
        "status": { "nominatedNodeName": node.to_string() },
    })
}

/// The merge patch that leaves a Guardian with these gates alone.
pub(super) fn ungate_patch(uid: &PodUid, gates: &[Arc<str>]) -> Value {
    let gates: Vec<_> = gates.iter().map(|gate| json!({ "name": **gate })).collect();
    json!({ "metadata": { "uid": uid.as_str() }, "spec": { "schedulingGates": gates } })
}

/// Whose a Guardian is.
pub(super) struct GuardianOf<'a> {
    pub(super) ticket: &'a TicketKey,
    pub(super) uid: &'a TicketUid,
    pub(super) order: &'a OrderUid,
    pub(super) shard: ShardId,
}

/// A Ticket's Guardian of this name.
pub(super) fn guardian(
    key: &PodKey,
    covered: bool,
    of: &GuardianOf<'_>,
    template: &Template,
    node: &Node,
    settings: &Guardians,
) -> Pod {
    let autoscaler = "cluster-autoscaler.kubernetes.io/";
    let annotations = ["daemonset-pod", "safe-to-evict"];
    Pod {
        metadata: ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            labels: Some(guardian_labels(of.ticket, of.order, of.shard)),
            annotations: Some(
                annotations
                    .map(|key| (format!("{autoscaler}{key}"), "true".to_owned()))
                    .into_iter()
                    .chain([(ANNOTATION_TEMPLATE_HASH.to_owned(), template.hash.to_string())])
                    .collect(),
            ),
            owner_references: Some(vec![owner::<Ticket>(&of.ticket.name, of.uid.as_str())]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            affinity: Some(pinned(node)),
            automount_service_account_token: Some(false),
            containers: vec![container(&template.resources, settings)],
            enable_service_links: Some(false),
            priority_class_name: template
                .priority_class_name
                .clone()
                .or_else(|| settings.priority_class.clone()),
            scheduler_name: template.scheduler_name.clone(),
            scheduling_gates: covered.then(|| {
                vec![PodSchedulingGate {
                    name: GATE_COVER.to_owned(),
                }]
            }),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(GUARDIAN_USER),
                run_as_group: Some(GUARDIAN_USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            termination_grace_period_seconds: Some(0),
            tolerations: Some(template.tolerations.clone()),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn container(resources: &Resources, settings: &Guardians) -> Container {
    let quantities = |list: &BTreeMap<String, api::Quantity>| {
        list.iter()
            .map(|(name, quantity)| (name.clone(), Quantity(quantity.0.clone())))
            .collect()
    };
    Container {
        name: "guardian".to_owned(),
        image: Some(settings.image.clone()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&resources.requests)),
            limits: Some(quantities(&resources.limits)),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// Required affinity for one node by name: the cluster's scheduler still does the binding.
fn pinned(node: &Node) -> Affinity {
    let this_node = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.name.to_string()]),
    };
    let term = NodeSelectorTerm {
        match_fields: Some(vec![this_node]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn ticket_labels(
    order_name: &str,
    order: &OrderUid,
    node: &NodeUid,
    shard: ShardId,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_ORDER.to_owned(), order_name.to_owned()),
        (LABEL_ORDER_UID.to_owned(), order.to_string()),
        (LABEL_NODE_UID.to_owned(), node.to_string()),
        (LABEL_SHARD.to_owned(), shard.to_string()),
    ])
}

fn guardian_labels(ticket: &TicketKey, order: &OrderUid, shard: ShardId) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_GUARDIAN.to_owned(), "true".to_owned()),
        (LABEL_TICKET.to_owned(), ticket.name.to_string()),
        (LABEL_ORDER_UID.to_owned(), order.to_string()),
        (LABEL_SHARD.to_owned(), shard.to_string()),
    ])
}

fn owner<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
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
