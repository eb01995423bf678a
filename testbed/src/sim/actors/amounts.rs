//! Amounts of resources in thousandths, and what a Pod asks for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::{at, items, text};

/// By resource, in thousandths of its unit.
pub type Amounts = BTreeMap<String, i128>;

const SUFFIXES: [(&str, i128); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

/// A quantity such as `100m`, `1.5` or `128Mi` in thousandths, rounded up; none if it is not one.
pub fn thousandths(quantity: &str) -> Option<i128> {
    if let Some(milli) = quantity.strip_suffix('m') {
        return milli.parse().ok();
    }
    let known = |&(suffix, scale): &(&str, i128)| quantity.strip_suffix(suffix).map(|digits| (digits, scale));
    let (digits, scale) = SUFFIXES.iter().find_map(known).unwrap_or((quantity, 1));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i128 = whole.parse().ok()?;
    let parts: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let tenths = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = (parts * scale * 1000 + tenths - 1) / tenths;
    Some(whole * scale * 1000 + parts)
}

/// The amounts of a resource list.
pub fn amounts(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object);
    let amount = |(name, value): (&String, &Value)| {
        let quantity = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((name.clone(), thousandths(&quantity)?))
    };
    list.into_iter().flatten().filter_map(amount).collect()
}

/// What a Pod asks for, one of `pods` included.
pub fn requests(pod: &Value) -> Amounts {
    let mut sum = Amounts::from([("pods".to_owned(), 1000)]);
    for container in items(pod, "/spec/containers") {
        add(&mut sum, &amounts(at(container, "/resources/requests")), 1);
    }
    sum
}

/// What a Node has.
pub fn allocatable(node: &Value) -> Amounts {
    amounts(at(node, "/status/allocatable"))
}

/// Adds `times` the `amounts`.
pub fn add(sum: &mut Amounts, amounts: &Amounts, times: i128) {
    for (name, amount) in amounts {
        *sum.entry(name.clone()).or_default() += amount * times;
    }
}

/// The first resource of which `asked` exceeds what `used` leaves of `all`.
pub fn lacking<'a>(asked: &'a Amounts, used: &Amounts, all: &Amounts) -> Option<&'a str> {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let lacks = |(name, amount): &(&String, &i128)| **amount > 0 && of(used, name) + **amount > of(all, name);
    asked.iter().find(lacks).map(|(name, _)| name.as_str())
}

/// Whether a Pod is bound and not over, so that what it asks for is taken.
pub fn occupies(pod: &Value) -> bool {
    let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    !text(pod, "/spec/nodeName").is_empty() && !over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths_and_rounded_up() {
        let read = [
            ("100m", Some(100)),
            ("2", Some(2000)),
            ("1.5", Some(1500)),
            ("0.0001", Some(1)),
            ("128Mi", Some(128 * 1024 * 1024 * 1000)),
            ("1k", Some(1_000_000)),
            ("x", None),
        ];
        for (quantity, amount) in read {
            assert_eq!(thousandths(quantity), amount, "{quantity}");
        }
    }
}
