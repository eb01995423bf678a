//! How korder starts, says what is wrong, and ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use testbed::real::{Component, KorderConfig, KorderProcess, Plane, PlaneConfig};

use super::world::{Ground, deploy, start_korder};
use crate::harness::{Harness, alone, apart};

/// 30 s of tries, and what a busy machine adds.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(45);
const AT_ONCE: Duration = Duration::from_secs(10);

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        apart(
            harness,
            "start",
            "without_crds_exits_1_and_names_the_remedy",
            without_crds,
        ),
        apart(
            harness,
            "start",
            "without_an_api_server_exits_1",
            without_api_server,
        ),
        apart(
            harness,
            "start",
            "wrong_kubeconfig_exits_1_at_once",
            wrong_kubeconfig,
        ),
        apart(harness, "start", "unknown_flag_exits_at_once", unknown_flag),
    ]
}

pub(crate) fn disruptive(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![alone(harness, "start", "sigterm_exits_0", sigterm)]
}

/// A directory for kubeconfig and log, gone when the trial ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("korder-start-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn korder(&self, kubeconfig: PathBuf, args: &[&str]) -> Result<KorderProcess> {
        KorderProcess::start(KorderConfig {
            binary: env!("CARGO_BIN_EXE_korder").into(),
            kubeconfig,
            name: "korder".to_owned(),
            log_dir: self.0.clone(),
            args: args.iter().map(ToString::to_string).collect(),
            env: Vec::new(),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is for the system's own sweep of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits for the end; the last line of the log must be the one for people, with all of `parts`.
async fn exits_1(korder: &KorderProcess, within: Duration, parts: &[&str]) -> Result<()> {
    let status = korder.wait_exit(within).await?;
    let log = korder.log_tail(50);
    ensure!(status.code() == Some(1), "{status}:\n{log}");
    let said: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
    ensure!(
        said.len() == 1 && log.ends_with(said[0]),
        "not one line at the end:\n{log}"
    );
    let missing = parts.iter().find(|part| !said[0].contains(**part));
    ensure!(missing.is_none(), "no {missing:?} in: {}", said[0]);
    Ok(())
}

async fn without_crds() -> Result<()> {
    let plane = Plane::start(PlaneConfig {
        name: "e2e-bare".to_owned(),
        kwok: false,
        audit: false,
        ..PlaneConfig::default()
    })
    .await?;
    plane.apply_dir(&deploy("rbac")).await?;
    let korder = start_korder(&plane, "korder", &[]).await?;
    let parts = [
        "orders.core.korder.dev is not installed",
        "korder crds | kubectl apply",
    ];
    exits_1(&korder, GIVES_UP_WITHIN, &parts).await?;
    for component in [Component::ControllerManager, Component::Scheduler] {
        plane.stop(component).await?;
    }
    Ok(())
}

async fn without_api_server() -> Result<()> {
    let scratch = Scratch::new("unreachable")?;
    let kubeconfig = scratch.0.join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1
kind: Config
current-context: c
clusters: [{ name: c, cluster: { server: 'http://127.0.0.1:1' } }]
users: [{ name: u, user: {} }]
contexts: [{ name: c, context: { cluster: c, user: u } }]
",
    )?;
    let korder = scratch.korder(kubeconfig, &[])?;
    exits_1(
        &korder,
        GIVES_UP_WITHIN,
        &["gave up after 30 s", "does not answer"],
    )
    .await
}

async fn wrong_kubeconfig() -> Result<()> {
    let scratch = Scratch::new("kubeconfig")?;
    let missing = scratch.korder(scratch.0.join("nowhere"), &[])?;
    exits_1(&missing, AT_ONCE, &["set KUBECONFIG"]).await?;
    let other = Scratch::new("kubeconfig-malformed")?;
    let malformed = other.0.join("kubeconfig");
    std::fs::write(&malformed, "clusters: 7\n")?;
    let malformed = other.korder(malformed, &[])?;
    exits_1(&malformed, AT_ONCE, &["set KUBECONFIG"]).await
}

async fn unknown_flag() -> Result<()> {
    let scratch = Scratch::new("flag")?;
    for (n, (args, part)) in [
        (["--shard", "64"], "--shard"),
        (["--shards", "63"], "power of two"),
    ]
    .into_iter()
    .enumerate()
    {
        let korder = scratch.korder(scratch.0.join(format!("nowhere-{n}")), &args)?;
        let status = korder.wait_exit(AT_ONCE).await?;
        let log = korder.log_tail(20);
        ensure!(status.code() == Some(1) && log.contains(part), "{status}:\n{log}");
    }
    Ok(())
}

/// The shared korder ends and is started again for those that follow.
async fn sigterm(ground: &Ground<'_>) -> Result<()> {
    let mut korder = ground.world.korder.write().await;
    let status = korder.terminate(Duration::from_secs(20)).await?;
    let log = korder.log_tail(5);
    korder.restart()?;
    korder.wait_ready(super::world::SOON).await?;
    ensure!(status.code() == Some(0), "{status}:\n{log}");
    log.lines()
        .find(|line| line.contains("\"stopped\""))
        .context("it does not say that it has stopped")?;
    Ok(())
}
