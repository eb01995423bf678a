//! The only source of time: this process's monotonic clock and the API server's.
//!
//! Built on tokio's clock, so that virtual time moves everything.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::server_time::ServerTime;
use crate::domain::values::time::{Mono, Now};

/// A local clock that is this far from the API server's is worth a warning.
const WORTH_A_WARNING: SignedDuration = SignedDuration::from_secs(5);
/// The server's clock has been set, or has drifted, once it is this far from what it was.
const JUMP: SignedDuration = SignedDuration::from_secs(1);
/// How often that is told at most: where several API servers answer, each may have a clock of its own.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Where `now` comes from.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// How fast the monotonic clock runs; 1 but in tests.
    rate: f64,
    local: Timestamp,
    server: Arc<Mutex<ServerTime>>,
    /// When a jump was last told.
    told: Arc<Mutex<Option<Mono>>>,
    warned: Arc<std::sync::atomic::AtomicBool>,
    /// What the server's clock showed at monotonic zero when that was last told.
    zero: Arc<watch::Sender<Timestamp>>,
}

impl Clock {
    /// A clock that starts now, with the local wall clock as a first guess of the server's.
    #[expect(clippy::disallowed_methods, reason = "this is the one source of time")]
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that starts now and shows `local`.
    #[expect(clippy::disallowed_methods, reason = "this is the one source of time")]
    pub fn starting_at(local: Timestamp) -> Self {
        Self {
            start: Instant::now(),
            rate: 1.0,
            local,
            server: Arc::new(Mutex::new(ServerTime::new(local))),
            told: Arc::default(),
            warned: Arc::default(),
            zero: Arc::new(watch::Sender::new(local)),
        }
    }

    /// The same clock with a monotonic time that runs at another rate, as a bad one would.
    #[must_use]
    pub fn at_rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// Both times.
    pub(crate) fn now(&self) -> Now {
        let mono = self.mono();
        Now {
            server: self.server.lock().at(mono),
            mono,
        }
    }

    /// What the wall clock of this machine shows. Nothing is decided by it.
    pub fn local(&self) -> Timestamp {
        let elapsed = self.mono().0;
        self.local.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// The monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this is the one source of time")]
    pub(crate) fn mono(&self) -> Mono {
        let elapsed = Instant::now().duration_since(self.start);
        Mono(if self.rate == 1.0 {
            elapsed
        } else {
            elapsed.mul_f64(self.rate)
        })
    }

    /// Sleeps until the monotonic clock shows `at`; for ever if there is no such time.
    pub(crate) async fn sleep_until(&self, at: Option<Mono>) {
        let span = at.map(|at| match self.rate {
            1.0 => at.0,
            // A moment later, so that it has come by then.
            rate => at.0.div_f64(rate) + Duration::from_millis(1),
        });
        // A Retry-After may name a time that no clock will show.
        match span.and_then(|span| self.start.checked_add(span)) {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// Tells whenever the server's clock has been set against the monotonic one, or has drifted by a second:
    /// what waits for a time of the server's has to look again.
    pub fn jumps(&self) -> watch::Receiver<Timestamp> {
        self.zero.subscribe()
    }

    /// Takes in a `Date` header.
    pub(crate) fn hear(&self, date: Timestamp, sent: Mono) {
        let received = self.mono();
        let (server, zero) = {
            let mut server = self.server.lock();
            server.hear(date, sent, received);
            (server.at(received), server.at(Mono::default()))
        };
        let mut told = self.told.lock();
        self.zero.send_if_modified(|known| {
            let again = told.is_none_or(|told| received >= told.after(TOLD_EVERY));
            let jumped = again && zero.duration_since(*known).abs() >= JUMP;
            if jumped {
                (*known, *told) = (zero, Some(received));
            }
            jumped
        });
        drop(told);
        let offset = self.local().duration_since(server);
        let far = offset.abs() > WORTH_A_WARNING;
        if far && !self.warned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let seconds = offset.as_secs();
            tracing::warn!(
                offset_seconds = seconds,
                "the local clock differs from the API server's; korder goes by the API server's"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_time_that_no_clock_will_show_is_waited_for_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let _entered = runtime.as_ref().unwrap().enter();
        let clock = Clock::system();
        let until = clock.mono().after(Duration::from_secs(u64::MAX));
        assert_eq!(clock.sleep_until(Some(until)).now_or_never(), None);
    }
}
