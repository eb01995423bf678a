//! Eligibility by the rules, on plain objects: what a pair deserves at present, and from when on its
//! open Ticket may go.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::windows;
use testbed::sim::actors::{at, deleting, fit, items, text};

/// What the rules say of an Order and a Node at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deserves {
    /// A Ticket.
    Ticket,
    /// No Ticket, as no window is open: an open one expires.
    Closed,
    /// No new Ticket; an open one stays until then, or for ever.
    Until(Option<Timestamp>),
    /// Nothing is decided: what there is stays.
    AsItIs,
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const PRESSURE: [&str; 4] = [
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];

/// What the pair of `order` and `node` deserves at `now`; `grace` is the flag's.
pub fn deserves(order: &Value, node: &Value, grace: SignedDuration, now: Timestamp) -> Deserves {
    if deleting(order) {
        return Deserves::Until(Some(Timestamp::MIN));
    }
    if !valid(order) {
        return Deserves::AsItIs;
    }
    let spec = at(order, "/spec/template/spec").unwrap_or(&Value::Null);
    let mut ends: Vec<Option<Timestamp>> = Vec::new();
    if !fit::ready(node) {
        ends.push(ready_ends(spec, node, grace, now));
    }
    if at(node, "/spec/unschedulable") == Some(&Value::Bool(true)) || !fit::selected(node, spec) {
        ends.push(Some(Timestamp::MIN));
    }
    let tolerations = items(spec, "/tolerations");
    let left_out = |taint: &&Value| ![NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&text(taint, "/key"));
    for taint in fit::taints(node).filter(left_out) {
        let added = time(taint, "/timeAdded").unwrap_or(now);
        match fit::tolerates(tolerations, taint) {
            None if PRESSURE.contains(&text(taint, "/key")) => ends.push(after(added, grace)),
            None => ends.push(Some(Timestamp::MIN)),
            Some(toleration) if text(taint, "/effect") == "NoExecute" => {
                let seconds = toleration.get("tolerationSeconds").and_then(Value::as_i64);
                ends.extend(seconds.map(|seconds| after(added, SignedDuration::from_secs(seconds.max(0)))));
            }
            Some(_) => {}
        }
    }
    if ends.is_empty() {
        return match windows::current(order, now) {
            Some(_) => Deserves::Ticket,
            None => Deserves::Closed,
        };
    }
    if at(order, "/spec/paused") == Some(&Value::Bool(true)) {
        return Deserves::AsItIs;
    }
    Deserves::Until(ends.into_iter().flatten().min())
}

/// Whether an Order asks for new Tickets at all.
pub fn asks(order: &Value) -> bool {
    !deleting(order) && valid(order) && at(order, "/spec/paused") != Some(&Value::Bool(true))
}

/// Users here get only the schedule wrong.
pub fn valid(order: &Value) -> bool {
    let schedule = text(order, "/spec/strategy/schedule");
    text(order, "/spec/strategy/type") == "OneTime" || schedule.split_whitespace().count() == 5
}

/// When a NotReady node's Ticket may go: by the Order's tolerations, else by the grace.
fn ready_ends(spec: &Value, node: &Value, grace: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let condition = fit::condition(node, "Ready");
    let since = condition
        .and_then(|ready| time(ready, "/lastTransitionTime"))
        .unwrap_or(now);
    let unknown = condition.is_some_and(|ready| text(ready, "/status") == "Unknown");
    let keys = if unknown {
        [UNREACHABLE, NOT_READY]
    } else {
        [NOT_READY, UNREACHABLE]
    };
    let named = |key: &str| {
        items(spec, "/tolerations").iter().find(|toleration| {
            text(toleration, "/key") == key && matches!(text(toleration, "/effect"), "" | "NoExecute")
        })
    };
    match keys.iter().find_map(|key| named(key)) {
        None => after(since, grace),
        Some(toleration) => {
            let seconds = toleration.get("tolerationSeconds").and_then(Value::as_i64)?;
            after(since, SignedDuration::from_secs(seconds.max(0)))
        }
    }
}

fn after(since: Timestamp, span: SignedDuration) -> Option<Timestamp> {
    since.saturating_add(span).ok()
}

fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}
