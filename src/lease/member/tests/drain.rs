//! SIGTERM: the membership first, then every shard once it is drained.

use super::{super::*, rig::Rig};

#[test]
fn drain_releases_the_membership_then_each_shard_and_deletes_the_membership() {
    let mut rig = Rig::alone();
    rig.member.drain(rig.now());
    assert_eq!(rig.poll(), "release a, drain 0, drain 1, drain 2, drain 3");
    assert!(!rig.member.member(rig.now()));
    rig.member.drained(ShardId(0));
    assert_eq!(rig.poll(), "", "waits for the membership's answer");
    rig.land("a");
    assert_eq!(rig.poll(), "release 0");
    for shard in [1, 2, 3] {
        rig.member.drained(ShardId(shard));
    }
    assert_eq!(rig.poll(), "release 1, release 2, release 3");
    rig.land("0").land("1").land("2");
    assert_eq!(rig.poll(), "");
    rig.land("3");
    assert_eq!(rig.poll(), "delete a");
    rig.land("a");
    assert_eq!(rig.poll(), "done");
    assert_eq!((rig.poll().as_str(), rig.member.wake()), ("", None));
}

#[test]
fn shards_wait_no_longer_than_half_a_second_for_the_membership() {
    let mut rig = Rig::alone();
    rig.member.drain(rig.now());
    rig.poll();
    rig.member.drained(ShardId(0));
    assert_eq!(rig.poll(), "");
    assert_eq!(rig.wait(500).poll(), "release 0");
}

#[test]
fn shards_are_renewed_while_they_drain() {
    let mut rig = Rig::alone();
    rig.member.drain(rig.now());
    rig.poll();
    rig.land("a");
    assert_eq!(
        rig.run(11_000),
        [
            "5.0: put 0, put 1, put 2, put 3",
            "10.0: put 0, put 1, put 2, put 3"
        ]
    );
    assert_eq!(rig.left(0), Some(9_000), "the membership no longer counts");
}

#[test]
fn drain_ends_when_everything_has_expired() {
    let mut rig = Rig::alone();
    rig.member.drain(rig.now());
    rig.poll();
    assert_eq!(
        rig.wait(10_000).poll(),
        "drop 0, drop 1, drop 2, drop 3, release 0, release 1, release 2, release 3"
    );
    assert_eq!(rig.wait(5_000).poll(), "done");
}

#[test]
fn process_that_never_joined_is_done_at_once() {
    let mut rig = Rig::new();
    rig.member.drain(rig.now());
    assert_eq!(rig.poll(), "done");
}

#[test]
fn membership_in_doubt_is_read_before_the_end() {
    let mut rig = Rig::new();
    rig.member.listed();
    rig.member.prepared();
    assert_eq!(rig.poll(), "create a");
    rig.member.drain(rig.now());
    assert_eq!(rig.poll(), "");
    let record = rig.written("a");
    rig.answer("a", LeaseResult::Unknown);
    assert_eq!(rig.wait(500).poll(), "get a");
    rig.answer("a", LeaseResult::Found(Some(record)));
    assert_eq!(rig.poll(), "release a");
    rig.land("a");
    assert_eq!(rig.poll(), "delete a");
    rig.answer("a", LeaseResult::Conflict);
    assert_eq!(rig.poll(), "done", "somebody else's now");
}

#[test]
fn nothing_is_taken_while_draining() {
    let mut rig = Rig::new();
    rig.saw("0", "b1")
        .saw("1", "b1")
        .saw("2", "b1")
        .saw("b", "b1")
        .saw("3", "");
    rig.member.listed();
    rig.member.prepared();
    rig.poll();
    rig.land("a");
    assert_eq!(rig.poll(), "put 3");
    rig.member.drain(rig.now());
    rig.land("3");
    assert_eq!(rig.poll(), "release a");
    rig.land("a");
    assert_eq!(rig.poll(), "release 3", "taken and never started");
    rig.saw("2", "");
    assert_eq!(rig.poll(), "");
    rig.land("3");
    assert_eq!(rig.poll(), "delete a");
}
