//! What goes wrong between a client and the API server, drawn from the seed.
//!
//! [`Faults`] says how often; [`Dice`] throws. Nothing here sends or waits.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

/// How often what goes wrong; probabilities are per request unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Least and greatest time a request or an answer takes on its way, in milliseconds.
    pub latency: (u64, u64),
    /// An answer, a request or a delivery takes up to six seconds instead.
    pub slow: f64,
    /// 500 or 503 without effect.
    pub fail_before: f64,
    /// The connection breaks and nothing has happened.
    pub lose_request: f64,
    /// 500 or 504, though it has happened.
    pub fail_after: f64,
    /// It has happened, and no answer comes.
    pub lose_reply: f64,
    /// 409 to a write that would have gone through.
    pub conflict: f64,
    /// 429 with Retry-After.
    pub too_many: f64,
    /// A list or a GET answers as things were some revisions ago.
    pub stale: f64,
    /// A watch is cut (per delivery).
    pub cut: f64,
    /// A watch that is cut has expired: what it missed is compacted.
    pub expire: f64,
    /// Least and greatest delay of a delivery, in milliseconds.
    pub delivery: (u64, u64),
}

impl Faults {
    /// A healthy API server nearby.
    pub fn none() -> Self {
        Self {
            latency: (1, 3),
            slow: 0.0,
            fail_before: 0.0,
            lose_request: 0.0,
            fail_after: 0.0,
            lose_reply: 0.0,
            conflict: 0.0,
            too_many: 0.0,
            stale: 0.0,
            cut: 0.0,
            expire: 0.0,
            delivery: (1, 5),
        }
    }

    /// Faults as the seed has them: each kind is missing, rare or frequent.
    pub fn drawn(rng: &mut fastrand::Rng) -> Self {
        let mut often = |most: f64| match rng.u8(0..4) {
            0 | 1 => 0.0,
            2 => most / 10.0,
            _ => most,
        };
        let mut faults = Self {
            slow: often(0.05),
            fail_before: often(0.15),
            lose_request: often(0.1),
            fail_after: often(0.1),
            lose_reply: often(0.1),
            conflict: often(0.1),
            too_many: often(0.1),
            stale: often(0.3),
            cut: often(0.05),
            expire: often(1.0),
            ..Self::none()
        };
        faults.latency = (1, [3, 30, 300][rng.usize(0..3)]);
        faults.delivery = (1, [5, 100, 3000][rng.usize(0..3)]);
        faults
    }
}

/// What there is of them, in words.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let often = [
            (self.slow, "slow"),
            (self.fail_before, "refused with 5xx"),
            (self.lose_request, "requests lost"),
            (self.fail_after, "5xx though done"),
            (self.lose_reply, "answers lost"),
            (self.conflict, "409"),
            (self.too_many, "429"),
            (self.stale, "reads stale"),
            (self.cut, "watches cut"),
            (self.expire, "of those expired"),
        ];
        for (share, what) in often.into_iter().filter(|(share, _)| *share > 0.0) {
            write!(f, "{:.1} % {what}, ", share * 100.0)?;
        }
        let ((least, most), (soonest, latest)) = (self.latency, self.delivery);
        write!(
            f,
            "{least}-{most} ms on the way, watches {soonest}-{latest} ms behind"
        )
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// Its way to the API server.
    pub there: Duration,
    /// The answer's way back.
    pub back: Duration,
    /// What else.
    pub twist: Twist,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    None,
    /// This code, without effect.
    FailBefore(u16),
    /// The connection breaks before.
    LoseRequest,
    /// This code, though it has happened.
    FailAfter(u16),
    /// No answer.
    LoseReply,
    /// 409 without effect.
    Conflict,
    /// 429 with this Retry-After.
    TooMany(u32),
    /// A read of so many revisions ago.
    Stale(u64),
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives after this.
    After(Duration),
    /// The stream ends.
    Cut,
    /// The stream ends, and what comes next is compacted.
    Expire,
}

/// Throws for everybody, in the order in which they ask; clones share it.
#[derive(Clone, Debug)]
pub struct Dice {
    inner: Arc<Mutex<(fastrand::Rng, Faults)>>,
}

impl Dice {
    /// Dice of this seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            inner: Arc::new(Mutex::new((fastrand::Rng::with_seed(seed), faults))),
        }
    }

    /// From now on, other faults.
    pub fn set(&self, faults: Faults) {
        self.inner.lock().1 = faults;
    }

    /// What happens to a request.
    pub fn request(&self, write: bool) -> Fate {
        let (rng, faults) = &mut *self.inner.lock();
        let mut way = || match rng.f64() < faults.slow {
            true => Duration::from_millis(rng.u64(500..6000)),
            false => millis(rng, faults.latency),
        };
        let (there, back) = (way(), way());
        let twist = twist(rng, faults, write);
        Fate { there, back, twist }
    }

    /// What happens to what a watch is to deliver next.
    pub fn delivery(&self) -> Delivery {
        let (rng, faults) = &mut *self.inner.lock();
        if rng.f64() < faults.cut {
            return match rng.f64() < faults.expire {
                true => Delivery::Expire,
                false => Delivery::Cut,
            };
        }
        Delivery::After(match rng.f64() < faults.slow {
            true => Duration::from_millis(rng.u64(500..6000)),
            false => millis(rng, faults.delivery),
        })
    }
}

fn millis(rng: &mut fastrand::Rng, (least, greatest): (u64, u64)) -> Duration {
    Duration::from_millis(rng.u64(least..=greatest))
}

fn twist(rng: &mut fastrand::Rng, faults: &Faults, write: bool) -> Twist {
    let mut throw = rng.f64();
    let mut hit = |probability: f64| {
        let hit = throw < probability;
        throw -= probability;
        hit && probability > 0.0
    };
    if hit(faults.fail_before) {
        return Twist::FailBefore([500, 503][rng.usize(0..2)]);
    }
    if hit(faults.lose_request) {
        return Twist::LoseRequest;
    }
    if hit(faults.fail_after) {
        return Twist::FailAfter([500, 504][rng.usize(0..2)]);
    }
    if hit(faults.lose_reply) {
        return Twist::LoseReply;
    }
    if hit(faults.too_many) {
        return Twist::TooMany(rng.u32(1..=5));
    }
    if write && hit(faults.conflict) {
        return Twist::Conflict;
    }
    if !write && hit(faults.stale) {
        return Twist::Stale(rng.u64(1..30));
    }
    Twist::None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_words_as_far_as_there_are_any() {
        let faults = Faults {
            conflict: 0.015,
            ..Faults::none()
        };
        assert_eq!(
            faults.to_string(),
            "1.5 % 409, 1-3 ms on the way, watches 1-5 ms behind"
        );
    }
}
