//! What is said of windows, from Order to status, in virtual time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::testing::{at, order};

/// An Order whose status is written every second.
struct Rig {
    order: Arc<Order>,
    status: OrderStatus,
}

impl Rig {
    fn new(strategy: Value, template: Value) -> Self {
        let spec = json!({ "strategy": strategy, "template": { "spec": template } });
        Self {
            order: Arc::new(order("o", spec)),
            status: OrderStatus::default(),
        }
    }

    /// `reason replicas/unavailable next ending` at a second, and the Events of it.
    fn at(&mut self, second: i64) -> (String, Vec<String>) {
        let counts = OrderCounts {
            desired: 3,
            reserved: 2,
            unavailable: 1,
            ..OrderCounts::default()
        };
        let agenda = Agenda::at(&self.order, at(second));
        let after = of(
            &self.order,
            agenda.as_ref(),
            [&counts].into_iter(),
            &self.status,
            at(second),
        );
        let told = events(agenda.as_ref(), &self.status, &after, at(second)).into_iter();
        let condition = |kind: &str| after.conditions.iter().find(|one| one.type_ == kind).cloned();
        let ready = condition("Ready").unwrap();
        let next = after
            .next_schedule_time
            .as_ref()
            .map_or(0, |next| next.0.as_second());
        let ending = condition("Ending").map_or_else(|| "-".to_owned(), |ending| ending.status);
        let (due, missing) = (after.replicas, after.unavailable_replicas);
        assert!(after.unavailable_reasons.is_empty());
        self.status = after;
        (
            format!("{} {due}/{missing} {next} {ending}", ready.reason),
            told.map(|(reason, message)| format!("{reason}: {message}"))
                .collect(),
        )
    }
}

fn quiet(said: &str) -> (String, Vec<String>) {
    (said.to_owned(), Vec::new())
}

fn told(said: &str, event: &str) -> (String, Vec<String>) {
    (said.to_owned(), vec![event.to_owned()])
}

#[test]
fn a_schedule_is_outside_its_window_most_of_the_time() {
    let strategy = json!({ "type": "Scheduled", "schedule": "*/10 * * * *" });
    let mut rig = Rig::new(strategy, json!({ "duration": "300s" }));
    let opened = "WindowOpened: the window from 1970-01-01T00:10:00Z to 1970-01-01T00:15:00Z is open";
    let closed = "WindowClosed: no window is open; the next opens at 1970-01-01T00:20:00Z";
    assert_eq!(rig.at(500), quiet("OutsideWindow 0/0 600 -"));
    assert_eq!(
        rig.status.conditions[0].message,
        "the next window opens at 1970-01-01T00:10:00Z"
    );
    assert_eq!(rig.at(600), told("Reserving 3/1 1200 -", opened));
    assert_eq!(rig.at(601), quiet("Reserving 3/1 1200 -"));
    assert_eq!(rig.at(900), told("OutsideWindow 0/0 1200 -", closed));
    assert_eq!(rig.at(901), quiet("OutsideWindow 0/0 1200 -"));
}

#[test]
fn windows_back_to_back_open_and_never_close() {
    let strategy = json!({ "type": "Recurring", "schedule": "*/10 * * * *" });
    let mut rig = Rig::new(strategy, json!({}));
    let opened = |start: &str, end: &str| {
        format!("WindowOpened: the window from 1970-01-01T{start}Z to 1970-01-01T{end}Z is open")
    };
    assert_eq!(
        rig.at(1),
        told("Reserving 3/1 600 -", &opened("00:00:00", "00:10:00"))
    );
    assert_eq!(rig.at(599), quiet("Reserving 3/1 600 -"));
    assert_eq!(
        rig.at(600),
        told("Reserving 3/1 1200 -", &opened("00:10:00", "00:20:00"))
    );
    // Ticks that nobody has seen are not told of.
    assert_eq!(
        rig.at(36_605),
        told("Reserving 3/1 37200 -", &opened("10:10:00", "10:20:00"))
    );
}

#[test]
fn the_end_is_announced_an_hour_before_and_completes_the_order() {
    let mut rig = Rig::new(
        json!({}),
        json!({ "duration": "10000s", "startTime": "1970-01-01T00:00:10Z" }),
    );
    assert_eq!(rig.at(5), quiet("OutsideWindow 0/0 10 False"));
    assert_eq!(rig.at(10).0, "Reserving 3/1 0 False");
    assert_eq!(rig.at(6409), quiet("Reserving 3/1 0 False"));
    let ending = "Ending: the last window closes at 1970-01-01T02:46:50Z; no other follows";
    assert_eq!(rig.at(6410), told("Reserving 3/1 0 True", ending));
    assert_eq!(rig.at(6411), quiet("Reserving 3/1 0 True"));
    let closed = "WindowClosed: no window is open; none follows";
    assert_eq!(rig.at(10_010), told("Completed 0/0 0 True", closed));
    assert_eq!(rig.at(10_011), quiet("Completed 0/0 0 True"));
}

#[test]
fn room_for_ever_has_no_window_to_speak_of() {
    for policy in ["OnClaim", "Always"] {
        let mut rig = Rig::new(json!({ "refreshPolicy": policy }), json!({}));
        assert_eq!(rig.at(5), quiet("Reserving 3/1 0 -"));
    }
}

#[test]
fn an_invalid_spec_is_all_there_is_to_say() {
    let mut rig = Rig::new(json!({ "type": "Recurring", "schedule": "whenever" }), json!({}));
    let problem = "spec.strategy.schedule: \"whenever\"";
    let (said, events) = rig.at(5);
    assert_eq!(said, "InvalidSpec 3/1 0 -");
    assert!(
        matches!(&events[..], [one] if one.starts_with(&format!("InvalidSpec: {problem}"))),
        "{events:?}"
    );
    assert_eq!(rig.at(6), quiet("InvalidSpec 3/1 0 -"));
}

#[test]
fn a_spec_that_was_repaired_is_not_ready_before_all_shards_have_counted_for_it() {
    let mut invalid = order(
        "o",
        json!({ "strategy": { "type": "Recurring", "schedule": "whenever" } }),
    );
    invalid.generation = 4;
    let mut repaired = order("o", json!({}));
    repaired.generation = 5;
    let counts = |generation, desired| OrderCounts {
        generation,
        desired,
        reserved: 9,
        ..OrderCounts::default()
    };
    let ready = |order: &Order, counts: &[OrderCounts], before: &OrderStatus| {
        let agenda = Agenda::at(&Arc::new(order.clone()), at(5));
        of(order, agenda.as_ref(), counts.iter(), before, at(5))
    };
    let said = |status: &OrderStatus| {
        let ready = &status.conditions[0];
        (ready.reason.clone(), ready.observed_generation)
    };
    let before = ready(&invalid, &[counts(4, 0), counts(4, 0)], &OrderStatus::default());
    assert_eq!(said(&before), ("InvalidSpec".to_owned(), Some(4)));
    for counted in [[counts(4, 0), counts(4, 0)], [counts(5, 9), counts(4, 0)]] {
        let status = ready(&repaired, &counted, &before);
        assert_eq!(said(&status), ("InvalidSpec".to_owned(), Some(4)));
    }
    let status = ready(&repaired, &[counts(5, 9), counts(5, 9)], &before);
    assert_eq!(said(&status), ("AllReserved".to_owned(), Some(5)));
    repaired.generation = 6;
    let mut missing = counts(6, 9);
    missing.unavailable = 2;
    let lags = ready(&repaired, &[missing, counts(5, 9)], &status);
    assert_eq!(
        said(&lags),
        ("Reserving".to_owned(), Some(5)),
        "what is missing is said at once"
    );
    let lags = ready(&repaired, &[counts(6, 9), counts(5, 9)], &lags);
    assert_eq!(
        said(&lags),
        ("Reserving".to_owned(), Some(5)),
        "what is there is not"
    );
}

#[test]
fn the_status_is_looked_at_again_when_a_window_or_the_warning_begins() {
    let rig = Rig::new(json!({}), json!({ "duration": "10000s" }));
    let changes = |second| {
        let agenda = Agenda::at(&rig.order, at(second)).unwrap();
        changes_at(&agenda, at(second)).map(Timestamp::as_second)
    };
    assert_eq!(changes(0), Some(6400));
    assert_eq!(changes(6400), Some(10_000));
    assert_eq!(changes(10_000), None);
}
