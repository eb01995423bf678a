//! What people and programs see: columns, statuses, probes, metrics.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use korder::api::{Order, Ticket, ticket::Phase};
use kube::api::ListParams;
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{add_taint, wait};

use super::world::{Ground, SOON, condition, same};
use crate::harness::{self, Harness, e2e};

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(harness, "seen", "columns_of_orders_and_tickets", columns),
        e2e(harness, "seen", "order_status_counts_what_is_there", status),
    ]
}

/// Those that count everything there is.
pub(crate) fn quiet(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![harness::quiet(
        harness,
        "seen",
        "metrics_have_help_and_agree_with_the_api",
        metrics,
    )]
}

async fn columns(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    ground.ask("order", json!({})).await?;
    let pairs = ground.pairs("order", &all).await?;
    ground.ready_reason("order", "AllReserved").await?;
    let get = async |what: &str| {
        let args = ["get", what, "-n", &ground.id];
        let out = ground.world.plane.kubectl(&args).await?;
        let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        anyhow::Ok(out.lines().map(row).collect::<Vec<_>>())
    };
    for what in ["orders", "kord"] {
        let rows = get(what).await?;
        let head = [
            "NAME",
            "STRATEGY",
            "DESIRED",
            "RESERVED",
            "CLAIMED",
            "UNAVAILABLE",
            "AGE",
        ];
        same("the head", &rows[0], &head.map(str::to_owned).to_vec())?;
        same(
            "the Order",
            &rows[1][..6].join(" "),
            &"order OneTime 2 2 0 0".to_owned(),
        )?;
    }
    for what in ["tickets", "tkt"] {
        let rows = get(what).await?;
        let head = ["NAME", "ORDER", "NODE", "PHASE", "EXPIRES", "AGE"];
        same("the head", &rows[0], &head.map(str::to_owned).to_vec())?;
        let mut seen: Vec<String> = rows[1..].iter().map(|row| row[..4].join(" ")).collect();
        let mut wanted: Vec<String> = pairs
            .iter()
            .map(|(node, pair)| format!("{} order {node} Reserved", pair.ticket_name()))
            .collect();
        seen.sort();
        wanted.sort();
        same("the Tickets", &seen, &wanted)?;
    }
    let by_field =
        ListParams::default().fields(&format!("status.phase=Reserved,spec.nodeName={}", ground.node(0)));
    same(
        "Tickets by field",
        &ground.api::<Ticket>().list(&by_field).await?.items.len(),
        &1,
    )
}

/// One node fits, one has no room, one is not eligible.
async fn status(ground: &Ground<'_>) -> Result<()> {
    ground
        .add([
            ground.spec(0),
            ground.spec(1).allocatable("50m", "1Gi", 10),
            ground.spec(2).taint("strange", "", "NoSchedule"),
        ])
        .await?;
    ground.ask("order", json!({})).await?;
    let order = ground
        .order_says("order", "one Reserved of two", |order| {
            let status = order.status.clone().unwrap_or_default();
            let numbers = [
                ("replicas", status.replicas, 2),
                ("availableReplicas", status.available_replicas, 1),
                ("unavailableReplicas", status.unavailable_replicas, 1),
                ("updatedReplicas", status.updated_replicas, 1),
                ("claimedReplicas", status.claimed_replicas, 0),
                ("terminalReplicas", status.terminal_replicas, 0),
            ];
            for (what, seen, wanted) in numbers {
                same(what, &seen, &wanted)?;
            }
            same(
                "observedGeneration",
                &Some(status.observed_generation),
                &order.metadata.generation,
            )?;
            let reason = status.unavailable_reasons.first().context("no reasons")?;
            let said = (reason.reason.as_str(), reason.count, reason.node.as_str());
            same(
                "the first reason",
                &said,
                &("InsufficientResources", 1, ground.node(1).as_str()),
            )?;
            let ready = condition(order, "Ready").context("no condition Ready")?;
            same(
                "Ready",
                &(ready.status.as_str(), ready.reason.as_str()),
                &("False", "Reserving"),
            )
        })
        .await?;
    let reserved = ListParams::default().fields("status.phase=Reserved");
    let counted = ground.api::<Ticket>().list(&reserved).await?.items.len();
    same(
        "Reserved Tickets",
        &u32::try_from(counted)?,
        &order.status.unwrap_or_default().available_replicas,
    )?;
    for n in 0..2 {
        add_taint(&ground.client(), &ground.node(n), "strange", "", "NoSchedule").await?;
    }
    ground.ready_reason("order", "NoEligibleNodes").await?;
    ground
        .edit_template(
            "order",
            json!({ "tolerations": [{ "key": "strange", "operator": "Exists" }] }),
        )
        .await?;
    ground.ready_reason("order", "Reserving").await?;
    Ok(())
}

/// Every metric that has happened so far; with the numbers of the whole plane, so when nobody else is there.
async fn metrics(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(4).await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &all).await?;
    ground.ready_reason("order", "AllReserved").await?;
    let korder = ground.world.korder.read().await;
    let (code, body) = korder.ready().await?;
    ensure!(code == 200, "/readyz: {code} {body}");
    let health = korder.get("/healthz").await?;
    ensure!(health.0 == 200, "/healthz: {health:?}");
    let text = korder.metrics().await?;
    for name in defined_metrics() {
        ensure!(text.contains(&format!("# HELP {name} ")), "no help for {name}");
        ensure!(text.contains(&format!("# TYPE {name} ")), "no type of {name}");
    }
    let orders: Vec<Order> = kube::Api::all(ground.client())
        .list(&ListParams::default())
        .await?
        .items;
    let tickets: Vec<Ticket> = kube::Api::all(ground.client())
        .list(&ListParams::default())
        .await?
        .items;
    let reserved = tickets.iter().filter(|ticket| {
        ticket
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Phase::Reserved)
    });
    let reserved = reserved.count();
    let desired: u32 = orders
        .iter()
        .filter_map(|order| Some(order.status.as_ref()?.replicas))
        .sum();
    let wanted = [
        ("korder_orders", orders.len()),
        ("korder_eligible_pairs", usize::try_from(desired)?),
        ("korder_tickets", tickets.len()),
        ("korder_tickets{phase=\"Reserved\"}", reserved),
        ("korder_queue_depth", 0),
        ("korder_writes_in_flight", 0),
    ];
    for (name, count) in wanted {
        wait::until(SOON, &format!("{name} to be {count}"), async || {
            let text = korder.metrics().await?;
            let seen = sample(&text, name).with_context(|| format!("no {name}"))?;
            ensure!(seen == count as f64, "it is {seen}");
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The names in the file that holds them all.
fn defined_metrics() -> Vec<String> {
    let source = include_str!("../../../src/env/metrics.rs");
    let names = source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.split('"').nth(1));
    names.map(str::to_owned).collect()
}

/// The sum of the samples whose name, or name and labels, are `name`.
fn sample(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let bare = series.split('{').next()?;
        (series == name || bare == name)
            .then(|| value.parse::<f64>().ok())
            .flatten()
    });
    values.reduce(|sum, value| sum + value)
}
