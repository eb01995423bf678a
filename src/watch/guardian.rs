//! Guardian Pods as the watch decodes them, and as decisions read them.
//!
//! A Pod that no Ticket controls is not a Guardian and yields nothing.

use std::borrow::Cow;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::meta;
use crate::{
    api::{ANNOTATION_TEMPLATE_HASH, LABEL_GUARDIAN, LABEL_ORDER_UID, LABEL_SHARD, LABEL_TICKET},
    domain::{
        pair::observed::{GuardianState, GuardianView, Revision},
        values::{
            ids::{OrderUid, PodKey, TicketKey},
            shard::ShardId,
        },
    },
};

/// A Pod with only the fields that decisions read.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Pod)]
pub(crate) struct SlimPod {
    /// Name, uid, labels, annotations, owner.
    #[serde(deserialize_with = "meta::annotated")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    scheduling_gates: Vec<SlimGate>,
}

#[derive(Deserialize, Clone, Debug)]
struct SlimGate {
    name: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct SlimStatus {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    nominated_node_name: Option<String>,
    #[serde(default, deserialize_with = "unschedulable")]
    conditions: Option<String>,
}

/// The message of the condition `PodScheduled=False`, reason `Unschedulable`.
fn unschedulable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Condition<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        status: Cow<'a, str>,
        #[serde(default, borrow)]
        reason: Cow<'a, str>,
        #[serde(default, borrow)]
        message: Cow<'a, str>,
    }
    let conditions: Option<Vec<Condition<'de>>> = Deserialize::deserialize(deserializer)?;
    let said = conditions.into_iter().flatten().find(|condition| {
        condition.kind == "PodScheduled" && condition.status == "False" && condition.reason == "Unschedulable"
    });
    Ok(said.map(|condition| condition.message.into_owned()))
}

impl SlimPod {
    /// The shard named by the Guardian's label, if any, and the view of the Guardian; none if no
    /// Ticket controls the Pod.
    pub(crate) fn view(self) -> Option<(Option<ShardId>, GuardianView)> {
        let owner = meta::controller(&self.metadata, "Ticket")?;
        let label = |key: &str| meta::label(&self.metadata, key);
        let shard = label(LABEL_SHARD)
            .and_then(|shard| shard.parse().ok())
            .map(ShardId);
        let order = OrderUid::from(label(LABEL_ORDER_UID).unwrap_or_default());
        let labels_intact = label(LABEL_GUARDIAN) == Some("true")
            && label(LABEL_TICKET) == Some(&owner.name)
            && shard.is_some();
        let annotations = self.metadata.annotations.as_ref();
        let template_hash = annotations.and_then(|all| all.get(ANNOTATION_TEMPLATE_HASH));
        let namespace = self.metadata.namespace.clone()?;
        let gates = self
            .spec
            .scheduling_gates
            .iter()
            .map(|gate| gate.name.as_str().into());
        let nominated = self
            .status
            .nominated_node_name
            .clone()
            .filter(|node| !node.is_empty());
        let view = GuardianView {
            key: PodKey::new(namespace.clone(), self.metadata.name.clone()?),
            uid: self.metadata.uid.clone()?.into(),
            revision: Revision::parse(self.metadata.resource_version.as_deref()),
            ticket: TicketKey::new(namespace, owner.name.clone()),
            ticket_uid: owner.uid.clone().into(),
            order,
            gates: gates.collect(),
            nominated: nominated.map(Into::into),
            state: state(self.spec, self.status),
            deleting: self.metadata.deletion_timestamp.is_some(),
            labels_intact,
            template_hash: template_hash.map(|hash| hash.as_str().into()),
        };
        Some((shard, view))
    }
}

fn state(spec: SlimSpec, status: SlimStatus) -> GuardianState {
    if let Some(phase @ ("Failed" | "Succeeded")) = status.phase.as_deref() {
        let said = [status.reason.as_deref(), status.message.as_deref()];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        return GuardianState::Ended {
            message: format!("the Guardian {phase}: {}", said.join(": ")).into(),
        };
    }
    match spec.node_name.filter(|node| !node.is_empty()) {
        Some(node) => GuardianState::Bound(node.into()),
        None => GuardianState::Unbound {
            unschedulable: status.conditions.map(Into::into),
        },
    }
}
