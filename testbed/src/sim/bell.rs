//! A number that many wait for to change, woken in the order in which they began to wait.
//!
//! tokio's own watch channel wakes in a random order, which no seed governs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// The number; clones share it, each with what it has seen.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    shared: Arc<(AtomicU64, Notify)>,
    seen: u64,
}

impl Bell {
    /// Sets the number and wakes who waits.
    pub fn ring(&self, number: u64) {
        self.shared.0.store(number, Ordering::Release);
        self.shared.1.notify_waiters();
    }

    /// The number, now seen.
    pub fn latest(&mut self) -> u64 {
        self.seen = self.shared.0.load(Ordering::Acquire);
        self.seen
    }

    /// Waits until the number is not the one seen last.
    pub async fn changed(&self) {
        loop {
            let rung = self.shared.1.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.shared.0.load(Ordering::Acquire) != self.seen {
                return;
            }
            rung.await;
        }
    }
}
