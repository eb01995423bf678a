//! The status of an Order: sums of counts, conditions, the reasons behind what is missing.
//!
//! Pure. What there is to say of a roll-out is added by `progress`. A condition keeps its transition time
//! while its status stays. What shards count does not depend on windows; what is said of their counts does.

pub(crate) mod progress;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::order::{spec::Order, window::Agenda};
use crate::api::{OrderStatus, order::UnavailableReason, shard::OrderCounts};

/// How many reasons a status names.
const REASONS: usize = 5;
/// How long before the last window closes that is said.
const ENDING: Duration = Duration::from_secs(3600);
/// Reason of the condition Ready, and of an Event.
const INVALID: &str = "InvalidSpec";
/// Reasons of the condition Ready while no window is open.
const CLOSED: [&str; 2] = ["OutsideWindow", "Completed"];

/// The status of `order` by what its shards count, `before` being the one so far; `agenda` is the
/// Order's at `now`, none if its spec is invalid.
pub(crate) fn of<'a>(
    order: &Order,
    agenda: Option<&Agenda>,
    shards: impl Iterator<Item = &'a OrderCounts> + Clone,
    before: &OrderStatus,
    now: Timestamp,
) -> OrderStatus {
    let sum = |field: fn(&OrderCounts) -> u32| shards.clone().map(field).sum::<u32>();
    let closed = agenda.is_some_and(|agenda| agenda.current.is_none());
    let due = |field| if closed { 0 } else { sum(field) };
    let mut status = OrderStatus {
        observed_generation: shards
            .clone()
            .map(|counts| counts.generation)
            .min()
            .unwrap_or_default(),
        replicas: due(|counts| counts.desired),
        available_replicas: sum(|counts| counts.reserved),
        claimed_replicas: sum(|counts| counts.claimed),
        terminal_replicas: sum(|counts| counts.released + counts.expired),
        unavailable_replicas: due(|counts| counts.unavailable),
        updated_replicas: sum(|counts| counts.updated),
        unavailable_reasons: if closed {
            Vec::new()
        } else {
            reasons(shards.clone())
        },
        next_schedule_time: agenda.and_then(|agenda| agenda.next).map(|next| Time(next.start)),
        ..OrderStatus::default()
    };
    let (ready, reason, said) = ready(order, agenda, &status);
    let generation = match &order.spec {
        // Counts say nothing of that.
        Err(_) => order.generation,
        Ok(_) => status.observed_generation,
    };
    let known = before.conditions.iter().find(|known| known.type_ == "Ready");
    status.conditions = vec![
        match known.filter(|known| too_early(order, &status, known, reason)) {
            Some(known) => known.clone(),
            None => condition("Ready", ready, reason, said, generation, before, now),
        },
    ];
    if let Some(close) = agenda.and_then(Agenda::close) {
        let (ending, word, message) = ending(close, now);
        let condition = condition("Ending", ending, word, message, order.generation, before, now);
        status.conditions.push(condition);
    }
    status
}

/// Whether what was said before stays. Shards that have not counted for the present spec yet counted for another, or,
/// if that was invalid, nothing: what holds of all nodes can be said only once every shard has.
fn too_early(order: &Order, status: &OrderStatus, known: &Condition, reason: &str) -> bool {
    let of_counts = reason != INVALID && !CLOSED.contains(&reason);
    let of_all = ["AllReserved", "NoEligibleNodes"].contains(&reason) || known.reason == INVALID;
    status.observed_generation < order.generation && of_counts && of_all
}

fn ending(close: Timestamp, now: Timestamp) -> (&'static str, &'static str, String) {
    if close <= now {
        ("True", "Ended", format!("the last window closed at {close}"))
    } else if warned_from(close) <= now {
        ("True", "EndsSoon", format!("the last window closes at {close}"))
    } else {
        ("False", "InTime", format!("the last window closes at {close}"))
    }
}

fn warned_from(close: Timestamp) -> Timestamp {
    close.checked_sub(ENDING).unwrap_or(Timestamp::MIN)
}

/// When the status may change although nothing else does.
pub(crate) fn changes_at(agenda: &Agenda, now: Timestamp) -> Option<Timestamp> {
    let warning = agenda.close().map(warned_from).filter(|at| now < *at);
    agenda.until().into_iter().chain(warning).min()
}

/// What has happened to the Order between two of its statuses, as reason and message of Events; `agenda` as above.
pub(crate) fn events(
    agenda: Option<&Agenda>,
    before: &OrderStatus,
    after: &OrderStatus,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let mut news = agenda.map_or_else(Vec::new, |agenda| of_windows(agenda, before, after, now));
    for (kind, status, event) in [("Ready", "False", INVALID), ("Stalled", "True", STALLED)] {
        let is = |known: &&Condition| {
            let said = known.type_ == kind && known.status == status;
            said && (event != INVALID || known.reason == INVALID)
        };
        let [was, is] = [before, after].map(|of| of.conditions.iter().find(is));
        // Another problem of an invalid spec is news, too.
        let other = |was: &Condition| is.is_some_and(|is| event == INVALID && is.message != was.message);
        if was.is_none_or(other) {
            news.extend(is.map(|is| (event, is.message.clone())));
        }
    }
    news
}

fn of_windows(
    agenda: &Agenda,
    before: &OrderStatus,
    after: &OrderStatus,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let of = |status: &OrderStatus, kind| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|known| known.type_ == kind);
        found.map(|known| (known.reason.clone(), known.status == "True"))
    };
    let ready = of(before, "Ready").map(|(reason, _)| reason);
    let was_closed = ready.as_deref().is_some_and(|reason| CLOSED.contains(&reason));
    let tick = before
        .next_schedule_time
        .as_ref()
        .is_some_and(|next| next.0 <= now);
    let mut news = Vec::new();
    match (agenda.current, agenda.next) {
        (Some(window), _) if was_closed || tick || (ready.is_none() && window.end.is_some()) => {
            let start = window.start;
            let said = window.end.map_or_else(
                || format!("the window from {start} on is open"),
                |end| format!("the window from {start} to {end} is open"),
            );
            news.push((OPENED, said));
        }
        (None, next) if !was_closed && ready.is_some_and(|ready| ready != INVALID) => {
            let next = next.map_or_else(
                || "none follows".to_owned(),
                |next| format!("the next opens at {}", next.start),
            );
            news.push((CLOSED_EVENT, format!("no window is open; {next}")));
        }
        _ => {}
    }
    let ending = |status| of(status, "Ending").is_some_and(|(_, is)| is);
    if let (false, true, Some(close)) = (ending(before), ending(after), agenda.close())
        && now < close
    {
        news.push((
            ENDING_EVENT,
            format!("the last window closes at {close}; no other follows"),
        ));
    }
    news
}

/// Reasons of Events on windows.
const OPENED: &str = "WindowOpened";
const CLOSED_EVENT: &str = "WindowClosed";
const ENDING_EVENT: &str = "Ending";
/// Reason of an Event; the condition's type is the same.
const STALLED: &str = "Stalled";
/// Events that somebody should look into.
pub(crate) const WARNINGS: [&str; 2] = [INVALID, STALLED];

/// The first reason that holds.
fn ready(
    order: &Order,
    agenda: Option<&Agenda>,
    status: &OrderStatus,
) -> (&'static str, &'static str, String) {
    if let Err(problems) = &order.spec {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return ("False", INVALID, problems.join("; "));
    }
    if let Some(agenda) = agenda.filter(|agenda| agenda.current.is_none()) {
        return match (agenda.next, agenda.previous.and_then(|last| last.end)) {
            (Some(next), _) => {
                let message = format!("the next window opens at {}", next.start);
                ("False", CLOSED[0], message)
            }
            (None, Some(end)) => ("False", CLOSED[1], format!("the last window closed at {end}")),
            (None, None) => ("False", CLOSED[1], "no window opens any more".to_owned()),
        };
    }
    let (desired, missing) = (status.replicas, status.unavailable_replicas);
    let counted = format!(
        "{} of {desired} eligible nodes have their room",
        desired - missing.min(desired)
    );
    match (desired, missing) {
        (0, _) => {
            let how = format!(
                "`korder explain {} -n {}` says why",
                order.key.name, order.key.namespace
            );
            ("False", "NoEligibleNodes", format!("no node is eligible; {how}"))
        }
        (_, 0) => ("True", "AllReserved", counted),
        _ if order.paused => ("False", "Paused", counted),
        _ => ("False", "Reserving", counted),
    }
}

/// A condition, by what all shards have said of this generation; it keeps its transition time while its
/// status stays.
pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    generation: i64,
    before: &OrderStatus,
    now: Timestamp,
) -> Condition {
    let known = before
        .conditions
        .iter()
        .find(|known| known.type_ == kind && known.status == status);
    let since = known.map_or_else(
        || Time(Timestamp::from_second(now.as_second()).expect("seconds of a valid time")),
        |known| known.last_transition_time.clone(),
    );
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: Some(generation),
    }
}

fn reasons<'a>(shards: impl Iterator<Item = &'a OrderCounts>) -> Vec<UnavailableReason> {
    let mut sums = BTreeMap::<&str, UnavailableReason>::new();
    for reason in shards.flat_map(|counts| &counts.reasons) {
        let sum = sums.entry(&reason.reason).or_insert_with(|| UnavailableReason {
            count: 0,
            ..reason.clone()
        });
        sum.count += reason.count;
        if reason.node < sum.node {
            sum.node.clone_from(&reason.node);
        }
    }
    let mut reasons: Vec<_> = sums.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons.truncate(REASONS);
    reasons
}

#[cfg(test)]
mod tests;
