//! Several replicas at once: they share the shards by Leases, and whatever happens to some of them, every
//! pair is made exactly once and nothing is written that need not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{AuditEntry, WriteCounts};

use super::{
    churn::Churn,
    disruption::setting,
    fleet::{SHARDS, join, leave, published, shared_by},
    history::{History, of_pairs},
    world::{Ground, KORDER, SOON, now, same, start_korder},
};
use crate::harness::{Harness, alone};

/// How soon counts are true once nothing changes.
const TRUE_WITHIN: SignedDuration = SignedDuration::from_secs(5);
/// What a process may have in flight when it is stopped.
const IN_FLIGHT: usize = 24;

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        alone(harness, "replicas", "another_number_of_shards_is_refused", shards),
        alone(harness, "replicas", "of_two_with_one_id_the_older_exits_2", twins),
        alone(
            harness,
            "replicas",
            "coming_and_going_writes_nothing_to_pairs",
            rebalance,
        ),
        alone(
            harness,
            "replicas",
            "killed_stopped_and_replaced_under_churn_every_pair_is_there_once",
            disturbed,
        ),
    ]
}

async fn shards(ground: &Ground<'_>) -> Result<()> {
    shared_by(ground, &["korder"]).await?;
    let odd = start_korder(&ground.world.plane, "odd", &["--shards", "32"]).await?;
    let status = odd.wait_exit(SOON).await?;
    let log = odd.log_tail(20);
    ensure!(status.code() == Some(1), "{status}:\n{log}");
    let said = log
        .lines()
        .find(|line| !line.starts_with('{'))
        .context("it says nothing to people")?;
    for part in ["32", "64", "--shards"] {
        ensure!(said.contains(part), "no {part} in: {said}");
    }
    shared_by(ground, &["korder"]).await?;
    Ok(())
}

async fn twins(ground: &Ground<'_>) -> Result<()> {
    let nodes = ground.nodes(20).await?;
    ground.ask("before", json!({})).await?;
    ground.pairs("before", &nodes).await?;
    let mark = ground.audit().settled_mark().await?;
    let args = ["--replica-id", "twin"];
    let older = start_korder(&ground.world.plane, "twin-a", &args).await?;
    older.wait_ready(SOON).await?;
    shared_by(ground, &["korder", "twin"]).await?;
    let newer = start_korder(&ground.world.plane, "twin-b", &args).await?;
    newer.wait_ready(SOON).await?;
    let status = older.wait_exit(SOON).await?;
    let log = older.log_tail(20);
    ensure!(status.code() == Some(2), "{status}:\n{log}");
    ensure!(log.contains("--replica-id"), "no remedy in:\n{log}");
    shared_by(ground, &["korder", "twin"]).await?;
    same("writes to pairs", &ground.writes(mark).await?, &vec![])?;
    ground.ask("after", json!({})).await?;
    ground.pairs("after", &nodes).await?;
    let created = ground.writes(mark).await?;
    let created = created.iter().filter(|write| write.verb == "create").count();
    same("Tickets and Guardians made", &created, &(2 * nodes.len()))?;
    leave(newer).await?;
    shared_by(ground, &["korder"]).await?;
    Ok(())
}

/// From one replica to four and back, with pairs in place.
async fn rebalance(ground: &Ground<'_>) -> Result<()> {
    let nodes = ground.nodes(50).await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &nodes).await?;
    let order = ground.ready_reason("order", "AllReserved").await?;
    // What the next owners go by; it lags behind.
    published(ground, &order, nodes.len()).await?;
    let mark = ground.audit().settled_mark().await?;
    let (one, two) = (join(ground, "korder-1").await?, join(ground, "korder-2").await?);
    let three = ["korder", "korder-1", "korder-2"];
    let before = shared_by(ground, &three).await?;
    let four = join(ground, "korder-3").await?;
    let during = shared_by(ground, &["korder", "korder-1", "korder-2", "korder-3"]).await?;
    let moved = |from: &BTreeMap<String, String>, to: &BTreeMap<String, String>| {
        from.iter().filter(|(shard, owner)| to[*shard] != **owner).count()
    };
    same(
        "shards moved to the fourth",
        &moved(&before, &during),
        &(SHARDS / 4),
    )?;
    leave(four).await?;
    let after = shared_by(ground, &three).await?;
    same("shards moved back", &moved(&during, &after), &(SHARDS / 4))?;
    leave(one).await?;
    leave(two).await?;
    shared_by(ground, &["korder"]).await?;
    let audit = ground.audit();
    audit.settled_mark().await?;
    let mut writes = audit.writes_since(mark, KORDER)?;
    // An Event may tell of what was before, up to ten seconds later.
    writes.retain(|write| ["tickets", "pods", "orders"].contains(&write.resource.as_str()));
    ensure!(
        writes.is_empty(),
        "written while replicas came and went:\n{}",
        WriteCounts::from_iter(&writes)
    );
    eprintln!(
        "{} of {SHARDS} shards to the fourth and back, no write to Tickets, Pods or Orders",
        SHARDS / 4
    );
    Ok(())
}

/// Two Orders on E2E_NODES nodes (150), E2E_CHURN changes of nodes a second (30) for E2E_SECONDS (40), and meanwhile
/// one replica is killed, one stopped for E2E_STOPPED seconds (20, longer than a Lease), one ended and one added.
async fn disturbed(ground: &Ground<'_>) -> Result<()> {
    let count = setting("E2E_NODES", 150);
    let span = Duration::from_secs(setting("E2E_SECONDS", 40));
    let stopped = Duration::from_secs(setting("E2E_STOPPED", 20));
    let names = ground.world.crowd(count).await?;
    let mark = ground.audit().settled_mark().await?;
    let (mut one, two) = (join(ground, "korder-1").await?, join(ground, "korder-2").await?);
    let three = ["korder", "korder-1", "korder-2"];
    shared_by(ground, &three).await?;
    for order in ["one", "other"] {
        ground.ask_crowd(order, count, json!({})).await?;
    }
    ground.all_reserved(2 * count).await?;

    let churn = Churn::start(ground.client(), count, setting("E2E_CHURN", 30.0));
    let pause = |part: f64| tokio::time::sleep(span.mul_f64(part));
    pause(0.1).await;
    one.kill9();
    pause(0.1).await;
    one.restart()?;
    one.wait_ready(SOON).await?;
    pause(0.1).await;
    two.sigstop()?;
    tokio::time::sleep(stopped).await;
    two.sigcont()?;
    pause(0.2).await;
    {
        let mut korder = ground.world.korder.write().await;
        let status = korder.terminate(Duration::from_secs(20)).await?;
        ensure!(status.code() == Some(0), "{status}:\n{}", korder.log_tail(20));
        pause(0.1).await;
        korder.restart()?;
        korder.wait_ready(SOON).await?;
    }
    pause(0.1).await;
    let four = join(ground, "korder-3").await?;
    pause(0.2).await;
    leave(four).await?;
    pause(0.1).await;
    let changes = churn.stop().await?;
    ground.all_reserved(2 * count).await?;
    let quiet = now();
    for order in ["one", "other"] {
        let says = format!("Order {order} to count {count}");
        ground
            .order_says(order, &says, |order| {
                let status = order.status.clone().unwrap_or_default();
                same("replicas", &status.replicas, &u32::try_from(count)?)?;
                same(
                    "availableReplicas",
                    &status.available_replicas,
                    &u32::try_from(count)?,
                )
            })
            .await?;
    }
    let agreed = now().duration_since(quiet);
    eprintln!("statuses agreed {agreed:#} after all were Reserved");
    ensure!(agreed <= TRUE_WITHIN, "statuses agreed only after {agreed:#}");
    for order in ["one", "other"] {
        let pairs = ground.pairs(order, &names).await?;
        same("the number of pairs", &pairs.len(), &count)?;
    }
    let left: BTreeSet<String> = ground.left().await?;
    same("Tickets and Guardians", &left.len(), &(4 * count))?;
    leave(one).await?;
    leave(two).await?;
    shared_by(ground, &["korder"]).await?;

    let history = History::read(ground, mark).await?;
    history.proves_one_ticket_each()?;
    let entries = ground.audit().writes_since(mark, KORDER)?;
    let replicas: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| of_pairs(entry))
        .map(|entry| entry.user_agent.as_str())
        .collect();
    same("replicas that wrote to pairs", &replicas.len(), &4)?;
    spaced(&entries)?;
    let late = history.late_writes(&entries);
    eprintln!(
        "{changes} changes of nodes in {span:?} and {stopped:?}; {} Tickets in the audit log; written late:\n{}",
        history.tickets(),
        WriteCounts::from_iter(late.iter().copied())
    );
    let harmful = History::harmful(&late, &entries);
    ensure!(
        harmful.is_empty(),
        "another replica had the shard, and these changed something: {harmful:#?}"
    );
    // One replica was stopped, once.
    ensure!(
        late.len() <= IN_FLIGHT,
        "{} writes landed after another replica had the shard",
        late.len()
    );
    Ok(())
}

/// No replica writes the status of an Order more often than once a second, nor a Shard object more often than
/// every other second; what arrives sooner than the next was sent later.
fn spaced(entries: &[AuditEntry]) -> Result<()> {
    let mut last: BTreeMap<(&str, &str, &str), Timestamp> = BTreeMap::new();
    let mut rates: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.subresource == "status" && entry.verb == "patch")
    {
        let least = match entry.resource.as_str() {
            "orders" => SignedDuration::from_millis(950),
            "shards" => SignedDuration::from_millis(1950),
            _ => continue,
        };
        *rates.entry(&entry.resource).or_default() += 1;
        let key = (
            entry.user_agent.as_str(),
            entry.resource.as_str(),
            entry.name.as_str(),
        );
        if let Some(before) = last.insert(key, entry.received) {
            let gap = entry.received.duration_since(before);
            ensure!(
                gap >= least,
                "{} was written twice within {gap:#} by {}",
                entry.name,
                entry.user_agent
            );
        }
    }
    eprintln!("statuses written: {rates:?}");
    Ok(())
}
