//! The schedule of an Order: five-field cron text, by the rules CronJob has for it.
//!
//! The grammar is that of `github.com/robfig/cron/v3`, which CronJob uses. Each field becomes the
//! list of its values, so that what `croner` evaluates cannot differ in its extensions (seconds,
//! years, `L`, `W`, `#`).
//!
//! A tick is every instant whose local time fits: a time that the clocks leave out has none, a time
//! that they show twice has two. `croner` alone would move the first and take the second once, so it
//! is asked for the times of one offset only, between two changes of the clocks.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::{Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

/// A valid schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Schedule {
    text: Arc<str>,
    cron: croner::Cron,
}

impl Schedule {
    /// The text as the user wrote it.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first tick after `at`; none if there is none before the year 5000.
    pub(crate) fn after(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (at, false);
        loop {
            let offset = zone.to_offset(from);
            let local = whole_seconds(offset.to_datetime(from));
            let next = self.cron.find_next_occurrence(&local, inclusive).ok()?;
            let next = offset.to_timestamp(next).ok();
            match zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if next.is_none_or(|next| change <= next) => {
                    (from, inclusive) = (change, true);
                }
                _ => return next,
            }
        }
    }

    /// The last tick until `at`, itself included; none if there is none since `since`.
    pub(crate) fn until(&self, at: Timestamp, since: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = at;
        while since <= from {
            let offset = zone.to_offset(from);
            let local = whole_seconds(offset.to_datetime(from));
            let last = self.cron.find_previous_occurrence(&local, true).ok()?;
            let last = offset.to_timestamp(last).ok()?;
            let after = from.checked_add(1.nanosecond()).unwrap_or(from);
            match zone.preceding(after).next().map(|change| change.timestamp()) {
                Some(change) if last < change => from = change.checked_sub(1.second()).ok()?,
                _ => return Some(last).filter(|last| since <= *last),
            }
        }
        None
    }
}

fn whole_seconds(at: DateTime) -> DateTime {
    at.with().subsec_nanosecond(0).build().unwrap_or(at)
}

/// Why a text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// It sets a time zone.
    TimeZone,
    /// It is `@` and an unknown word.
    Descriptor,
    /// It has this many fields.
    Fields(usize),
    /// One field is malformed.
    Field {
        /// The field's name.
        name: &'static str,
        /// The malformed part.
        part: String,
        /// The least value allowed.
        min: u32,
        /// The greatest value allowed.
        max: u32,
    },
    /// No date fits.
    Never,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeZone => f.write_str("sets a time zone"),
            Self::Descriptor => f.write_str("is not a known schedule"),
            Self::Fields(1) => f.write_str("has 1 field instead of 5"),
            Self::Fields(count) => write!(f, "has {count} fields instead of 5"),
            Self::Field { name, part, min, max } => {
                write!(f, "has {part:?} as {name}, which must lie in {min}-{max}")
            }
            Self::Never => f.write_str("names no date that exists"),
        }
    }
}

impl std::error::Error for Error {}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains("TZ") {
            return Err(Error::TimeZone);
        }
        let expanded = if text.starts_with('@') {
            descriptor(text)?
        } else {
            text
        };
        let parts: Vec<&str> = expanded.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(Error::Fields(parts.len()));
        };
        let [minute, hour] = [MINUTE.parse(minute)?, HOUR.parse(hour)?];
        let [day, month, weekday] = [DAY.parse(day)?, MONTH.parse(month)?, WEEKDAY.parse(weekday)?];
        if !day.all && weekday.all && !exists(&day, &month) {
            return Err(Error::Never);
        }
        let pattern = format!("{minute} {hour} {day} {month} {weekday}");
        let cron = pattern.parse().map_err(|_| Error::Fields(parts.len()))?;
        Ok(Self {
            text: text.into(),
            cron,
        })
    }
}

/// As robfig's `parseDescriptor`, but for `@every`, which has no fixed ticks.
fn descriptor(text: &str) -> Result<&'static str, Error> {
    match text {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(Error::Descriptor),
    }
}

/// Whether one of the months has one of the days in some year.
fn exists(days: &Values, months: &Values) -> bool {
    let length = |month| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let longest = (1..=12).filter(|&month| months.has(month)).map(length).max();
    (1..=longest.unwrap_or(0)).any(|day| days.has(day))
}

/// The values one field allows.
struct Values {
    bits: u64,
    /// The field is `*`: this matters for days, where two restricted fields are ORed.
    all: bool,
}

impl Values {
    fn has(&self, value: u32) -> bool {
        self.bits >> value & 1 == 1
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all {
            return f.write_str("*");
        }
        let mut separator = "";
        for value in (0..u64::BITS).filter(|&value| self.has(value)) {
            write!(f, "{separator}{value}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// What a field may say.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Words for the values from `min` on.
    words: &'static [&'static str],
}

const fn field(name: &'static str, min: u32, max: u32, words: &'static [&'static str]) -> Field {
    Field {
        name,
        min,
        max,
        words,
    }
}

const MINUTE: Field = field("minute", 0, 59, &[]);
const HOUR: Field = field("hour", 0, 23, &[]);
const DAY: Field = field("day of the month", 1, 31, &[]);
const MONTH: Field = field(
    "month",
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAY: Field = field(
    "day of the week",
    0,
    6,
    &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
);

impl Field {
    fn parse(&self, text: &str) -> Result<Values, Error> {
        let mut values = Values { bits: 0, all: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (bits, all) = self.range(part).ok_or_else(|| self.error(part))?;
            values.bits |= bits;
            values.all |= all;
        }
        if values.bits == 0 {
            Err(self.error(text))
        } else {
            Ok(values)
        }
    }

    /// As robfig's `getRange`: `*`, `?`, `N`, `N-M`, each with an optional `/STEP`.
    fn range(&self, part: &str) -> Option<(u64, bool)> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(number(step)?)),
        };
        let (low, high) = match range.split_once('-') {
            None => (range, None),
            Some((low, high)) => (low, Some(high)),
        };
        let any = matches!(low, "*" | "?");
        let (start, end) = match high {
            None if any => (self.min, self.max),
            None if step.is_some() => (self.value(low)?, self.max),
            None => (self.value(low)?, self.value(low)?),
            Some(high) => (self.value(low)?, self.value(high)?),
        };
        let step = step.unwrap_or(1);
        if start < self.min || end > self.max || start > end || step == 0 {
            return None;
        }
        let bits = (start..=end)
            .step_by(step as usize)
            .fold(0, |bits, value| bits | 1u64 << value);
        Some((bits, any && step == 1))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        word.map(|index| self.min + index as u32).or_else(|| number(text))
    }

    fn error(&self, part: &str) -> Error {
        Error::Field {
            name: self.name,
            part: part.to_owned(),
            min: self.min,
            max: self.max,
        }
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u32> {
    if text.starts_with('+') {
        None
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> String {
        let schedule: Schedule = text.parse().unwrap();
        schedule.cron.as_str().to_owned()
    }

    fn zone(name: &str) -> TimeZone {
        jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn fields_become_the_list_of_their_values() {
        for (text, expected) in [
            ("0 */6 * * *", "0 0,6,12,18 * * *"),
            ("*/20 1-3 ? * ?", "0,20,40 1,2,3 * * *"),
            ("5/20 * * * *", "5,25,45 * * * *"),
            ("0-10/5,59 22-23 1,15 * *", "0,5,10,59 22,23 1,15 * *"),
            ("0 0 * jan-MAR,12 *", "0 0 * 1,2,3,12 *"),
            ("0 0 * * Mon-fri", "0 0 * * 1,2,3,4,5"),
            ("  0   0\t*  *  * ", "0 0 * * *"),
            ("1,,2 * * * *", "1,2 * * * *"),
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ] {
            assert_eq!(pattern(text), expected, "{text}");
        }
    }

    /// robfig's star bit: a restricted day and a restricted weekday are ORed.
    #[test]
    fn a_day_field_stays_unrestricted_only_without_a_step() {
        assert_eq!(pattern("0 0 */1 * */1"), "0 0 * * *");
        assert_eq!(
            pattern("0 0 1-31 * 0-6")
                .split(' ')
                .filter(|field| *field == "*")
                .count(),
            1
        );
        assert_eq!(pattern("0 0 */16 * 1"), "0 0 1,17 * 1");
        assert_eq!(pattern("0 0 5,* * 1"), "0 0 * * 1");
    }

    #[test]
    fn malformed_schedules_are_refused_with_the_field() {
        for (text, error) in [
            ("", "has 0 fields instead of 5"),
            ("* * * *", "has 4 fields instead of 5"),
            ("0 * * * * *", "has 6 fields instead of 5"),
            ("60 * * * *", "has \"60\" as minute, which must lie in 0-59"),
            ("* 24 * * *", "has \"24\" as hour, which must lie in 0-23"),
            (
                "* * 0 * *",
                "has \"0\" as day of the month, which must lie in 1-31",
            ),
            ("* * * 13 *", "has \"13\" as month, which must lie in 1-12"),
            ("* * * * 7", "has \"7\" as day of the week, which must lie in 0-6"),
            ("5-1 * * * *", "has \"5-1\" as minute, which must lie in 0-59"),
            ("*/0 * * * *", "has \"*/0\" as minute, which must lie in 0-59"),
            ("mon * * * *", "has \"mon\" as minute, which must lie in 0-59"),
            (
                "* * L * *",
                "has \"L\" as day of the month, which must lie in 1-31",
            ),
            (
                "* * * * 5#2",
                "has \"5#2\" as day of the week, which must lie in 0-6",
            ),
            (", * * * *", "has \",\" as minute, which must lie in 0-59"),
            ("1-2-3 * * * *", "has \"1-2-3\" as minute, which must lie in 0-59"),
            ("*/2/2 * * * *", "has \"*/2/2\" as minute, which must lie in 0-59"),
            ("+5 * * * *", "has \"+5\" as minute, which must lie in 0-59"),
            (
                "99999999999 * * * *",
                "has \"99999999999\" as minute, which must lie in 0-59",
            ),
            ("@every 1h", "is not a known schedule"),
            ("@reboot", "is not a known schedule"),
            ("TZ=UTC 0 0 * * *", "sets a time zone"),
            ("CRON_TZ=Europe/Berlin 0 0 * * *", "sets a time zone"),
            ("0 0 30 2 *", "names no date that exists"),
            ("0 0 31 4,6,9,11 *", "names no date that exists"),
        ] {
            let parsed: Result<Schedule, Error> = text.parse();
            assert_eq!(
                parsed.map_err(|error| error.to_string()),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn rare_dates_are_dates() {
        assert!("0 0 29 2 *".parse::<Schedule>().is_ok());
        assert!("0 0 30 2 1".parse::<Schedule>().is_ok(), "Mondays of February");
    }

    type Fact = (&'static str, &'static str, &'static str, &'static [&'static str]);

    /// Said by `SpecSchedule.Next` of `github.com/robfig/cron/v3` v3.0.1, which CronJob asks.
    const FACTS: &[Fact] = &[
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T00:00:00Z",
            &[
                "2026-03-28T01:30:00Z",
                "2026-03-30T00:30:00Z",
                "2026-03-31T00:30:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "0 2 * * *",
            "2026-03-28T00:00:00Z",
            &[
                "2026-03-28T01:00:00Z",
                "2026-03-30T00:00:00Z",
                "2026-03-31T00:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "0 * * * *",
            "2026-03-28T23:30:00Z",
            &[
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T02:00:00Z",
                "2026-03-29T03:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "0 */2 * * *",
            "2026-03-28T22:00:00Z",
            &[
                "2026-03-28T23:00:00Z",
                "2026-03-29T02:00:00Z",
                "2026-03-29T04:00:00Z",
                "2026-03-29T06:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T00:00:00Z",
            &[
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-26T01:30:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "0 2,3 * * *",
            "2026-10-24T22:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-26T01:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "*/30 1-3 * * *",
            "2026-10-24T22:00:00Z",
            &[
                "2026-10-24T23:00:00Z",
                "2026-10-24T23:30:00Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-25T02:30:00Z",
                "2026-10-26T00:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            "0 */2 * * *",
            "2026-10-24T22:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T03:00:00Z",
                "2026-10-25T05:00:00Z",
            ],
        ),
        (
            "America/New_York",
            "30 2 * * *",
            "2026-03-07T00:00:00Z",
            &[
                "2026-03-07T07:30:00Z",
                "2026-03-09T06:30:00Z",
                "2026-03-10T06:30:00Z",
            ],
        ),
        (
            "America/New_York",
            "0 0 8 3 *",
            "2026-01-01T00:00:00Z",
            &["2026-03-08T05:00:00Z", "2027-03-08T05:00:00Z"],
        ),
        (
            "America/New_York",
            "0 * * * *",
            "2026-03-08T05:30:00Z",
            &[
                "2026-03-08T06:00:00Z",
                "2026-03-08T07:00:00Z",
                "2026-03-08T08:00:00Z",
                "2026-03-08T09:00:00Z",
            ],
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T00:00:00Z",
            &[
                "2026-10-31T05:30:00Z",
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-02T06:30:00Z",
            ],
        ),
        (
            "America/New_York",
            "15 */6 * * *",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-01T04:15:00Z",
                "2026-11-01T11:15:00Z",
                "2026-11-01T17:15:00Z",
                "2026-11-01T23:15:00Z",
                "2026-11-02T05:15:00Z",
                "2026-11-02T11:15:00Z",
            ],
        ),
        (
            "America/New_York",
            "0 1 1 11 *",
            "2026-10-31T00:00:00Z",
            &[
                "2026-11-01T05:00:00Z",
                "2026-11-01T06:00:00Z",
                "2027-11-01T05:00:00Z",
            ],
        ),
        (
            "America/Santiago",
            "0 0 * * *",
            "2026-09-04T12:00:00Z",
            &[
                "2026-09-05T04:00:00Z",
                "2026-09-07T03:00:00Z",
                "2026-09-08T03:00:00Z",
            ],
        ),
        (
            "America/Santiago",
            "30 0 6 9 *",
            "2026-01-01T00:00:00Z",
            &["2027-09-06T03:30:00Z", "2028-09-06T03:30:00Z"],
        ),
        (
            "America/Santiago",
            "0 12 6 9 *",
            "2026-01-01T00:00:00Z",
            &["2026-09-06T15:00:00Z", "2027-09-06T15:00:00Z"],
        ),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-02T12:00:00Z",
            &[
                "2026-10-02T15:45:00Z",
                "2026-10-04T15:15:00Z",
                "2026-10-05T15:15:00Z",
            ],
        ),
        (
            "Asia/Kolkata",
            "0 9 * * 1-5",
            "2026-07-03T00:00:00Z",
            &[
                "2026-07-03T03:30:00Z",
                "2026-07-06T03:30:00Z",
                "2026-07-07T03:30:00Z",
            ],
        ),
        (
            "UTC",
            "0 0 29 2 *",
            "2026-01-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "UTC",
            "30 4 1,15 * 5",
            "2026-05-01T04:30:00Z",
            &[
                "2026-05-08T04:30:00Z",
                "2026-05-15T04:30:00Z",
                "2026-05-22T04:30:00Z",
                "2026-05-29T04:30:00Z",
            ],
        ),
        (
            "UTC",
            "0 0 31 * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-31T00:00:00Z",
                "2026-03-31T00:00:00Z",
                "2026-05-31T00:00:00Z",
                "2026-07-31T00:00:00Z",
            ],
        ),
        (
            "UTC",
            "59 23 31 12 *",
            "2026-12-31T23:59:00Z",
            &["2027-12-31T23:59:00Z"],
        ),
    ];

    #[test]
    fn ticks_are_those_of_cronjob_also_where_the_clocks_change() {
        for (name, text, from, expected) in FACTS {
            let (schedule, zone): (Schedule, _) = (text.parse().unwrap(), zone(name));
            let mut from = at(from);
            for tick in *expected {
                let next = schedule.after(from, &zone).unwrap();
                assert_eq!(next, at(tick), "{name} {text} after {from}");
                assert_eq!(schedule.until(next, from, &zone), Some(next), "{name} {text}");
                let before = next.checked_sub(1.millisecond()).unwrap();
                let last = schedule.until(before, from, &zone);
                assert!(last.is_none_or(|last| last <= from), "{name} {text}: {last:?}");
                from = next;
            }
        }
    }

    /// Where robfig gives up (five years without a tick) or errs (clocks that change by half an hour).
    #[test]
    fn no_tick_is_lost_between_far_years_or_by_half_an_hour() {
        let leap: Schedule = "0 0 29 2 *".parse().unwrap();
        let found = leap.after(at("2096-03-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(found, Some(at("2104-02-29T00:00:00Z")));
        let found = leap.until(
            at("2104-02-28T22:59:59Z"),
            at("2026-01-01T00:00:00Z"),
            &zone("Europe/Berlin"),
        );
        assert_eq!(found, Some(at("2096-02-28T23:00:00Z")));
        let found = "0 3 * * *"
            .parse::<Schedule>()
            .unwrap()
            .after(at("2026-10-02T16:30:00Z"), &zone("Australia/Lord_Howe"));
        assert_eq!(found, Some(at("2026-10-03T16:00:00Z")));
    }

    #[test]
    fn a_tick_before_the_beginning_is_none() {
        let daily: Schedule = "@daily".parse().unwrap();
        let [noon, next] = [at("2026-05-01T12:00:00Z"), at("2026-05-02T00:00:00Z")];
        assert_eq!(daily.until(noon, noon, &TimeZone::UTC), None);
        assert_eq!(daily.until(next, noon, &TimeZone::UTC), Some(next));
        assert_eq!(daily.after(Timestamp::MAX, &TimeZone::UTC), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// The definition: every whole minute whose local time fits.
        #[test]
        fn ticks_are_the_minutes_whose_local_time_fits(
            name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]),
            day in 0i64..366, second in 0i64..86_400,
            minute in prop::sample::select(vec![0u32, 7, 30, 59]), hours in prop::collection::btree_set(0u32..24, 1..4),
            weekday in 0u32..8, change in any::<bool>(),
        ) {
            let zone = zone(name);
            let mut from = at("2026-01-01T00:00:00Z") + (day * 86_400 + second).seconds();
            if change && let Some(next) = zone.following(from).next() {
                from = next.timestamp() - (second % 7200).seconds();
            }
            let list: Vec<String> = hours.iter().map(ToString::to_string).collect();
            let days = if weekday == 7 { "*".to_owned() } else { weekday.to_string() };
            let schedule: Schedule = format!("{minute} {} * * {days}", list.join(",")).parse().unwrap();
            let fits = |at: Timestamp| {
                let local = at.to_zoned(zone.clone());
                let sunday_first = u32::try_from(local.weekday().to_sunday_zero_offset()).unwrap();
                local.minute() as u32 == minute
                    && hours.contains(&(local.hour() as u32))
                    && (weekday == 7 || sunday_first == weekday)
            };
            let first = Timestamp::from_second(from.as_second().div_euclid(60) * 60).unwrap();
            let after = (1..8 * 1440).map(|n| first + (n * 60i64).seconds()).find(|at| fits(*at));
            prop_assert_eq!(schedule.after(from, &zone), after);
            let until = (0..8 * 1440).map(|n| first - (n * 60i64).seconds()).find(|at| fits(*at));
            prop_assert_eq!(schedule.until(from, from - 168.hours(), &zone), until.filter(|until| *until >= from - 168.hours()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_text_panics(text in "(([0-9*?,/-]|mon|JAN){1,6} ){3,6}|@?\\PC{0,12}") {
            let _ = text.parse::<Schedule>();
        }
    }
}
