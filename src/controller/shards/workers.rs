//! The workers of own shards: started, drained and dropped as Leases come and go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::worker::Worker;
use crate::{
    controller::{
        counts::rollup::Reports,
        events::EventQueue,
        intake::{listed::Listed, own_watches::OwnWatches, router::Router},
        owned::shard::{OwnedShard, OwnedShards},
    },
    domain::values::{shard::ShardId, time::Mono},
    env::{clock::Clock, metrics, pause::Pause},
    index::Snapshot,
    shard::Shard,
    write::Pending,
};

/// What the workers of all shards share.
pub struct WorkerContext {
    /// Where own shards are.
    pub owned_shards: Arc<OwnedShards>,
    /// What knows all nodes.
    pub router: Arc<Router>,
    /// The Orders as they are.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The watches of Tickets and Guardians.
    pub watches: Arc<OwnWatches>,
    /// Where operations go.
    pub pending: Arc<Pending>,
    /// Where counts go.
    pub reports: Arc<Reports>,
    /// Where Events are made.
    pub events: Arc<EventQueue>,
    /// What is listed once for all shards.
    pub listed: Listed,
    /// How long a node may be NotReady.
    pub grace: Duration,
    /// What stops all tasks for a while.
    pub pause: Pause,
    /// The time.
    pub clock: Clock,
}

/// The workers of own shards, and the shards that await the end of their writes.
pub struct Workers {
    context: WorkerContext,
    tasks: JoinSet<()>,
    draining: FuturesUnordered<BoxFuture<'static, Drained>>,
    /// The end of the last worker of each shard.
    last: BTreeMap<ShardId, CancellationToken>,
}

/// A shard whose last write has ended, as it was owned then.
pub type Drained = (ShardId, Option<Arc<OwnedShard>>);

impl Workers {
    /// No workers yet.
    pub fn new(context: WorkerContext) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            draining: FuturesUnordered::new(),
            last: BTreeMap::new(),
        }
    }

    /// How many shards are owned.
    pub fn owned(&self) -> usize {
        self.context.owned_shards.ids().len()
    }

    /// Returns a shard whose last write has ended since it began to drain.
    pub async fn drained(&mut self) -> Drained {
        loop {
            tokio::select! {
                biased; // a worker that has panicked is worse than anything
                Some(ended) = self.tasks.join_next() => ended.expect("a worker does not panic"),
                Some(drained) = self.draining.next() => return drained,
                else => std::future::pending().await,
            }
        }
    }

    /// This replica holds the Leases of these shards, each until then: begins the work on them.
    pub fn start(&mut self, shards: &[(ShardId, Mono)]) {
        if shards.is_empty() {
            return;
        }
        let listed = self.context.listed.own();
        let take = |&(shard, until)| self.context.owned_shards.take(shard, until);
        let owned: Vec<_> = shards.iter().map(take).collect();
        let shards: Vec<ShardId> = shards.iter().map(|(shard, _)| *shard).collect();
        // Read after the shards are taken: what comes later is put into them. Nobody takes it out yet.
        self.context.router.fill(&shards);
        let snapshot = self.context.snapshot.load();
        let orders: Vec<_> = snapshot.orders().map(|order| order.uid.clone()).collect();
        for owned in owned {
            owned
                .mailbox
                .put(|inbox| inbox.orders.extend(orders.iter().cloned()));
            let worker = self.context.worker(owned, listed.clone());
            self.spawn(worker);
        }
        let numbers: Vec<String> = shards.iter().map(ToString::to_string).collect();
        tracing::info!(shards = numbers.join(","), "shards acquired");
        self.context.watches.add(shards, listed);
    }

    fn spawn(&mut self, worker: Worker) {
        let shard = worker.owned.shard;
        let before = self.last.insert(shard, worker.owned.stopped.clone());
        let pending = self.context.pending.clone();
        self.tasks.spawn(self.context.pause.pass(async move {
            // One that was dropped may be in the middle of a turn: what came of it is forgotten.
            if let Some(before) = before {
                before.cancelled().await;
            }
            pending.forget(shard);
            worker.run().await;
        }));
    }

    /// Tells every own shard until when it may go on.
    pub fn renew(&self, until: impl Fn(ShardId) -> Mono) {
        for shard in self.context.owned_shards.ids() {
            if let Some(owned) = self.context.owned_shards.get(shard) {
                owned.lease.set(until(shard));
            }
        }
    }

    /// Nothing more is decided for the shard; [`Self::drained`] returns it when its writes have ended.
    pub fn drain(&self, shard: ShardId) {
        let Some(owned) = self.context.owned_shards.get(shard) else {
            self.draining.push(ready((shard, None)).boxed());
            return;
        };
        owned.stop.cancel();
        let pending = self.context.pending.clone();
        let idle = async move {
            owned.stopped.cancelled().await;
            pending.forget(shard);
            owned.idle().await;
            (shard, Some(owned))
        };
        self.draining.push(idle.boxed());
    }

    /// Ends a shard that has drained; false if it was lost meanwhile and perhaps taken again.
    pub fn release(&self, (shard, owned): &Drained) -> bool {
        let now = self.context.owned_shards.get(*shard);
        if now.as_ref().map(Arc::as_ptr) != owned.as_ref().map(Arc::as_ptr) {
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
        if let Some(owned) = self.context.owned_shards.remove(shard) {
            owned.stop.cancel();
            self.context.pending.forget(shard);
            owned.drop.cancel();
        }
        self.context.router.leave(shard);
        self.context.reports.lose(shard);
        self.context.watches.removed();
    }
}

impl WorkerContext {
    fn worker(&self, owned: Arc<OwnedShard>, listed: Listed) -> Worker {
        Worker {
            shard: Shard::new(owned.shard, self.grace),
            owned,
            router: self.router.clone(),
            snapshot: self.snapshot.clone(),
            pending: self.pending.clone(),
            reports: self.reports.clone(),
            events: self.events.clone(),
            listed,
            clock: self.clock.clone(),
        }
    }
}
