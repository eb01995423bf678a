//! The table of windows, and that an agenda says what the windows say.

use proptest::prelude::{ProptestConfig, Strategy as _, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;
use crate::domain::testing::{api_order, order};

const CREATED: &str = "2026-05-01T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn timed(strategy: Value, duration: Option<&str>, start: Option<&str>) -> Order {
    let template = json!({ "spec": { "duration": duration, "startTime": start } });
    let mut order = api_order("o", json!({ "strategy": strategy, "template": template }));
    order.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(CREATED)));
    Order::from_api(&order)
}

/// `start end`, with `+` where another window follows at once, and `...` if it never ends.
fn words(window: Option<Window>) -> String {
    let Some(window) = window else {
        return "none".to_owned();
    };
    let end = window.end.map_or("...".to_owned(), |end| end.to_string());
    let follows = if window.followed { "+" } else { "" };
    format!("{} {end}{follows}", window.start)
}

/// The window at a time (in brackets if it is over), and the next.
fn around(order: &Order, time: &str) -> String {
    let (windows, time) = (Windows::of(order).unwrap(), at(time));
    let latest = words(windows.latest(time));
    let over = windows.latest(time).is_some_and(|latest| !latest.contains(time));
    let latest = if over { format!("[{latest}]") } else { latest };
    format!("{latest}, {}", words(windows.next(time)))
}

#[test]
fn one_time() {
    let forever = timed(json!({}), None, None);
    let always = timed(json!({ "refreshPolicy": "Always" }), None, None);
    for order in [&forever, &always] {
        assert_eq!(
            around(order, "2026-05-01T11:59:59Z"),
            format!("none, {CREATED} ...")
        );
        assert_eq!(around(order, CREATED), format!("{CREATED} ..., none"));
        assert_eq!(Windows::of(order).unwrap().close(), None);
    }
    let day = timed(json!({}), Some("24h"), None);
    assert_eq!(
        around(&day, CREATED),
        "2026-05-01T12:00:00Z 2026-05-02T12:00:00Z, none"
    );
    assert_eq!(
        around(&day, "2026-05-02T12:00:00Z"),
        "[2026-05-01T12:00:00Z 2026-05-02T12:00:00Z], none"
    );
    assert_eq!(
        Windows::of(&day).unwrap().close(),
        Some(at("2026-05-02T12:00:00Z"))
    );
}

#[test]
fn one_time_always_is_back_to_back() {
    let order = timed(json!({ "refreshPolicy": "Always" }), Some("90m"), None);
    assert_eq!(
        around(&order, "2026-05-01T13:29:59.999Z"),
        "2026-05-01T12:00:00Z 2026-05-01T13:30:00Z+, 2026-05-01T13:30:00Z 2026-05-01T15:00:00Z+"
    );
    assert_eq!(
        around(&order, "2026-05-02T12:00:00Z"),
        "2026-05-02T12:00:00Z 2026-05-02T13:30:00Z+, 2026-05-02T13:30:00Z 2026-05-02T15:00:00Z+"
    );
    assert_eq!(Windows::of(&order).unwrap().close(), None);
}

#[test]
fn start_time_counts_if_it_is_later_than_the_creation() {
    let early = timed(json!({}), Some("1h"), Some("2026-04-01T00:00:00Z"));
    assert_eq!(
        around(&early, CREATED),
        "2026-05-01T12:00:00Z 2026-05-01T13:00:00Z, none"
    );
    let late = timed(json!({}), Some("1h"), Some("2026-06-01T00:00:00.7Z"));
    assert_eq!(
        around(&late, CREATED),
        "none, 2026-06-01T00:00:00Z 2026-06-01T01:00:00Z"
    );
    let daily = json!({ "type": "Scheduled", "schedule": "@daily" });
    let late = timed(daily.clone(), Some("1h"), Some("2026-06-01T00:00:00Z"));
    assert_eq!(
        around(&late, CREATED),
        "none, 2026-06-01T00:00:00Z 2026-06-01T01:00:00Z"
    );
    let late = timed(daily, Some("1h"), Some("2026-06-01T00:00:01Z"));
    assert_eq!(
        around(&late, "2026-06-01T12:00:00Z"),
        "none, 2026-06-02T00:00:00Z 2026-06-02T01:00:00Z"
    );
}

#[test]
fn scheduled_begins_at_ticks_alone() {
    let order = timed(
        json!({ "type": "Scheduled", "schedule": "0 18 * * *" }),
        Some("2h"),
        None,
    );
    assert_eq!(
        around(&order, CREATED),
        "none, 2026-05-01T18:00:00Z 2026-05-01T20:00:00Z"
    );
    assert_eq!(
        around(&order, "2026-05-01T18:00:00Z"),
        "2026-05-01T18:00:00Z 2026-05-01T20:00:00Z, 2026-05-02T18:00:00Z 2026-05-02T20:00:00Z"
    );
    assert_eq!(
        around(&order, "2026-05-02T00:00:00Z"),
        "[2026-05-01T18:00:00Z 2026-05-01T20:00:00Z], 2026-05-02T18:00:00Z 2026-05-02T20:00:00Z"
    );
    // A tick at the very beginning counts.
    let order = timed(
        json!({ "type": "Scheduled", "schedule": "0 12 * * *" }),
        Some("2h"),
        None,
    );
    assert_eq!(
        around(&order, CREATED),
        "2026-05-01T12:00:00Z 2026-05-01T14:00:00Z, 2026-05-02T12:00:00Z 2026-05-02T14:00:00Z"
    );
}

#[test]
fn a_new_tick_cuts_the_old_window_off() {
    for kind in ["Scheduled", "Recurring"] {
        let order = timed(json!({ "type": kind, "schedule": "0 * * * *" }), Some("8h"), None);
        assert_eq!(
            around(&order, "2026-05-01T13:30:00Z"),
            "2026-05-01T13:00:00Z 2026-05-01T14:00:00Z+, 2026-05-01T14:00:00Z 2026-05-01T15:00:00Z+",
            "{kind}"
        );
    }
    let exact = timed(
        json!({ "type": "Scheduled", "schedule": "0 * * * *" }),
        Some("1h"),
        None,
    );
    assert_eq!(
        around(&exact, "2026-05-01T13:30:00Z"),
        "2026-05-01T13:00:00Z 2026-05-01T14:00:00Z+, 2026-05-01T14:00:00Z 2026-05-01T15:00:00Z+"
    );
}

#[test]
fn recurring_has_an_anchor_at_the_beginning() {
    let strategy = json!({ "type": "Recurring", "schedule": "0 */6 * * *" });
    let whole = timed(strategy.clone(), None, Some("2026-05-01T13:00:00Z"));
    assert_eq!(
        around(&whole, "2026-05-01T14:00:00Z"),
        "2026-05-01T13:00:00Z 2026-05-01T18:00:00Z+, 2026-05-01T18:00:00Z 2026-05-02T00:00:00Z+"
    );
    let short = timed(strategy, Some("2h"), Some("2026-05-01T13:00:00Z"));
    assert_eq!(
        around(&short, "2026-05-01T16:00:00Z"),
        "[2026-05-01T13:00:00Z 2026-05-01T15:00:00Z], 2026-05-01T18:00:00Z 2026-05-01T20:00:00Z"
    );
    let always = timed(
        json!({ "type": "Recurring", "schedule": "0 */6 * * *", "refreshPolicy": "Always" }),
        Some("2h"),
        None,
    );
    assert_eq!(
        around(&always, "2026-05-01T16:00:00Z"),
        "2026-05-01T12:00:00Z 2026-05-01T18:00:00Z+, 2026-05-01T18:00:00Z 2026-05-02T00:00:00Z+"
    );
}

#[test]
fn windows_follow_the_zone_through_changes_of_the_clocks() {
    let berlin = json!({ "type": "Scheduled", "schedule": "30 2 * * *", "timeZone": "Europe/Berlin" });
    let order = timed(berlin.clone(), Some("1h"), Some("2027-03-27T12:00:00Z"));
    // On 28 March there is no 02:30.
    assert_eq!(
        around(&order, "2027-03-28T12:00:00Z"),
        "none, 2027-03-29T00:30:00Z 2027-03-29T01:30:00Z"
    );
    // On 25 October there are two, an hour apart.
    let order = timed(berlin, Some("1h"), Some("2026-10-24T12:00:00Z"));
    assert_eq!(
        around(&order, "2026-10-25T00:45:00Z"),
        "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z+, 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z"
    );
}

#[test]
fn the_far_future_has_no_end() {
    let order = timed(json!({}), Some("2540400h"), Some("9900-01-01T00:00:00Z"));
    let windows = Windows::of(&order).unwrap();
    assert_eq!(words(windows.next(at(CREATED))), "9900-01-01T00:00:00Z ...");
    assert_eq!(windows.close(), None);
    let order = timed(
        json!({ "refreshPolicy": "Always" }),
        Some("2540400h"),
        Some("9900-01-01T00:00:00Z"),
    );
    let next = Windows::of(&order).unwrap().next(at("9950-01-01T00:00:00Z"));
    assert_eq!(words(next), "none");
    let order = timed(json!({ "type": "Recurring", "schedule": "@daily" }), None, None);
    let last = Windows::of(&order).unwrap().latest(at("9000-01-01T00:00:00Z"));
    assert_eq!(last.unwrap().end, None);
}

#[test]
fn fractions_of_a_second_round_up() {
    let order = timed(json!({}), Some("1.5s"), None);
    assert_eq!(
        around(&order, CREATED),
        "2026-05-01T12:00:00Z 2026-05-01T12:00:02Z, none"
    );
}

#[test]
fn an_invalid_order_has_no_windows() {
    let order = order(
        "o",
        json!({ "strategy": { "type": "Recurring", "schedule": "whenever" } }),
    );
    assert!(Windows::of(&order).is_none());
    assert!(Agenda::at(&Arc::new(order), at(CREATED)).is_none());
}

fn any_order() -> impl proptest::strategy::Strategy<Value = Order> {
    let kinds = prop::sample::select(vec!["OneTime", "Scheduled", "Recurring"]);
    let schedules = prop::sample::select(vec!["*/7 * * * *", "0 * * * *", "30 2 * * *", "0 9-17 * * 1-5"]);
    let durations = prop::sample::select(vec![None, Some("90s"), Some("20m"), Some("1h"), Some("26h")]);
    let policies = prop::sample::select(vec!["Always", "OnClaim"]);
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin"]);
    (kinds, schedules, durations, policies, zones).prop_map(|(kind, schedule, duration, policy, zone)| {
        let duration = duration.or((kind == "Scheduled").then_some("3h"));
        let mut strategy = json!({ "type": kind, "refreshPolicy": policy, "timeZone": zone });
        if kind != "OneTime" {
            strategy["schedule"] = json!(schedule);
        }
        timed(strategy, duration, None)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Windows neither overlap nor leave out what they say, and what follows one is what follows it.
    #[test]
    fn windows_are_in_order(order in any_order(), second in 0i64..15_000_000) {
        let (windows, now) = (Windows::of(&order).unwrap(), at(CREATED) + second.seconds());
        let (latest, next) = (windows.latest(now), windows.next(now));
        prop_assert!(latest.is_none_or(|latest| latest.start <= now));
        prop_assert!(next.is_none_or(|next| next.start > now));
        if let (Some(latest), Some(next)) = (latest, next) {
            prop_assert!(latest.end.is_some_and(|end| end <= next.start));
            prop_assert_eq!(latest.followed, latest.end == Some(next.start));
            prop_assert_eq!(windows.latest(next.start), Some(next));
            prop_assert_eq!(windows.latest(next.start - 1.nanosecond()), Some(latest));
        }
    }

    #[test]
    fn an_agenda_says_what_the_windows_say(order in any_order(), second in 0i64..3_000_000, ahead in 0i64..200_000) {
        let order = Arc::new(order);
        let (windows, now) = (Windows::of(&order).unwrap(), at(CREATED) + second.seconds());
        let agenda = Agenda::at(&order, now).unwrap();
        let there = now + (ahead - 100_000).seconds();
        prop_assert_eq!(agenda.latest(there), windows.latest(there));
        prop_assert_eq!(agenda.current, windows.latest(now).filter(|latest| latest.contains(now)));
        let then = Agenda::at(&order, there).unwrap();
        let same = (agenda.current, agenda.previous, agenda.next) == (then.current, then.previous, then.next);
        prop_assert_eq!(agenda.holds(&order, there), same);
    }
}
