//! Flaps: a pair whose eligibility flips four times within 10 s is left alone for 30 s.
//!
//! In memory only; a deleted Node or Order is never held up by it.

use std::{collections::VecDeque, time::Duration};

use crate::domain::values::time::Mono;

const WINDOW: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(30);
const TOO_MANY: usize = 4;

/// The recent flips of one pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaps {
    eligible: Option<bool>,
    flips: VecDeque<Mono>,
    held_until: Option<Mono>,
}

impl Flaps {
    /// Notes whether the pair is eligible at `now`; returns until when it is to be left alone.
    pub(crate) fn note(&mut self, eligible: bool, now: Mono) -> Option<Mono> {
        if self
            .eligible
            .replace(eligible)
            .is_some_and(|before| before != eligible)
        {
            self.flip(now);
        }
        self.held_until = self.held_until.filter(|&until| now < until);
        self.held_until
    }

    /// Until when the flips seen so far may still matter; none if they no longer do.
    pub(crate) fn restless_until(&self, now: Mono) -> Option<Mono> {
        let recent = self.flips.back().map(|last| last.after(WINDOW));
        self.held_until.max(recent).filter(|&until| now < until)
    }

    fn flip(&mut self, now: Mono) {
        self.flips.push_back(now);
        while self.flips.len() > TOO_MANY {
            self.flips.pop_front();
        }
        let burst = self.flips.len() == TOO_MANY && now.since(self.flips[0]) <= WINDOW;
        if burst && self.held_until.is_none_or(|until| now >= until) {
            self.held_until = Some(now.after(HOLD));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn fourth_flip_within_ten_seconds_holds_for_thirty_from_the_fourth() {
        let mut flaps = Flaps::default();
        assert_eq!(flaps.note(true, at(0)), None);
        assert_eq!(flaps.note(false, at(1)), None);
        assert_eq!(flaps.note(true, at(2)), None);
        assert_eq!(flaps.note(false, at(3)), None);
        assert_eq!(flaps.note(true, at(4)), Some(at(34)));
        assert_eq!(
            flaps.note(false, at(9)),
            Some(at(34)),
            "later flips do not prolong it"
        );
        assert_eq!(flaps.note(false, at(34)), None);
    }

    #[test]
    fn slow_flips_are_acted_on() {
        let mut flaps = Flaps::default();
        for (step, second) in (0..60).step_by(4).enumerate() {
            assert_eq!(flaps.note(step % 2 == 0, at(second)), None, "{second}");
        }
    }
}
