//! The value of a Kubernetes quantity: `100m`, `1.5Gi`, `2e3`.
//!
//! Exact to twenty significant digits and a thousand-millionth of a unit, rounded away from zero
//! and, with a binary suffix, capped at 2^63 - 1 units as apimachinery does; saturating at either
//! end.

use std::fmt;

/// The value of a quantity, in thousand-millionths of its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Amount(i128);

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// It does not begin with a number.
    Number,
    /// What follows the number is not a suffix.
    Suffix,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "is not a quantity",
            Self::Suffix => "has an unknown suffix",
        })
    }
}

impl std::error::Error for Error {}

/// Significant digits that are kept: with the greatest suffix they fill 127 bits.
const DIGITS: usize = 20;
const NANO: i128 = 1_000_000_000;

impl Amount {
    /// The value in thousand-millionths.
    pub(crate) fn nanos(self) -> i128 {
        self.0
    }

    /// Whether the value is less than zero.
    pub(crate) fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether the value is a whole number.
    pub(crate) fn is_whole(self) -> bool {
        self.0 % NANO == 0
    }

    /// Parses a quantity.
    ///
    /// # Errors
    /// Texts that apimachinery refuses, and those without a digit.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(Error::Number);
        }
        let (factor, exponent) = scale(suffix).ok_or(Error::Suffix)?;
        let mut magnitude = magnitude(whole, fraction, factor, exponent);
        if factor > 1 {
            magnitude = magnitude.min(i128::from(i64::MAX) * NANO);
        }
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

/// Factor and power of ten of a suffix.
fn scale(suffix: &str) -> Option<(u128, i64)> {
    let decimal = |exponent| Some((1u128, exponent));
    let binary = |bits: u32| Some((1u128 << bits, 0));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

/// `whole.fraction` × `factor` × 10^`exponent` in thousand-millionths, rounded up.
fn magnitude(whole: &str, fraction: &str, factor: u128, exponent: i64) -> i128 {
    let digits = || {
        whole
            .bytes()
            .chain(fraction.bytes())
            .map(|byte| u128::from(byte - b'0'))
    };
    let zeros = digits().take_while(|&digit| digit == 0).count();
    let mut mantissa = digits()
        .skip(zeros)
        .take(DIGITS)
        .fold(0, |sum, digit| sum * 10 + digit);
    if mantissa == 0 {
        return 0;
    }
    mantissa += u128::from(digits().skip(zeros + DIGITS).any(|digit| digit != 0));
    let kept = (zeros + DIGITS).min(whole.len() + fraction.len());
    let power = (whole.len() as i64 - kept as i64)
        .saturating_add(exponent)
        .saturating_add(9);
    let ten = u32::try_from(power.unsigned_abs())
        .ok()
        .and_then(|power| 10u128.checked_pow(power));
    let value = mantissa * factor;
    let value = match (power < 0, ten) {
        (false, Some(ten)) => value.saturating_mul(ten),
        (false, None) => u128::MAX,
        (true, Some(ten)) => value.div_ceil(ten),
        (true, None) => 1,
    };
    i128::try_from(value).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> i128 {
        Amount::parse(text).unwrap().nanos()
    }

    #[test]
    fn suffixes_scale_the_number() {
        for (text, value) in [
            ("0", 0),
            ("0.0", 0),
            ("1", NANO),
            ("+1", NANO),
            ("-1", -NANO),
            ("007", 7 * NANO),
            ("1.", NANO),
            (".5", NANO / 2),
            ("1n", 1),
            ("1u", 1_000),
            ("100m", NANO / 10),
            ("0.1", NANO / 10),
            ("1k", 1_000 * NANO),
            ("1M", 1_000_000 * NANO),
            ("1G", 1_000_000_000 * NANO),
            ("1T", NANO * 1_000_000_000_000),
            ("1P", NANO * 1_000_000_000_000_000),
            ("1E", NANO * 1_000_000_000_000_000_000),
            ("1Ki", 1024 * NANO),
            ("1.5Gi", (3 << 29) * NANO),
            ("1Ti", (1 << 40) * NANO),
            ("1Pi", (1 << 50) * NANO),
            ("7Ei", (7 << 60) * NANO),
            ("2e3", 2_000 * NANO),
            ("2E3", 2_000 * NANO),
            ("2e+3", 2_000 * NANO),
            ("2e-3", 2 * NANO / 1_000),
            ("9223372036854775807", i128::from(i64::MAX) * NANO),
        ] {
            assert_eq!(nanos(text), value, "{text}");
        }
    }

    #[test]
    fn too_fine_values_are_rounded_away_from_zero() {
        assert_eq!(nanos("0.1n"), 1);
        assert_eq!(nanos("-0.1n"), -1);
        assert_eq!(nanos("1.0000000001"), NANO + 1);
        assert_eq!(nanos("1e-4000000000"), 1);
        assert_eq!(nanos(&format!("0.{}1Ei", "0".repeat(80))), 1);
        assert_eq!(nanos(&format!("1.{}1", "0".repeat(40))), NANO + 1);
    }

    #[test]
    fn too_great_values_saturate() {
        assert_eq!(nanos("1e4000000000"), i128::MAX);
        assert_eq!(nanos("-1e40"), -i128::MAX);
        assert_eq!(nanos("8Ei"), i128::from(i64::MAX) * NANO);
        assert_eq!(nanos("-8Ei"), -i128::from(i64::MAX) * NANO);
        assert_eq!(nanos("0e4000000000"), 0);
        assert_eq!(nanos(&"9".repeat(300)), i128::MAX);
        assert_eq!(nanos(&format!("{}.5", "0".repeat(300))), NANO / 2);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "+", "-", ".", "m", "Gi", "abc", "--1", "1.2.3", "\u{661}"] {
            assert_eq!(Amount::parse(text), Err(Error::Number), "{text}");
        }
        for text in [
            "1K", "1mi", "1ki", "1 Gi", "1Gi ", "1e", "1e1.5", "1x", "1mm", "1,5", "1-", "1\u{e9}",
        ] {
            assert_eq!(Amount::parse(text), Err(Error::Suffix), "{text}");
        }
    }

    #[test]
    fn whole_and_negative_values_are_told() {
        assert!(Amount::parse("1000m").unwrap().is_whole());
        assert!(!Amount::parse("1500m").unwrap().is_whole());
        assert!(Amount::parse("-1").unwrap().is_negative());
        assert!(!Amount::parse("-0").unwrap().is_negative());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,30}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,22}|\\PC{0,12}") {
            let _ = Amount::parse(&text);
        }

        #[test]
        fn values_compare_as_numbers(a in 0u32..100_000, b in 0u32..100_000) {
            let milli = Amount::parse(&format!("{a}m")).unwrap();
            let decimal = Amount::parse(&format!("{}.{:03}", b / 1000, b % 1000)).unwrap();
            prop_assert_eq!(milli.cmp(&decimal), a.cmp(&b));
        }
    }
}
