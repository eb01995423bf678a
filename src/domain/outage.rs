//! Nodes that turn NotReady together: their Tickets go a few a minute, not all at once.
//!
//! When more than a fifth of all nodes, and at least ten, have turned NotReady within one minute of each
//! other, it is more likely a network or a control plane that fails than so many nodes. Sorted by (when,
//! uid), every r-th of them costs the later ones one minute more. A function of all nodes known, so that
//! every replica computes the same.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    ids::NodeUid,
    node::{Node, ReadyStatus},
};

/// Turned NotReady within so long of each other: together.
const TOGETHER: SignedDuration = SignedDuration::from_secs(60);
/// At least so many nodes, and more than one in so many of all.
const MANY: (usize, usize) = (10, 5);
/// At least so many nodes a minute, and one in so many of all.
const PER_MINUTE: (usize, usize) = (5, 10);

type Minutes = HashMap<NodeUid, u64, ahash::RandomState>;

/// Which nodes are NotReady since when, of how many.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    nodes: usize,
    not_ready: BTreeSet<(Timestamp, NodeUid)>,
    /// Computed when it is asked for, and kept until a readiness changes.
    minutes: Option<Minutes>,
}

impl Outage {
    /// A node was added, changed or lost.
    pub fn see(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let (was, is) = (before.and_then(since), after.and_then(since));
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

    /// How much longer than its grace the node keeps its Tickets.
    pub fn spared(&mut self, node: &NodeUid) -> Duration {
        let minutes = self
            .minutes
            .get_or_insert_with(|| minutes(&self.not_ready, self.nodes));
        Duration::from_secs(60 * minutes.get(node).copied().unwrap_or_default())
    }
}

/// Since when a node is NotReady, with its uid.
fn since(node: &Node) -> Option<(Timestamp, NodeUid)> {
    (node.ready.status != ReadyStatus::True).then(|| (node.ready.since, node.uid.clone()))
}

/// The minutes that each node has to wait, where that is any.
fn minutes(not_ready: &BTreeSet<(Timestamp, NodeUid)>, nodes: usize) -> Minutes {
    let sorted: Vec<&(Timestamp, NodeUid)> = not_ready.iter().collect();
    let per_minute = PER_MINUTE.0.max(nodes / PER_MINUTE.1);
    let mut minutes = Minutes::default();
    for group in groups(&sorted, nodes) {
        for (rank, (_, uid)) in group.iter().enumerate() {
            let late = u64::try_from(rank / per_minute).expect("fewer nodes than that");
            if late > 0 {
                minutes.insert(uid.clone(), late);
            }
        }
    }
    minutes
}

/// Runs of nodes that turned NotReady together; runs that overlap are one.
fn groups<'a, 'b>(
    sorted: &'b [&'a (Timestamp, NodeUid)],
    nodes: usize,
) -> Vec<&'b [&'a (Timestamp, NodeUid)]> {
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
    use super::*;
    use crate::domain::testing::node;

    fn name(n: usize) -> String {
        format!("n{n:03}")
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
    fn order_is_by_time_then_uid() {
        let mut outage = outage(100, (0..30).map(|n| 1030 - n));
        assert_eq!((minutes_of(&mut outage, 29), minutes_of(&mut outage, 0)), (0, 2));
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
