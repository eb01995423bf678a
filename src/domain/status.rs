//! The status of an Order: sums of counts, conditions, the reasons behind what is missing.
//!
//! Pure. What there is to say of a roll-out is added by `rollout::progress`. A condition keeps its transition time while its status stays.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::order::Order;
use crate::api::{OrderStatus, order::UnavailableReason, shard::OrderCounts};

/// How many reasons a status names.
const REASONS: usize = 5;

/// The status of `order` by what its shards count, `before` being the one so far.
pub fn of<'a>(
    order: &Order,
    shards: impl Iterator<Item = &'a OrderCounts> + Clone,
    before: &OrderStatus,
    now: Timestamp,
) -> OrderStatus {
    let sum = |field: fn(&OrderCounts) -> u32| shards.clone().map(field).sum::<u32>();
    let mut status = OrderStatus {
        observed_generation: shards
            .clone()
            .map(|counts| counts.generation)
            .min()
            .unwrap_or_default(),
        replicas: sum(|counts| counts.desired),
        available_replicas: sum(|counts| counts.reserved),
        claimed_replicas: sum(|counts| counts.claimed),
        terminal_replicas: sum(|counts| counts.released + counts.expired),
        unavailable_replicas: sum(|counts| counts.unavailable),
        updated_replicas: sum(|counts| counts.updated),
        unavailable_reasons: reasons(shards.clone()),
        ..OrderStatus::default()
    };
    let (ready, reason, said) = ready(order, &status);
    status.conditions = vec![condition("Ready", ready, reason, said, order, before, now)];
    status
}

/// The first reason that holds.
fn ready(order: &Order, status: &OrderStatus) -> (&'static str, &'static str, String) {
    if let Err(problems) = &order.spec {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return ("False", "InvalidSpec", problems.join("; "));
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

/// A condition; it keeps its transition time while its status stays.
pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    order: &Order,
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
        observed_generation: Some(order.generation),
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
