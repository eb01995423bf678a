//! korder beside Kubernetes' own DaemonSet controller: the same nodes, the same scheduler, one after
//! the other on fresh planes. Prints ratios and counts; bare times of one machine mean little.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use serde_json::json;
use testbed::real::{
    Component, KorderConfig, KorderProcess, NodeSpec, Plane, PlaneConfig, Usage, WriteCounts, create_nodes,
    wait, wait_nodes_ready,
};

const DEADLINE: Duration = Duration::from_secs(600);
/// Between the load and the idle window: Events are written, kubelets report, lists are done.
const SETTLE: Duration = Duration::from_secs(20);

struct Settings {
    korder: PathBuf,
    deploy: PathBuf,
    nodes: usize,
    idle: Duration,
    scheduler_qps: (u32, u32),
}

/// What one of the two did.
struct Side {
    took: Duration,
    idle_cpu: Duration,
    usage: Usage,
}

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::read()?;
    println!(
        "{} nodes; heartbeats of 15 KB every 10 s; scheduler qps {}; idle window {} s",
        settings.nodes,
        settings.scheduler_qps.0,
        settings.idle.as_secs()
    );
    let korder = reserve(&settings).await.context("korder")?;
    let daemon_set = daemon_set(&settings).await.context("DaemonSet")?;
    report(&korder, &daemon_set);
    Ok(())
}

impl Settings {
    fn read() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let number = |name: &str, default: u64| -> Result<u64> {
            match std::env::var(name) {
                Ok(text) => text
                    .parse()
                    .with_context(|| format!("{name}={text} is not a whole number")),
                Err(_) => Ok(default),
            }
        };
        let qps = u32::try_from(number("SCHEDULER_QPS", 50)?)?;
        Ok(Self {
            korder: std::env::var("KORDER")
                .map_or_else(|_| root.join("target/release/korder"), PathBuf::from),
            deploy: root.join("deploy"),
            nodes: usize::try_from(number("NODES", 2000)?)?,
            idle: Duration::from_secs(number("IDLE_SECONDS", 300)?),
            scheduler_qps: (qps, qps * 2),
        })
    }

    fn plane(&self, name: &str) -> PlaneConfig {
        PlaneConfig {
            name: name.to_owned(),
            scheduler_qps: self.scheduler_qps,
            heartbeat: Some(Duration::from_secs(10)),
            status_padding: 15_000,
            ..PlaneConfig::default()
        }
    }

    async fn nodes_ready(&self, client: &Client) -> Result<()> {
        let zones = ["a", "b", "c"];
        let node = |i: usize| {
            NodeSpec::new(format!("node-{i:04}"))
                .pool("all")
                .zone(zones[i % 3])
        };
        create_nodes(client, (0..self.nodes).map(node)).await?;
        wait_nodes_ready(client, "pool=all", self.nodes, DEADLINE).await
    }
}

async fn reserve(settings: &Settings) -> Result<Side> {
    let plane = Plane::start(settings.plane("korder")).await?;
    let client = plane.client();
    for part in ["rbac/namespace.yaml", "crds", "rbac"] {
        plane
            .kubectl(&[
                "apply",
                "--server-side",
                "-f",
                &settings.deploy.join(part).to_string_lossy(),
            ])
            .await?;
    }
    settings.nodes_ready(&client).await?;
    let kubeconfig = plane
        .service_account_kubeconfig("korder-system", "korder")
        .await?;
    let config = KorderConfig {
        binary: settings.korder.clone(),
        kubeconfig,
        name: "korder".to_owned(),
        log_dir: plane.dir().to_owned(),
        args: Vec::new(),
        env: Vec::new(),
    };
    let korder = KorderProcess::start(config)?;
    korder.wait_ready(DEADLINE).await?;
    let (audit, user) = (plane.audit(), "system:serviceaccount:korder-system:korder");
    let before = audit.settled_mark().await?;

    let resource = |kind: &str, plural: &str| ApiResource {
        group: "core.korder.dev".into(),
        version: "v1alpha1".into(),
        api_version: "core.korder.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    };
    let orders: Api<DynamicObject> =
        Api::default_namespaced_with(client.clone(), &resource("Order", "orders"));
    let order = json!({
        "apiVersion": "core.korder.dev/v1alpha1", "kind": "Order", "metadata": { "name": "everywhere" },
        "spec": { "daemonSet": true, "template": { "spec": {
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
            "tolerations": [{ "operator": "Exists" }],
        } } },
    });
    let started = Instant::now();
    orders
        .create(&PostParams::default(), &serde_json::from_value(order)?)
        .await?;
    let all = settings.nodes as u64;
    wait::until(DEADLINE, "all nodes to be Reserved", async || {
        let order = orders
            .get("everywhere")
            .await
            .map_err(|error| error.to_string())?;
        let reserved = order.data["status"]["availableReplicas"].as_u64().unwrap_or(0);
        if reserved == all {
            Ok(())
        } else {
            Err(format!("{reserved} of {all}"))
        }
    })
    .await?;
    let took = started.elapsed();

    let tickets: Api<DynamicObject> = Api::all_with(client.clone(), &resource("Ticket", "tickets"));
    let tickets = tickets.list(&ListParams::default()).await?.items;
    let names: std::collections::BTreeSet<_> = tickets
        .iter()
        .filter_map(|ticket| ticket.data["spec"]["nodeName"].as_str())
        .collect();
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods
        .list(&ListParams::default().labels("korder.dev/guardian=true"))
        .await?
        .items;
    let bound: std::collections::BTreeSet<_> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref())
        .collect();
    println!(
        "korder: {} Tickets on {} nodes; {} Guardians bound to {} nodes",
        tickets.len(),
        names.len(),
        pods.len(),
        bound.len()
    );
    tokio::time::sleep(SETTLE).await;
    let settled = audit.settled_mark().await?;
    let writes: WriteCounts = audit.writes_since(before, user)?.iter().collect();
    println!(
        "writes by korder: {} = {:.3} per Ticket",
        writes.total(),
        writes.total() as f64 / all as f64
    );
    println!("{writes}");

    let events = korder
        .metric("korder_watch_events_total")
        .await?
        .unwrap_or_default();
    let cpu = korder.usage()?.cpu;
    tokio::time::sleep(settings.idle).await;
    let usage = korder.usage()?;
    let events = korder
        .metric("korder_watch_events_total")
        .await?
        .unwrap_or_default()
        - events;
    audit.settled_mark().await?;
    let idle_writes = audit.writes_since(settled, user)?.len();
    println!("idle: {events:.0} watch events reached korder, {idle_writes} writes");
    let side = Side {
        took,
        idle_cpu: usage.cpu - cpu,
        usage,
    };
    korder.terminate(Duration::from_secs(20)).await?;
    Ok(side)
}

async fn daemon_set(settings: &Settings) -> Result<Side> {
    let config = PlaneConfig {
        extra_controllers: vec!["daemonset-controller".to_owned()],
        ..settings.plane("daemonset")
    };
    let plane = Plane::start(config).await?;
    let client = plane.client();
    settings.nodes_ready(&client).await?;
    let daemon_sets: Api<k8s_openapi::api::apps::v1::DaemonSet> = Api::default_namespaced(client.clone());
    let daemon_set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "pause" },
        "spec": {
            "selector": { "matchLabels": { "app": "pause" } },
            "template": {
                "metadata": { "labels": { "app": "pause" } },
                "spec": {
                    "containers": [{ "name": "pause", "image": "registry.k8s.io/pause:3.10.1",
                        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }],
                    "tolerations": [{ "operator": "Exists" }],
                    "terminationGracePeriodSeconds": 0,
                },
            },
        },
    });
    let started = Instant::now();
    daemon_sets
        .create(&PostParams::default(), &serde_json::from_value(daemon_set)?)
        .await?;
    let all = i32::try_from(settings.nodes)?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    wait::until(DEADLINE, "the DaemonSet's Pods to be bound", async || {
        let status = daemon_sets
            .get("pause")
            .await
            .map_err(|error| error.to_string())?
            .status;
        let made = status.map_or(0, |status| status.current_number_scheduled);
        if made != all {
            return Err(format!("{made} of {all} made"));
        }
        let unbound = ListParams::default()
            .labels("app=pause")
            .fields("spec.nodeName=")
            .limit(1);
        let unbound = pods.list(&unbound).await.map_err(|error| error.to_string())?;
        if unbound.items.is_empty() {
            Ok(())
        } else {
            Err("made, not all bound".to_owned())
        }
    })
    .await?;
    let took = started.elapsed();
    tokio::time::sleep(SETTLE).await;
    let cpu = plane.usage(Component::ControllerManager)?.cpu;
    tokio::time::sleep(settings.idle).await;
    let usage = plane.usage(Component::ControllerManager)?;
    Ok(Side {
        took,
        idle_cpu: usage.cpu - cpu,
        usage,
    })
}

fn report(korder: &Side, daemon_set: &Side) {
    let mebibytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    println!("{:<44} {:>10} {:>10} {:>8}", "", "korder", "DaemonSet", "ratio");
    let row = |what: &str, a: f64, b: f64| println!("{what:<44} {a:>10.1} {b:>10.1} {:>8.2}", a / b);
    row(
        "s until every node has its Pod (Reserved/bound)",
        korder.took.as_secs_f64(),
        daemon_set.took.as_secs_f64(),
    );
    row(
        "MiB resident, idle",
        mebibytes(korder.usage.rss_bytes),
        mebibytes(daemon_set.usage.rss_bytes),
    );
    row(
        "MiB resident, at most",
        mebibytes(korder.usage.peak_rss_bytes),
        mebibytes(daemon_set.usage.peak_rss_bytes),
    );
    row(
        "s of CPU in the idle window",
        korder.idle_cpu.as_secs_f64(),
        daemon_set.idle_cpu.as_secs_f64(),
    );
}
