//! The schedule of an Order: five-field cron text, by the rules CronJob has for it.
//!
//! The grammar is that of `github.com/robfig/cron/v3`, which CronJob uses. Each field becomes the
//! list of its values, so that what `croner` evaluates cannot differ in its extensions (seconds,
//! years, `L`, `W`, `#`).

use std::{fmt, str::FromStr, sync::Arc};

/// A valid schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    text: Arc<str>,
    cron: croner::Cron,
}

impl Schedule {
    /// The text as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The compiled schedule.
    pub fn cron(&self) -> &croner::Cron {
        &self.cron
    }
}

/// Why a text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
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
        schedule.cron().as_str().to_owned()
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_text_panics(text in "(([0-9*?,/-]|mon|JAN){1,6} ){3,6}|@?\\PC{0,12}") {
            let _ = text.parse::<Schedule>();
        }
    }
}
