//! One replica: everything that runs, put together over given clients and a given clock.
//!
//! Knows neither flags' origins, signals, sockets nor the process; dropping it is a crash.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use crate::env::{clock::Clock, tasks::Tasks};
use crate::write::clients::Clients;
use crate::{
    controller::{
        counts::{
            publish::Publisher,
            rollup::{self, Reports},
        },
        events::{self, News},
        intake::{
            by_shard::Covers,
            listed::Synced,
            orders::{OrderInbox, Orders},
            own_nodes::OwnNodes,
            router::Router,
            shard_objects::follow_shards,
            watches::Watches,
        },
        owned::slots::Slots,
        shards::{
            keeper::Keeper,
            membership::{Ending, Membership},
            pump,
        },
    },
    domain::values::shard::ShardId,
    index::Snapshot,
    lease::{
        deadline::Deadline,
        member::{Fatal, Member},
        record::{Holder, LeaseTimes},
    },
    write::{GuardianSettings, Pending, Writer},
};

/// A replica that runs.
pub struct Replica {
    tasks: Tasks,
    leave: CancellationToken,
    fatal: Arc<OnceLock<Fatal>>,
    left: CancellationToken,
    pumping: CancellationToken,
    slots: Arc<Slots>,
    clock: Clock,
}

/// Why a replica cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What its Leases say.
    Lease(Fatal),
    /// A task of this name has ended that must not.
    Task(&'static str),
}

impl Replica {
    /// Starts everything among `tasks`; `ready` is true while it is a member and nodes are listed. Needs
    /// a tokio runtime. `incarnation` tells this process from others of the same replica id.
    pub fn start(
        config: &Config,
        incarnation: &str,
        clients: Clients,
        clock: &Clock,
        ready: Arc<AtomicBool>,
        mut tasks: Tasks,
    ) -> Self {
        let (leave, fatal) = (CancellationToken::new(), Arc::default());
        let (left, pumping) = (CancellationToken::new(), CancellationToken::new());
        let slots = Arc::new(Slots::new(config.shards));
        let assembly = Assembly {
            slots: slots.clone(),
            config,
            incarnation,
            clients,
            clock,
            ready,
        };
        assembly.spawn(&mut tasks, &leave, &left, &fatal, &pumping);
        Self {
            tasks,
            leave,
            fatal,
            left,
            pumping,
            slots,
            clock: clock.clone(),
        }
    }

    /// The shards that it may decide for now.
    pub fn holds(&self) -> Vec<ShardId> {
        let now = self.clock.mono();
        let owned = self.slots.owned().into_iter();
        let slots = owned.filter_map(|shard| self.slots.get(shard));
        let held = slots.filter(|slot| !slot.stop.is_cancelled() && slot.lease.admits(now, Duration::ZERO));
        held.map(|slot| slot.shard).collect()
    }

    /// Returns when it cannot go on.
    pub async fn ended(&mut self) -> Ended {
        let name = self.tasks.ended().await;
        match self.fatal.get() {
            Some(fatal) => Ended::Lease(fatal.clone()),
            None => Ended::Task(name),
        }
    }

    /// Gives up its shards one by one as their writes end, then its membership.
    ///
    /// # Errors
    /// When it cannot go on with that.
    pub async fn drain(mut self) -> Result<(), Ended> {
        self.leave.cancel();
        let left = self.left.clone();
        tokio::select! {
            biased; // a task that has ended is worse than the end of the drain
            ended = self.ended() => return Err(ended),
            () = left.cancelled() => {}
        }
        self.tasks.quit().cancel();
        self.pumping.cancelled().await;
        Ok(())
    }
}

/// What a replica is made from.
struct Assembly<'a> {
    slots: Arc<Slots>,
    config: &'a Config,
    incarnation: &'a str,
    clients: Clients,
    clock: &'a Clock,
    ready: Arc<AtomicBool>,
}

impl Assembly<'_> {
    fn spawn(
        self,
        tasks: &mut Tasks,
        leave: &CancellationToken,
        left: &CancellationToken,
        fatal: &Arc<OnceLock<Fatal>>,
        pumping: &CancellationToken,
    ) {
        let (config, clock, clients) = (self.config, self.clock, self.clients);
        let slots = self.slots;
        let snapshot: Arc<ArcSwap<Snapshot>> = Arc::default();
        let (pending, news) = (clients.pending, Arc::new(News::default()));
        let reports = Arc::new(Reports::new(config.shards, slots.clone()));
        let (synced, lease) = (Synced::common(), Arc::new(Deadline::default()));
        let guardians = GuardianSettings {
            image: config.guardian_image.clone(),
            priority_class: config.guardian_priority_class.clone(),
        };
        let writer = Writer::new(
            clients.write,
            pending.clone(),
            config.shards,
            guardians,
            lease.clone(),
        );
        let router = Arc::new(Router::new(config.shards, slots.clone(), clock.clone()));
        let quit = tasks.quit().clone();

        let inbox = Arc::new(OrderInbox::default());
        let orders = Orders {
            inbox: inbox.clone(),
            snapshot: snapshot.clone(),
            slots: slots.clone(),
            reports: reports.clone(),
            writer: writer.clone(),
            synced: synced.clone(),
        };
        tasks.spawn("orders", orders.run(quit.clone()));
        let rollup = rollup::run(
            reports.clone(),
            news.clone(),
            writer.clone(),
            clock.clone(),
            quit.clone(),
        );
        tasks.spawn("roll-up", rollup);
        let publisher = Publisher {
            reports: reports.clone(),
            writer: writer.clone(),
            pending: pending.clone(),
            namespace: config.namespace().into(),
            replica: config.replica(),
            clock: clock.clone(),
        };
        tasks.spawn("publisher", publisher.run(quit.clone()));
        let shard_objects = follow_shards(
            clients.read.clone(),
            config.namespace().into(),
            config.shards,
            reports.clone(),
            router.clone(),
            clock.clone(),
        );
        tasks.spawn("shards watch", shard_objects);
        let events = events::run(
            news.clone(),
            snapshot.clone(),
            writer.clone(),
            config.replica(),
            clock.clone(),
            quit.clone(),
        );
        tasks.spawn("events", events);
        tasks.spawn("queue metrics", watch_queue(pending.clone(), quit.clone()));

        let watches = Watches {
            client: clients.read.clone(),
            synced: synced.clone(),
        };
        tasks.spawn("orders watch", watches.clone().orders(inbox));
        let own_nodes = Arc::new(OwnNodes::new(
            clients.read.clone(),
            config.shards,
            router.clone(),
            tasks.pause().clone(),
            clock.clone(),
        ));
        tasks.spawn(
            "nodes watch",
            watches.clone().nodes(router.clone(), own_nodes.clone()),
        );
        tasks.spawn(
            "unlabelled tickets watch",
            watches.unlabelled(router.clone(), config.shards),
        );
        let covers = Arc::new(Covers::new(
            clients.read,
            config.shards,
            router.clone(),
            slots.clone(),
            tasks.pause().clone(),
            clock.clone(),
            own_nodes,
        ));
        tasks.spawn("watches of own shards", covers.clone().run(quit.clone()));

        let me = Holder {
            replica: config.replica().into(),
            incarnation: self.incarnation.into(),
        };
        let times = LeaseTimes::default();
        let membership = Membership {
            client: clients.lease,
            namespace: config.namespace(),
            shards: config.shards,
            times,
            member: Member::new(me, config.shards, times),
            keeper: Keeper {
                slots: slots.clone(),
                router,
                snapshot,
                covers,
                pending: pending.clone(),
                reports,
                news,
                synced: synced.clone(),
                grace: config.not_ready_grace,
                pause: tasks.pause().clone(),
                clock: clock.clone(),
            },
            lease,
            ready: self.ready,
            synced,
            clock: clock.clone(),
        };
        let (fatal, leave, left) = (fatal.clone(), leave.clone(), left.clone());
        tasks.spawn("membership", async move {
            match membership.run(leave).await {
                Ending::Left => left.cancel(),
                Ending::Fatal(why) => return drop(fatal.set(why)),
            }
            // What has left still awaits its last writes.
            std::future::pending().await
        });

        let guard = pumping.clone().drop_guard();
        let pump = pump::pump(pending, writer, slots, clock.clone(), quit);
        tasks.spawn("pump", async move {
            let _drained_at_the_end = guard;
            pump.await;
        });
    }
}

async fn watch_queue(pending: Arc<Pending>, quit: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !quit.is_cancelled() {
        ticks.tick().await;
        pending.measure();
    }
}
