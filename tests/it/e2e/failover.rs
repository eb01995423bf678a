//! How long a shard is without a decider when its replica goes: from then to the first write of the next one to
//! the shard's pairs, in lease durations. In between all its Guardians are deleted, so that there is something to
//! write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{AuditEntry, KorderProcess, Mark, wait};

use super::{
    disruption::setting,
    expect::Pairs,
    fleet::{join, leave, shared_by},
    history::{History, ShardLeases, of_pairs},
    world::{Ground, KORDER, SOON, now, same},
};
use crate::harness::{Harness, quiet};

/// How long a shard's Lease is valid.
const LEASE: Duration = Duration::from_secs(15);
const NODES: usize = 100;
const VICTIM: &str = "korder-1";
const REPLICAS: [&str; 3] = ["korder", VICTIM, "korder-2"];

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        quiet(
            harness,
            "failover",
            "after_a_crash_within_1.2_leases_of_the_last_renewal",
            crash,
        ),
        quiet(
            harness,
            "failover",
            "after_sigterm_once_the_last_write_has_ended",
            end,
        ),
        quiet(
            harness,
            "failover",
            "after_a_restart_in_place_by_the_same_replica",
            restart,
        ),
    ]
}

/// How a replica goes, and from when the time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// SIGKILL: from its last renewal, of its membership or a shard, for it may die in the middle of a round.
    Crash,
    /// SIGTERM: from the end of its last write to the shard.
    End,
    /// SIGKILL, and another process of its id: from the start of that.
    Restart,
}

/// 15 s pass by the protocol; what remains is for taking the Leases, the lists and the write.
async fn crash(ground: &Ground<'_>) -> Result<()> {
    failovers(ground, Loss::Crash, 1.2).await
}

async fn end(ground: &Ground<'_>) -> Result<()> {
    failovers(ground, Loss::End, 0.1).await
}

async fn restart(ground: &Ground<'_>) -> Result<()> {
    failovers(ground, Loss::Restart, 0.2).await
}

/// E2E_FAILOVERS times (1), one after the other. Once on a busy machine is no measure: then it is only seen that
/// nobody waits for the Lease to expire.
async fn failovers(ground: &Ground<'_>, loss: Loss, most: f64) -> Result<()> {
    let names = ground.world.crowd(NODES).await?;
    let mark = ground.audit().settled_mark().await?;
    let (mut victim, other) = (join(ground, VICTIM).await?, join(ground, REPLICAS[2]).await?);
    ground.ask_crowd("order", NODES, json!({})).await?;
    let before = ground.pairs("order", &names).await?;
    let count = setting("E2E_FAILOVERS", 1);
    let most = if count < 5 { most.max(0.9) } else { most };
    let mut took = Vec::new();
    for _ in 0..count {
        let lost = Lost::now(ground, mark).await?;
        took.extend(lost.see(&mut victim, loss).await?);
        if loss != Loss::Restart {
            victim.restart()?;
        }
        victim.wait_ready(SOON).await?;
        let after = ground.pairs("order", &names).await?;
        same("the Tickets", &tickets(&after), &tickets(&before))?;
    }
    leave(victim).await?;
    leave(other).await?;
    shared_by(ground, &["korder"]).await?;
    let history = History::read(ground, mark).await?;
    history.proves_one_ticket_each()?;
    let entries = ground.audit().writes_since(mark, KORDER)?;
    let late = history.late_writes(&entries);
    ensure!(late.is_empty(), "written after another had the shard: {late:#?}");

    took.sort_by(f64::total_cmp);
    let (least, half, greatest) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    let shards = took.len();
    eprintln!(
        "{loss:?} {count} times, {shards} shards: {least:.3} / {half:.3} / {greatest:.3} lease durations (least, median, greatest)"
    );
    ensure!(greatest <= most, "{greatest:.3} lease durations, {most} allowed");
    Ok(())
}

fn tickets(pairs: &Pairs) -> BTreeSet<&str> {
    pairs.values().map(|pair| pair.ticket_uid()).collect()
}

/// A replica that is about to be lost.
struct Lost<'a> {
    ground: &'a Ground<'a>,
    /// Before its first renewal.
    mark: Mark,
    /// Its shards that have pairs: the Tickets of each.
    shards: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Lost<'a> {
    async fn now(ground: &'a Ground<'a>, mark: Mark) -> Result<Self> {
        let owners = shared_by(ground, &REPLICAS).await?;
        let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pair in ground.look("order").await?.into_values() {
            let shard = &pair.ticket.labels()["korder.dev/shard"];
            if owners[&format!("korder-shard-{shard:0>2}")] == VICTIM {
                shards
                    .entry(shard.clone())
                    .or_default()
                    .insert(pair.ticket_name());
            }
        }
        ensure!(!shards.is_empty(), "{VICTIM} has no pairs");
        Ok(Self { ground, mark, shards })
    }

    /// Loses it; how many lease durations each shard was without a decider.
    async fn see(&self, victim: &mut KorderProcess, loss: Loss) -> Result<Vec<f64>> {
        let start = match loss {
            Loss::Crash => {
                victim.kill9();
                let lost = now();
                self.meddle(&self.shards.keys().collect()).await?;
                lost
            }
            Loss::End => {
                // Some of the writes that these need are under way when it is told to end.
                self.meddle(&self.shards.keys().collect()).await?;
                now()
            }
            Loss::Restart => {
                victim.kill9();
                self.meddle(&self.shards.keys().collect()).await?;
                let started = now();
                victim.restart()?;
                started
            }
        };
        let ended = async {
            match loss {
                Loss::End => {
                    let status = victim.terminate(Duration::from_secs(20)).await?;
                    same("the exit code", &status.code(), &Some(0))
                }
                Loss::Crash | Loss::Restart => Ok(()),
            }
        };
        let (entries, ()) = tokio::try_join!(self.taken_over(start, loss), ended)?;
        self.shards
            .keys()
            .map(|shard| {
                let write = self
                    .first_write(&entries, shard, start, loss)?
                    .context("just seen")?;
                let since = self.since(&entries, shard, start, loss)?;
                let took = write.completed.duration_since(since);
                Ok(took.as_secs_f64() / LEASE.as_secs_f64())
            })
            .collect()
    }

    /// Waits until every shard has been written to by its next owner; what was written until then.
    async fn taken_over(&self, start: Timestamp, loss: Loss) -> Result<Vec<AuditEntry>> {
        wait::until(LEASE * 4, "every shard to be written to", async || {
            let entries = self.ground.audit().writes_since(self.mark, KORDER)?;
            let mut left = BTreeSet::new();
            for shard in self.shards.keys() {
                if self.first_write(&entries, shard, start, loss)?.is_none() {
                    left.insert(shard);
                }
            }
            // Those that the old owner has made again meanwhile.
            self.meddle(&left).await?;
            ensure!(left.is_empty(), "nothing in shards {left:?}");
            Ok(entries)
        })
        .await
    }

    /// The first write to pairs of the shard that landed after its loss and was not the old owner's: its replica
    /// must have taken the Lease before.
    fn first_write<'e>(
        &self,
        entries: &'e [AuditEntry],
        shard: &str,
        start: Timestamp,
        loss: Loss,
    ) -> Result<Option<&'e AuditEntry>> {
        let new =
            |entry: &&AuditEntry| (loss == Loss::Restart || !of_victim(entry)) && entry.received > start;
        let Some(write) = self
            .landed(entries, shard)
            .filter(new)
            .min_by_key(|entry| entry.received)
        else {
            return Ok(None);
        };
        let lease = ShardLeases::of(entries).last_before(shard, write);
        let lease = lease.context("the shard has no Lease")?;
        if lease.user_agent != write.user_agent || lease.received < start {
            bail!("written without the Lease of shard {shard}: {write:#?}\nthe Lease: {lease:#?}");
        }
        Ok(Some(write))
    }

    /// When the time began.
    fn since(&self, entries: &[AuditEntry], shard: &str, start: Timestamp, loss: Loss) -> Result<Timestamp> {
        let last = match loss {
            Loss::Restart => return Ok(start),
            Loss::Crash => entries
                .iter()
                .filter(|entry| entry.is_lease() && entry.code < 300 && of_victim(entry))
                .map(|entry| entry.completed)
                .max(),
            Loss::End => {
                let of_shard = self.landed(entries, shard).filter(|entry| of_victim(entry));
                of_shard.map(|entry| entry.completed).max().max(Some(start))
            }
        };
        last.context("it never held a Lease")
    }

    /// Writes to pairs of a shard that landed.
    fn landed<'e>(&self, entries: &'e [AuditEntry], shard: &str) -> impl Iterator<Item = &'e AuditEntry> {
        let tickets = self.shards[shard].clone();
        let of_shard = move |entry: &&AuditEntry| {
            let name = entry.name.strip_prefix("guardian-").unwrap_or(&entry.name);
            of_pairs(entry) && (200..300).contains(&entry.code) && tickets.contains(name)
        };
        entries.iter().filter(of_shard)
    }

    /// Deletes the Guardians of these shards.
    async fn meddle(&self, shards: &BTreeSet<&String>) -> Result<()> {
        if shards.is_empty() {
            return Ok(());
        }
        let pods: Api<Pod> = self.ground.api();
        let shards: Vec<&str> = shards.iter().map(|shard| shard.as_str()).collect();
        let those = format!("korder.dev/guardian,korder.dev/shard in ({})", shards.join(","));
        let there = pods.list_metadata(&ListParams::default().labels(&those)).await?;
        let delete =
            async |name: String| match pods.delete(&name, &DeleteParams::default().grace_period(0)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                done => done.map(|_| ()),
            };
        stream::iter(there.iter().map(ResourceExt::name_any))
            .map(delete)
            .buffer_unordered(16)
            .try_collect()
            .await
            .context("cannot delete a Guardian")
    }
}

fn of_victim(entry: &AuditEntry) -> bool {
    entry.user_agent.ends_with(&format!("({VICTIM})"))
}
