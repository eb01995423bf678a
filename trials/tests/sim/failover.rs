//! How fast the next owner of a shard writes, in lease durations.

use libtest_mimic::{Failed, Trial};
use trials::failover::{Loss, failovers};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, loss, most| {
        crate::trial(format!("failover::{name}"), move || {
            within(name_of(loss), loss, most)
        })
    };
    vec![
        trial("after_a_crash_within_1.2_of_the_last_renewal", Loss::Crash, 1.2),
        trial("after_the_end_within_0.1", Loss::End, 0.1),
        trial(
            "after_a_restart_in_place_within_0.2_of_its_start",
            Loss::Restart,
            0.2,
        ),
    ]
}

fn name_of(loss: Loss) -> &'static str {
    match loss {
        Loss::Crash => "crash",
        Loss::End => "end",
        Loss::Restart => "restart",
    }
}

/// `SIM_FAILOVERS` says how many seeds (100).
fn within(what: &str, loss: Loss, most: f64) -> Result<(), Failed> {
    let count = std::env::var("SIM_FAILOVERS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    let all = failovers(loss, count)?;
    let (Some(least), Some(greatest)) = (all.first(), all.last()) else {
        return Err("no shard had anything to write".into());
    };
    let half = all[all.len() / 2];
    if *greatest > most {
        return Err(format!("{greatest:.3} lease durations, {most} allowed").into());
    }
    println!(
        "{what}: {} shards of {count} seeds: {least:.3} to {greatest:.3} lease durations, half within {half:.3}",
        all.len()
    );
    Ok(())
}
