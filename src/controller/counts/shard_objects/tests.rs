//! Pacing and paging, on a clock that the test moves.

use super::*;
use crate::domain::pair::observed::Revision;

const SHARD: ShardId = ShardId(7);

fn at(seconds: f64) -> Mono {
    Mono(Duration::from_secs_f64(seconds))
}

fn uid(n: usize) -> OrderUid {
    format!("o{n:05}").into()
}

fn counts(n: usize, reserved: u32) -> Arc<OrderCounts> {
    Arc::new(OrderCounts {
        order_uid: uid(n).to_string(),
        reserved,
        generation: 1,
        ..OrderCounts::default()
    })
}

fn listing(orders: std::ops::Range<usize>) -> Listing {
    orders.map(|n| (uid(n), counts(n, 1))).collect()
}

/// A objects of this many Orders of which nothing is written yet.
fn objects(orders: usize) -> ShardObjects {
    ShardObjects::new(SHARD, listing(0..orders), std::iter::empty(), at(0.0))
}

/// The objects that are due, each with how many Orders it names; all of them land.
fn written(objects: &mut ShardObjects, seconds: f64) -> Vec<(Option<u16>, usize)> {
    let mut due = Vec::new();
    objects.due(at(seconds), &mut due);
    let told = due.into_iter().map(|due| {
        let orders = match &due.content {
            ShardContent::Totals(_) => 0,
            ShardContent::Page(listing) => listing.len(),
        };
        let (page, answer) = (due.object.page, land(&due, seconds));
        objects.written(due, answer, at(seconds));
        (page, orders)
    });
    told.collect()
}

fn version(seconds: f64) -> ShardVersion {
    ShardVersion {
        uid: "u".to_owned(),
        revision: Revision((seconds * 1000.0) as u64),
    }
}

fn land(due: &ShardWrite, seconds: f64) -> ShardWriteResult {
    match &due.content {
        ShardContent::Page(listing) if listing.is_empty() => ShardWriteResult::Gone,
        _ => ShardWriteResult::Written(version(seconds)),
    }
}

fn page(version: ShardVersion, listing: Listing) -> ShardView {
    ShardView {
        version,
        listing,
        totals: ShardStatus::default(),
    }
}

#[test]
fn a_change_is_written_once_it_has_been_quiet_for_a_second() {
    let mut objects = objects(1);
    assert_eq!(written(&mut objects, 0.9), []);
    assert_eq!(written(&mut objects, 1.0), [(None, 0), (Some(0), 1)]);
    assert_eq!(written(&mut objects, 100.0), [], "nothing changed");
    objects.put(&uid(0), Some(counts(0, 2)), at(100.0));
    objects.put(&uid(0), Some(counts(0, 3)), at(100.5));
    assert_eq!(objects.due(at(100.6), &mut Vec::new()), Some(at(101.5)));
    assert_eq!(written(&mut objects, 101.5), [(Some(0), 1)]);
}

#[test]
fn what_goes_on_changing_is_written_every_ten_seconds() {
    let mut objects = objects(1);
    written(&mut objects, 1.0);
    let mut writes = Vec::new();
    for tenth in 20..420 {
        let seconds = f64::from(tenth) / 10.0;
        objects.put(&uid(0), Some(counts(0, tenth)), at(seconds));
        writes.extend(written(&mut objects, seconds).into_iter().map(|_| tenth));
    }
    assert_eq!(writes, [120, 221, 322]);
    assert_eq!(
        written(&mut objects, 43.0),
        [(Some(0), 1)],
        "the rest, when it is quiet"
    );
}

#[test]
fn an_object_is_not_written_twice_within_two_seconds() {
    let mut objects = objects(1);
    written(&mut objects, 1.0);
    objects.put(&uid(0), Some(counts(0, 2)), at(1.1));
    assert_eq!(written(&mut objects, 2.9), []);
    assert_eq!(written(&mut objects, 3.0), [(Some(0), 1)]);
}

#[test]
fn what_has_changed_back_is_not_written() {
    let mut objects = objects(1);
    written(&mut objects, 1.0);
    objects.put(&uid(0), Some(counts(0, 2)), at(5.0));
    objects.put(&uid(0), Some(counts(0, 1)), at(5.1));
    assert_eq!(written(&mut objects, 10.0), []);
}

#[test]
fn a_change_during_a_write_is_written_after_it() {
    let (mut objects, mut due) = (objects(1), Vec::new());
    objects.due(at(1.0), &mut due);
    objects.put(&uid(0), Some(counts(0, 2)), at(1.1));
    assert_eq!(written(&mut objects, 4.0), [], "it is being written");
    for due in due {
        let answer = land(&due, 5.0);
        objects.written(due, answer, at(5.0));
    }
    assert_eq!(written(&mut objects, 7.0), [(Some(0), 1)]);
}

#[test]
fn five_thousand_orders_are_on_ten_pages_and_one_that_changes_costs_one_page() {
    let mut objects = objects(5000);
    let first = written(&mut objects, 1.0);
    assert_eq!((first.len(), first[10]), (11, (Some(9), 500)));
    objects.put(&uid(1234), Some(counts(1234, 9)), at(10.0));
    assert_eq!(written(&mut objects, 12.0), [(Some(2), 500)]);
}

#[test]
fn an_order_that_goes_leaves_its_page_and_the_others_stay_on_theirs() {
    let mut objects = objects(1001);
    written(&mut objects, 1.0);
    objects.put(&uid(3), None, at(10.0));
    assert_eq!(written(&mut objects, 12.0), [(Some(0), 499)]);
    objects.put(&uid(1000), None, at(20.0));
    assert_eq!(written(&mut objects, 22.0), [(Some(2), 0)], "removed");
    assert_eq!(written(&mut objects, 26.0), []);
    assert_eq!(objects.pages.len(), 2);
    objects.put(&uid(2000), Some(counts(2000, 1)), at(30.0));
    objects.put(&uid(2001), Some(counts(2001, 1)), at(30.0));
    assert_eq!(written(&mut objects, 32.0), [(Some(0), 500), (Some(2), 1)]);
}

#[test]
fn a_taken_over_board_keeps_pages_as_they_are_and_writes_only_the_totals() {
    let pages = [listing(500..900), listing(0..500)];
    let there = [0u16, 1].map(|number| page(version(0.0), pages[usize::from(number)].clone()));
    let there = there
        .iter()
        .enumerate()
        .map(|(number, view)| (u16::try_from(number).ok(), view));
    let mut objects = ShardObjects::new(SHARD, listing(0..900), there, at(0.0));
    assert_eq!(written(&mut objects, 1.0), [(None, 0)]);
}

#[test]
fn what_a_former_owner_left_is_put_right() {
    let there = [
        page(version(0.0), listing(0..3)),
        page(version(0.0), listing(2..6)),
    ];
    let there = there
        .iter()
        .enumerate()
        .map(|(number, view)| (u16::try_from(number).ok(), view));
    // The third is on two pages; the fifth and sixth are gone.
    let mut objects = ShardObjects::new(SHARD, listing(0..4), there, at(0.0));
    assert_eq!(written(&mut objects, 1.0), [(None, 0), (Some(1), 1)]);
}

#[test]
fn an_object_that_somebody_else_writes_or_removes_is_put_right() {
    let mut objects = objects(2);
    written(&mut objects, 1.0);
    objects.see(Some(0), &page(version(1.0), listing(0..1)), at(5.0));
    assert_eq!(written(&mut objects, 9.0), [], "older than the own write");
    objects.see(Some(0), &page(version(5.0), listing(0..1)), at(10.0));
    assert_eq!(written(&mut objects, 12.0), [(Some(0), 2)]);
    objects.see(Some(0), &page(version(13.0), listing(0..2)), at(13.0));
    assert_eq!(written(&mut objects, 19.0), [], "it says what it should");
    objects.lose(Some(0), at(20.0));
    let mut due = Vec::new();
    objects.due(at(22.0), &mut due);
    assert_eq!((due.len(), due[0].version.clone()), (1, None), "made anew");
}

#[test]
fn a_conflict_is_written_again_on_what_is_there() {
    let (mut objects, mut due) = (objects(1), Vec::new());
    objects.due(at(1.0), &mut due);
    let conflict = due.pop().unwrap();
    objects.written(
        conflict,
        ShardWriteResult::Found(page(version(2.0), listing(3..4))),
        at(2.0),
    );
    let mut due = Vec::new();
    objects.due(at(3.9), &mut due);
    assert_eq!(due, []);
    objects.due(at(4.0), &mut due);
    assert_eq!(due[0].version, Some(version(2.0)));
}

#[test]
fn writes_that_do_not_land_are_tried_less_and_less_often() {
    let (mut objects, mut tries) = (objects(0), Vec::new());
    for second in 0..200 {
        let (mut due, now) = (Vec::new(), at(f64::from(second)));
        objects.due(now, &mut due);
        for due in due {
            tries.push(second);
            objects.written(due, ShardWriteResult::Failed, now);
        }
    }
    assert_eq!(tries, [1, 5, 13, 29, 61, 121, 181]);
}
