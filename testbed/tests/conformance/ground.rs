//! What all trials share: the real control plane, started by the first that asks, the definitions that
//! both arms install, and the count of what was compared.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use libtest_mimic::Failed;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use serde_json::Value;
use testbed::{
    real::{Plane, PlaneConfig},
    sim::api::ApiServer,
    stopwatch::timed,
};
use tokio::runtime::Runtime;

use crate::{
    arm::{Real, Simulated},
    bodies::NAMESPACES,
    compare::{self, Compared},
    random,
    step::{Call, Case, Step},
};

/// The shared state of one run.
#[derive(Default)]
pub(crate) struct Ground {
    shared: Mutex<Option<Result<Arc<Shared>, String>>>,
    /// Held for reading by trials that get along, for writing by those that restart something.
    order: RwLock<()>,
    cases: AtomicUsize,
    sequences: AtomicUsize,
    requests: AtomicUsize,
    events: AtomicUsize,
    differences: AtomicUsize,
}

pub(crate) struct Shared {
    plane: Plane,
    definitions: Vec<Value>,
    pub(crate) runtime: Runtime,
}

impl Ground {
    /// The control plane, started if need be.
    pub(crate) fn shared(&self) -> Result<Arc<Shared>, Failed> {
        let mut shared = self.shared.lock();
        let started = shared.get_or_insert_with(|| Shared::start().map_err(|error| format!("{error:#}")));
        Ok(started.clone()?)
    }

    /// Runs a case written by hand.
    pub(crate) fn case(&self, case: &Case) -> Result<(), Failed> {
        let shared = self.shared()?;
        let (_together, _alone) = match case.is_alone() {
            true => (None, Some(self.order.write())),
            false => (Some(self.order.read()), None),
        };
        let id = format!("h{}", self.cases.fetch_add(1, Ordering::Relaxed));
        let compare = || shared.runtime.block_on(shared.compare(&id, case));
        let compared = timed(&format!("case::{}", case.name), compare);
        let compared = compared.map_err(|error| Failed::from(format!("{error:#}")))?;
        self.count(compared).map_err(Failed::from)
    }

    /// Keeps out the cases that must be alone.
    pub(crate) fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.order.read()
    }

    /// Counts what a sequence came to, once, and passes a difference on.
    pub(crate) fn sequence(&self, compared: Result<Compared, String>) -> Result<(), String> {
        self.sequences.fetch_add(1, Ordering::Relaxed);
        self.count(compared)
    }

    fn count(&self, compared: Result<Compared, String>) -> Result<(), String> {
        match compared {
            Ok(compared) => {
                self.requests.fetch_add(compared.requests, Ordering::Relaxed);
                self.events.fetch_add(compared.events, Ordering::Relaxed);
                Ok(())
            }
            Err(difference) => {
                self.differences.fetch_add(1, Ordering::Relaxed);
                Err(difference)
            }
        }
    }

    /// One line: how much was compared.
    pub(crate) fn summary(&self) -> String {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        format!(
            "conformance: {} sequences, {} requests, {} watch events, {} differences; {} cases by hand; CONFORMANCE_SEED={}",
            count(&self.sequences),
            count(&self.requests),
            count(&self.events),
            count(&self.differences),
            count(&self.cases),
            random::seed(),
        )
    }

    /// Stops what was started. Called once, after the last trial, also when trials failed.
    pub(crate) fn shut_down(&self) {
        if let Some(Ok(shared)) = self.shared.lock().take() {
            let shared = Arc::into_inner(shared).expect("no trial runs any more");
            // Dropping clients and processes needs the runtime's context.
            let _context = shared.runtime.enter();
            drop(shared.plane);
        }
    }
}

impl Shared {
    fn start() -> Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let config = PlaneConfig {
            name: "conformance".to_owned(),
            audit: false,
            controllers: false,
            kwok: false,
            ..PlaneConfig::default()
        };
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let definitions = definitions(&crds)?;
        let plane = runtime.block_on(async {
            let plane = Plane::start(config).await?;
            plane.apply_dir(&crds).await?;
            let established = [
                "wait",
                "--for=condition=Established",
                "crd",
                "--all",
                "--timeout=60s",
            ];
            plane.kubectl(&established).await?;
            anyhow::Ok(plane)
        })?;
        Ok(Arc::new(Self {
            plane,
            definitions,
            runtime,
        }))
    }

    /// Runs a case on both arms, in a namespace of its own.
    pub(crate) async fn compare(&self, id: &str, case: &Case) -> Result<Result<Compared, String>> {
        let mut simulated = ApiServer::new(Timestamp::now(), 0);
        for definition in &self.definitions {
            simulated.install(definition);
        }
        let namespace = serde_json::json!({ "metadata": { "name": "${ns}" } });
        let account = serde_json::json!({ "metadata": { "name": "default" } });
        let mut case = case.clone();
        let prepared = [
            Step::Ask(Some(201), Call::post(NAMESPACES, namespace)),
            Step::Prepare(Call::post(
                format!("{NAMESPACES}/${{ns}}/serviceaccounts"),
                account,
            )),
        ];
        case.steps.splice(0..0, prepared);
        compare::run(Simulated(simulated), Real(&self.plane), id, &case)
            .await
            .with_context(|| case.name)
    }
}

/// The CustomResourceDefinitions of a directory.
fn definitions(directory: &Path) -> Result<Vec<Value>> {
    let mut files: Vec<_> = directory.read_dir()?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::path);
    let read = |file: std::fs::DirEntry| {
        let text = std::fs::read_to_string(file.path())?;
        serde_saphyr::from_str(&text).with_context(|| file.path().display().to_string())
    };
    files.into_iter().map(read).collect()
}
