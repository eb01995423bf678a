//! A token bucket: so many requests a second on average, so many at once after a rest.

use std::time::Duration;

use crate::domain::values::time::Mono;

/// Tokens, refilled as time passes.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    counted: Mono,
}

impl Bucket {
    /// A full bucket. `rate` is tokens a second, `burst` how many it holds.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate: rate.into(),
            burst: burst.into(),
            tokens: burst.into(),
            counted: Mono::default(),
        }
    }

    /// When there is a token: `now`, or later.
    pub(super) fn next(&self, now: Mono) -> Mono {
        let missing = 1.0 - self.tokens_at(now);
        if missing <= 0.0 {
            return now;
        }
        // A whole nanosecond more than computed, so that rounding never wakes anyone in vain.
        let wait = Duration::from_secs_f64(missing / self.rate).saturating_add(Duration::from_nanos(1));
        now.after(wait)
    }

    /// Takes a token; below zero if there is none, which the next ones wait for.
    pub(super) fn take(&mut self, now: Mono) {
        self.tokens = self.tokens_at(now) - 1.0;
        self.counted = now;
    }

    fn tokens_at(&self, now: Mono) -> f64 {
        let earned = now.since(self.counted).as_secs_f64() * self.rate;
        (self.tokens + earned).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let (mut bucket, mut now, mut taken) = (Bucket::new(100, 10), Mono::default(), 0);
        while now < Mono(Duration::from_secs(10)) {
            now = bucket.next(now);
            bucket.take(now);
            taken += 1;
        }
        assert!((1005..=1012).contains(&taken), "{taken}");
    }

    #[test]
    fn a_rest_fills_no_more_than_the_burst() {
        let mut bucket = Bucket::new(100, 10);
        let now = Mono(Duration::from_secs(3600));
        for _ in 0..10 {
            assert_eq!(bucket.next(now), now);
            bucket.take(now);
        }
        assert!(bucket.next(now) > now);
    }
}
