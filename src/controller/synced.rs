//! Whether everything has been listed once: nothing is decided before.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What has to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All Nodes, routed.
    Nodes,
    /// All Orders, published.
    Orders,
    /// Own Tickets, routed.
    Tickets,
    /// Own Guardians, routed.
    Guardians,
    /// Tickets without labels, routed.
    Unlabelled,
}

const ALL: [Part; 5] = [
    Part::Nodes,
    Part::Orders,
    Part::Tickets,
    Part::Guardians,
    Part::Unlabelled,
];

/// Collects the parts; clones share them.
#[derive(Clone, Debug)]
pub struct Synced {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    missing: Mutex<Vec<Part>>,
    all: AtomicBool,
    /// Wakes in the order of waiting, unlike a watch channel: a simulated run repeats.
    bell: Notify,
}

impl Default for Synced {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                missing: Mutex::new(ALL.to_vec()),
                all: AtomicBool::new(false),
                bell: Notify::new(),
            }),
        }
    }
}

impl Synced {
    /// A part has been listed, perhaps not for the first time.
    pub fn part(&self, part: Part) {
        let mut missing = self.shared.missing.lock();
        missing.retain(|&other| other != part);
        if missing.is_empty() && !self.shared.all.swap(true, Ordering::AcqRel) {
            self.shared.bell.notify_waiters();
            tracing::info!("nodes, orders, tickets and guardians listed");
        }
    }

    /// Whether a part has been listed.
    pub fn has(&self, part: Part) -> bool {
        !self.shared.missing.lock().contains(&part)
    }

    /// Whether all parts have been listed.
    pub fn all(&self) -> bool {
        self.shared.all.load(Ordering::Acquire)
    }

    /// Waits until all parts have been listed.
    pub async fn wait(&self) {
        let rung = self.shared.bell.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        if !self.all() {
            rung.await;
        }
    }
}
