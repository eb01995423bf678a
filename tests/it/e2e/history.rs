//! What the watch of Tickets and the audit log say of a time with several replicas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, ensure};
use futures::StreamExt;
use korder::api::{Ticket, ticket::Phase};
use kube::{
    Api, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use parking_lot::Mutex;
use testbed::real::{AuditEntry, wait};
use tokio::task::JoinSet;

use super::world::{Ground, SOON};

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The shard of each Ticket there ever was, by its name.
    pub(crate) shards: BTreeMap<String, String>,
    /// Pairs that had two open Tickets at once: Order and node by their uids, and the Tickets.
    pub(crate) twice: Vec<(Pair, BTreeSet<String>)>,
    open: BTreeMap<Pair, BTreeSet<String>>,
    lists: usize,
}

type Pair = (String, String);

/// Follows the Tickets of a trial through all their revisions.
pub(crate) struct History {
    seen: Arc<Mutex<Seen>>,
    tickets: Api<Ticket>,
    _task: JoinSet<()>,
}

impl History {
    pub(crate) async fn follow(ground: &Ground<'_>) -> Result<Self> {
        let (tickets, seen) = (ground.api::<Ticket>(), Arc::new(Mutex::new(Seen::default())));
        let (api, into) = (tickets.clone(), seen.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(ticket) | Event::InitApply(ticket)) => into.lock().see(&ticket, false),
                    Ok(Event::Delete(ticket)) => into.lock().see(&ticket, true),
                    Ok(Event::InitDone) => into.lock().lists += 1,
                    Ok(Event::Init) | Err(_) => {}
                }
            }
        });
        let history = Self {
            seen,
            tickets,
            _task: task,
        };
        wait::until(SOON, "the first list", async || {
            ensure!(history.seen.lock().lists > 0, "not yet");
            anyhow::Ok(())
        })
        .await?;
        Ok(history)
    }

    /// All that was seen, the present state included.
    pub(crate) async fn end(self) -> Result<Seen> {
        let all = self
            .tickets
            .list_metadata(&kube::api::ListParams::default())
            .await?;
        let names: BTreeSet<String> = all.iter().map(ResourceExt::name_any).collect();
        wait::until(SOON, "the watch to show what is there", async || {
            let seen = self.seen.lock();
            let open: BTreeSet<String> = seen.open.values().flatten().cloned().collect();
            ensure!(open == names, "{} of {} shown", open.len(), names.len());
            anyhow::Ok(())
        })
        .await?;
        let seen = self.seen.lock().clone();
        ensure!(
            seen.lists == 1,
            "the watch was interrupted: revisions may be missing"
        );
        Ok(seen)
    }
}

impl Seen {
    fn see(&mut self, ticket: &Ticket, gone: bool) {
        let name = ticket.name_any();
        if let Some(shard) = ticket.labels().get("korder.dev/shard") {
            self.shards.insert(name.clone(), shard.clone());
        }
        let order = ticket.owner_references().first().map(|owner| owner.uid.clone());
        let pair = (order.unwrap_or_default(), ticket.spec.node_uid.clone());
        let phase = ticket
            .status
            .as_ref()
            .map(|status| status.phase)
            .unwrap_or_default();
        let closed = gone || matches!(phase, Phase::Released | Phase::Expired);
        let open = self.open.entry(pair.clone()).or_default();
        if closed {
            open.remove(&name);
        } else if open.insert(name) && open.len() > 1 {
            self.twice.push((pair, open.clone()));
        }
    }
}

/// Writes to Tickets and Guardians that arrived after another replica had taken the shard.
pub(crate) fn late_writes<'a>(
    entries: &'a [AuditEntry],
    shards: &BTreeMap<String, String>,
) -> Vec<&'a AuditEntry> {
    // Which replica's write of each shard's Lease was the last, and since when.
    let mut leases: BTreeMap<&str, Vec<&AuditEntry>> = BTreeMap::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.is_lease() && entry.code < 300)
    {
        if let Some(shard) = entry.name.strip_prefix("korder-shard-") {
            leases.entry(shard).or_default().push(entry);
        }
    }
    for writes in leases.values_mut() {
        writes.sort_by_key(|entry| entry.completed);
    }
    let late = |entry: &&AuditEntry| {
        let ticket = entry.name.strip_prefix("guardian-").unwrap_or(&entry.name);
        let ticket = ticket.strip_suffix("-1").unwrap_or(ticket);
        let Some(shard) = shards.get(ticket) else {
            return false;
        };
        let padded = format!("{shard:0>2}");
        let before = leases
            .get(padded.as_str())
            .and_then(|writes| writes.iter().rev().find(|lease| lease.completed < entry.received));
        before.is_some_and(|lease| lease.user_agent != entry.user_agent)
    };
    let of_pairs = |entry: &&AuditEntry| matches!(entry.resource.as_str(), "tickets" | "pods");
    entries.iter().filter(of_pairs).filter(late).collect()
}
