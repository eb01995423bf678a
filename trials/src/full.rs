//! Roll-outs on full nodes with thieves that wait for room: a seed is a script.
//!
//! Nobody but korder takes a Guardian away here, no node goes or is NotReady for as long as its grace, so that
//! every room that is lost is korder's doing.

use std::time::Duration;

use serde_json::{Value, json};

use super::script::{Script, Step, template};
use testbed::sim::{
    actors::{
        nodes::{Fortune, node},
        users::order,
    },
    faults::Faults,
};

/// What fills a node of four up to a Guardian of one.
const FILLING: &str = "3";
/// What a thief asks for: more than a smaller template leaves free.
const THIEF: &str = "500m";
/// How long a node is NotReady at most, in milliseconds; its grace is a minute.
const SHORT_OF_GRACE: u64 = 40_000;
/// When all Guardians are bound.
const BEGUN: u64 = 30;

/// Full nodes with thieves, and an Order that may have so many of them in replacement.
pub fn quiet(name: &str, nodes: usize, most: u32) -> Script {
    let mut script = Script::quiet(name, 0);
    script.most = Some(most);
    let mut made = order("agents", &template(0));
    made["spec"]["template"]["spec"] = json!({ "resources": { "requests": { "cpu": "1" } } });
    made["spec"]["updateStrategy"] = json!({ "maxUnavailable": most });
    for n in 0..nodes {
        let name = format!("node-{n}");
        script.nodes.push(node(&name, &[], "4", "8Gi"));
        script = script.at(
            1,
            Step::Workload(format!("fill-{n}"), FILLING.to_owned(), Some(name)),
        );
    }
    script = script.at(10, Step::Order(made));
    for n in 0..nodes {
        for (thief, node) in [("a", Some(format!("node-{n}"))), ("b", None)] {
            script = script.at(
                BEGUN,
                Step::Thief(format!("thief-{n}{thief}"), THIEF.to_owned(), node),
            );
        }
    }
    script
}

/// A change of the Order's template.
pub fn edit(part: Value) -> Step {
    Step::Edit(
        "agents".to_owned(),
        json!({ "spec": { "template": { "spec": part } } }),
    )
}

/// What the template asks for.
pub fn cpu(amount: &str) -> Value {
    json!({ "resources": { "requests": { "cpu": amount } } })
}

/// The script of a seed.
pub fn drawn(seed: u64) -> Script {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xf011);
    let (nodes, most) = (rng.usize(1..16), rng.u32(1..5));
    let mut script = quiet("full", nodes, most);
    script.shards = [1, 4, 16, 64][rng.usize(0..4)];
    script.offset = [0, 0, 3600, -3600, 7][rng.usize(0..5)];
    script.rate = [1.0, 1.0, 1.0, 1.01, 0.99][rng.usize(0..5)];
    script.scheduling = Duration::from_millis([2, 20, 200][rng.usize(0..3)]);
    script.faults = Faults::drawn(&mut rng);
    script.steps.push((Duration::from_secs(BEGUN), Step::Faults));
    let mut at = BEGUN * 1000 + 1000;
    let pace = [500, 3000, 15_000][rng.usize(0..3)];
    let end = at + rng.u64(10_000..120_000);
    let mut last = end;
    while at < end {
        let step = step(&mut rng);
        script.steps.push((Duration::from_millis(at), step));
        if rng.u8(0..8) == 0 {
            let name = format!("node-{}", rng.usize(0..nodes));
            let until = at + rng.u64(100..SHORT_OF_GRACE);
            for (at, ready) in [(at, ["False", "Unknown"][rng.usize(0..2)]), (until, "True")] {
                let befalls = Step::Befall(name.clone(), Fortune::Ready(ready));
                script.steps.push((Duration::from_millis(at), befalls));
            }
            last = last.max(until);
        }
        at += rng.u64(1..2 * pace);
    }
    script.calm_at = Duration::from_millis(at.max(last));
    for calmed in [
        Step::Seats(None, Duration::ZERO),
        Step::RefusePods(false),
        Step::Edit("agents".to_owned(), json!({ "spec": { "paused": false } })),
    ] {
        script.steps.push((script.calm_at, calmed));
    }
    script.steps.sort_by_key(|(at, _)| *at);
    script
}

fn step(rng: &mut fastrand::Rng) -> Step {
    let nth = rng.usize(0..100);
    let mut span = |most: u64| Duration::from_millis(rng.u64(100..most * 1000));
    let (long, short) = (span(40), span(10));
    match rng.u32(0..100) {
        0..=29 => edit(cpu(["1", "900m", "800m"][rng.usize(0..3)])),
        30..=44 => {
            let tolerations = (0..rng.usize(0..3)).map(|n| json!({ "key": format!("t{n}") }));
            edit(json!({ "tolerations": tolerations.collect::<Vec<_>>() }))
        }
        45..=51 => Step::Edit("agents".to_owned(), json!({ "spec": { "paused": rng.bool() } })),
        52..=56 => Step::RefusePods(rng.bool()),
        57..=62 => Step::StripTicket(nth),
        63..=68 => Step::StripGuardian(nth),
        69..=74 => Step::Partition(long),
        75..=80 => Step::Freeze(long),
        81..=91 => Step::Crash(short),
        92..=95 => Step::Restart(short),
        96..=97 => Step::Compact,
        _ => Step::Seats(Some(rng.usize(1..4)), Duration::from_millis(rng.u64(5..200))),
    }
}
