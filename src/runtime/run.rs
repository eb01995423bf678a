//! `korder run`: puts everything together, runs it, and ends it cleanly.

use std::{
    future::Future,
    io::IsTerminal,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ::http::{HeaderValue, header::USER_AGENT};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    config::{Config, LogFormat},
    error::one_line,
    http, kubeconfig,
    preflight::reach,
    replica::{Ended, Replica},
};
use crate::{
    env::{clock::Clock, metrics, tasks::Tasks},
    lease::member::Fatal,
    write::clients::Clients,
};

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
    let cluster = cluster(&config).await?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        stop(format!(
            "cannot listen on {}: {error}: choose another address with --listen",
            config.listen
        ))
    })?;
    let recorder = metrics::install().map_err(|error| stop(format!("cannot record metrics: {error}")))?;
    let clock = Clock::system();
    let clients = Clients::new(cluster, &clock).map_err(|error| {
        stop(format!(
            "cannot make a client: {}: check the kubeconfig",
            one_line(&error)
        ))
    })?;
    let (mut tasks, ready) = (Tasks::default(), Arc::new(AtomicBool::new(false)));
    serve(listener, recorder, ready.clone(), &mut tasks);
    let signal = terminated();
    tokio::pin!(signal);
    tokio::select! {
        biased; // a signal ends the waiting
        () = &mut signal => return Ok(()),
        reached = reach(&config, &clients.read) => reached.map_err(stop)?,
    }
    tracing::info!(
        replica = config.replica(),
        shards = config.shards.get(),
        listen = %config.listen,
        "starting"
    );
    let quit = tasks.quit().clone();
    let replica = Replica::start(&config, &incarnation(), clients, &clock, ready, tasks);
    let ran = until_drained(replica, signal).await;
    if ran.is_err() {
        quit.cancel();
    }
    ran.map_err(why)
}

/// The cluster, whose audit log is to say which replica asked.
async fn cluster(config: &Config) -> Result<kube::Config, Stop> {
    let mut cluster = kubeconfig::infer().await.map_err(stop)?;
    let agent = format!("korder/{} ({})", env!("CARGO_PKG_VERSION"), config.replica());
    if let Ok(agent) = HeaderValue::try_from(agent) {
        cluster.headers.push((USER_AGENT, agent));
    }
    Ok(cluster)
}

/// Serves metrics and probes.
fn serve(listener: TcpListener, recorder: PrometheusHandle, ready: Arc<AtomicBool>, tasks: &mut Tasks) {
    let (upkeep, quit) = (recorder.clone(), tasks.quit().clone());
    tasks.spawn(
        "metrics",
        http::serve_forever(listener, recorder, ready, quit.clone()),
    );
    tasks.spawn("metrics upkeep", upkeep_metrics(upkeep, quit));
}

/// Waits for the signal, then until the replica has given up all that it has.
async fn until_drained(mut replica: Replica, signal: impl Future<Output = ()>) -> Result<(), Ended> {
    tokio::select! {
        biased; // a task that has ended is worse than a signal
        ended = replica.ended() => return Err(ended),
        () = signal => {}
    }
    tracing::info!("stopping: waiting for writes in flight");
    replica.drain().await?;
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

async fn upkeep_metrics(handle: PrometheusHandle, quit: CancellationToken) {
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
