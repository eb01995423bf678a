//! Nodes that change all the time: taints, cordons, labels, and nodes replaced by others of their name.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use kube::Client;
use testbed::real::{
    NodeSpec, add_taint, cordon, create_nodes, delete_node, relabel, remove_taint, uncordon, wait_nodes_ready,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::SOON;

/// Changes of the crowd's nodes, so many a second, until it is stopped.
pub(crate) struct Churn {
    task: JoinSet<Result<usize>>,
    stop: CancellationToken,
}

impl Churn {
    pub(crate) fn start(client: Client, nodes: usize, per_second: f64) -> Self {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(churn(client, nodes, per_second, stop.clone()));
        Self { task, stop }
    }

    /// Ends it, with all nodes as they were before; returns how many changes there were.
    pub(crate) async fn stop(mut self) -> Result<usize> {
        self.stop.cancel();
        self.task.join_next().await.context("it was started")??
    }
}

async fn churn(client: Client, nodes: usize, per_second: f64, stop: CancellationToken) -> Result<usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let (mut tainted, mut cordoned) = (BTreeSet::new(), BTreeSet::new());
    let (mut changes, mut under_way, mut busy) = (0, JoinSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => break,
            Some(changed) = under_way.join_next() => {
                busy.remove(&changed??);
            }
            _ = every.tick() => {
                let (n, dice) = (rng.usize(0..nodes), rng.u8(0..10));
                // The changes of one node keep their order.
                if !busy.insert(n) {
                    continue;
                }
                let fresh = !tainted.contains(&n) && !cordoned.contains(&n);
                let kind = match dice {
                    0..=4 if tainted.remove(&n) => Kind::Untaint,
                    0..=4 if fresh => { tainted.insert(n); Kind::Taint }
                    5..=6 if cordoned.remove(&n) => Kind::Uncordon,
                    5..=6 if fresh => { cordoned.insert(n); Kind::Cordon }
                    7 if fresh => Kind::Replace,
                    _ => Kind::Label(rng.u8(0..4)),
                };
                changes += 1;
                let client = client.clone();
                under_way.spawn(async move { change(&client, n, kind).await.map(|()| n) });
            }
        }
    }
    while let Some(changed) = under_way.join_next().await {
        changed??;
    }
    for n in tainted {
        change(&client, n, Kind::Untaint).await?;
    }
    for n in cordoned {
        change(&client, n, Kind::Uncordon).await?;
    }
    wait_nodes_ready(&client, "crowd", nodes, SOON * 4).await?;
    Ok(changes)
}

#[derive(Clone, Copy)]
enum Kind {
    Taint,
    Untaint,
    Cordon,
    Uncordon,
    Label(u8),
    Replace,
}

async fn change(client: &Client, n: usize, kind: Kind) -> Result<()> {
    let name = format!("crowd-{n}");
    match kind {
        Kind::Taint => add_taint(client, &name, "churn", "", "NoExecute").await?,
        Kind::Untaint => remove_taint(client, &name, "churn").await?,
        Kind::Cordon => cordon(client, &name).await?,
        Kind::Uncordon => uncordon(client, &name).await?,
        Kind::Label(value) => relabel(client, &name, &[("churn", Some(&value.to_string()))]).await?,
        Kind::Replace => {
            delete_node(client, &name).await?;
            let again = NodeSpec::new(&name).label("crowd", &n.to_string());
            create_nodes(client, [again]).await?.remove(0)
        }
    };
    Ok(())
}
