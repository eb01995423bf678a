use super::*;

fn holder(replica: &str, incarnation: &str) -> Holder {
    Holder {
        replica: replica.into(),
        incarnation: incarnation.into(),
    }
}

fn record(version: &str, holder: Option<Holder>) -> Record {
    Record {
        version: version.into(),
        holder,
        shards: Some(64),
    }
}

#[test]
fn grade_of_every_holder_at_every_age() {
    use Grade::{Expired, Foreign, Free, Late, Live, Own};
    let me = holder("a", "1");
    let ages = [0, 9_999, 10_000, 10_001, 14_999, 15_000, 15_001, 1_000_000];
    for (recorded, grades) in [
        (None, [Free; 8]),
        (Some(holder("a", "1")), [Own; 8]),
        (Some(holder("a", "2")), [Foreign; 8]),
        (
            Some(holder("b", "1")),
            [Live, Live, Live, Late, Late, Expired, Expired, Expired],
        ),
        (
            Some(holder("b", "2")),
            [Live, Live, Live, Late, Late, Expired, Expired, Expired],
        ),
    ] {
        let seen = Seen {
            record: record("7", recorded.clone()),
            changed: Mono(Duration::from_secs(3)),
        };
        for (age, expected) in ages.into_iter().zip(grades) {
            let now = seen.changed.after(Duration::from_millis(age));
            let grade = grade(Some(&seen), &me, &LeaseTimes::default(), now);
            assert_eq!(grade, expected, "{recorded:?} after {age} ms");
        }
    }
    let now = Mono(Duration::from_secs(99));
    assert_eq!(grade(None, &me, &LeaseTimes::default(), now), Free);
}

#[test]
fn what_changed_after_now_is_live() {
    let seen = Seen {
        record: record("7", Some(holder("b", "1"))),
        changed: Mono(Duration::from_secs(9)),
    };
    let now = Mono::default();
    assert_eq!(
        grade(Some(&seen), &holder("a", "1"), &LeaseTimes::default(), now),
        Grade::Live
    );
}

#[test]
fn own_deadline_ends_before_others_may_take_though_clocks_differ_by_half() {
    let times = LeaseTimes::default();
    assert!(times.deadline * 3 <= times.lease * 2);
    // Two rounds may fail altogether, and a time-out is over before the deadline.
    assert!(times.renew + 2 * times.request + times.retry < times.deadline);
}

#[test]
fn versions_are_compared_as_numbers_and_others_by_their_difference() {
    for (version, other, newer) in [
        ("10", "9", true),
        ("9", "10", false),
        ("9", "9", false),
        ("x", "9", true),
        ("9", "x", true),
        ("x", "x", false),
    ] {
        assert_eq!(
            record(version, None).newer_than(other),
            newer,
            "{version} {other}"
        );
    }
}

#[test]
fn names_are_padded_to_the_width_of_the_greatest_shard_and_read_at_any() {
    for (count, shard, name) in [
        (1, 0, "korder-shard-00"),
        (64, 7, "korder-shard-07"),
        (128, 7, "korder-shard-007"),
        (1024, 1023, "korder-shard-1023"),
    ] {
        let lease = LeaseName::Shard(ShardId(shard));
        assert_eq!(lease.object_name(ShardCount::try_from(count).unwrap()), name);
        assert_eq!(LeaseName::parse(name), Some(lease));
    }
    let replica = LeaseName::Replica("korder-0".into());
    let name = replica.object_name(ShardCount::try_from(64).unwrap());
    assert_eq!(name, "korder-replica-korder-0");
    assert_eq!(LeaseName::parse(&name), Some(replica));
    for other in [
        "korder",
        "korder-replica-",
        "korder-shard-",
        "korder-shard-7",
        "korder-shard-0x",
        "korder-shard-+07",
        "korder-shard-99999",
        "kube-scheduler",
    ] {
        assert_eq!(LeaseName::parse(other), None, "{other}");
    }
}
