//! Whether everything has been listed once: nothing is decided before.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What has to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All Nodes, routed; or known to be sent by their ranges alone. Of a shard: its Nodes, routed.
    Nodes,
    /// All Orders, published.
    Orders,
    /// Own Tickets, routed.
    Tickets,
    /// Own Guardians, routed.
    Guardians,
    /// Tickets without labels, routed. Of a shard: what there was of them once its own had been listed.
    Unlabelled,
}

/// Parts of the whole replica.
const COMMON: &[Part] = &[Part::Nodes, Part::Orders, Part::Unlabelled];
/// Parts of every shard.
const OWN: &[Part] = &[Part::Nodes, Part::Tickets, Part::Guardians, Part::Unlabelled];

/// Collects the parts; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    shared: Arc<Shared>,
    /// What has to be listed besides.
    common: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    missing: Mutex<Vec<Part>>,
    complete: AtomicBool,
    /// Wakes in the order of waiting, unlike a watch channel: a simulated run repeats.
    bell: Notify,
}

impl Shared {
    fn of(parts: &[Part]) -> Arc<Self> {
        Arc::new(Self {
            missing: Mutex::new(parts.to_vec()),
            complete: AtomicBool::new(false),
            bell: Notify::new(),
        })
    }

    fn complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    async fn wait(&self) {
        let rung = self.bell.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        if !self.complete() {
            rung.await;
        }
    }
}

impl Listed {
    /// What a replica lists once for all its shards.
    pub(crate) fn common() -> Self {
        Self {
            shared: Shared::of(COMMON),
            common: None,
        }
    }

    /// What is listed for some shards, besides what is in common.
    pub(crate) fn own(&self) -> Self {
        Self {
            common: Some(self.shared.clone()),
            ..Self::own_only()
        }
    }

    /// What is listed for some shards.
    pub(crate) fn own_only() -> Self {
        Self {
            shared: Shared::of(OWN),
            common: None,
        }
    }

    /// A part has been listed, perhaps not for the first time.
    pub(crate) fn mark(&self, part: Part) {
        let mut missing = self.shared.missing.lock();
        missing.retain(|&other| other != part);
        if missing.is_empty() && !self.shared.complete.swap(true, Ordering::AcqRel) {
            self.shared.bell.notify_waiters();
        }
    }

    /// Whether a part has not been listed yet.
    pub(crate) fn lacks(&self, part: Part) -> bool {
        self.shared.missing.lock().contains(&part)
    }

    /// Whether all parts have been listed.
    pub(crate) fn complete(&self) -> bool {
        self.shared.complete() && self.common.as_ref().is_none_or(|common| common.complete())
    }

    /// Waits until all parts have been listed.
    pub(crate) async fn wait(&self) {
        if let Some(common) = &self.common {
            common.wait().await;
        }
        self.shared.wait().await;
    }
}
