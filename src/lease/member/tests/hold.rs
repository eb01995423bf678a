//! Renewals, lost answers, deadlines, and records that show somebody else.

use super::{
    super::*,
    rig::{Rig, name},
};

const OWN: u16 = 0;

#[test]
fn renewals_come_in_rounds_the_membership_first() {
    let mut rig = Rig::alone();
    assert_eq!(
        rig.run(12_000),
        [
            "5.0: put a",
            "5.0: put 0, put 1, put 2, put 3",
            "10.0: put a",
            "10.0: put 0, put 1, put 2, put 3"
        ]
    );
    assert_eq!(rig.left(OWN), Some(8_000));
}

#[test]
fn shards_wait_half_a_second_for_the_memberships_answer() {
    let mut rig = Rig::alone();
    assert_eq!(rig.wait(5_000).poll(), "put a");
    assert_eq!(rig.wake_in(), Some(500));
    assert_eq!(rig.wait(499).poll(), "");
    assert_eq!(rig.wait(1).poll(), "put 0, put 1, put 2, put 3");
}

/// The membership's PUT of 7.5 s has landed; those of the shards, begun at 5.5 s, are under way.
fn shards_before_the_membership() -> Rig {
    let mut rig = Rig::alone();
    assert_eq!(rig.wait(5_000).poll(), "put a");
    assert_eq!(rig.wait(500).poll(), "put 0, put 1, put 2, put 3");
    rig.wait(1_500).answer("a", LeaseResult::Unknown);
    assert_eq!(rig.wait(500).poll(), "put a");
    rig.land("a");
    rig
}

#[test]
fn deadline_counts_from_the_start_of_the_put_that_landed() {
    let mut rig = shards_before_the_membership();
    assert_eq!(rig.left(0), Some(2_500), "no answer yet");
    rig.land("0");
    assert_eq!(rig.left(0), Some(8_000));
    assert_eq!(rig.left(1), Some(2_500));
}

#[test]
fn deadline_of_a_shard_is_at_most_the_memberships() {
    let mut rig = Rig::alone();
    assert_eq!(rig.wait(5_000).poll(), "put a");
    assert_eq!(rig.wait(500).poll(), "put 0, put 1, put 2, put 3");
    rig.land("0");
    assert_eq!(rig.left(0), Some(4_500));
    rig.land("a");
    assert_eq!(rig.left(0), Some(9_500));
}

#[test]
fn renewal_is_tried_again_as_often_as_fits_and_then_everything_is_dropped() {
    let mut rig = Rig::alone();
    let mut log = Vec::new();
    for tenth in 0..130 {
        let text = rig.poll();
        if !text.is_empty() {
            log.push(format!("{:.1}: {text}", f64::from(tenth) / 10.0));
        }
        // Everything times out, the membership after 2 s.
        if tenth % 25 == 20 && tenth > 50 {
            for lease in ["a", "0", "1", "2", "3"] {
                if rig.asking(lease) {
                    rig.answer(lease, LeaseResult::Unknown);
                }
            }
        }
        rig.wait(100);
    }
    assert_eq!(
        log,
        [
            "5.0: put a",
            "5.5: put 0, put 1, put 2, put 3",
            "7.5: put a, put 0, put 1, put 2, put 3",
            "10.0: drop 0, drop 1, drop 2, drop 3, put a",
            "12.5: put a"
        ]
    );
    assert!(!rig.member.member(rig.now()));
    // It comes back with what is still recorded.
    rig.land("a");
    assert_eq!(rig.poll(), "put 0, put 1, put 2, put 3");
    rig.land_all();
    assert_eq!(rig.poll(), "start 0, start 1, start 2, start 3");
}

#[test]
fn process_that_was_stopped_drops_everything_at_once() {
    let mut rig = Rig::alone();
    let text = rig.wait(40_000).poll();
    assert_eq!(text, "drop 0, drop 1, drop 2, drop 3, put a");
}

#[test]
fn one_request_at_a_time_for_each_lease() {
    let mut rig = Rig::alone();
    rig.wait(5_000).poll();
    rig.wait(500).poll();
    for _ in 0..40 {
        assert_eq!(rig.wait(100).poll(), "");
    }
}

#[test]
fn lost_answer_counts_from_its_start_once_the_watch_shows_it() {
    let mut rig = shards_before_the_membership();
    let record = rig.written("0");
    rig.answer("0", LeaseResult::Unknown);
    assert_eq!(rig.left(0), Some(2_500));
    rig.member.saw(&name("0"), Some(record), rig.now());
    assert_eq!(rig.left(0), Some(8_000));
    rig.land_all();
    assert_eq!(rig.wait(500).poll(), "", "it is renewed: nothing is tried again");
}

#[test]
fn answer_that_comes_after_the_watch_counts_from_its_own_start() {
    let mut rig = shards_before_the_membership();
    let record = rig.written("0");
    rig.answer("0", LeaseResult::Unknown);
    assert_eq!(rig.wait(500).poll(), "put 0");
    rig.member.saw(&name("0"), Some(record.clone()), rig.now());
    assert_eq!(rig.left(0), Some(7_500), "it may be the first");
    rig.answer("0", LeaseResult::Landed(record));
    assert_eq!(rig.left(0), Some(9_500), "the membership's");
}

#[test]
fn lost_answer_is_settled_by_a_refusal_and_a_get_from_the_earliest_start() {
    let mut rig = shards_before_the_membership();
    let record = rig.written("0");
    rig.answer("0", LeaseResult::Unknown);
    assert_eq!(rig.wait(500).poll(), "put 0");
    rig.answer("0", LeaseResult::Unknown);
    assert_eq!(rig.wait(500).poll(), "put 0");
    rig.answer("0", LeaseResult::Conflict);
    assert_eq!(
        rig.left(0),
        Some(1_500),
        "a refusal says nothing about who holds it"
    );
    assert_eq!(rig.poll(), "get 0");
    rig.answer("0", LeaseResult::Found(Some(record)));
    assert_eq!(rig.left(0), Some(7_000));
    assert_eq!(rig.poll(), "");
}

#[test]
fn older_record_from_a_slow_watch_changes_nothing() {
    let mut rig = Rig::alone();
    let mut old = None;
    for _ in 0..2 {
        rig.wait(5_000).poll();
        rig.land("a").poll();
        let record = rig.written("0");
        rig.answer("0", LeaseResult::Landed(record.clone())).land_all();
        assert_eq!(rig.poll(), "");
        old.get_or_insert(record);
    }
    let mut another = old.unwrap();
    another.holder = None;
    rig.member.saw(&name("0"), Some(another), rig.now());
    assert_eq!(rig.poll(), "");
    assert_eq!(rig.left(0), Some(10_000));
}

#[test]
fn shard_that_shows_another_holder_is_dropped_at_once() {
    let mut rig = Rig::alone();
    rig.saw("b", "b1").poll();
    assert_eq!(rig.saw("0", "b1").poll(), "drop 0");
    assert_eq!(rig.member.deadline(ShardId(0)), None);
    rig.saw("1", "b1").saw("2", "b1");
    assert_eq!(rig.poll(), "drop 1, drop 2", "also while it drains");
}

#[test]
fn membership_that_shows_another_holder_drops_everything() {
    let mut rig = Rig::alone();
    assert_eq!(rig.saw("a", "").poll(), "drop 0, drop 1, drop 2, drop 3, put a");
}

#[test]
fn another_process_of_this_replica_ends_this_one() {
    for lease in ["a", "2"] {
        let mut rig = Rig::alone();
        let text = rig.saw(lease, "a2").poll();
        assert_eq!(
            text,
            "stop another process of replica a has taken over its Leases"
        );
        assert_eq!(rig.left(0), None);
        assert_eq!(rig.wait(60_000).poll(), "");
    }
}

#[test]
fn older_process_that_still_renews_a_shard_does_not_end_the_newer() {
    let mut rig = Rig::new();
    rig.saw("a", "a0").saw("0", "a0");
    rig.member.listed();
    rig.poll();
    rig.land("a");
    rig.saw("0", "a0");
    assert_eq!(rig.poll(), "put 0, create 1, create 2, create 3");
    rig.saw("0", "a0").answer("0", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "put 0");
    rig.land_all();
    assert_eq!(rig.poll(), "start 0, start 1, start 2, start 3");
    assert!(
        rig.saw("0", "a0").poll().starts_with("stop"),
        "what was taken over stays"
    );
}

/// Alone, and before it holds the last shard another process of its replica is found there.
fn suspicious() -> Rig {
    let mut rig = Rig::new();
    rig.member.listed();
    rig.member.prepared();
    rig.poll();
    rig.land("a");
    assert_eq!(rig.poll(), "create 0, create 1, create 2, create 3");
    rig.saw("3", "a0").answer("3", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "put a", "which came first?");
    rig
}

#[test]
fn a_late_write_of_an_older_process_does_not_end_the_newer() {
    let mut rig = suspicious();
    rig.land_all();
    assert_eq!(
        rig.poll(),
        "start 0, start 1, start 2, put 3",
        "the membership was renewed after it"
    );
    rig.land("3");
    assert_eq!(rig.poll(), "start 3");
    let mut rig = suspicious();
    rig.answer("a", LeaseResult::Unknown);
    assert_eq!(rig.poll(), "");
    assert_eq!(rig.wait(500).poll(), "put a");
}

#[test]
fn a_newer_process_found_on_a_shard_first_is_not_taken_over_from() {
    let mut rig = suspicious();
    rig.answer("a", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "get a");
    let newer = rig.record("a0");
    rig.answer("a", LeaseResult::Found(Some(newer)));
    assert!(rig.poll().starts_with("stop"));
}

#[test]
fn a_renewal_on_its_way_does_not_clear_what_was_seen_since() {
    let mut rig = Rig::new();
    rig.member.listed();
    rig.member.prepared();
    rig.poll();
    rig.land("a");
    rig.poll();
    rig.wait(5000).poll();
    assert!(rig.asking("a"));
    let renewed = rig.written("a");
    rig.saw("3", "a0").answer("3", LeaseResult::Conflict);
    rig.answer("a", LeaseResult::Landed(renewed));
    assert_eq!(rig.poll(), "put a", "once more");
}

#[test]
fn deleted_lease_is_made_again_while_it_is_held() {
    let mut rig = Rig::alone();
    assert_eq!(
        rig.gone("0").poll(),
        "get 0",
        "the watch has not shown it: which came first?"
    );
    rig.answer("0", LeaseResult::Found(None));
    assert_eq!(rig.poll(), "create 0");
    let record = rig.written("0");
    rig.answer("0", LeaseResult::Landed(record.clone()));
    rig.member.saw(&name("0"), Some(record), rig.now());
    assert_eq!(rig.gone("0").poll(), "create 0");
    rig.answer("0", LeaseResult::Unknown);
    assert_eq!(rig.left(0), Some(10_000));
}

#[test]
fn deleted_lease_of_another_is_anothers_until_it_would_have_expired() {
    let mut rig = Rig::new();
    rig.saw("0", "b1").gone("0");
    rig.member.listed();
    rig.member.prepared();
    let log = rig.run(16_000);
    assert!(log.contains(&"15.0: put a, create 0".to_owned()), "{log:?}");
}

#[test]
fn late_round_is_one_round_and_counts_from_then() {
    let mut rig = Rig::alone();
    assert_eq!(rig.wait(9_000).poll(), "put a");
    rig.land("a");
    assert_eq!(rig.poll(), "put 0, put 1, put 2, put 3");
    rig.land_all();
    assert_eq!(rig.run(6_000)[0], "5.0: put a");
}
