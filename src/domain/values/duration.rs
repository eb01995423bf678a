//! Go's duration strings, by the rules of `time.ParseDuration`.
//!
//! `kube::core::Duration` reads the same text, but panics where a number overflows (`9e18` hours
//! written out) or a sign stands in the middle (`5s-3s`), and takes the empty string for zero.

use std::fmt;

use jiff::SignedDuration;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// It is not a sequence of numbers with units.
    Syntax,
    /// A number has no unit.
    MissingUnit,
    UnknownUnit,
    /// It is longer than 2^63 nanoseconds, about 292 years.
    Overflow,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "is not a Go duration",
            Self::MissingUnit => "has a number without a unit",
            Self::UnknownUnit => "has an unknown unit",
            Self::Overflow => "is longer than 292 years",
        })
    }
}

impl std::error::Error for Error {}

/// Parses a Go duration such as `24h`, `1h30m` or `-1.5s`.
///
/// # Errors
/// Whatever `time.ParseDuration` refuses.
pub(crate) fn parse(text: &str) -> Result<SignedDuration, Error> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(Error::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        total += nanos;
        if total > i64::MAX as u128 {
            return Err(Error::Overflow);
        }
        rest = after;
    }
    let nanos = i64::try_from(total).map_err(|_| Error::Overflow)?;
    Ok(SignedDuration::from_nanos(if negative { -nanos } else { nanos }))
}

/// One number with its unit in nanoseconds, and what follows it.
fn component(text: &str) -> Result<(u128, &str), Error> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(Error::Syntax);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u128 = match unit {
        "" => return Err(Error::MissingUnit),
        "ns" => 1,
        // U+00B5 is the micro sign, U+03BC the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(Error::UnknownUnit),
    };
    let whole = match whole.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse::<u64>().map_err(|_| Error::Overflow)?,
    };
    // Digits beyond the eighteenth are less than a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = fraction.parse::<u128>().unwrap_or(0) * unit / 10u128.pow(fraction.len() as u32);
    Ok((u128::from(whole) * unit + part, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From Go's `time_test.go`, `parseDurationTests`.
    #[test]
    fn texts_mean_what_they_mean_in_go() {
        const S: i64 = 1_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5 * S),
            ("1478s", 1478 * S),
            ("-5s", -5 * S),
            ("+5s", 5 * S),
            ("-0", 0),
            ("+0", 0),
            ("5.0s", 5 * S),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * S),
            (".5s", S / 2),
            ("1.0s", S),
            ("1.004s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900 * S),
            ("16h", 16 * 3600 * S),
            ("3h30m", 12_600 * S),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("0.100000000000000000000h", 360 * S),
        ] {
            let parsed = parse(text).map(|duration| duration.as_nanos());
            // Go computes fractions in floating point: the last digits may differ.
            let close = parsed.is_ok_and(|parsed| (parsed - i128::from(nanos)).abs() <= 1);
            assert!(close, "{text}: {parsed:?}, not {nanos}");
        }
    }

    /// From Go's `time_test.go`, `parseDurationErrorTests`, and what users write.
    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "-", "s", ".", "-.", ".s", "+.s", "--5s", "abc", " 5s", "\u{661}s",
        ] {
            assert_eq!(parse(text), Err(Error::Syntax), "{text}");
        }
        for text in ["3", "1h30", "1.5.5s", "24"] {
            assert_eq!(parse(text), Err(Error::MissingUnit), "{text}");
        }
        for text in ["24x", "1d", "5S", "1h 30m", "5s-3s", "1e3s", "1\u{85}"] {
            assert_eq!(parse(text), Err(Error::UnknownUnit), "{text}");
        }
        for text in [
            "9223372036854775808ns",
            "9223372036854ms775us808ns",
            "3000000h",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), Err(Error::Overflow), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_text_panics(text in "[-+]?([0-9.]{0,24}(ns|us|ms|s|m|h|x)?){0,4}|\\PC{0,12}") {
            let _ = parse(&text);
        }

        #[test]
        fn the_parts_add_up(h in 0i64..1000, m in 0i64..1000, s in 0i64..1000) {
            let parsed = parse(&format!("{h}h{m}m{s}s")).unwrap();
            prop_assert_eq!(parsed.as_secs(), h * 3600 + m * 60 + s);
        }
    }
}
