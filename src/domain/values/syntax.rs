//! The shapes of names, label keys and label values, as apimachinery validates them.
//!
//! Each function answers what is wrong, or `None`.

/// What a label key must look like, for remedies.
pub(crate) const LABEL_KEY_REMEDY: &str =
    "use at most 63 letters, digits, '-', '_' and '.', with an optional DNS prefix such as example.com/name";
/// What a label value must look like, for remedies.
pub(crate) const LABEL_VALUE_REMEDY: &str =
    "use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";
/// What an object's name must look like, for remedies.
pub(crate) const NAME_REMEDY: &str =
    "use at most 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit";

/// What is wrong with a label key (apimachinery's `IsLabelKey`).
pub(crate) fn label_key(text: &str) -> Option<&'static str> {
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => return Some("has more than one '/'"),
        Some(("", _)) => return Some("has an empty prefix"),
        Some((prefix, name)) => {
            if subdomain(prefix).is_some() {
                return Some("has a prefix that is not a DNS name");
            }
            name
        }
    };
    if name.is_empty() {
        return Some(if text.is_empty() {
            "is empty"
        } else {
            "has no name after '/'"
        });
    }
    word(name)
}

/// What is wrong with a label value (apimachinery's `IsLabelValue`).
pub(crate) fn label_value(text: &str) -> Option<&'static str> {
    if text.is_empty() { None } else { word(text) }
}

/// What is wrong with an object's name (apimachinery's `IsDNS1123Subdomain`).
pub(crate) fn subdomain(text: &str) -> Option<&'static str> {
    let fits = |part: &str| {
        let bytes = part.as_bytes();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().copied().is_some_and(plain)
            && bytes.last().copied().is_some_and(plain)
            && bytes.iter().all(|&byte| plain(byte) || byte == b'-')
    };
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > 253 {
        Some("is longer than 253 characters")
    } else if text.split('.').all(fits) {
        None
    } else {
        Some("is not a DNS name")
    }
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`, at most 63 characters.
fn word(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if text.len() > 63 {
        Some("is longer than 63 characters")
    } else if !edge(bytes.first()) || !edge(bytes.last()) {
        Some("does not begin and end with a letter or digit")
    } else if bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    {
        None
    } else {
        Some("has a character other than letters, digits, '-', '_' and '.'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_have_an_optional_dns_prefix_and_a_name() {
        let long = "a".repeat(63);
        for key in [
            "a",
            "A_b.c-1",
            "kubernetes.io/os",
            "x.y/Z",
            &long,
            &format!("{}/{long}", "a".repeat(253)),
        ] {
            assert_eq!(label_key(key), None, "{key}");
        }
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "a\u{e9}b",
            "Upper.io/a",
            "a..b/c",
            "a_b/c",
            &"a".repeat(64),
            &format!("{}/a", "a".repeat(254)),
        ] {
            assert!(label_key(key).is_some(), "{key}");
        }
    }

    #[test]
    fn label_values_may_be_empty() {
        for value in ["", "a", "1", "a.b_c-D", &"a".repeat(63)] {
            assert_eq!(label_value(value), None, "{value}");
        }
        for value in ["-1", "a/b", "a b", "_", "a\n", &"a".repeat(64)] {
            assert!(label_value(value).is_some(), "{value}");
        }
    }

    #[test]
    fn names_are_dns_subdomains() {
        for name in ["a", "1", "a-b.c", &"a".repeat(253)] {
            assert_eq!(subdomain(name), None, "{name}");
        }
        for name in ["", "A", "a_b", ".a", "a.", "-a", "a.-b", &"a".repeat(254)] {
            assert!(subdomain(name).is_some(), "{name}");
        }
    }
}
