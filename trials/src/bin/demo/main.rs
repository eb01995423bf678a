//! `make demo`: korder, unmodified, in a simulated cluster on virtual time: thousands of nodes, their
//! troubles, and a crash, in seconds and without anything but Rust. The exit code is 1 if a rule is broken.
//! Environment: `NODES` (5000), `SEED` (1), `KORDER_DEMO_SERVE=1` serves the simulated API on loopback.

mod board;
mod churn;
mod fleet;
mod gauges;
mod plot;
mod serve;
mod stage;
mod summary;
mod view;

use std::{fmt::Display, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use gauges::Gauges;
use serve::Server;
use stage::{Interrupted, Settings, Stage};
use trials::show::{Screen, Summary};

/// The cluster consists of small allocations; this allocator makes it about a third faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// With fewer there are not enough nodes of each kind for the story.
const FEWEST: usize = 60;
/// With more the story gets long.
const MOST: usize = 50_000;

fn main() -> ExitCode {
    match settings().and_then(|settings| demo(settings, serves())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() => {
            println!("Stopped.");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Settings> {
    let nodes = number("NODES", 5000)?;
    ensure!(
        (FEWEST..=MOST).contains(&nodes),
        "NODES={nodes}: from {FEWEST} to {MOST}, please"
    );
    Ok(Settings {
        nodes,
        seed: number("SEED", 1)?,
    })
}

fn number<N: FromStr + Display>(name: &str, usual: N) -> Result<N> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| anyhow!("{name}={text} is not a whole number, 0 or greater")),
        Err(_) => Ok(usual),
    }
}

fn serves() -> bool {
    std::env::var("KORDER_DEMO_SERVE").is_ok_and(|serve| serve == "1")
}

/// Plays the demo; whether all rules were kept.
fn demo(settings: Settings, serves: bool) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("starting a runtime")?;
    let gauges = Gauges::install()?;
    let (stage, good) = runtime.block_on(async {
        let mut stage = Stage::set(settings, gauges, Screen::nothing())?;
        let interrupted = stage.interrupted.clone();
        let server = serves
            .then(|| Server::start(&stage.cluster, interrupted))
            .transpose()?;
        if let Some(server) = &server {
            println!("{}\n", server.usage());
        }
        stage.screen = Screen::new();
        let good = run(&mut stage).await?.tell(&stage.screen);
        if let Some(server) = server {
            linger(&mut stage, &server).await?;
        }
        Ok::<_, anyhow::Error>((stage, good))
    })?;
    // All its memory goes with the process, which is faster than object by object.
    std::mem::forget((stage, runtime));
    Ok(good)
}

/// Plays the plot and sums up.
async fn run(stage: &mut Stage) -> Result<Summary> {
    let facts = plot::play(stage).await;
    stage.leave()?;
    Ok(summary::summary(stage, &facts?))
}

/// Lets time run on as it does outside, until the user has seen enough.
async fn linger(stage: &mut Stage, server: &Server) -> Result<()> {
    println!(
        "\nThe cluster lives on in real time until Ctrl-C:\n\n{}",
        server.usage()
    );
    tokio::time::resume();
    loop {
        match stage.pass(Duration::from_millis(200)).await {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => break,
            Err(error) => return Err(error),
        }
    }
    println!("\nStopped; nothing is left running.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    }

    fn stage(seed: u64) -> Stage {
        let settings = Settings { nodes: FEWEST, seed };
        Stage::set(settings, Gauges::default(), Screen::nothing()).unwrap()
    }

    /// Plays the whole plot with few nodes, shown to nobody; the violations and the journal's digest.
    fn played(seed: u64) -> (Vec<String>, (u64, u64)) {
        runtime().block_on(async {
            let mut stage = stage(seed);
            let summary = run(&mut stage).await.unwrap();
            (summary.violations, stage.cluster.journal().digest())
        })
    }

    #[test]
    fn the_plot_breaks_no_rule() {
        for seed in 1..4 {
            let found = played(seed).0;
            assert!(found.is_empty(), "SEED={seed} NODES={FEWEST}: {found:#?}");
        }
    }

    #[test]
    fn an_interrupt_ends_the_plot() {
        runtime().block_on(async {
            let mut stage = stage(1);
            stage
                .interrupted
                .store(true, std::sync::atomic::Ordering::Release);
            assert!(run(&mut stage).await.unwrap_err().is::<Interrupted>());
        });
    }

    #[test]
    fn a_seed_is_a_run() {
        let (one, again) = (played(7), played(7));
        assert_eq!(one.1, again.1);
        assert_ne!(one.1, played(8).1);
    }
}
