//! The workers of own shards: started, drained and dropped as Leases come and go.

use std::{collections::BTreeMap, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use tokio::{sync::oneshot, task::JoinSet};
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
pub(crate) struct WorkerContext {
    /// Where own shards are.
    pub(crate) owned_shards: Arc<OwnedShards>,
    /// What knows all nodes.
    pub(crate) router: Arc<Router>,
    /// The Orders as they are.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// The watches of Tickets and Guardians.
    pub(crate) watches: Arc<OwnWatches>,
    /// Where operations go.
    pub(crate) pending: Arc<Pending>,
    /// Where counts go.
    pub(crate) reports: Arc<Reports>,
    /// Where Events are made.
    pub(crate) events: Arc<EventQueue>,
    /// What is listed once for all shards.
    pub(crate) listed: Listed,
    /// How long a node may be NotReady.
    pub(crate) grace: Duration,
    /// What stops all tasks for a while.
    pub(crate) pause: Pause,
    /// The time.
    pub(crate) clock: Clock,
}

/// The workers of own shards, and the shards that await the end of their writes.
pub(crate) struct Workers {
    context: WorkerContext,
    tasks: JoinSet<Result<(), Arc<OwnedShard>>>,
    draining: FuturesUnordered<BoxFuture<'static, Drained>>,
    /// Shards whose worker has panicked, until they are worked on again.
    broken: FuturesUnordered<BoxFuture<'static, ShardId>>,
    /// How often in a row that has happened, and when last.
    panics: BTreeMap<ShardId, (u32, Mono)>,
    /// The end of the last worker of each shard.
    last: BTreeMap<ShardId, CancellationToken>,
}

/// A shard whose last write has ended, as it was owned then.
pub(crate) type Drained = (ShardId, Option<Arc<OwnedShard>>);

/// First and longest pause before a shard is worked on again whose worker has panicked.
const REBUILD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What has come of the work on a shard.
pub(crate) enum Change {
    /// Its last write has ended since it began to drain.
    Drained(Drained),
    /// Its worker has panicked: what this replica remembers of the shard cannot be trusted.
    Broken(Arc<OwnedShard>),
    /// It is to be worked on again, from lists.
    Rebuild(ShardId),
}

impl Workers {
    /// No workers yet.
    pub(crate) fn new(context: WorkerContext) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            draining: FuturesUnordered::new(),
            broken: FuturesUnordered::new(),
            panics: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// How many shards are owned.
    pub(crate) fn owned(&self) -> usize {
        self.context.owned_shards.ids().len()
    }

    /// Waits for what comes of the work on any shard.
    pub(crate) async fn change(&mut self) -> Change {
        loop {
            tokio::select! {
                biased; // a worker that has panicked is worse than anything
                Some(ended) = self.tasks.join_next() => {
                    if let Err(owned) = ended.expect("a panic of a worker is caught") {
                        return Change::Broken(owned);
                    }
                }
                Some(drained) = self.draining.next() => return Change::Drained(drained),
                Some(shard) = self.broken.next() => return Change::Rebuild(shard),
                else => std::future::pending().await,
            }
        }
    }

    /// This replica holds the Leases of these shards, each until then: begins the work on them.
    pub(crate) fn start(&mut self, shards: &[(ShardId, Mono)]) {
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
        let owned = worker.owned.clone();
        let before = self.last.insert(owned.shard, owned.stopped.clone());
        let (pending, shard) = (self.context.pending.clone(), owned.shard);
        self.work(owned, async move {
            // One that was dropped may be in the middle of a turn: what came of it is forgotten.
            if let Some(before) = before {
                before.cancelled().await;
            }
            pending.forget(shard);
            worker.run().await;
        });
    }

    /// Works on a shard. A broken invariant is that shard's alone: the others go on.
    fn work(&mut self, owned: Arc<OwnedShard>, work: impl Future<Output = ()> + Send + 'static) {
        let (done, outcome) = oneshot::channel();
        let work = self.context.pause.pass(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            // Nobody listens only when the process ends.
            let _ = done.send(ended.is_ok());
        });
        self.tasks.spawn(async move {
            work.await;
            match outcome.await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(owned),
            }
        });
    }

    /// Tells every own shard until when it may go on.
    pub(crate) fn renew(&self, until: impl Fn(ShardId) -> Mono) {
        for shard in self.context.owned_shards.ids() {
            if let Some(owned) = self.context.owned_shards.get(shard) {
                owned.lease.set(until(shard));
            }
        }
    }

    /// Nothing more is decided for the shard; [`Self::change`] returns it when its writes have ended.
    pub(crate) fn drain(&self, shard: ShardId) {
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
    pub(crate) fn release(&self, (shard, owned): &Drained) -> bool {
        let now = self.context.owned_shards.get(*shard);
        if now.as_ref().map(Arc::as_ptr) != owned.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.end(*shard);
        tracing::info!(%shard, "shard released");
        true
    }

    /// The shard's Lease is lost: ends what is in flight.
    pub(crate) fn drop(&self, shard: ShardId) {
        self.end(shard);
        metrics::shard_lost();
        tracing::warn!(%shard, "shard lost: its Lease was not renewed in time");
    }

    /// The worker of a shard has panicked: ends what is in flight, forgets all that is remembered of the shard, and
    /// works on it again after a pause, longer each time.
    pub(crate) fn broken(&mut self, owned: &OwnedShard) {
        let (shard, now) = (owned.shard, self.context.clock.mono());
        // One that drains is given up anyway.
        if owned.stop.is_cancelled() {
            return;
        }
        self.end(shard);
        metrics::shard_broken();
        let (times, last) = self.panics.get(&shard).copied().unwrap_or_default();
        let rested = now.since(last) > REBUILD.1.saturating_mul(2);
        let times = if rested { 0 } else { times };
        self.panics.insert(shard, (times + 1, now));
        let pause = REBUILD.0.saturating_mul(1 << times.min(10)).min(REBUILD.1);
        tracing::error!(%shard, seconds = pause.as_secs(), "the worker of a shard has panicked: the shard is dropped, and rebuilt from lists after a pause");
        let clock = self.context.clock.clone();
        let rebuild = async move {
            clock.sleep_until(Some(now.after(pause))).await;
            shard
        };
        self.broken.push(rebuild.boxed());
    }

    /// Works again on a shard whose worker has panicked, if this replica still holds its Lease, until then.
    pub(crate) fn rebuild(&mut self, shard: ShardId, until: Option<Mono>) {
        if let Some(until) = until
            && self.context.owned_shards.get(shard).is_none()
        {
            self.start(&[(shard, until)]);
        }
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

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::{
        controller::intake::own_nodes::OwnNodes,
        domain::{testing::order, values::shard::ShardCount},
        index::Index,
        write::clients::Clients,
    };

    const FOREVER: Mono = Mono(Duration::MAX);

    /// Of a replica without a cluster: its API server answers nothing.
    fn workers(shards: u16) -> Workers {
        let (shards, clock) = (ShardCount::try_from(shards).unwrap(), Clock::system());
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
        });
        let clients = Clients::over(silent, silent, silent, &clock);
        let owned_shards = Arc::new(OwnedShards::new(shards));
        let router = Arc::new(Router::new(shards, owned_shards.clone(), clock.clone()));
        let (client, pause) = (clients.read, Pause::default());
        let nodes = OwnNodes::new(
            client.clone(),
            shards,
            router.clone(),
            pause.clone(),
            clock.clone(),
        );
        let watches = OwnWatches::new(
            client,
            shards,
            router.clone(),
            owned_shards.clone(),
            pause.clone(),
            clock.clone(),
            Arc::new(nodes),
        );
        let (mut index, everywhere) = (Index::default(), order("everywhere", json!({})));
        index.apply(Arc::new(everywhere));
        Workers::new(WorkerContext {
            reports: Arc::new(Reports::new(shards, owned_shards.clone())),
            owned_shards,
            router,
            snapshot: Arc::new(ArcSwap::new(index.publish())),
            watches: Arc::new(watches),
            pending: clients.pending,
            events: Arc::default(),
            listed: Listed::common(),
            grace: Duration::from_secs(60),
            pause,
            clock,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_told_of_and_the_others_go_on() {
        let mut workers = workers(2);
        let take = |shard| workers.context.owned_shards.take(ShardId(shard), FOREVER);
        let (broken, well) = (take(0), take(1));
        let zero = Duration::from_secs(u64::from(broken.shard.0));
        workers.work(broken.clone(), async move {
            let below = zero.checked_sub(Duration::from_secs(1));
            below.expect("the invariant that this test breaks");
        });
        let (tell, told) = oneshot::channel();
        let stop = well.stop.clone();
        workers.work(well.clone(), async move {
            stop.cancelled().await;
            tell.send("well").unwrap();
        });
        let Change::Broken(owned) = workers.change().await else {
            panic!("another change came first");
        };
        assert!(Arc::ptr_eq(&owned, &broken));
        well.stop.cancel();
        assert!(workers.change().now_or_never().is_none());
        assert_eq!(told.await, Ok("well"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_shard_is_worked_on_again_from_lists_after_longer_and_longer_pauses() {
        let (shard, mut workers) = (ShardId(1), workers(2));
        workers.start(&[(shard, FOREVER)]);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let before = workers.context.owned_shards.get(shard).unwrap();
            let since = workers.context.clock.mono();
            workers.broken(&before);
            let gone = workers.context.owned_shards.get(shard).is_none();
            assert!(gone && before.drop.is_cancelled());
            let Change::Rebuild(broken) = workers.change().await else {
                panic!("another change came first");
            };
            pauses.push(workers.context.clock.mono().since(since).as_secs());
            workers.rebuild(broken, Some(FOREVER));
            let after = workers.context.owned_shards.get(shard).unwrap();
            assert!(!Arc::ptr_eq(&before, &after));
        }
        assert_eq!(pauses, [1, 2, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_shard_that_another_replica_has_by_then_stays_with_that() {
        let (shard, mut workers) = (ShardId(0), workers(1));
        workers.start(&[(shard, FOREVER)]);
        let before = workers.context.owned_shards.get(shard).unwrap();
        workers.broken(&before);
        workers.rebuild(shard, None);
        assert!(workers.context.owned_shards.get(shard).is_none());
    }
}
