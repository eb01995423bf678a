//! What one replica may ask of the API server: how much at once, how much a second, and when not at all.
//!
//! Pure. Every request of the write path begins and ends here, those that settle a doubt included;
//! Leases alone do not. Nothing begins before a Retry-After has passed.

use std::time::Duration;

use super::{bucket::Bucket, limit::Limit};
use crate::domain::values::time::Mono;

#[cfg(test)]
mod model;

/// Requests a second, and at once after a rest. More than twice what an API server on two cores
/// answers, so that only one that is far stronger is spared; the burst is a tenth of a second's worth.
const RATE: (u32, u32) = (2_000, 200);
/// The gate stays closed for so long after a 429 or 503 that names no time.
const UNNAMED: Duration = Duration::from_secs(1);
/// Of so many answers one may be missing without a cut: a webhook that hangs for one kind of object, or
/// a connection that breaks, is not an overload.
const ONE_LOST_IN: u32 = 20;
/// First and longest pause while nothing is answered: one request then asks for all.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Whether a request may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this; to be asked again then.
    At(Mono),
    /// Not before another one has ended.
    Full,
}

/// What came of a request, as far as the budget cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// The API server dealt with it, whatever it said.
    Served,
    /// 429 or 503: too much, with the time it asks for.
    TooMuch(Option<Duration>),
    /// No answer in time, or no connection.
    Silence,
    /// Nothing can be said of the API server: it failed within, or the request was given up.
    Nothing,
}

/// The budget of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    bucket: Bucket,
    limit: Limit,
    open_from: Mono,
    /// Requests served since the last that was not answered.
    since_lost: u32,
    /// Cuts in a row without a request that was served.
    unheard: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bucket: Bucket::new(RATE.0, RATE.1),
            limit: Limit::default(),
            open_from: Mono::default(),
            since_lost: ONE_LOST_IN,
            unheard: 0,
        }
    }
}

impl Budget {
    /// Whether a request may begin at `now`.
    pub(crate) fn admission(&self, now: Mono) -> Admission {
        let at = self.open_from.max(self.bucket.next(now));
        if now < at {
            Admission::At(at)
        } else if self.limit.has_room() {
            Admission::Now
        } else {
            Admission::Full
        }
    }

    /// A request begins.
    pub(crate) fn begin(&mut self, now: Mono) {
        self.bucket.take(now);
        self.limit.begin();
    }

    /// A request that began at `begun` is over; returns whether the limit was cut.
    pub(crate) fn end(&mut self, begun: Mono, feedback: Feedback, now: Mono) -> bool {
        let cut = match feedback {
            Feedback::Served => {
                self.limit.success(begun, now);
                self.since_lost = self.since_lost.saturating_add(1);
                self.unheard = 0;
                false
            }
            Feedback::TooMuch(after) => {
                self.close(now.after(after.unwrap_or(UNNAMED)));
                self.cut(begun, now)
            }
            Feedback::Silence if std::mem::take(&mut self.since_lost) >= ONE_LOST_IN => false,
            Feedback::Silence => self.cut(begun, now),
            Feedback::Nothing => false,
        };
        if cut && feedback == Feedback::Silence && self.limit.allowed() == 1 {
            let pause = PAUSE.0.saturating_mul(1 << self.unheard.min(10)).min(PAUSE.1);
            self.close(now.after(pause));
        }
        self.limit.end();
        cut
    }

    /// Nothing begins before `open_from`; an earlier end of another pause does not count.
    pub(crate) fn close(&mut self, open_from: Mono) {
        self.open_from = self.open_from.max(open_from);
    }

    /// When the gate opens; `now` or earlier if it is open.
    pub(crate) fn open_from(&self) -> Mono {
        self.open_from
    }

    /// Requests that may be in flight.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.allowed()
    }

    /// Whether no request of several flights in a row was served: what fails now is no one object's
    /// fault.
    pub(crate) fn outage(&self) -> bool {
        self.unheard >= 2
    }

    fn cut(&mut self, begun: Mono, now: Mono) -> bool {
        let cut = self.limit.cut(begun, now);
        self.unheard = self.unheard.saturating_add(cut.into());
        cut
    }
}
