//! What korder may do compared with what it does over the whole run, for which some trials bring about what is
//! rare: that somebody else writes what it writes, and that it meets a Ticket of a Node it has never seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    rbac::v1::{ClusterRole, Role},
};
use korder::api::{Shard, Ticket};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{AuditEntry, Mark, wait};
use tokio::task::JoinSet;

use super::{
    fleet::{published, shared_by},
    names,
    world::{Ground, KORDER, SOON, World, same},
};
use crate::harness::{Harness, alone, e2e, last};

/// A uid that no Node has.
const NOBODY: &str = "11111111-2222-3333-4444-555555555555";

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![e2e(
        harness,
        "rbac",
        "ticket_of_an_unknown_node_goes_after_a_look_for_the_node",
        unknown_node,
    )]
}

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        alone(harness, "rbac", "lease_without_its_label_is_kept", unlabelled),
        alone(
            harness,
            "rbac",
            "shard_object_that_others_write_is_read_again",
            contended,
        ),
    ]
}

/// The last of all trials.
pub(crate) fn review(harness: &Arc<Harness>) -> Trial {
    last(harness, "rbac", "granted_verbs_are_those_used", granted)
}

/// A Ticket for a Node that korder has never seen may be one of a list that lacks the Node.
async fn unknown_node(ground: &Ground<'_>) -> Result<()> {
    let nodes = ground.nodes(1).await?;
    ground.ask("order", json!({})).await?;
    let pairs = ground.pairs("order", &nodes).await?;
    let mark = ground.audit().settled_mark().await?;
    let mut ticket = pairs[&ground.node(0)].ticket.clone();
    let (order, node) = (
        ticket.owner_references()[0].uid.clone(),
        format!("{}-nobody", ground.id),
    );
    ticket.spec.node_name.clone_from(&node);
    ticket.spec.node_uid = NOBODY.to_owned();
    ticket.status = None;
    let labels = ticket.labels_mut();
    labels.insert("korder.dev/node-uid".to_owned(), NOBODY.to_owned());
    labels.insert("korder.dev/shard".to_owned(), names::shard(NOBODY));
    ticket.metadata.name = Some(names::ticket("order", &order, NOBODY, 0));
    (ticket.metadata.uid, ticket.metadata.resource_version) = (None, None);
    let tickets: Api<Ticket> = ground.api();
    let name = tickets.create(&PostParams::default(), &ticket).await?.name_any();
    wait::until(SOON, "the Ticket to go", async || {
        ensure!(tickets.get_opt(&name).await?.is_none(), "{name} is there");
        anyhow::Ok(())
    })
    .await?;
    ground.audit().settled_mark().await?;
    let entries = ground.audit().entries_since(mark, KORDER)?;
    let look = first(&entries, "get", "nodes", &node).context("nobody looked for the Node")?;
    let removal = first(&entries, "delete", "tickets", &name).context("korder did not remove it")?;
    ensure!(look.code == 404, "a Node {node}: {look:#?}");
    ensure!(
        look.completed <= removal.received,
        "removed before the look: {removal:#?}"
    );
    ground.pairs("order", &nodes).await.map(|_| ())
}

fn first<'a>(entries: &'a [AuditEntry], verb: &str, resource: &str, name: &str) -> Option<&'a AuditEntry> {
    let wanted = |entry: &&AuditEntry| entry.verb == verb && entry.resource == resource && entry.name == name;
    entries.iter().find(wanted)
}

/// Without its label the watch shows no Lease any more, and it cannot be made again: only a look tells its holder
/// what there is.
async fn unlabelled(ground: &Ground<'_>) -> Result<()> {
    let mark = ground.audit().settled_mark().await?;
    let leases = home::<Lease>(ground);
    let name = "korder-shard-00";
    let strip = Patch::Merge(json!({ "metadata": { "labels": null } }));
    leases.patch(name, &PatchParams::default(), &strip).await?;
    wait::until(SOON, "the label to be back", async || {
        let lease = leases.get(name).await?;
        let kind = lease.labels().get("korder.dev/lease").cloned();
        same("the label", &kind.as_deref(), &Some("shard"))
    })
    .await?;
    shared_by(ground, &["korder"]).await?;
    ground.audit().settled_mark().await?;
    let entries = ground.audit().entries_since(mark, KORDER)?;
    first(&entries, "get", "leases", name).context("nobody looked")?;
    Ok(())
}

/// Somebody annotates Shard objects all the time: korder, refused with 409, reads them and goes on from there.
async fn contended(ground: &Ground<'_>) -> Result<()> {
    let nodes = ground.nodes(5).await?;
    let order = ground.ask("order", json!({})).await?;
    published(ground, &order, nodes.len()).await?;
    let pairs = ground.pairs("order", &nodes).await?;
    let shards: BTreeSet<&String> = pairs
        .values()
        .map(|pair| &pair.ticket.labels()["korder.dev/shard"])
        .collect();
    let mark = ground.audit().settled_mark().await?;
    let mut others = JoinSet::new();
    for shard in shards {
        for object in [format!("shard-{shard:0>2}"), format!("shard-{shard:0>2}-p0")] {
            others.spawn(annotate(home(ground), object));
        }
    }
    // Something to say in all of them.
    let other = ground.ask("other", json!({})).await?;
    wait::until(SOON, "a Shard object to be read after a conflict", async || {
        let entries = ground.audit().entries_since(mark, KORDER)?;
        let mut conflicts = entries
            .iter()
            .filter(|entry| entry.resource == "shards" && entry.is_write() && entry.code == 409);
        let read = conflicts.any(|conflict| first(&entries, "get", "shards", &conflict.name).is_some());
        ensure!(read, "none yet");
        anyhow::Ok(())
    })
    .await?;
    others.shutdown().await;
    published(ground, &other, nodes.len()).await
}

/// Objects of korder's namespace.
fn home<K>(ground: &Ground<'_>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(ground.client(), "korder-system")
}

/// Changes an object as fast as it goes, until it is stopped.
async fn annotate(api: Api<Shard>, name: String) {
    for n in 0_u64.. {
        let change = json!({ "metadata": { "annotations": { "trial": n.to_string() } } });
        // A refusal would show as a trial that waits in vain.
        let _ = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(change))
            .await;
    }
}

/// What is allowed or was done: verbs by group and resource.
type Verbs = BTreeMap<(String, String), BTreeSet<String>>;

/// Looks back over all trials before.
async fn granted(worlds: &[&World], complete: bool) -> Result<()> {
    let (mut granted, mut used) = (Verbs::new(), Verbs::new());
    for world in worlds {
        for (all, verbs) in [
            (&mut granted, grants(world).await?),
            (&mut used, uses(&asked(world).await?)),
        ] {
            for (resource, verbs) in verbs {
                all.entry(resource).or_default().extend(verbs);
            }
        }
    }
    let mut differ = Vec::new();
    for key in granted.keys().chain(used.keys()).collect::<BTreeSet<_>>() {
        let [granted, used] = [&granted, &used].map(|verbs| verbs.get(key).cloned().unwrap_or_default());
        eprintln!("{:16} granted {granted:?}, used {used:?}", key.1);
        if granted != used {
            differ.push(key);
        }
    }
    if complete {
        ensure!(differ.is_empty(), "granted and used are not the same: {differ:?}");
    } else {
        eprintln!("not all trials have run: what was not used is not judged");
    }
    Ok(())
}

/// All that korder asked for on a plane, of which nothing was forbidden.
async fn asked(world: &World) -> Result<Vec<AuditEntry>> {
    let audit = world.plane.audit();
    audit.settled_mark().await?;
    let all = audit.entries_since(Mark::START, KORDER)?;
    ensure!(!all.is_empty(), "korder did nothing at all");
    let away = world.away.lock().await.clone();
    let served = |entry: &&AuditEntry| {
        away.iter()
            .all(|(from, to)| entry.received < *from || entry.received > *to)
    };
    let forbidden: Vec<_> = all
        .iter()
        .filter(|entry| entry.forbidden)
        .filter(served)
        .collect();
    let first = forbidden
        .first()
        .map(|entry| (&entry.verb, &entry.resource, &entry.uri));
    ensure!(
        forbidden.is_empty(),
        "{} requests were forbidden, the first {first:?}",
        forbidden.len()
    );
    Ok(all)
}

/// What the roles of the controller allow.
async fn grants(world: &World) -> Result<Verbs> {
    let client = world.plane.client();
    let everywhere: ClusterRole = Api::all(client.clone()).get("korder-controller").await?;
    let own: Role = Api::namespaced(client, "korder-system")
        .get("korder-controller")
        .await?;
    let mut granted = Verbs::new();
    for rule in everywhere.rules.into_iter().chain(own.rules).flatten() {
        let resources = rule.resources.unwrap_or_default();
        for group in rule.api_groups.unwrap_or_default() {
            for resource in &resources {
                let verbs = granted.entry((group.clone(), resource.clone())).or_default();
                verbs.extend(rule.verbs.iter().cloned());
            }
        }
    }
    Ok(granted)
}

/// What was asked for, whatever the answer; paths that are no resources need no rule of korder's.
fn uses(entries: &[AuditEntry]) -> Verbs {
    let mut used = Verbs::new();
    for entry in entries.iter().filter(|entry| !entry.resource.is_empty()) {
        let slash = if entry.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", entry.resource, entry.subresource);
        let verbs = used.entry((entry.group.clone(), resource)).or_default();
        verbs.insert(entry.verb.clone());
    }
    used
}
