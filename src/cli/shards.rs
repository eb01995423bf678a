//! `korder shards`: who owns which shard, its range of hashes, and what it holds.
//!
//! Reads the Shard objects and, as far as there are any, the Leases. It writes nothing.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    Output,
    cluster::{Cluster, NOT_FOUND, not_installed, pages},
    say,
};
use crate::{
    api::{self, ANNOTATION_SHARDS, LABEL_PAGE, ShardStatus},
    domain::values::shard::{ShardCount, ShardId},
    runtime::{config::namespace, error::one_line},
};

mod text;

/// Flags of `korder shards`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Request {
    /// Namespace of korder's Leases and Shard objects [default: POD_NAMESPACE, else korder-system]
    #[arg(short, long, env = "KORDER_NAMESPACE")]
    namespace: Option<String>,
    /// The --shards that the controller runs with [default: what the Leases record]
    #[arg(long, env = "KORDER_SHARDS")]
    shards: Option<ShardCount>,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    server_time: String,
    namespace: String,
    count: u16,
    shards: Vec<ShardReport>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardReport {
    shard: u16,
    range: Range,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseReport>,
}

/// The hashes of a shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Range {
    from: String,
    to: String,
}

/// What the owner says of a shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    owner: String,
    nodes: u32,
    tickets: u32,
    reserved: u32,
    claimed: u32,
    pending: u32,
    queue: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_time: Option<String>,
}

/// The lock of a shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<i64>,
}

/// Answers, or says in one line on standard error why it cannot.
pub(crate) async fn shards(request: Request) -> ExitCode {
    let output = request.output;
    match answer(request).await {
        Ok(answer) => {
            match output {
                Output::Json => {
                    let json = serde_json::to_string_pretty(&answer);
                    say(&(json.expect("maps with string keys serialize") + "\n"));
                }
                Output::Text => say(&text::render(&answer)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("korder: {}", one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn answer(request: Request) -> anyhow::Result<Answer> {
    let namespace = namespace(request.namespace);
    let cluster = Cluster::connect(Some(namespace.clone())).await?;
    let totals = totals(&cluster).await?;
    if totals.is_empty() {
        bail!(
            "no Shard objects in namespace {namespace}: is `korder run` up, and is this its --namespace? Name another with -n"
        );
    }
    let leases = leases(&cluster).await?;
    let count = request
        .shards
        .or_else(|| recorded(&leases))
        .unwrap_or_else(|| least(totals.keys().chain(leases.keys())));
    let now = cluster.now().server;
    let report = |shard: ShardId| {
        let (from, to) = count.range(shard);
        ShardReport {
            shard: shard.0,
            range: Range {
                from: format!("0x{from:016x}"),
                to: format!("0x{to:016x}"),
            },
            totals: totals.get(&shard).map(|status| Totals {
                owner: status.owner.clone(),
                nodes: status.nodes,
                tickets: status.tickets,
                reserved: status.reserved,
                claimed: status.claimed,
                pending: status.pending,
                queue: status.queue,
                updated_time: status.updated_time.as_ref().map(|time| time.0.to_string()),
            }),
            lease: leases.get(&shard).map(|lease| lease_report(lease, now)),
        }
    };
    Ok(Answer {
        server_time: now.to_string(),
        count: count.get(),
        shards: count.all().map(report).collect(),
        namespace,
    })
}

/// The totals by shard. Pages are left out by their label.
async fn totals(cluster: &Cluster) -> anyhow::Result<BTreeMap<ShardId, ShardStatus>> {
    let objects: Api<api::Shard> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut totals = BTreeMap::new();
    let listed = pages(
        &objects,
        ListParams::default().labels(&format!("!{LABEL_PAGE}")),
        |object| {
            if object.spec.page.is_none() {
                totals.insert(ShardId(object.spec.shard), object.status.unwrap_or_default());
            }
        },
    )
    .await;
    match listed {
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Err(not_installed::<api::Shard>()),
        Err(error) => Err(cluster.failed("list shards", error)),
        Ok(()) => Ok(totals),
    }
}

/// The Leases of shards. Who may not read them does without.
async fn leases(cluster: &Cluster) -> anyhow::Result<BTreeMap<ShardId, Lease>> {
    let objects: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut leases = BTreeMap::new();
    let listed = pages(&objects, ListParams::default(), |lease| {
        if let Some(shard) = locked(&lease.name_any()) {
            leases.insert(shard, lease);
        }
    })
    .await;
    match listed {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | NOT_FOUND) => Ok(BTreeMap::new()),
        Err(error) => Err(cluster.failed("list leases", error)),
        Ok(()) => Ok(leases),
    }
}

/// The shard that a Lease of this name locks.
fn locked(name: &str) -> Option<ShardId> {
    let digits = name.strip_prefix("korder-shard-")?;
    digits.parse().ok().map(ShardId)
}

/// The number of shards that the Leases record.
fn recorded(leases: &BTreeMap<ShardId, Lease>) -> Option<ShardCount> {
    let number = |lease: &Lease| lease.annotations().get(ANNOTATION_SHARDS)?.parse().ok();
    leases
        .values()
        .filter_map(number)
        .max_by_key(|count: &ShardCount| count.get())
}

/// The least number of shards among which all of these can be.
fn least<'a>(shards: impl Iterator<Item = &'a ShardId>) -> ShardCount {
    let greatest = shards.map(|shard| shard.0).max().unwrap_or_default();
    let count = (greatest.min(1023) + 1).next_power_of_two();
    ShardCount::try_from(count).expect("a power of two up to 1024")
}

fn lease_report(lease: &Lease, now: Timestamp) -> LeaseReport {
    let spec = lease.spec.clone().unwrap_or_default();
    let renewed = spec.renew_time.map(|time| time.0);
    LeaseReport {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renew_time: renewed.map(|time| time.to_string()),
        age_seconds: renewed.map(|time| now.duration_since(time).as_secs().max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_shards_is_read_from_what_is_there() {
        for (greatest, count) in [(0, 1), (1, 2), (62, 64), (63, 64), (64, 128), (60_000, 1024)] {
            assert_eq!(least([ShardId(greatest)].iter()).get(), count, "{greatest}");
        }
    }

    #[test]
    fn the_number_that_leases_record_counts_whatever_objects_were_left() {
        let lease = |shards: &str| {
            let mut lease = Lease::default();
            lease
                .annotations_mut()
                .insert(ANNOTATION_SHARDS.to_owned(), shards.to_owned());
            lease
        };
        let leases = BTreeMap::from([(ShardId(0), lease("32")), (ShardId(1), lease("x"))]);
        assert_eq!(recorded(&leases).map(ShardCount::get), Some(32));
        assert_eq!(recorded(&BTreeMap::new()), None);
    }

    #[test]
    fn only_leases_of_shards_lock_shards() {
        assert_eq!(locked("korder-shard-07"), Some(ShardId(7)));
        assert_eq!(locked("korder-replica-7"), None);
        assert_eq!(locked("korder-shard-x"), None);
    }
}
