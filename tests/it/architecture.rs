//! The arrows between modules: who may use whom, and what the pure half may not touch.
//!
//! Paths are read from the syntax tree (imports, expressions, types) and from the tokens of macro
//! calls; a planted violation of each kind proves that the checker sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use syn::visit::{self, Visit};

use crate::harness::fast;

/// The modules below a module, from the inside out: each may use those of the rows above its own, and none of its
/// own row.
const LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "",
        &[
            &["api"],
            &["domain"],
            &["index", "lease", "queue", "env"],
            &["shard"],
            &["watch"],
            &["write"],
            &["controller"],
            &["runtime"],
            &["cli"],
        ],
    ),
    (
        "domain",
        &[&["values"], &["node"], &["order"], &["pair"], &["status"]],
    ),
    (
        "controller",
        &[&["owned"], &["events"], &["counts"], &["intake"], &["shards"]],
    ),
];
/// Modules without client, async, clock, log, randomness or IO.
const PURE: &[&str] = &["api", "domain", "index", "lease", "queue", "shard"];
/// A module that only tests have.
const TESTING: &str = "testing";
/// What a pure module may not use although it stands further in.
const BARRED: &[(&str, &str)] = &[("shard", "env")];
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
            "no_file_leads_back_to_itself",
            no_file_leads_back_to_itself,
        ),
        fast(
            "architecture",
            "a_planted_circle_is_found",
            a_planted_circle_is_found,
        ),
        fast(
            "architecture",
            "shipped_crate_has_no_testbed",
            shipped_crate_has_no_testbed,
        ),
    ]
}

fn modules_follow_the_arrows() -> Result<(), Failed> {
    let mut found = Vec::new();
    for (path, module, source) in sources()? {
        for violation in violations(&module, &source)? {
            found.push(format!("{path}: {violation}"));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n").into())
    }
}

fn no_file_leads_back_to_itself() -> Result<(), Failed> {
    let files: Vec<_> = sources()?
        .into_iter()
        .map(|(_, module, source)| (module, source))
        .collect();
    let circle = circle(&files)?;
    if circle.is_empty() {
        return Ok(());
    }
    Err(format!("these files use one another in a circle: {}", circle.join(", ")).into())
}

fn a_planted_circle_is_found() -> Result<(), Failed> {
    let of = |files: &[(&str, &str)]| {
        let split = |module: &str| module.split("::").map(str::to_owned).collect::<Vec<_>>();
        let files: Vec<_> = files
            .iter()
            .map(|(module, source)| (split(module), (*source).to_owned()))
            .collect();
        circle(&files)
    };
    let two = [
        ("write", "mod a; mod b;"),
        ("write::a", "use super::b::B;"),
        ("write::b", "use super::a::A;"),
    ];
    let three = [
        ("write::a", "fn f() { crate::write::b::f() }"),
        ("write::b", "use crate::write::c::C;"),
        ("write::c", "fn f(_: super::a::A) {}"),
        ("write::d", "use super::a::A;"),
    ];
    let none = [
        ("write", "mod a; pub use a::A;"),
        (
            "write::a",
            "use super::W; #[cfg(test)] mod tests { use crate::write::b::B; }",
        ),
        ("write::b", "use super::A; #[cfg(test)] mod tests;"),
        ("write::b::tests", "use super::super::a::A;"),
    ];
    for (files, expected) in [
        (&two[..], &["write::a", "write::b"][..]),
        (&three, &["write::a", "write::b", "write::c"]),
        (&none, &[]),
    ] {
        let found = of(files)?;
        if found != expected {
            return Err(format!("expected {expected:?}, found {found:?}").into());
        }
    }
    Ok(())
}

fn planted_violations_are_found() -> Result<(), Failed> {
    let cases = [
        (
            "domain::pair::plan",
            "use crate::index::Symbol;",
            "domain uses index",
        ),
        (
            "domain::pair::plan",
            "use crate::{api::Order, queue::{Lane, Budget}};",
            "domain uses queue",
        ),
        (
            "domain::pair::plan",
            "use super::super::super::write::Pump;",
            "domain uses write",
        ),
        (
            "domain::pair::plan",
            "fn f() -> crate::watch::Event { todo!() }",
            "domain uses watch",
        ),
        (
            "domain::pair::plan",
            "fn f() { crate::runtime::clock::now() }",
            "domain uses runtime",
        ),
        (
            "domain::pair::plan",
            "fn f() { debug_assert!(crate::shard::of(1) == 2) }",
            "domain uses shard",
        ),
        (
            "domain::pair::plan",
            "mod tests { use super::super::super::super::cli; }",
            "domain uses cli",
        ),
        (
            "api::order",
            "use crate::domain::ids::OrderUid;",
            "api uses domain",
        ),
        ("index::classes", "use crate::shard::ShardId;", "index uses shard"),
        ("lease::member", "use crate::queue::Queue;", "lease uses queue"),
        ("queue::limit", "use crate::lease::Member;", "queue uses lease"),
        ("shard::state", "use crate::env::metrics;", "shard uses env"),
        ("env::clock", "use crate::index::Index;", "env uses index"),
        ("watch::node", "use crate::write::Writer;", "watch uses write"),
        (
            "write::pending",
            "fn f() { crate::controller::g() }",
            "write uses controller",
        ),
        (
            "controller::intake::router",
            "use crate::runtime::run;",
            "controller uses runtime",
        ),
        ("runtime::run", "use crate::cli::say;", "runtime uses cli"),
        (
            "domain::node::record",
            "use crate::domain::pair::plan;",
            "domain::node uses domain::pair",
        ),
        (
            "domain::node::record",
            "use super::super::order::Order;",
            "domain::node uses domain::order",
        ),
        (
            "controller::counts::rollup",
            "use crate::controller::intake::router::Router;",
            "controller::counts uses controller::intake",
        ),
        ("queue::retry", "use crate::controller;", "queue uses controller"),
        (
            "domain::pair::plan",
            "use std::time::Instant;",
            "domain uses std::time::Instant",
        ),
        (
            "domain::pair::plan",
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
            "domain::pair::plan",
            "use crate::{api::Order, domain::ids::OrderUid}; use super::op; use jiff::Timestamp;",
        ),
        (
            "index::classes",
            "use crate::domain::node::NodeRecord; fn f() { assert_eq!(crate::domain::x(), 1) }",
        ),
        (
            "queue::retry",
            "use crate::domain::values::time::Mono; use std::time::Duration;",
        ),
        ("write::pending", "use crate::{env::clock::Clock, queue::Queue};"),
        (
            "controller::shards::worker",
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

/// Every file of the crate: its path, its module, its text.
fn sources() -> Result<Vec<(String, Vec<String>, String)>, Failed> {
    let root = root().join("src");
    let mut found = Vec::new();
    for file in rust_files(&root)? {
        let module = module_path(file.strip_prefix(&root)?);
        found.push((file.display().to_string(), module, fs::read_to_string(file)?));
    }
    if found.is_empty() {
        return Err("no source file found".into());
    }
    Ok(found)
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
    let mut found = BTreeSet::new();
    let Some(top) = module.first() else {
        return Ok(found);
    };
    let uses = Uses::of(module, source, true)?;
    for (parent, rows) in LAYERS {
        let depth = parent.split("::").filter(|part| !part.is_empty()).count();
        let below = |path: &[String]| {
            let inside = path.len() > depth && path[..depth].join("::") == *parent;
            inside.then(|| path[depth].clone())
        };
        let Some(own) = below(module) else { continue };
        let row = |name: &str| rows.iter().position(|row| row.contains(&name));
        let Some(own_row) = row(&own) else {
            if own == TESTING {
                continue;
            }
            found.insert(format!("{own} is no module that this test knows"));
            continue;
        };
        for path in uses.paths.iter().filter(|path| path[0] == "crate") {
            let Some(used) = below(&path[1..]).filter(|used| *used != own) else {
                continue;
            };
            let known = row(&used);
            let further_in = known.is_some_and(|used| used < own_row);
            let barred = BARRED.contains(&(own.as_str(), used.as_str()));
            // What is no module is an item of the parent itself.
            if barred || (known.is_some() && !further_in) {
                let of = |name: &str| {
                    [parent, name]
                        .into_iter()
                        .filter(|part| !part.is_empty())
                        .collect::<Vec<_>>()
                        .join("::")
                };
                found.insert(format!("{} uses {}", of(&own), of(&used)));
            }
        }
    }
    if !PURE.contains(&top.as_str()) {
        return Ok(found);
    }
    for path in &uses.paths {
        for prefix in IMPURE_PATHS {
            let named = path.iter().take(prefix.split("::").count()).map(String::as_str);
            if prefix.split("::").eq(named) {
                found.insert(format!("{top} uses {prefix}"));
            }
        }
    }
    if uses.has_async {
        found.insert(format!("{top} has async code"));
    }
    Ok(found)
}

/// Files that lead back to themselves, tests left aside. What a file uses of the modules that contain it is no arrow.
fn circle(files: &[(Vec<String>, String)]) -> Result<Vec<String>, Failed> {
    let modules: BTreeSet<&[String]> = files.iter().map(|(module, _)| module.as_slice()).collect();
    let mut arrows = BTreeMap::new();
    for (module, source) in files {
        let mut used = BTreeSet::new();
        for path in Uses::of(module, source, false)?.paths {
            if path[0] != "crate" {
                continue;
            }
            let longest = (1..path.len()).rev().map(|end| &path[1..=end]);
            let file = longest.into_iter().find_map(|path| modules.get(path).copied());
            used.extend(file.filter(|file| !module.starts_with(file)));
        }
        arrows.insert(module.as_slice(), used);
    }
    let tests = |module: &[String]| module.iter().any(|part| part == "tests");
    arrows.retain(|module, _| !tests(module));
    let mut found = Vec::new();
    for file in arrows.keys() {
        let (mut seen, mut open) = (BTreeSet::new(), vec![*file]);
        while let Some(used) = open.pop().and_then(|file| arrows.get(file)) {
            open.extend(used.iter().filter(|file| seen.insert(**file)));
        }
        if seen.contains(file) {
            found.push(file.join("::"));
        }
    }
    Ok(found)
}

/// Every path in a file, made absolute where it begins with `self` or `super`.
#[derive(Default)]
struct Uses {
    module: Vec<String>,
    paths: Vec<Vec<String>>,
    has_async: bool,
    skips_tests: bool,
}

impl Uses {
    fn of(module: &[String], source: &str, with_tests: bool) -> Result<Self, Failed> {
        let mut uses = Self {
            module: module.to_vec(),
            skips_tests: !with_tests,
            ..Self::default()
        };
        uses.visit_file(&syn::parse_file(source)?);
        Ok(uses)
    }

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
        if self.skips_tests && for_tests(&item.attrs) {
            return;
        }
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

fn for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|name| name == "test")
    };
    attributes.iter().any(is_test)
}
