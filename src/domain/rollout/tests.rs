//! Grants step by step, and a model of shards that see everything late.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::testing::order;

fn rolled(most: u32) -> Order {
    let strategy = json!({ "updateStrategy": { "maxUnavailable": most } });
    Order {
        generation: 1,
        ..order("o", strategy)
    }
}

/// Counts of one shard: stale, rolling, grantSeq.
fn counts((stale, rolling, grant_seq): (u32, u32, i64)) -> OrderCounts {
    OrderCounts {
        desired: 5,
        stale,
        rolling,
        grant_seq,
        generation: 1,
        ..OrderCounts::default()
    }
}

/// The grants after these counts as `shard:count@seq`.
fn step(order: &Order, before: &mut Option<Rollout>, shards: &[(u32, u32, i64)]) -> String {
    let counts: Vec<_> = shards.iter().copied().map(counts).collect();
    *before = next(order, (0u16..).zip(&counts), before.as_ref());
    let grants = before.iter().flat_map(|rollout| &rollout.grants);
    let words: Vec<_> = grants
        .map(|grant| format!("{}:{}@{}", grant.shard, grant.count, grant.seq))
        .collect();
    words.join(" ")
}

#[test]
fn a_shard_keeps_the_grant_until_it_gives_it_back() {
    let (order, mut rollout) = (rolled(1), None);
    for (shards, expected) in [
        ([(0, 0, 0), (0, 0, 0)], ""),
        ([(2, 0, 0), (2, 0, 0)], "0:1@1"),
        ([(1, 1, 1), (2, 0, 0)], "0:1@1"),
        ([(0, 1, 1), (2, 0, 0)], "0:1@1"),
        ([(0, 0, 1), (2, 0, 0)], "0:1@1"),
        ([(0, 0, 2), (2, 0, 0)], "1:1@3"),
        ([(1, 0, 2), (1, 1, 3)], "1:1@3"),
        ([(1, 0, 2), (0, 0, 4)], "0:1@5"),
        ([(0, 0, 6), (0, 0, 4)], ""),
    ] {
        assert_eq!(step(&order, &mut rollout, &shards), expected, "{shards:?}");
    }
    assert_eq!(rollout.unwrap().seq, 5, "numbers are never used again");
}

#[test]
fn with_room_the_next_shard_begins_while_the_last_ticket_of_the_former_is_under_way() {
    let (order, mut rollout) = (rolled(4), None);
    assert_eq!(step(&order, &mut rollout, &[(1, 0, 0), (3, 0, 0)]), "0:4@1");
    let next = "0:0@2 1:2@2";
    assert_eq!(step(&order, &mut rollout, &[(0, 1, 1), (3, 0, 0)]), next);
    assert_eq!(step(&order, &mut rollout, &[(0, 1, 2), (3, 0, 0)]), "1:2@2");
}

#[test]
fn grants_are_taken_back_while_more_is_without_a_guardian_than_may_be_and_while_paused() {
    let (order, mut rollout) = (rolled(2), None);
    assert_eq!(step(&order, &mut rollout, &[(3, 0, 0), (0, 0, 0)]), "0:2@1");
    assert_eq!(step(&order, &mut rollout, &[(2, 1, 1), (0, 2, 0)]), "0:0@2");
    assert_eq!(
        step(&order, &mut rollout, &[(2, 0, 1), (0, 0, 0)]),
        "0:0@2",
        "not seen"
    );
    assert_eq!(step(&order, &mut rollout, &[(2, 0, 2), (0, 0, 0)]), "0:2@3");
    let paused = Order {
        paused: true,
        ..order.clone()
    };
    assert_eq!(step(&paused, &mut rollout, &[(2, 0, 3), (0, 0, 0)]), "0:0@4");
    assert_eq!(step(&paused, &mut rollout, &[(2, 0, 4), (0, 0, 0)]), "");
}

#[test]
fn a_new_template_starts_without_grants_once_every_shard_has_seen_it() {
    let old = rolled(1);
    let spec = json!({
        "updateStrategy": { "maxUnavailable": 1 },
        "template": { "spec": { "resources": { "requests": { "cpu": "2" } } } },
    });
    let new = Order {
        generation: 2,
        ..order("o", spec)
    };
    let mut rollout = None;
    assert_eq!(step(&old, &mut rollout, &[(3, 0, 0), (3, 0, 0)]), "0:1@1");
    assert_eq!(step(&new, &mut rollout, &[(3, 0, 1), (3, 0, 0)]), "0:1@1");
    let seen = |stale, rolling, seq| OrderCounts {
        generation: 2,
        ..counts((stale, rolling, seq))
    };
    let grants = |shards: [OrderCounts; 2]| {
        next(&new, (0u16..).zip(&shards), rollout.as_ref())
            .unwrap()
            .grants
    };
    assert_eq!(grants([seen(3, 1, 1), seen(3, 0, 0)]), [], "the last one first");
    let first = Grant {
        shard: 0,
        count: 1,
        seq: 2,
    };
    assert_eq!(grants([seen(3, 0, 1), seen(3, 0, 0)]), [first]);
}

#[test]
fn numbers_go_on_after_a_status_was_wiped() {
    let mut rollout = None;
    assert_eq!(step(&rolled(1), &mut rollout, &[(3, 0, 7), (3, 0, 0)]), "0:1@8");
}

/// A shard as `shard::grant` acts, with what it has seen and what others have seen of it.
#[derive(Clone, Debug, Default)]
struct Actor {
    stale: u32,
    rolling: u32,
    acts_on: i64,
    count: u32,
    seq: i64,
    page: OrderCounts,
}

impl Actor {
    fn see(&mut self, rollout: Option<&Rollout>, id: u16) {
        let own = rollout.and_then(|rollout| rollout.grants.iter().find(|grant| grant.shard == id));
        (self.count, self.seq) = own.map_or((0, 0), |grant| (grant.count, grant.seq));
        self.acts_on = self.acts_on.max(self.seq);
    }

    fn begin(&mut self) {
        if self.stale > 0 && self.rolling == 0 && self.rolling < self.count && self.acts_on == self.seq {
            (self.stale, self.rolling) = (self.stale - 1, 1);
        }
    }

    fn publish(&mut self) {
        if self.count > 0 && self.acts_on == self.seq && (self.stale, self.rolling) == (0, 0) {
            self.acts_on = self.seq + 1;
        }
        self.page = counts((self.stale, self.rolling, self.acts_on));
    }
}

proptest! {
    /// Shards see grants late, publish late, and nodes with old Tickets come back at any time.
    #[test]
    fn never_more_than_may_be_is_without_a_guardian_and_the_roll_out_ends(
        steps in proptest::collection::vec((0usize..4, 0u8..8), 0..200),
        most in 1u32..4,
    ) {
        let (order, mut rollout) = (rolled(most), None);
        let mut actors = vec![Actor { stale: 2, page: counts((2, 0, 0)), ..Actor::default() }; 4];
        let write = |actors: &[Actor], rollout: &mut Option<Rollout>| {
            let pages: Vec<_> = actors.iter().map(|actor| actor.page.clone()).collect();
            *rollout = next(&order, (0u16..).zip(&pages), rollout.as_ref());
        };
        let round = (0..200).flat_map(|_| (0..4).flat_map(|n| [0u8, 1, 2, 3, 4].map(|what| (n, what))));
        for (n, what) in steps.into_iter().chain(round) {
            let id = u16::try_from(n).unwrap();
            match what {
                0 => write(&actors, &mut rollout),
                1 => actors[n].see(rollout.as_ref(), id),
                2 => actors[n].begin(),
                3 => actors[n].rolling = 0,
                4 => actors[n].publish(),
                // A node whose Ticket is old turns Ready again.
                5 => actors[n].stale += 1,
                // Another process takes the shard over, as `controller::rollup` tells it to.
                6 => {
                    let grants = rollout.iter().flat_map(|rollout| &rollout.grants);
                    let granted = grants.filter(|grant| grant.shard == id).map(|grant| grant.seq + 1);
                    actors[n].acts_on = actors[n].page.grant_seq.max(granted.max().unwrap_or(0));
                    actors[n].see(rollout.as_ref(), id);
                }
                // The same, but its watch of Orders shows no grant yet.
                _ => {
                    actors[n].acts_on = actors[n].page.grant_seq;
                    actors[n].see(None, id);
                }
            }
            let rolling: u32 = actors.iter().map(|actor| actor.rolling).sum();
            prop_assert!(rolling <= most, "{rolling} of {most}: {actors:?} {rollout:?}");
        }
        prop_assert!(actors.iter().all(|actor| actor.stale == 0), "{actors:?} {rollout:?}");
    }
}
