//! The control plane's programs, built from the pinned Go modules on first use.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

/// The directory that holds the programs. Builds them if no cache has them (about ten minutes, once), showing
/// the build's messages on standard error; a failure carries the last of them.
pub(crate) async fn directory() -> Result<PathBuf> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(found) = FOUND.lock().clone() {
        return Ok(found);
    }
    let built = tokio::task::spawn_blocking(build).await??;
    *FOUND.lock() = Some(built.clone());
    Ok(built)
}

fn build() -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/control-plane/build.sh");
    let mut build = Command::new("bash");
    build
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut build = build
        .spawn()
        .with_context(|| format!("cannot run bash {script}"))?;
    // The script prints one line on standard output, which fits the pipe, so reading in turn cannot block it.
    let mut messages = Vec::new();
    for line in BufReader::new(build.stderr.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
    {
        eprintln!("{line}");
        messages.push(line);
    }
    let output = build.wait_with_output()?;
    if !output.status.success() {
        let last = messages.split_off(messages.len().saturating_sub(40)).join("\n");
        bail!("{script} failed with {}:\n{last}", output.status);
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
