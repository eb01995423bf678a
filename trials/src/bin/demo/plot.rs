//! The plot: Orders come, nodes run into trouble, korder is killed midway, a template changes, all is put
//! right, and then nothing happens. After each chapter all must be as the rules say.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use serde_json::{Value, json};
use testbed::object::key;
use tokio::time::Instant;
use trials::{
    oracle::rules::{Deserves, deserves},
    run::GRACE,
    show::{Chapter, Writes, grouped},
};

use crate::{
    churn::{Churn, Event},
    fleet::{self, ORDERS},
    stage::Stage,
    summary::Facts,
};

/// How long the trouble goes on.
const TROUBLE: Duration = Duration::from_secs(60);
/// How long only heartbeats happen.
const HEARTBEATS: Duration = Duration::from_secs(60);
/// How long nothing else happens in the end.
const CALM: Duration = Duration::from_secs(180);
/// How long all may take to be as the rules say.
const SETTLES: Duration = Duration::from_secs(600);
/// Events are gathered, so some come so much later.
const TELLING: Duration = Duration::from_secs(20);
/// How long korder is away.
const AWAY: Duration = Duration::from_secs(3);

/// Writes that make a pair's Ticket and Guardian, and those that remove them.
const MAKE: u64 = 3;
const REMOVE: u64 = 2;

/// Plays all chapters.
///
/// # Errors
/// If korder ends, or the user wants no more.
pub(crate) async fn play(stage: &mut Stage) -> Result<Facts> {
    let mut facts = Facts::default();
    join(stage).await?;
    facts.reserved = reserve(stage).await?;
    facts.heartbeats = heartbeats(stage, "Heartbeats", HEARTBEATS).await?;
    let churn = Churn::drawn(stage.settings.seed, stage.settings.nodes, TROUBLE);
    trouble(stage, &churn).await?;
    crash(stage, &mut facts).await?;
    roll_out(stage).await?;
    recover(stage, churn.cures).await?;
    facts.calm = heartbeats(stage, "Calm", CALM).await?;
    Ok(facts)
}

/// Where a chapter begins.
struct Mark {
    at: Instant,
    made: u64,
    removed: u64,
    writes: Writes,
}

impl Stage {
    fn open(&mut self, name: &'static str, story: String) -> Mark {
        self.chapters.push(Chapter {
            name,
            story,
            outcome: None,
            took: Duration::ZERO,
        });
        self.mark()
    }

    fn mark(&self) -> Mark {
        let counts = self.board.counts();
        Mark {
            at: Instant::now(),
            made: counts.made,
            removed: counts.removed,
            writes: self.writes(),
        }
    }

    fn close(&mut self, mark: &Mark, outcome: String) {
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.outcome = Some(outcome);
            chapter.took = mark.at.elapsed();
        }
    }

    /// Tickets made and removed, and writes, since then.
    fn since(&self, mark: &Mark) -> (u64, u64, Writes) {
        let now = self.mark();
        let writes = now.writes.since(mark.writes);
        (now.made - mark.made, now.removed - mark.removed, writes)
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Node(name, fortune) => self.nodes.befall(name, fortune),
            Event::Join(n) => self.nodes.join(&fleet::node(*n)),
            Event::Guardian(n) => {
                let pods = self.cluster.api(|api| api.list("pods"));
                let nth = n.checked_rem(pods.len()).and_then(|n| pods.get(n));
                if let Some((namespace, name)) = nth.map(|pod| key(pod)) {
                    self.users.delete("pods", &namespace, &name);
                }
            }
        }
    }

    /// How many nodes are eligible for an Order now.
    fn eligible(&self, index: usize) -> Result<u64> {
        let grace = SignedDuration::try_from(GRACE)?;
        let (order, nodes, now) = self.cluster.api(|api| {
            let order = api.get("orders", "default", ORDERS[index]);
            (order, api.list("nodes"), api.now())
        });
        let order = order.with_context(|| format!("{} is gone", ORDERS[index]))?;
        let eligible = |node: &&Arc<Value>| deserves(&order, node, grace, now) == Deserves::Ticket;
        Ok(nodes.iter().filter(eligible).count() as u64)
    }

    fn order(&self, index: usize) -> Result<()> {
        let made = self.users.create("orders", &fleet::order(index)?);
        made.then_some(())
            .with_context(|| format!("the API server refuses {}", ORDERS[index]))
    }
}

async fn join(stage: &mut Stage) -> Result<()> {
    let nodes = stage.settings.nodes;
    let story = format!(
        "{} nodes join in three zones: Linux, GPU, Windows; korder starts",
        grouped(nodes)
    );
    let mark = stage.open("Start", story);
    stage.start_korder();
    for n in 0..nodes {
        stage.nodes.join(&fleet::node(n));
        if n % 10 == 9 {
            stage.pass(Duration::from_millis(10)).await?;
        }
    }
    stage.cluster.spawn(stage.nodes.clone().heartbeats());
    stage.settle(SETTLES).await?;
    stage.close(
        &mark,
        format!("{} nodes in 64 shards, no Order yet", grouped(nodes)),
    );
    Ok(())
}

async fn reserve(stage: &mut Stage) -> Result<(u64, Writes)> {
    let story = "two Orders: room on every Linux node, and a buffer on the GPU nodes";
    let mark = stage.open("Reserve", story.to_owned());
    stage.order(0)?;
    stage.order(1)?;
    stage.settle(SETTLES).await?;
    let (made, _, writes) = stage.since(&mark);
    let each = writes.pairs as f64 / made.max(1) as f64;
    let outcome = format!("{} Tickets Reserved, {each:.2} writes each", grouped(made));
    stage.close(&mark, outcome);
    Ok((made, writes))
}

/// Lets nodes report and nothing else happen; returns the reports and korder's writes.
async fn heartbeats(stage: &mut Stage, name: &'static str, span: Duration) -> Result<(u64, u64)> {
    let seconds = span.as_secs();
    let mark = stage.open(
        name,
        format!("{seconds} s of nothing but heartbeats: korder must not write"),
    );
    stage.pass(TELLING).await?;
    let (before, reports) = (stage.writes(), stage.board.counts().reports);
    stage.pass(span).await?;
    let reports = stage.board.counts().reports - reports;
    let written = stage.writes().since(before).all();
    if written > 0 {
        let violation = format!("{name}: {written} writes though nothing but heartbeats happened");
        stage.violations.push(violation);
    }
    let gaps = stage.gaps()?;
    stage
        .violations
        .extend(gaps.pairs.into_values().chain(gaps.other));
    stage.close(
        &mark,
        format!("{} heartbeats, {written} writes", grouped(reports)),
    );
    Ok((reports, written))
}

async fn trouble(stage: &mut Stage, churn: &Churn) -> Result<()> {
    let tally = churn.tally;
    let story = format!(
        "{} cordons, {} drains, {} NotReady, {} labels, {} leave, {} join, {} Guardians deleted",
        tally.cordoned,
        tally.tainted,
        tally.silent + tally.blinked,
        tally.relabelled,
        tally.left,
        tally.joined,
        tally.guardians,
    );
    let mark = stage.open("Trouble", story);
    for (at, event) in &churn.events {
        let wait = (mark.at + *at).saturating_duration_since(Instant::now());
        stage.pass(wait).await?;
        stage.happen(event);
    }
    // What fell silent last keeps its Tickets for the grace.
    stage.pass(GRACE + Duration::from_secs(5)).await?;
    stage.settle(SETTLES).await?;
    let (made, removed, writes) = stage.since(&mark);
    let outcome = format!(
        "{} things happened: {}",
        churn.events.len(),
        writes.led_to(made, removed)
    );
    stage.close(&mark, outcome);
    Ok(())
}

async fn crash(stage: &mut Stage, facts: &mut Facts) -> Result<()> {
    let story = "a third Order; korder is killed when half of its Tickets are Reserved, and starts again";
    let mark = stage.open("Crash", story.to_owned());
    stage.order(2)?;
    let eligible = stage.eligible(2)?;
    let reserved = |stage: &Stage| stage.board.counts().orders[2].reserved;
    while reserved(stage) < eligible / 2 {
        stage.pass(Duration::from_millis(5)).await?;
    }
    facts.killed_at = (reserved(stage), eligible);
    stage.kill_korder();
    stage.pass(AWAY).await?;
    stage.start_korder();
    stage.settle(SETTLES).await?;
    let (made, removed, writes) = stage.since(&mark);
    let needed = made * MAKE + removed * REMOVE;
    facts.crash_cost = writes.pairs.cast_signed() - needed.cast_signed();
    let outcome = format!(
        "killed at {} of {}, back in {} s: no Ticket twice, {} extra writes",
        grouped(facts.killed_at.0),
        grouped(eligible),
        AWAY.as_secs(),
        facts.crash_cost
    );
    stage.close(&mark, outcome);
    Ok(())
}

async fn roll_out(stage: &mut Stage) -> Result<()> {
    let story = "gpu-node-buffer asks for 600m instead of 500m: each Guardian is replaced, Tickets stay";
    let mark = stage.open("Roll-out", story.to_owned());
    let patch = json!({ "spec": { "template": { "spec": { "resources": {
        "requests": { "cpu": "600m" },
    } } } } });
    stage.users.merge("orders", "default", ORDERS[1], &patch);
    stage.settle(SETTLES).await?;
    let (made, removed, writes) = stage.since(&mark);
    let outcome = format!(
        "{} Guardians replaced, {}",
        grouped(stage.board.counts().orders[1].reserved),
        writes.led_to(made, removed)
    );
    stage.close(&mark, outcome);
    Ok(())
}

async fn recover(stage: &mut Stage, cures: Vec<Event>) -> Result<()> {
    let count = cures.len();
    let mark = stage.open(
        "Recovery",
        format!("{count} nodes are put right again within 10 s"),
    );
    let pause = Duration::from_secs(10) / u32::try_from(count.max(1))?;
    for event in cures {
        stage.happen(&event);
        stage.pass(pause).await?;
    }
    stage.settle(SETTLES).await?;
    let (made, removed, writes) = stage.since(&mark);
    stage.close(&mark, writes.led_to(made, removed));
    Ok(())
}
