//! The cluster that everybody shares: the API server, its clock, and the bell that rings on changes.
//!
//! Time is tokio's, so that a paused runtime makes all of it virtual. Calls may come from other runtimes and
//! threads, too: the time is that of the runtime in which the cluster was made.

use std::{future::Future, sync::Arc, time::Duration};

use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::Instant};

use super::{
    api::{ApiServer, Change},
    bell::Bell,
    journal::Journal,
};

/// Sees every change in the moment in which it is committed.
pub type Observer = Box<dyn FnMut(&Arc<Change>) + Send>;

/// When every simulated cluster begins: 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600;

/// A handle to the cluster; clones share it.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    api: Mutex<ApiServer>,
    bell: Bell,
    runtime: Handle,
    origin: Instant,
    /// Seconds of the server's clock per second of tokio's.
    rate: f64,
    journal: Journal,
    tasks: Mutex<JoinSet<()>>,
    observers: Mutex<Vec<Observer>>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<Arc<Change>>>>,
}

impl Cluster {
    /// A cluster that begins now, whose server's clock runs `rate` times as fast as tokio's. Needs a runtime.
    pub fn new(seed: u64, rate: f64, journal: Journal) -> Self {
        let begin = Timestamp::from_second(BEGIN).expect("a valid time");
        Self {
            shared: Arc::new(Shared {
                api: Mutex::new(ApiServer::new(begin, seed)),
                bell: Bell::default(),
                runtime: Handle::current(),
                origin: Instant::now(),
                rate,
                journal,
                tasks: Mutex::default(),
                observers: Mutex::default(),
                listeners: Mutex::default(),
            }),
        }
    }

    /// Calls the API server at the present time, and rings the bell if anything changed.
    pub fn api<T>(&self, call: impl FnOnce(&mut ApiServer) -> T) -> T {
        let mut api = self.shared.api.lock();
        api.set_now(self.now());
        let before = api.revision();
        let answer = call(&mut api);
        let after = api.revision();
        if after != before {
            let changes: Vec<_> = api.changes(before).cloned().collect();
            changes.iter().for_each(|change| self.tell(change));
            drop(api);
            self.shared.bell.ring(after);
        }
        answer
    }

    fn tell(&self, change: &Arc<Change>) {
        self.shared.journal.change(self.elapsed(), change);
        let mut observers = self.shared.observers.lock();
        observers.iter_mut().for_each(|observe| observe(change));
        let mut listeners = self.shared.listeners.lock();
        listeners.retain(|listener| listener.send(change.clone()).is_ok());
    }

    /// From now on `observer` sees every change, within the call that makes it: it must not call back.
    pub fn observe(&self, observer: Observer) {
        self.shared.observers.lock().push(observer);
    }

    /// All changes from now on, in order. An actor that falls behind loses nothing.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.shared.listeners.lock().push(sender);
        receiver
    }

    /// Since the beginning, on tokio's clock.
    pub fn elapsed(&self) -> Duration {
        let _its_clock = self.shared.runtime.enter();
        Instant::now().duration_since(self.shared.origin)
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed().mul_f64(self.shared.rate));
        let begin = Timestamp::from_second(BEGIN).expect("a valid time");
        begin
            .saturating_add(elapsed.unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX)
    }

    /// The server's time as the header `Date` has it.
    pub fn date(&self) -> HeaderValue {
        let date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        date.parse().expect("a date is a header value")
    }

    /// Shows the latest revision, and every new one.
    pub fn bell(&self) -> Bell {
        self.shared.bell.clone()
    }

    /// What has happened.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Runs a task of the cluster, which ends at the latest with [`Cluster::stop`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.shared.tasks.lock();
        while let Some(ended) = tasks.try_join_next() {
            ended.expect("a task of the cluster does not panic");
        }
        tasks.spawn(task);
    }

    /// Ends all tasks of the cluster.
    pub fn stop(&self) {
        self.shared.tasks.lock().abort_all();
    }
}
