//! The rule by itself, then what it promises, over seeded random histories.

use std::collections::BTreeMap;

use super::*;
use crate::domain::values::ids::NodeUid;

type Owners = Vec<Option<ReplicaId>>;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A version 4 UUID.
    fn uid(&mut self) -> NodeUid {
        let mut text = *b"00000000-0000-4000-a000-000000000000";
        let mut digits = u128::from(self.next()) << 64 | u128::from(self.next());
        for place in text.iter_mut().filter(|place| **place == b'0') {
            *place = b"0123456789abcdef"[digits as usize & 15];
            digits >>= 4;
        }
        str::from_utf8(&text).unwrap().into()
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn names(count: usize) -> Vec<ReplicaId> {
    (0..count).map(|n| format!("korder-{n:02}").into()).collect()
}

fn count(shards: u16) -> ShardCount {
    ShardCount::try_from(shards).unwrap()
}

fn settle(members: &[ReplicaId], held: &Owners) -> Owners {
    let count = count(u16::try_from(held.len()).unwrap());
    owners(count, members, |shard| held[usize::from(shard.0)].as_ref())
}

fn moved(before: &Owners, after: &Owners) -> usize {
    before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after)
        .count()
}

fn loads(members: &[ReplicaId], owners: &Owners) -> Vec<usize> {
    let load = |member| owners.iter().flatten().filter(|owner| *owner == member).count();
    members.iter().map(load).collect()
}

/// The fewest moves after which no two members differ by more than one: what a member has above the even
/// share has to go, but for one with as many members as there are odd shards.
fn fewest_moves(members: &[ReplicaId], held: &Owners) -> usize {
    let (even, odd) = (held.len() / members.len(), held.len() % members.len());
    let loads = loads(members, held);
    let kept: usize = loads.iter().map(|load| (*load).min(even)).sum();
    held.len() - kept - loads.iter().filter(|load| **load > even).count().min(odd)
}

fn check(members: &[ReplicaId], held: &Owners) -> Owners {
    let after = settle(members, held);
    if members.is_empty() {
        assert!(after.iter().all(Option::is_none));
        return after;
    }
    assert!(after.iter().all(Option::is_some), "a shard without owner");
    let loads = loads(members, &after);
    assert_eq!(loads.iter().sum::<usize>(), held.len());
    assert!(
        loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1,
        "{loads:?}"
    );
    assert_eq!(moved(held, &after), fewest_moves(members, held), "{members:?}");
    assert_eq!(settle(members, &after), after, "not settled");
    after
}

#[test]
fn three_to_four_and_back_moves_a_quarter_each_way() {
    let held = check(&names(3), &vec![None; 64]);
    assert_eq!(loads(&names(3), &held), [22, 21, 21]);
    let four = check(&names(4), &held);
    assert_eq!(moved(&held, &four), 16);
    let three = check(&names(3), &four);
    assert_eq!(moved(&four, &three), 16);
}

#[test]
fn members_that_come_and_go_move_no_more_shards_than_they_must() {
    for seed in 0..200 {
        let random = &mut Random(seed);
        let all = names(1 + random.below(12));
        let mut held: Owners = vec![None; 1 << random.below(9)];
        for _ in 0..20 {
            let members: Vec<_> = all.iter().filter(|_| random.below(3) > 0).cloned().collect();
            held = check(&members, &held);
        }
    }
}

#[test]
fn whoever_holds_what_no_more_shards_move_than_must() {
    for seed in 0..300 {
        let random = &mut Random(seed);
        let (all, live) = (names(9), 1 + random.below(9));
        let held = (0..1usize << random.below(8))
            .map(|_| all.get(random.below(12)).cloned())
            .collect();
        check(&all[..live], &held);
    }
}

#[test]
fn a_part_of_the_moves_carried_out_leaves_the_rest_as_it_was() {
    for seed in 0..300 {
        let random = &mut Random(seed);
        let (all, live) = (names(7), 1 + random.below(7));
        let mut held: Owners = (0..64).map(|_| all.get(random.below(9)).cloned()).collect();
        let target = settle(&all[..live], &held);
        while held != target {
            let shard = random.below(64);
            // First released, then taken.
            held[shard] = match &held[shard] {
                holder if *holder == target[shard] => continue,
                Some(_) => None,
                None => target[shard].clone(),
            };
            assert_eq!(settle(&all[..live], &held), target, "seed {seed}");
        }
    }
}

#[test]
fn answer_never_changes_from_one_version_to_the_next() {
    let owners = settle(&names(3), &vec![None; 16]);
    let numbers: String = owners
        .iter()
        .flatten()
        .map(|owner| &owner.as_str()[8..])
        .collect();
    assert_eq!(numbers, "2010202022111010");
}

#[test]
fn preferences_are_even_for_names_that_hardly_differ() {
    // 10 names × 1024 shards: each of 10 replicas should come first for about 102.
    let names = names(10);
    let mut first = BTreeMap::new();
    for shard in count(1024).all() {
        let best = names.iter().max_by_key(|name| rank(name, shard)).unwrap();
        *first.entry(best.clone()).or_insert(0) += 1;
    }
    assert!(first.values().all(|n| (70..135).contains(n)), "{first:?}");
}

#[test]
fn nodes_are_spread_evenly_over_five_replicas() {
    let (members, shards, nodes) = (names(5), count(64), 5000);
    let owners = settle(&members, &vec![None; 64]);
    let (mut sum, mut worst) = (0.0, 0.0f64);
    let random = &mut Random(0);
    let shard_of: Vec<ShardId> = (0..200_000).map(|_| shards.of_node(&random.uid())).collect();
    for _ in 0..1000 {
        let mut on_shard = [0u32; 64];
        for _ in 0..nodes {
            on_shard[usize::from(shard_of[random.below(shard_of.len())].0)] += 1;
        }
        let on = |member| {
            let own = owners
                .iter()
                .zip(on_shard)
                .filter(|(owner, _)| owner.as_ref() == Some(member));
            own.map(|(_, nodes)| nodes).sum::<u32>()
        };
        let most = members.iter().map(on).max().unwrap();
        let ratio = f64::from(most) * 5.0 / f64::from(nodes);
        (sum, worst) = (sum + ratio, worst.max(ratio));
    }
    println!(
        "nodes per replica, max/mean: mean {:.4}, worst {worst:.4}",
        sum / 1000.0
    );
    assert!(sum / 1000.0 <= 1.06);
    assert!(worst <= 1.13);
}
