//! Quantities in their canonical form.
//!
//! Source: k8s.io/apimachinery/pkg/api/resource/quantity.go. Amounts are kept in billionths, which is upstream's
//! greatest precision; what is finer is rounded up.

use std::cmp::Ordering;

use serde_json::{Value, json};

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// An amount, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    nano: i128,
    binary: bool,
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Quantity {
    /// Nothing if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let mantissa = format!("{whole}{fraction}").parse::<i128>().ok()?;
        let digits = i32::try_from(fraction.len()).ok()?;
        let binary = BINARY.into_iter().find(|(unit, _)| *unit == suffix);
        let nano = match binary {
            Some((_, shift)) => scaled(mantissa.checked_mul(1 << shift)?, -digits)?,
            None => scaled(mantissa, exponent(suffix)? - digits)?,
        };
        Some(Self {
            nano: if text.starts_with('-') { -nano } else { nano },
            binary: binary.is_some(),
        })
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nano == 0
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// The shortest form without a fraction.
    pub(crate) fn canonical(self) -> String {
        let whole = self.nano % NANO == 0;
        let amount = self.nano / NANO;
        if self.binary && whole && amount.abs() >= 1024 {
            let fits = |(_, shift): &&(&str, u32)| amount % (1_i128 << shift) == 0;
            return match BINARY.iter().rev().find(fits) {
                Some((unit, shift)) => format!("{}{unit}", amount >> shift),
                None => amount.to_string(),
            };
        }
        if self.nano == 0 {
            return "0".to_owned();
        }
        let fits = |(_, power): &&(&str, i32)| {
            10_i128
                .checked_pow((power + 9).unsigned_abs())
                .is_some_and(|unit| self.nano % unit == 0)
        };
        let (unit, power) = DECIMAL.iter().rev().find(fits).unwrap_or(&DECIMAL[0]);
        format!("{}{unit}", self.nano / 10_i128.pow((power + 9).unsigned_abs()))
    }
}

/// `mantissa * 10^power` in billionths, rounded up.
fn scaled(mantissa: i128, power: i32) -> Option<i128> {
    let power = power + 9;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        mantissa.checked_mul(factor)
    } else {
        Some(mantissa / factor + i128::from(mantissa % factor != 0))
    }
}

fn exponent(suffix: &str) -> Option<i32> {
    if let Some((_, power)) = DECIMAL.into_iter().find(|(unit, _)| *unit == suffix) {
        return Some(power);
    }
    let number = suffix.strip_prefix(['e', 'E'])?;
    number.parse().ok().filter(|power| (-18..=18).contains(power))
}

/// Brings the amounts of a resource list into canonical form; leaves alone what is none.
pub(crate) fn canonicalize(list: &mut Value) {
    for (_, amount) in list.as_object_mut().into_iter().flatten() {
        let text = match &*amount {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        if let Some(quantity) = Quantity::parse(&text) {
            *amount = json!(quantity.canonical());
        }
    }
}

/// The first amount of a resource list that is none.
pub(crate) fn malformed(list: &Value) -> bool {
    list.as_object()
        .into_iter()
        .flatten()
        .any(|(_, amount)| match amount {
            Value::String(text) => Quantity::parse(text).is_none(),
            Value::Number(number) => Quantity::parse(&number.to_string()).is_none(),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_canonically() {
        let cases = [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("16777216Ki", "16Gi"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("1e3", "1k"),
            ("0", "0"),
            ("110", "110"),
            ("1500", "1500"),
            ("2000", "2k"),
            ("-1", "-1"),
            ("512Ki", "512Ki"),
        ];
        for (text, canonical) in cases {
            assert_eq!(Quantity::parse(text).unwrap().canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "x", "1x", "1..2", ".", "1 ", "Ki"] {
            assert!(Quantity::parse(text).is_none(), "{text}");
        }
    }
}
