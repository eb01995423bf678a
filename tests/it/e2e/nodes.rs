//! What happens to nodes, and what becomes of their Tickets.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{
    AuditEntry, Mark, Ready, add_taint, cordon, delete_node, relabel, remove_taint, set_ready, uncordon,
};

use super::{
    expect::{Pair, untouched},
    world::{GRACE, Ground, now},
};
use crate::harness::{Harness, e2e};

/// The API server's clock is read from headers, in whole seconds.
const CLOCK: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(harness, "nodes", "added_node_gets_a_ticket", added),
        e2e(harness, "nodes", "deleted_node_loses_its_ticket", deleted),
        e2e(harness, "nodes", "recreated_node_is_a_new_pair", recreated),
        e2e(
            harness,
            "nodes",
            "cordoned_node_loses_its_ticket_until_uncordoned",
            cordoned,
        ),
        e2e(harness, "nodes", "relabelled_node_leaves_and_joins", relabelled),
        e2e(harness, "nodes", "untolerated_taint_removes_the_ticket", tainted),
        e2e(
            harness,
            "nodes",
            "toleration_seconds_keep_the_ticket_that_long",
            tolerated_for_a_while,
        ),
        e2e(
            harness,
            "nodes",
            "not_ready_node_loses_its_ticket_after_the_grace",
            not_ready,
        ),
        e2e(
            harness,
            "nodes",
            "ready_again_within_the_grace_writes_nothing",
            ready_again,
        ),
        e2e(
            harness,
            "nodes",
            "not_ready_toleration_replaces_the_grace",
            own_grace,
        ),
    ]
}

async fn added(ground: &Ground<'_>) -> Result<()> {
    let first = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &first).await?;
    ground.add([ground.spec(3)]).await?;
    let after = ground.pairs("order", &ground.names(0..4)).await?;
    untouched(&before, &after, &first)
}

async fn deleted(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    delete_node(&ground.client(), &ground.node(1)).await?;
    let left = ground.names([0, 2]);
    let after = ground.pairs("order", &left).await?;
    untouched(&before, &after, &left)
}

async fn recreated(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    delete_node(&ground.client(), &ground.node(1)).await?;
    ground.add([ground.spec(1)]).await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, &ground.names([0, 2]))?;
    let (old, new) = (&before[&ground.node(1)], &after[&ground.node(1)]);
    ensure!(
        old.ticket_uid() != new.ticket_uid() && old.ticket_name() != new.ticket_name(),
        "the new node has the old node's Ticket"
    );
    Ok(())
}

async fn cordoned(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let left = ground.names([0, 2]);
    cordon(&ground.client(), &ground.node(1)).await?;
    let between = ground.pairs("order", &left).await?;
    untouched(&before, &between, &left)?;
    uncordon(&ground.client(), &ground.node(1)).await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, &left)
}

async fn relabelled(ground: &Ground<'_>) -> Result<()> {
    ground.nodes(3).await?;
    for (n, pool) in [(0, "a"), (1, "a"), (2, "b")] {
        relabel(&ground.client(), &ground.node(n), &[("pool", Some(pool))]).await?;
    }
    ground
        .ask("order", json!({ "nodeSelector": { "pool": "a" } }))
        .await?;
    let before = ground.pairs("order", &ground.names([0, 1])).await?;
    relabel(&ground.client(), &ground.node(1), &[("pool", None)]).await?;
    relabel(&ground.client(), &ground.node(2), &[("pool", Some("a"))]).await?;
    let after = ground.pairs("order", &ground.names([0, 2])).await?;
    untouched(&before, &after, [&ground.node(0)])?;
    relabel(&ground.client(), &ground.node(0), &[("colour", Some("red"))]).await?;
    relabel(&ground.client(), &ground.node(1), &[("pool", Some("a"))]).await?;
    let last = ground.pairs("order", &ground.names(0..3)).await?;
    untouched(&before, &last, [&ground.node(0)])
}

async fn tainted(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(4).await?;
    let tolerations = json!([{ "key": "known", "operator": "Exists" }]);
    ground.ask("order", json!({ "tolerations": tolerations })).await?;
    let before = ground.pairs("order", &all).await?;
    let client = ground.client();
    add_taint(&client, &ground.node(0), "known", "x", "NoSchedule").await?;
    add_taint(&client, &ground.node(0), "known", "x", "NoExecute").await?;
    add_taint(&client, &ground.node(0), "strange", "", "PreferNoSchedule").await?;
    add_taint(&client, &ground.node(1), "strange", "", "NoSchedule").await?;
    add_taint(&client, &ground.node(2), "strange", "", "NoExecute").await?;
    let left = ground.names([0, 3]);
    let between = ground.pairs("order", &left).await?;
    untouched(&before, &between, &left)?;
    remove_taint(&client, &ground.node(1), "strange").await?;
    remove_taint(&client, &ground.node(2), "strange").await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, &left)
}

async fn tolerated_for_a_while(ground: &Ground<'_>) -> Result<()> {
    let seconds = 4;
    let all = ground.nodes(2).await?;
    ground
        .add([ground.spec(2).taint("drain", "", "NoExecute")])
        .await?;
    let tolerations = json!([{ "key": "drain", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }]);
    ground.ask("order", json!({ "tolerations": tolerations })).await?;
    let before = ground.pairs("order", &all).await?;
    let mark = ground.audit().settled_mark().await?;
    let tainted = now();
    add_taint(&ground.client(), &ground.node(1), "drain", "", "NoExecute").await?;
    let left = ground.names([0]);
    let after = ground.pairs("order", &left).await?;
    untouched(&before, &after, &left)?;
    let first = first_write(ground, mark, &before[&ground.node(1)]).await?;
    let least = tainted + std::time::Duration::from_secs(seconds) - CLOCK;
    ensure!(first >= least, "tainted at {tainted}, touched at {first}");
    Ok(())
}

async fn not_ready(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let mark = ground.audit().settled_mark().await?;
    let lost = [(1, Ready::False), (2, Ready::Unknown)];
    let mut since = Vec::new();
    for (n, ready) in lost {
        since.push(transition(
            &set_ready(&ground.client(), &ground.node(n), ready).await?,
        )?);
    }
    let left = ground.names([0]);
    let after = ground.pairs("order", &left).await?;
    untouched(&before, &after, &left)?;
    for ((n, _), since) in lost.into_iter().zip(since) {
        let first = first_write(ground, mark, &before[&ground.node(n)]).await?;
        ensure!(
            first >= since + GRACE - CLOCK,
            "not Ready since {since}, touched at {first}"
        );
    }
    set_ready(&ground.client(), &ground.node(1), Ready::True).await?;
    let back = ground.pairs("order", &ground.names([0, 1])).await?;
    untouched(&before, &back, &left)
}

/// A second node that is lost at the same time shows when the grace is over.
async fn ready_again(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let mark = ground.audit().settled_mark().await?;
    let client = ground.client();
    set_ready(&client, &ground.node(1), Ready::False).await?;
    set_ready(&client, &ground.node(2), Ready::False).await?;
    set_ready(&client, &ground.node(1), Ready::True).await?;
    let left = ground.names([0, 1]);
    let after = ground.pairs("order", &left).await?;
    untouched(&before, &after, [&ground.node(0)])?;
    let kept = (&before[&ground.node(1)], &after[&ground.node(1)]);
    ensure!(
        kept.0.ticket.metadata.resource_version == kept.1.ticket.metadata.resource_version
            && kept.0.guardian_uid() == kept.1.guardian_uid(),
        "the pair was touched"
    );
    let lost = &before[&ground.node(2)];
    let strange: Vec<_> = ground.writes(mark).await?;
    let strange: Vec<_> = strange.iter().filter(|write| !about(write, lost)).collect();
    ensure!(strange.is_empty(), "writes: {strange:#?}");
    Ok(())
}

async fn own_grace(ground: &Ground<'_>) -> Result<()> {
    let seconds = 8;
    let all = ground.nodes(1).await?;
    let toleration = |seconds: Option<u64>| {
        let mut toleration =
            json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" });
        if let Some(seconds) = seconds {
            toleration["tolerationSeconds"] = json!(seconds);
        }
        json!({ "tolerations": [toleration] })
    };
    ground.ask("plain", json!({})).await?;
    ground.ask("longer", toleration(Some(seconds))).await?;
    ground.ask("for-ever", toleration(None)).await?;
    ground.ask("at-once", toleration(Some(0))).await?;
    for order in ["plain", "at-once"] {
        ground.pairs(order, &all).await?;
    }
    let (longer, for_ever) = (
        ground.pairs("longer", &all).await?,
        ground.pairs("for-ever", &all).await?,
    );
    let mark = ground.audit().settled_mark().await?;
    let since = transition(&set_ready(&ground.client(), &ground.node(0), Ready::False).await?)?;
    let none = ground.names([]);
    ground.pairs("at-once", &none).await?;
    ground.pairs("plain", &none).await?;
    ground.pairs("longer", &none).await?;
    let node = &ground.node(0);
    let first = first_write(ground, mark, &longer[node]).await?;
    let least = since + std::time::Duration::from_secs(seconds) - CLOCK;
    ensure!(first >= least, "not Ready since {since}, touched at {first}");
    let kept = ground.pairs("for-ever", &all).await?;
    ensure!(
        for_ever[node].ticket.metadata.resource_version == kept[node].ticket.metadata.resource_version
            && for_ever[node].guardian_uid() == kept[node].guardian_uid(),
        "the pair that tolerates for ever was touched"
    );
    Ok(())
}

/// When korder first wrote to a pair.
async fn first_write(ground: &Ground<'_>, mark: Mark, pair: &Pair) -> Result<Timestamp> {
    let writes = ground.writes(mark).await?;
    let first = writes.iter().find(|write| about(write, pair));
    Ok(first.context("korder never wrote to the pair")?.received)
}

fn about(write: &AuditEntry, pair: &Pair) -> bool {
    write.name == pair.ticket_name() || write.name == pair.guardian_name()
}

/// When the node's Ready condition last changed.
fn transition(node: &Node) -> Result<Timestamp> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let time = ready.and_then(|ready| ready.last_transition_time.as_ref());
    Ok(time.context("no transition time")?.0)
}
