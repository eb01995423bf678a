//! Writes waiting for the API server: at most one per key, in lanes, oldest first.
//!
//! Pure. A newer operation takes the place of the one that waits for the same key and keeps its
//! place in line; an operation that has started cannot be changed, and nothing else is accepted for
//! its key until it is done.

mod bucket;
pub(crate) mod budget;
mod limit;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use crate::domain::values::time::Mono;

/// Which operations go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// Further requests of what has begun, such as the GET that settles a create: the sooner it ends,
    /// the less is in doubt.
    Settle,
    /// Deletes, which make room.
    Delete,
    /// Guardians: the scheduler, which is the slowest of all, gets its first Pods at once and is kept
    /// busy while the rest of the Tickets are made.
    Guardian,
    /// Tickets, and patches of specs and labels.
    Create,
    /// Status writes and Events.
    Status,
}

/// A queue of `T`, at most one per `K`.
#[derive(Debug)]
pub(crate) struct Queue<K, T> {
    line: BTreeMap<Place, K>,
    waiting: HashMap<K, Waiting<T>, ahash::RandomState>,
    started: HashSet<K, ahash::RandomState>,
    offered: u64,
    starts: u64,
}

/// One start in so many goes to the last lane, whatever waits in the others: without it a long burst
/// of creates would keep every status from being seen until its end.
const STATUS_SHARE: u64 = 4;

type Place = (Lane, u64);

#[derive(Debug)]
struct Waiting<T> {
    place: Place,
    item: T,
    since: Mono,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Self {
            line: BTreeMap::new(),
            waiting: HashMap::default(),
            started: HashSet::default(),
            offered: 0,
            starts: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, T> Queue<K, T> {
    /// Puts `item` in line; false (and nothing done) if one of the same key has started.
    pub(crate) fn offer(&mut self, key: K, lane: Lane, item: T, now: Mono) -> bool {
        if self.started.contains(&key) {
            return false;
        }
        self.offered += 1;
        let (mut place, mut since) = ((lane, self.offered), now);
        if let Some(before) = self.waiting.remove(&key) {
            self.line.remove(&before.place);
            since = before.since;
            if before.place.0 == lane {
                place = before.place;
            }
        }
        self.line.insert(place, key.clone());
        self.waiting.insert(key, Waiting { place, item, since });
        true
    }

    /// Takes back what waits for `key`; false if it has started or nothing waits.
    pub(crate) fn cancel(&mut self, key: &K) -> bool {
        let cancelled = self.waiting.remove(key);
        if let Some(waiting) = &cancelled {
            self.line.remove(&waiting.place);
        }
        cancelled.is_some()
    }

    /// Takes back whatever waits and is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let line = &mut self.line;
        self.waiting.retain(|_, waiting| {
            let kept = keep(&waiting.item);
            if !kept {
                line.remove(&waiting.place);
            }
            kept
        });
    }

    /// What waits, in no order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.values().map(|waiting| &waiting.item)
    }

    /// Whether an operation for `key` has started.
    pub(crate) fn in_flight(&self, key: &K) -> bool {
        self.started.contains(key)
    }

    /// The operation that starts next.
    pub(crate) fn next(&self) -> Option<(&K, &T)> {
        let key = &self.line[&self.next_place()?];
        Some((key, &self.waiting[key].item))
    }

    /// Starts the next operation; also says how long it has waited.
    pub(crate) fn start(&mut self, now: Mono) -> Option<(K, T, Duration)> {
        let place = self.next_place()?;
        self.starts += 1;
        let key = self.line.remove(&place).expect("just seen");
        let waiting = self.waiting.remove(&key).expect("what is in line waits");
        self.started.insert(key.clone());
        Some((key, waiting.item, now.since(waiting.since)))
    }

    fn next_place(&self) -> Option<Place> {
        let of_last_lane = (Lane::Status, 0)..;
        let fair = (self.starts + 1).is_multiple_of(STATUS_SHARE);
        let last = fair
            .then(|| self.line.range(of_last_lane).next().map(|(place, _)| *place))
            .flatten();
        last.or_else(|| self.line.first_key_value().map(|(place, _)| *place))
    }

    /// The operation for `key` is over.
    pub(crate) fn done(&mut self, key: &K) {
        self.started.remove(key);
    }

    /// Operations that wait.
    pub(crate) fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// Operations that have started.
    pub(crate) fn started(&self) -> usize {
        self.started.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn newer_operation_takes_the_place_of_the_one_that_waits() {
        let mut queue = Queue::default();
        assert!(queue.offer("a", Lane::Create, 1, at(0)));
        assert!(queue.offer("b", Lane::Create, 2, at(1)));
        assert!(queue.offer("a", Lane::Create, 3, at(2)));
        assert_eq!(queue.start(at(5)), Some(("a", 3, Duration::from_secs(5))));
        assert_eq!(
            queue.start(at(5)).map(|(key, item, _)| (key, item)),
            Some(("b", 2))
        );
        assert_eq!(queue.start(at(5)), None);
    }

    #[test]
    fn create_then_cancel_writes_nothing() {
        let mut queue = Queue::default();
        queue.offer("a", Lane::Create, 1, at(0));
        assert!(queue.cancel(&"a"));
        assert_eq!(queue.start(at(0)), None);
    }

    #[test]
    fn nothing_is_accepted_for_a_key_that_has_started() {
        let mut queue = Queue::default();
        queue.offer("a", Lane::Create, 1, at(0));
        queue.start(at(0));
        assert!(!queue.offer("a", Lane::Delete, 2, at(0)));
        assert!(!queue.cancel(&"a"));
        queue.done(&"a");
        assert!(queue.offer("a", Lane::Delete, 2, at(0)));
    }

    #[test]
    fn lanes_go_in_order_also_when_an_operation_changes_lane() {
        let mut queue = Queue::default();
        queue.offer("status", Lane::Status, 1, at(0));
        queue.offer("x", Lane::Create, 2, at(0));
        queue.offer("y", Lane::Create, 3, at(0));
        queue.offer("y", Lane::Delete, 4, at(0));
        let order: Vec<_> = std::iter::from_fn(|| queue.start(at(0)))
            .map(|(_, item, _)| item)
            .collect();
        assert_eq!(order, [4, 2, 1]);
    }

    #[test]
    fn every_fourth_start_is_a_status_even_while_creates_wait() {
        let mut queue = Queue::default();
        (0..9).for_each(|n| assert!(queue.offer(n, Lane::Create, "create", at(0))));
        (10..13).for_each(|n| assert!(queue.offer(n, Lane::Status, "status", at(0))));
        let order: Vec<_> = std::iter::from_fn(|| queue.start(at(0)))
            .map(|(_, item, _)| item)
            .collect();
        let round = ["create", "create", "create", "status"];
        assert_eq!(order, [round, round, round].concat());
    }

    #[test]
    fn a_cancelled_operation_offered_again_runs_once() {
        let mut queue = Queue::default();
        queue.offer("a", Lane::Create, 1, at(0));
        queue.cancel(&"a");
        queue.offer("a", Lane::Create, 2, at(0));
        let items: Vec<_> = std::iter::from_fn(|| {
            let started = queue.start(at(0));
            queue.done(&"a");
            started
        })
        .map(|(_, item, _)| item)
        .collect();
        assert_eq!(items, [2]);
    }
}
