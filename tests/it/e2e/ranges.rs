//! An API server that sends Nodes by ranges of their uids: every replica receives its own alone, and whatever happens
//! to replicas and nodes, every pair is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Node;
use korder::{
    api::{Order, Ticket, ticket::Phase},
    domain::values::{
        ids::NodeUid,
        shard::{ShardCount, ShardId},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    client::Body,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testbed::real::{
    KorderProcess, NodeSpec, Plane, PlaneConfig, create_nodes, delete_node, wait, wait_nodes_ready,
};
use tokio::task::JoinSet;

use super::world::{SOON, kustomized, same, start_korder};
use crate::harness::{Harness, apart};

const REPLICAS: usize = 3;
const NODES: usize = 150;
/// Enough of what all Nodes send to compare with.
const ENOUGH: usize = 8_000_000;
const RECEIVED: &str = "korder_received_bytes_total{resource=\"nodes\"}";

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![apart(
        harness,
        "ranges",
        "each_replica_receives_its_own_nodes_alone",
        shares,
    )]
}

async fn shares() -> Result<()> {
    let plane = Plane::start(PlaneConfig {
        name: "e2e-ranges".to_owned(),
        feature_gates: BTreeMap::from([("ShardedListAndWatch".to_owned(), true)]),
        heartbeat: Some(Duration::from_secs(2)),
        status_padding: 15_000,
        scheduler_qps: (500, 1000),
        audit: false,
        ..PlaneConfig::default()
    })
    .await?;
    plane.apply_strictly(&kustomized(&plane).await?).await?;
    let client = plane.client();
    create_nodes(
        &client,
        (0..NODES).map(|n| NodeSpec::new(format!("n{n}")).pool("a")),
    )
    .await?;
    wait_nodes_ready(&client, "pool=a", NODES, SOON * 2).await?;
    let mut replicas = Vec::new();
    for n in 0..REPLICAS {
        replicas.push(start_korder(&plane, &format!("korder-{n}"), &[]).await?);
    }
    for korder in &replicas {
        korder.wait_ready(SOON).await?;
    }
    let order: Order = serde_json::from_value(json!({
        "apiVersion": "core.korder.dev/v1alpha1", "kind": "Order", "metadata": { "name": "room" },
        "spec": { "daemonSet": true, "template": { "spec": { "nodeSelector": { "pool": "a" } } } },
    }))?;
    let orders: Api<Order> = Api::namespaced(client.clone(), "default");
    orders.create(&PostParams::default(), &order).await?;
    each_once(&client).await?;
    split(&replicas).await?;
    fall_to_a_share(&client, &replicas).await?;
    ranges_agree(&client).await?;

    // Whoever takes the shards of one that is killed lists their Nodes, and sees what became of them.
    let killed = replicas.pop().context("there are three")?;
    killed.kill9();
    delete_node(&client, "n0").await?;
    create_nodes(&client, [NodeSpec::new("late").pool("a")]).await?;
    split(&replicas).await?;
    each_once(&client).await?;
    let again = start_korder(&plane, "korder-again", &[]).await?;
    again.wait_ready(SOON).await?;
    replicas.push(again);
    split(&replicas).await?;
    delete_node(&client, "late").await?;
    create_nodes(&client, [NodeSpec::new("n0").pool("a")]).await?;
    each_once(&client).await
}

/// Waits until the replicas know all Nodes together, and each of them some.
async fn split(replicas: &[KorderProcess]) -> Result<()> {
    wait::until(SOON * 2, "the Nodes to be split", async || {
        let mut known = Vec::new();
        for korder in replicas {
            known.push(korder.metric("korder_nodes").await?.unwrap_or_default() as usize);
        }
        ensure!(
            known.iter().sum::<usize>() == NODES && known.iter().all(|&known| known > 0),
            "{known:?} of {NODES}"
        );
        Ok(())
    })
    .await
}

/// The API server finds every Node in the ranges of the shard that korder counts it to, for few shards and for many.
async fn ranges_agree(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let all = nodes.list_metadata(&ListParams::default()).await?;
    let all: Vec<_> = all
        .iter()
        .filter_map(ResourceExt::uid)
        .map(NodeUid::from)
        .collect();
    for count in [1, 4, 64, 1024] {
        let count = ShardCount::try_from(count)?;
        let mut shards: BTreeMap<ShardId, BTreeSet<&NodeUid>> = BTreeMap::new();
        for uid in &all {
            shards.entry(count.of_node(uid)).or_default().insert(uid);
        }
        // Every third shard in one question, which is then of several ranges, and the others one by one.
        let known: Vec<_> = shards.keys().copied().collect();
        let (thirds, others): (Vec<_>, Vec<_>) = known.iter().copied().partition(|shard| shard.0 % 3 == 0);
        for asked in others.iter().map(std::slice::from_ref).chain([&*thirds]) {
            let wanted: BTreeSet<_> = asked
                .iter()
                .flat_map(|shard| &shards[shard])
                .map(|uid| uid.as_str())
                .collect();
            let selector: String =
                form_urlencoded::byte_serialize(count.selector(asked).as_bytes()).collect();
            let request = http::Request::get(format!("/api/v1/nodes?shardSelector={selector}"));
            let list: Value = client.request(request.body(Vec::new())?).await?;
            ensure!(list["metadata"]["shardInfo"].is_object(), "{}", list["metadata"]);
            let items = list["items"].as_array().context("no items")?;
            let found: BTreeSet<_> = items
                .iter()
                .filter_map(|node| node["metadata"]["uid"].as_str())
                .collect();
            ensure!(
                found == wanted,
                "{count:?} {asked:?}: {found:?} instead of {wanted:?}"
            );
        }
    }
    Ok(())
}

/// What each replica receives while a watch of all Nodes receives so much.
async fn fall_to_a_share(client: &Client, replicas: &[KorderProcess]) -> Result<()> {
    let all = Arc::new(AtomicUsize::new(0));
    // It goes on while the replicas are asked, so that both count the same time.
    let mut watch = JoinSet::new();
    watch.spawn(watch_all(client.clone(), all.clone()));
    let at_least = async |bytes: usize| {
        let enough = wait::until(SOON * 2, "Nodes to be received", async || {
            let received = all.load(Relaxed);
            ensure!(received >= bytes, "{received} of {bytes} bytes");
            Ok(())
        });
        enough.await?;
        Ok::<_, anyhow::Error>((all.load(Relaxed), received(replicas).await?))
    };
    let mut sums = Vec::new();
    let (mut first, mut before) = at_least(ENOUGH / 10).await?;
    // Who has just taken shards still lists their Nodes.
    while sums.len() < 5 {
        let (last, after) = at_least(first + ENOUGH).await?;
        ensure!(watch.try_join_next().is_none(), "the watch has ended");
        let whole = last - first;
        let shares = before.iter().zip(&after);
        let shares: Vec<f64> = shares
            .map(|(before, after)| (after - before) / whole as f64)
            .collect();
        println!(
            "Node bytes received by each of {REPLICAS} replicas, of {whole} that a watch of all received: {shares:.3?}"
        );
        let sum: f64 = shares.iter().sum();
        if (0.9..1.1).contains(&sum) {
            ensure!(
                shares.iter().all(|share| (0.15..0.55).contains(share)),
                "{shares:?}"
            );
            return Ok(());
        }
        sums.push(sum);
        (first, before) = (last, after);
    }
    bail!("together the replicas never received what there was once, but {sums:.3?} of it")
}

async fn received(replicas: &[KorderProcess]) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for korder in replicas {
        all.push(korder.metric(RECEIVED).await?.context("not counted")?);
    }
    Ok(all)
}

/// Watches all Nodes from now on and counts the bytes.
async fn watch_all(client: Client, bytes: Arc<AtomicUsize>) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = nodes.list_metadata(&ListParams::default().limit(1)).await?;
    let version = now.metadata.resource_version.context("a list without version")?;
    let uri = format!("/api/v1/nodes?watch=true&resourceVersion={version}");
    let request = http::Request::get(uri).body(Body::empty())?;
    let mut body = client.send(request).await?.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        bytes.fetch_add(chunk?.len(), Relaxed);
    }
    bail!("the watch has ended")
}

/// Waits until there is one Ticket per Node, Reserved, and no other.
async fn each_once(client: &Client) -> Result<()> {
    let (nodes, tickets): (Api<Node>, Api<Ticket>) = (
        Api::all(client.clone()),
        Api::namespaced(client.clone(), "default"),
    );
    wait::until(SOON * 2, "one Ticket per Node", async || {
        let all = ListParams::default();
        let wanted: BTreeSet<_> = nodes
            .list_metadata(&all)
            .await?
            .iter()
            .filter_map(ResourceExt::uid)
            .collect();
        let tickets = tickets.list(&all).await?;
        let reserved = tickets.iter().filter(|ticket| {
            let status = ticket.status.as_ref();
            status.is_some_and(|status| status.phase == Phase::Reserved)
        });
        let found: BTreeSet<_> = reserved.map(|ticket| ticket.spec.node_uid.clone()).collect();
        same("nodes with a Reserved Ticket", &found.len(), &NODES)?;
        same("Tickets", &tickets.items.len(), &NODES)?;
        ensure!(found == wanted, "other nodes than there are");
        Ok(())
    })
    .await
}
