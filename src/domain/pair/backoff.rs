//! Backoff of one pair: 1 s doubling to 5 min, jitter only upwards, forgotten after 10 good minutes.
//!
//! The jitter is a hash of the pair and the attempt, so that a seeded run repeats exactly.

use std::time::Duration;

use crate::domain::values::{hash::fnv1a64, ids::PairKey, time::Mono};

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);
/// A Guardian that has stayed bound this long wipes the slate.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How often a pair has failed lately, and when it may try again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    retry_at: Mono,
    bound_since: Option<Mono>,
}

impl Backoff {
    /// Notes a failure at `now`; returns when to try again.
    pub(crate) fn fail(&mut self, pair: &PairKey, now: Mono) -> Mono {
        if self
            .bound_since
            .take()
            .is_some_and(|since| now.since(since) >= FORGIVEN_AFTER)
        {
            self.failures = 0;
        }
        self.failures += 1;
        self.retry_at = now.after(delay(pair, self.failures));
        self.retry_at
    }

    /// Notes that the Guardian is bound at `now`.
    pub(crate) fn bound(&mut self, now: Mono) {
        self.bound_since.get_or_insert(now);
    }

    /// The earliest moment of the next try.
    pub(crate) fn retry_at(&self) -> Mono {
        self.retry_at
    }
}

/// `FIRST` doubled for each failure after the first, at most `MOST`, plus at most a quarter.
fn delay(pair: &PairKey, failures: u32) -> Duration {
    let base = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(MOST);
    let seed = fnv1a64(format!("{}/{}/{failures}", pair.order, pair.node).as_bytes());
    base + base.mul_f64((seed % 1024) as f64 / 4096.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> PairKey {
        PairKey {
            order: "o".into(),
            node: "n".into(),
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn doubles_from_one_second_to_five_minutes_with_jitter_only_upwards() {
        for (failures, base) in [(1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (40, 300)] {
            let base = Duration::from_secs(base);
            let delay = delay(&pair(), failures);
            assert!(
                delay >= base && delay <= base.mul_f64(1.25),
                "{failures}: {delay:?}"
            );
        }
    }

    #[test]
    fn at_most_21_tries_in_the_first_hour_and_12_in_each_later_one() {
        let mut backoff = Backoff::default();
        let (mut now, mut tries) = (Mono::default(), vec![]);
        while now < at(3 * 3600) {
            tries.push(now);
            now = backoff.fail(&pair(), now);
        }
        let within = |from, to| tries.iter().filter(|&&t| t >= at(from) && t < at(to)).count();
        assert!(within(0, 3600) <= 21, "{}", within(0, 3600));
        assert!(within(3600, 7200) <= 12, "{}", within(3600, 7200));
    }

    #[test]
    fn forgotten_only_after_ten_minutes_bound() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.fail(&pair(), at(0));
        }
        backoff.bound(at(100));
        assert!(backoff.clone().fail(&pair(), at(699)).since(at(699)) >= Duration::from_secs(32));
        assert!(backoff.fail(&pair(), at(700)).since(at(700)) < Duration::from_secs(2));
    }
}
