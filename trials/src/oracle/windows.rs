//! Windows by the rules, on plain objects, looked for minute by minute: slow, and nothing to get wrong.
//!
//! Ticks further away than 32 days are none here.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::Value;

use testbed::object::text;

/// How far ticks are looked for.
const FAR: SignedDuration = SignedDuration::from_hours(24 * 32);
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// How long after its creation a Ticket that does not say so is taken to be of the window it is in.
const CREATED_LATE: SignedDuration = SignedDuration::from_secs(2);

/// A time in which room is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment after it, if it ends.
    pub end: Option<Timestamp>,
    /// Another begins where it ends.
    pub followed: bool,
}

impl Window {
    fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// How long after its beginning Tickets may still be of the one before.
    pub fn spread(&self) -> SignedDuration {
        let half = self.end.map(|end| end.duration_since(self.start) / 2);
        half.map_or(MINUTE, |half| half.min(MINUTE))
    }
}

/// The window that is open at `now`.
pub fn current(order: &Value, now: Timestamp) -> Option<Window> {
    latest(order, now).filter(|window| window.contains(now))
}

/// The window that has begun last at `now`.
pub fn latest(order: &Value, now: Timestamp) -> Option<Window> {
    let begin = begin(order);
    if now < begin {
        return None;
    }
    let length = length(order);
    if kind(order) == "OneTime" {
        let Some(length) = length else {
            return Some(Window {
                start: begin,
                end: None,
                followed: false,
            });
        };
        let passed = now.duration_since(begin).as_secs() / length.as_secs();
        let nth = if always(order) { passed } else { 0 };
        let start = begin + length * i32::try_from(nth).expect("not so many windows");
        return Some(Window {
            start,
            end: Some(start + length),
            followed: always(order),
        });
    }
    let tick = Ticks::of(order).until(now, begin);
    let start = tick.or_else(|| (kind(order) == "Recurring").then_some(begin))?;
    let next = Ticks::of(order).after(start);
    let end = [length.map(|length| start + length), next]
        .into_iter()
        .flatten()
        .min();
    Some(Window {
        start,
        end,
        followed: end.is_some() && end == next,
    })
}

/// Whether a window is open at some time from `from` to `to`.
pub fn open_within(order: &Value, from: Timestamp, to: Timestamp) -> bool {
    let ends = |window: Window| window.end.is_none_or(|end| from < end);
    latest(order, to).is_some_and(ends)
}

/// Whether a window opens after `now`.
pub fn another(order: &Value, now: Timestamp) -> bool {
    match kind(order) {
        "OneTime" => now < begin(order) || latest(order, now).is_some_and(|window| window.followed),
        _ => Ticks::of(order).after(now).is_some(),
    }
}

/// The window that a Ticket belongs to.
pub fn of_ticket(order: &Value, ticket: &Value) -> Option<Window> {
    let said = time(ticket, "/status/windowStart");
    let made = || time(ticket, "/metadata/creationTimestamp").map(|made| made + CREATED_LATE);
    latest(order, said.or_else(made)?)
}

/// Whether a window has opened or closed a moment ago, or will: Tickets are on their way.
pub fn at_an_edge(order: &Value, now: Timestamp, moment: SignedDuration) -> bool {
    let before = latest(order, now - moment);
    let (now_open, later) = (latest(order, now), latest(order, now + moment));
    let ended = now_open
        .and_then(|window| window.end)
        .is_some_and(|end| end <= now && now < end + moment);
    let renewing = current(order, now).is_some_and(|window| now < window.start + window.spread() + moment);
    let ends = now_open
        .and_then(|window| window.end)
        .is_some_and(|end| now < end && end <= now + moment);
    before != now_open || now_open != later || ended || ends || (renewing && began(order, now))
}

/// Whether the window that is open is not the Order's first.
fn began(order: &Value, now: Timestamp) -> bool {
    current(order, now).is_some_and(|window| begin(order) < window.start)
}

/// Whether a finished Ticket may go; `newer` are the pair's Tickets of greater sequences.
pub fn may_go(order: &Value, ticket: &Value, newer: &[&Value], now: Timestamp) -> bool {
    let own = of_ticket(order, ticket).map(|window| window.start);
    let open = current(order, now).is_some_and(|window| own.is_none_or(|own| own <= window.start));
    if newer.is_empty() && (open || another(order, now)) {
        return false;
    }
    let lifecycle = |field: &str| order.pointer(&format!("/spec/template/spec/lifecycle/{field}"));
    if lifecycle("cleanupPolicy").is_some_and(|policy| policy == "Retain") {
        return newer.iter().filter(|newer| finished(newer)).count() >= 3;
    }
    let ttl = lifecycle("ttlSecondsAfterFinished")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let ended = time(ticket, "/status/finishedTime").unwrap_or(Timestamp::MIN);
    ended + SignedDuration::from_secs(ttl) <= now
}

/// Whether a Ticket is Released or Expired.
pub fn finished(ticket: &Value) -> bool {
    matches!(text(ticket, "/status/phase"), "Released" | "Expired")
}

/// A time in an object.
pub fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

fn kind(order: &Value) -> &str {
    match text(order, "/spec/strategy/type") {
        "" => "OneTime",
        kind => kind,
    }
}

fn always(order: &Value) -> bool {
    text(order, "/spec/strategy/refreshPolicy") == "Always"
}

fn begin(order: &Value) -> Timestamp {
    let made = time(order, "/metadata/creationTimestamp").unwrap_or(Timestamp::MIN);
    time(order, "/spec/template/spec/startTime").map_or(made, |start| start.max(made))
}

fn length(order: &Value) -> Option<SignedDuration> {
    let duration = text(order, "/spec/template/spec/duration");
    let ignored = kind(order) == "Recurring" && always(order);
    (!duration.is_empty() && !ignored).then(|| duration.parse().expect("whole seconds, minutes and hours"))
}

/// The ticks of an Order.
struct Ticks {
    fields: [u64; 5],
    /// Day of the month or of the week is `*`: both have to fit.
    both: bool,
    zone: TimeZone,
}

impl Ticks {
    fn of(order: &Value) -> Self {
        let text = |field: &str| text(order, &format!("/spec/strategy/{field}"));
        let fields: Vec<&str> = text("schedule").split_whitespace().collect();
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let zone = match text("timeZone") {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).expect("a zone that is known"),
        };
        Self {
            fields: std::array::from_fn(|n| mask(fields[n], ranges[n])),
            both: fields[2] == "*" || fields[4] == "*",
            zone,
        }
    }

    fn fits(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let day = local.weekday().to_sunday_zero_offset();
        let [minute, hour, of_month, month, of_week] =
            [local.minute(), local.hour(), local.day(), local.month(), day];
        let has = |field: usize, value: i8| self.fields[field] >> value & 1 == 1;
        let days = [has(2, of_month), has(4, of_week)];
        let day = if self.both {
            days[0] && days[1]
        } else {
            days[0] || days[1]
        };
        has(0, minute) && has(1, hour) && has(3, month) && day
    }

    fn until(&self, now: Timestamp, since: Timestamp) -> Option<Timestamp> {
        let from = Timestamp::from_second(now.as_second().div_euclid(60) * 60).expect("a minute ago");
        let back = (0..).map(|n| from - MINUTE * n);
        back.take_while(|at| since <= *at && now.duration_since(*at) < FAR)
            .find(|at| self.fits(*at))
    }

    fn after(&self, now: Timestamp) -> Option<Timestamp> {
        let from = Timestamp::from_second(now.as_second().div_euclid(60) * 60).expect("a minute ago");
        let ahead = (1..).map(|n| from + MINUTE * n);
        ahead
            .take_while(|at| at.duration_since(now) < FAR)
            .find(|at| self.fits(*at))
    }
}

/// The values of one field: `*`, numbers, ranges and steps.
fn mask(field: &str, (least, most): (u32, u32)) -> u64 {
    let mut mask = 0;
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| text.parse().expect("a number");
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from), number(to)),
            None if range == "*" => (least, most),
            None => (number(range), number(range)),
        };
        let step = step.parse().expect("a step");
        (from..=to).step_by(step).for_each(|value| mask |= 1 << value);
    }
    mask
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(strategy: Value, duration: &str) -> Value {
        json!({
            "metadata": { "creationTimestamp": "2026-03-28T00:10:20Z" },
            "spec": { "strategy": strategy, "template": { "spec": { "duration": duration } } },
        })
    }

    fn told(order: &Value, at: &str) -> String {
        current(order, at.parse().unwrap()).map_or("closed".to_owned(), |window| {
            let end = window.end.map_or("ever".to_owned(), |end| end.to_string());
            format!(
                "{}..{end}{}",
                window.start,
                if window.followed { " and on" } else { "" }
            )
        })
    }

    #[test]
    fn windows_are_those_of_the_rules() {
        let scheduled = |schedule: &str| json!({ "type": "Scheduled", "schedule": schedule });
        for (strategy, duration, at, expected) in [
            (
                json!({}),
                "",
                "2027-01-01T00:00:00Z",
                "2026-03-28T00:10:20Z..ever",
            ),
            (json!({}), "1h", "2026-03-28T01:10:20Z", "closed"),
            (
                json!({ "refreshPolicy": "Always" }),
                "1h",
                "2026-03-28T01:10:20Z",
                "2026-03-28T01:10:20Z..2026-03-28T02:10:20Z and on",
            ),
            (scheduled("*/10 * * * *"), "5m", "2026-03-28T00:10:30Z", "closed"),
            (
                scheduled("*/10 * * * *"),
                "5m",
                "2026-03-28T00:24:59Z",
                "2026-03-28T00:20:00Z..2026-03-28T00:25:00Z",
            ),
            (
                scheduled("*/10 * * * *"),
                "1h",
                "2026-03-28T00:24:59Z",
                "2026-03-28T00:20:00Z..2026-03-28T00:30:00Z and on",
            ),
            (
                json!({ "type": "Recurring", "schedule": "30 2 * * *", "timeZone": "Europe/Berlin" }),
                "",
                "2026-03-29T12:00:00Z",
                "2026-03-28T01:30:00Z..2026-03-30T00:30:00Z and on",
            ),
            (
                json!({ "type": "Recurring", "schedule": "0 0 1 * 1-5" }),
                "1h",
                "2026-03-28T00:30:00Z",
                "2026-03-28T00:10:20Z..2026-03-28T01:10:20Z",
            ),
            (
                scheduled("0 0 1 * 1-5"),
                "1h",
                "2026-03-30T00:30:00Z",
                "2026-03-30T00:00:00Z..2026-03-30T01:00:00Z",
            ),
        ] {
            assert_eq!(
                told(&order(strategy.clone(), duration), at),
                expected,
                "{strategy}"
            );
        }
    }
}
