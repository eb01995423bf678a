//! What lies between one process under test and the API server: whether it carries anything, what it
//! has carried, and when it breaks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    api::{Request, User},
    bell::Bell,
    careless::careless,
    cluster::Cluster,
    faults::Dice,
};

/// What a link does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It carries everything.
    Up,
    /// It carries nothing, and what waits may be lost.
    Partitioned,
    /// The process is stopped: nothing leaves or reaches it, nothing is lost.
    Frozen,
    /// The process is gone: no answer has a receiver any more.
    Dead,
}

/// One process's link; clones share it.
#[derive(Clone)]
pub struct Link {
    pub(super) cluster: Cluster,
    pub(super) dice: Dice,
    pub(super) user: User,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    turned: Bell,
    writes: AtomicU64,
    crash_at: u64,
    crashing: AtomicBool,
    crash: Notify,
    deliveries: AtomicU64,
    drop_delivery: u64,
    dropped: Mutex<Option<String>>,
    seats: Seats,
    gate: Mutex<Duration>,
    /// How fast the process's clock runs.
    rate: Mutex<f64>,
    refused: AtomicBool,
    hidden: AtomicU64,
    tally: Mutex<Tally>,
}

/// How many requests the API server carries out at a time, and how long each takes.
#[derive(Debug)]
struct Seats {
    limit: AtomicUsize,
    taken: AtomicUsize,
    service: Mutex<Duration>,
}

/// What a link has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes that reached the API server, by method and resource.
    pub writes: BTreeMap<String, u64>,
    /// Requests by the code of their answer, as the API server gave it.
    pub codes: BTreeMap<u16, u64>,
    /// Requests that must not be: that left before a Retry-After had ended (Leases apart), or that write
    /// without the condition that makes it safe.
    pub wrong: Vec<String>,
    /// GETs of single objects.
    pub reads: u64,
    /// Greatest number of requests at the API server at a time.
    pub most_at_once: usize,
    /// Bytes of watch events that reached the process, by resource.
    pub heard: BTreeMap<String, u64>,
}

/// Where a link breaks by plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The process dies with this write, counted from 1; 0 for never.
    pub crash_at_write: u64,
    /// This watch event is not delivered, counted from 1; 0 for none.
    pub drop_delivery: u64,
}

impl Link {
    /// A link that is up.
    pub fn new(cluster: Cluster, dice: Dice, user: &str, plan: Plan) -> Self {
        Self {
            cluster,
            dice,
            user: user.into(),
            shared: Arc::new(Shared {
                state: Mutex::new(State::Up),
                turned: Bell::default(),
                writes: AtomicU64::new(0),
                crash_at: plan.crash_at_write,
                crashing: AtomicBool::new(false),
                crash: Notify::new(),
                deliveries: AtomicU64::new(0),
                drop_delivery: plan.drop_delivery,
                dropped: Mutex::default(),
                seats: Seats {
                    limit: AtomicUsize::new(usize::MAX),
                    taken: AtomicUsize::new(0),
                    service: Mutex::default(),
                },
                gate: Mutex::default(),
                rate: Mutex::new(1.0),
                refused: AtomicBool::new(false),
                hidden: AtomicU64::new(0),
                tally: Mutex::default(),
            }),
        }
    }

    /// From now on it does this.
    pub fn set(&self, state: State) {
        let mut present = self.shared.state.lock();
        if *present != State::Dead {
            *present = state;
        }
        drop(present);
        let mut turned = self.shared.turned.clone();
        let turn = turned.latest() + 1;
        turned.ring(turn);
        self.cluster
            .journal()
            .note(self.cluster.elapsed(), format_args!("{} is {state:?}", self.user));
    }

    /// What it does.
    pub fn state(&self) -> State {
        *self.shared.state.lock()
    }

    /// Waits until it is up; returns whether what waited may have been lost. Never returns once the
    /// process is gone.
    pub(super) async fn up(&self) -> bool {
        let (mut turned, mut lossy) = (self.shared.turned.clone(), false);
        loop {
            turned.latest();
            match self.state() {
                State::Up => return lossy,
                State::Partitioned => lossy = true,
                State::Frozen => {}
                State::Dead => std::future::pending().await,
            }
            turned.changed().await;
        }
    }

    /// From now on the API server carries out `limit` requests at a time, each of which takes `service`.
    pub fn seats(&self, limit: usize, service: Duration) {
        self.shared.seats.limit.store(limit, Ordering::Relaxed);
        *self.shared.seats.service.lock() = service;
    }

    /// Takes a seat for as long as what is returned lives; none if all are taken.
    pub(super) fn seat(&self) -> Option<(Seat, Duration)> {
        let seats = &self.shared.seats;
        if seats.taken.load(Ordering::Relaxed) >= seats.limit.load(Ordering::Relaxed) {
            return None;
        }
        let taken = seats.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let mut tally = self.shared.tally.lock();
        tally.most_at_once = tally.most_at_once.max(taken);
        Some((Seat(self.shared.clone()), *seats.service.lock()))
    }

    /// Whether every new Pod is refused from now on, as by a quota.
    pub fn refuse_pods(&self, refuse: bool) {
        self.shared.refused.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuses_pods(&self) -> bool {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The next so many lists of Nodes are empty.
    pub fn hide_nodes(&self, lists: u64) {
        self.shared.hidden.store(lists, Ordering::Relaxed);
    }

    /// Counts a list of Nodes; true if it is to be empty.
    pub(super) fn hides_nodes(&self) -> bool {
        let left = |left: u64| left.checked_sub(1);
        self.shared
            .hidden
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    /// A write is about to be carried out; true if the process dies with it.
    pub(super) fn count_write(&self, what: String) -> bool {
        let nth = self.shared.writes.fetch_add(1, Ordering::Relaxed) + 1;
        *self.shared.tally.lock().writes.entry(what).or_default() += 1;
        nth == self.shared.crash_at
    }

    /// Notes the code of an answer.
    pub(super) fn count_answer(&self, code: u16) {
        *self.shared.tally.lock().codes.entry(code).or_default() += 1;
    }

    /// A request is about to be carried out.
    pub(super) fn check(&self, request: &Request, what: &str, single: bool) {
        let mut tally = self.shared.tally.lock();
        tally.reads += u64::from(single);
        tally
            .wrong
            .extend(careless(request).map(|why| format!("{what}: {why}")));
    }

    /// The process's clock runs at this rate: a second of its own is less or more than one here.
    pub fn at_rate(self, rate: f64) -> Self {
        *self.shared.rate.lock() = rate;
        self
    }

    /// An answer that asks to wait has arrived.
    pub(super) fn asked_to_wait(&self, seconds: u32) {
        let own = Duration::from_secs(seconds.into()).div_f64(*self.shared.rate.lock());
        let until = self.cluster.elapsed() + own;
        let mut gate = self.shared.gate.lock();
        *gate = until.max(*gate);
    }

    /// A request leaves the process.
    pub(super) fn leaves(&self, what: &str) {
        let (now, gate) = (self.cluster.elapsed(), *self.shared.gate.lock());
        if now < gate {
            let early = (gate - now).as_secs_f64();
            self.shared
                .tally
                .lock()
                .wrong
                .push(format!("{what} left {early:.3} s before Retry-After ended"));
        }
    }

    /// Counts a delivery; true if it is the one to drop.
    pub(super) fn count_delivery(&self, what: impl FnOnce() -> String) -> bool {
        let nth = self.shared.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        let drop = nth == self.shared.drop_delivery;
        if drop {
            *self.shared.dropped.lock() = Some(what());
        }
        drop
    }

    /// So many bytes of a watch event reach the process.
    pub(super) fn count_heard(&self, resource: &str, bytes: usize) {
        let heard = &mut self.shared.tally.lock().heard;
        match heard.get_mut(resource) {
            Some(so_far) => *so_far += bytes as u64,
            None => _ = heard.insert(resource.to_owned(), bytes as u64),
        }
    }

    /// The delivery that was dropped.
    pub fn dropped(&self) -> Option<String> {
        self.shared.dropped.lock().clone()
    }

    /// Writes and deliveries so far.
    pub fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.shared.writes), load(&self.shared.deliveries))
    }

    /// What it has seen.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().clone()
    }

    /// The process dies, as planned.
    pub(super) fn break_down(&self) {
        self.shared.crashing.store(true, Ordering::Relaxed);
        self.set(State::Dead);
        self.shared.crash.notify_one();
    }

    /// Waits for the planned crash.
    pub async fn crashed(&self) {
        while !self.shared.crashing.load(Ordering::Relaxed) {
            self.shared.crash.notified().await;
        }
    }
}

/// A seat at the API server.
pub(super) struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
