//! Go's duration strings, by the rules of `time.ParseDuration`.
//!
//! `kube::core::Duration` reads the same text, but panics where a number overflows (`9e18` hours
//! written out) or a sign stands in the middle (`5s-3s`), and takes the empty string for zero.

use std::fmt;

use jiff::SignedDuration;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not a sequence of numbers with units.
    Syntax,
    /// A number has no unit.
    MissingUnit,
    /// A unit is unknown.
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
pub fn parse(text: &str) -> Result<SignedDuration, Error> {
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
