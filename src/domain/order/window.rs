//! When an Order holds room: its windows, as a function of the Order and the time alone.
//!
//! [`Windows`] answers for any time; [`Agenda`] keeps the answers that hold until the next change, so
//! that they are computed once for all pairs of an Order. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan};

use super::spec::{Order, Strategy};
use crate::api::order::{RefreshPolicy, StrategyType};
use crate::domain::values::time::later;

/// A Ticket without `windowStart` belongs to the window of this long after its creation: creation
/// times have no fractions, and the controller's clock may be ahead.
pub(crate) const CREATED_LATE: Duration = Duration::from_secs(2);

/// A time in which room is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its first moment.
    pub(crate) start: Timestamp,
    /// The first moment after it; none if it never ends.
    pub(crate) end: Option<Timestamp>,
    /// Another begins where it ends.
    pub(crate) followed: bool,
}

impl Window {
    /// Whether `at` lies in it.
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// The windows of one Order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows<'a> {
    strategy: &'a Strategy,
    /// No window begins before.
    begin: Timestamp,
    /// Of each window, whole seconds.
    duration: Option<Duration>,
}

impl<'a> Windows<'a> {
    /// Those of `order`; none if its spec is invalid.
    pub(crate) fn of(order: &'a Order) -> Option<Self> {
        let spec = order.spec.as_ref().ok()?;
        let begin = spec
            .start_time
            .map_or(order.created, |start| start.max(order.created));
        let always = spec.strategy.refresh_policy == RefreshPolicy::Always;
        let ignored = always && spec.strategy.kind == StrategyType::Recurring;
        Some(Self {
            strategy: &spec.strategy,
            begin: Timestamp::from_second(begin.as_second()).unwrap_or(begin),
            duration: spec.duration.filter(|_| !ignored).map(whole_seconds),
        })
    }

    /// The last window that has begun at `at`, whether or not it is over.
    pub(crate) fn latest(&self, at: Timestamp) -> Option<Window> {
        if at < self.begin {
            return None;
        }
        let start = match self.strategy.kind {
            StrategyType::OneTime => return Some(self.nth_of_one_time(at)),
            StrategyType::Scheduled => self.tick_until(at)?,
            StrategyType::Recurring => self.tick_until(at).unwrap_or(self.begin),
        };
        let next = self.tick_after(start);
        let full = self.duration.map(|duration| later(start, duration));
        let end = [full, next].into_iter().flatten().min();
        Some(Window {
            start,
            end: end.filter(|end| *end < Timestamp::MAX),
            followed: end.is_some() && end == next,
        })
    }

    /// The first window that begins after `at`.
    pub(crate) fn next(&self, at: Timestamp) -> Option<Window> {
        let start = match self.strategy.kind {
            _ if at < self.begin && self.strategy.kind != StrategyType::Scheduled => Some(self.begin),
            StrategyType::OneTime => {
                let latest = self.nth_of_one_time(at);
                latest.end.filter(|_| latest.followed)
            }
            StrategyType::Recurring => self.tick_after(at),
            StrategyType::Scheduled => {
                let earliest = self.begin.checked_sub(1.nanosecond()).unwrap_or(self.begin);
                self.tick_after(at.max(earliest))
            }
        };
        self.latest(start?)
    }

    /// When the last window ends for good; none if that never happens.
    pub(crate) fn close(&self) -> Option<Timestamp> {
        let last = (self.strategy.kind == StrategyType::OneTime).then(|| self.nth_of_one_time(self.begin));
        last.filter(|last| !last.followed).and_then(|last| last.end)
    }

    /// The window of a `OneTime` Order that has begun last at `at`, which is not before the first.
    fn nth_of_one_time(&self, at: Timestamp) -> Window {
        let Some(duration) = self.duration else {
            return Window {
                start: self.begin,
                end: None,
                followed: false,
            };
        };
        let always = self.strategy.refresh_policy == RefreshPolicy::Always;
        let passed = Duration::try_from(at.duration_since(self.begin)).unwrap_or_default();
        let whole = if always {
            passed.as_secs() / duration.as_secs() * duration.as_secs()
        } else {
            0
        };
        let start = later(self.begin, Duration::from_secs(whole));
        let end = Some(later(start, duration)).filter(|end| *end < Timestamp::MAX);
        Window {
            start,
            end,
            followed: always && end.is_some(),
        }
    }

    fn tick_until(&self, at: Timestamp) -> Option<Timestamp> {
        let schedule = self.strategy.schedule.as_ref()?;
        schedule.until(at, self.begin, &self.strategy.time_zone)
    }

    fn tick_after(&self, at: Timestamp) -> Option<Timestamp> {
        let schedule = self.strategy.schedule.as_ref()?;
        schedule.after(at, &self.strategy.time_zone)
    }
}

/// Times of the API have no fractions of a second, so windows have none.
fn whole_seconds(duration: Duration) -> Duration {
    let rest = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(rest))
}

/// The windows of an Order around the present.
#[derive(Clone, Debug)]
pub(crate) struct Agenda {
    order: Arc<Order>,
    /// Holds from here on.
    since: Timestamp,
    /// The window that the present lies in.
    pub(crate) current: Option<Window>,
    /// The last one before that, or before the present.
    pub(crate) previous: Option<Window>,
    /// The first one that has not begun.
    pub(crate) next: Option<Window>,
}

impl Agenda {
    /// That of `order` at `now`; none if its spec is invalid.
    pub(crate) fn at(order: &Arc<Order>, now: Timestamp) -> Option<Self> {
        let windows = Windows::of(order)?;
        let latest = windows.latest(now);
        let current = latest.filter(|latest| latest.contains(now));
        let previous = match current {
            Some(current) => {
                let before = current.start.checked_sub(1.nanosecond());
                before.ok().and_then(|before| windows.latest(before))
            }
            None => latest,
        };
        let over = previous.and_then(|previous| previous.end);
        Some(Self {
            order: order.clone(),
            since: current
                .map(|current| current.start)
                .or(over)
                .unwrap_or(Timestamp::MIN),
            current,
            previous,
            next: windows.next(now),
        })
    }

    /// Whether this is what [`Agenda::at`] says of `order` at `now`.
    pub(crate) fn holds(&self, order: &Arc<Order>, now: Timestamp) -> bool {
        Arc::ptr_eq(&self.order, order) && self.since <= now && self.until().is_none_or(|until| now < until)
    }

    /// When a window ends or begins next.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self.current {
            Some(current) => current.end,
            None => self.next.map(|next| next.start),
        }
    }

    /// The last window that has begun at `at`.
    pub(crate) fn latest(&self, at: Timestamp) -> Option<Window> {
        let begun = |window: &Option<Window>| window.filter(|window| window.start <= at);
        let known = match begun(&self.next) {
            Some(_) => None,
            None => begun(&self.current).or_else(|| begun(&self.previous)),
        };
        known.or_else(|| Windows::of(&self.order)?.latest(at))
    }

    /// When the last window ends for good; none if that never happens.
    pub(crate) fn close(&self) -> Option<Timestamp> {
        Windows::of(&self.order)?.close()
    }
}

#[cfg(test)]
mod tests;
