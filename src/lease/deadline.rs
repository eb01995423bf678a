//! Until when a replica may decide and write, as its Leases say.
//!
//! Read without a lock before every decision and every request; set when a Lease has been renewed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::domain::values::time::Mono;

/// A moment of the replica's clock, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Deadline(AtomicU64);

impl Deadline {
    /// This moment.
    pub(crate) fn at(until: Mono) -> Self {
        let deadline = Self::default();
        deadline.set(until);
        deadline
    }

    /// A Lease was renewed, or lost.
    pub(crate) fn set(&self, until: Mono) {
        let nanos = u64::try_from(until.0.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Release);
    }

    /// Whether something that takes so long may begin.
    pub(crate) fn admits(&self, now: Mono, takes: Duration) -> bool {
        now.after(takes) < Mono(Duration::from_nanos(self.0.load(Ordering::Acquire)))
    }
}

/// A Lease that never ends.
#[cfg(test)]
pub(crate) fn held() -> std::sync::Arc<Deadline> {
    std::sync::Arc::new(Deadline::at(Mono(Duration::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_after_the_deadline_does_not_begin() {
        let (deadline, takes) = (Deadline::at(Mono(Duration::from_secs(9))), Duration::from_secs(4));
        let at = |seconds| Mono(Duration::from_secs(seconds));
        assert!(deadline.admits(at(4), takes));
        assert!(!deadline.admits(at(5), takes));
        assert!(deadline.admits(at(8), Duration::ZERO));
        assert!(!deadline.admits(at(9), Duration::ZERO));
        deadline.set(at(20));
        assert!(deadline.admits(at(15), takes));
    }
}
