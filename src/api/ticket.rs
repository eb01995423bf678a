//! `Ticket`: room on one node for one Order. Made by the controller, read by users.
//!
//! The spec is a copy of what the Guardian needs, so that a Ticket can be acted on without its
//! Order's current template.

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::{Lifecycle, Resources};

/// Room on one node for one Order.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "core.korder.dev",
    version = "v1alpha1",
    kind = "Ticket",
    namespaced,
    shortname = "tkt",
    status = "TicketStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct TicketSpec {
    /// The node's name.
    pub node_name: String,
    /// The node's uid.
    #[serde(rename = "nodeUID")]
    pub node_uid: String,
    /// Number of this Ticket within its pair.
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
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Reserved for finer detail.
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
