//! How many requests may be in flight: halved when the API server has too many, raised step by step.
//!
//! Remembers the greatest limit that a whole round of requests has proved, comes back to it fast, and
//! tries more only now and then: a try that is refused closes the gate for everything. Why, and with
//! which figures: `docs/decisions/how-many-requests-at-once.md`.

use std::time::Duration;

use crate::domain::values::time::Mono;

/// Requests in flight at first and at most. 24 keep an API server on two cores busy (about 800 creates
/// a second); what waits here can still be changed or taken back, what waits there cannot.
pub(super) const MOST: u32 = 24;
/// No try beyond what is proved for so long after a cut, and before so many successes: one refusal in
/// a try is then less than one in ten requests, however slow the API server is.
const TRY_AFTER: (Duration, u32) = (Duration::from_secs(10), 16);
/// Least time between two steps up once a try has gone well; each step is twice the last.
const STEP_EVERY: Duration = Duration::from_millis(500);

/// The limit, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    allowed: u32,
    /// The greatest limit that a whole round was answered at.
    proved: u32,
    in_flight: u32,
    /// The limit was reached since it was last changed: otherwise answers prove nothing about it.
    reached: bool,
    cut: Option<Mono>,
    raised: Mono,
    successes: u32,
    round: u32,
    step: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            allowed: MOST,
            proved: MOST,
            in_flight: 0,
            reached: false,
            cut: None,
            raised: Mono::default(),
            successes: 0,
            round: 0,
            step: 1,
        }
    }
}

impl Limit {
    /// Requests that may be in flight.
    pub(super) fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Whether one more may begin.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.allowed
    }

    /// A request begins.
    pub(super) fn begin(&mut self) {
        self.in_flight += 1;
        self.reached |= self.in_flight >= self.allowed;
    }

    /// A request is over; to be called after what its answer came to.
    pub(super) fn end(&mut self) {
        debug_assert!(self.in_flight > 0, "a request ends once");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The API server took a request that began at `begun`.
    pub(super) fn success(&mut self, begun: Mono, now: Mono) {
        if self.cut.is_some_and(|cut| begun <= cut) {
            return;
        }
        self.successes = self.successes.saturating_add(1);
        if !self.reached || self.proved >= MOST {
            return;
        }
        if self.allowed < self.proved {
            // One more for each answer: twice as many in each round.
            (self.allowed, self.reached) = (self.allowed + 1, false);
            self.raised = now;
            return;
        }
        self.round += u32::from(begun >= self.raised);
        if self.round >= self.allowed {
            self.proved = self.allowed;
            self.try_more(now);
        }
    }

    /// The API server has too many: halves the limit, once for all requests that were in flight
    /// together. Returns whether it did.
    pub(super) fn cut(&mut self, begun: Mono, now: Mono) -> bool {
        if self.cut.is_some_and(|cut| begun <= cut) {
            return false;
        }
        let used = self.allowed.min(self.in_flight.max(1));
        // Of a try that was refused some have been answered by now: what is in flight says nothing.
        let tried = self.reached && self.allowed > self.proved;
        self.allowed = (used / 2).max(1);
        if !tried && used <= self.proved {
            self.proved = self.allowed;
        }
        (self.cut, self.raised) = (Some(now), now);
        (self.reached, self.successes, self.round, self.step) = (false, 0, 0, 1);
        true
    }

    fn try_more(&mut self, now: Mono) {
        let rested = match self.cut {
            Some(cut) => now.since(cut) >= TRY_AFTER.0 && self.successes >= TRY_AFTER.1,
            None => true,
        };
        if rested && (self.step == 1 || now.since(self.raised) >= STEP_EVERY) {
            self.allowed = self.allowed.saturating_add(self.step).min(MOST);
            self.step = self.step.saturating_mul(2);
            (self.raised, self.reached, self.round) = (now, false, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn filled() -> Limit {
        let mut limit = Limit::default();
        (0..MOST).for_each(|_| limit.begin());
        limit
    }

    #[test]
    fn a_flight_that_is_refused_halves_once() {
        let mut limit = filled();
        let cuts = (0..MOST).filter(|_| {
            let cut = limit.cut(at(10), at(20));
            limit.end();
            cut
        });
        assert_eq!((cuts.count(), limit.allowed()), (1, MOST / 2));
    }

    #[test]
    fn the_next_flight_that_is_refused_halves_again_down_to_one() {
        let mut limit = filled();
        for n in 1..=8 {
            limit.cut(at(n * 100), at(n * 100 + 50));
        }
        assert_eq!(limit.allowed(), 1);
        limit.end();
        assert!(!limit.has_room(), "those in flight still count");
    }

    #[test]
    fn few_in_flight_that_are_refused_halve_what_was_in_use() {
        let mut limit = Limit::default();
        (0..4).for_each(|_| limit.begin());
        limit.cut(at(1), at(2));
        assert_eq!(limit.allowed(), 2);
    }

    #[test]
    fn a_limit_that_nobody_needs_is_not_raised() {
        let mut limit = filled();
        limit.cut(at(1), at(2));
        (0..MOST).for_each(|_| limit.end());
        for n in 0..1000 {
            limit.begin();
            limit.success(at(10_000 + n), at(10_001 + n));
            limit.end();
        }
        assert_eq!(limit.allowed(), MOST / 2);
    }
}
