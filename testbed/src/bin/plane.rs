//! Starts a control plane for manual work, prints its kubeconfig, and runs it until Ctrl-C.

use testbed::real::{Plane, PlaneConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let plane = tokio::select! {
        biased; // a signal while the plane starts ends it
        _ = tokio::signal::ctrl_c() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
        plane = Plane::start(PlaneConfig::default()) => plane?,
    };
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    println!("export PATH={}:$PATH", plane.programs().display());
    eprintln!("testbed: logs in {}; Ctrl-C ends it", plane.dir().display());
    tokio::select! {
        biased; // either ends it
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
