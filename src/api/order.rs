//! `Order`: how much room to keep, and on which nodes.
//!
//! What each field means stands beside it, for `kubectl explain` too; refused values are refused by CEL where
//! the API server can tell, and by `domain::order` where it cannot.

#![expect(
    unreachable_pub,
    reason = "`KubeSchema` copies each struct, `pub` and all, into a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeAffinity, Toleration},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, Time},
        util::intstr::IntOrString,
    },
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Quantity, schema};

/// Keeps room free on every eligible node.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "core.korder.dev",
    version = "v1alpha1",
    kind = "Order",
    namespaced,
    singular = "order",
    shortname = "kord",
    category = "korder",
    doc = "Keeps room free on every eligible node.",
    status = "OrderStatus",
    validation = Rule::new("self.metadata.name.size() <= 63").message(
        "metadata.name must be at most 63 characters, because it becomes the label korder.dev/order of its Tickets; choose a shorter name"
    ),
    printcolumn(name = "STRATEGY", type_ = "string", json_path = ".spec.strategy.type"),
    printcolumn(name = "DESIRED", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "RESERVED", type_ = "integer", json_path = ".status.availableReplicas"),
    printcolumn(name = "CLAIMED", type_ = "integer", json_path = ".status.claimedReplicas"),
    printcolumn(name = "UNAVAILABLE", type_ = "integer", json_path = ".status.unavailableReplicas"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.daemonSet")
    .message("must be true, because only DaemonSet mode is implemented; set spec.daemonSet: true")
    .field_path(".daemonSet"))]
#[x_kube(validation = Rule::new("self.strategy.type != 'Scheduled' || has(self.template.spec.duration)")
    .message("template.spec.duration is required when strategy.type is Scheduled: it is the length of each window, such as 1h30m")
    .reason(Reason::FieldValueRequired)
    .field_path(".template.spec.duration"))]
#[serde(rename_all = "camelCase")]
pub struct OrderSpec {
    /// Must be true: only DaemonSet mode is implemented.
    #[serde(default)]
    pub daemon_set: bool,
    /// Accepted for compatibility, ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Accepted for compatibility, ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// While true, korder makes no Tickets or Guardians and continues no roll-out, and open Tickets stay on nodes that
    /// are no longer eligible. Renewal, expiry and claims under way go on.
    #[serde(default)]
    pub paused: bool,
    /// When room is held, and what follows a claim.
    #[serde(default)]
    pub strategy: Strategy,
    /// How a changed template reaches existing Tickets.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
    /// What each Ticket asks for.
    pub template: TicketTemplate,
}

/// When room is held, and what follows a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.type == 'OneTime' || (has(self.schedule) && self.schedule != '')")
    .message("schedule is required when type is Scheduled or Recurring: a cron expression of five fields, such as '0 */6 * * *'")
    .reason(Reason::FieldValueRequired)
    .field_path(".schedule"))]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// `OneTime`: one window from the start time on. `Scheduled`: one at each tick of the schedule. `Recurring`: one at
    /// the start and at each tick after it; without a duration they follow each other without a gap.
    #[serde(default, rename = "type")]
    pub kind: StrategyType,
    /// Five-field cron; required unless the type is `OneTime`.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// IANA time zone of the schedule; UTC if absent.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When a pair gets a new Ticket after a claim. `OnClaim`: at once. `Always`: likewise, and windows of OneTime (with a
    /// duration) and Recurring follow each other without a gap. `OnRelease`: when the claimant ends. `Never`: in the next
    /// window.
    #[serde(default)]
    pub refresh_policy: RefreshPolicy,
}

/// The shape of an Order's windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyType {
    /// One window from the start time on.
    #[default]
    OneTime,
    /// A window at each tick of the schedule.
    Scheduled,
    /// A window from the start on and at each tick of the schedule.
    Recurring,
}

/// When a pair gets a new Ticket after a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefreshPolicy {
    /// Room is kept for the next claimant at all times.
    Always,
    /// A claim makes room for the next.
    #[default]
    OnClaim,
    /// The end of a claim makes room for the next.
    OnRelease,
    /// One Ticket per window.
    Never,
}

/// How a changed template reaches existing Tickets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Number or percentage (rounded down, at least 1) of pairs that may be without a running
    /// Guardian at once during a roll-out.
    #[schemars(schema_with = "schema::max_unavailable")]
    #[serde(default = "default_max_unavailable")]
    pub max_unavailable: IntOrString,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self {
            max_unavailable: default_max_unavailable(),
        }
    }
}

fn default_max_unavailable() -> IntOrString {
    IntOrString::String("10%".to_owned())
}

/// What each Ticket is made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketTemplate {
    /// Labels and annotations copied to Tickets.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// What each Ticket asks for.
    #[serde(default)]
    pub spec: TicketTemplateSpec,
}

/// Labels and annotations copied to Tickets; `korder.dev/*` keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMetadata {
    /// Labels copied to Tickets.
    #[schemars(schema_with = "schema::labels")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations copied to Tickets.
    #[schemars(schema_with = "schema::annotations")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What each Ticket asks for, and on which nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketTemplateSpec {
    /// No room is held before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("string(self) < '9999-12-29'")
        .message("must be before 9999-12-29; to hold no room until further notice, create the Order with spec.paused: true instead"))]
    pub start_time: Option<Time>,
    /// Length of a window, such as `24h`; at least `1s`. Required with `strategy.type: Scheduled`.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('1s')")
        .message("must be a Go duration of at least 1s and not negative, such as 24h or 1h30m"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The room to keep; without requests and limits 100m CPU and 128Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels a node must carry.
    #[schemars(schema_with = "schema::node_selector")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the Guardian tolerates.
    #[schemars(schema_with = "schema::tolerations")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Node affinity; only the required part selects nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Priority class of the Guardian.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Scheduler that binds the Guardian.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// What becomes of finished Tickets.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// The affinity an Order may name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// As in a Pod's affinity.
    #[schemars(schema_with = "schema::node_affinity")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
}

/// Requests and limits of the Guardian's one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)")
    .message("requests must not be greater than limits; raise the limit or lower the request")
    .field_path(".requests"))]
pub struct Resources {
    /// What the scheduler counts.
    #[schemars(schema_with = "schema::resource_list")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// Limits of the container.
    #[schemars(schema_with = "schema::resource_list")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// What becomes of finished Tickets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Seconds a finished Ticket stays under `Delete`.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub ttl_seconds_after_finished: i64,
    /// `Delete`: finished Tickets are removed after `ttlSecondsAfterFinished`. `Retain`: the newest three of each pair stay.
    #[serde(default)]
    pub cleanup_policy: CleanupPolicy,
}

/// `Delete`: finished Tickets are removed after `ttlSecondsAfterFinished`. `Retain`: the newest three of each pair stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CleanupPolicy {
    /// Deleted after the time to live.
    #[default]
    Delete,
    /// The newest three per pair are kept.
    Retain,
}

/// What the controller says of an Order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderStatus {
    /// The least generation of this Order that a shard acts on.
    pub observed_generation: i64,
    /// Eligible nodes inside a window, else 0.
    pub replicas: u32,
    /// Tickets Reserved.
    pub available_replicas: u32,
    /// Tickets Claimed.
    pub claimed_replicas: u32,
    /// Tickets Released or Expired.
    pub terminal_replicas: u32,
    /// Eligible nodes without a Reserved, Claiming or Claimed Ticket.
    pub unavailable_replicas: u32,
    /// Reserved Tickets made from the present template.
    pub updated_replicas: u32,
    /// Start of the next window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Caps on replacements while the template changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Why nodes are unavailable, the most frequent reasons first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable_reasons: Vec<UnavailableReason>,
    /// `Ready`, `Progressing`, `Stalled`, `Ending`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Caps on replacements while the template changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// The template rolled out.
    pub template_hash: String,
    /// Number of the newest grant.
    pub seq: i64,
    /// One cap per shard that may replace Tickets.
    pub grants: Vec<Grant>,
}

/// How many Tickets one shard may have in replacement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The shard.
    pub shard: u16,
    /// Its cap.
    pub count: u32,
    /// Number of this grant.
    pub seq: i64,
}

/// One reason why nodes are unavailable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnavailableReason {
    /// A CamelCase word.
    pub reason: String,
    /// Number of nodes.
    pub count: u32,
    /// One of them.
    pub node: String,
}
