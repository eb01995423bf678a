//! One replica: everything that runs, put together over given clients and a given clock.
//!
//! Knows neither flags' origins, signals, sockets nor the process; dropping it is a crash.

use std::{
    future::Future,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use crate::{
    controller::{
        counts::{
            publish::Publisher,
            rollup::{self, Reports},
        },
        events::{self, EventQueue},
        intake::{
            common_watches::CommonWatches,
            listed::Listed,
            orders::{OrderInbox, Orders},
            own_nodes::OwnNodes,
            own_watches::OwnWatches,
            router::Router,
            shards_watch::follow_shards,
        },
        owned::shard::OwnedShards,
        shards::{
            membership::{Ending, Membership},
            pump::pump,
            workers::{WorkerContext, Workers},
        },
    },
    domain::values::shard::ShardId,
    env::{clock::Clock, pause::Pause, tasks::Tasks},
    index::Snapshot,
    lease::{
        deadline::Deadline,
        member::{Fatal, Member},
        record::{Holder, LeaseTimes},
    },
    write::{GuardianSettings, Pending, Writer, clients::Clients},
};

/// A replica that runs.
pub struct Replica {
    tasks: Tasks,
    end: End,
    owned_shards: Arc<OwnedShards>,
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

/// How far a replica is with its end.
#[derive(Clone, Default)]
struct End {
    /// Asks it to give up its shards and its membership.
    leave: CancellationToken,
    /// It has.
    left: CancellationToken,
    /// The last write in flight has ended.
    pumped: CancellationToken,
    fatal: Arc<OnceLock<Fatal>>,
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
        let parts = Parts::new(config, clients, clock, tasks.pause().clone());
        let (quit, end) = (tasks.quit().clone(), End::default());

        // Orders, and what is said of them.
        let inbox = Arc::new(OrderInbox::default());
        tasks.spawn("orders", parts.orders(inbox.clone()).run(quit.clone()));
        tasks.spawn("roll-up", parts.rollup(quit.clone()));
        tasks.spawn("publisher", parts.publisher().run(quit.clone()));
        tasks.spawn("shards watch", parts.shards_watch());
        tasks.spawn("events", parts.events(quit.clone()));
        tasks.spawn("queue metrics", watch_queue(parts.pending.clone(), quit.clone()));

        // What is watched whatever its shards are, and what is watched for its shards.
        let (common, own_nodes) = (parts.common_watches(), parts.own_nodes());
        let own_watches = parts.own_watches(own_nodes.clone());
        let router = || parts.router.clone();
        tasks.spawn("orders watch", common.clone().orders(inbox));
        tasks.spawn("nodes watch", common.clone().nodes(router(), own_nodes));
        tasks.spawn(
            "unlabelled tickets watch",
            common.unlabelled(router(), config.shards),
        );
        tasks.spawn("watches of own shards", own_watches.clone().run(quit.clone()));

        // The shards it has, and the writes that they decide.
        let membership = parts.membership(incarnation, own_watches, ready);
        tasks.spawn("membership", hold(membership, end.clone()));
        tasks.spawn("pump", parts.pump(quit, end.pumped.clone()));

        Self {
            tasks,
            end,
            owned_shards: parts.owned_shards,
            clock: parts.clock,
        }
    }

    /// The shards that it may decide for now.
    pub fn holds(&self) -> Vec<ShardId> {
        self.owned_shards.held_at(self.clock.mono())
    }

    /// Returns when it cannot go on.
    pub async fn ended(&mut self) -> Ended {
        let name = self.tasks.ended().await;
        match self.end.fatal.get() {
            Some(fatal) => Ended::Lease(fatal.clone()),
            None => Ended::Task(name),
        }
    }

    /// Gives up its shards one by one as their writes end, then its membership.
    ///
    /// # Errors
    /// When it cannot go on with that.
    pub async fn drain(mut self) -> Result<(), Ended> {
        self.end.leave.cancel();
        let left = self.end.left.clone();
        tokio::select! {
            biased; // a task that has ended is worse than the end of the drain
            ended = self.ended() => return Err(ended),
            () = left.cancelled() => {}
        }
        self.tasks.quit().cancel();
        self.end.pumped.cancelled().await;
        Ok(())
    }
}

/// What the tasks of a replica share, and how each is made of it.
struct Parts<'a> {
    config: &'a Config,
    reader: Client,
    lease_client: Client,
    clock: Clock,
    pause: Pause,
    owned_shards: Arc<OwnedShards>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    pending: Arc<Pending>,
    events: Arc<EventQueue>,
    reports: Arc<Reports>,
    router: Arc<Router>,
    listed: Listed,
    /// Until when this replica is a member.
    lease: Arc<Deadline>,
    writer: Writer,
}

impl<'a> Parts<'a> {
    fn new(config: &'a Config, clients: Clients, clock: &Clock, pause: Pause) -> Self {
        let owned_shards = Arc::new(OwnedShards::new(config.shards));
        let lease = Arc::new(Deadline::default());
        let guardians = GuardianSettings {
            image: config.guardian_image.clone(),
            priority_class: config.guardian_priority_class.clone(),
        };
        let pending = clients.pending;
        Self {
            writer: Writer::new(
                clients.write,
                pending.clone(),
                config.shards,
                guardians,
                lease.clone(),
            ),
            reports: Arc::new(Reports::new(config.shards, owned_shards.clone())),
            router: Arc::new(Router::new(config.shards, owned_shards.clone(), clock.clone())),
            config,
            reader: clients.read,
            lease_client: clients.lease,
            clock: clock.clone(),
            pause,
            owned_shards,
            snapshot: Arc::default(),
            pending,
            events: Arc::default(),
            listed: Listed::common(),
            lease,
        }
    }

    fn orders(&self, inbox: Arc<OrderInbox>) -> Orders {
        Orders {
            inbox,
            snapshot: self.snapshot.clone(),
            owned_shards: self.owned_shards.clone(),
            reports: self.reports.clone(),
            writer: self.writer.clone(),
            listed: self.listed.clone(),
        }
    }

    fn rollup(&self, quit: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        rollup::run(
            self.reports.clone(),
            self.events.clone(),
            self.writer.clone(),
            self.clock.clone(),
            quit,
        )
    }

    fn publisher(&self) -> Publisher {
        Publisher {
            reports: self.reports.clone(),
            writer: self.writer.clone(),
            pending: self.pending.clone(),
            namespace: self.config.namespace().into(),
            replica: self.config.replica(),
            clock: self.clock.clone(),
        }
    }

    fn shards_watch(&self) -> impl Future<Output = ()> + Send + use<> {
        follow_shards(
            self.reader.clone(),
            self.config.namespace().into(),
            self.config.shards,
            self.reports.clone(),
            self.router.clone(),
            self.clock.clone(),
        )
    }

    fn events(&self, quit: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        events::run(
            self.events.clone(),
            self.snapshot.clone(),
            self.writer.clone(),
            self.config.replica(),
            self.clock.clone(),
            quit,
        )
    }

    fn common_watches(&self) -> CommonWatches {
        CommonWatches {
            client: self.reader.clone(),
            listed: self.listed.clone(),
        }
    }

    fn own_nodes(&self) -> Arc<OwnNodes> {
        Arc::new(OwnNodes::new(
            self.reader.clone(),
            self.config.shards,
            self.router.clone(),
            self.pause.clone(),
            self.clock.clone(),
        ))
    }

    fn own_watches(&self, own_nodes: Arc<OwnNodes>) -> Arc<OwnWatches> {
        Arc::new(OwnWatches::new(
            self.reader.clone(),
            self.config.shards,
            self.router.clone(),
            self.owned_shards.clone(),
            self.pause.clone(),
            self.clock.clone(),
            own_nodes,
        ))
    }

    fn membership(&self, incarnation: &str, watches: Arc<OwnWatches>, ready: Arc<AtomicBool>) -> Membership {
        let me = Holder {
            replica: self.config.replica().into(),
            incarnation: incarnation.into(),
        };
        let (shards, times) = (self.config.shards, LeaseTimes::default());
        Membership {
            client: self.lease_client.clone(),
            namespace: self.config.namespace(),
            shards,
            times,
            member: Member::new(me, shards, times),
            workers: Workers::new(WorkerContext {
                owned_shards: self.owned_shards.clone(),
                router: self.router.clone(),
                snapshot: self.snapshot.clone(),
                watches,
                pending: self.pending.clone(),
                reports: self.reports.clone(),
                events: self.events.clone(),
                listed: self.listed.clone(),
                grace: self.config.not_ready_grace,
                pause: self.pause.clone(),
                clock: self.clock.clone(),
            }),
            lease: self.lease.clone(),
            ready,
            listed: self.listed.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Sends what is pending; `pumped` is cancelled at the end.
    fn pump(
        &self,
        quit: CancellationToken,
        pumped: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let pump = pump(
            self.pending.clone(),
            self.writer.clone(),
            self.owned_shards.clone(),
            self.clock.clone(),
            quit,
        );
        let pumped = pumped.drop_guard();
        async move {
            let _at_the_end = pumped;
            pump.await;
        }
    }
}

/// Holds the membership until it is given up or lost.
async fn hold(membership: Membership, end: End) {
    match membership.run(end.leave).await {
        Ending::Left => end.left.cancel(),
        Ending::Fatal(why) => return drop(end.fatal.set(why)),
    }
    // What has left still awaits its last writes.
    std::future::pending().await
}

async fn watch_queue(pending: Arc<Pending>, quit: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !quit.is_cancelled() {
        ticks.tick().await;
        pending.measure();
    }
}
