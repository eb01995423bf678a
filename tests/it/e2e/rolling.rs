//! A rolling update: every replica is replaced by a process of another name, as the Deployment in `deploy/` does
//! it, while nodes change.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testbed::real::KorderProcess;

use super::{
    churn::Churn,
    disruption::setting,
    expect::untouched,
    fleet::{join, leave, shared_by},
    history::{History, of_pairs},
    world::{Ground, KORDER, SOON, same},
};
use crate::harness::{Harness, alone};

const REPLICAS: usize = 3;

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![alone(
        harness,
        "rolling",
        "all_replicas_are_replaced_under_churn_without_duplicate_or_gap",
        update,
    )]
}

/// Replicas, oldest first. The shared korder is the first of them.
struct Fleet<'a> {
    ground: &'a Ground<'a>,
    running: Vec<KorderProcess>,
    names: Vec<String>,
    started: usize,
}

/// E2E_NODES nodes (150), of which one half changes, and the other must notice nothing.
async fn update(ground: &Ground<'_>) -> Result<()> {
    one_more_and_none_less(ground).await?;
    let count = setting("E2E_NODES", 150);
    let names = ground.world.crowd(count).await?;
    let mark = ground.audit().settled_mark().await?;
    let mut fleet = Fleet {
        ground,
        running: Vec::new(),
        names: vec!["korder".to_owned()],
        started: 0,
    };
    while fleet.names.len() < REPLICAS {
        fleet.surge().await?;
    }
    fleet.shared().await?;
    ground.ask_crowd("order", count, json!({})).await?;
    ground.all_reserved(count).await?;
    let before = ground.pairs("order", &names).await?;

    let churn = Churn::start(ground.client(), count / 2, setting("E2E_CHURN", 30.0));
    // First with the pause that `minReadySeconds` makes, in which the new one gets its shards; then without.
    for pause in [true, false] {
        for _ in 0..REPLICAS {
            fleet.surge().await?;
            if pause {
                fleet.shared().await?;
            }
            fleet.retire().await?;
        }
    }
    let changes = churn.stop().await?;
    ground.all_reserved(count).await?;
    let after = ground.pairs("order", &names).await?;
    same("the number of pairs", &after.len(), &count)?;
    let still: Vec<String> = (count / 2..count).map(|n| format!("crowd-{n}")).collect();
    untouched(&before, &after, &still)?;
    let replaced = fleet.started + 1 - REPLICAS;
    fleet.end().await?;

    let history = History::read(ground, mark).await?;
    history.proves_one_ticket_each()?;
    let entries = ground.audit().writes_since(mark, KORDER)?;
    let late = history.late_writes(&entries);
    ensure!(late.is_empty(), "written after another had the shard: {late:#?}");
    let wrote: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| of_pairs(entry))
        .map(|entry| entry.user_agent.as_str())
        .collect();
    eprintln!(
        "{replaced} replicas replaced during {changes} changes of nodes; {} Tickets by {} replicas, none late, none twice",
        history.tickets(),
        wrote.len()
    );
    ensure!(wrote.len() > REPLICAS, "only {wrote:?} wrote to pairs");
    Ok(())
}

/// That this is how the Deployment replaces its Pods.
async fn one_more_and_none_less(ground: &Ground<'_>) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(ground.client(), "korder-system");
    let spec = deployments.get("korder").await?.spec.context("a spec")?;
    let said = json!([spec.replicas, spec.strategy]);
    let rolling: Value = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    let wanted = json!([REPLICAS, { "type": "RollingUpdate", "rollingUpdate": rolling }]);
    same("replicas and strategy", &said, &wanted)
}

impl Fleet<'_> {
    /// Adds one, and waits until it is ready.
    async fn surge(&mut self) -> Result<()> {
        self.started += 1;
        let name = format!("rolled-{}", self.started);
        self.running.push(join(self.ground, &name).await?);
        self.names.push(name);
        Ok(())
    }

    async fn shared(&self) -> Result<()> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        shared_by(self.ground, &names).await.map(|_| ())
    }

    /// Ends the oldest.
    async fn retire(&mut self) -> Result<()> {
        if self.names.remove(0) != "korder" {
            return leave(self.running.remove(0)).await;
        }
        let korder = self.ground.world.korder.read().await;
        let status = korder.terminate(SOON).await?;
        same("the exit code", &status.code(), &Some(0))
    }

    /// Only the shared korder again.
    async fn end(self) -> Result<()> {
        {
            let mut korder = self.ground.world.korder.write().await;
            korder.restart()?;
            korder.wait_ready(SOON).await?;
        }
        for korder in self.running {
            leave(korder).await?;
        }
        shared_by(self.ground, &["korder"]).await.map(|_| ())
    }
}
