//! The API types of group `core.korder.dev/v1alpha1`: what users and `kubectl` see.
//!
//! Serialization, schema, defaults and CEL rules only. No behaviour lives here: `domain` gives
//! these types their meaning.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub mod order;
pub mod quantity;
mod schema;
pub mod shard;
pub mod ticket;

pub use order::{Order, OrderSpec, OrderStatus};
pub use quantity::Quantity;
pub use shard::{Shard, ShardSpec, ShardStatus};
pub use ticket::{Ticket, TicketSpec, TicketStatus};

/// The API group.
pub const GROUP: &str = "core.korder.dev";
/// Label on Tickets: the name of the Order they belong to.
pub const LABEL_ORDER: &str = "korder.dev/order";
/// Label on Tickets and Guardians: the uid of the Order they belong to.
pub const LABEL_ORDER_UID: &str = "korder.dev/order-uid";
/// Label on Tickets: the uid of the Node they are for.
pub const LABEL_NODE_UID: &str = "korder.dev/node-uid";
/// Label on Tickets and Guardians: their shard, decimal; never changes.
pub const LABEL_SHARD: &str = "korder.dev/shard";
/// Label on the pages of a Shard: the page's number; the object with the totals has none.
pub const LABEL_PAGE: &str = "korder.dev/page";
/// Label on Guardians, value `true`.
pub const LABEL_GUARDIAN: &str = "korder.dev/guardian";
/// Label on Guardians: the name of their Ticket.
pub const LABEL_TICKET: &str = "korder.dev/ticket";
/// Annotation of Guardians: the `templateHash` of the template they were made from.
pub const ANNOTATION_TEMPLATE_HASH: &str = "korder.dev/template-hash";
/// Label on Leases: `replica` or `shard`.
pub const LABEL_LEASE: &str = "korder.dev/lease";
/// Annotation of Leases: which process of the replica holds it.
pub const ANNOTATION_INCARNATION: &str = "korder.dev/incarnation";
/// Annotation of Leases: how many shards the installation has.
pub const ANNOTATION_SHARDS: &str = "korder.dev/shards";
/// Scheduling gate of a Guardian that is to take over room.
pub const GATE_COVER: &str = "korder.dev/cover";
/// Keys with this prefix belong to the controller and are refused in templates.
pub const KEY_PREFIX: &str = "korder.dev/";

/// The CRDs as they are installed. Not `Order::crd()`, which lacks the last pass over the schema.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [Order::crd(), Shard::crd(), Ticket::crd()].map(schema::finish)
}
