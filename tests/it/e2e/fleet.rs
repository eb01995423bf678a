//! Replicas beside the shared one, and which of them holds which shard.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use korder::api::{Order, Shard};
use kube::{Api, api::ListParams};
use testbed::real::{KorderProcess, wait};

use super::world::{Ground, SOON, start_korder};

/// Shards of the korder under test: the default.
pub(super) const SHARDS: usize = 64;

/// Starts korder beside the shared one, and waits until it is a member.
pub(super) async fn join(ground: &Ground<'_>, id: &str) -> Result<KorderProcess> {
    let korder = start_korder(&ground.world.plane, id, &[]).await?;
    korder.wait_ready(SOON).await?;
    Ok(korder)
}

/// The holder of each shard that has one.
pub(super) async fn owners(ground: &Ground<'_>) -> Result<BTreeMap<String, String>> {
    let leases: Api<Lease> = Api::namespaced(ground.client(), "korder-system");
    let shards = ListParams::default().labels("korder.dev/lease=shard");
    let held = |lease: Lease| Some((lease.metadata.name?, lease.spec?.holder_identity?));
    Ok(leases.list(&shards).await?.into_iter().filter_map(held).collect())
}

/// Waits until the shards are shared evenly by exactly these replicas.
pub(super) async fn shared_by(ground: &Ground<'_>, replicas: &[&str]) -> Result<BTreeMap<String, String>> {
    let what = format!("the shards to be shared by {replicas:?}");
    wait::until(SOON * 2, &what, async || {
        let owners = owners(ground).await?;
        let count = |id: &&str| owners.values().filter(|owner| owner == id).count();
        let counts: Vec<usize> = replicas.iter().map(count).collect();
        let (most, least) = (counts.iter().max(), counts.iter().min());
        let even = most.zip(least).is_some_and(|(most, least)| most - least <= 1);
        ensure!(
            counts.iter().sum::<usize>() == SHARDS && even,
            "{counts:?} of {} held",
            owners.len()
        );
        anyhow::Ok(owners)
    })
    .await
}

/// Waits until the pages of all shards say that so many of the Order's Tickets are Reserved.
pub(super) async fn published(ground: &Ground<'_>, order: &Order, count: usize) -> Result<()> {
    let shards: Api<Shard> = Api::namespaced(ground.client(), "korder-system");
    let pages = ListParams::default().labels("korder.dev/page");
    wait::until(SOON, "the pages to count all Tickets", async || {
        let pages = shards.list(&pages).await?;
        let statuses = pages.iter().filter_map(|page| page.status.as_ref());
        let counts = statuses.flat_map(|status| &status.orders);
        let counts = counts.filter(|counts| Some(&counts.order_uid) == order.metadata.uid.as_ref());
        let reserved: u32 = counts.map(|counts| counts.reserved).sum();
        ensure!(reserved as usize == count, "{reserved} of {count}");
        anyhow::Ok(())
    })
    .await
}

/// Ends a replica that is not needed any more.
pub(super) async fn leave(korder: KorderProcess) -> Result<()> {
    let status = korder.terminate(Duration::from_secs(20)).await?;
    ensure!(
        status.code() == Some(0),
        "{status} after SIGTERM:\n{}",
        korder.log_tail(20)
    );
    Ok(())
}
