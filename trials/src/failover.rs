//! How long a shard is without a decider when its replica goes: from then to the first write of the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    run::{KORDER, Options, Stage, runtime},
    script::{Script, Step, nth_node, template},
    sweep::on_all_cores,
};
use testbed::{
    object::{key, text},
    sim::{actors::users::order, api::Change, journal::Keep},
};

/// How a replica goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It dies, and does not come back. Counted from its last renewal: that of its membership or of a shard,
    /// for it may die in the middle of a round.
    Crash,
    /// It is asked to end while it has nothing in flight, and gives its shards up. Counted from then.
    End,
    /// It dies, and another process of its id starts after a moment. Counted from that start.
    Restart,
}

/// How long a shard's Lease is valid.
const LEASE: Duration = Duration::from_secs(15);
const REPLICAS: usize = 3;
const NODES: usize = 12;
/// Until everything is Reserved and shared out.
const SETTLED: Duration = Duration::from_secs(25);
const OBSERVED: Duration = Duration::from_secs(25);

/// When what happened to each shard, by its number.
#[derive(Debug, Default)]
struct Times {
    /// When a replica was lost.
    lost: Option<Timestamp>,
    /// The last renewal of each replica.
    renewed: BTreeMap<String, Timestamp>,
    /// Shards whose Leases the next process has taken.
    taken: BTreeSet<String>,
    /// Its first write to a pair.
    written: BTreeMap<String, Timestamp>,
    /// Whose Leases do not count.
    gone: Option<String>,
}

impl Times {
    fn see(&mut self, change: &Change) {
        let holder = text(&change.after, "/spec/holderIdentity");
        // What was on its way when the replica died may land after that.
        let counts = self.lost.is_none() || self.gone.as_deref() == Some(holder);
        if counts && *change.resource == *"leases" {
            self.renewed.insert(holder.to_owned(), change.at);
        } else if let Some(shard) = change.name.strip_prefix("korder-shard-")
            && !holder.is_empty()
            && self.gone.as_deref() != Some(holder)
        {
            let shard = match shard.trim_start_matches('0') {
                "" => "0",
                shard => shard,
            };
            self.taken.insert(shard.to_owned());
        }
        let of_pairs = matches!(&*change.resource, "tickets" | "pods") && *change.by == *KORDER;
        let shard = text(&change.after, "/metadata/labels/korder.dev~1shard");
        if of_pairs && self.taken.contains(shard) {
            self.written.entry(shard.to_owned()).or_insert(change.at);
        }
    }
}

/// [`failover`] with the seeds from 1 to `count`: all durations in order, or what went wrong first.
pub fn failovers(loss: Loss, count: u64) -> Result<Vec<f64>, String> {
    let (next, all) = (AtomicU64::new(1), Mutex::new(Ok(Vec::new())));
    on_all_cores(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count || all.lock().is_err() {
                return;
            }
            let took = failover(loss, seed).map_err(|error| format!("seed {seed}: {error}"));
            let mut all = all.lock();
            match (&mut *all, took) {
                (Ok(all), Ok(took)) => all.extend(took),
                (Ok(_), Err(error)) => *all = Err(error),
                (Err(_), _) => {}
            }
        }
    });
    let mut all = all.into_inner()?;
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// Loses one of three replicas; returns how many lease durations each of its shards with pairs was without a
/// decider, or what went wrong.
pub fn failover(loss: Loss, seed: u64) -> Result<Vec<f64>, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut script = Script::quiet("failover", 0).at(1, Step::Order(order("agents", &template(0))));
    script.nodes = (0..NODES).map(nth_node).collect();
    script.shards = 8;
    script.replicas = REPLICAS;
    script.offset = [0, 3600, -3600][rng.usize(0..3)];
    let at = SETTLED + Duration::from_millis(rng.u64(0..5000));
    let victim = rng.usize(0..REPLICAS);
    runtime().block_on(lose(&script, seed, loss, victim, at))
}

async fn lose(
    script: &Script,
    seed: u64,
    loss: Loss,
    victim: usize,
    at: Duration,
) -> Result<Vec<f64>, String> {
    let options = Options {
        keep: Keep::Nothing,
        ..Options::default()
    };
    let mut stage = Stage::set(script, seed, options);
    let times = Arc::new(Mutex::new(Times::default()));
    let seen = times.clone();
    stage
        .cluster
        .observe(Box::new(move |change| seen.lock().see(change)));
    stage.play().await;
    stage.until(at).await;
    let process = stage.seats[victim].process.as_ref().ok_or("it does not run")?;
    let held: BTreeSet<String> = process.replica.holds().iter().map(ToString::to_string).collect();
    let shards: BTreeSet<String> = stage
        .users
        .guardians()
        .iter()
        .map(|pod| text(pod, "/metadata/labels/korder.dev~1shard").to_owned())
        .filter(|shard| held.contains(shard))
        .collect();
    let lost = stage.cluster.now();
    let started_after = Duration::from_secs(2);
    {
        let mut times = times.lock();
        times.lost = Some(lost);
        // A process that starts again has the same name.
        times.gone = (loss != Loss::Restart).then(|| format!("korder-{victim}"));
    }
    meddle(&stage);
    match loss {
        Loss::Crash => stage.kill(victim, OBSERVED * 2),
        Loss::End => stage.take(&Step::Restart(OBSERVED * 2), victim).await,
        Loss::Restart => stage.kill(victim, started_after),
    }
    stage.until(stage.cluster.elapsed() + OBSERVED).await;
    if !stage.violations.is_empty() {
        return Err(stage.violations.join("\n"));
    }
    let times = times.lock();
    let since = match loss {
        Loss::Crash => times.renewed.get(&format!("korder-{victim}")).copied(),
        Loss::End => Some(lost),
        Loss::Restart => lost.checked_add(started_after).ok(),
    };
    let since = since.ok_or("it never held a Lease")?;
    let took = |written: Timestamp| written.duration_since(since).as_secs_f64() / LEASE.as_secs_f64();
    let wrote = |shard: &String| {
        let first = times.written.get(shard).copied();
        first
            .map(took)
            .ok_or_else(|| format!("nobody wrote to the pairs of shard {shard}"))
    };
    shards.iter().map(wrote).collect()
}

/// Takes all Guardians away, so that every shard with pairs has something to write.
fn meddle(stage: &Stage<'_>) {
    for pod in stage.users.guardians() {
        let (namespace, name) = key(&pod);
        stage.users.delete("pods", &namespace, &name);
    }
}
