//! Many nodes: exactly one Ticket each, few writes, none for heartbeats.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{AuditEntry, Mark, WriteCounts, wait};

use super::{
    disruption::setting,
    world::{Ground, KORDER, SOON, same},
};
use crate::harness::{Harness, alone};

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![alone(
        harness,
        "scale",
        "one_ticket_per_node_in_few_writes_and_none_for_heartbeats",
        many,
    )]
}

/// E2E_NODES nodes (300), then E2E_QUIET seconds (30) of heartbeats.
async fn many(ground: &Ground<'_>) -> Result<()> {
    let count = setting("E2E_NODES", 300);
    let names = ground.world.crowd(count).await?;
    let audit = ground.audit();
    let mark = audit.settled_mark().await?;
    ground
        .ask_crowd(
            "order",
            count,
            json!({ "tolerations": [{ "operator": "Exists" }] }),
        )
        .await?;
    ground.all_reserved(count).await?;
    let pairs = ground.pairs("order", &names).await?;
    same("the number of pairs", &pairs.len(), &count)?;
    ground.ready_reason("order", "AllReserved").await?;

    // The Event that counts the Tickets comes ten seconds after the first: wait for what is quiet.
    let quiet = async || {
        let since = audit.settled_mark().await?;
        beats(ground, count).await?;
        writes(ground, since).await
    };
    let mut last = quiet().await?;
    for _ in 0..3 {
        if last.is_empty() {
            break;
        }
        last = quiet().await?;
    }
    let made = writes(ground, mark).await?;
    let table = WriteCounts::from_iter(&made);
    eprintln!("writes for {count} Tickets:\n{table}");
    let (of_shards, of_pairs): (Vec<_>, Vec<_>) = made.iter().partition(|write| write.resource == "shards");
    let each = of_pairs.len() as f64 / count as f64;
    ensure!(each <= 3.2, "{each} writes for each Ticket:\n{table}");
    // Two objects per shard, each made once and then changed every other second at most.
    ensure!(of_shards.len() <= 64 * 10, "for 64 shards:\n{table}");

    let since = audit.settled_mark().await?;
    let window = Duration::from_secs(setting("E2E_QUIET", 30));
    let enough = usize::try_from(window.as_secs())? * count / 15;
    let beaten = ground.metric(NODE_EVENTS).await?;
    tokio::time::sleep(window).await;
    let beaten = ground.metric(NODE_EVENTS).await? - beaten;
    ensure!(beaten >= enough as f64, "only {beaten} node events in {window:?}");
    let strange = writes(ground, since).await?;
    ensure!(
        strange.is_empty(),
        "{beaten} heartbeats led to\n{}",
        WriteCounts::from_iter(&strange)
    );
    eprintln!("{beaten} heartbeats in {window:?}: no write");
    Ok(())
}

const NODE_EVENTS: &str = "korder_node_events_stopped_total";

/// Waits until korder has seen as many heartbeats as there are nodes.
async fn beats(ground: &Ground<'_>, count: usize) -> Result<()> {
    let before = ground.metric(NODE_EVENTS).await?;
    wait::until(SOON, "heartbeats", async || {
        let seen = ground.metric(NODE_EVENTS).await? - before;
        ensure!(seen >= count as f64, "{seen} so far");
        anyhow::Ok(())
    })
    .await
}

/// All that korder wrote, Leases apart.
async fn writes(ground: &Ground<'_>, since: Mark) -> Result<Vec<AuditEntry>> {
    let audit = ground.audit();
    audit.settled_mark().await?;
    let mut writes = audit.writes_since(since, KORDER)?;
    writes.retain(|write| !write.is_lease());
    Ok(writes)
}
