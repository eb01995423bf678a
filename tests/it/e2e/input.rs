//! Bad input: each is refused or shown with a message that names field and remedy, and nothing else
//! suffers.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, ResourceQuota},
        events::v1::Event,
        scheduling::v1::PriorityClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use korder::api::{Order, Ticket};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use libtest_mimic::Trial;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::real::{Mark, NodeSpec, wait};

use super::{
    expect::{Pair, Pairs, untouched},
    names,
    world::{Ground, KORDER, SOON, condition, merge, same},
};
use crate::harness::{Harness, alone, e2e};

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(harness, "input", "refused_order_names_field_and_remedy", refused),
        e2e(
            harness,
            "input",
            "order_name_has_63_characters_at_most",
            order_names,
        ),
        e2e(harness, "input", "invalid_spec_keeps_tickets", invalid_spec),
        e2e(harness, "input", "taken_names_are_never_touched", taken_names),
        e2e(
            harness,
            "input",
            "stripped_ticket_labels_are_put_back",
            ticket_labels,
        ),
        e2e(
            harness,
            "input",
            "stripped_guardian_labels_are_put_back",
            guardian_labels,
        ),
        e2e(
            harness,
            "input",
            "unknown_priority_class_is_shown_and_backs_off",
            priority_class,
        ),
        e2e(harness, "input", "used_up_quota_is_shown_and_backs_off", quota),
        e2e(harness, "input", "node_with_300_labels", many_labels),
        e2e(harness, "input", "node_name_of_253_characters", long_node_name),
    ]
}

/// Those that change what all Orders share.
pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![alone(
        harness,
        "input",
        "undecodable_order_stops_no_other",
        undecodable,
    )]
}

/// What is wrong (merged into a good Order's `spec`), and what the API server's answer must contain.
fn mistakes() -> Vec<(Value, [&'static str; 2])> {
    let template = |spec: Value| json!({ "template": { "spec": spec } });
    let affinity = |expression: Value| {
        template(
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } } } }),
        )
    };
    let metadata = |key: &str| json!({ "template": { "metadata": { key: { "korder.dev/order": "x" } } } });
    vec![
        (
            json!({ "daemonSet": false }),
            ["spec.daemonSet", "set spec.daemonSet: true"],
        ),
        (
            json!({ "daemonSet": null }),
            ["spec.daemonSet", "set spec.daemonSet: true"],
        ),
        (
            json!({ "strategy": { "type": "Recurring" } }),
            ["spec.strategy", "schedule is required"],
        ),
        (
            json!({ "strategy": { "type": "Scheduled", "schedule": "0 * * * *" } }),
            ["duration", "such as 1h30m"],
        ),
        (
            template(json!({ "duration": "soon" })),
            ["duration", "such as 24h"],
        ),
        (
            template(json!({ "duration": "-24h" })),
            ["duration", "not negative"],
        ),
        (template(json!({ "duration": "0s" })), ["duration", "at least 1s"]),
        (
            template(json!({ "duration": "9999999h" })),
            ["duration", "such as 24h"],
        ),
        (
            template(json!({ "startTime": "tomorrow" })),
            ["startTime", "date-time"],
        ),
        (
            template(json!({ "startTime": "9999-12-31T23:59:59Z" })),
            ["startTime", "spec.paused"],
        ),
        (
            template(json!({ "lifecycle": { "ttlSecondsAfterFinished": -1 } })),
            ["ttlSecondsAfterFinished", "greater than or equal to 0"],
        ),
        (
            template(json!({ "lifecycle": { "cleanupPolicy": "Burn" } })),
            ["cleanupPolicy", "\"Delete\", \"Retain\""],
        ),
        (
            json!({ "strategy": { "refreshPolicy": "Sometimes" } }),
            ["refreshPolicy", "\"OnClaim\""],
        ),
        (
            template(json!({ "resources": { "requests": { "cpu": "lots" } } })),
            ["requests", "such as 100m"],
        ),
        (
            template(json!({ "resources": { "requests": { "cpu": "-1" } } })),
            ["requests", "not negative"],
        ),
        (
            template(json!({ "resources": { "limits": { "cpu": "1m" } } })),
            ["requests", "raise the limit or lower the request"],
        ),
        (
            affinity(json!({ "key": "a", "operator": "Gt", "values": ["many"] })),
            ["values", "whole number"],
        ),
        (
            affinity(json!({ "key": "a", "operator": "In", "values": [] })),
            ["values", "at least one value"],
        ),
        (
            affinity(json!({ "key": "a", "operator": "Near", "values": ["b"] })),
            ["operator", "supported values"],
        ),
        (metadata("labels"), ["labels", "remove them from the template"]),
        (
            metadata("annotations"),
            ["annotations", "remove them from the template"],
        ),
    ]
}

async fn refused(ground: &Ground<'_>) -> Result<()> {
    for (mistake, wanted) in mistakes() {
        let mut order = ground.order("order", json!({}));
        merge(&mut order["spec"], mistake.clone());
        match ground.create(&order).await {
            Err(kube::Error::Api(status)) if status.code == 422 => {
                let missing = wanted.iter().find(|part| !status.message.contains(**part));
                ensure!(
                    missing.is_none(),
                    "{mistake}: no {missing:?} in {}",
                    status.message
                );
            }
            other => bail!("{mistake}: {other:?}"),
        }
    }
    Ok(())
}

async fn order_names(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(1).await?;
    let (longest, too_long) = ("o".repeat(63), "o".repeat(64));
    match ground.create(&ground.order(&too_long, json!({}))).await {
        Err(kube::Error::Api(status)) => {
            let said = &status.message;
            ensure!(
                said.contains("metadata.name") && said.contains("choose a shorter name"),
                "{said}"
            );
        }
        other => bail!("{other:?}"),
    }
    ground.ask(&longest, json!({})).await?;
    ground.pairs(&longest, &all).await?;
    Ok(())
}

/// A malformed cron or time zone passes the schema; the Order says so and keeps what it has, and a
/// good spec heals it.
async fn invalid_spec(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let bad = [
        (
            json!({ "type": "Recurring", "schedule": "whenever" }),
            "spec.strategy.schedule",
        ),
        (json!({ "schedule": "0 0 31 2 *" }), "spec.strategy.schedule"),
        (json!({ "schedule": "*/0 * * * *" }), "spec.strategy.schedule"),
        (json!({ "schedule": "0 0 * *" }), "spec.strategy.schedule"),
        (json!({ "schedule": "0 0 0 * * *" }), "spec.strategy.schedule"),
        (json!({ "schedule": "@fortnightly" }), "spec.strategy.schedule"),
        (
            json!({ "schedule": "TZ=UTC 0 0 * * *" }),
            "spec.strategy.timeZone",
        ),
        (
            json!({ "schedule": "0 * * * *", "timeZone": "Mars/Olympus" }),
            "spec.strategy.timeZone",
        ),
    ];
    for (strategy, field) in bad {
        ground.edit("order", json!({ "strategy": strategy })).await?;
        let order = ground.ready_reason("order", "InvalidSpec").await?;
        let said = condition(&order, "Ready")
            .map(|said| said.message.clone())
            .unwrap_or_default();
        ensure!(said.contains(field), "{said}");
    }
    ground.add([ground.spec(2)]).await?;
    ground.ask("witness", json!({})).await?;
    ground.pairs("witness", &ground.names(0..3)).await?;
    let during = ground.pairs("order", &all).await?;
    untouched(&before, &during, &all)?;
    let good = json!({ "type": "OneTime", "schedule": null, "timeZone": null });
    ground.edit("order", json!({ "strategy": good })).await?;
    let after = ground.pairs("order", &ground.names(0..3)).await?;
    untouched(&before, &after, &all)?;

    let mut new = ground.order("new", json!({}));
    new["spec"]["strategy"] = json!({ "type": "Recurring", "schedule": "61 * * * *" });
    ground.create(&new).await?;
    ground.ready_reason("new", "InvalidSpec").await?;
    ground.pairs("new", &ground.names([])).await?;
    Ok(())
}

async fn taken_names(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    let mut order = ground.order("order", json!({}));
    order["spec"]["paused"] = json!(true);
    let order_uid = ground.create(&order).await?.uid().context("no uid")?;
    let name_for = async |n: usize| {
        let node: Node = Api::all(ground.client()).get(&ground.node(n)).await?;
        anyhow::Ok((
            names::ticket("order", &order_uid, &node.uid().unwrap_or_default(), 0),
            node,
        ))
    };
    let (ticket_name, node) = name_for(0).await?;
    let foreign_ticket = json!({
        "apiVersion": "core.korder.dev/v1alpha1", "kind": "Ticket",
        "metadata": { "name": ticket_name },
        "spec": { "nodeName": node.name_any(), "nodeUID": node.uid(), "sequence": 0, "templateHash": "mine" },
    });
    let tickets: Api<Ticket> = ground.api();
    let ticket = tickets
        .create(&PostParams::default(), &serde_json::from_value(foreign_ticket)?)
        .await?;
    let (other, _) = name_for(1).await?;
    let pods: Api<Pod> = ground.api();
    let pod = pods
        .create(
            &PostParams::default(),
            &foreign_pod(&format!("guardian-{other}"))?,
        )
        .await?;

    ground.edit("order", json!({ "paused": false })).await?;
    let order = ground
        .order_says("order", "two names to be taken", |order| {
            let status = order.status.clone().unwrap_or_default();
            let taken = status
                .unavailable_reasons
                .iter()
                .find(|reason| reason.reason == "NameTaken");
            same("NameTaken", &taken.map(|reason| reason.count), &Some(2))
        })
        .await?;
    same(
        "availableReplicas",
        &order.status.unwrap_or_default().available_replicas,
        &1,
    )?;
    event(
        ground,
        "NameTaken",
        "delete it, or make it again under another name",
    )
    .await?;
    let said = wait::until(SOON, "the Ticket to say NameTaken", async || {
        let ticket = tickets.get(&other).await?;
        let status = ticket.status.unwrap_or_default();
        match status.reason.as_deref() {
            Some("NameTaken") => Ok(status.message.unwrap_or_default()),
            other => Err(anyhow!("it says {other:?}")),
        }
    });
    let said = said.await?;
    ensure!(said.contains(&format!("guardian-{other}")), "{said}");
    same(
        "the foreign Ticket",
        &tickets.get(&ticket_name).await?.metadata,
        &ticket.metadata,
    )?;
    let now = pods.get(&pod.name_any()).await?;
    same("the foreign Pod's uid", &now.uid(), &pod.uid())?;
    same("the foreign Pod's labels", now.labels(), pod.labels())?;

    tickets.delete(&ticket_name, &DeleteParams::default()).await?;
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await?;
    ground.pairs("order", &all).await?;
    Ok(())
}

fn foreign_pod(name: &str) -> Result<Pod> {
    let unprivileged = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let security = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "securityContext": security,
            "containers": [{ "name": "c", "image": "i", "securityContext": unprivileged }],
        },
    }))?)
}

async fn ticket_labels(ground: &Ground<'_>) -> Result<()> {
    let keys = ["order", "order-uid", "node-uid", "shard"];
    let (before, after) = stripped::<Ticket>(ground, keys, Pair::ticket_name).await?;
    for (node, pair) in &after {
        same("the Ticket's uid", &pair.ticket_uid(), &before[node].ticket_uid())?;
        same(
            "the Guardian",
            &pair.guardian.metadata,
            &before[node].guardian.metadata,
        )?;
    }
    Ok(())
}

async fn guardian_labels(ground: &Ground<'_>) -> Result<()> {
    let keys = ["guardian", "ticket", "order-uid", "shard"];
    let (before, after) = stripped::<Pod>(ground, keys, Pair::guardian_name).await?;
    for (node, pair) in &after {
        same(
            "the Guardian's uid",
            &pair.guardian_uid(),
            &before[node].guardian_uid(),
        )?;
        same("the Ticket", &pair.ticket.metadata, &before[node].ticket.metadata)?;
    }
    Ok(())
}

/// Takes each of `keys` off one node's object, all of them off another's, and none off a third's;
/// gives the pairs before, and once they are as they must be again.
async fn stripped<K>(
    ground: &Ground<'_>,
    keys: [&str; 4],
    name: fn(&Pair) -> String,
) -> Result<(Pairs, Pairs)>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let all = ground.nodes(6).await?;
    ground.ask("order", json!({})).await?;
    let before = ground.pairs("order", &all).await?;
    let keys = keys.map(|key| format!("korder.dev/{key}"));
    let objects: Api<K> = ground.api();
    let strip = async |n: usize, keys: &[String]| {
        let labels: BTreeMap<_, Option<&str>> = keys.iter().map(|key| (key, None)).collect();
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let name = name(&before[&ground.node(n)]);
        objects.patch(&name, &PatchParams::default(), &patch).await
    };
    for n in 0..4 {
        strip(n, &keys[n..=n]).await?;
    }
    strip(4, &keys).await?;
    let after = ground.pairs("order", &all).await?;
    untouched(&before, &after, [&ground.node(5)])?;
    Ok((before, after))
}

async fn priority_class(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    let class = format!("{}-late", ground.id);
    let mark = ground.audit().settled_mark().await?;
    let order = ground.ask("order", json!({ "priorityClassName": class })).await?;
    refusals(ground, &order, mark, &class).await?;
    let late = json!({ "metadata": { "name": class }, "value": 7 });
    let classes: Api<PriorityClass> = Api::all(ground.client());
    classes
        .create(&PostParams::default(), &serde_json::from_value(late)?)
        .await?;
    ground.pairs("order", &all).await?;
    classes.delete(&class, &DeleteParams::default()).await?;
    Ok(())
}

async fn quota(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    let quotas: Api<ResourceQuota> = ground.api();
    let none = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "0" } } });
    quotas
        .create(&PostParams::default(), &serde_json::from_value(none)?)
        .await?;
    wait::until(SOON, "the quota to be counted", async || {
        quotas
            .get("tight")
            .await
            .is_ok_and(|quota| quota.status.and_then(|status| status.used).is_some())
    })
    .await?;
    let mark = ground.audit().settled_mark().await?;
    let order = ground.ask("order", json!({})).await?;
    refusals(ground, &order, mark, "exceeded quota").await?;
    quotas.delete("tight", &DeleteParams::default()).await?;
    ground.pairs("order", &all).await?;
    Ok(())
}

/// The Guardians of two nodes are refused: Tickets, Order and an Event say why, and korder tries ever
/// more rarely.
async fn refusals(ground: &Ground<'_>, order: &Order, mark: Mark, why: &str) -> Result<()> {
    wait::until(SOON, "both Tickets to say GuardianRefused", async || {
        let waiting = ground.waiting(order).await?;
        let right = waiting
            .iter()
            .filter(|(_, reason, said)| reason == "GuardianRefused" && said.contains(why));
        ensure!(right.count() == 2, "they say {waiting:?}");
        anyhow::Ok(())
    })
    .await?;
    ground
        .order_says(&order.name_any(), "the Order to say GuardianRefused", |order| {
            let status = order.status.clone().unwrap_or_default();
            let refused = status
                .unavailable_reasons
                .iter()
                .find(|reason| reason.reason == "GuardianRefused");
            same("GuardianRefused", &refused.map(|reason| reason.count), &Some(2))
        })
        .await?;
    event(ground, "GuardianRefused", why).await?;
    let audit = ground.audit();
    audit.settled_mark().await?;
    let mut creates = audit.writes_since(mark, KORDER)?;
    creates
        .retain(|write| write.namespace == ground.id && write.resource == "pods" && write.verb == "create");
    for node in creates
        .iter()
        .map(|write| &write.name)
        .collect::<std::collections::BTreeSet<_>>()
    {
        let times: Vec<_> = creates
            .iter()
            .filter(|write| write.name == *node)
            .map(|write| write.received)
            .collect();
        ensure!(times.len() >= 2, "{node} was tried once");
        for (n, pair) in times.windows(2).enumerate() {
            let least = Duration::from_secs(1 << n.min(8));
            ensure!(
                pair[1].duration_since(pair[0]).unsigned_abs() >= least,
                "{node} was tried at {times:?}"
            );
        }
    }
    Ok(())
}

/// Waits for an Event on the trial's Orders.
pub(super) async fn event(ground: &Ground<'_>, reason: &str, note: &str) -> Result<()> {
    let events: Api<Event> = ground.api();
    wait::until(SOON, &format!("the Event {reason}"), async || {
        let seen = events.list(&ListParams::default()).await?.items;
        let said = |event: &Event| event.note.clone().unwrap_or_default();
        let right = seen
            .iter()
            .any(|event| event.reason.as_deref() == Some(reason) && said(event).contains(note));
        ensure!(right, "Events: {:?}", seen.iter().map(said).collect::<Vec<_>>());
        anyhow::Ok(())
    })
    .await
}

async fn many_labels(ground: &Ground<'_>) -> Result<()> {
    let label =
        |spec: NodeSpec, n: usize| spec.label(&format!("example.com/label-{n}"), &format!("value-{n}"));
    ground
        .add([(0..300).fold(ground.spec(0), label), ground.spec(1)])
        .await?;
    ground
        .ask(
            "order",
            json!({ "nodeSelector": { "example.com/label-299": "value-299" } }),
        )
        .await?;
    ground.pairs("order", &ground.names([0])).await?;
    Ok(())
}

async fn long_node_name(ground: &Ground<'_>) -> Result<()> {
    let name = format!("{:n<253}", format!("{}.", ground.id));
    let long = NodeSpec::new(&name)
        .label("test", &ground.id)
        .label("kubernetes.io/hostname", &ground.id);
    ground.add([long]).await?;
    ground.ask("order", json!({})).await?;
    ground
        .pairs("order", &std::collections::BTreeSet::from([name]))
        .await?;
    Ok(())
}

/// The schema is loosened for a moment so that an Order can be stored that korder cannot decode.
async fn undecodable(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    ground.ask("good", json!({})).await?;
    ground.ask("turned", json!({})).await?;
    let before = ground.pairs("good", &all).await?;
    let turned = ground.pairs("turned", &all).await?;
    let crds: Api<CustomResourceDefinition> = Api::all(ground.client());
    let name = "orders.core.korder.dev";
    let strict = crds.get(name).await?;
    let loose = json!([{ "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }]);
    let loose = Patch::Json::<()>(serde_json::from_value(loose)?);
    crds.patch(name, &PatchParams::default(), &loose).await?;
    let mut bad = ground.order("bad", json!({}));
    bad["spec"] = json!({ "daemonSet": "perhaps", "template": 7 });
    let bad: DynamicObject = serde_json::from_value(bad)?;
    let stored = wait::until(SOON, "the bad Order to be stored", async || {
        ground
            .raw()
            .create(&PostParams::default(), &bad)
            .await
            .map(|_| ())
    });
    let stored = stored.await;
    let turn = Patch::Merge(json!({ "spec": { "template": { "spec": { "tolerations": "all" } } } }));
    let edited = ground.raw().patch("turned", &PatchParams::default(), &turn).await;
    let schema = &json!(strict)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let back = json!([{ "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": schema }]);
    let checked = async {
        stored?;
        edited?;
        ground.add([ground.spec(2)]).await?;
        ground.ask("later", json!({})).await?;
        ground.pairs("later", &ground.names(0..3)).await?;
        let after = ground.pairs("good", &ground.names(0..3)).await?;
        untouched(&before, &after, &all)?;
        let tickets: Api<Ticket> = ground.api();
        for pair in turned.values() {
            let now = tickets.get(&pair.ticket_name()).await?;
            same(
                "a Ticket of the turned Order",
                &now.metadata,
                &pair.ticket.metadata,
            )?;
        }
        for name in ["bad", "turned"] {
            wait::until(SOON, &format!("Order {name} to say InvalidSpec"), async || {
                let said = ground.raw().get(name).await?.data["status"].to_string();
                ensure!(said.contains("InvalidSpec"), "its conditions are {said}");
                anyhow::Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    };
    let checked = checked.await;
    for name in ["bad", "turned"] {
        // Gone before the schema forbids them; a failure shows in what follows.
        let _ = ground.raw().delete(name, &DeleteParams::default()).await;
    }
    crds.patch(
        name,
        &PatchParams::default(),
        &Patch::Json::<()>(serde_json::from_value(back)?),
    )
    .await?;
    let refusing = wait::until(SOON, "the schema to be strict again", async || {
        match ground
            .create(&ground.order(&"o".repeat(60), json!({ "duration": "soon" })))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(order) => {
                let deleted = ground
                    .api::<Order>()
                    .delete(&order.name_any(), &DeleteParams::default())
                    .await;
                Err(format!("taken; {deleted:?}"))
            }
        }
    });
    refusing.await?;
    checked
}
