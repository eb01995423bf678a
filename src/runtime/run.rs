//! `korder run`: puts everything together, runs it, and ends it cleanly.

use std::{
    io::IsTerminal,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ::http::{HeaderValue, header::USER_AGENT};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    core::{PartialObjectMeta, Resource},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    config::{Config, LogFormat},
    error::one_line,
    http, kubeconfig,
    replica::{Ended, Replica},
};
use crate::env::{clock::Clock, metrics, tasks::Tasks};
use crate::write::clients::Clients;
use crate::{
    api,
    lease::{member::Fatal, record::LeaseName},
};

/// How long an API server that does not answer, or lacks the CRDs, is tried at start.
const START_WITHIN: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Exit codes of `korder run` besides 0.
const CONFIGURATION: u8 = 1;
const UNSAFE: u8 = 2;

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(config: Config) -> ExitCode {
    let ran = match log(config.log_format) {
        Ok(()) => start(config).await,
        Err(stop) => Err(stop),
    };
    match ran {
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

/// What is logged unless KORDER_LOG says otherwise. What the client says of a failed request, korder says too.
const LOGGED: &str = "info,kube_client=off";

fn log(format: LogFormat) -> Result<(), Stop> {
    use tracing_subscriber::{EnvFilter, fmt};
    let asked = std::env::var("KORDER_LOG").ok().filter(|asked| !asked.is_empty());
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(LOGGED)).map_err(|error| {
        stop(format!(
            "KORDER_LOG={}: {}: use one such as info or info,korder=debug",
            asked.unwrap_or_default(),
            one_line(&error)
        ))
    })?;
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
    Ok(())
}

async fn start(config: Config) -> Result<(), Stop> {
    config.check().map_err(stop)?;
    let mut kubeconfig = kubeconfig::infer().await.map_err(stop)?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        stop(format!(
            "cannot listen on {}: {error}: choose another address with --listen",
            config.listen
        ))
    })?;
    // So that the API server's audit log says which replica asked.
    let agent = format!("korder/{} ({})", env!("CARGO_PKG_VERSION"), config.replica());
    if let Ok(agent) = HeaderValue::try_from(agent) {
        kubeconfig.headers.push((USER_AGENT, agent));
    }
    let recorder = metrics::install().map_err(|error| stop(format!("cannot record metrics: {error}")))?;
    let clock = Clock::system();
    let clients = Clients::new(kubeconfig, &clock).map_err(|error| {
        stop(format!(
            "cannot make a client: {}: check the kubeconfig",
            one_line(&error)
        ))
    })?;
    let (mut tasks, ready) = (Tasks::default(), Arc::new(AtomicBool::new(false)));
    let quit = tasks.quit().clone();
    let upkeep = recorder.clone();
    tasks.spawn(
        "metrics",
        http::serve_forever(listener, recorder, ready.clone(), quit.clone()),
    );
    tasks.spawn("metrics upkeep", upkeep_metrics(upkeep, quit.clone()));
    let (signal, namespace) = (terminated(), config.namespace());
    let own_lease = LeaseName::Replica(config.replica().into()).object_name(config.shards);
    tokio::pin!(signal);
    tokio::select! {
        biased; // a signal ends the waiting
        () = &mut signal => return Ok(()),
        reached = reach(&clients.read, &namespace, &own_lease) => reached?,
    }
    tracing::info!(
        replica = config.replica(),
        shards = config.shards.get(),
        listen = %config.listen,
        "starting"
    );
    let mut replica = Replica::start(&config, &incarnation(), clients, &clock, ready, tasks);
    tokio::select! {
        biased; // a task that has ended is worse than a signal
        ended = replica.ended() => {
            quit.cancel();
            return Err(why(ended));
        }
        () = signal => {}
    }
    tracing::info!("stopping: waiting for writes in flight");
    if let Err(ended) = replica.drain().await {
        quit.cancel();
        return Err(why(ended));
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells this process from every other one of its replica id.
fn incarnation() -> String {
    let chance = ahash::RandomState::new();
    format!("{:016x}", chance.hash_one(std::process::id()))
}

fn why(ended: Ended) -> Stop {
    match ended {
        Ended::Task(name) => Stop {
            code: UNSAFE,
            message: format!("the task `{name}` has ended; stopping rather than going on without it"),
        },
        Ended::Lease(fatal @ Fatal::ForeignIncarnation(_)) => Stop {
            code: UNSAFE,
            message: format!("{fatal}: give every replica an id of its own with --replica-id"),
        },
        Ended::Lease(fatal @ Fatal::ShardCount { recorded, .. }) => stop(format!(
            "{fatal}: start with --shards {recorded}, or stop all replicas and delete the Leases labelled \
             korder.dev/lease=shard"
        )),
    }
}

/// Waits for the API server, the CRDs and the namespace of the Leases.
async fn reach(client: &Client, namespace: &str, own_lease: &str) -> Result<(), Stop> {
    let mut last = "the API server does not answer".to_owned();
    let tries = async {
        while let Err(problem) = installed(client, namespace, own_lease).await {
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

async fn installed(client: &Client, namespace: &str, own_lease: &str) -> Result<(), String> {
    client
        .apiserver_version()
        .await
        .map_err(|error| format!("the API server does not answer: {}", one_line(&error)))?;
    present(Api::<PartialObjectMeta<api::Order>>::all(client.clone())).await?;
    present(Api::<PartialObjectMeta<api::Ticket>>::all(client.clone())).await?;
    present(Api::<PartialObjectMeta<api::Shard>>::namespaced(
        client.clone(),
        namespace,
    ))
    .await?;
    leases(client, namespace, own_lease).await
}

/// Whether Leases can be made in the namespace: tried without making one.
async fn leases(client: &Client, namespace: &str, own_lease: &str) -> Result<(), String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut probe = Lease::default();
    probe.metadata.name = Some(own_lease.to_owned());
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match leases.create(&params, &probe).await {
        Ok(_) => Ok(()),
        // A former process of this replica made it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(format!(
            "the API server refuses the Lease {own_lease}: {}: choose another --replica-id",
            status.message
        )),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(format!(
            "the namespace {namespace} does not exist: create it, or choose another with --namespace"
        )),
        Err(error) => Err(format!(
            "cannot make Leases in the namespace {namespace}: {}: check deploy/rbac",
            one_line(&error)
        )),
    }
}

async fn present<K>(objects: Api<PartialObjectMeta<K>>) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug,
{
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
