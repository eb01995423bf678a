//! Every metric: its name, its help, its unit, its labels. Label values come from closed sets.

use std::time::Duration;

use metrics::{
    Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::api::ticket::Phase;

const WATCH_EVENTS: &str = "korder_watch_events_total";
const RECEIVED: &str = "korder_received_bytes_total";
const NODE_EVENTS_STOPPED: &str = "korder_node_events_stopped_total";
const DECISIONS: &str = "korder_pair_decisions_total";
const NODES: &str = "korder_nodes";
const ORDERS: &str = "korder_orders";
const PAIRS: &str = "korder_eligible_pairs";
const TICKETS: &str = "korder_tickets";
const QUEUE_DEPTH: &str = "korder_queue_depth";
const QUEUE_WAIT: &str = "korder_queue_wait_seconds";
const IN_FLIGHT: &str = "korder_writes_in_flight";
const IN_FLIGHT_LIMIT: &str = "korder_requests_in_flight_limit";
const GATE: &str = "korder_write_gate_seconds";
const UNANSWERED: &str = "korder_requests_unanswered_total";
const WRITES: &str = "korder_writes_total";
const WRITE_SECONDS: &str = "korder_write_duration_seconds";
const CHANGE_TO_WRITE: &str = "korder_node_change_to_write_seconds";
const CHANGE_TO_RESERVED: &str = "korder_node_change_to_reserved_seconds";
const EVENTS: &str = "korder_events_total";
const SHARDS: &str = "korder_shards";
const SHARDS_LOST: &str = "korder_shards_lost_total";
const SHARDS_BROKEN: &str = "korder_shards_broken_total";
const REPLICAS: &str = "korder_replicas";
const LEASE_REQUESTS: &str = "korder_lease_requests_total";

const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// Installs the recorder and describes every metric.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    let handle = builder.install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    describe_counter!(
        WATCH_EVENTS,
        "Watch events received, by kind of object and type of event"
    );
    describe_counter!(
        RECEIVED,
        Unit::Bytes,
        "Bytes of lists and watches received, by resource"
    );
    describe_counter!(
        NODE_EVENTS_STOPPED,
        "Node events that changed nothing an Order can see, by where they stopped"
    );
    describe_counter!(DECISIONS, "Times a pair of Order and Node was planned");
    describe_gauge!(NODES, "Nodes known");
    describe_gauge!(ORDERS, "Orders known");
    describe_gauge!(PAIRS, "Pairs of an Order and a Node that is eligible for it");
    describe_gauge!(TICKETS, "Tickets, by phase");
    describe_gauge!(QUEUE_DEPTH, "Operations that wait to be sent");
    describe_histogram!(
        QUEUE_WAIT,
        Unit::Seconds,
        "Time an operation waited before it was sent"
    );
    describe_gauge!(IN_FLIGHT, "Operations being sent");
    describe_gauge!(
        IN_FLIGHT_LIMIT,
        "Requests that this replica may send at a time, watches and Leases not counted"
    );
    describe_gauge!(
        GATE,
        Unit::Seconds,
        "Time until this replica may send anything again, because the API server asked for a pause or is silent"
    );
    describe_counter!(
        UNANSWERED,
        "Requests that the API server had no room for (too_much: 429, 503) or did not answer (silence)"
    );
    describe_counter!(WRITES, "Operations sent, by kind and outcome");
    describe_histogram!(
        WRITE_SECONDS,
        Unit::Seconds,
        "Time from sending an operation to its outcome, by kind"
    );
    describe_histogram!(
        CHANGE_TO_WRITE,
        Unit::Seconds,
        "Time from seeing a Node or Order change to its first write"
    );
    describe_histogram!(
        CHANGE_TO_RESERVED,
        Unit::Seconds,
        "Time from seeing a Node or Order change to Reserved"
    );
    describe_counter!(EVENTS, "Events written on Orders, by reason");
    describe_gauge!(SHARDS, "Shards that this replica owns");
    describe_counter!(
        SHARDS_LOST,
        "Shards lost because this replica did not renew their Leases in time"
    );
    describe_counter!(
        SHARDS_BROKEN,
        "Shards dropped and rebuilt from lists because their worker panicked"
    );
    describe_gauge!(
        REPLICAS,
        "Members that this replica knows, itself included; 0 while it is not a member"
    );
    describe_counter!(LEASE_REQUESTS, "Requests for Leases, by outcome");
    counter!(SHARDS_LOST).increment(0);
    counter!(SHARDS_BROKEN).increment(0);
    // Shown from the start, so that the first one is an increase.
    for how in ["too_much", "silence"] {
        counter!(UNANSWERED, "how" => how).increment(0);
    }
}

/// A watch event came in.
pub(crate) fn watch_event(kind: &'static str, event: &'static str) {
    counter!(WATCH_EVENTS, "kind" => kind, "type" => event).increment(1);
}

/// Counts what lists and watches of a resource receive.
pub(crate) fn received(resource: &'static str) -> Counter {
    counter!(RECEIVED, "resource" => resource)
}

/// Node events were found to change nothing.
pub(crate) fn node_events_stopped(at: &'static str, count: u64) {
    counter!(NODE_EVENTS_STOPPED, "at" => at).increment(count);
}

/// Pairs were planned.
pub(crate) fn decisions(count: u64) {
    counter!(DECISIONS).increment(count);
}

/// How many Nodes are known.
pub(crate) fn nodes(count: usize) {
    gauge!(NODES).set(count as f64);
}

/// How many Orders are known.
pub(crate) fn orders(count: usize) {
    gauge!(ORDERS).set(count as f64);
}

/// Sums over all Orders.
pub(crate) fn pairs(eligible: u32, phases: impl IntoIterator<Item = (Phase, u32)>) {
    gauge!(PAIRS).set(eligible);
    for (phase, count) in phases {
        gauge!(TICKETS, "phase" => phase_word(phase)).set(count);
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Reserved => "Reserved",
        Phase::Claiming => "Claiming",
        Phase::Claimed => "Claimed",
        Phase::Released => "Released",
        Phase::Expired => "Expired",
    }
}

/// State of the queue.
pub(crate) fn queue(depth: usize, in_flight: usize) {
    gauge!(QUEUE_DEPTH).set(depth as f64);
    gauge!(IN_FLIGHT).set(in_flight as f64);
}

/// What the API server may be sent now.
pub(crate) fn budget(limit: u32, gate: Duration) {
    gauge!(IN_FLIGHT_LIMIT).set(limit);
    gauge!(GATE).set(gate.as_secs_f64());
}

/// A request was not dealt with.
pub(crate) fn unanswered(how: &'static str) {
    counter!(UNANSWERED, "how" => how).increment(1);
}

/// An operation was taken from the queue.
pub(crate) fn queue_wait(wait: Duration) {
    histogram!(QUEUE_WAIT).record(wait);
}

/// An operation ended.
pub(crate) fn write(kind: &'static str, outcome: &'static str, took: Duration) {
    counter!(WRITES, "kind" => kind, "outcome" => outcome).increment(1);
    histogram!(WRITE_SECONDS, "kind" => kind).record(took);
}

/// The first write after a change was sent.
pub(crate) fn change_to_write(span: Duration) {
    histogram!(CHANGE_TO_WRITE).record(span);
}

/// A pair became Reserved after a change.
pub(crate) fn change_to_reserved(span: Duration) {
    histogram!(CHANGE_TO_RESERVED).record(span);
}

/// What this replica has, and how many there are.
pub(crate) fn membership(shards: usize, replicas: usize) {
    gauge!(SHARDS).set(shards as f64);
    gauge!(REPLICAS).set(replicas as f64);
}

pub(crate) fn shard_lost() {
    counter!(SHARDS_LOST).increment(1);
}

/// The worker of a shard panicked.
pub(crate) fn shard_broken() {
    counter!(SHARDS_BROKEN).increment(1);
}

/// A request for a Lease was answered.
pub(crate) fn lease_request(outcome: &'static str) {
    counter!(LEASE_REQUESTS, "outcome" => outcome).increment(1);
}

/// An Event was written.
pub(crate) fn event(reason: &'static str) {
    counter!(EVENTS, "reason" => reason).increment(1);
}
