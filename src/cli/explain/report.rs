//! What `korder explain` says, as data: the JSON of `-o json`, documented in `docs/cli.md`.
//!
//! Fields are added, never renamed or given another meaning. Optional fields are left out when there
//! is nothing to say; lists never are.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::api::{
    order::{RefreshPolicy, StrategyType},
    ticket::Phase,
};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The API server's time at which this was so.
    pub(crate) server_time: Time,
    /// `--not-ready-grace` as it was counted with.
    pub(crate) not_ready_grace_seconds: u64,
    pub(crate) order: OrderReport,
    /// The pair, or all of the Order's.
    #[serde(flatten)]
    pub(crate) subject: Subject,
}

/// With a Node: `pair`; without: `summary`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Subject {
    /// One Order on one Node.
    Pair(PairReport),
    /// One Order on all Nodes.
    Summary(SummaryReport),
}

/// The Order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderReport {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// Whether the spec makes sense.
    pub(crate) valid: bool,
    /// Everything that is wrong with the spec.
    pub(crate) problems: Vec<Problem>,
    /// What a valid spec asks for and does not get, or can hardly mean.
    pub(crate) warnings: Vec<String>,
    pub(crate) paused: bool,
    pub(crate) deleting: bool,
    /// None if the Order cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strategy: Option<StrategyReport>,
    /// The window that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<WindowReport>,
    /// The next one that opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_window: Option<WindowReport>,
    /// The condition `Ready`, if it was written yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<ConditionReport>,
    /// All conditions of its status, that one among them.
    pub(crate) conditions: Vec<ConditionReport>,
}

/// One thing that is wrong with the spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    pub(crate) field: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// When room is held, as the user wrote it, defaults applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StrategyReport {
    #[serde(rename = "type")]
    pub(crate) kind: StrategyType,
    pub(crate) refresh_policy: RefreshPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<String>,
}

/// A time in which the Order holds room.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WindowReport {
    pub(crate) start: Time,
    /// None if it never closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<Time>,
    /// Another follows without a gap, into which Tickets are renewed in place.
    pub(crate) followed: bool,
}

/// A condition of the Order's status.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConditionReport {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
}

/// One Order on one Node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PairReport {
    pub(crate) node: NodeReport,
    /// None if the Order's spec is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eligible: Option<bool>,
    /// The reason that status and Events name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The four rules; none if the Order's spec is invalid.
    pub(crate) rules: Vec<RuleReport>,
    /// What becomes of an open Ticket, whether or not there is one.
    pub(crate) open_ticket: OpenTicket,
    /// By falling sequence.
    pub(crate) tickets: Vec<TicketReport>,
    /// One sentence for people.
    pub(crate) waits_for: String,
}

/// The Node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeReport {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) deleting: bool,
}

/// One of the four rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RuleReport {
    pub(crate) rule: &'static str,
    pub(crate) holds: bool,
    /// Empty if it holds.
    pub(crate) reasons: Vec<&'static str>,
    /// Why or why not, for people.
    pub(crate) detail: String,
}

/// What becomes of an open Ticket of the pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenTicket {
    pub(crate) fate: Fate,
    /// When, for `RemovedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Time>,
    /// For people.
    pub(crate) detail: String,
}

/// What becomes of an open Ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Fate {
    Stays,
    /// It goes at once.
    RemovedAtOnce,
    /// It goes at a time to come.
    RemovedAt,
}

/// A Ticket of the pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TicketReport {
    pub(crate) name: String,
    pub(crate) phase: Phase,
    pub(crate) sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window_start: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    pub(crate) deleting: bool,
    /// Whether it has the Order's present template; none if the spec is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updated: Option<bool>,
    /// It is for an earlier Node of the same name, and goes.
    pub(crate) earlier_node: bool,
    /// Pods that have one of the two names of its Guardian.
    pub(crate) guardians: Vec<GuardianReport>,
}

/// A Guardian, or a Pod that has its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GuardianReport {
    pub(crate) name: String,
    pub(crate) state: GuardianStanding,
    /// The node it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// What the scheduler says, or why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    pub(crate) deleting: bool,
}

/// Where a Guardian is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum GuardianStanding {
    /// It holds the room.
    Bound,
    /// The scheduler has not bound it.
    Unbound,
    /// It is to take over the room of the other.
    UnderCover,
    /// It Succeeded or Failed.
    Ended,
    /// This Ticket does not control it.
    Foreign,
}

/// One Order on all Nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SummaryReport {
    /// How many Nodes there are.
    pub(crate) nodes: u32,
    /// How many are eligible; none if the Order's spec is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eligible: Option<u32>,
    /// Eligible Nodes on which the Order has no Ticket.
    pub(crate) without_ticket: Group,
    /// Nodes that are not eligible, by the first reason; the most frequent first.
    pub(crate) ineligible: Vec<ReasonGroup>,
    pub(crate) tickets: BTreeMap<Phase, u32>,
    /// Pending Tickets by reason; the most frequent first.
    pub(crate) pending: Vec<PendingGroup>,
}

/// A number of Nodes, with some of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Group {
    pub(crate) count: u32,
    /// The first three by name.
    pub(crate) examples: Vec<String>,
}

/// The Nodes that one reason keeps from being eligible.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ReasonGroup {
    pub(crate) reason: &'static str,
    #[serde(flatten)]
    pub(crate) nodes: Group,
}

/// The Pending Tickets that wait for the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PendingGroup {
    pub(crate) reason: String,
    pub(crate) count: u32,
    /// The node of one of them.
    pub(crate) node: String,
    /// What that one says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}
