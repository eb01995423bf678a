//! Weeks of virtual time with twenty Orders of every kind, once undisturbed and once with crashes and
//! other owners: what is there in the end has to be the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    run::{Options, Stage, runtime},
    script::{Script, Step, nth_node},
};
use crate::oracle::{pair, settled, windows};
use testbed::{
    object::text,
    sim::{
        actors::{nodes::Fortune, users::order},
        journal::Keep,
    },
};

const DAY: u64 = 24 * 3600;
const REPLICAS: usize = 3;
const NODES: usize = 4;

/// What the Tickets of a pair (Order and node by name) come to.
pub type Tickets = BTreeMap<(String, String), Vec<String>>;

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    /// The Tickets in the end.
    pub tickets: Tickets,
    /// What must not be.
    pub violations: Vec<String>,
    /// Revisions that the judges saw.
    pub revisions: u64,
}

/// Plays so many days with and without disturbance; returns what was compared, or what is not the same.
pub fn differences(days: u64, seed: u64) -> Result<String, Vec<String>> {
    let (calm, torn) = std::thread::scope(|scope| {
        let calm = scope.spawn(|| run(days, false, seed));
        let torn = run(days, true, seed);
        (calm.join().expect("it ends"), torn)
    });
    let mut wrong: Vec<String> = calm.violations.into_iter().chain(torn.violations).collect();
    let pairs: BTreeSet<_> = calm.tickets.keys().chain(torn.tickets.keys()).collect();
    for pair in &pairs {
        let (calm, torn) = (calm.tickets.get(pair), torn.tickets.get(pair));
        if calm != torn {
            wrong.push(format!("{pair:?}: {torn:?}, undisturbed {calm:?}"));
        }
    }
    if calm.tickets.is_empty() {
        wrong.push("nothing was there to compare".to_owned());
    }
    let tickets: usize = calm.tickets.values().map(Vec::len).sum();
    let (pairs, revisions) = (pairs.len(), [calm.revisions, torn.revisions]);
    match wrong.is_empty() {
        true => Ok(format!(
            "the same {tickets} Tickets of {pairs} pairs, {revisions:?} revisions judged"
        )),
        false => Err(wrong),
    }
}

/// Plays so many days, disturbed or not, and some minutes more.
pub fn run(days: u64, disturbed: bool, seed: u64) -> Outcome {
    let script = script(days, disturbed, seed);
    let options = Options {
        keep: Keep::Nothing,
        ..Options::default()
    };
    runtime().block_on(async {
        let mut stage = Stage::set(&script, 1, options);
        stage.play().await;
        // Clear of every window's edge, and of what is removed some time after one.
        stage.until(Duration::from_secs(days * DAY + 7 * 60 + 30)).await;
        let grace = SignedDuration::from_secs(60);
        let gaps = settled::State::of(&stage.cluster, grace).gaps();
        let (mut violations, revisions) = stage.verdict();
        violations.extend(gaps.pairs.into_values().chain(gaps.other));
        let tickets = stage.cluster.api(|api| api.list("tickets"));
        Outcome {
            tickets: told(&tickets),
            violations,
            revisions,
        }
    })
}

fn told(tickets: &[std::sync::Arc<Value>]) -> Tickets {
    let mut told = Tickets::new();
    for ticket in tickets {
        let order = text(ticket, "/metadata/ownerReferences/0/name");
        let key = (order.to_owned(), text(ticket, "/spec/nodeName").to_owned());
        let [start, end] =
            ["windowStart", "expirationTime"].map(|field| windows::time(ticket, &format!("/status/{field}")));
        let sequence = &ticket["spec"]["sequence"];
        let phase = text(ticket, "/status/phase");
        assert!(pair(ticket).is_some(), "an Order's Ticket");
        let line = format!("{sequence} {phase} {start:?}..{end:?}");
        told.entry(key).or_default().push(line);
    }
    told.values_mut().for_each(|lines| lines.sort());
    told
}

/// The plot: Orders in the first minutes, some node life, some edits; and, if wanted, what befalls korder.
fn script(days: u64, disturbed: bool, seed: u64) -> Script {
    let mut script = Script::quiet("month", NODES);
    (script.replicas, script.timed) = (REPLICAS, true);
    script.scheduling = Duration::from_millis(200);
    for (n, spec) in orders().into_iter().enumerate() {
        let mut template = spec["template"].clone();
        template["resources"] = json!({ "requests": { "cpu": "20m", "memory": "16Mi" } });
        let mut made = order(&format!("order-{n:02}"), &template);
        made["spec"]["strategy"] = spec["strategy"].clone();
        script = script.at(20 + 7 * n as u64, Step::Order(made));
    }
    let befall = |n: usize, fortune| Step::Befall(format!("node-{n}"), fortune);
    let longer = json!({ "spec": { "template": { "spec": { "duration": "40m" } } } });
    let life = [
        (1, befall(1, Fortune::Cordon(true))),
        (2, befall(1, Fortune::Cordon(false))),
        (3, Step::Join(nth_node(6))),
        (4, befall(2, Fortune::Leave)),
        (5, Step::Edit("order-04".to_owned(), longer)),
        (
            6,
            Step::Edit("order-07".to_owned(), json!({ "spec": { "paused": true } })),
        ),
        (
            8,
            Step::Edit("order-07".to_owned(), json!({ "spec": { "paused": false } })),
        ),
    ];
    for (tenth, step) in life {
        // Clear of every window's edge.
        let hours = tenth * days * 24 / 10;
        script = script.at(hours * 3600 + 7 * 60 + 30, step);
    }
    for hour in 1..days * 24 {
        script = script.at(hour * 3600, Step::CompactOld);
    }
    if disturbed {
        disturb(&mut script, days, seed);
    }
    script.steps.sort_by_key(|(at, _)| *at);
    script.calm_at = Duration::from_secs(days * DAY - 600);
    script
}

/// Something every few hours, and often enough just when windows open and close.
fn disturb(script: &mut Script, days: u64, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut at = Duration::from_secs(1800);
    while at < Duration::from_secs(days * DAY - 1800) {
        let span = Duration::from_millis(rng.u64(100..40_000));
        let step = match rng.u8(0..10) {
            0..=4 => Step::Crash(span),
            5..=6 => Step::Restart(span),
            7 => Step::Partition(span),
            8 => Step::Freeze(span),
            _ => Step::Compact,
        };
        script.steps.push((at, step));
        at += Duration::from_secs(rng.u64(600..5 * 3600));
        if rng.bool() {
            let quarters = at.as_secs() / 900 * 900;
            at = Duration::from_secs(quarters + 880) + Duration::from_millis(rng.u64(0..40_000));
        }
    }
}

/// Twenty strategies: every type under every policy, and zones, odd days, cleanup and start times.
fn orders() -> Vec<Value> {
    let made = |kind: &str, schedule: Option<&str>, zone: Option<&str>, policy: &str, template: Value| {
        let mut strategy = json!({ "type": kind, "refreshPolicy": policy });
        for (field, value) in [("schedule", schedule), ("timeZone", zone)] {
            if let Some(value) = value {
                strategy[field] = json!(value);
            }
        }
        json!({ "strategy": strategy, "template": template })
    };
    let long = |duration: &str| json!({ "duration": duration });
    let kept = |duration: &str, policy: &str, ttl: u64| {
        let lifecycle = json!({ "cleanupPolicy": policy, "ttlSecondsAfterFinished": ttl });
        json!({ "duration": duration, "lifecycle": lifecycle })
    };
    let (berlin, york) = (Some("Europe/Berlin"), Some("America/New_York"));
    vec![
        made("OneTime", None, None, "OnClaim", json!({})),
        made("OneTime", None, None, "Never", kept("30h", "Delete", 7200)),
        made("OneTime", None, None, "Always", long("7h")),
        made("OneTime", None, None, "OnRelease", kept("50h", "Retain", 0)),
        made("Scheduled", Some("*/30 * * * *"), None, "OnClaim", long("12m")),
        made(
            "Scheduled",
            Some("0 * * * *"),
            berlin,
            "OnRelease",
            kept("90m", "Delete", 3600),
        ),
        made(
            "Scheduled",
            Some("30 2 * * *"),
            berlin,
            "Never",
            kept("3h", "Retain", 0),
        ),
        made("Scheduled", Some("15 9 * * 1-5"), york, "OnClaim", long("8h")),
        made(
            "Scheduled",
            Some("0 0 1,15 * *"),
            None,
            "OnClaim",
            kept("26h", "Delete", 100_000),
        ),
        made("Scheduled", Some("45 */6 * * *"), None, "Always", long("20m")),
        made("Recurring", Some("*/15 * * * *"), None, "OnClaim", json!({})),
        made("Recurring", Some("0 */2 * * *"), york, "Always", long("1h")),
        made(
            "Recurring",
            Some("0 3 * * *"),
            berlin,
            "OnRelease",
            kept("20h", "Retain", 60),
        ),
        made(
            "Recurring",
            Some("20 * * * *"),
            None,
            "Never",
            kept("15m", "Delete", 1000),
        ),
        made("Recurring", Some("0 0 * * *"), None, "OnClaim", json!({})),
        made(
            "Recurring",
            Some("0 * * * *"),
            None,
            "OnClaim",
            kept("59m", "Retain", 5),
        ),
        made("Recurring", Some("0 0 * * 0"), york, "OnClaim", long("100h")),
        made("OneTime", None, None, "Always", long("45m")),
        made(
            "Scheduled",
            Some("10,40 8-18 * * *"),
            berlin,
            "OnClaim",
            long("25m"),
        ),
        made(
            "Scheduled",
            Some("5 4 * * *"),
            None,
            "OnRelease",
            kept("23h", "Delete", 0),
        ),
    ]
}
