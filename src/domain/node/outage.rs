//! Nodes that turn NotReady together: their Tickets go a few a minute, not all at once.
//!
//! When more than a fifth of all nodes, and at least ten, have turned NotReady within one minute of each
//! other, it is more likely a network or a control plane that fails than so many nodes. Sorted by (when,
//! hash of the uid), every r-th of them costs the later ones one minute more. A function of all nodes, so
//! that every replica computes the same: also where it does not see the nodes of other shards, but is told
//! how many of them are NotReady since when. A shard is a range of hashes, so that is enough to know how many
//! come before a node of an own shard.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::record::Node;
use crate::domain::values::{hash::fnv1a64, ids::NodeUid};

/// Turned NotReady within so long of each other: together.
const TOGETHER: SignedDuration = SignedDuration::from_secs(60);
/// At least so many nodes, and more than one in so many of all.
const MANY: (usize, usize) = (10, 5);
/// At least so many nodes a minute, and one in so many of all.
const PER_MINUTE: (usize, usize) = (5, 10);

type Minutes = HashMap<NodeUid, u64, ahash::RandomState>;

/// A NotReady node: since when, the hash of its uid, and its uid if it is known here.
type Lost = (Timestamp, u64, Option<NodeUid>);

/// Which nodes are NotReady since when, of how many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outage {
    nodes: usize,
    not_ready: BTreeSet<Lost>,
    /// Only nodes of own shards are seen.
    by_ranges: bool,
    /// What all say of their shards, by the first hash of each.
    told: BTreeMap<u64, Told>,
    /// Shards whose nodes are seen here.
    own: BTreeSet<u64>,
    /// Computed when it is asked for, and kept until a readiness changes.
    minutes: Option<Minutes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    nodes: u32,
    not_ready: Vec<(Timestamp, u32)>,
}

impl Outage {
    /// A node was added, changed or lost.
    pub(crate) fn see(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let (was, is) = (before.and_then(lost), after.and_then(lost));
        self.nodes += usize::from(after.is_some());
        self.nodes -= usize::from(before.is_some());
        if was == is && before.is_some() == after.is_some() {
            return;
        }
        self.minutes = None;
        if let Some(was) = was {
            self.not_ready.remove(&was);
        }
        self.not_ready.extend(is);
    }

    /// From now on only nodes of own shards are seen: what is told of the others counts.
    pub(crate) fn use_ranges(&mut self) {
        self.by_ranges = true;
        self.minutes = None;
    }

    /// The owner of the shard that begins with this hash has so many nodes, so many of them NotReady since
    /// these times.
    pub(crate) fn told(&mut self, shard: u64, nodes: u32, not_ready: Vec<(Timestamp, u32)>) {
        let told = Told { nodes, not_ready };
        if self.told.get(&shard) != Some(&told) {
            self.told.insert(shard, told);
            self.minutes = None;
        }
    }

    /// The nodes of this shard are seen here from now on, or no longer.
    pub(crate) fn own(&mut self, shard: u64, own: bool) {
        let changed = if own {
            self.own.insert(shard)
        } else {
            self.own.remove(&shard)
        };
        if changed {
            self.minutes = None;
        }
    }

    /// How much longer than its grace the node keeps its Tickets.
    pub(crate) fn spared(&mut self, node: &NodeUid) -> Duration {
        if self.minutes.is_none() {
            self.minutes = Some(self.compute());
        }
        let minutes = self.minutes.as_ref().and_then(|minutes| minutes.get(node));
        Duration::from_secs(60 * minutes.copied().unwrap_or_default())
    }

    fn compute(&self) -> Minutes {
        let elsewhere = || {
            let told = self.told.iter().filter(|_| self.by_ranges);
            told.filter(|(shard, _)| !self.own.contains(shard))
        };
        let count = |count: u32| usize::try_from(count).unwrap_or_default();
        let nodes = self.nodes + elsewhere().map(|(_, told)| count(told.nodes)).sum::<usize>();
        let others = elsewhere().flat_map(|(shard, told)| {
            let groups = told.not_ready.iter();
            groups.flat_map(|&(since, many)| std::iter::repeat_n((since, *shard, None), count(many)))
        });
        let mut all: Vec<Lost> = self.not_ready.iter().cloned().chain(others).collect();
        all.sort();
        minutes(&all, nodes)
    }
}

fn lost(node: &Node) -> Option<Lost> {
    let hash = fnv1a64(node.uid.as_str().as_bytes());
    Some((node.not_ready_since()?, hash, Some(node.uid.clone())))
}

/// The minutes that each node has to wait, where that is any.
fn minutes(sorted: &[Lost], nodes: usize) -> Minutes {
    let per_minute = PER_MINUTE.0.max(nodes / PER_MINUTE.1);
    let mut minutes = Minutes::default();
    for group in groups(sorted, nodes) {
        for (rank, (_, _, uid)) in group.iter().enumerate() {
            let late = u64::try_from(rank / per_minute).expect("fewer nodes than that");
            if let (Some(uid), true) = (uid, late > 0) {
                minutes.insert(uid.clone(), late);
            }
        }
    }
    minutes
}

/// Runs of nodes that turned NotReady together; runs that overlap are one.
fn groups(sorted: &[Lost], nodes: usize) -> Vec<&[Lost]> {
    let (mut runs, mut end): (Vec<(usize, usize)>, usize) = (Vec::new(), 0);
    for begin in 0..sorted.len() {
        while end < sorted.len() && sorted[end].0.duration_since(sorted[begin].0) <= TOGETHER {
            end += 1;
        }
        let count = end - begin;
        if count < MANY.0 || count * MANY.1 <= nodes {
            continue;
        }
        match runs.last_mut() {
            Some(last) if begin < last.1 => last.1 = end,
            _ => runs.push((begin, end)),
        }
    }
    runs.into_iter().map(|(begin, end)| &sorted[begin..end]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::domain::{node::record::ReadyStatus, testing::node};

    fn hash(name: &str) -> u64 {
        fnv1a64(node(name).uid.as_str().as_bytes())
    }

    /// The n-th of all nodes in the order of their hashes.
    fn name(n: usize) -> String {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let mut names: Vec<String> = (0..200).map(|n| format!("n{n}")).collect();
            names.sort_by_key(|name| hash(name));
            names
        });
        NAMES[n].clone()
    }

    /// So many nodes, the first of them NotReady since these seconds.
    fn outage(nodes: usize, since: impl IntoIterator<Item = i64>) -> Outage {
        let mut outage = Outage::default();
        (0..nodes).for_each(|n| outage.see(None, Some(&node(&name(n)))));
        for (n, since) in since.into_iter().enumerate() {
            let gone = node(&name(n)).ready(ReadyStatus::Unknown, since);
            outage.see(Some(&node(&name(n))), Some(&gone));
        }
        outage
    }

    fn minutes_of(outage: &mut Outage, n: usize) -> u64 {
        outage.spared(&node(&name(n)).uid).as_secs() / 60
    }

    fn all(outage: &mut Outage, nodes: usize) -> Vec<u64> {
        (0..nodes).map(|n| minutes_of(outage, n)).collect()
    }

    #[test]
    fn a_third_of_a_hundred_nodes_goes_ten_a_minute() {
        let mut outage = outage(100, [1000; 33]);
        let expected: Vec<u64> = (0..100).map(|n| if n < 33 { n / 10 } else { 0 }).collect();
        assert_eq!(all(&mut outage, 100), expected);
    }

    #[test]
    fn small_clusters_lose_five_a_minute() {
        assert_eq!(
            all(&mut outage(20, [1000; 12]), 12),
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
        );
    }

    #[test]
    fn a_fifth_or_fewer_than_ten_are_not_spared() {
        for (nodes, lost, spared) in [(100, 20, false), (100, 21, true), (12, 9, false), (12, 10, true)] {
            let mut outage = outage(nodes, vec![1000; lost]);
            assert_eq!(
                all(&mut outage, nodes).iter().any(|&minutes| minutes > 0),
                spared,
                "{lost} of {nodes}"
            );
        }
    }

    #[test]
    fn those_that_turned_at_other_times_are_not_spared_and_do_not_count() {
        let apart = (0..40).map(|n| 1000 + 10 * n);
        assert_eq!(
            all(&mut outage(100, apart), 100),
            [0; 100],
            "seven within a minute"
        );
        let mut later = outage(100, [0; 5].into_iter().chain([1000; 25]));
        assert_eq!(minutes_of(&mut later, 4), 0);
        assert_eq!((minutes_of(&mut later, 14), minutes_of(&mut later, 15)), (0, 1));
    }

    #[test]
    fn order_is_by_time_then_hash() {
        let mut outage = outage(100, (0..30).map(|n| 1030 - n));
        assert_eq!((minutes_of(&mut outage, 29), minutes_of(&mut outage, 0)), (0, 2));
    }

    /// Each replica sees every other shard and is told of the rest.
    #[test]
    fn who_sees_only_own_shards_computes_what_all_others_do() {
        let since = |n: usize| (n < 60).then_some(1000 + 7 * (n as i64 % 5));
        let lost = |n: usize| match since(n) {
            Some(since) => node(&name(n)).ready(ReadyStatus::Unknown, since),
            None => node(&name(n)),
        };
        let mut whole = Outage::default();
        (0..200).for_each(|n| whole.see(None, Some(&lost(n))));
        let shard = |n: usize| hash(&name(n)) >> 61;
        for mine in [0, 1] {
            let mut part = Outage::default();
            part.use_ranges();
            for of in 0..8 {
                let nodes: Vec<usize> = (0..200).filter(|&n| shard(n) == of).collect();
                if of % 2 == mine {
                    part.own(of << 61, true);
                    nodes.iter().for_each(|&n| part.see(None, Some(&lost(n))));
                }
                // Also of own shards: what was said of them before does not count twice.
                let mut not_ready = BTreeMap::<Timestamp, u32>::new();
                for since in nodes.iter().filter_map(|&n| lost(n).not_ready_since()) {
                    *not_ready.entry(since).or_default() += 1;
                }
                let not_ready: Vec<_> = not_ready.into_iter().collect();
                part.told(of << 61, u32::try_from(nodes.len()).unwrap(), not_ready);
            }
            let own = |n: &usize| shard(*n) % 2 == mine;
            let expected: Vec<u64> = (0..200).filter(own).map(|n| minutes_of(&mut whole, n)).collect();
            let found: Vec<u64> = (0..200).filter(own).map(|n| minutes_of(&mut part, n)).collect();
            assert_eq!(found, expected);
            assert_eq!(found.iter().max(), Some(&2));
        }
    }

    #[test]
    fn a_node_that_is_ready_again_or_gone_leaves_the_list() {
        let mut outage = outage(100, [1000; 30]);
        assert_eq!(minutes_of(&mut outage, 20), 2);
        let lost = |n| node(&name(n)).ready(ReadyStatus::Unknown, 1000);
        outage.see(Some(&lost(0)), Some(&node(&name(0))));
        assert_eq!(minutes_of(&mut outage, 20), 1);
        outage.see(Some(&lost(10)), None);
        assert_eq!(
            (minutes_of(&mut outage, 0), minutes_of(&mut outage, 20)),
            (0, 2),
            "9 a minute of 99"
        );
        (1..10).for_each(|n| outage.see(Some(&lost(n)), Some(&node(&name(n)))));
        assert_eq!(all(&mut outage, 100), [0; 100], "no longer so many");
    }
}
