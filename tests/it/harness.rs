//! What the trials of one run share, and how a trial is made from a function.
//!
//! A module contributes `pub(crate) fn trials() -> Vec<Trial>`; one whose trials need the control
//! plane takes an `Arc<Harness>` and gives each of them a clone.

use std::sync::{
    Arc,
    mpsc::{Receiver, Sender, channel},
};

use libtest_mimic::{Failed, Trial};
use parking_lot::{Mutex, RwLock};
use testbed::stopwatch::timed;
use tokio::runtime::Runtime;

use crate::e2e::world::{Ground, World};

/// Shared by the trials of one run. The control plane is started at most once and only when a trial
/// asks for it; a start that failed fails every trial that needs it.
#[derive(Default)]
pub(crate) struct Harness {
    shared: Mutex<Option<Result<Arc<Shared>, String>>>,
    /// Held for reading by trials that get along, for writing by those that stop something.
    order: RwLock<()>,
    roll: Mutex<Roll>,
}

/// The trials on the shared control plane, each of which says when it is done. One that a filter leaves out
/// drops its sender and says nothing.
struct Roll {
    trials: usize,
    done: Option<Sender<()>>,
    all: Option<Receiver<()>>,
}

impl Default for Roll {
    fn default() -> Self {
        let (done, all) = channel();
        Self {
            trials: 0,
            done: Some(done),
            all: Some(all),
        }
    }
}

/// The field order is the order of the end: what needs the runtime goes before it.
struct Shared {
    world: World,
    runtime: Runtime,
}

impl Harness {
    /// Stops what was started. Called once, after the last trial, also when trials failed.
    pub(crate) fn shut_down(&self) {
        if let Some(Ok(shared)) = self.shared.lock().take() {
            // Dropping clients and processes needs the runtime's context.
            let _context = shared.runtime.enter();
            drop(shared.world.korder.try_write().map(|korder| korder.kill9()));
        }
    }

    /// For a trial that the last one waits for.
    fn enrol(&self) -> Sender<()> {
        let mut roll = self.roll.lock();
        roll.trials += 1;
        roll.done.clone().expect("the last trial is made last")
    }

    fn shared(&self) -> Result<Arc<Shared>, Failed> {
        let mut shared = self.shared.lock();
        let started = shared.get_or_insert_with(|| Shared::start().map_err(|error| format!("{error:#}")));
        Ok(started.clone()?)
    }
}

impl Shared {
    fn start() -> anyhow::Result<Arc<Self>> {
        let runtime = runtime()?;
        let world = runtime.block_on(World::start())?;
        Ok(Arc::new(Self { world, runtime }))
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// A trial named `fast::<module>::<name>`; a panic or an `Err` fails it.
pub(crate) fn fast(module: &str, name: &str, test: fn() -> Result<(), Failed>) -> Trial {
    Trial::test(format!("fast::{module}::{name}"), test)
}

/// A trial named `e2e::<module>::<name>` that shares the control plane with others at the same time,
/// in a namespace and with nodes of its own.
pub(crate) fn e2e<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()> + Send + 'static,
{
    let (harness, done) = (harness.clone(), harness.enrol());
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        let shared = harness.shared()?;
        let _together = harness.order.read();
        let passed = timed(&name, || on_ground(&shared, &test));
        tell(&done);
        passed
    })
}

/// A trial named `e2e::<module>::<name>` that has the control plane for itself.
pub(crate) fn alone<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()> + Send + 'static,
{
    let (harness, done) = (harness.clone(), harness.enrol());
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        let shared = harness.shared()?;
        let _alone = harness.order.write();
        let passed = timed(&name, || on_ground(&shared, &test));
        tell(&done);
        passed
    })
}

/// The trial that looks back on all others on the control plane, and is told whether all of them have run.
/// To be made after them.
pub(crate) fn last<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&Ground<'_>, bool) -> anyhow::Result<()> + Send + 'static,
{
    let (trials, all) = {
        let mut roll = harness.roll.lock();
        roll.done = None;
        (roll.trials, roll.all.take().expect("there is one last trial"))
    };
    let harness = harness.clone();
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        // Ends when the others have either run or been left out.
        let complete = all.iter().count() == trials;
        let shared = harness.shared()?;
        let test = async |ground: &Ground<'_>| test(ground, complete).await;
        timed(&name, || on_ground(&shared, &test))
    })
}

/// Nobody may listen: the last trial may be left out.
fn tell(done: &Sender<()>) {
    let _ = done.send(());
}

/// A trial named `e2e::<module>::<name>` that does not use the shared control plane.
pub(crate) fn apart<T>(module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn() -> anyhow::Result<()> + Send + 'static,
{
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        let done = timed(&name, || runtime()?.block_on(test()));
        done.map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn on_ground<T>(shared: &Shared, test: &T) -> Result<(), Failed>
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()>,
{
    let done = shared.runtime.block_on(async {
        let ground = Ground::prepare(&shared.world).await?;
        test(&ground).await?;
        ground.clear().await
    });
    done.map_err(|error| {
        let logs = shared.runtime.block_on(shared.world.logs());
        Failed::from(format!("{error:#}\n{logs}"))
    })
}
