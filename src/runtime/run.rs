//! `korder run`: puts everything together, runs it, and ends it cleanly.

use std::{
    collections::BTreeMap,
    future::Future,
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use kube::{
    Api, Client,
    api::ListParams,
    core::{DeserializeGuard, PartialObjectMeta, Resource},
    runtime::watcher,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    clients::Clients,
    clock::Clock,
    config::{Config, LogFormat},
    error::one_line,
    http, metrics,
};
use crate::{
    api,
    controller::{
        events::{self, News},
        mailbox::Mailbox,
        orders::{OrderInbox, Orders, SeenOrder},
        pump,
        rollup::{self, Reports},
        router::Router,
        synced::{Part, Synced},
        worker::Worker,
    },
    domain::{
        ids::{NodeUid, OrderUid, PodUid, TicketUid},
        order::Order,
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

/// How long an API server that does not answer, or lacks the CRDs, is tried at start.
const START_WITHIN: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Nodes are large; a page of them should not be.
const NODE_PAGE: u32 = 100;

/// Exit codes of `korder run` besides 0.
const CONFIGURATION: u8 = 1;
const UNSAFE: u8 = 2;

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> ExitCode {
    log(config.log_format);
    match start(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop { code, message }) => {
            eprintln!("korder: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why the process ends early.
struct Stop {
    code: u8,
    message: String,
}

fn stop(message: impl Into<String>) -> Stop {
    Stop {
        code: CONFIGURATION,
        message: message.into(),
    }
}

fn log(format: LogFormat) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_env("KORDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}

async fn start(config: Config) -> Result<(), Stop> {
    let kubeconfig = kube::Config::infer().await.map_err(|error| {
        stop(format!(
            "no cluster: {}: set KUBECONFIG to a kubeconfig file, or run in a Pod",
            one_line(&error)
        ))
    })?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        stop(format!(
            "cannot listen on {}: {error}: choose another address with --listen",
            config.listen
        ))
    })?;
    let recorder = metrics::install().map_err(|error| stop(format!("cannot record metrics: {error}")))?;
    let clock = Clock::system();
    let clients = Clients::new(kubeconfig, &clock).map_err(|error| {
        stop(format!(
            "cannot make a client: {}: check the kubeconfig",
            one_line(&error)
        ))
    })?;
    let (quit, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let mut tasks = Tasks::new(quit.clone());
    let upkeep = recorder.clone();
    tasks.spawn(
        "metrics",
        http::serve_forever(listener, recorder, ready.clone(), quit.clone()),
    );
    tasks.spawn("metrics upkeep", upkeep_metrics(upkeep, quit.clone()));
    let signal = terminated();
    tokio::pin!(signal);
    tokio::select! {
        biased; // a signal ends the waiting
        () = &mut signal => return Ok(()),
        reached = reach(&clients.read) => reached?,
    }
    tracing::info!(
        replica = config.replica(),
        shards = config.shards.get(),
        listen = %config.listen,
        "starting"
    );
    let pumping = assemble(&config, clients, &clock, &ready, &mut tasks);
    tokio::select! {
        biased; // a task that has ended is worse than a signal
        name = tasks.ended() => {
            quit.cancel();
            let message = format!("the task `{name}` has ended; stopping rather than going on without it");
            return Err(Stop { code: UNSAFE, message });
        }
        () = signal => {}
    }
    tracing::info!("stopping: waiting for writes in flight");
    ready.store(false, Ordering::Release);
    quit.cancel();
    pumping.cancelled().await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the API server and the CRDs.
async fn reach(client: &Client) -> Result<(), Stop> {
    let mut last = "the API server does not answer".to_owned();
    let tries = async {
        while let Err(problem) = installed(client).await {
            if problem != last {
                tracing::warn!(problem, "not ready to start; trying again");
                last = problem;
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    };
    let reached = tokio::time::timeout(START_WITHIN, tries).await;
    reached.map_err(|_| stop(format!("gave up after 30 s: {last}")))
}

async fn installed(client: &Client) -> Result<(), String> {
    client
        .apiserver_version()
        .await
        .map_err(|error| format!("the API server does not answer: {}", one_line(&error)))?;
    present::<api::Order>(client).await?;
    present::<api::Ticket>(client).await
}

async fn present<K>(client: &Client) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug,
{
    let objects: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let kind = K::plural(&());
    match objects.list(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(format!(
            "the CRD {kind}.{} is not installed: install it with `korder crds | kubectl apply --server-side -f -`",
            K::group(&())
        )),
        Err(error) => Err(format!(
            "cannot list {kind}: {}: check deploy/rbac",
            one_line(&error)
        )),
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
    let mailboxes: Arc<BTreeMap<ShardId, Arc<Mailbox>>> =
        Arc::new(shards.iter().map(|&shard| (shard, Arc::default())).collect());
    let snapshot: Arc<ArcSwap<Snapshot>> = Arc::default();
    let (pending, news) = (clients.pending, Arc::new(News::default()));
    let reports = Arc::new(Reports::new(shards.len()));
    let synced = Synced::default();
    let guardians = Guardians {
        image: config.guardian_image.clone(),
        priority_class: config.guardian_priority_class.clone(),
    };
    let writer = Writer::new(clients.write, pending.clone(), config.shards, guardians);
    let router = Arc::new(Router::new(config.shards, mailboxes.clone(), clock.clone()));
    let quit = tasks.quit.clone();

    for (&id, mailbox) in mailboxes.iter() {
        let worker = Worker {
            shard: Shard::new(id, config.not_ready_grace),
            mailbox: mailbox.clone(),
            router: router.clone(),
            snapshot: snapshot.clone(),
            pending: pending.clone(),
            reports: reports.clone(),
            news: news.clone(),
            synced: synced.receiver(),
            clock: clock.clone(),
        };
        tasks.spawn("worker", worker.run(quit.clone()));
    }
    let inbox = Arc::new(OrderInbox::default());
    let orders = Orders {
        inbox: inbox.clone(),
        snapshot: snapshot.clone(),
        mailboxes: mailboxes.clone(),
        reports: reports.clone(),
        writer: writer.clone(),
        synced: synced.clone(),
    };
    tasks.spawn("orders", orders.run(quit.clone()));
    let rollup = rollup::run(
        reports,
        writer.clone(),
        mailboxes.clone(),
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
    tasks.spawn("guardians watch", watches.guardians(router, &shards));

    let drained = CancellationToken::new();
    let guard = drained.clone().drop_guard();
    let pump = pump::pump(pending, writer, mailboxes, clock.clone(), quit);
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
            Brake::Off,
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

async fn upkeep_metrics(handle: metrics_exporter_prometheus::PrometheusHandle, quit: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    while !quit.is_cancelled() {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        biased; // either will do
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The tasks of the process; none may end before `quit`.
struct Tasks {
    set: JoinSet<&'static str>,
    quit: CancellationToken,
}

impl Tasks {
    fn new(quit: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            quit,
        }
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Returns when a task has ended, with its name.
    async fn ended(&mut self) -> &'static str {
        match self.set.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) => "one that panicked",
            None => "all",
        }
    }
}
