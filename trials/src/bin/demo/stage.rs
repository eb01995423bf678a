//! The simulated cluster with korder in it, and the only place where time passes: in small steps, between
//! which the screen may be drawn. Nothing that happens depends on the screen or on real time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::SignedDuration;
use korder::{
    env::{clock::Clock, tasks::Tasks},
    runtime::replica::Replica,
    write::clients::Clients,
};
use testbed::sim::{
    actors::{collector::Collector, kubelet::Kubelets, nodes::Nodes, scheduler::Scheduler, users::Users},
    cluster::Cluster,
    faults::{Dice, Faults},
    journal::{Journal, Keep},
    link::{Link, Plan, State},
    transport::Transport,
};
use tokio::time::Instant;
use trials::{
    oracle::{
        safety::Safety,
        settled::{self, Gaps},
    },
    run::{GRACE, KORDER, config},
    show::{Chapter, Scene, Screen, Writes},
};

use crate::{
    board::{BUCKET, Board},
    gauges::Gauges,
    view::{Moment, Speed},
};

/// Flag `--shards`.
pub(crate) const SHARDS: u16 = 64;
/// How long korder may act on what was before: with thousands of writes in line, and a crash.
const LAG: SignedDuration = SignedDuration::from_secs(150);
/// Virtual time between two looks at the real clock.
const STEP: Duration = Duration::from_millis(20);
/// The scheduler binds a Pod every so often.
const SCHEDULING: Duration = Duration::from_millis(1);
/// The API server keeps at least so many changes for watches.
const HISTORY: u64 = 5_000;

/// How the demo is to be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
}

/// Everything of one run.
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster,
    pub(crate) nodes: Nodes,
    pub(crate) users: Users,
    pub(crate) board: Board,
    pub(crate) gauges: Gauges,
    pub(crate) screen: Screen,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) violations: Vec<String>,
    /// Whether nothing is served any more.
    pub(crate) interrupted: Arc<AtomicBool>,
    safety: Safety,
    dice: Dice,
    process: Option<Process>,
    links: Vec<Link>,
    /// Depth of the queue at the end of each [`BUCKET`].
    queue: Vec<u64>,
    speed: Speed,
}

struct Process {
    replica: Replica,
    link: Link,
}

/// Nothing is served any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Stage {
    /// An empty cluster without nodes or korder. Needs a paused runtime.
    pub(crate) fn set(settings: Settings, gauges: Gauges, screen: Screen) -> Result<Self> {
        let cluster = Cluster::new(settings.seed, 1.0, Journal::new(Keep::Digest));
        for crd in korder::api::crds() {
            let crd = serde_json::to_value(crd)?;
            cluster.api(|api| api.install(&crd));
        }
        let grace = SignedDuration::try_from(GRACE)?;
        let safety = Safety::watch(&cluster, KORDER, grace, LAG, None);
        let namespace = serde_json::json!({ "metadata": { "name": "korder-system" } });
        Users::new(&cluster).create("namespaces", &namespace);
        let board = Board::watch(&cluster, SHARDS.try_into()?);
        cluster.spawn(Scheduler::new(&cluster, SCHEDULING).run());
        cluster.spawn(Kubelets::new(&cluster, settings.seed ^ 0x1e7, 500).run());
        cluster.spawn(Collector::new(&cluster, Duration::from_millis(50)).run());
        let nearby = Faults {
            latency: (1, 6),
            ..Faults::none()
        };
        Ok(Self {
            settings,
            nodes: Nodes::new(&cluster),
            users: Users::new(&cluster),
            board,
            gauges,
            screen,
            chapters: Vec::new(),
            violations: Vec::new(),
            interrupted: Arc::default(),
            safety,
            dice: Dice::new(settings.seed ^ 0xd1ce, nearby),
            process: None,
            links: Vec::new(),
            queue: Vec::new(),
            speed: Speed::new(),
            cluster,
        })
    }

    /// Starts korder.
    pub(crate) fn start_korder(&mut self) {
        let link = Link::new(self.cluster.clone(), self.dice.clone(), KORDER, Plan::default());
        let clock = Clock::starting_at(self.cluster.now());
        let transport = Transport::new(link.clone());
        let clients = Clients::over(transport.clone(), transport.clone(), transport, &clock);
        let ready = Arc::new(AtomicBool::new(false));
        let replica = Replica::start(
            &config(u32::from(SHARDS), 0),
            &format!("process {}", self.links.len()),
            clients,
            &clock,
            ready,
            Tasks::default(),
        );
        self.links.push(link.clone());
        self.process = Some(Process { replica, link });
    }

    /// Kills korder in the midst of what it does.
    pub(crate) fn kill_korder(&mut self) {
        if let Some(process) = self.process.take() {
            process.link.set(State::Dead);
        }
        self.gauges.forget_queue();
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    /// If a task of korder ends, or the user wants no more.
    pub(crate) async fn pass(&mut self, span: Duration) -> Result<()> {
        let end = Instant::now() + span;
        loop {
            let step = end.min(Instant::now() + STEP);
            let died = async {
                match &mut self.process {
                    Some(process) => process.replica.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased; // who is dead does nothing more
                name = died => bail!("korder's task {name:?} ended"),
                () = tokio::time::sleep_until(step) => {}
            }
            self.look()?;
            if step >= end {
                return Ok(());
            }
        }
    }

    /// Keeps the books, and shows what there is to see if it is time to.
    fn look(&mut self) -> Result<()> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(Interrupted.into());
        }
        let elapsed = self.cluster.elapsed();
        let buckets = (elapsed.as_millis() / BUCKET.as_millis()) as usize;
        if self.queue.len() < buckets {
            self.queue.resize(buckets, self.gauges.queue());
            self.cluster.api(|api| {
                let old = api.revision().saturating_sub(HISTORY);
                if old > api.compacted() + HISTORY {
                    api.compact(old);
                }
            });
        }
        if self.screen.due() {
            self.show(Screen::show)?;
        }
        Ok(())
    }

    /// Shows what there is to see for the last time.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.show(Screen::end)
    }

    fn show(&mut self, how: fn(&mut Screen, &Scene<'_>) -> std::io::Result<()>) -> Result<()> {
        let moment = Moment {
            nodes: self.settings.nodes,
            seed: self.settings.seed,
            elapsed: self.cluster.elapsed(),
            speed: self.speed.at(self.cluster.elapsed()),
            real: self.screen.real(),
            alive: self.process.is_some(),
            counts: &self.board.counts(),
            queue: &self.queue,
            chapters: &self.chapters,
        };
        how(&mut self.screen, &moment.scene()).context("showing the scene")
    }

    /// Lets time pass until all is as the rules say, at most so long; says so if it is not.
    pub(crate) async fn settle(&mut self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        loop {
            self.pass(Duration::from_secs(1)).await?;
            let quiet = self.cluster.now().duration_since(self.board.counts().last_write);
            let late = Instant::now() >= until;
            if quiet < SignedDuration::from_millis(1500) && !late {
                continue;
            }
            let pending: u64 = self.board.counts().orders.iter().map(|order| order.pending).sum();
            if pending > 0 && !late {
                continue;
            }
            let gaps = self.gaps()?;
            if gaps.none() && pending == 0 {
                return Ok(());
            }
            if late {
                let chapter = self.chapters.last().map_or("", |chapter| chapter.name);
                let waiting = format!("{pending} Tickets are Pending, and there is room everywhere");
                let gaps = gaps.pairs.values().chain(&gaps.other).take(5).chain([&waiting]);
                let lines = gaps.map(|gap| format!("{chapter}: not settled after {within:?}: {gap}"));
                self.violations.extend(lines);
                return Ok(());
            }
        }
    }

    /// What is not as the rules say.
    pub(crate) fn gaps(&self) -> Result<Gaps> {
        Ok(settled::State::of(&self.cluster, SignedDuration::try_from(GRACE)?).gaps())
    }

    /// What korder has written.
    pub(crate) fn writes(&self) -> Writes {
        let mut writes = Writes::default();
        for (what, count) in self.links.iter().flat_map(|link| link.tally().writes) {
            if what.contains(" tickets") || what.contains(" pods") {
                writes.pairs += count;
            } else {
                writes.others += count;
            }
        }
        writes
    }

    /// What broke a rule so far, and how many revisions were judged.
    pub(crate) fn verdict(&self) -> (Vec<String>, u64) {
        let (found, revisions) = self.safety.verdict();
        let all = found.into_iter().chain(self.violations.iter().cloned());
        (all.collect(), revisions)
    }
}
