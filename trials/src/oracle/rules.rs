//! What a pair deserves at present by eligibility, windows and graces, and from when on its open Ticket may go.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::windows;
use testbed::{
    eligibility::{Fault, NOT_READY, UNREACHABLE, faults},
    object::{at, condition, deleting, items, text},
};

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
    for fault in faults(spec, node) {
        let since = |taint| time(taint, "/timeAdded").unwrap_or(now);
        ends.push(match fault {
            Fault::NotReady => ready_ends(spec, node, grace, now),
            Fault::Untolerated(taint) if PRESSURE.contains(&text(taint, "/key")) => {
                after(since(taint), grace)
            }
            Fault::ForAWhile(taint, seconds) => {
                after(since(taint), SignedDuration::from_secs(seconds.max(0)))
            }
            _ => Some(Timestamp::MIN),
        });
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
    let condition = condition(node, "Ready");
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
