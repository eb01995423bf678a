//! Grants step by step, and a model of shards, pages and owners that see everything late.

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

/// The same, asking for more.
fn bigger(most: u32) -> Order {
    let spec = json!({
        "updateStrategy": { "maxUnavailable": most },
        "template": { "spec": { "resources": { "requests": { "cpu": "2" } } } },
    });
    Order {
        generation: 2,
        ..order("o", spec)
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
    let counts = shards.iter().map(|&shard| OrderCounts {
        generation: order.generation,
        ..counts(shard)
    });
    let counts: Vec<_> = counts.collect();
    *before = next(order, (0u16..).zip(&counts), before.as_ref());
    let grants = before.iter().flat_map(|rollout| &rollout.grants);
    let words: Vec<_> = grants
        .map(|grant| format!("{}:{}@{}", grant.shard, grant.count, grant.seq))
        .collect();
    words.join(" ")
}

/// What the shards count, and the grants that follow.
type Step<'a> = (&'a [(u32, u32, i64)], &'a str);

/// Steps one after another.
fn steps(order: &Order, rollout: &mut Option<Rollout>, table: &[Step<'_>]) {
    for (shards, expected) in table {
        assert_eq!(step(order, rollout, shards), *expected, "{shards:?}");
    }
}

#[test]
fn with_one_at_a_time_a_shard_keeps_the_grant_until_it_gives_it_back() {
    let mut rollout = None;
    steps(
        &rolled(1),
        &mut rollout,
        &[
            (&[(0, 0, 0), (0, 0, 0)], ""),
            (&[(2, 0, 0), (2, 0, 0)], "0:1@1"),
            (&[(1, 1, 1), (2, 0, 0)], "0:1@1"),
            (&[(0, 1, 1), (2, 0, 0)], "0:1@1"),
            (&[(0, 0, 2), (2, 0, 0)], "1:1@3"),
            (&[(1, 0, 2), (1, 1, 3)], "1:1@3"),
            (&[(1, 0, 2), (0, 0, 4)], "0:1@5"),
            (&[(0, 0, 6), (0, 0, 4)], ""),
        ],
    );
    assert_eq!(rollout.unwrap().seq, 5, "numbers are never used again");
}

#[test]
fn all_shards_work_at_once_as_far_as_there_is_room_and_as_they_need() {
    let mut rollout = None;
    steps(
        &rolled(5),
        &mut rollout,
        &[
            (&[(9, 0, 0), (1, 0, 0), (9, 0, 0)], "0:2@1 1:1@1 2:2@1"),
            (&[(7, 2, 1), (0, 1, 1), (9, 0, 0)], "0:2@1 1:1@1 2:2@1"),
            (&[(7, 2, 1), (0, 0, 2), (8, 1, 1)], "0:3@3 2:2@1"),
        ],
    );
}

#[test]
fn what_is_taken_back_is_free_only_when_the_shard_has_said_that_it_knows() {
    let mut rollout = None;
    steps(
        &rolled(4),
        &mut rollout,
        &[
            (&[(9, 0, 0), (0, 0, 0)], "0:4@1"),
            (&[(1, 1, 1), (3, 0, 0)], "0:4@1 0:2@2"),
            (&[(1, 1, 1), (3, 0, 0)], "0:4@1 0:2@2"),
            (&[(1, 1, 2), (3, 0, 0)], "0:2@2 1:2@3"),
        ],
    );
    let mut rollout = None;
    steps(
        &rolled(4),
        &mut rollout,
        &[
            (&[(9, 0, 0), (0, 0, 0)], "0:4@1"),
            (&[(0, 4, 1), (3, 0, 0)], "0:4@1"),
            (&[(0, 3, 1), (3, 0, 0)], "0:4@1 0:3@2"),
        ],
    );
}

#[test]
fn what_was_begun_counts_until_it_is_done_whatever_became_of_the_grant() {
    let mut rollout = None;
    steps(
        &rolled(4),
        &mut rollout,
        &[
            (&[(9, 0, 0), (9, 0, 0)], "0:2@1 1:2@1"),
            // Another process has the first shard now, which gives back what that was granted.
            (&[(7, 2, 2), (9, 0, 1)], "0:2@1 1:2@1"),
            (&[(7, 1, 2), (9, 0, 1)], "0:2@3 1:2@1"),
            (&[(7, 0, 3), (9, 0, 1)], "0:2@3 1:2@1"),
        ],
    );
}

#[test]
fn grants_are_taken_back_while_more_is_without_a_guardian_than_may_be_and_while_paused() {
    let (order, mut rollout) = (rolled(2), None);
    assert_eq!(step(&order, &mut rollout, &[(3, 0, 0), (0, 0, 0)]), "0:2@1");
    assert_eq!(step(&order, &mut rollout, &[(2, 1, 1), (0, 2, 0)]), "0:2@1 0:0@2");
    assert_eq!(
        step(&order, &mut rollout, &[(2, 0, 1), (0, 0, 0)]),
        "0:2@3",
        "what may still be in force may be granted again"
    );
    let paused = Order {
        paused: true,
        ..order.clone()
    };
    assert_eq!(
        step(&paused, &mut rollout, &[(2, 0, 3), (0, 0, 0)]),
        "0:2@3 0:0@4"
    );
    assert_eq!(step(&paused, &mut rollout, &[(2, 0, 4), (0, 0, 0)]), "");
}

#[test]
fn a_lower_max_unavailable_is_reached_by_taking_back_no_more_than_that() {
    let mut rollout = None;
    assert_eq!(
        step(&rolled(4), &mut rollout, &[(9, 0, 0), (9, 0, 0)]),
        "0:2@1 1:2@1"
    );
    let table: &[Step<'_>] = &[
        (&[(9, 2, 1), (9, 2, 1)], "0:2@1 0:1@2 1:2@1"),
        (&[(9, 2, 1), (9, 2, 1)], "0:2@1 0:1@2 1:2@1"),
        (&[(9, 1, 2), (9, 2, 1)], "0:1@2 1:2@1"),
    ];
    steps(&rolled(3), &mut rollout, table);
}

#[test]
fn a_new_template_starts_without_grants_once_every_shard_has_seen_it() {
    let (old, new) = (rolled(1), bigger(1));
    let mut rollout = None;
    assert_eq!(step(&old, &mut rollout, &[(3, 0, 0), (3, 0, 0)]), "0:1@1");
    let unseen: Vec<_> = [(3, 0, 1), (3, 0, 0)].map(counts).into();
    let after = next(&new, (0u16..).zip(&unseen), rollout.as_ref());
    assert_eq!(after, rollout, "a shard acts on the old template yet");
    steps(
        &new,
        &mut rollout,
        &[
            (&[(3, 1, 1), (3, 0, 0)], "0:1@1 0:0@2"),
            (&[(3, 1, 2), (3, 0, 0)], "0:1@1 0:0@2"),
            (&[(3, 0, 2), (3, 0, 0)], "0:1@3"),
        ],
    );
}

#[test]
fn numbers_go_on_after_a_status_was_wiped() {
    let mut rollout = None;
    assert_eq!(step(&rolled(1), &mut rollout, &[(3, 0, 7), (3, 0, 0)]), "0:1@8");
}

/// An Order as the API has it at one time: generation, which of two templates, its roll-out.
#[derive(Clone, Debug)]
struct Version {
    generation: i64,
    template: usize,
    rollout: Option<Rollout>,
}

/// A shard as `shard::grant` acts, with what it has seen and what its pages have said.
#[derive(Clone, Debug)]
struct Actor {
    /// Reserved Tickets by template.
    tickets: [u32; 2],
    rolling: u32,
    /// Tickets that somebody else has taken the Guardian from.
    hurt: u32,
    view: usize,
    acts_on: i64,
    pages: Vec<OrderCounts>,
    /// How many of them the owner of the status has seen.
    read: usize,
}

/// All of them, and the Order's past.
struct Model {
    orders: [Order; 2],
    past: Vec<Version>,
    actors: Vec<Actor>,
}

impl Model {
    fn new(shards: usize, tickets: u32, most: u32) -> Self {
        let first = Version {
            generation: 1,
            template: 1,
            rollout: None,
        };
        let actor = Actor {
            tickets: [tickets, 0],
            rolling: 0,
            hurt: 0,
            view: 0,
            acts_on: 0,
            pages: Vec::new(),
            read: 0,
        };
        let mut model = Self {
            orders: [rolled(most), bigger(most)],
            past: vec![first],
            actors: vec![actor; shards],
        };
        (0..shards).for_each(|n| model.publish(n));
        model
    }

    fn view(&self, n: usize) -> (&Version, Option<&Grant>) {
        let version = &self.past[self.actors[n].view];
        let grants = version.rollout.iter().flat_map(|rollout| &rollout.grants);
        let own = grants.filter(|grant| usize::from(grant.shard) == n);
        (version, own.max_by_key(|grant| grant.seq))
    }

    /// Whether the grant that the shard sees is for the template that it sees.
    fn cap(&self, n: usize) -> u32 {
        let (version, grant) = self.view(n);
        let hash = self.orders[version.template]
            .spec
            .as_ref()
            .unwrap()
            .template
            .hash
            .to_string();
        let same = version
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.template_hash == hash);
        grant
            .filter(|grant| same && grant.seq == self.actors[n].acts_on)
            .map_or(0, |grant| grant.count)
    }

    fn see(&mut self, n: usize, view: usize) {
        self.actors[n].view = view.min(self.past.len() - 1);
        let seq = self.view(n).1.map_or(0, |grant| grant.seq);
        self.actors[n].acts_on = self.actors[n].acts_on.max(seq);
    }

    fn begin(&mut self, n: usize) {
        let (cap, old) = (self.cap(n), 1 - self.view(n).0.template);
        let actor = &mut self.actors[n];
        if actor.tickets[old] > 0 && actor.rolling + actor.hurt < cap {
            (actor.tickets[old], actor.rolling) = (actor.tickets[old] - 1, actor.rolling + 1);
        }
    }

    fn finish(&mut self, n: usize) {
        let template = self.view(n).0.template;
        let actor = &mut self.actors[n];
        if actor.rolling > 0 {
            (actor.rolling, actor.tickets[template]) = (actor.rolling - 1, actor.tickets[template] + 1);
        }
    }

    fn publish(&mut self, n: usize) {
        let (version, cap) = (self.view(n).0.clone(), self.cap(n));
        let seq = self.view(n).1.map_or(0, |grant| grant.seq);
        let actor = &mut self.actors[n];
        let (stale, rolling) = (actor.tickets[1 - version.template], actor.rolling + actor.hurt);
        if cap > 0 && (stale, rolling) == (0, 0) {
            actor.acts_on = seq + 1;
        }
        actor.pages.push(OrderCounts {
            generation: version.generation,
            desired: actor.tickets.iter().sum::<u32>() + rolling,
            ..counts((stale, rolling, actor.acts_on))
        });
    }

    /// Another process takes the shard over: it reads the page anew, the Order may look as it did.
    fn take_over(&mut self, n: usize, view: usize) {
        self.actors[n].view = view.min(self.actors[n].view);
        let seq = self.view(n).1.map_or(0, |grant| grant.seq + 1);
        let page = self.actors[n].pages.last().unwrap().grant_seq;
        self.actors[n].acts_on = page.max(seq);
    }

    fn write(&mut self) {
        let last = self.past.last().unwrap().clone();
        let order = Order {
            generation: last.generation,
            ..self.orders[last.template].clone()
        };
        let pages: Vec<_> = self.actors.iter().map(|actor| &actor.pages[actor.read]).collect();
        let shards = (0u16..).zip(pages.iter().copied());
        let rollout = next(&order, shards, last.rollout.as_ref());
        if rollout != last.rollout {
            self.past.push(Version { rollout, ..last });
        }
    }

    fn edit(&mut self) {
        let last = self.past.last().unwrap();
        let (generation, template) = (last.generation + 1, 1 - last.template);
        self.past.push(Version {
            generation,
            template,
            ..last.clone()
        });
    }

    fn take(&mut self, what: u8, n: usize, how: usize) {
        let newest = self.past.len() - 1;
        let actor = &mut self.actors[n];
        match what {
            0 | 1 => self.write(),
            2 => {
                let view = actor.view + 1;
                self.see(n, view);
            }
            3 => self.see(n, newest),
            4 | 5 => self.begin(n),
            6 => self.finish(n),
            7 => self.publish(n),
            8 => actor.read = (actor.read + 1 + how).min(actor.pages.len() - 1),
            // Another process looks after the status, and sees pages as they were.
            9 => (self.actors.iter_mut()).for_each(|actor| actor.read = actor.read.saturating_sub(how)),
            10 => self.take_over(n, newest.saturating_sub(how)),
            11 if actor.tickets[0] > 0 => {
                (actor.tickets[0], actor.hurt) = (actor.tickets[0] - 1, actor.hurt + 1);
            }
            12 if actor.hurt > 0 => (actor.tickets[0], actor.hurt) = (actor.tickets[0] + 1, actor.hurt - 1),
            13 if how == 0 => self.edit(),
            _ => {}
        }
    }

    fn check(&self, most: u32) -> Result<(), TestCaseError> {
        let rolling: u32 = self.actors.iter().map(|actor| actor.rolling).sum();
        prop_assert!(
            rolling <= most,
            "{rolling} of {most}: {:?} {:?}",
            self.actors,
            self.past
        );
        let grants = |n: usize| {
            let rollout = self.past.last().unwrap().rollout.iter();
            let own = rollout.flat_map(|rollout| &rollout.grants);
            let own = own.filter(move |grant| usize::from(grant.shard) == n);
            own.map(|grant| grant.count).max().unwrap_or(0)
        };
        let granted: u32 = (0..self.actors.len()).map(grants).sum();
        prop_assert!(granted <= most, "{granted} granted: {:?}", self.past.last());
        Ok(())
    }

    /// All goes well for a while, and everybody sees everything.
    fn go_on(&mut self, most: u32) -> Result<usize, TestCaseError> {
        for round in 0..1000 {
            for n in 0..self.actors.len() {
                self.see(n, usize::MAX);
                self.actors[n].tickets[0] += std::mem::take(&mut self.actors[n].hurt);
                for _ in 0..most {
                    self.begin(n);
                    self.check(most)?;
                }
                (0..most).for_each(|_| self.finish(n));
                self.publish(n);
                self.actors[n].read = self.actors[n].pages.len() - 1;
            }
            self.write();
            self.check(most)?;
            let old = 1 - self.past.last().unwrap().template;
            if self
                .actors
                .iter()
                .all(|actor| actor.tickets[old] == 0 && actor.rolling == 0)
            {
                return Ok(round);
            }
        }
        Err(TestCaseError::fail(format!(
            "{:?} {:?}",
            self.actors,
            self.past.last()
        )))
    }
}

#[test]
fn one_at_a_time_over_64_shards_holds_and_finishes() {
    let mut model = Model::new(64, 3, 1);
    let rounds = model.go_on(1).unwrap();
    assert!(rounds <= 64 * 5, "{rounds} rounds");
}

#[test]
fn a_tenth_at_a_time_over_64_shards_takes_about_ten_rounds() {
    let mut model = Model::new(64, 15, 96);
    let rounds = model.go_on(96).unwrap();
    assert!(rounds <= 20, "{rounds} rounds");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Shards see grants late, publish late, are taken over; pages are read late or as they were; the
    /// template changes, Guardians are taken away.
    #[test]
    fn never_more_than_may_be_is_without_a_guardian_and_the_roll_out_ends(
        steps in proptest::collection::vec((0u8..14, 0usize..4, 0usize..6), 0..300),
        most in 1u32..6,
    ) {
        let mut model = Model::new(4, 4, most);
        for (what, n, how) in steps {
            model.take(what, n, how);
            model.check(most)?;
        }
        model.go_on(most)?;
    }
}

/// The page is read anew, so the new owner knows what the one before gave back, however old its Order is.
#[test]
fn who_takes_a_shard_over_does_not_act_on_a_grant_that_was_given_up() {
    let mut model = Model::new(2, 2, 1);
    model.actors[0].tickets[0] = 0;
    model.publish(0);
    model.actors[0].read = 1;
    let before = model.past.len() - 1;
    model.write();
    model.see(1, usize::MAX);
    assert_eq!(model.cap(1), 1);
    // Shard 0 has one that lost its Guardian: shard 1's grant is taken back, which it acknowledges.
    model.actors[0].hurt = 1;
    model.publish(0);
    model.publish(1);
    (model.actors[0].read, model.actors[1].read) = (2, 1);
    model.write();
    model.see(1, usize::MAX);
    assert_eq!(model.cap(1), 0);
    model.publish(1);
    // Mended; shard 0 gets the grant.
    (model.actors[0].hurt, model.actors[0].tickets[0]) = (0, 1);
    model.publish(0);
    (model.actors[0].read, model.actors[1].read) = (3, 2);
    model.write();
    model.see(0, usize::MAX);
    assert_eq!(model.cap(0), 1);
    model.begin(0);
    model.check(1).unwrap();
    model.take_over(1, before);
    model.see(1, before + 1);
    assert_eq!(model.cap(1), 0);
    model.begin(1);
    model.check(1).unwrap();
}
