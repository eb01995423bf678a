//! Which shard a uid belongs to.
//!
//! FNV-1a-64 of the uid picks a point, the high bits of point × count a shard: the hash and the
//! ranges of Kubernetes' server-side sharded list and watch.

use std::{fmt, str::FromStr};

use super::{
    hash::fnv1a64,
    ids::{NodeUid, OrderUid},
};

/// Number of a shard, less than the [`ShardCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards there are: a power of two, at most 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardCount(u16);

/// Why a number cannot be a [`ShardCount`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of shards: use a power of two from 1 to 1024, such as 64")]
pub struct BadShardCount(String);

impl ShardCount {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Every shard.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.0).map(ShardId)
    }

    /// The shard of a Node, and of every pair on it.
    pub fn of_node(self, uid: &NodeUid) -> ShardId {
        self.of(uid.as_str())
    }

    /// The shard whose owner looks after the Order's status.
    pub fn of_order(self, uid: &OrderUid) -> ShardId {
        self.of(uid.as_str())
    }

    /// The hashes of a shard: from the first to before the second.
    pub fn range(self, shard: ShardId) -> (u64, u128) {
        let start = |shard: u32| (u128::from(shard) << 64) / u128::from(self.0);
        let first = u64::try_from(start(shard.0.into())).expect("the start of a shard that there is");
        (first, start(u32::from(shard.0) + 1))
    }

    /// The hashes of these shards as the API server's `shardSelector`; neighbours are one range.
    pub fn selector(self, shards: &[ShardId]) -> String {
        let mut ranges: Vec<(u64, u128)> = Vec::new();
        for &shard in shards {
            let (start, end) = self.range(shard);
            match ranges.last_mut() {
                Some(last) if last.1 == u128::from(start) => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        let term =
            |(start, end)| format!("shardRange(object.metadata.uid, '0x{start:016x}', '0x{end:016x}')");
        ranges.into_iter().map(term).collect::<Vec<_>>().join(" || ")
    }

    fn of(self, uid: &str) -> ShardId {
        let point = u128::from(fnv1a64(uid.as_bytes()));
        let shard = (point * u128::from(self.0)) >> 64;
        ShardId(u16::try_from(shard).expect("less than the count"))
    }
}

impl TryFrom<u16> for ShardCount {
    type Error = BadShardCount;

    fn try_from(count: u16) -> Result<Self, BadShardCount> {
        if count.is_power_of_two() && count <= 1024 {
            Ok(Self(count))
        } else {
            Err(BadShardCount(count.to_string()))
        }
    }
}

impl FromStr for ShardCount {
    type Err = BadShardCount;

    fn from_str(text: &str) -> Result<Self, BadShardCount> {
        let count: u16 = text.parse().map_err(|_| BadShardCount(text.to_owned()))?;
        Self::try_from(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_is_the_high_bits_of_the_hash() {
        let uid = NodeUid::from("6f1f0f6e-6f0e-4d7e-9a57-3a3f3a1d5f10");
        let hash = fnv1a64(uid.as_str().as_bytes());
        for (count, bits) in [(1u16, 0u32), (2, 1), (64, 6), (1024, 10)] {
            let expected = hash.checked_shr(64 - bits).unwrap_or(0);
            let count = ShardCount::try_from(count).unwrap();
            assert_eq!(u64::from(count.of_node(&uid).0), expected);
        }
    }

    #[test]
    fn ranges_meet_and_contain_their_hashes() {
        let count = ShardCount::try_from(64).unwrap();
        assert_eq!(count.range(ShardId(0)), (0, 1 << 58));
        assert_eq!(count.range(ShardId(63)).1, 1 << 64);
        for uid in ["a", "b", "c"] {
            let (from, to) = count.range(count.of(uid));
            let hash = fnv1a64(uid.as_bytes());
            assert!(hash >= from && u128::from(hash) < to, "{uid}");
        }
    }

    #[test]
    fn selector_names_neighbours_as_one_range() {
        let count = ShardCount::try_from(4).unwrap();
        let selector =
            |shards: &[u16]| count.selector(&shards.iter().copied().map(ShardId).collect::<Vec<_>>());
        let range = |start, end| format!("shardRange(object.metadata.uid, '0x{start}', '0x{end}')");
        assert_eq!(selector(&[0]), range("0000000000000000", "4000000000000000"));
        assert_eq!(selector(&[2, 3]), range("8000000000000000", "10000000000000000"));
        assert_eq!(
            selector(&[0, 1, 3]),
            [
                range("0000000000000000", "8000000000000000"),
                range("c000000000000000", "10000000000000000")
            ]
            .join(" || ")
        );
    }

    #[test]
    fn counts_that_are_no_power_of_two_or_too_large_are_refused() {
        for bad in ["0", "3", "63", "2048", "-1", "x", ""] {
            let error = bad.parse::<ShardCount>().unwrap_err().to_string();
            assert!(error.contains("power of two"), "{error}");
        }
        assert_eq!("64".parse::<ShardCount>().unwrap().all().count(), 64);
    }

    #[test]
    fn two_thousand_random_uids_spread_over_all_shards() {
        let count = ShardCount::try_from(64).unwrap();
        let (mut nodes, mut seed) = ([0u32; 64], 1u64);
        for _ in 0..2000 {
            // Knuth's MMIX generator stands in for the random digits of a version 4 UUID.
            let mut digits = || {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                seed >> 16
            };
            let uid = NodeUid::from(format!("{:08x}-{:012x}", digits() as u32, digits()));
            nodes[usize::from(count.of_node(&uid).0)] += 1;
        }
        assert!(nodes.iter().all(|&n| (10..70).contains(&n)), "{nodes:?}");
    }
}
