//! `Shard`: totals of one shard, and its pages of counts per Order.
//!
//! Written by the shard's owner in the controller's namespace; summed into the status of Orders.

#![expect(
    clippy::duplicated_attributes,
    reason = "each `printcolumn` has a type of its own"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::UnavailableReason;

/// Totals of one shard (`shard-07`), or one of its pages (`shard-07-p0`).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "core.korder.dev",
    version = "v1alpha1",
    kind = "Shard",
    namespaced,
    singular = "shard",
    category = "korder",
    doc = "Totals of one shard (`shard-07`), or one of its pages (`shard-07-p0`).",
    status = "ShardStatus",
    printcolumn(name = "OWNER", type_ = "string", json_path = ".status.owner"),
    printcolumn(name = "NODES", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "TICKETS", type_ = "integer", json_path = ".status.tickets"),
    printcolumn(name = "RESERVED", type_ = "integer", json_path = ".status.reserved"),
    printcolumn(name = "CLAIMED", type_ = "integer", json_path = ".status.claimed"),
    printcolumn(name = "PENDING", type_ = "integer", json_path = ".status.pending"),
    printcolumn(name = "QUEUE", type_ = "integer", json_path = ".status.queue")
)]
pub struct ShardSpec {
    /// The shard's number.
    pub shard: u16,
    /// The page's number; absent on the object that holds the totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u16>,
}

/// What the owner of a shard says of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardStatus {
    /// The replica that owns the shard.
    pub owner: String,
    /// Nodes of the shard.
    pub nodes: u32,
    /// Counts of NotReady Nodes, by the second since which they are NotReady.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ready: Vec<NotReady>,
    /// Tickets of the shard.
    pub tickets: u32,
    /// Tickets Reserved.
    pub reserved: u32,
    /// Tickets Claimed.
    pub claimed: u32,
    /// Tickets Pending.
    pub pending: u32,
    /// Writes of this shard that wait to be sent.
    pub queue: u32,
    /// When this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_time: Option<Time>,
    /// Counts per Order; only on pages, at most 500.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<OrderCounts>,
}

/// Nodes that turned NotReady in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NotReady {
    /// The second, from `lastTransitionTime` of their condition Ready.
    pub since: Time,
    /// How many they are.
    pub count: u32,
}

/// What one shard has of one Order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderCounts {
    /// The Order's uid.
    #[serde(rename = "orderUID")]
    pub order_uid: String,
    /// Eligible nodes.
    #[serde(skip_serializing_if = "is_zero")]
    pub desired: u32,
    /// Tickets Reserved.
    #[serde(skip_serializing_if = "is_zero")]
    pub reserved: u32,
    /// Tickets Claiming.
    #[serde(skip_serializing_if = "is_zero")]
    pub claiming: u32,
    /// Tickets Claimed.
    #[serde(skip_serializing_if = "is_zero")]
    pub claimed: u32,
    /// Eligible nodes without a Reserved, Claiming or Claimed Ticket.
    #[serde(skip_serializing_if = "is_zero")]
    pub unavailable: u32,
    /// Tickets Pending.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending: u32,
    /// Tickets Released.
    #[serde(skip_serializing_if = "is_zero")]
    pub released: u32,
    /// Tickets Expired.
    #[serde(skip_serializing_if = "is_zero")]
    pub expired: u32,
    /// Reserved Tickets made from the present template.
    #[serde(skip_serializing_if = "is_zero")]
    pub updated: u32,
    /// Eligible nodes whose Reserved Ticket has an older template.
    #[serde(skip_serializing_if = "is_zero")]
    pub stale: u32,
    /// Tickets in replacement, begun ones that no watch shows yet included.
    #[serde(skip_serializing_if = "is_zero")]
    pub rolling: u32,
    /// The newest grant the shard has seen for itself; one more than that once it has given it back.
    #[serde(skip_serializing_if = "is_zero")]
    pub grant_seq: i64,
    /// The Order's generation the shard acts on.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// Why nodes are unavailable, at most five.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<UnavailableReason>,
}

/// A count of nothing is left out: a page names every Order, and most shards have little of most.
fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_which_a_shard_has_nothing_costs_seventy_bytes_on_its_page() {
        let nothing = OrderCounts {
            order_uid: "6f1f0f6e-6f0e-4d7e-9a57-3a3f3a1d5f10".to_owned(),
            generation: 12,
            ..OrderCounts::default()
        };
        assert_eq!(serde_json::to_string(&nothing).unwrap().len(), 67);
        let some = OrderCounts {
            desired: 78,
            reserved: 78,
            updated: 78,
            ..nothing
        };
        assert_eq!(serde_json::to_string(&some).unwrap().len(), 107);
    }
}
