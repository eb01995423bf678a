//! When a process writes its first Lease, what it takes, and what it gives away.

use super::{super::*, rig::Rig};

#[test]
fn newcomer_writes_nothing_before_leases_nodes_and_orders_are_listed() {
    let mut rig = Rig::new();
    rig.member.prepared();
    assert_eq!(rig.poll(), "");
    rig.member.listed();
    assert_eq!(rig.poll(), "create a");
    let mut rig = Rig::new();
    rig.saw("b", "b1");
    rig.member.listed();
    assert_eq!(rig.poll(), "");
    rig.member.prepared();
    assert_eq!(rig.poll(), "create a");
}

#[test]
fn process_started_in_place_takes_its_leases_over_before_nodes_are_listed() {
    let mut rig = Rig::new();
    rig.saw("a", "a0")
        .saw("0", "a0")
        .saw("1", "a0")
        .saw("2", "b1")
        .saw("3", "b1")
        .saw("b", "b1");
    assert_eq!(rig.poll(), "");
    rig.member.listed();
    assert_eq!(rig.poll(), "put a");
    rig.land("a");
    assert_eq!(rig.poll(), "put 0, put 1");
    rig.land_all();
    assert_eq!(rig.poll(), "start 0, start 1");
}

#[test]
fn old_membership_without_shards_waits_for_nodes_like_a_newcomer() {
    let mut rig = Rig::new();
    rig.saw("a", "a0").saw("0", "b1");
    rig.member.listed();
    assert_eq!(rig.poll(), "");
    rig.member.prepared();
    assert_eq!(rig.poll(), "put a");
}

#[test]
fn another_shard_count_is_found_before_anything_is_written() {
    for shard in [3, 40] {
        let mut rig = Rig::new();
        rig.saw("0", "a0");
        let record = Record {
            version: "99".into(),
            holder: None,
            shards: Some(64),
        };
        rig.member
            .saw(&LeaseName::Shard(ShardId(shard)), Some(record), rig.now());
        rig.member.listed();
        rig.member.prepared();
        assert_eq!(
            rig.poll(),
            "stop the installation has 64 shards, and this replica was started with 4"
        );
        assert_eq!(rig.wait(60_000).poll(), "");
    }
}

#[test]
fn shards_of_another_are_taken_when_they_have_not_changed_for_a_lease() {
    let mut rig = Rig::new();
    for shard in ["0", "1", "2", "3"] {
        rig.saw(shard, "b1");
    }
    rig.saw("b", "b1");
    rig.member.listed();
    rig.member.prepared();
    assert_eq!(
        rig.run(15_500),
        [
            "0.0: create a",
            "5.0: put a",
            "10.0: put a",
            "15.0: put a, put 0, put 1, put 2, put 3, release b",
            "15.0: start 0, start 1, start 2, start 3"
        ]
    );
}

#[test]
fn newer_record_starts_the_lease_of_another_afresh() {
    let mut rig = Rig::new();
    rig.saw("0", "b1");
    rig.member.listed();
    rig.member.prepared();
    rig.run(14_900);
    assert_eq!(rig.member.holder(ShardId(0), rig.now()).1, Grade::Late);
    rig.saw("0", "b1");
    assert_eq!(rig.member.holder(ShardId(0), rig.now()).1, Grade::Live);
    let log = rig.run(15_500).join("; ");
    assert!(log.contains("15.0: put 0"), "{log}");
}

#[test]
fn take_that_was_refused_waits_for_the_watch_and_asks_if_that_stays_silent() {
    let mut rig = Rig::new();
    rig.saw("0", "")
        .saw("1", "b1")
        .saw("2", "b1")
        .saw("3", "b1")
        .saw("b", "b1");
    rig.member.listed();
    rig.member.prepared();
    rig.poll();
    assert_eq!(rig.land("a").poll(), "put 0");
    rig.answer("0", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "");
    rig.saw("0", "b1");
    assert_eq!(rig.poll(), "");
    rig.saw("0", "");
    assert_eq!(rig.poll(), "put 0");
    rig.answer("0", LeaseResult::Conflict);
    assert_eq!(rig.wait(4_900).poll(), "");
    assert_eq!(rig.wait(100).poll(), "put a, get 0");
}

#[test]
fn shard_of_another_member_is_drained_then_released() {
    let mut rig = Rig::alone();
    rig.saw("b", "b1");
    assert_eq!(rig.poll(), "drain 0, drain 2");
    assert!(!rig.member.owns(ShardId(0)) && rig.member.deadline(ShardId(0)).is_some());
    assert_eq!(rig.wait(1_000).poll(), "");
    rig.member.drained(ShardId(2));
    assert_eq!(rig.poll(), "release 2");
    assert_eq!(rig.member.deadline(ShardId(2)), None);
    rig.land("2");
    assert_eq!(rig.poll(), "");
    // The other is renewed until it is drained.
    assert_eq!(rig.wait(4_000).poll(), "put a");
    rig.land("a");
    assert_eq!(rig.poll(), "put 0, put 1, put 3");
}

#[test]
fn refused_release_is_read_again_and_repeated() {
    let mut rig = Rig::alone();
    rig.saw("b", "b1");
    rig.poll();
    rig.member.drained(ShardId(2));
    rig.poll();
    rig.answer("2", LeaseResult::Unknown);
    assert_eq!(rig.poll(), "");
    assert_eq!(rig.wait(500).poll(), "release 2");
    rig.answer("2", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "get 2");
    // The first had landed, and the other replica took it.
    let record = Record {
        version: "900".into(),
        holder: Some(Holder {
            replica: "b".into(),
            incarnation: "1".into(),
        }),
        shards: Some(4),
    };
    rig.answer("2", LeaseResult::Found(Some(record)));
    assert_eq!(rig.poll(), "", "no Drop: it was drained");
    assert_eq!(
        rig.member.holder(ShardId(2), rig.now()),
        (Some(&"b".into()), Grade::Live)
    );
}

#[test]
fn first_member_deletes_memberships_that_expired_ten_minutes_ago() {
    let mut rig = Rig::new();
    rig.saw("0", "c1").saw("c", "c1").saw("d", "");
    rig.member.listed();
    rig.member.prepared();
    let log = rig.run(640_000);
    let of_c: Vec<_> = log.iter().filter(|line| line.ends_with(" c")).collect();
    assert_eq!(
        of_c,
        [
            "15.0: put a, put 0, create 2, release c",
            "630.0: put a, delete c"
        ]
    );
    assert!(log.contains(&"615.0: put a, delete d".to_owned()));
    let mut second = Rig::new();
    second.saw("c", "c1");
    second.member.listed();
    second.member.prepared();
    for _ in 0..200 {
        second.saw("Z", "Z1");
        let log = second.run(5_000).join("; ");
        assert!(!log.contains("delete"), "{log}");
    }
}

#[test]
fn expired_shard_is_freed_for_a_newcomer_that_cannot_know() {
    let mut rig = Rig::new();
    rig.saw("c", "c1")
        .saw("0", "c1")
        .saw("1", "c1")
        .saw("2", "")
        .saw("3", "");
    rig.member.listed();
    rig.member.prepared();
    rig.run(10_000);
    rig.saw("b", "b1");
    let log = rig.run(5_100).join("; ");
    assert!(log.contains("release c"), "{log}");
    let freed = log.matches("release 0").count() + log.matches("release 1").count();
    assert_eq!(freed, 2, "both are for b, which has none: {log}");
}

#[test]
fn expired_shard_of_a_member_that_can_tell_is_left_to_it() {
    let mut rig = Rig::new();
    rig.saw("c", "c1")
        .saw("0", "c1")
        .saw("1", "c1")
        .saw("2", "")
        .saw("3", "")
        .saw("b", "b1");
    rig.member.listed();
    rig.member.prepared();
    rig.run(10_000);
    rig.saw("b", "b1");
    let log = rig.run(5_100).join("; ");
    assert!(log.contains("release c") && !log.contains("release 0"), "{log}");
}

#[test]
fn own_name_held_by_another_replica_is_waited_for() {
    let mut rig = Rig::new();
    rig.saw("a", "b1");
    rig.member.listed();
    rig.member.prepared();
    assert_eq!(rig.run(15_500)[0], "15.0: put a");
}
