//! What the trials of one run share, and how a trial is made from a function.
//!
//! A module contributes `pub(crate) fn trials() -> Vec<Trial>`; one whose trials need the control
//! plane takes an `Arc<Harness>` and gives each of them a clone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use libtest_mimic::{Failed, Trial};
use parking_lot::{Condvar, Mutex};
use testbed::stopwatch::timed;
use tokio::runtime::Runtime;

use crate::e2e::world::{Ground, World};

/// Trials at a time on the plane of those that get along: the longest only wait for their time to come.
const TOGETHER: usize = 8;

/// What the trials of one run share: two control planes, since trials that get along need not wait for those that
/// stop something. Each is started at most once and only when a trial asks for it; a start that failed fails every
/// trial that needs it.
pub(crate) struct Harness {
    together: Lane,
    alone: Lane,
    /// For trials that have a plane of their own, or none: one after the other.
    apart: Gate,
    roll: Mutex<Roll>,
}

/// A control plane with korder, and the trials that use it.
struct Lane {
    name: &'static str,
    shared: Mutex<Option<Result<Arc<Shared>, String>>>,
    gate: Gate,
}

/// The trials on the control planes, each of which says when it is done. One that a filter leaves out
/// drops its sender and says nothing.
struct Roll {
    trials: usize,
    done: Option<Sender<()>>,
    all: Option<Receiver<()>>,
}

impl Default for Harness {
    fn default() -> Self {
        let (done, all) = channel();
        Self {
            together: Lane::new("e2e", TOGETHER),
            alone: Lane::new("e2e-alone", 1),
            apart: Gate::new(1),
            roll: Mutex::new(Roll {
                trials: 0,
                done: Some(done),
                all: Some(all),
            }),
        }
    }
}

/// The field order is the order of the end: what needs the runtime goes before it.
pub(crate) struct Shared {
    pub(crate) world: World,
    runtime: Runtime,
}

impl Harness {
    /// Stops what was started. Called once, after the last trial, also when trials failed.
    pub(crate) fn shut_down(&self) {
        for lane in [&self.together, &self.alone] {
            if let Some(Ok(shared)) = lane.shared.lock().take() {
                // Dropping clients and processes needs the runtime's context.
                let _context = shared.runtime.enter();
                drop(shared.world.korder.try_write().map(|korder| korder.kill9()));
            }
        }
    }

    /// For a trial that the last one waits for.
    fn enrol(&self) -> Sender<()> {
        let mut roll = self.roll.lock();
        roll.trials += 1;
        roll.done.clone().expect("the last trial is made last")
    }
}

impl Lane {
    fn new(name: &'static str, width: usize) -> Self {
        Self {
            name,
            shared: Mutex::default(),
            gate: Gate::new(width),
        }
    }

    fn shared(&self) -> Result<Arc<Shared>, Failed> {
        let mut shared = self.shared.lock();
        let started =
            shared.get_or_insert_with(|| Shared::start(self.name).map_err(|error| format!("{error:#}")));
        Ok(started.clone()?)
    }

    fn started(&self) -> Option<Arc<Shared>> {
        self.shared.lock().clone()?.ok()
    }
}

impl Shared {
    fn start(name: &str) -> anyhow::Result<Arc<Self>> {
        let runtime = runtime()?;
        let world = runtime.block_on(World::start(name))?;
        Ok(Arc::new(Self { world, runtime }))
    }
}

/// Lets so many trials run at a time, in the order in which they were made, whichever thread comes first.
struct Gate {
    width: usize,
    state: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    made: usize,
    waiting: BTreeSet<usize>,
    running: usize,
}

/// A place in the queue, then a turn.
struct Place<'a> {
    gate: &'a Gate,
    number: usize,
    width: usize,
}

impl Gate {
    fn new(width: usize) -> Self {
        Self {
            width,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The number of a trial that is made.
    fn number(&self) -> usize {
        let mut state = self.state.lock();
        state.made += 1;
        state.made
    }

    /// Takes the place of a trial that needs so much of the width.
    fn queue(&self, number: usize, width: usize) -> Place<'_> {
        self.state.lock().waiting.insert(number);
        Place {
            gate: self,
            number,
            width,
        }
    }
}

impl<'a> Place<'a> {
    /// Waits for its turn, which lasts until it is dropped.
    fn turn(self) -> Turn<'a> {
        let mut state = self.gate.state.lock();
        while state.waiting.first() != Some(&self.number) || state.running + self.width > self.gate.width {
            self.gate.changed.wait(&mut state);
        }
        state.running += self.width;
        drop(state);
        Turn {
            gate: self.gate,
            width: self.width,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().waiting.remove(&self.number);
        self.gate.changed.notify_all();
    }
}

struct Turn<'a> {
    gate: &'a Gate,
    width: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().running -= self.width;
        self.gate.changed.notify_all();
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
    on_a_plane(harness, |harness| &harness.together, 1, module, name, test)
}

/// A trial named `e2e::<module>::<name>` on the plane of those that get along, when nobody else is there.
pub(crate) fn quiet<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()> + Send + 'static,
{
    on_a_plane(harness, |harness| &harness.together, TOGETHER, module, name, test)
}

/// A trial named `e2e::<module>::<name>` that has a control plane for itself, on which it may stop what it likes.
pub(crate) fn alone<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()> + Send + 'static,
{
    on_a_plane(harness, |harness| &harness.alone, 1, module, name, test)
}

fn on_a_plane<T>(
    harness: &Arc<Harness>,
    lane: fn(&Harness) -> &Lane,
    width: usize,
    module: &str,
    name: &str,
    test: T,
) -> Trial
where
    T: AsyncFn(&Ground<'_>) -> anyhow::Result<()> + Send + 'static,
{
    let (harness, done) = (harness.clone(), harness.enrol());
    let number = lane(&harness).gate.number();
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        let lane = lane(&harness);
        // All have queued by the time that the plane is up.
        let place = lane.gate.queue(number, width);
        let shared = lane.shared()?;
        let _turn = place.turn();
        let passed = timed(&name, || on_ground(&shared, &test));
        tell(&done);
        passed
    })
}

/// The trial that looks back on all others on the control planes that were started, and is told whether all of them
/// have run. To be made after them.
pub(crate) fn last<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn(&[&World], bool) -> anyhow::Result<()> + Send + 'static,
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
        let lanes = [&harness.together, &harness.alone];
        let mut planes: Vec<Arc<Shared>> = lanes.into_iter().filter_map(Lane::started).collect();
        if planes.is_empty() {
            planes.push(harness.together.shared()?);
        }
        let worlds: Vec<&World> = planes.iter().map(|shared| &shared.world).collect();
        let done = timed(&name, || planes[0].runtime.block_on(test(&worlds, complete)));
        done.map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Nobody may listen: the last trial may be left out.
fn tell(done: &Sender<()>) {
    let _ = done.send(());
}

/// A trial named `e2e::<module>::<name>` that does not use the shared control planes.
pub(crate) fn apart<T>(harness: &Arc<Harness>, module: &str, name: &str, test: T) -> Trial
where
    T: AsyncFn() -> anyhow::Result<()> + Send + 'static,
{
    let (harness, number) = (harness.clone(), harness.apart.number());
    let name = format!("e2e::{module}::{name}");
    Trial::test(name.clone(), move || {
        let _turn = harness.apart.queue(number, 1).turn();
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
