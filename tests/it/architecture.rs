//! The arrows between modules: who may use whom, and what the pure half may not touch.
//!
//! Paths are read from the syntax tree (imports, expressions, types) and from the tokens of macro
//! calls; a planted violation of each kind proves that the checker sees it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use syn::visit::{self, Visit};

use crate::harness::fast;

/// The pure modules, each with those it may use. All others may use any module.
const PURE: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("domain", &["api"]),
    ("index", &["domain", "api"]),
    ("shard", &["index", "domain", "api"]),
    ("queue", &["shard", "index", "domain", "api"]),
];
const IMPURE: &[&str] = &["watch", "write", "controller", "runtime", "cli"];
/// Paths that no pure module may name: clients, async, clocks, logs, metrics, randomness.
const IMPURE_PATHS: &[&str] = &[
    "futures",
    "getrandom",
    "http",
    "hyper",
    "kube::Api",
    "kube::Client",
    "kube::client",
    "kube::runtime",
    "metrics",
    "rand",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "testbed",
    "tokio",
    "tracing",
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fast(
            "architecture",
            "modules_follow_the_arrows",
            modules_follow_the_arrows,
        ),
        fast(
            "architecture",
            "planted_violations_are_found",
            planted_violations_are_found,
        ),
        fast("architecture", "permitted_uses_pass", permitted_uses_pass),
        fast(
            "architecture",
            "shipped_crate_has_no_testbed",
            shipped_crate_has_no_testbed,
        ),
    ]
}

fn modules_follow_the_arrows() -> Result<(), Failed> {
    let root = root().join("src");
    let files = rust_files(&root)?;
    let mut found = Vec::new();
    for file in &files {
        let module = module_path(file.strip_prefix(&root)?);
        for violation in violations(&module, &fs::read_to_string(file)?)? {
            found.push(format!("{}: {violation}", file.display()));
        }
    }
    if files.is_empty() {
        return Err("no source file found".into());
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n").into())
    }
}

fn planted_violations_are_found() -> Result<(), Failed> {
    let cases = [
        ("domain::plan", "use crate::index::Symbol;", "domain uses index"),
        (
            "domain::plan",
            "use crate::{api::Order, queue::{Lane, Budget}};",
            "domain uses queue",
        ),
        (
            "domain::plan",
            "use super::super::write::Pump;",
            "domain uses write",
        ),
        (
            "domain::plan",
            "fn f() -> crate::watch::Event { todo!() }",
            "domain uses watch",
        ),
        (
            "domain::plan",
            "fn f() { crate::runtime::clock::now() }",
            "domain uses runtime",
        ),
        (
            "domain::plan",
            "fn f() { debug_assert!(crate::shard::of(1) == 2) }",
            "domain uses shard",
        ),
        (
            "domain::plan",
            "mod tests { use super::super::super::cli; }",
            "domain uses cli",
        ),
        (
            "api::order",
            "use crate::domain::ids::OrderUid;",
            "api uses domain",
        ),
        ("index::classes", "use crate::shard::ShardId;", "index uses shard"),
        ("shard::lease", "use crate::queue::Queue;", "shard uses queue"),
        ("queue::retry", "use crate::controller;", "queue uses controller"),
        (
            "domain::plan",
            "use std::time::Instant;",
            "domain uses std::time::Instant",
        ),
        (
            "domain::plan",
            "use kube::{Client, ResourceExt};",
            "domain uses kube::Client",
        ),
        ("index", "fn f() { tracing::info!(\"x\") }", "index uses tracing"),
        (
            "queue",
            "fn f() { let _ = ::tokio::task::yield_now(); }",
            "queue uses tokio",
        ),
        ("shard", "async fn f() {}", "shard has async code"),
        ("shard", "fn f() { let _ = async { 1 }; }", "shard has async code"),
        (
            "helpers",
            "fn f() {}",
            "helpers is no module that this test knows",
        ),
    ];
    for (module, source, expected) in cases {
        let module = module.split("::").map(str::to_owned).collect::<Vec<_>>();
        let found = violations(&module, source)?;
        if !found.contains(expected) {
            return Err(format!("{source:?} in {module:?}: expected {expected:?}, found {found:?}").into());
        }
    }
    Ok(())
}

fn permitted_uses_pass() -> Result<(), Failed> {
    let cases = [
        (
            "domain::plan",
            "use crate::{api::Order, domain::ids::OrderUid}; use super::node; use jiff::Timestamp;",
        ),
        (
            "index::classes",
            "use crate::domain::node::NodeRecord; fn f() { assert_eq!(crate::domain::x(), 1) }",
        ),
        (
            "queue::retry",
            "use crate::shard::ShardId; use std::time::Duration;",
        ),
        (
            "controller::worker",
            "use crate::{queue, watch, write}; async fn f() { tokio::task::yield_now().await }",
        ),
    ];
    for (module, source) in cases {
        let module = module.split("::").map(str::to_owned).collect::<Vec<_>>();
        let found = violations(&module, source)?;
        if !found.is_empty() {
            return Err(format!("{source:?} in {module:?}: {found:?}").into());
        }
    }
    Ok(())
}

/// Facts of Cargo: the shipped crate uses the testbed in its tests alone and the trials nowhere, the testbed does
/// not use korder, and the trials use both.
fn shipped_crate_has_no_testbed() -> Result<(), Failed> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(root().join("Cargo.toml"))
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "cargo metadata: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let members = ["korder", "testbed", "trials"];
    let mut uses = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            if let (Some(package), Some(name)) = (package["name"].as_str(), dependency["name"].as_str())
                && members.contains(&name)
            {
                uses.insert((package, name, kind));
            }
        }
    }
    let permitted = BTreeSet::from([
        ("korder", "testbed", "dev"),
        ("trials", "korder", "normal"),
        ("trials", "testbed", "normal"),
    ]);
    if uses == permitted {
        return Ok(());
    }
    Err(format!("members use each other as in {uses:?}").into())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// `domain/plan.rs` is `[domain, plan]`, `domain/mod.rs` is `[domain]`, `lib.rs` is `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    if path.len() == 1 && ["lib", "main"].contains(&path[0].as_str())
        || path.last().is_some_and(|last| last == "mod")
    {
        path.pop();
    }
    path
}

fn violations(module: &[String], source: &str) -> Result<BTreeSet<String>, Failed> {
    let Some(top) = module.first() else {
        return Ok(BTreeSet::new());
    };
    let Some((_, allowed)) = PURE.iter().find(|(name, _)| name == top) else {
        let known = IMPURE.contains(&top.as_str());
        return Ok((!known)
            .then(|| format!("{top} is no module that this test knows"))
            .into_iter()
            .collect());
    };
    let mut uses = Uses {
        module: module.to_vec(),
        ..Uses::default()
    };
    uses.visit_file(&syn::parse_file(source)?);

    let mut found = BTreeSet::new();
    for path in &uses.paths {
        if path[0] == "crate" {
            let used = path.get(1).map_or("", String::as_str);
            if used != top && !allowed.contains(&used) {
                found.insert(format!("{top} uses {used}"));
            }
        }
        for prefix in IMPURE_PATHS {
            if prefix
                .split("::")
                .eq(path.iter().take(prefix.split("::").count()).map(String::as_str))
            {
                found.insert(format!("{top} uses {prefix}"));
            }
        }
    }
    if uses.has_async {
        found.insert(format!("{top} has async code"));
    }
    Ok(found)
}

/// Every path in a file, made absolute where it begins with `self` or `super`.
#[derive(Default)]
struct Uses {
    module: Vec<String>,
    paths: Vec<Vec<String>>,
    has_async: bool,
}

impl Uses {
    fn add(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        if first != "self" && first != "super" {
            self.paths.push(path.to_vec());
            return;
        }
        let mut absolute = self.module.clone();
        let relative = path.iter().skip_while(|part| {
            if *part == "super" {
                absolute.pop();
            }
            *part == "super" || *part == "self"
        });
        let relative = relative.cloned().collect::<Vec<_>>();
        self.paths
            .push([vec!["crate".to_owned()], absolute, relative].concat());
    }

    fn add_tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(prefix, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect::<Vec<_>>();
        if parts.len() > 1 {
            self.add(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(" :: ", "::");
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let parts = word
                .trim_matches(':')
                .split("::")
                .map(str::to_owned)
                .collect::<Vec<_>>();
            if parts.len() > 1 {
                self.add(&parts);
            }
        }
        visit::visit_macro(self, call);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.has_async |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.has_async = true;
        visit::visit_expr_async(self, block);
    }
}
