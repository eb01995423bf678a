//! Starts, drains and drops the work on shards as their Leases come and go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::worker::Worker;
use crate::controller::{
    counts::rollup::Reports,
    events::News,
    intake::{by_shard::Covers, listed::Synced, router::Router},
    owned::slots::{Slot, Slots},
};
use crate::{
    domain::values::{shard::ShardId, time::Mono},
    env::{clock::Clock, metrics, pause::Pause},
    index::Snapshot,
    lease::record::ReplicaId,
    shard::Shard,
    write::Pending,
};

/// What work on shards needs.
pub struct Keeper {
    /// Where own shards are.
    pub slots: Arc<Slots>,
    /// What knows all nodes.
    pub router: Arc<Router>,
    /// The Orders as they are.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The watches of Tickets and Guardians.
    pub covers: Arc<Covers>,
    /// Where operations go.
    pub pending: Arc<Pending>,
    /// Where counts go.
    pub reports: Arc<Reports>,
    /// Where Events are made.
    pub news: Arc<News>,
    /// What is listed once for all shards.
    pub synced: Synced,
    /// How long a node may be NotReady.
    pub grace: Duration,
    /// What stops all tasks for a while.
    pub pause: Pause,
    /// The time.
    pub clock: Clock,
}

/// The workers of own shards, and the shards that await the end of their writes.
#[derive(Default)]
pub struct Crew {
    workers: JoinSet<()>,
    draining: FuturesUnordered<futures::future::BoxFuture<'static, Drained>>,
    /// The replicas that were said to live.
    pub members: Vec<ReplicaId>,
    /// The end of the last worker of each shard.
    last: BTreeMap<ShardId, CancellationToken>,
}

/// A shard whose last write has ended, and the slot it had then.
pub type Drained = (ShardId, Option<Arc<Slot>>);

impl Crew {
    /// Returns a shard whose last write has ended since it began to drain.
    pub async fn drained(&mut self) -> Drained {
        loop {
            tokio::select! {
                biased; // a worker that has panicked is worse than anything
                Some(ended) = self.workers.join_next() => ended.expect("a worker does not panic"),
                Some(drained) = self.draining.next() => return drained,
                else => std::future::pending().await,
            }
        }
    }
}

impl Keeper {
    /// This replica holds the Leases of these shards, each until then: begins the work on them.
    pub fn start(&self, shards: &[(ShardId, Mono)], crew: &mut Crew) {
        if shards.is_empty() {
            return;
        }
        let synced = self.synced.own();
        let take = |&(shard, until)| self.slots.take(shard, until);
        let slots: Vec<_> = shards.iter().map(take).collect();
        let shards: Vec<ShardId> = shards.iter().map(|(shard, _)| *shard).collect();
        // Read after the slots are taken: what comes later is put into them. Nobody takes it out yet.
        self.router.fill(&shards);
        let orders: Vec<_> = self
            .snapshot
            .load()
            .orders()
            .map(|order| order.uid.clone())
            .collect();
        for slot in slots {
            slot.mailbox
                .put(|inbox| inbox.orders.extend(orders.iter().cloned()));
            let worker = Worker {
                shard: Shard::new(slot.shard, self.grace),
                slot: slot.clone(),
                router: self.router.clone(),
                snapshot: self.snapshot.clone(),
                pending: self.pending.clone(),
                reports: self.reports.clone(),
                news: self.news.clone(),
                synced: synced.clone(),
                clock: self.clock.clone(),
            };
            let before = crew.last.insert(slot.shard, slot.stopped.clone());
            let pending = self.pending.clone();
            crew.workers.spawn(self.pause.pass(async move {
                // One that was dropped may be in the middle of a turn: what came of it is forgotten.
                if let Some(before) = before {
                    before.cancelled().await;
                }
                pending.forget(slot.shard);
                worker.run().await;
            }));
        }
        let numbers: Vec<String> = shards.iter().map(ToString::to_string).collect();
        tracing::info!(shards = numbers.join(","), "shards acquired");
        self.covers.cover(shards, synced);
    }

    /// Tells every own shard until when it may go on.
    pub fn renew(&self, until: impl Fn(ShardId) -> Mono) {
        for shard in self.slots.owned() {
            if let Some(slot) = self.slots.get(shard) {
                slot.lease.set(until(shard));
            }
        }
    }

    /// Nothing more is decided for the shard; `Crew::drained` returns it when its writes have ended.
    pub fn drain(&self, shard: ShardId, crew: &Crew) {
        let Some(slot) = self.slots.get(shard) else {
            crew.draining.push(std::future::ready((shard, None)).boxed());
            return;
        };
        slot.stop.cancel();
        let pending = self.pending.clone();
        let idle = async move {
            slot.stopped.cancelled().await;
            pending.forget(shard);
            slot.idle().await;
            (shard, Some(slot))
        };
        crew.draining.push(idle.boxed());
    }

    /// Ends a shard that has drained; false if it was lost meanwhile and perhaps taken again.
    pub fn release(&self, (shard, slot): &Drained) -> bool {
        let now = self.slots.get(*shard);
        if now.as_ref().map(Arc::as_ptr) != slot.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.end(*shard);
        tracing::info!(%shard, "shard released");
        true
    }

    /// The shard's Lease is lost: ends what is in flight.
    pub fn drop(&self, shard: ShardId) {
        self.end(shard);
        metrics::shard_lost();
        tracing::warn!(%shard, "shard lost: its Lease was not renewed in time");
    }

    fn end(&self, shard: ShardId) {
        if let Some(slot) = self.slots.empty(shard) {
            slot.stop.cancel();
            self.pending.forget(shard);
            slot.drop.cancel();
        }
        self.router.leave(shard);
        self.reports.lose(shard);
        self.covers.fewer();
    }
}
