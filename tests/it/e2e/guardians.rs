//! What happens to Guardians and Tickets by other hands, and room that is not there.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, anyhow, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use korder::api::{Ticket, ticket::Phase};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::wait;

use super::{
    expect::{Pair, Pairs, untouched},
    input::event,
    world::{Ground, SOON, same},
};
use crate::harness::{Harness, e2e};

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(harness, "guardians", "deleted_guardian_is_made_again", deleted),
        e2e(harness, "guardians", "evicted_guardian_is_made_again", evicted),
        e2e(harness, "guardians", "failed_guardian_is_replaced", failed),
        e2e(harness, "guardians", "deleted_ticket_is_made_again", ticket),
        e2e(
            harness,
            "guardians",
            "what_does_not_fit_says_so_and_fits_later",
            no_room,
        ),
    ]
}

async fn deleted(ground: &Ground<'_>) -> Result<()> {
    loses_guardian(ground, "GuardianDeleted", async |pair| {
        let pods: Api<Pod> = ground.api();
        pods.delete(&pair.guardian_name(), &DeleteParams::default())
            .await?;
        Ok(())
    })
    .await
}

async fn evicted(ground: &Ground<'_>) -> Result<()> {
    loses_guardian(ground, "GuardianDeleted", async |pair| {
        let pods: Api<Pod> = ground.api();
        pods.evict(&pair.guardian_name(), &EvictParams::default()).await?;
        Ok(())
    })
    .await
}

async fn failed(ground: &Ground<'_>) -> Result<()> {
    loses_guardian(ground, "GuardianEnded", async |pair| {
        let pods: Api<Pod> = ground.api();
        let status =
            json!({ "status": { "phase": "Failed", "reason": "Preempting", "message": "by the test" } });
        let patch = Patch::Merge(status);
        pods.patch_status(&pair.guardian_name(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    })
    .await
}

/// One of two Guardians goes: its Ticket turns Pending with `reason`, and is Reserved again by itself.
async fn loses_guardian(
    ground: &Ground<'_>,
    reason: &str,
    hurt: impl AsyncFn(&Pair) -> Result<()>,
) -> Result<()> {
    let all = ground.nodes(2).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let (node, other) = (ground.node(0), ground.node(1));
    let since = revision(ground).await?;
    hurt(&before[&node]).await?;
    wait::until(SOON, "another Guardian", async || {
        let pod = ground.api::<Pod>().get(&before[&node].guardian_name()).await?;
        ensure!(
            pod.uid().as_deref() != Some(before[&node].guardian_uid()),
            "still the old one"
        );
        anyhow::Ok(())
    })
    .await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, [&other])?;
    same(
        "the Ticket's uid",
        &after[&node].ticket_uid(),
        &before[&node].ticket_uid(),
    )?;
    ensure!(
        after[&node].guardian_uid() != before[&node].guardian_uid(),
        "the same Guardian"
    );
    let history = history(ground, &since, &after[&node].ticket_name()).await?;
    same(
        "what became of the Ticket",
        &history,
        &vec![(Phase::Pending, Some(reason.to_owned())), (Phase::Reserved, None)],
    )?;
    event(ground, reason, &node).await
}

async fn revision(ground: &Ground<'_>) -> Result<String> {
    let listed = ground.api::<Ticket>().list(&ListParams::default()).await?;
    listed
        .metadata
        .resource_version
        .context("a list without a revision")
}

/// Phases and reasons of a Ticket since a revision.
async fn history(ground: &Ground<'_>, since: &str, name: &str) -> Result<Vec<(Phase, Option<String>)>> {
    let tickets: Api<Ticket> = ground.api();
    let watch = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(1);
    let events: Vec<_> = tickets.watch(&watch, since).await?.collect().await;
    let mut history = Vec::new();
    for event in events {
        if let WatchEvent::Added(ticket) | WatchEvent::Modified(ticket) | WatchEvent::Deleted(ticket) = event?
        {
            let status = ticket.status.unwrap_or_default();
            history.push((status.phase, status.reason));
        }
    }
    Ok(history)
}

async fn ticket(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let tickets: Api<Ticket> = ground.api();
    let gone = &before[&ground.node(0)];
    tickets
        .delete(&gone.ticket_name(), &DeleteParams::default())
        .await?;
    wait::until(SOON, "another Ticket", async || {
        let ticket = tickets.get(&gone.ticket_name()).await?;
        ensure!(
            ticket.uid().as_deref() != Some(gone.ticket_uid()),
            "still the old one"
        );
        anyhow::Ok(())
    })
    .await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, &ground.names([1, 2]))
}

/// Two Orders of 600m on nodes of one CPU: one of them fits on each.
async fn no_room(ground: &Ground<'_>) -> Result<()> {
    let small = |n: usize| ground.spec(n).allocatable("1", "4Gi", 110);
    ground.add((0..3).map(small)).await?;
    let all = ground.names(0..3);
    let large = || json!({ "resources": { "requests": { "cpu": "600m" } } });
    let first = ground.ask("first", large()).await?;
    let before = ground.pairs("first", &all).await?;
    let second = ground.ask("second", large()).await?;
    wait::until(SOON, "three Tickets to say InsufficientResources", async || {
        let waiting = ground.waiting(&second).await?;
        let nodes: BTreeSet<String> = waiting.iter().map(|(node, ..)| node.clone()).collect();
        let right = |(_, reason, said): &(String, String, String)| {
            reason == "InsufficientResources" && said.contains("Insufficient cpu")
        };
        ensure!(nodes == all && waiting.iter().all(right), "they say {waiting:?}");
        anyhow::Ok(())
    })
    .await?;
    ground
        .order_says("second", "the Order to say InsufficientResources", |order| {
            let status = order.status.clone().unwrap_or_default();
            let short = status
                .unavailable_reasons
                .iter()
                .find(|reason| reason.reason == "InsufficientResources");
            same(
                "InsufficientResources",
                &short.map(|reason| reason.count),
                &Some(3),
            )?;
            same("availableReplicas", &status.available_replicas, &0)
        })
        .await?;
    event(ground, "InsufficientResources", "Insufficient cpu").await?;
    fits(ground, &before, &all).await?;
    let capacity = json!({ "status": { "allocatable": { "cpu": "2" }, "capacity": { "cpu": "2" } } });
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(ground.client());
    nodes
        .patch_status(&ground.node(0), &PatchParams::default(), &Patch::Merge(capacity))
        .await?;
    wait::until(SOON, "the first to fit", async || {
        match ground.waiting(&second).await?.len() {
            2 => Ok(()),
            more => Err(anyhow!("{more} wait")),
        }
    })
    .await?;
    fits(ground, &before, &all).await?;
    ensure!(
        ground.waiting(&first).await?.is_empty(),
        "the first Order lost room"
    );
    let orders: Api<korder::api::Order> = ground.api();
    orders.delete("first", &DeleteParams::default()).await?;
    ground.pairs("second", &all).await?;
    Ok(())
}

async fn fits(ground: &Ground<'_>, before: &Pairs, all: &BTreeSet<String>) -> Result<()> {
    let now = ground.pairs("first", all).await?;
    untouched(before, &now, all)
}
