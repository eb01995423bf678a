//! korder killed, the API server stopped, etcd restarted, all in the middle of reserving: in the end
//! every pair is complete, none was made twice, nothing is left over.

use std::{collections::BTreeMap, env, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use korder::api::Ticket;
use kube::{ResourceExt, api::ListParams};
use libtest_mimic::Trial;
use serde_json::json;
use testbed::real::{Component, Mark, wait};

use super::world::{Ground, KORDER, SOON, now, same};
use crate::harness::{Harness, alone};

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        alone(harness, "disruption", "killed_while_reserving", killed),
        alone(
            harness,
            "disruption",
            "api_server_stopped_while_reserving",
            api_server,
        ),
        alone(harness, "disruption", "etcd_restarted_while_reserving", etcd),
    ]
}

/// A number from the environment, for longer runs.
pub(super) fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn killed(ground: &Ground<'_>) -> Result<()> {
    interrupted(ground, async || {
        let mut korder = ground.world.korder.write().await;
        korder.kill9();
        korder.restart()?;
        korder.wait_ready(SOON).await
    })
    .await
}

async fn api_server(ground: &Ground<'_>) -> Result<()> {
    let away = Duration::from_secs(setting("E2E_AWAY", 5));
    interrupted(ground, async || {
        let (plane, stopped) = (&ground.world.plane, now());
        plane.stop(Component::ApiServer).await?;
        tokio::time::sleep(away).await;
        let started = plane.start_again(Component::ApiServer).await;
        ground.world.away.lock().await.push((stopped, now()));
        started
    })
    .await
}

async fn etcd(ground: &Ground<'_>) -> Result<()> {
    interrupted(ground, async || ground.world.plane.restart(Component::Etcd).await).await
}

/// Reserves E2E_NODES nodes (200) and lets `disrupt` happen when some, but not all, are Reserved.
async fn interrupted(ground: &Ground<'_>, disrupt: impl AsyncFn() -> Result<()>) -> Result<()> {
    let count = setting("E2E_NODES", 200);
    let names = ground.world.crowd(count).await?;
    let mark = ground.audit().settled_mark().await?;
    let asked = now();
    ground.ask_crowd("order", count, json!({})).await?;
    let reserved = ListParams::default().fields("status.phase=Reserved");
    let before = wait::until(SOON, "the first Tickets to be Reserved", async || {
        match ground.api::<Ticket>().list_metadata(&reserved).await?.items.len() {
            0 => Err(anyhow::anyhow!("none are")),
            some => Ok(some),
        }
    });
    let before = before.await?;
    ensure!(
        before < count,
        "all {count} were Reserved before anything could happen"
    );
    disrupt().await?;
    let disrupted = now();
    ground.all_reserved(count).await?;
    let (first, rest) = (disrupted.duration_since(asked), now().duration_since(disrupted));
    eprintln!("{before} of {count} Reserved, then {first:#} with the disruption, then all after {rest:#}");
    let pairs = ground.pairs("order", &names).await?;
    same("the number of pairs", &pairs.len(), &count)?;
    ground.ready_reason("order", "AllReserved").await?;
    let pods = ground
        .api::<Pod>()
        .list_metadata(&ListParams::default())
        .await?
        .items
        .len();
    same("the number of Pods", &pods, &count)?;
    made_once(ground, mark).await
}

/// Nothing was created twice under one name; what the audit log did not get to see is not counted.
async fn made_once(ground: &Ground<'_>, mark: Mark) -> Result<()> {
    let audit = ground.audit();
    audit.settled_mark().await?;
    let mut created: BTreeMap<(String, String), usize> = BTreeMap::new();
    for write in audit.writes_since(mark, KORDER)? {
        if write.namespace == ground.id && write.verb == "create" && write.code == 201 {
            *created.entry((write.resource, write.name)).or_default() += 1;
        }
    }
    created.retain(|_, times| *times > 1);
    ensure!(created.is_empty(), "made more than once: {created:#?}");
    let tickets = ground.api::<Ticket>().list(&ListParams::default()).await?;
    let later: Vec<_> = tickets
        .iter()
        .filter(|ticket| ticket.spec.sequence != 0)
        .collect();
    ensure!(
        later.is_empty(),
        "Tickets of a second round: {:?}",
        later.first().context("none")?.name_any()
    );
    Ok(())
}
