//! `Ticket`: room on one node for one Order. Made by the controller, read by users.
//!
//! The spec is a copy of what the Guardian needs, so that a Ticket can be acted on without its
//! Order's current template.

#![expect(
    unreachable_pub,
    reason = "`KubeSchema` copies each struct, `pub` and all, into a function"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "each `printcolumn` has a type of its own"
)]

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    order::{Lifecycle, Resources},
    schema,
};

/// Room on one node for one Order.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "core.korder.dev",
    version = "v1alpha1",
    kind = "Ticket",
    namespaced,
    singular = "ticket",
    shortname = "tkt",
    category = "korder",
    doc = "Room on one node for one Order; made by the controller.",
    status = "TicketStatus",
    selectable = ".status.phase",
    selectable = ".spec.nodeName",
    printcolumn(
        name = "ORDER",
        type_ = "string",
        json_path = r".metadata.labels.korder\.dev/order"
    ),
    printcolumn(name = "NODE", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "EXPIRES", type_ = "string", json_path = ".status.expirationTime"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TicketSpec {
    /// The node's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "nodeName is immutable; delete the Ticket, and the controller makes a new one"
    ))]
    pub node_name: String,
    /// The node's uid.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "nodeUID is immutable; delete the Ticket, and the controller makes a new one"
    ))]
    #[serde(rename = "nodeUID")]
    pub node_uid: String,
    /// Number of this Ticket within its pair.
    #[schemars(range(min = 0))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "sequence is immutable; delete the Ticket, and the controller makes a new one"
    ))]
    pub sequence: i64,
    /// Hash of the template parts that a Guardian is made from.
    pub template_hash: String,
    /// Length of the window, a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The room to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Taints the Guardian tolerates.
    #[schemars(schema_with = "schema::tolerations")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the Guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Scheduler that binds the Guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// What becomes of the finished Ticket.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// Where a Ticket is in its life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("default" = { "phase": "Pending" }))]
#[serde(rename_all = "camelCase", default)]
pub struct TicketStatus {
    /// `Pending`, `Reserved`, `Claiming`, `Claimed`, `Released` or `Expired`.
    pub phase: Phase,
    /// Start of the window the Ticket belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_start: Option<Time>,
    /// When the Ticket was Reserved first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_time: Option<Time>,
    /// End of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// When a claimant took the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_time: Option<Time>,
    /// When the Ticket became Released or Expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_time: Option<Time>,
    /// The Guardian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// The claim under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Why the Ticket is in this phase, a CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the Ticket is in this phase, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Not used yet.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Phase of a Ticket.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// No room held yet, or none at the moment.
    #[default]
    Pending,
    /// The Guardian is bound.
    Reserved,
    /// The room is being handed to a claimant.
    Claiming,
    /// A claimant runs in the room.
    Claimed,
    /// The claimant ended.
    Released,
    /// The window ended.
    Expired,
}

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The claimant.
    pub pod_name: String,
    /// Its uid.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// When the claim is undone if it has not succeeded.
    pub deadline: Time,
}
