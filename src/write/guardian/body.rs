//! The body of a Guardian and of its patches: what a Guardian is stands here and nowhere else.
//!
//! Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, NodeAffinity, NodeSelector, NodeSelectorRequirement,
        NodeSelectorTerm, Pod, PodSchedulingGate, PodSecurityContext, PodSpec, ResourceRequirements,
        SeccompProfile, SecurityContext,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde_json::{Value, json};

use crate::{
    api::{
        self, ANNOTATION_TEMPLATE_HASH, GATE_COVER, LABEL_GUARDIAN, LABEL_ORDER_UID, LABEL_SHARD,
        LABEL_TICKET, Ticket, order::Resources,
    },
    domain::{
        node::record::Node,
        order::{demand::joined, spec::Template},
        pair::observed::Revision,
        values::{
            ids::{NodeName, OrderUid, PodKey, PodUid, TicketKey, TicketUid},
            shard::ShardId,
        },
    },
    write::metadata::owner,
};

/// What Guardians are made with besides their template.
#[derive(Clone, Debug)]
pub(crate) struct GuardianSettings {
    /// The pause image.
    pub(crate) image: String,
    /// The priority class of Guardians whose Order names none.
    pub(crate) priority_class: Option<String>,
}

/// The user a Guardian's pause container runs as: nobody in particular.
const GUARDIAN_USER: i64 = 65535;

/// Whose a Guardian is.
pub(in crate::write) struct GuardianOwner<'a> {
    pub(in crate::write) ticket: &'a TicketKey,
    pub(in crate::write) uid: &'a TicketUid,
    pub(in crate::write) order: &'a OrderUid,
    pub(in crate::write) shard: ShardId,
}

/// A Ticket's Guardian of this name.
pub(in crate::write) fn guardian(
    key: &PodKey,
    covered: bool,
    of: &GuardianOwner<'_>,
    template: &Template,
    node: &Node,
    settings: &GuardianSettings,
) -> Pod {
    let gate = || PodSchedulingGate {
        name: GATE_COVER.to_owned(),
    };
    Pod {
        metadata: metadata(key, of, template),
        spec: Some(PodSpec {
            scheduling_gates: covered.then(|| vec![gate()]),
            ..spec(template, node, settings)
        }),
        status: None,
    }
}

fn metadata(key: &PodKey, of: &GuardianOwner<'_>, template: &Template) -> ObjectMeta {
    let for_autoscaler = ["daemonset-pod", "safe-to-evict"].map(|key| {
        (
            format!("cluster-autoscaler.kubernetes.io/{key}"),
            "true".to_owned(),
        )
    });
    let hash = (ANNOTATION_TEMPLATE_HASH.to_owned(), template.hash.to_string());
    ObjectMeta {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        labels: Some(labels(of.ticket, of.order, of.shard)),
        annotations: Some(for_autoscaler.into_iter().chain([hash]).collect()),
        owner_references: Some(vec![owner::<Ticket>(&of.ticket.name, of.uid.as_str())]),
        ..ObjectMeta::default()
    }
}

fn spec(template: &Template, node: &Node, settings: &GuardianSettings) -> PodSpec {
    let priority_class = template.priority_class_name.as_ref();
    PodSpec {
        affinity: Some(pinned(node)),
        automount_service_account_token: Some(false),
        containers: vec![container(&template.resources, settings)],
        enable_service_links: Some(false),
        priority_class_name: priority_class.or(settings.priority_class.as_ref()).cloned(),
        scheduler_name: template.scheduler_name.clone(),
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
    }
}

fn container(resources: &Resources, settings: &GuardianSettings) -> Container {
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

fn labels(ticket: &TicketKey, order: &OrderUid, shard: ShardId) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_GUARDIAN.to_owned(), "true".to_owned()),
        (LABEL_TICKET.to_owned(), ticket.name.to_string()),
        (LABEL_ORDER_UID.to_owned(), order.to_string()),
        (LABEL_SHARD.to_owned(), shard.to_string()),
    ])
}

/// The merge patch that puts a Guardian's labels back.
pub(in crate::write) fn relabel_patch(
    uid: &PodUid,
    ticket: &TicketKey,
    order: &OrderUid,
    shard: ShardId,
    template_hash: Option<&str>,
) -> Value {
    let annotations = template_hash.map(|hash| (ANNOTATION_TEMPLATE_HASH, hash));
    let annotations: BTreeMap<_, _> = annotations.into_iter().collect();
    let labels = labels(ticket, order, shard);
    json!({ "metadata": { "uid": uid.as_str(), "labels": labels, "annotations": annotations } })
}

/// The merge patch that adds tolerations to a Guardian, on the revision they were read at.
pub(in crate::write) fn extend_patch(uid: &PodUid, pod: &Pod, template: &Template) -> Value {
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
pub(in crate::write) fn nominate_patch(uid: &PodUid, revision: Revision, node: &NodeName) -> Value {
    json!({
        "metadata": { "uid": uid.as_str(), "resourceVersion": revision.0.to_string() },
        "status": { "nominatedNodeName": node.to_string() },
    })
}

/// The merge patch that leaves a Guardian with these gates alone.
pub(in crate::write) fn ungate_patch(uid: &PodUid, gates: &[Arc<str>]) -> Value {
    let gates: Vec<_> = gates.iter().map(|gate| json!({ "name": **gate })).collect();
    json!({ "metadata": { "uid": uid.as_str() }, "spec": { "schedulingGates": gates } })
}
