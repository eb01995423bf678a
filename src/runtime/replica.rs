//! One replica: everything that runs, put together over given clients and a given clock.
//!
//! Knows neither flags' origins, signals, sockets nor the process; dropping it is a crash.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use kube::{Api, Client, core::DeserializeGuard, runtime::watcher};
use tokio_util::sync::CancellationToken;

use super::{clients::Clients, clock::Clock, config::Config, tasks::Tasks};
use crate::{
    api,
    controller::{
        events::{self, News},
        orders::{OrderInbox, Orders, SeenOrder},
        pump,
        rollup::{self, Reports},
        router::Router,
        slots::Slots,
        synced::{Part, Synced},
        worker::Worker,
    },
    domain::{
        ids::{NodeUid, OrderUid, PodUid, TicketUid},
        order::Order,
        time::Mono,
    },
    index::Snapshot,
    shard::{Shard, ShardId},
    watch::{
        guardian::SlimPod,
        node::SlimNode,
        relist::{Brake, Change},
        stream::follow,
        ticket::SlimTicket,
    },
    write::{Guardians, Pending, Writer, purge::shard_selector},
};

/// Nodes are large; a page of them should not be.
const NODE_PAGE: u32 = 100;

/// A replica that runs.
pub struct Replica {
    tasks: Tasks,
    ready: Arc<AtomicBool>,
    pumping: CancellationToken,
}

impl Replica {
    /// Starts everything among `tasks`; sets `ready` once nodes are listed. Needs a tokio runtime.
    pub fn start(
        config: &Config,
        clients: Clients,
        clock: &Clock,
        ready: Arc<AtomicBool>,
        mut tasks: Tasks,
    ) -> Self {
        let pumping = assemble(config, clients, clock, &ready, &mut tasks);
        Self {
            tasks,
            ready,
            pumping,
        }
    }

    /// Returns when a task has ended that must not, with its name.
    pub async fn ended(&mut self) -> &'static str {
        self.tasks.ended().await
    }

    /// Starts nothing more, and awaits the writes in flight.
    pub async fn drain(self) {
        self.ready.store(false, Ordering::Release);
        self.tasks.quit().cancel();
        self.pumping.cancelled().await;
    }
}

/// Spawns everything; returns what is cancelled once nothing is in flight any more.
fn assemble(
    config: &Config,
    clients: Clients,
    clock: &Clock,
    ready: &Arc<AtomicBool>,
    tasks: &mut Tasks,
) -> CancellationToken {
    let shards: Vec<ShardId> = config.shards.all().collect();
    let slots = Arc::new(Slots::new(config.shards));
    let snapshot: Arc<ArcSwap<Snapshot>> = Arc::default();
    let (pending, news) = (clients.pending, Arc::new(News::default()));
    let reports = Arc::new(Reports::new(shards.len()));
    let synced = Synced::default();
    let guardians = Guardians {
        image: config.guardian_image.clone(),
        priority_class: config.guardian_priority_class.clone(),
    };
    let writer = Writer::new(clients.write, pending.clone(), config.shards, guardians);
    let router = Arc::new(Router::new(config.shards, slots.clone(), clock.clone()));
    let quit = tasks.quit().clone();

    for &id in &shards {
        let worker = Worker {
            shard: Shard::new(id, config.not_ready_grace),
            slot: slots.take(id, Mono(Duration::MAX)),
            router: router.clone(),
            snapshot: snapshot.clone(),
            pending: pending.clone(),
            reports: reports.clone(),
            news: news.clone(),
            synced: synced.clone(),
            clock: clock.clone(),
        };
        tasks.spawn("worker", worker.run(quit.clone()));
    }
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
        reports,
        writer.clone(),
        slots.clone(),
        clock.clone(),
        quit.clone(),
    );
    tasks.spawn("roll-up", rollup);
    let events = events::run(
        news,
        snapshot,
        writer.clone(),
        config.replica(),
        clock.clone(),
        quit.clone(),
    );
    tasks.spawn("events", events);
    tasks.spawn("queue metrics", watch_queue(pending.clone(), quit.clone()));

    let watches = Watches {
        client: clients.read,
        synced,
        ready: ready.clone(),
    };
    tasks.spawn("orders watch", watches.clone().orders(inbox));
    tasks.spawn("nodes watch", watches.clone().nodes(router.clone()));
    tasks.spawn(
        "tickets watch",
        watches.clone().tickets(router.clone(), config.shards, &shards),
    );
    tasks.spawn(
        "unlabelled tickets watch",
        watches.clone().unlabelled(router.clone(), config.shards),
    );
    tasks.spawn("guardians watch", watches.guardians(router, &shards));

    let drained = CancellationToken::new();
    let guard = drained.clone().drop_guard();
    let pump = pump::pump(pending, writer, slots, clock.clone(), quit);
    tasks.spawn("pump", async move {
        let _drained_at_the_end = guard;
        pump.await;
    });
    drained
}

/// The watches of a replica.
#[derive(Clone)]
struct Watches {
    client: Client,
    synced: Synced,
    ready: Arc<AtomicBool>,
}

impl Watches {
    fn orders(self, inbox: Arc<OrderInbox>) -> impl Future<Output = ()> + Send + 'static {
        let orders: Api<DeserializeGuard<api::Order>> = Api::all(self.client);
        let read = |object: DeserializeGuard<api::Order>| {
            let seen = see_order(object)?;
            let uid = seen.order.uid.clone();
            Some((uid, seen))
        };
        follow::<_, OrderUid, _, _>(
            "Order",
            orders,
            watcher::Config::default(),
            Brake::Full,
            read,
            move |change| inbox.put(change),
        )
    }

    fn nodes(self, router: Arc<Router>) -> impl Future<Output = ()> + Send + 'static {
        let nodes: Api<SlimNode> = Api::all(self.client);
        let config = watcher::Config::default().page_size(NODE_PAGE);
        let read = |node: SlimNode| {
            let uid = NodeUid::from(node.metadata.uid.as_deref()?);
            Some((uid, node))
        };
        let (synced, ready) = (self.synced, self.ready);
        follow::<_, NodeUid, _, _>("Node", nodes, config, Brake::On, read, move |change| {
            let listed = matches!(change, Change::Synced);
            router.node(change);
            if listed {
                tracing::info!(nodes = router.nodes(), "nodes listed");
                synced.part(Part::Nodes);
                ready.store(true, Ordering::Release);
            }
        })
    }

    fn tickets(
        self,
        router: Arc<Router>,
        count: crate::shard::ShardCount,
        shards: &[ShardId],
    ) -> impl Future<Output = ()> + Send + 'static {
        let tickets: Api<SlimTicket> = Api::all(self.client);
        let config = watcher::Config::default().labels(&shard_selector(shards));
        let read = move |ticket: SlimTicket| {
            let (shard, view) = ticket.view(count)?;
            Some(((shard, view.key.clone(), view.uid.clone()), (shard, view)))
        };
        let synced = self.synced;
        follow::<_, TicketUid, _, _>("Ticket", tickets, config, Brake::Off, read, move |change| {
            let listed = matches!(change, Change::Synced);
            router.ticket(change);
            if listed {
                synced.part(Part::Tickets);
            }
        })
    }

    /// Tickets whose labels somebody took: the watch by labels cannot see them.
    fn unlabelled(
        self,
        router: Arc<Router>,
        count: crate::shard::ShardCount,
    ) -> impl Future<Output = ()> + Send + 'static {
        let tickets: Api<SlimTicket> = Api::all(self.client);
        let config = watcher::Config::default().labels(&format!("!{}", api::LABEL_SHARD));
        let read = move |ticket: SlimTicket| {
            let (shard, view) = ticket.view(count)?;
            Some(((shard, view.key.clone(), view.uid.clone()), (shard, view)))
        };
        let synced = self.synced;
        follow::<_, TicketUid, _, _>(
            "unlabelled Ticket",
            tickets,
            config,
            Brake::Off,
            read,
            move |change| {
                let listed = matches!(change, Change::Synced);
                router.unlabelled(change);
                if listed {
                    synced.part(Part::Unlabelled);
                }
            },
        )
    }

    fn guardians(self, router: Arc<Router>, shards: &[ShardId]) -> impl Future<Output = ()> + Send + 'static {
        let pods: Api<SlimPod> = Api::all(self.client);
        let config = watcher::Config::default().labels(&shard_selector(shards));
        let read = |pod: SlimPod| {
            let (shard, view) = pod.view()?;
            let shard = shard?;
            let route = (shard, view.ticket.clone(), view.key.clone(), view.uid.clone());
            Some((route, (shard, view)))
        };
        let synced = self.synced;
        follow::<_, PodUid, _, _>("Pod", pods, config, Brake::Off, read, move |change| {
            let listed = matches!(change, Change::Synced);
            router.guardian(change);
            if listed {
                synced.part(Part::Guardians);
            }
        })
    }
}

/// An Order, or what can be known of one that cannot be decoded.
fn see_order(object: DeserializeGuard<api::Order>) -> Option<SeenOrder> {
    match object.0 {
        Ok(order) => Some(SeenOrder {
            status: Some(order.status.clone().unwrap_or_default()),
            order: Arc::new(Order::from_api(&order)),
        }),
        Err(invalid) => {
            let meta = &invalid.metadata;
            let key = crate::domain::ids::OrderKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
            let order = Order::undecodable(
                OrderUid::from(meta.uid.as_deref()?),
                key,
                meta.generation.unwrap_or_default(),
                meta.creation_timestamp
                    .as_ref()
                    .map(|time| time.0)
                    .unwrap_or_default(),
                meta.deletion_timestamp.is_some(),
                &invalid.error,
            );
            tracing::warn!(order = %order.key, error = invalid.error, "the Order cannot be decoded");
            Some(SeenOrder {
                order: Arc::new(order),
                status: None,
            })
        }
    }
}

async fn watch_queue(pending: Arc<Pending>, quit: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !quit.is_cancelled() {
        ticks.tick().await;
        pending.measure();
    }
}
