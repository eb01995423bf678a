//! When a worker decides, and one whose API server is frozen while nodes go on changing, in virtual time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::json;

use super::{LEASE_AGAIN, Turn, Worker};
use crate::{
    controller::{
        counts::rollup::Reports,
        intake::{
            listed::{Listed, Part},
            router::Router,
        },
        owned::{mailbox::NodeUpdate, shard::OwnedShards},
    },
    domain::{
        node::record::Node,
        pair::op::Outcome,
        testing::{node, order},
        values::{
            shard::{ShardCount, ShardId},
            time::Mono,
        },
    },
    env::clock::Clock,
    index::Index,
    queue::budget::Feedback,
    shard::Shard,
    write::{Pending, pending::Started},
};

const NODES: usize = 500;

fn worker() -> Worker {
    let worker = unlisted();
    worker.listed.mark(Part::Guardians);
    worker
}

/// All is listed but the Guardians.
fn unlisted() -> Worker {
    let (clock, common) = (Clock::system(), Listed::common());
    let listed = common.own();
    let shards = ShardCount::try_from(1).unwrap();
    let owned_shards = Arc::new(OwnedShards::new(shards));
    let owned = owned_shards.take(ShardId(0), Mono(Duration::MAX));
    common.mark(Part::Nodes);
    common.mark(Part::Orders);
    common.mark(Part::Unlabelled);
    listed.mark(Part::Nodes);
    listed.mark(Part::Tickets);
    listed.mark(Part::Unlabelled);
    let (mut index, order) = (Index::default(), order("everywhere", json!({})));
    owned.mailbox.put(|inbox| {
        inbox.orders.insert(order.uid.clone());
    });
    index.apply(Arc::new(order));
    Worker {
        shard: Shard::new(ShardId(0), Duration::from_secs(60)),
        owned,
        router: Arc::new(Router::new(shards, owned_shards.clone(), clock.clone())),
        snapshot: Arc::new(arc_swap::ArcSwap::new(index.publish())),
        pending: Arc::new(Pending::new(clock.clone())),
        reports: Arc::new(Reports::new(shards, owned_shards)),
        events: Arc::default(),
        listed: listed.clone(),
        clock,
    }
}

/// All operations that may begin now.
fn begun(worker: &Worker) -> Vec<Started> {
    std::iter::from_fn(|| worker.pending.started().now_or_never()).collect()
}

#[tokio::test]
async fn what_is_listed_while_the_mailbox_is_emptied_is_decided_at_once() {
    let mut worker = unlisted();
    worker.due(Turn::Unlisted).await;
    assert_eq!(worker.turn(), Turn::Unlisted);
    assert!(worker.due(Turn::Unlisted).now_or_never().is_none());
    // Another thread may do so before the turn has ended.
    worker.listed.mark(Part::Guardians);
    worker.due(Turn::Unlisted).now_or_never().expect("it is due");
    assert_eq!(worker.turn(), Turn::Decided);
    assert!(worker.due(Turn::Decided).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_lease_had_run_out_is_decided_when_it_is_renewed() {
    let mut worker = worker();
    // The mailbox has rung.
    worker.due(Turn::Unlisted).await;
    worker.owned.lease.set(worker.clock.mono());
    assert_eq!(worker.turn(), Turn::Leaseless);
    worker.owned.lease.set(Mono(Duration::MAX));
    let before = worker.clock.mono();
    worker.due(Turn::Leaseless).await;
    assert!(worker.clock.mono().since(before) <= 2 * LEASE_AGAIN);
    assert_eq!(worker.turn(), Turn::Decided);
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_frozen_under_ten_thousand_events_a_second_stay_bounded_by_keys_and_drain_once() {
    let mut worker = worker();
    let states: Vec<[Arc<Node>; 2]> = (0..NODES)
        .map(|n| format!("n{n}"))
        .map(|name| [Arc::new(node(&name)), Arc::new(node(&name).cordoned())])
        .collect();
    let put = |worker: &Worker, events: &mut dyn Iterator<Item = (usize, usize)>| {
        let mono = worker.clock.mono();
        for (n, state) in events {
            let node = &states[n][state];
            let update = NodeUpdate::Apply(node.clone(), mono);
            worker.owned.mailbox.put(|inbox| {
                inbox.nodes.insert(node.uid.clone(), update);
            });
        }
    };
    let mut frozen = Vec::new();
    for second in 0..600 {
        let event = |event| (event % NODES, (event / NODES + second + event) % 2);
        put(&worker, &mut (0..10_000).map(event));
        worker.turn();
        frozen.extend(begun(&worker));
        assert!(worker.pending.depth() <= NODES, "one operation per Ticket");
        assert!(
            worker.shard.remembered() <= 3 * NODES,
            "{}",
            worker.shard.remembered()
        );
        assert_eq!(worker.events.waiting(), 0, "nothing happened");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(frozen.len(), 24, "what is in flight is bounded by the limit");
    // Flaps are over; in the end every second node is cordoned.
    put(&worker, &mut (0..NODES).map(|n| (n, n % 2)));
    worker.turn();
    tokio::time::advance(Duration::from_secs(31)).await;
    worker.turn();

    let mut writes = BTreeSet::new();
    for started in frozen {
        worker.pending.done(&started.key);
        started.permit.answered(Feedback::Silence);
        let message = "no answer".into();
        let outcome = (started.work, Outcome::Busy { message });
        worker.owned.mailbox.put(|inbox| inbox.outcomes.push(outcome));
    }
    for _ in 0..600 {
        worker.turn();
        for started in begun(&worker) {
            started.permit.answered(Feedback::Served);
            assert!(writes.insert(started.work.ticket), "one write per changed pair");
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!((writes.len(), worker.pending.depth()), (NODES / 2, 0));
}
