//! Orders whose windows open and close: a seed is a script.

use fastrand::Rng;
use serde_json::{Value, json};

use super::script::{Script, Step};

/// Windows take longer than what a [`Script::drawn`] has happen.
const SLOWER: u32 = 4;

/// The script of a seed: that of [`Script::drawn`], slower and with windows.
pub fn drawn(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed ^ 0x71c);
    let mut script = Script::drawn(seed);
    script.timed = true;
    for (at, step) in &mut script.steps {
        *at *= SLOWER;
        match step {
            Step::Order(order) => merge(order, &windows(&mut rng)),
            Step::Edit(_, patch) if patch.pointer("/spec/strategy").is_some() => {
                let wrong =
                    json!({ "spec": { "strategy": { "type": "Recurring", "schedule": "whenever" } } });
                *patch = if rng.u8(0..4) == 0 {
                    wrong
                } else {
                    windows(&mut rng)
                };
            }
            _ => {}
        }
    }
    script.calm_at *= SLOWER;
    script
}

/// Some windows, as a patch of an Order.
fn windows(rng: &mut Rng) -> Value {
    let zone = [Value::Null, json!("Asia/Kolkata"), json!("America/New_York")];
    let (kind, schedule, policy, duration) = match rng.u8(0..6) {
        0 => ("OneTime", None, None, None),
        1 => (
            "OneTime",
            None,
            Some("OnRelease"),
            Some(["200s", "10m", "20m"][rng.usize(0..3)]),
        ),
        2 => (
            "OneTime",
            None,
            Some("Always"),
            Some(["2m", "5m"][rng.usize(0..2)]),
        ),
        3 => ("Scheduled", Some("*/2 * * * *"), None, Some("70s")),
        4 => (
            "Scheduled",
            Some("*/5 * * * *"),
            Some("Never"),
            Some(["130s", "400s"][rng.usize(0..2)]),
        ),
        _ => (
            "Recurring",
            Some(["*/2 * * * *", "1-59/5 * * * *"][rng.usize(0..2)]),
            Some(["Always", "OnClaim"][rng.usize(0..2)]),
            [None, Some("80s")][rng.usize(0..2)],
        ),
    };
    let cleanup = ["Delete", "Retain"][rng.usize(0..2)];
    let ttl = [0, 30, 200][rng.usize(0..3)];
    json!({ "spec": {
        "strategy": {
            "type": kind, "schedule": schedule, "refreshPolicy": policy.unwrap_or("OnClaim"),
            "timeZone": zone[rng.usize(0..zone.len())],
        },
        "template": { "spec": {
            "duration": duration,
            "lifecycle": { "cleanupPolicy": cleanup, "ttlSecondsAfterFinished": ttl },
        } },
    } })
}

/// A merge patch.
fn merge(into: &mut Value, patch: &Value) {
    let (Some(fields), true) = (patch.as_object(), into.is_object()) else {
        into.clone_from(patch);
        return;
    };
    for (name, patch) in fields {
        if patch.is_null() {
            into.as_object_mut().expect("just seen").remove(name);
        } else {
            let fresh = || if patch.is_object() { json!({}) } else { Value::Null };
            let map = into.as_object_mut().expect("just seen");
            merge(map.entry(name).or_insert_with(fresh), patch);
        }
    }
}
