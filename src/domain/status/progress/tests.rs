//! Conditions of a roll-out, step by step.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    api::order::Grant,
    domain::testing::{at, order},
};

/// Two shards of five nodes, of which these are stale, rolling and updated.
type Shards = [(u32, u32, u32); 2];

/// What is said over time, one owner after another.
struct Story {
    order: Order,
    pace: Pace,
    written: OrderStatus,
    reason: &'static str,
}

impl Story {
    fn new() -> Self {
        let strategy = json!({ "updateStrategy": { "maxUnavailable": 2 } });
        Self {
            order: order("o", strategy),
            pace: Pace::default(),
            written: OrderStatus::default(),
            reason: "InsufficientResources",
        }
    }

    /// `Progressing Stalled` at this second, and when it is looked at again.
    fn at(&mut self, second: i64, shards: Shards, caps: [u32; 2]) -> String {
        let counts = shards.map(|(stale, rolling, updated)| OrderCounts {
            desired: 5,
            reserved: stale + updated,
            stale,
            rolling,
            updated,
            ..OrderCounts::default()
        });
        let grants = (0u16..)
            .zip(caps)
            .map(|(shard, count)| Grant { shard, count, seq: 1 });
        let rollout = Rollout {
            template_hash: self.order.spec.as_ref().unwrap().template.hash.to_string(),
            seq: 1,
            grants: grants.collect(),
        };
        let standing = Standing::of(&self.order, (0u16..).zip(&counts), Some(&rollout));
        let mut status = OrderStatus {
            updated_replicas: counts.iter().map(|counts| counts.updated).sum(),
            rollout: Some(rollout),
            unavailable_reasons: vec![
                UnavailableReason {
                    reason: "RollingOut".to_owned(),
                    count: 2,
                    node: "n1".to_owned(),
                },
                UnavailableReason {
                    reason: self.reason.to_owned(),
                    count: 1,
                    node: "n2".to_owned(),
                },
            ],
            ..OrderStatus::default()
        };
        let now = Now {
            server: at(second),
            mono: Mono(Duration::from_secs(u64::try_from(second).unwrap())),
        };
        let wake = self
            .pace
            .note(&standing, &self.order, &self.written, &mut status, now);
        let words: Vec<_> = status.conditions.iter().map(|known| &*known.reason).collect();
        let said = format!("{} {:?}", words.join(" "), wake.map(|wake| wake.0.as_secs()));
        self.written = status;
        said
    }
}

#[test]
fn a_roll_out_has_stalled_after_two_minutes_with_all_its_grants_and_without_progress() {
    let mut story = Story::new();
    let none = [0, 0];
    assert_eq!(
        story.at(0, [(0, 0, 5), (0, 0, 5)], none),
        "UpToDate NotStalled None"
    );
    assert_eq!(
        story.at(10, [(5, 0, 0), (5, 0, 0)], none),
        "RollingOut NotStalled None"
    );
    assert_eq!(
        story.at(11, [(4, 1, 0), (4, 1, 0)], [1, 1]),
        "RollingOut NotStalled Some(131)"
    );
    assert_eq!(
        story.at(60, [(4, 0, 1), (4, 1, 0)], [1, 1]),
        "RollingOut NotStalled Some(180)",
        "one more has the new template"
    );
    assert_eq!(
        story.at(179, [(3, 1, 1), (4, 1, 0)], [1, 1]),
        "RollingOut NotStalled Some(180)"
    );
    assert_eq!(
        story.at(180, [(3, 1, 1), (4, 1, 0)], [1, 1]),
        "RollingOut InsufficientResources None"
    );
    let said = &story.written.conditions[1];
    assert_eq!(said.status, "True");
    assert!(
        said.message.starts_with("2 of 9 Tickets") && said.message.contains("on node n2"),
        "{}",
        said.message
    );
    assert_eq!(
        story.at(200, [(3, 0, 2), (4, 1, 0)], [1, 1]),
        "RollingOut NotStalled Some(320)"
    );
    assert_eq!(
        story.at(300, [(0, 0, 5), (0, 0, 5)], none),
        "UpToDate NotStalled None"
    );
}

#[test]
fn who_takes_over_goes_on_saying_that_it_has_stalled() {
    let mut story = Story::new();
    let stuck = [(4, 1, 0), (4, 1, 0)];
    story.at(0, stuck, [1, 1]);
    assert_eq!(
        story.at(120, stuck, [1, 1]),
        "RollingOut InsufficientResources None"
    );
    story.pace = Pace::default();
    assert_eq!(
        story.at(5, stuck, [1, 1]),
        "RollingOut InsufficientResources None"
    );
    story.reason = "Reserving";
    assert_eq!(story.at(6, stuck, [1, 1]), "RollingOut NoProgress None");
}

#[test]
fn what_is_paused_or_waits_for_grants_has_not_stalled() {
    let mut story = Story::new();
    story.at(0, [(5, 0, 0), (5, 0, 0)], [1, 0]);
    assert_eq!(
        story.at(500, [(5, 0, 0), (5, 0, 0)], [1, 0]),
        "RollingOut NotStalled None"
    );
    story.order.paused = true;
    story.at(501, [(4, 1, 0), (4, 1, 0)], [1, 1]);
    assert_eq!(
        story.at(900, [(4, 1, 0), (4, 1, 0)], [1, 1]),
        "Paused NotStalled None"
    );
}

#[test]
fn what_is_under_way_when_the_order_is_paused_is_not_up_to_date() {
    let mut counts = OrderCounts {
        desired: 5,
        reserved: 4,
        updated: 4,
        rolling: 1,
        ..OrderCounts::default()
    };
    let story = Story::new();
    let left = |counts: &OrderCounts| {
        let shards = [(0u16, counts)];
        Standing::of(&story.order, shards.into_iter(), None).left
    };
    assert_eq!(left(&counts), 0, "a Guardian was lost");
    counts.reasons = vec![UnavailableReason {
        reason: "RollingOut".to_owned(),
        count: 1,
        node: "n1".to_owned(),
    }];
    assert_eq!(left(&counts), 1);
}

#[test]
fn the_last_tickets_of_a_roll_out_are_not_forgotten() {
    let mut story = Story::new();
    assert_eq!(
        story.at(0, [(0, 1, 4), (0, 0, 5)], [1, 0]),
        "RollingOut NotStalled Some(120)"
    );
    assert_eq!(
        story.at(1, [(0, 1, 4), (0, 0, 5)], [0, 0]),
        "UpToDate NotStalled None",
        "a pair that lost its Guardian when there was nothing to replace"
    );
}
