//! The API server's time, estimated from the `Date` headers of its answers.
//!
//! A header is whole seconds and was written at some moment between request and answer, so each one
//! bounds the difference to the monotonic clock from both sides; the bounds are intersected.

use jiff::{SignedDuration, Timestamp};

use crate::domain::values::time::Mono;

/// What is known of the API server's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerTime {
    /// Earliest and latest server time at monotonic zero.
    zero: (Timestamp, Timestamp),
    heard: bool,
}

impl ServerTime {
    /// Until an answer has been seen, the server's clock is taken to show `local` at zero.
    pub(crate) fn new(local: Timestamp) -> Self {
        Self {
            zero: (local, local),
            heard: false,
        }
    }

    /// Takes in the `Date` of an answer that was asked for at `sent` and came at `received`.
    pub(crate) fn hear(&mut self, date: Timestamp, sent: Mono, received: Mono) {
        let back = |at: Timestamp, span: Mono| at.saturating_sub(signed(span)).unwrap_or(Timestamp::MIN);
        let early = back(date, received);
        let late = back(
            date.saturating_add(SignedDuration::from_secs(1))
                .unwrap_or(Timestamp::MAX),
            sent,
        );
        let (earliest, latest) = (self.zero.0.max(early), self.zero.1.min(late));
        // A contradiction means that a clock was set: only the newest answer counts.
        self.zero = if self.heard && earliest <= latest {
            (earliest, latest)
        } else {
            (early, late)
        };
        self.heard = true;
    }

    /// The server's time at `now`.
    pub(crate) fn at(&self, now: Mono) -> Timestamp {
        let half = self.zero.1.duration_since(self.zero.0) / 2;
        let zero = self.zero.0.saturating_add(half).unwrap_or(Timestamp::MAX);
        zero.saturating_add(signed(now)).unwrap_or(Timestamp::MAX)
    }
}

fn signed(span: Mono) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn error(time: &ServerTime, truth_at_zero_ms: i64, now: Mono) -> i64 {
        let truth = truth_at_zero_ms + i64::try_from(now.0.as_millis()).unwrap();
        (time.at(now).as_millisecond() - truth).abs()
    }

    #[test]
    fn many_answers_narrow_the_error_below_a_tenth_of_a_second() {
        let (truth, mut time) = (1_000_000_337, ServerTime::new(second(5)));
        for n in 0..40u64 {
            let now = n * 730;
            let date = (truth + i64::try_from(now).unwrap()).div_euclid(1000);
            time.hear(second(date), at(now), at(now + 10));
        }
        assert!(
            error(&time, truth, at(40_000)) < 100,
            "{}",
            error(&time, truth, at(40_000))
        );
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        let mut time = ServerTime::new(second(5));
        time.hear(second(100), at(0), at(10));
        time.hear(second(5000), at(1000), at(1010));
        assert!(error(&time, 4_999_500, at(2000)) <= 600);
    }

    #[test]
    fn before_any_answer_the_local_clock_counts() {
        assert_eq!(ServerTime::new(second(7)).at(at(2000)), second(9));
    }
}
