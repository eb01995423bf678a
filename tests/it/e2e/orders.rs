//! What happens to Orders, and what becomes of their Tickets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use korder::api::{Order, Ticket, ticket::Phase};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PropagationPolicy, WatchEvent, WatchParams},
};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{Component, add_taint, cordon, delete_node, uncordon, wait};

use super::{
    expect::{Pairs, untouched},
    world::{Ground, SOON, condition, same},
};
use crate::harness::{Harness, alone, e2e};

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(
            harness,
            "orders",
            "edited_selector_moves_only_what_it_must",
            selector,
        ),
        e2e(
            harness,
            "orders",
            "edited_tolerations_replace_and_remove",
            tolerations,
        ),
        e2e(
            harness,
            "orders",
            "edited_resources_replace_tickets_one_by_one",
            resources,
        ),
        e2e(
            harness,
            "orders",
            "duration_lifecycle_and_labels_are_edited_in_place",
            in_place,
        ),
        e2e(harness, "orders", "paused_order_keeps_all_and_makes_none", paused),
        e2e(
            harness,
            "orders",
            "two_orders_keep_to_their_own_tickets",
            two_orders,
        ),
        e2e(harness, "orders", "deleted_order_leaves_nothing", deleted),
        e2e(
            harness,
            "orders",
            "foreground_deletion_leaves_nothing",
            foreground,
        ),
        e2e(harness, "orders", "order_made_again_starts_afresh", made_again),
        e2e(harness, "orders", "deleted_namespace_gets_nothing_new", namespace),
    ]
}

/// Those that stop something.
pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![alone(
        harness,
        "orders",
        "deleted_order_leaves_nothing_without_a_controller_manager",
        without_controllers,
    )]
}

async fn selector(ground: &Ground<'_>) -> Result<()> {
    let pool = |n: usize, pool: &str| ground.spec(n).pool(pool);
    ground.add([pool(0, "a"), pool(1, "b"), pool(2, "c")]).await?;
    let affinity = |pools: &[&str]| {
        let term = json!({ "matchExpressions": [{ "key": "pool", "operator": "In", "values": pools }] });
        json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } } })
    };
    ground.ask("order", affinity(&["a", "b"])).await?;
    let before = ground.pairs("order", &ground.names([0, 1])).await?;
    ground.edit_template("order", affinity(&["b", "c"])).await?;
    let after = ground.pairs("order", &ground.names([1, 2])).await?;
    untouched(&before, &after, [&ground.node(1)])?;
    let narrower = json!({ "affinity": null, "nodeSelector": { "pool": "b" } });
    ground.edit_template("order", narrower).await?;
    let last = ground.pairs("order", &ground.names([1])).await?;
    untouched(&before, &last, [&ground.node(1)])
}

async fn tolerations(ground: &Ground<'_>) -> Result<()> {
    ground
        .add([ground.spec(0), ground.spec(1).taint("gpu", "", "NoSchedule")])
        .await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &ground.names([0])).await?;
    let tolerate = json!({ "tolerations": [{ "key": "gpu", "operator": "Exists" }] });
    ground.edit_template("order", tolerate).await?;
    ground.pairs("order", &ground.names([0, 1])).await?;
    ground
        .edit_template("order", json!({ "tolerations": null }))
        .await?;
    ground.pairs("order", &ground.names([0])).await?;
    Ok(())
}

/// Every revision of the Tickets is looked at: never is more than one pair without a Reserved Ticket.
async fn resources(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(6).await?;
    let limited = json!({ "resources": { "limits": { "cpu": "200m" } } });
    let order = ground.ask("order", limited).await?;
    let before = ground.pairs("order", &all).await?;
    let tickets: Api<Ticket> = ground.api();
    let of_order = format!("korder.dev/order-uid={}", order.uid().unwrap_or_default());
    let listed = tickets.list(&ListParams::default().labels(&of_order)).await?;
    let since = listed
        .metadata
        .resource_version
        .context("a list without a revision")?;

    let other = json!({ "resources": { "requests": { "cpu": "150m" }, "limits": { "cpu": null, "memory": "256Mi" } } });
    ground.edit_template("order", other).await?;
    let after = ground.pairs("order", &all).await?;

    let mut reserved: BTreeMap<String, bool> = all.iter().map(|node| (node.clone(), true)).collect();
    let mut least = all.len();
    let events = tickets
        .watch(&WatchParams::default().labels(&of_order).timeout(2), &since)
        .await?;
    let mut events = events.boxed();
    while let Some(event) = events.try_next().await? {
        let (ticket, is) = match event {
            WatchEvent::Added(ticket) | WatchEvent::Modified(ticket) => {
                let is = ticket
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == Phase::Reserved);
                (ticket, is)
            }
            WatchEvent::Deleted(ticket) => (ticket, false),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(anyhow!("the watch ends: {status:?}")),
        };
        reserved.insert(ticket.spec.node_name, is);
        least = least.min(reserved.values().filter(|is| **is).count());
    }
    same("the least number of Reserved pairs", &least, &(all.len() - 1))?;
    for node in &all {
        let (before, after) = (&before[node], &after[node]);
        same("the Ticket's uid", &after.ticket_uid(), &before.ticket_uid())?;
        ensure!(
            after.guardian_uid() != before.guardian_uid(),
            "the Guardian of {node} was not replaced"
        );
        ensure!(
            after.ticket.spec.template_hash != before.ticket.spec.template_hash,
            "the template's hash is the same"
        );
    }
    let order: Order = ground.ready_reason("order", "AllReserved").await?;
    let status = order.status.clone().unwrap_or_default();
    same("updatedReplicas", &status.updated_replicas, &6)?;
    let progressing = condition(&order, "Progressing").map(|said| said.status.clone());
    same("Progressing", &progressing.as_deref(), &Some("False"))
}

async fn in_place(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    ground.ask("order", json!({ "duration": "24h" })).await?;
    let before = ground.pairs("order", &all).await?;
    let template = json!({
        "metadata": { "labels": { "team": "a" }, "annotations": { "note": "b" } },
        "spec": {
            "duration": "48h",
            "lifecycle": { "ttlSecondsAfterFinished": 60, "cleanupPolicy": "Retain" },
        },
    });
    ground.edit("order", json!({ "template": template })).await?;
    let after = ground.pairs("order", &all).await?;
    same_guardians(&before, &after)?;
    ground.edit_template("order", json!({ "duration": null })).await?;
    let last = ground.pairs("order", &all).await?;
    same_guardians(&before, &last)
}

/// The same Guardians, untouched, and the same Tickets, perhaps changed.
fn same_guardians(before: &Pairs, after: &Pairs) -> Result<()> {
    for (node, before) in before {
        let after = &after[node];
        same("the Ticket's uid", &after.ticket_uid(), &before.ticket_uid())?;
        same(
            "the Guardian",
            &after.guardian.metadata,
            &before.guardian.metadata,
        )?;
        let activated = |pair: &Ticket| {
            pair.status
                .as_ref()
                .and_then(|status| status.activation_time.clone())
        };
        same(
            "activationTime",
            &activated(&after.ticket),
            &activated(&before.ticket),
        )?;
    }
    Ok(())
}

/// Another Order with the same selector shows when the changes have been dealt with.
async fn paused(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(4).await?;
    for order in ["paused", "witness"] {
        ground.ask(order, json!({})).await?;
        ground.pairs(order, &all).await?;
    }
    let before = ground.pairs("paused", &all).await?;
    ground.edit("paused", json!({ "paused": true })).await?;
    ground.ready_reason("paused", "AllReserved").await?;
    let client = ground.client();
    cordon(&client, &ground.node(0)).await?;
    add_taint(&client, &ground.node(1), "strange", "", "NoSchedule").await?;
    ground.add([ground.spec(4)]).await?;
    let resources = json!({ "resources": { "requests": { "cpu": "150m" } } });
    ground.edit_template("witness", resources.clone()).await?;
    ground.pairs("witness", &ground.names([2, 3, 4])).await?;
    let during = ground.pairs("paused", &all).await?;
    untouched(&before, &during, &all)?;
    ground.ready_reason("paused", "Paused").await?;

    delete_node(&client, &ground.node(3)).await?;
    let kept = ground.names([0, 1, 2]);
    let during = ground.pairs("paused", &kept).await?;
    untouched(&before, &during, &kept)?;

    uncordon(&client, &ground.node(0)).await?;
    ground.edit("paused", json!({ "paused": false })).await?;
    let left = ground.names([0, 2, 4]);
    let after = ground.pairs("paused", &left).await?;
    untouched(&before, &after, &ground.names([0, 2]))
}

async fn two_orders(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    for order in ["one", "two"] {
        ground.ask(order, json!({})).await?;
    }
    let one = ground.pairs("one", &all).await?;
    ground.pairs("two", &all).await?;
    delete(ground, "two", DeleteParams::default()).await?;
    let left = BTreeSet::from_iter(one.values().flat_map(|pair| {
        [
            format!("ticket/{}", pair.ticket_name()),
            format!("pod/{}", pair.guardian_name()),
        ]
    }));
    nothing_but(ground, &left).await?;
    let after = ground.pairs("one", &all).await?;
    untouched(&one, &after, &all)
}

async fn deleted(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(10).await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &all).await?;
    let mark = ground.audit().settled_mark().await?;
    delete(ground, "order", DeleteParams::default()).await?;
    nothing_but(ground, &BTreeSet::new()).await?;
    // The garbage collector may be first; korder empties both collections all the same.
    wait::until(SOON, "korder to delete Pods and Tickets at once", async || {
        let writes = ground.writes(mark).await?;
        let single: Vec<_> = writes
            .iter()
            .filter(|write| write.verb != "deletecollection")
            .collect();
        ensure!(single.is_empty(), "not only at once: {single:#?}");
        let emptied: BTreeSet<&str> = writes.iter().map(|write| write.resource.as_str()).collect();
        same("what was emptied", &emptied, &BTreeSet::from(["pods", "tickets"]))
    })
    .await?;
    Ok(())
}

async fn foreground(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(5).await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &all).await?;
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    delete(ground, "order", foreground).await?;
    nothing_but(ground, &BTreeSet::new()).await?;
    gone::<Order>(&ground.api(), "order").await
}

async fn without_controllers(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(20).await?;
    for order in ["background", "orphan"] {
        ground.ask(order, json!({})).await?;
        ground.pairs(order, &all).await?;
    }
    let plane = &ground.world.plane;
    plane.stop(Component::ControllerManager).await?;
    let emptied = async {
        delete(ground, "background", DeleteParams::default()).await?;
        let orphan = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        delete(ground, "orphan", orphan).await?;
        nothing_but(ground, &BTreeSet::new()).await
    };
    let emptied = emptied.await;
    plane.start_again(Component::ControllerManager).await?;
    emptied
}

async fn made_again(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    let order = ground.ask("order", json!({})).await?;
    ground.pairs("order", &all).await?;
    delete(ground, "order", DeleteParams::default()).await?;
    let again = ground.ask("order", json!({})).await?;
    ensure!(order.uid() != again.uid(), "the same Order");
    let after = ground.pairs("order", &all).await?;
    let wanted = BTreeSet::from_iter(after.values().flat_map(|pair| {
        [
            format!("ticket/{}", pair.ticket_name()),
            format!("pod/{}", pair.guardian_name()),
        ]
    }));
    nothing_but(ground, &wanted).await
}

async fn namespace(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(5).await?;
    ground.ask("order", json!({})).await?;
    ground.pairs("order", &all).await?;
    let namespaces: Api<Namespace> = Api::all(ground.client());
    let name = format!("{}-two", ground.id);
    let labels = json!({ "metadata": { "name": name } });
    namespaces
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(labels)?,
        )
        .await?;
    ground.world.plane.wait_service_account(&name, "default").await?;
    let there = Ground {
        world: ground.world,
        id: name.clone(),
    };
    there
        .ask("order", json!({ "nodeSelector": { "test": ground.id } }))
        .await?;
    wait::until(
        SOON,
        "five Tickets to be Reserved in the second namespace",
        async || {
            let tickets = there.api::<Ticket>().list(&ListParams::default()).await?;
            let reserved = tickets.iter().filter(|ticket| {
                ticket
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == Phase::Reserved)
            });
            match reserved.count() {
                5 => Ok(()),
                some => Err(anyhow!("{some} are")),
            }
        },
    )
    .await?;
    let before = ground.pairs("order", &all).await?;
    namespaces.delete(&name, &DeleteParams::default()).await?;
    gone(&namespaces, &name).await?;
    nothing_but(&there, &BTreeSet::new()).await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, &all)
}

async fn delete(ground: &Ground<'_>, order: &str, how: DeleteParams) -> Result<()> {
    ground.api::<Order>().delete(order, &how).await?;
    Ok(())
}

/// Waits until of korder's Tickets and Guardians only these are left.
async fn nothing_but(ground: &Ground<'_>, wanted: &BTreeSet<String>) -> Result<()> {
    wait::until(SOON, "only what is wanted to be left", async || {
        same("what is left", &ground.left().await?, wanted)
    })
    .await?;
    let pods = ground
        .api::<Pod>()
        .list(&ListParams::default())
        .await?
        .items
        .len();
    same("the number of Pods", &pods, &(wanted.len() / 2))
}

async fn gone<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    wait::until(SOON, &format!("{name} to be gone"), async || {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}
