//! Whether everything has been listed once: nothing is decided before.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

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
}

const ALL: [Part; 4] = [Part::Nodes, Part::Orders, Part::Tickets, Part::Guardians];

/// Collects the parts; the receiver turns true with the last one.
#[derive(Clone, Debug)]
pub struct Synced {
    missing: Arc<Mutex<Vec<Part>>>,
    sender: watch::Sender<bool>,
}

impl Default for Synced {
    fn default() -> Self {
        Self {
            missing: Arc::new(Mutex::new(ALL.to_vec())),
            sender: watch::Sender::new(false),
        }
    }
}

impl Synced {
    /// A part has been listed, perhaps not for the first time.
    pub fn part(&self, part: Part) {
        let mut missing = self.missing.lock();
        missing.retain(|&other| other != part);
        if missing.is_empty() && !*self.sender.borrow() {
            self.sender.send_replace(true);
            tracing::info!("nodes, orders, tickets and guardians listed");
        }
    }

    /// Whether a part has been listed.
    pub fn has(&self, part: Part) -> bool {
        !self.missing.lock().contains(&part)
    }

    /// True once all parts have been listed.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.sender.subscribe()
    }
}
