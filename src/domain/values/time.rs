//! The two times every decision takes: the API server's, and this process's own.
//!
//! Windows and graces are judged by the server's time, so that replicas agree; backoff, flaps and
//! deadlines of own requests by the monotonic one, which no clock change moves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Monotonic time since this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mono(pub(crate) Duration);

impl Mono {
    /// The moment `span` later.
    #[must_use]
    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Time from `earlier` to this moment, zero if it lies ahead.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The moment at which something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// The API server's time.
    pub(crate) server: Timestamp,
    /// This process's monotonic time.
    pub(crate) mono: Mono,
}

impl Now {
    /// When, on the monotonic clock, the server's clock will show `at`; now if it already does.
    pub(crate) fn mono_at(&self, at: Timestamp) -> Mono {
        self.mono
            .after(Duration::try_from(at.duration_since(self.server)).unwrap_or(Duration::ZERO))
    }
}

/// The moment `span` after `at`, at most the last there is.
pub(crate) fn later(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span)
        .ok()
        .and_then(|span| at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX)
}
