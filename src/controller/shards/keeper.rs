//! Starts, drains and drops the work on shards as their Leases come and go.

use std::{collections::BTreeMap, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::oneshot, task::JoinSet};
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
    workers: JoinSet<Result<(), Arc<Slot>>>,
    draining: FuturesUnordered<BoxFuture<'static, Drained>>,
    /// Shards whose worker has panicked, until they are worked on again.
    broken: FuturesUnordered<BoxFuture<'static, ShardId>>,
    /// How often in a row that has happened, and when last.
    panics: BTreeMap<ShardId, (u32, Mono)>,
    /// The replicas that were said to live.
    pub members: Vec<ReplicaId>,
    /// The end of the last worker of each shard.
    last: BTreeMap<ShardId, CancellationToken>,
}

/// A shard whose last write has ended, and the slot it had then.
pub type Drained = (ShardId, Option<Arc<Slot>>);

/// First and longest pause before a shard is worked on again whose worker has panicked.
const REBUILD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What has come of the work on a shard.
pub enum Change {
    /// Its last write has ended since it began to drain.
    Drained(Drained),
    /// Its worker has panicked: what this replica remembers of the shard cannot be trusted.
    Broken(Arc<Slot>),
    /// It is to be worked on again, from lists.
    Rebuild(ShardId),
}

impl Crew {
    /// Waits for what comes of the work on any shard.
    pub async fn change(&mut self) -> Change {
        loop {
            tokio::select! {
                biased; // a worker that has panicked is worse than anything
                Some(ended) = self.workers.join_next() => {
                    if let Err(slot) = ended.expect("a panic of a worker is caught") {
                        return Change::Broken(slot);
                    }
                }
                Some(drained) = self.draining.next() => return Change::Drained(drained),
                Some(shard) = self.broken.next() => return Change::Rebuild(shard),
                else => std::future::pending().await,
            }
        }
    }

    /// Works on a shard. A broken invariant is that shard's alone: the others go on.
    fn work(&mut self, slot: Arc<Slot>, pause: &Pause, work: impl Future<Output = ()> + Send + 'static) {
        let (done, outcome) = oneshot::channel();
        let work = pause.pass(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            // Nobody listens only when the process ends.
            let _ = done.send(ended.is_ok());
        });
        self.workers.spawn(async move {
            work.await;
            match outcome.await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(slot),
            }
        });
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
            let (pending, shard) = (self.pending.clone(), slot.shard);
            crew.work(slot, &self.pause, async move {
                // One that was dropped may be in the middle of a turn: what came of it is forgotten.
                if let Some(before) = before {
                    before.cancelled().await;
                }
                pending.forget(shard);
                worker.run().await;
            });
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

    /// The worker of a shard has panicked: ends what is in flight, forgets all that is remembered of the shard, and
    /// works on it again after a pause, longer each time.
    pub fn broken(&self, slot: &Arc<Slot>, crew: &mut Crew) {
        let shard = slot.shard;
        let now = self.clock.mono();
        if slot.stop.is_cancelled() {
            return;
        }
        self.end(shard);
        metrics::shard_broken();
        let (times, last) = crew.panics.get(&shard).copied().unwrap_or_default();
        let times = if now.since(last) > REBUILD.1.saturating_mul(2) {
            0
        } else {
            times
        };
        crew.panics.insert(shard, (times + 1, now));
        let pause = REBUILD.0.saturating_mul(1 << times.min(10)).min(REBUILD.1);
        let seconds = pause.as_secs();
        tracing::error!(%shard, seconds, "the worker of a shard has panicked: the shard is dropped, and rebuilt from lists after a pause");
        let clock = self.clock.clone();
        let rebuild = async move {
            clock.sleep_until(Some(now.after(pause))).await;
            shard
        };
        crew.broken.push(rebuild.boxed());
    }

    /// Works again on a shard whose worker has panicked, if this replica still holds its Lease until then.
    pub fn rebuild(&self, shard: ShardId, until: Option<Mono>, crew: &mut Crew) {
        if let Some(until) = until
            && self.slots.get(shard).is_none()
        {
            self.start(&[(shard, until)], crew);
        }
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

    fn slots() -> Slots {
        Slots::new(ShardCount::try_from(2).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_told_of_and_the_others_go_on() {
        let (slots, mut crew) = (slots(), Crew::default());
        let [broken, well] = [0, 1].map(|shard| slots.take(ShardId(shard), Mono(Duration::MAX)));
        let pause = Pause::default();
        let zero = Duration::from_secs(u64::from(broken.shard.0));
        crew.work(broken.clone(), &pause, async move {
            let below = zero.checked_sub(Duration::from_secs(1));
            below.expect("the invariant that this test breaks");
        });
        let (tell, told) = oneshot::channel();
        let stop = well.stop.clone();
        crew.work(well, &pause, async move {
            stop.cancelled().await;
            tell.send("well").unwrap();
        });
        let Change::Broken(slot) = crew.change().await else {
            panic!("another change came first");
        };
        assert!(Arc::ptr_eq(&slot, &broken));
        slots.get(ShardId(1)).unwrap().stop.cancel();
        assert!(crew.change().now_or_never().is_none());
        assert_eq!(told.await, Ok("well"));
    }

    /// A replica without a cluster: its API server answers nothing.
    fn keeper(shards: ShardCount) -> Keeper {
        let clock = Clock::system();
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
        });
        let clients = Clients::over(silent, silent, silent, &clock);
        let slots = Arc::new(Slots::new(shards));
        let router = Arc::new(Router::new(shards, slots.clone(), clock.clone()));
        let (client, pause) = (clients.read, Pause::default());
        let nodes = OwnNodes::new(
            client.clone(),
            shards,
            router.clone(),
            pause.clone(),
            clock.clone(),
        );
        let covers = Covers::new(
            client,
            shards,
            router.clone(),
            slots.clone(),
            pause.clone(),
            clock.clone(),
            Arc::new(nodes),
        );
        let (mut index, everywhere) = (Index::default(), order("everywhere", json!({})));
        index.apply(Arc::new(everywhere));
        Keeper {
            reports: Arc::new(Reports::new(shards, slots.clone())),
            slots,
            router,
            snapshot: Arc::new(ArcSwap::new(index.publish())),
            covers: Arc::new(covers),
            pending: clients.pending,
            news: Arc::default(),
            synced: Synced::common(),
            grace: Duration::from_secs(60),
            pause,
            clock,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_shard_is_worked_on_again_from_lists_after_longer_and_longer_pauses() {
        let (shard, forever) = (ShardId(1), Mono(Duration::MAX));
        let (keeper, mut crew) = (keeper(ShardCount::try_from(2).unwrap()), Crew::default());
        keeper.start(&[(shard, forever)], &mut crew);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let before = keeper.slots.get(shard).unwrap();
            let since = keeper.clock.mono();
            keeper.broken(&before, &mut crew);
            assert!(keeper.slots.get(shard).is_none() && before.drop.is_cancelled());
            let Change::Rebuild(broken) = crew.change().await else {
                panic!("another change came first");
            };
            pauses.push(keeper.clock.mono().since(since).as_secs());
            keeper.rebuild(broken, Some(forever), &mut crew);
            let after = keeper.slots.get(shard).unwrap();
            assert!(!Arc::ptr_eq(&before, &after));
        }
        assert_eq!(pauses, [1, 2, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_shard_that_another_replica_has_by_then_stays_with_that() {
        let shard = ShardId(0);
        let (keeper, mut crew) = (keeper(ShardCount::try_from(1).unwrap()), Crew::default());
        keeper.start(&[(shard, Mono(Duration::MAX))], &mut crew);
        keeper.broken(&keeper.slots.get(shard).unwrap(), &mut crew);
        keeper.rebuild(shard, None, &mut crew);
        assert!(keeper.slots.get(shard).is_none());
    }
}
