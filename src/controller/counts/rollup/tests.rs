//! Several replicas' counts, without a cluster.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::{
    api::{ShardStatus, order::Grant, shard::NotReady},
    domain::{
        testing::{at, order},
        values::time::Now,
    },
    watch::shard::ShardVersion,
    write::shard::{ShardContent, ShardWriteResult},
};

const SHARDS: u16 = 2;

/// A replica that has one of two shards: the one that looks after the Order.
struct Rig {
    reports: Reports,
    owned_shards: Arc<OwnedShards>,
    order: Arc<Order>,
    own: Arc<OwnedShard>,
    other: ShardId,
    revision: u64,
}

fn mono(seconds: i64) -> Mono {
    Mono(Duration::from_secs(seconds.unsigned_abs()))
}

fn now(seconds: i64) -> Now {
    Now {
        server: at(seconds),
        mono: mono(seconds),
    }
}

fn counts(reserved: u32) -> OrderCounts {
    OrderCounts {
        order_uid: "o-uid".to_owned(),
        desired: reserved,
        reserved,
        updated: reserved,
        ..OrderCounts::default()
    }
}

fn nodes() -> NodeCounts {
    NodeCounts {
        all: 2,
        not_ready: vec![(Timestamp::UNIX_EPOCH, 1)],
    }
}

impl Rig {
    fn new() -> Self {
        let shards = ShardCount::try_from(SHARDS).unwrap();
        let order = order("o", json!({}));
        let order = Arc::new(Order {
            generation: 0,
            ..order
        });
        let own = shards.of_order(&order.uid);
        let owned_shards = Arc::new(OwnedShards::new(shards));
        let rig = Self {
            reports: Reports::new(shards, owned_shards.clone()),
            own: owned_shards.take(own, Mono(Duration::MAX)),
            owned_shards,
            other: shards.all().find(|shard| *shard != own).unwrap(),
            order,
            revision: 1,
        };
        rig.reports
            .order(&rig.order, Revision(1), Some(OrderStatus::default()));
        rig
    }

    fn report(&self, owned: &Arc<OwnedShard>, counts: OrderCounts) {
        let report = Report {
            order: self.order.uid.clone(),
            counts: Some(counts),
        };
        self.reports.put(owned, nodes(), vec![report], mono(0));
    }

    fn page(&mut self, counts: Option<OrderCounts>) -> &mut Self {
        self.revision += 1;
        let listed = counts.map(|counts| (self.order.uid.clone(), Arc::new(counts)));
        let view = ShardView {
            version: ShardVersion {
                uid: "u".to_owned(),
                revision: Revision(self.revision),
            },
            listing: listed.into_iter().collect(),
            ..ShardView::default()
        };
        let object = ShardObject {
            shard: self.other,
            page: Some(0),
        };
        self.reports.see(Change::Apply((object, view)), mono(0));
        self
    }

    /// Answers what is asked of own pages: a page of the other shard, if that is one's own, says this.
    fn read(&mut self, counts: Option<OrderCounts>) {
        self.revision += 1;
        let version = ShardVersion {
            uid: "u".to_owned(),
            revision: Revision(self.revision),
        };
        let listing = counts.map(|counts| (self.order.uid.clone(), Arc::new(counts)));
        let listing: Vec<_> = listing.into_iter().collect();
        self.reports.see(Change::Listed, mono(0));
        for unread in self.reports.unread_pages() {
            let page = ShardObject {
                shard: self.other,
                page: Some(0),
            };
            let view = ShardView {
                version: version.clone(),
                listing: listing.clone(),
                ..ShardView::default()
            };
            let there = unread.pages.contains(&page) && !listing.is_empty();
            let found = there.then_some((page, view)).into_iter().collect();
            self.reports.pages_read(&unread, Some(found));
        }
    }

    fn page_gone(&self, uid: &str) {
        let object = ShardObject {
            shard: self.other,
            page: Some(0),
        };
        let gone = Change::Delete((object, uid.to_owned()));
        self.reports.see(gone, mono(0));
    }

    /// The status that is written at this second, if one is.
    fn due(&mut self, second: i64) -> Option<OrderStatus> {
        let due = self.reports.due(&now(second)).0.pop()?;
        self.revision += 1;
        let written = (due.status.clone(), Revision(self.revision));
        self.reports.written(&self.order.uid, Some(written), mono(second));
        Some(due.status)
    }

    fn reserved(&mut self, second: i64) -> Option<u32> {
        self.due(second).map(|status| status.available_replicas)
    }
}

#[test]
fn the_end_of_a_page_that_has_a_successor_changes_nothing() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(4)));
    rig.page_gone("the one before");
    assert_eq!(rig.reserved(1), Some(7));
    rig.page_gone("u");
    rig.report(&rig.own, counts(1));
    assert_eq!(rig.reserved(9), None, "the other shard says nothing any more");
}

#[test]
fn a_status_sums_own_reports_and_the_pages_of_others() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    assert_eq!(rig.reserved(1), None, "the other shard has not said anything");
    rig.page(Some(counts(4)));
    assert_eq!(rig.reserved(1), Some(7));
    assert_eq!(rig.reserved(9), None, "nothing changed");
}

#[test]
fn a_shard_that_has_nothing_of_an_order_says_so() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(0)));
    assert_eq!(rig.reserved(1), Some(3));
}

#[test]
fn a_status_is_written_at_most_once_a_second() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(4)));
    assert_eq!(rig.reserved(1), Some(7));
    rig.page(Some(counts(5)));
    let (due, wake) = rig.reports.due(&Now {
        mono: Mono(Duration::from_millis(1500)),
        ..now(1)
    });
    assert_eq!((due.len(), wake), (0, Some(mono(2))));
    assert_eq!(rig.reserved(2), Some(8));
}

#[test]
fn only_the_owner_of_the_orders_shard_writes_its_status() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.owned_shards.remove(rig.own.shard);
    rig.page(Some(counts(4)));
    assert_eq!(rig.reserved(1), None);
}

#[test]
fn a_sum_never_dips_while_a_shard_changes_hands() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(4)));
    assert_eq!(rig.reserved(1), Some(7));
    // This replica takes the other shard: until its worker has decided, the page counts.
    let taken = rig.owned_shards.take(rig.other, Mono(Duration::MAX));
    rig.report(&rig.own, counts(5));
    assert_eq!(rig.reserved(2), Some(9));
    rig.report(&taken, counts(6));
    assert_eq!(rig.reserved(3), Some(11));
    rig.page(Some(counts(1)));
    assert_eq!(rig.reserved(4), None, "the worker knows better than the page");
    // And loses it again: what a worker says that has lost its shard counts no more.
    rig.page(Some(counts(6)));
    rig.owned_shards.remove(rig.other);
    rig.reports.lose(rig.other);
    rig.report(&taken, counts(0));
    assert_eq!(rig.reserved(5), None, "the page says the same");
    rig.page(Some(counts(8)));
    assert_eq!(rig.reserved(6), Some(13));
}

#[test]
fn the_new_owner_of_an_orders_shard_sums_at_once() {
    let mut rig = Rig::new();
    rig.page(Some(counts(4)));
    let own = rig.own.clone();
    rig.owned_shards.remove(own.shard);
    rig.reports.lose(own.shard);
    assert_eq!(rig.reserved(1), None);
    let own = rig.owned_shards.take(own.shard, Mono(Duration::MAX));
    rig.report(&own, counts(3));
    assert_eq!(rig.reserved(2), Some(7));
}

#[test]
fn an_order_that_leaves_a_page_is_not_counted_there() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(4))).page(None);
    assert_eq!(rig.reserved(1), None);
    rig.reports.forget(&rig.order.uid);
    rig.reports.put(
        &rig.own,
        nodes(),
        vec![Report {
            order: rig.order.uid.clone(),
            counts: None,
        }],
        mono(1),
    );
    assert!(
        rig.reports.state.lock().orders.is_empty(),
        "nothing is remembered"
    );
}

#[test]
fn a_status_written_on_an_older_revision_is_computed_again() {
    let mut rig = Rig::new();
    rig.report(&rig.own, counts(3));
    rig.page(Some(counts(4)));
    assert_eq!(rig.reports.due(&now(1)).0[0].revision, Revision(1));
    rig.reports.written(&rig.order.uid, None, mono(1));
    rig.reports
        .order(&rig.order, Revision(50), Some(OrderStatus::default()));
    assert_eq!(rig.reports.due(&now(2)).0[0].revision, Revision(50));
    rig.reports.written(&rig.order.uid, None, mono(2));
    // A watch that is late does not bring the older status back.
    rig.reports
        .order(&rig.order, Revision(40), Some(OrderStatus::default()));
    assert_eq!(rig.reports.due(&now(3)).0.len(), 0, "a pause after a failure");
    assert_eq!(rig.reports.due(&now(4)).0[0].revision, Revision(50));
    rig.reports.written(&rig.order.uid, None, mono(4));
    assert_eq!(rig.reports.due(&now(7)).0.len(), 0, "a longer one after the next");
    rig.reports
        .order(&rig.order, Revision(60), Some(OrderStatus::default()));
    assert_eq!(
        rig.reports.due(&now(7)).0[0].revision,
        Revision(60),
        "what stood in the way is seen"
    );
}

#[test]
fn the_greatest_number_that_somebody_writes_into_a_grant_is_borne() {
    let mut rig = Rig::new();
    let grant = Grant {
        shard: rig.own.shard.0,
        count: 1,
        seq: i64::MAX,
    };
    let status = OrderStatus {
        rollout: Some(Rollout {
            template_hash: "h".to_owned(),
            seq: i64::MAX,
            grants: vec![grant],
        }),
        ..OrderStatus::default()
    };
    rig.reports.order(&rig.order, Revision(2), Some(status));
    rig.report(&rig.own, counts(0));
    rig.read(None);
    let (_, floor) = &rig.own.mailbox.take().rollouts[&rig.order.uid];
    assert_eq!(*floor, i64::MAX);
}

#[test]
fn a_roll_out_reaches_own_shards_once_and_those_that_begin_later() {
    let mut rig = Rig::new();
    let grants = [rig.own.shard, rig.other].map(|shard| Grant {
        shard: shard.0,
        count: 1,
        seq: 4,
    });
    let rollout = Rollout {
        template_hash: "h".to_owned(),
        seq: 4,
        grants: grants.into(),
    };
    let status = OrderStatus {
        rollout: Some(rollout),
        ..OrderStatus::default()
    };
    let told = |owned: &OwnedShard| {
        let rollouts = owned.mailbox.take().rollouts.into_values();
        rollouts.map(|(_, floor)| floor).collect::<Vec<_>>()
    };
    rig.report(&rig.own, counts(0));
    rig.read(None);
    told(&rig.own);
    rig.reports.order(&rig.order, Revision(2), Some(status.clone()));
    assert_eq!(told(&rig.own), [0]);
    rig.reports.order(&rig.order, Revision(3), Some(status.clone()));
    assert_eq!(told(&rig.own), [0; 0]);
    let taken = rig.owned_shards.take(rig.other, Mono(Duration::MAX));
    rig.report(&taken, counts(0));
    assert_eq!(told(&taken), [0; 0], "its pages have not been read");
    rig.read(None);
    assert_eq!(
        told(&taken),
        [5],
        "what was granted to another process is given back"
    );
    // A page that speaks of a later grant is believed, too, though the watch is behind.
    rig.reports.lose(rig.other);
    let taken = rig.owned_shards.take(rig.other, Mono(Duration::MAX));
    rig.report(&taken, counts(0));
    rig.reports.order(&rig.order, Revision(4), Some(status.clone()));
    rig.read(Some(OrderCounts {
        grant_seq: 8,
        ..counts(0)
    }));
    assert_eq!(told(&taken), [8]);
    // A roll-out that somebody takes out of the status grants nothing any more.
    rig.reports
        .order(&rig.order, Revision(5), Some(OrderStatus::default()));
    assert_eq!(told(&taken), [0]);
    rig.reports.order(&rig.order, Revision(6), Some(status));
    assert_eq!(told(&taken), [0]);
}

#[test]
fn status_of_an_order_that_cannot_be_decoded_is_written_once() {
    let mut rig = Rig::new();
    let good = &rig.order;
    let bad = Order::undecodable(
        good.uid.clone(),
        good.key.clone(),
        0,
        good.created,
        false,
        "a map, expected a string",
    );
    rig.order = Arc::new(bad);
    rig.reports.order(&rig.order, Revision(2), None);
    rig.report(&rig.own, counts(0));
    rig.page(Some(counts(0)));
    assert!(rig.due(10).is_some());
    rig.reports.order(&rig.order, Revision(9), None);
    rig.report(&rig.own, counts(0));
    assert!(rig.due(20).is_none());
}

#[test]
fn what_is_published_follows_the_reports_of_a_shard_that_this_replica_still_has() {
    let rig = Rig::new();
    rig.report(&rig.own, counts(3));
    let due = |seconds| rig.reports.publications("r", |_| 2, mono(seconds)).0;
    assert_eq!(due(1).len(), 0, "what is there has not been listed");
    rig.reports.see(Change::Listed, mono(1));
    assert_eq!(due(1).len(), 0, "its pages have not been read");
    let unread = rig.reports.unread_pages().pop().unwrap();
    rig.reports.pages_read(&unread, None);
    assert_eq!(due(1).len(), 0, "they could not be read");
    let unread = rig.reports.unread_pages().pop().unwrap();
    rig.reports.pages_read(&unread, Some(Vec::new()));
    assert_eq!(due(1).len(), 0, "not quiet yet");
    let both = due(5);
    let totals = ShardStatus {
        owner: "r".to_owned(),
        nodes: 2,
        not_ready: vec![NotReady {
            since: Time(Timestamp::UNIX_EPOCH),
            count: 1,
        }],
        tickets: 3,
        reserved: 3,
        queue: 2,
        ..ShardStatus::default()
    };
    assert_eq!(both[0].write.content, ShardContent::Totals(totals));
    assert_eq!(both.len(), 2);
    rig.owned_shards.remove(rig.own.shard);
    for publication in both {
        rig.reports
            .published(publication, ShardWriteResult::Failed, mono(6));
    }
    assert_eq!(due(60).len(), 0, "another replica has it");
}
