//! What the counts of thousands of Orders cost, from the API server's changes: how large Shard objects are, how
//! often they and the statuses of Orders are written, what everybody who watches them hears, and whether they
//! are true.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    run::{GRACE, KORDER, Options, Stage, runtime},
    script::Script,
};
use crate::oracle::{
    owner,
    rules::{Deserves, deserves},
};
use testbed::{
    object::{at, text, uid},
    sim::{
        actors::{
            nodes::{Fortune, node},
            users::order,
        },
        api::{Change, ChangeKind},
        journal::Keep,
    },
};

/// How large a trial is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Orders: one in a thousand asks for every node, the others for the two of a rack.
    pub orders: usize,
    /// Nodes.
    pub nodes: usize,
    /// Replicas.
    pub replicas: usize,
    /// Nodes that are cordoned or uncordoned a second.
    pub changes: u32,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// The totals of a shard.
    Totals,
    /// A page of counts.
    Page,
    /// The status of an Order.
    Order,
}

/// What was written of one kind.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Writes.
    pub writes: u64,
    /// Bytes of the objects as stored.
    pub bytes: u64,
    /// Writes by object.
    pub objects: BTreeMap<String, u64>,
}

/// One part of a trial.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// How long it took.
    pub span: Duration,
    /// What was written.
    pub flows: BTreeMap<Written, Flow>,
    /// Changes of Tickets and Pods, whoever made them.
    pub pairs: u64,
    /// Bytes of watch events of Shards that reached all replicas together.
    pub heard: u64,
}

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// From an empty cluster until everything is Reserved and counted.
    pub filling: Part,
    /// While nodes change.
    pub churn: Part,
    /// After that, when all is quiet.
    pub rest: Part,
    /// Bytes of each Shard object without a page, and of each page, as stored.
    pub totals: Vec<usize>,
    /// Those of pages.
    pub pages: Vec<usize>,
    /// Least time between two status writes of one object, in seconds.
    pub closest: BTreeMap<Written, f64>,
    /// Longest that a status was behind the last change of its Order's Tickets, in seconds.
    pub latest: f64,
    /// Statuses that were not true so long after everything had come to rest.
    pub untrue: Vec<String>,
    /// What must not be.
    pub violations: Vec<String>,
}

/// How long nodes change, and how long the rest is watched.
const CHURN: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(120);
/// All that was to be written after a change is written by then.
const SETTLED: SignedDuration = SignedDuration::from_secs(30);
/// Counts are true so long after the last change.
const TRUE_WITHIN: SignedDuration = SignedDuration::from_secs(5);
/// After this a cluster that has not come to rest never will.
const PATIENCE: Duration = Duration::from_secs(1800);
const TICK: Duration = Duration::from_millis(100);

/// Counts what is committed.
#[derive(Default)]
struct Meter {
    part: Part,
    closest: BTreeMap<Written, f64>,
    last: BTreeMap<(Written, String), Timestamp>,
    books: BTreeMap<String, Book>,
    latest: f64,
    /// The last change of a Ticket or a Pod, or of what a Node should be.
    changed: Timestamp,
}

/// What is so of an Order, and what its status says.
#[derive(Default)]
struct Book {
    reserved: i64,
    told: i64,
    changed: Timestamp,
}

impl Meter {
    fn see(&mut self, change: &Change) {
        match &*change.resource {
            "tickets" => {
                self.see_ticket(change);
                (self.part.pairs, self.changed) = (self.part.pairs + 1, change.at);
            }
            "pods" => (self.part.pairs, self.changed) = (self.part.pairs + 1, change.at),
            "nodes" if change.before.as_deref().map(spec) != Some(spec(&change.after)) => {
                self.changed = change.at;
            }
            "shards" => {
                let page = at(&change.after, "/spec/page").is_some();
                self.write(if page { Written::Page } else { Written::Totals }, change);
            }
            "orders" if *change.by == *KORDER => {
                self.write(Written::Order, change);
                self.see_status(change);
            }
            _ => {}
        }
    }

    fn write(&mut self, what: Written, change: &Change) {
        let flow = self.part.flows.entry(what).or_default();
        flow.writes += 1;
        flow.bytes += change.after.to_string().len() as u64;
        *flow.objects.entry(change.name.to_string()).or_default() += 1;
        // A status cannot be given with the object: what is made is written again at once.
        if change.kind == ChangeKind::Modified
            && let Some(last) = self.last.insert((what, change.name.to_string()), change.at)
        {
            let since = change.at.duration_since(last).as_secs_f64();
            let closest = self.closest.entry(what).or_insert(since);
            *closest = closest.min(since);
        }
    }

    fn see_ticket(&mut self, change: &Change) {
        let reserved = |ticket: &Value| i64::from(text(ticket, "/status/phase") == "Reserved");
        let before = change.before.as_deref().map_or(0, reserved);
        let after = match change.kind {
            ChangeKind::Deleted => 0,
            ChangeKind::Added | ChangeKind::Modified => reserved(&change.after),
        };
        if let Some(order) = owner(&change.after, "Order").filter(|_| before != after) {
            let book = self.books.entry(order.to_owned()).or_default();
            book.reserved += after - before;
            book.changed = change.at;
        }
    }

    fn see_status(&mut self, change: &Change) {
        let book = self.books.entry(uid(&change.after).to_owned()).or_default();
        let before = book.told;
        book.told = count(&change.after, "availableReplicas");
        if book.told == book.reserved && before != book.told {
            let behind = change.at.duration_since(book.changed).as_secs_f64();
            self.latest = self.latest.max(behind);
        }
    }
}

fn spec(node: &Value) -> Option<&Value> {
    at(node, "/spec")
}

fn count(order: &Value, field: &str) -> i64 {
    at(order, "/status")
        .and_then(|status| status.get(field)?.as_i64())
        .unwrap_or_default()
}

/// Fills a cluster, changes its nodes for a minute, and lets it rest.
pub fn trial(size: Size, seed: u64) -> Figures {
    let mut script = Script::quiet("status", 0);
    script.nodes = (0..size.nodes).map(|n| racked(n, size)).collect();
    script.shards = 64;
    script.replicas = size.replicas;
    script.scheduling = Duration::from_millis(1);
    runtime().block_on(measure(&script, size, seed))
}

fn racked(n: usize, size: Size) -> Value {
    let rack = format!("r-{}", n % racks(size));
    node(&format!("node-{n}"), &[("rack", &rack)], "4", "8Gi")
}

fn racks(size: Size) -> usize {
    (size.nodes / 2).max(1)
}

fn nth_order(n: usize, size: Size) -> Value {
    let mut template = json!({ "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } } });
    if !n.is_multiple_of(1000) {
        template["nodeSelector"] = json!({ "rack": format!("r-{}", n % racks(size)) });
    }
    order(&format!("order-{n}"), &template)
}

async fn measure(script: &Script, size: Size, seed: u64) -> Figures {
    let options = Options {
        keep: Keep::Nothing,
        ..Options::default()
    };
    let mut stage = Stage::set(script, seed, options);
    let meter = Arc::<Mutex<Meter>>::default();
    let seen = meter.clone();
    stage
        .cluster
        .observe(Box::new(move |change| seen.lock().see(change)));
    for n in 0..size.orders {
        stage.users.create("orders", &nth_order(n, size));
    }
    let mut figures = Figures::default();
    let mut watch = Watch {
        heard: 0,
        since: stage.cluster.elapsed(),
    };
    stage.until(Duration::from_secs(30)).await;
    quiet(&mut stage, &meter, SETTLED).await;
    figures.filling = watch.part(&stage, &meter);
    churn(&mut stage, size, seed).await;
    figures.churn = watch.part(&stage, &meter);
    quiet(&mut stage, &meter, TRUE_WITHIN).await;
    figures.untrue = untrue(&stage);
    quiet(&mut stage, &meter, SETTLED).await;
    // What is written after the last change belongs to neither.
    watch.part(&stage, &meter);
    stage.until(stage.cluster.elapsed() + REST).await;
    figures.rest = watch.part(&stage, &meter);
    for shard in stage.cluster.api(|api| api.list("shards")) {
        let pages = at(&shard, "/spec/page").is_some();
        let sizes = if pages {
            &mut figures.pages
        } else {
            &mut figures.totals
        };
        sizes.push(shard.to_string().len());
    }
    let meter = meter.lock();
    (figures.closest, figures.latest) = (meter.closest.clone(), meter.latest);
    figures.violations = std::mem::take(&mut stage.violations);
    figures
}

/// Cuts a trial into parts.
struct Watch {
    heard: u64,
    since: Duration,
}

impl Watch {
    fn part(&mut self, stage: &Stage<'_>, meter: &Mutex<Meter>) -> Part {
        let heard = stage
            .links
            .iter()
            .filter_map(|link| link.tally().heard.get("shards").copied())
            .sum();
        let mut part = std::mem::take(&mut meter.lock().part);
        let now = stage.cluster.elapsed();
        (part.heard, part.span) = (heard - self.heard, now - self.since);
        (self.heard, self.since) = (heard, now);
        part
    }
}

/// Waits until no pair has changed for so long.
async fn quiet(stage: &mut Stage<'_>, meter: &Mutex<Meter>, span: SignedDuration) {
    let patience = stage.cluster.elapsed() + PATIENCE;
    while stage.cluster.now().duration_since(meter.lock().changed) < span {
        pass(stage, TICK).await;
        if stage.cluster.elapsed() > patience {
            stage.violations.push("it never comes to rest".to_owned());
            return;
        }
    }
}

/// Lets time pass; pages are too large to remember all they ever said.
async fn pass(stage: &mut Stage<'_>, span: Duration) {
    stage.until(stage.cluster.elapsed() + span).await;
    stage.cluster.api(|api| {
        let old = api.revision_before(SignedDuration::from_secs(2));
        api.compact(old);
    });
}

async fn churn(stage: &mut Stage<'_>, size: Size, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cordoned = BTreeSet::new();
    for _ in 0..size.changes * u32::try_from(CHURN.as_secs()).expect("a minute") {
        let n = rng.usize(0..size.nodes);
        let cordon = !cordoned.remove(&n) && cordoned.insert(n);
        stage.nodes.befall(&format!("node-{n}"), &Fortune::Cordon(cordon));
        pass(stage, Duration::from_secs(1) / size.changes).await;
    }
}

/// Orders whose status does not say what is so.
fn untrue(stage: &Stage<'_>) -> Vec<String> {
    let (orders, nodes, tickets, now) = stage.cluster.api(|api| {
        let [orders, nodes, tickets] = ["orders", "nodes", "tickets"].map(|kind| api.list(kind));
        (orders, nodes, tickets, api.now())
    });
    let grace = SignedDuration::try_from(GRACE).expect("a minute");
    let mut reserved = BTreeMap::<&str, i64>::new();
    for ticket in &tickets {
        if text(ticket, "/status/phase") == "Reserved"
            && let Some(order) = owner(ticket, "Order")
        {
            *reserved.entry(order).or_default() += 1;
        }
    }
    let mut untrue = Vec::new();
    for order in &orders {
        let wanted = |node: &&Arc<Value>| deserves(order, node, grace, now) == Deserves::Ticket;
        let desired = nodes.iter().filter(wanted).count() as i64;
        let reserved = reserved.get(uid(order)).copied().unwrap_or_default();
        for (field, so) in [
            ("replicas", desired),
            ("availableReplicas", reserved),
            ("updatedReplicas", reserved),
            ("unavailableReplicas", desired - reserved),
            ("observedGeneration", 1),
        ] {
            let told = count(order, field);
            if told != so {
                let name = text(order, "/metadata/name");
                untrue.push(format!("{name}: {field} is {told}, not {so}"));
            }
        }
    }
    untrue
}
