//! Plants every defect of `trials/mutants.yaml` into a copy of the sources, each behind a switch, builds
//! that once, and asks the simulated runs and the unit tests to notice each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;

/// Plants defects and reports which are noticed.
#[derive(Parser)]
struct Arguments {
    /// Only those whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Seeds that may notice a defect
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// Least part that must be noticed
    #[arg(long, default_value_t = 0.95)]
    least: f64,
}

/// One defect.
#[derive(Deserialize)]
struct Mutant {
    name: String,
    file: PathBuf,
    /// Text that occurs once in the file.
    find: String,
    /// What stands there instead; `$on` is true while the defect is switched on.
    replace: String,
    /// What a run with three replicas has to say of it: nothing else counts.
    #[serde(default)]
    says: Option<String>,
    /// Why nothing can notice it, if so.
    #[serde(default)]
    excused: Option<String>,
}

/// A run that takes longer than this has met a defect that makes it hang.
const LONGEST: Duration = Duration::from_secs(300);

/// What is appended to the library: the switch.
const SWITCH: &str = r#"
/// Whether a planted defect is switched on.
pub fn mutant(name: &str) -> bool {
    static ON: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("KORDER_MUTANT").ok());
    ON.as_deref() == Some(name)
}
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate has a parent")?;
    let yaml = fs::read_to_string(root.join("trials/mutants.yaml"))?;
    let mutants: Vec<Mutant> = serde_saphyr::from_str(&yaml).context("trials/mutants.yaml")?;
    let tree = root.join("target/mutants/tree");
    let mut files = sources(root)?;
    plant(&mut files, &mutants)?;
    for (file, text) in &files {
        write(&tree.join(file), text)?;
    }
    let suite = Suite::build(&tree, arguments.seeds)?;
    ensure!(
        suite.noticed("none", None).await?.is_none(),
        "the suite fails without any defect: mend that first"
    );
    let chosen: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| mutant.name.contains(&arguments.only))
        .collect();
    let mut missed = Vec::new();
    for mutant in &chosen {
        let by = suite.noticed(&mutant.name, mutant.says.as_deref()).await?;
        println!("{:<40} {}", mutant.name, by.unwrap_or("NOT NOTICED"));
        if by.is_none() {
            missed.push(mutant);
        }
    }
    for mutant in &missed {
        println!(
            "not noticed: {}: {}",
            mutant.name,
            mutant.excused.as_deref().unwrap_or("no reason is known")
        );
    }
    let noticed = chosen.len() - missed.len();
    let part = noticed as f64 / chosen.len().max(1) as f64;
    println!(
        "{noticed} of {} defects noticed ({:.0} %)",
        chosen.len(),
        part * 100.0
    );
    Ok(ExitCode::from(u8::from(part < arguments.least)))
}

/// What the build needs, by path.
fn sources(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--"])
        .args(["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"])
        .args(["src", "testbed", "trials", "deploy", "tests"])
        .current_dir(root)
        .output()?;
    ensure!(listed.status.success(), "git ls-files failed");
    let mut files = BTreeMap::new();
    for file in String::from_utf8(listed.stdout)?.lines().map(PathBuf::from) {
        // One that is deleted and not committed yet is still listed.
        if let Ok(text) = fs::read(root.join(&file)) {
            files.insert(file, text);
        }
    }
    Ok(files)
}

/// Leaves alone what has not changed, so that it is not built again.
fn write(to: &Path, text: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file has a folder")?)?;
    Ok(fs::write(to, text)?)
}

fn plant(files: &mut BTreeMap<PathBuf, Vec<u8>>, mutants: &[Mutant]) -> Result<()> {
    for mutant in mutants {
        let named = || format!("{} in {}", mutant.name, mutant.file.display());
        let bytes = files.get_mut(&mutant.file).with_context(named)?;
        let text = std::str::from_utf8(bytes).with_context(named)?;
        let found = text.matches(&mutant.find).count();
        ensure!(found == 1, "{}: its text occurs {found} times, not once", named());
        let switch = format!("crate::mutant({:?})", mutant.name);
        let planted = text.replace(&mutant.find, &mutant.replace.replace("$on", &switch));
        *bytes = planted.into_bytes();
    }
    let library = files.get_mut(Path::new("src/lib.rs")).context("src/lib.rs")?;
    library.extend_from_slice(SWITCH.as_bytes());
    Ok(())
}

/// What may notice a defect.
struct Suite {
    sim: PathBuf,
    unit: PathBuf,
    seeds: u64,
}

impl Suite {
    fn build(tree: &Path, seeds: u64) -> Result<Self> {
        let target = tree.with_file_name("target");
        let cargo = |arguments: &[&str]| -> Result<String> {
            let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(arguments)
                .current_dir(tree)
                .env("CARGO_TARGET_DIR", &target)
                .stderr(Stdio::inherit())
                .output()?;
            ensure!(built.status.success(), "the planted sources do not build");
            Ok(String::from_utf8(built.stdout)?)
        };
        cargo(&["build", "--release", "--package", "trials", "--bin", "sim"])?;
        let built = cargo(&[
            "test",
            "--package",
            "korder",
            "--lib",
            "--no-run",
            "--message-format",
            "json",
        ])?;
        let unit = built
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["profile"]["test"] == true && message["target"]["name"] == "korder")
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
            .context("cargo names no unit tests")?;
        Ok(Self {
            sim: target.join("release/sim"),
            unit,
            seeds,
        })
    }

    /// What notices a defect first.
    async fn noticed(&self, mutant: &str, says: Option<&str>) -> Result<Option<&'static str>> {
        let seeds = self.seeds.to_string();
        let soak = ["soak", "--first", "1", "--count", &seeds, "--stop"];
        let several = (self.seeds / 4).to_string();
        let shared = [
            "soak",
            "--first",
            "1",
            "--count",
            &several,
            "--stop",
            "--replicas",
            "3",
        ];
        if let Some(says) = says {
            // It goes on after other violations, until one of them is this.
            let arguments = shared.iter().copied().filter(|argument| *argument != "--stop");
            let said = says_what(mutant, &self.sim, arguments).await?;
            return Ok(said.contains(says).then_some("seeds with three replicas"));
        }
        let runs: [(&str, &Path, &[&str]); 4] = [
            ("unit tests", &self.unit, &[]),
            ("fixed runs", &self.sim, &["fixed"]),
            ("seeds", &self.sim, &soak),
            ("seeds with three replicas", &self.sim, &shared),
        ];
        for (by, program, arguments) in runs {
            if fails(mutant, program, arguments).await? {
                return Ok(Some(by));
            }
        }
        Ok(None)
    }
}

/// What a run with the defect prints.
async fn says_what(mutant: &str, program: &Path, arguments: impl Iterator<Item = &str>) -> Result<String> {
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .env("KORDER_MUTANT", mutant)
        .stderr(Stdio::null())
        .output();
    Ok(String::from_utf8(run.await?.stdout)?)
}

/// Whether a run with the defect ends badly, or not at all.
async fn fails(mutant: &str, program: &Path, arguments: &[&str]) -> Result<bool> {
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .env("KORDER_MUTANT", mutant)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(LONGEST, run).await {
        Ok(status) => Ok(!status?.success()),
        Err(_) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_can_be_planted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let yaml = fs::read_to_string(root.join("trials/mutants.yaml")).unwrap();
        let mutants: Vec<Mutant> = serde_saphyr::from_str(&yaml).unwrap();
        let mut files = sources(root).unwrap();
        plant(&mut files, &mutants).unwrap();
    }
}
