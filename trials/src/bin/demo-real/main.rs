//! `make demo-real`: korder on a real control plane with kwok nodes, the Orders of the documentation, and a
//! minute in the life of the nodes. What korder should do, and what it should cost, is predicted from the
//! nodes by rules written here a second time; the exit code is 1 if anything differs. Environment: `NODES`
//! (1000), `KEEP=1` leaves everything up until Ctrl-C, `KORDER` is the binary.

mod cluster;
mod costs;
mod life;
mod look;
mod rules;
mod story;
mod summary;

use std::{cell::OnceCell, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use story::Story;
use trials::show::{Tint, grouped};

/// With fewer there are not enough nodes of each kind for the story.
const FEWEST: usize = 200;
/// With more the columns of the table are too narrow.
const MOST: usize = 25_000;

struct Settings {
    nodes: usize,
    keep: bool,
    korder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let verdict = OnceCell::new();
    let demo = async {
        let settings = Settings::read()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            biased; // a signal ends it, whatever it does; dropping it stops all programs
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).context("no signals"),
            _ = terminate.recv() => Ok(None),
            _ = hang_up.recv() => Ok(None),
            good = run(&settings, &verdict) => good.map(Some),
        }
    };
    match demo.await {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => {
            println!("\nStopped; nothing is left running.");
            // Under KEEP=1 the demo was over before.
            verdict.get().map_or(130, |good| u8::from(!good)).into()
        }
        Err(error) => {
            eprintln!("\ndemo-real: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    fn read() -> Result<Self> {
        let nodes = match std::env::var("NODES") {
            Ok(text) => text
                .parse()
                .with_context(|| format!("NODES={text} is not a whole number"))?,
            Err(_) => 1000,
        };
        ensure!(
            (FEWEST..=MOST).contains(&nodes),
            "NODES={nodes}: from {FEWEST} to {MOST}, please"
        );
        let korder = match std::env::var_os("KORDER") {
            Some(path) => PathBuf::from(path),
            None => std::env::current_exe()?.with_file_name("korder"),
        };
        ensure!(
            korder.exists(),
            "no binary {}: `cargo build --release` makes it; KORDER names another",
            korder.display()
        );
        Ok(Self {
            nodes,
            keep: std::env::var("KEEP").is_ok_and(|keep| keep == "1"),
            korder,
        })
    }
}

/// Whether everything was as the rules say; `verdict` says so too as soon as it is known.
async fn run(settings: &Settings, verdict: &OnceCell<bool>) -> Result<bool> {
    let mut story = Story::new(settings.nodes);
    story.screen.say(&format!(
        "korder reserves room on {} nodes for three Orders; then nodes come, go and change for a minute. What korder \
         must do and write is predicted by the rules, and checked.",
        grouped(settings.nodes)
    ));
    println!();
    let cluster = Cluster::start(&settings.korder, settings.nodes, &mut story).await?;
    let played = life::play(&cluster, &mut story, settings.nodes).await;
    story.end()?;
    let good = match played {
        Ok(summary) => summary.tell(&story.screen),
        Err(error) => {
            story.screen.title(Tint::BAD, &format!("Failed: {error:#}"));
            false
        }
    };
    if !good {
        cluster.show_logs();
    }
    verdict.set(good).expect("set once");
    if settings.keep {
        cluster.show_commands(&settings.korder);
        std::future::pending::<()>().await;
    }
    Ok(good)
}
