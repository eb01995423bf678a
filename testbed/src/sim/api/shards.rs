//! Shard selectors of the alpha feature `ShardedListAndWatch`: ranges of the FNV-1a-64 hash of the uid.

use super::status::{Result, bad_request};

/// Half-open ranges of hashes.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    text: String,
    ranges: Vec<(u128, u128)>,
}

impl Ranges {
    /// # Errors
    /// 400 when it cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let ranges = text.split("||").map(|part| range(part.trim()));
        let ranges: Option<Vec<_>> = ranges.collect();
        let refused = || bad_request(format!("invalid shardSelector: {text:?}"));
        Ok(Self {
            text: text.to_owned(),
            ranges: ranges.ok_or_else(refused)?,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn contain(&self, uid: &str) -> bool {
        let hash = u128::from(hash(uid));
        self.ranges
            .iter()
            .any(|(start, end)| *start <= hash && hash < *end)
    }
}

/// FNV-1a-64.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `shardRange(object.metadata.uid, '0x..', '0x..')`.
fn range(text: &str) -> Option<(u128, u128)> {
    let arguments = text.strip_prefix("shardRange(")?.strip_suffix(')')?;
    let mut arguments = arguments.split(',').map(str::trim);
    if arguments.next()? != "object.metadata.uid" {
        return None;
    }
    let mut bound = || {
        let quoted = arguments.next()?.strip_prefix('\'')?.strip_suffix('\'')?;
        u128::from_str_radix(quoted.strip_prefix("0x")?, 16).ok()
    };
    let (start, end) = (bound()?, bound()?);
    (start < end && end <= 1 << 64 && arguments.next().is_none()).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_cover_every_uid_once() {
        let low = "shardRange(object.metadata.uid, '0x0000000000000000', '0x8000000000000000')";
        let high = "shardRange(object.metadata.uid, '0x8000000000000000', '0x10000000000000000')";
        let (low, high) = (Ranges::parse(low).unwrap(), Ranges::parse(high).unwrap());
        for uid in ["a", "b", "7b5a3bde-2b0c-4f0e-9d43-43f4b04c60e5", ""] {
            assert_ne!(low.contain(uid), high.contain(uid), "{uid}");
        }
    }

    #[test]
    fn an_unreadable_shard_selector_is_refused() {
        assert_eq!(Ranges::parse("foo").unwrap_err().code, 400);
    }
}
