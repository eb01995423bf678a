//! Templates that change: nothing more than `maxUnavailable` is without a running Guardian at any
//! revision, and no room that was held goes to anybody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, anyhow, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use korder::api::{Order, Ticket, ticket::Phase};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testbed::real::{WriteCounts, create_nodes, wait, wait_nodes_ready};

use super::{
    disruption::setting,
    expect::Pairs,
    fleet::{join, leave, shared_by},
    rooms::Rooms,
    world::{Ground, SOON, condition, now, patience, same},
};
use crate::harness::{Harness, e2e, quiet};

/// Label of Pods that wait for room that is not theirs.
const THIEF: (&str, &str) = ("app", "thief");

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(
            harness,
            "rollout",
            "added_toleration_reaches_guardians_that_run",
            tolerated,
        ),
        e2e(
            harness,
            "rollout",
            "larger_than_the_room_says_so_stops_there_and_is_rolled_back",
            too_large,
        ),
        e2e(
            harness,
            "rollout",
            "refused_guardian_stalls_and_keeps_every_room",
            refused,
        ),
    ]
}

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        quiet(harness, "rollout", "one_at_a_time_over_64_shards", one),
        quiet(
            harness,
            "rollout",
            "full_nodes_keep_their_room_from_thieves_while_a_replica_is_killed",
            many,
        ),
    ]
}

/// E2E_NODES full nodes (60), a tenth of them at a time; one of three replicas is killed midway.
async fn many(ground: &Ground<'_>) -> Result<()> {
    let count = setting("E2E_NODES", 60);
    rolled(ground, count, &json!("10%"), (count / 10).max(1), true).await
}

/// E2E_ONE full nodes (20), one at a time, by three replicas.
async fn one(ground: &Ground<'_>) -> Result<()> {
    rolled(ground, setting("E2E_ONE", 20), &json!(1), 1, false).await
}

/// A template changes on full nodes with two thieves each.
async fn rolled(ground: &Ground<'_>, count: usize, max: &Value, most: usize, kill: bool) -> Result<()> {
    let (mut one, two) = (join(ground, "korder-1").await?, join(ground, "korder-2").await?);
    let three = ["korder", "korder-1", "korder-2"];
    shared_by(ground, &three).await?;
    let start = ground.audit().settled_mark().await?;
    let names = full(ground, count, max).await?;
    thieves(ground, count).await?;
    let mark = ground.audit().settled_mark().await?;
    let begun = now();
    ground.edit_template("order", cpu("900m")).await?;
    updated(ground, count.div_ceil(3)).await?;
    if kill {
        one.kill9();
    }
    updated(ground, count).await?;
    let took = now().duration_since(begun);
    let order = ground.ready_reason("order", "AllReserved").await?;
    let rooms = Rooms::read(ground, start).await?;
    eprintln!(
        "{count} nodes and {} thieves, maxUnavailable {max}: {took:#}, at most {} pairs at a time without a \
         running Guardian, {} rooms stolen",
        2 * count,
        rooms.worst,
        rooms.others.len()
    );
    eprintln!("{}", WriteCounts::from_iter(&ground.writes(mark).await?));
    same("Tickets", &rooms.bound.len(), &count)?;
    same("Tickets with a Guardian", &rooms.held(), &count)?;
    ensure!(rooms.worst <= most, "{} pairs at a time, not {most}", rooms.worst);
    ensure!(rooms.worst > 0, "nothing was replaced");
    same("rooms stolen", &rooms.others, &BTreeSet::new())?;
    said(&order, "Progressing", "False", "UpToDate")?;
    ground.pairs("order", &names).await?;
    if kill {
        one.restart()?;
        one.wait_ready(SOON).await?;
    }
    leave(one).await?;
    leave(two).await?;
    shared_by(ground, &["korder"]).await?;
    Ok(())
}

fn cpu(amount: &str) -> Value {
    json!({ "resources": { "requests": { "cpu": amount } } })
}

/// An Order that takes all of each of so many nodes of one CPU.
async fn full(ground: &Ground<'_>, count: usize, max: &Value) -> Result<BTreeSet<String>> {
    let small = |n: usize| ground.spec(n).allocatable("1", "4Gi", 110);
    create_nodes(&ground.client(), (0..count).map(small)).await?;
    wait_nodes_ready(&ground.client(), &ground.selector(), count, patience(count)).await?;
    let mut order = ground.order("order", cpu("1"));
    order["spec"]["updateStrategy"] = json!({ "maxUnavailable": max });
    ground.create(&order).await?;
    ground.all_reserved(count).await?;
    Ok(ground.names(0..count))
}

/// Two Pods for each node that wait for a part of its room, one in twenty for that of any node. They ask for
/// more than a smaller template leaves.
async fn thieves(ground: &Ground<'_>, count: usize) -> Result<()> {
    let pods: Api<Pod> = ground.api();
    let thief = |n: usize| {
        let name = match n % 20 {
            0 => json!({ "key": "metadata.name", "operator": "NotIn", "values": ["none"] }),
            _ => json!({ "key": "metadata.name", "operator": "In", "values": [ground.node(n / 2)] }),
        };
        let place = json!({ "nodeSelectorTerms": [{ "matchFields": [name] }] });
        json!({
            "metadata": { "name": format!("thief-{n}"), "labels": { THIEF.0: THIEF.1 } },
            "spec": {
                "nodeSelector": { "test": ground.id },
                "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": place } },
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "c", "image": "i",
                    "resources": { "requests": { "cpu": "200m" } },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                    },
                }],
            },
        })
    };
    let turned_away = |pod: Pod| {
        let status = pod.status.unwrap_or_default();
        let mut conditions = status.conditions.into_iter().flatten();
        conditions.any(|one| one.reason.as_deref() == Some("Unschedulable"))
    };
    let made = (0..2 * count).map(|n| {
        let (pods, thief) = (&pods, serde_json::from_value::<Pod>(thief(n)));
        async move {
            let name = pods.create(&PostParams::default(), &thief?).await?.name_any();
            wait::until(patience(count), "a thief to find no room", async || {
                ensure!(turned_away(pods.get(&name).await?), "{name} was not tried");
                anyhow::Ok(())
            })
            .await
        }
    });
    let made = stream::iter(made).buffer_unordered(16);
    made.try_collect().await
}

/// Waits until so many Tickets are Reserved with the present template, as long as that goes on.
async fn updated(ground: &Ground<'_>, count: usize) -> Result<()> {
    let mut last = None;
    loop {
        let more = wait::until(SOON * 4, "one more Ticket of the present template", async || {
            let order: Order = ground.api().get("order").await?;
            let seen = order.metadata.generation;
            let status = order.status.unwrap_or_default();
            ensure!(Some(status.observed_generation) == seen, "not observed yet");
            let updated = usize::try_from(status.updated_replicas)?;
            ensure!(
                last.is_none_or(|last| updated > last),
                "{updated} of {count} so far"
            );
            Ok(updated)
        })
        .await?;
        if more >= count {
            return Ok(());
        }
        last = Some(more);
    }
}

fn said(order: &Order, kind: &str, status: &str, reason: &str) -> Result<()> {
    let found = condition(order, kind).ok_or_else(|| anyhow!("no condition {kind}"))?;
    same(
        &format!("condition {kind}"),
        &(found.status.as_str(), found.reason.as_str()),
        &(status, reason),
    )
}

fn guardians(pairs: &Pairs) -> BTreeMap<String, String> {
    let uid = |(node, pair): (&String, &super::expect::Pair)| (node.clone(), pair.guardian_uid().to_owned());
    pairs.iter().map(uid).collect()
}

async fn tolerated(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    let keys = |keys: &[&str]| {
        let all: Vec<_> = keys
            .iter()
            .map(|key| json!({ "key": key, "operator": "Exists" }))
            .collect();
        json!({ "tolerations": all })
    };
    ground.ask("order", keys(&["a"])).await?;
    let before = ground.pairs("order", &all).await?;
    let mark = ground.audit().settled_mark().await?;
    ground.edit_template("order", keys(&["b", "a"])).await?;
    let after = ground.pairs("order", &all).await?;
    same("the Guardians", &guardians(&after), &guardians(&before))?;
    let writes = ground.writes(mark).await?;
    same("writes", &writes.len(), &(2 * all.len()))?;
    // The API server's own toleration gets the seconds of the template.
    let for_ever = json!([
        { "key": "a", "operator": "Exists" },
        { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" },
    ]);
    ground
        .edit_template("order", json!({ "tolerations": for_ever }))
        .await?;
    let replaced = ground.pairs("order", &all).await?;
    for (node, uid) in guardians(&replaced) {
        ensure!(uid != after[&node].guardian_uid(), "b is tolerated on {node} yet");
    }
    Ok(())
}

/// Tickets that are not Reserved, and those of the Guardians that were there before and still are.
async fn stand(ground: &Ground<'_>, before: &Pairs) -> Result<(Vec<Ticket>, usize)> {
    let tickets = ground.api::<Ticket>().list(&ListParams::default()).await?;
    let reserved = |ticket: &Ticket| {
        let status = ticket.status.as_ref();
        status.is_some_and(|status| status.phase == Phase::Reserved)
    };
    let pods = ground.api::<Pod>().list_metadata(&ListParams::default()).await?;
    let uids: BTreeSet<String> = pods.iter().filter_map(ResourceExt::uid).collect();
    let kept = guardians(before).into_values().filter(|uid| uids.contains(uid));
    let waiting = tickets.items.into_iter().filter(|ticket| !reserved(ticket));
    Ok((waiting.collect(), kept.count()))
}

async fn too_large(ground: &Ground<'_>) -> Result<()> {
    let all = full(ground, 4, &json!(1)).await?;
    let before = ground.pairs("order", &all).await?;
    ground.edit_template("order", cpu("2")).await?;
    wait::until(SOON, "one Ticket to say InsufficientResources", async || {
        let (waiting, kept) = stand(ground, &before).await?;
        let [only] = &waiting[..] else {
            bail!("{} wait", waiting.len())
        };
        let reason = only.status.as_ref().and_then(|status| status.reason.as_deref());
        same("reason", &reason, &Some("InsufficientResources"))?;
        same("Guardians kept", &kept, &3)
    })
    .await?;
    let order: Order = ground.api().get("order").await?;
    said(&order, "Progressing", "True", "RollingOut")?;
    ground.edit_template("order", cpu("1")).await?;
    let after = ground.pairs("order", &all).await?;
    let (before, after) = (guardians(&before), guardians(&after));
    let kept = before.iter().filter(|(node, uid)| after[*node] == **uid);
    same("Guardians kept", &kept.count(), &3)
}

async fn refused(ground: &Ground<'_>) -> Result<()> {
    let all = full(ground, 4, &json!(2)).await?;
    let before = ground.pairs("order", &all).await?;
    let class = |name: Value| json!({ "priorityClassName": name });
    ground.edit_template("order", class(json!("none-such"))).await?;
    let stalled = wait::until(
        Duration::from_secs(180),
        "the roll-out to have stalled",
        async || {
            let order: Order = ground.api().get("order").await?;
            said(&order, "Stalled", "True", "GuardianRefused")?;
            anyhow::Ok(order)
        },
    )
    .await?;
    said(&stalled, "Progressing", "True", "RollingOut")?;
    let (waiting, kept) = stand(ground, &before).await?;
    same("Tickets that wait", &waiting.len(), &2)?;
    same("Guardians kept", &kept, &4)?;
    ground.edit_template("order", class(Value::Null)).await?;
    let after = ground.pairs("order", &all).await?;
    same("the Guardians", &guardians(&after), &guardians(&before))?;
    ground
        .order_says("order", "the roll-out to be over", |order| {
            said(order, "Stalled", "False", "NotStalled")?;
            said(order, "Progressing", "False", "UpToDate")
        })
        .await?;
    Ok(())
}
