//! One seed gives one journal, byte for byte, whatever the process around it.

use std::process::Command;

use libtest_mimic::Failed;

/// Seeds whose journals are compared.
const SEEDS: [&str; 5] = ["1", "2", "3", "4", "5"];

pub(crate) fn one_seed_in_two_processes() -> Result<(), Failed> {
    for seed in SEEDS {
        let plain = journal(seed, &[("TZ", "UTC"), ("LANG", "C"), ("HOME", "/")])?;
        let other = journal(
            seed,
            &[
                ("TZ", "Asia/Kathmandu"),
                ("LANG", "tr_TR.UTF-8"),
                ("LC_ALL", "tr_TR.UTF-8"),
                ("HOME", "/nonexistent"),
                ("POD_NAME", "another"),
                ("KUBECONFIG", "/nonexistent/kubeconfig"),
                ("RUST_LOG", "trace"),
            ],
        )?;
        if plain.len() < 10_000 {
            return Err(format!("the journal of seed {seed} has only {} bytes", plain.len()).into());
        }
        if plain != other {
            let line = plain
                .split(|byte| *byte == b'\n')
                .zip(other.split(|byte| *byte == b'\n'));
            let differs = line.enumerate().find(|(_, (one, two))| one != two);
            let (number, (one, two)) = differs.ok_or("one journal is longer than the other")?;
            let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
            return Err(format!("seed {seed}, line {number}:\n{}\n{}", text(one), text(two)).into());
        }
        println!("seed {seed}: {} bytes, twice the same", plain.len());
    }
    Ok(())
}

fn journal(seed: &str, environment: &[(&str, &str)]) -> Result<Vec<u8>, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["seed", seed, "--journal"])
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(output.stdout)
}
