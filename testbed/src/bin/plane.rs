//! Starts a control plane for manual work, prints its kubeconfig, and runs it until Ctrl-C. Arguments: how many
//! nodes it is to have (0), and every how many seconds each node's status is patched (never). With heartbeats,
//! statuses have 15 KB.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::real::{Component, NodeSpec, Plane, PlaneConfig, create_nodes, wait_nodes_ready};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let numbers = std::env::args()
        .skip(1)
        .map(|number| number.parse())
        .collect::<Result<Vec<usize>, _>>();
    let numbers = numbers.context("usage: plane [NODES [HEARTBEAT SECONDS]]")?;
    let nodes = numbers.first().copied().unwrap_or_default();
    let heartbeat = numbers.get(1).map(|seconds| Duration::from_secs(*seconds as u64));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased; // a signal ends it, also while it starts
        result = tokio::signal::ctrl_c() => Ok(result?),
        _ = terminate.recv() => Ok(()),
        result = run(nodes, heartbeat) => result,
    }
}

/// Runs a plane until the future is dropped, and the plane with it.
async fn run(nodes: usize, heartbeat: Option<Duration>) -> Result<()> {
    let started = Instant::now();
    let config = PlaneConfig {
        heartbeat,
        status_padding: 15_000,
        ..PlaneConfig::default()
    };
    let plane = Plane::start(config).await?;
    eprintln!(
        "testbed: up after {:.1?}; logs in {}",
        started.elapsed(),
        plane.dir().display()
    );
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    println!("export PATH={}:$PATH", plane.programs().display());

    let started = Instant::now();
    create_nodes(&plane.client(), (0..nodes).map(node)).await?;
    let created = started.elapsed();
    wait_nodes_ready(&plane.client(), "", nodes, Duration::from_secs(600)).await?;
    if nodes > 0 {
        eprintln!(
            "testbed: {nodes} nodes created in {created:.1?}, Ready after {:.1?}",
            started.elapsed()
        );
        for component in Component::ALL {
            let usage = plane.usage(component)?;
            eprintln!(
                "testbed: {component}: {} MiB, {:.1?} CPU",
                usage.rss_bytes >> 20,
                usage.cpu
            );
        }
    }
    eprintln!("testbed: Ctrl-C ends it");
    std::future::pending().await
}

/// Nodes in two pools and three zones.
fn node(i: usize) -> NodeSpec {
    let node = NodeSpec::new(format!("node-{i:05}"));
    node.pool(["a", "b"][i % 2])
        .zone(["zone-1", "zone-2", "zone-3"][i % 3])
}
