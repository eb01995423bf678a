//! The binary as a user meets it: what it prints, and how it ends when it is asked for nonsense.
//!
//! No trial needs a cluster; each runs the binary with an environment of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use korder::api;
use libtest_mimic::{Failed, Trial};

use crate::harness::fast;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fast(
            "cli",
            "wrong_arguments_end_in_one_line",
            wrong_arguments_end_in_one_line,
        ),
        fast(
            "cli",
            "wrong_environment_ends_in_one_line",
            wrong_environment_ends_in_one_line,
        ),
        fast(
            "cli",
            "missing_kubeconfig_ends_at_once",
            missing_kubeconfig_ends_at_once,
        ),
        fast(
            "cli",
            "wrong_kubeconfig_ends_at_once",
            wrong_kubeconfig_ends_at_once,
        ),
        fast(
            "cli",
            "a_malformed_kubeconfig_is_not_quoted",
            a_malformed_kubeconfig_is_not_quoted,
        ),
        fast(
            "cli",
            "explain_says_that_nobody_answers",
            explain_says_that_nobody_answers,
        ),
        fast(
            "cli",
            "help_lists_the_flags_of_the_contract",
            help_lists_the_flags_of_the_contract,
        ),
        fast("cli", "crds_are_printed", crds_are_printed),
        fast(
            "cli",
            "the_reference_names_every_reason_and_metric",
            the_reference_names_every_reason_and_metric,
        ),
    ]
}

fn korder(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_korder"))
        .args(arguments)
        .env_clear()
        .env("HOME", "/nowhere")
        .envs(environment.iter().copied())
        .output()?;
    Ok(output)
}

/// Exit 1, nothing on standard output, and one line that contains every one of `words`: that line.
fn refuses(arguments: &[&str], environment: &[(&str, &str)], words: &[&str]) -> Result<String, Failed> {
    let output = korder(arguments, environment)?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
    Ok(said)
}

fn wrong_arguments_end_in_one_line() -> Result<(), Failed> {
    let cases: &[(&[&str], &[&str])] = &[
        (&["run", "--colour"], &["--colour", "--help"]),
        (&["run", "--shard", "64"], &["--shard", "--shards"]),
        (&["rum"], &["rum", "run"]),
        (&["run", "--shards", "65"], &["--shards", "65", "power of two"]),
        (&["run", "--shards", "2048"], &["--shards", "2048", "1024"]),
        (&["run", "--shards", "many"], &["--shards", "many", "such as 64"]),
        (&["run", "--listen", "8080"], &["--listen", "8080"]),
        (
            &["run", "--listen", "nowhere:http"],
            &["--listen", "nowhere:http"],
        ),
        (
            &["run", "--not-ready-grace", "60"],
            &["--not-ready-grace", "without a unit", "such as 60s"],
        ),
        (
            &["run", "--not-ready-grace=-1s"],
            &["--not-ready-grace", "must not be negative"],
        ),
        (
            &["run", "--log-format", "xml"],
            &["--log-format", "xml", "json", "text"],
        ),
        (&["explain"], &["ORDER"]),
        (
            &["explain", "a", "-o", "yaml"],
            &["--output", "yaml", "json", "text"],
        ),
        (
            &["explain", "a", "--not-ready-grace", "soon"],
            &["--not-ready-grace", "such as 60s"],
        ),
        (&["explain", "pod/a"], &["pod/a", "not implemented yet"]),
        (&["explain", "x/a", "-n", "y"], &["namespace x", "-n says y"]),
        (&["explain", "a", "pod/b"], &["pod/b", "node/NAME"]),
    ];
    for (arguments, words) in cases {
        refuses(arguments, &[], words)?;
    }
    Ok(())
}

fn wrong_environment_ends_in_one_line() -> Result<(), Failed> {
    for (name, value) in [
        ("KORDER_SHARDS", "3"),
        ("KORDER_LISTEN", "here"),
        ("KORDER_NOT_READY_GRACE", "1d"),
    ] {
        let flag = name
            .trim_start_matches("KORDER_")
            .to_lowercase()
            .replace('_', "-");
        refuses(&["run"], &[(name, value)], &[&format!("--{flag}"), name, value])?;
    }
    refuses(
        &["run"],
        &[("KORDER_LOG", "[[bad")],
        &["KORDER_LOG", "[[bad", "info"],
    )?;
    let both = refuses(
        &["run", "--shards=5"],
        &[("KORDER_SHARDS", "3")],
        &["--shards", "5"],
    )?;
    assert!(!both.contains("KORDER_SHARDS"), "a flag wins: {both}");
    Ok(())
}

const COMMANDS: [&[&str]; 3] = [
    &["run", "--listen", "127.0.0.1:0"],
    &["explain", "a"],
    &["shards"],
];

fn missing_kubeconfig_ends_at_once() -> Result<(), Failed> {
    for command in COMMANDS {
        let nowhere = [("KUBECONFIG", "/nowhere/kubeconfig")];
        refuses(command, &nowhere, &["no cluster", "set KUBECONFIG"])?;
        refuses(command, &[], &["no cluster", "set KUBECONFIG"])?;
    }
    Ok(())
}

fn wrong_kubeconfig_ends_at_once() -> Result<(), Failed> {
    let no_context = "apiVersion: v1\nkind: Config\ncurrent-context: gone\n";
    for (name, text) in [("no-context", no_context), ("empty", "")] {
        let file = kubeconfig(name, text)?;
        for command in COMMANDS {
            let environment = [("KUBECONFIG", file.to_str().expect("a path of ASCII"))];
            refuses(command, &environment, &["no cluster", "set KUBECONFIG"])?;
        }
    }
    Ok(())
}

/// Its text may hold tokens.
fn a_malformed_kubeconfig_is_not_quoted() -> Result<(), Failed> {
    let unclosed = "users: [\n  { token: s3cret";
    let mistyped = "users:\n- name: u\n  user: s3cret\n";
    for (name, text) in [("unclosed", unclosed), ("mistyped", mistyped)] {
        let file = kubeconfig(name, text)?;
        let path = file.to_str().expect("a path of ASCII");
        for command in COMMANDS {
            let words = ["no cluster", path, "line ", "column ", "set KUBECONFIG"];
            let said = refuses(command, &[("KUBECONFIG", path)], &words)?;
            assert!(!said.contains("s3cret"), "{command:?}: {said}");
        }
    }
    Ok(())
}

fn explain_says_that_nobody_answers() -> Result<(), Failed> {
    // Port 1 of loopback: nothing listens there.
    let file = kubeconfig(
        "nobody",
        "apiVersion: v1
kind: Config
current-context: c
contexts: [{ name: c, context: { cluster: c, user: u } }]
clusters: [{ name: c, cluster: { server: 'http://127.0.0.1:1' } }]
users: [{ name: u, user: {} }]
",
    )?;
    let environment = [("KUBECONFIG", file.to_str().expect("a path of ASCII"))];
    let words = ["http://127.0.0.1:1", "does not answer", "check the kubeconfig"];
    refuses(&["explain", "a"], &environment, &words)?;
    refuses(&["shards"], &environment, &words)?;
    Ok(())
}

fn kubeconfig(name: &str, text: &str) -> Result<PathBuf, Failed> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kubeconfig-{name}"));
    fs::write(&file, text)?;
    Ok(file)
}

fn help_lists_the_flags_of_the_contract() -> Result<(), Failed> {
    let run = [
        ("shards", "64"),
        ("namespace", "korder-system"),
        ("replica-id", "POD_NAME"),
        ("listen", "0.0.0.0:8080"),
        ("not-ready-grace", "60s"),
        ("claim-wait", "10s"),
        ("claim-deadline", "30s"),
        ("guardian-image", "registry.k8s.io/pause"),
        ("guardian-priority-class", ""),
        ("log-format", "json"),
    ];
    let help = help(&["run", "--help"])?;
    for (flag, default) in run {
        let variable = format!("KORDER_{}", flag.to_uppercase().replace('-', "_"));
        for word in [&format!("--{flag}"), &variable, default] {
            assert!(help.contains(word), "{word:?} is not in {help}");
        }
    }
    let explain = self::help(&["explain", "--help"])?;
    for word in ["ORDER", "[NODE]", "--namespace", "-n", "--output", "-o", "60s"] {
        assert!(explain.contains(word), "{word:?} is not in {explain}");
    }
    let shards = self::help(&["shards", "--help"])?;
    for word in [
        "--namespace",
        "-n",
        "KORDER_NAMESPACE",
        "--shards",
        "--output",
        "-o",
    ] {
        assert!(shards.contains(word), "{word:?} is not in {shards}");
    }
    let all = self::help(&["--help"])?;
    for command in ["run", "crds", "explain", "shards"] {
        assert!(all.contains(&format!("\n  {command}")), "{all}");
    }
    Ok(())
}

fn help(arguments: &[&str]) -> Result<String, Failed> {
    let output = korder(arguments, &[])?;
    assert_eq!(output.status.code(), Some(0));
    Ok(String::from_utf8(output.stdout)?)
}

fn crds_are_printed() -> Result<(), Failed> {
    let output = korder(&["crds"], &[])?;
    assert_eq!(output.status.code(), Some(0));
    let printed: Vec<CustomResourceDefinition> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)?;
    assert_eq!(printed, api::crds());
    Ok(())
}

fn the_reference_names_every_reason_and_metric() -> Result<(), Failed> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let reference = fs::read_to_string(root.join("docs/reference.md"))?;
    let mut named = 0;
    for (file, declares) in [
        ("src/domain/pair/reason.rs", "pub const "),
        ("src/env/metrics.rs", "const "),
    ] {
        let source = fs::read_to_string(root.join(file))?;
        let declared = source.lines().filter(|line| line.starts_with(declares));
        let texts = declared.filter_map(|line| line.split_once("&str = \"")?.1.strip_suffix("\";"));
        for text in texts {
            assert!(reference.contains(&format!("`{text}`")), "{text} of {file}");
            named += 1;
        }
    }
    assert!(named > 20, "the constants are found: {named}");
    Ok(())
}
