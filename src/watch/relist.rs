//! A relist as a difference of keys, once for every kind of object.
//!
//! Objects listed again are applied again; objects that were known and are not listed are deleted.
//! Until a list is complete nothing is deleted. Where the brake is on, a list that lacks too much is
//! doubted: what it lacks stays as it was until a consistent read has confirmed the loss.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use kube::runtime::watcher::Event;
use parking_lot::Mutex;

/// What a watch event comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<V, R> {
    /// The object is there, new or changed.
    Apply(V),
    /// The object that was routed by this is gone, or is routed elsewhere now.
    Delete(R),
    /// All there was has been listed.
    Listed,
}

/// Whether a list may be doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brake {
    /// Every list is believed.
    Off,
    /// One that has no objects, or lacks more than 30 % and at least 10 of those known, is not.
    On,
    /// One that lacks anything is not.
    Full,
}

type Map<U, R> = HashMap<U, R, ahash::RandomState>;

/// What is known, by uid, each with what is needed to route its end.
#[derive(Debug)]
pub(crate) struct Relist<U, R> {
    brake: Brake,
    known: Map<U, R>,
    before: Option<Map<U, R>>,
    /// How many were known when the list began.
    expected: usize,
    /// What the last list lacks and nothing has confirmed yet.
    doubted: Map<U, R>,
}

impl<U, R> Relist<U, R> {
    /// Nothing is known.
    pub(crate) fn new(brake: Brake) -> Self {
        Self {
            brake,
            known: HashMap::default(),
            before: None,
            expected: 0,
            doubted: HashMap::default(),
        }
    }

    /// Nothing is known, and several may look.
    pub(crate) fn shared(brake: Brake) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self::new(brake)))
    }

    /// An object that was shown to somebody else: if the first list lacks it, it is gone.
    pub(crate) fn know(&mut self, uid: U, route: R)
    where
        U: Eq + Hash,
    {
        self.known.insert(uid, route);
    }

    /// All that has been shown and not been seen to go.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&U, &R)> {
        let listed = self.known.iter().chain(self.before.iter().flatten());
        listed.chain(&self.doubted)
    }

    /// Whether an object has been shown and not been seen to go.
    pub(crate) fn has(&self, uid: &U) -> bool
    where
        U: Eq + Hash,
    {
        let before = self
            .before
            .as_ref()
            .is_some_and(|before| before.contains_key(uid));
        before || self.known.contains_key(uid) || self.doubted.contains_key(uid)
    }

    /// Whether a consistent read is to confirm what the last list lacks.
    pub(crate) fn doubts(&self) -> bool {
        !self.doubted.is_empty()
    }
}

impl<U: Eq + Hash + Ord, R: Clone + PartialEq + Ord> Relist<U, R> {
    /// Turns an event into changes. `read` gives route and value; none for foreign objects, also for
    /// one that was not foreign before.
    pub(crate) fn apply<K, V>(
        &mut self,
        event: Event<K>,
        uid: impl FnOnce(&K) -> Option<U>,
        read: impl FnOnce(K) -> Option<(R, V)>,
        out: &mut Vec<Change<V, R>>,
    ) {
        match event {
            Event::Init => {
                let known = std::mem::take(&mut self.known);
                // A list that was cut off and begins again must not forget what came before it.
                let before = self.before.get_or_insert_default();
                before.extend(known);
                before.extend(self.doubted.drain());
                self.expected = before.len();
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(uid) = uid(&object) else {
                    return;
                };
                let before = self.before.as_mut().and_then(|before| before.remove(&uid));
                let before = before.or_else(|| self.doubted.remove(&uid));
                let before = self.known.remove(&uid).or(before);
                let Some((route, value)) = read(object) else {
                    out.extend(before.map(Change::Delete));
                    return;
                };
                self.known.insert(uid, route.clone());
                out.extend(before.filter(|before| *before != route).map(Change::Delete));
                out.push(Change::Apply(value));
            }
            Event::Delete(object) => {
                let known = uid(&object).and_then(|uid| self.forget(&uid));
                let route = known.or_else(|| read(object).map(|(route, _)| route));
                out.extend(route.map(Change::Delete));
            }
            Event::InitDone => {
                let gone = self.before.take().unwrap_or_default();
                if self.incredible(gone.len()) {
                    self.doubted = gone;
                } else {
                    delete(gone, out);
                }
                out.push(Change::Listed);
            }
        }
    }

    /// A consistent read has these: what is doubted and not among them is gone. Returns whether that is
    /// all of it; the rest was listed wrongly, and is to be listed again.
    pub(crate) fn confirm<V>(&mut self, present: &HashSet<U>, out: &mut Vec<Change<V, R>>) -> bool {
        let doubted = std::mem::take(&mut self.doubted).into_iter();
        let (kept, gone): (Map<U, R>, Map<U, R>) = doubted.partition(|(uid, _)| present.contains(uid));
        delete(gone, out);
        let confirmed = kept.is_empty();
        self.known.extend(kept);
        confirmed
    }

    fn incredible(&self, gone: usize) -> bool {
        let much = gone >= 10 && gone * 10 > self.expected * 3;
        match self.brake {
            Brake::Off => false,
            Brake::On => gone > 0 && (much || self.known.is_empty()),
            Brake::Full => gone > 0,
        }
    }

    fn forget(&mut self, uid: &U) -> Option<R> {
        let before = self.before.as_mut().and_then(|before| before.remove(uid));
        let known = self.known.remove(uid).or(before);
        known.or_else(|| self.doubted.remove(uid))
    }
}

/// In the order of uids, so that a run repeats exactly.
fn delete<U: Ord, R: Ord, V>(gone: Map<U, R>, out: &mut Vec<Change<V, R>>) {
    let mut gone: Vec<(U, R)> = gone.into_iter().collect();
    gone.sort();
    out.extend(gone.into_iter().map(|(_, route)| Change::Delete(route)));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Object = (&'static str, u32);

    fn run(events: impl IntoIterator<Item = Event<Object>>) -> Vec<Change<Object, u32>> {
        let (mut relist, mut out) = (Relist::new(Brake::Off), Vec::new());
        for event in events {
            let read = |object: Object| (object.1 < 100).then_some((object.1, object));
            relist.apply(event, |object| Some(object.0), read, &mut out);
        }
        out
    }

    #[test]
    fn object_missing_from_a_relist_is_deleted_at_its_end() {
        let changes = run([
            Event::Init,
            Event::InitApply(("a", 1)),
            Event::InitApply(("b", 2)),
            Event::InitDone,
            Event::Init,
            Event::InitApply(("b", 2)),
            Event::InitDone,
        ]);
        let (a, b) = (Change::Apply(("a", 1)), Change::Apply(("b", 2)));
        assert_eq!(
            changes,
            [a, b.clone(), Change::Listed, b, Change::Delete(1), Change::Listed]
        );
    }

    #[test]
    fn a_list_cut_off_and_begun_again_forgets_nothing() {
        let changes = run([
            Event::Init,
            Event::InitApply(("a", 1)),
            Event::InitDone,
            Event::Init,
            Event::InitApply(("b", 2)),
            Event::Init,
            Event::InitDone,
        ]);
        assert_eq!(
            changes[3..],
            [Change::Delete(1), Change::Delete(2), Change::Listed]
        );
    }

    #[test]
    fn object_that_becomes_foreign_is_deleted() {
        let changes = run([
            Event::Apply(("a", 1)),
            Event::Apply(("a", 100)),
            Event::Delete(("a", 100)),
            Event::Apply(("b", 2)),
            Event::Delete(("b", 100)),
        ]);
        let expected = [
            Change::Apply(("a", 1)),
            Change::Delete(1),
            Change::Apply(("b", 2)),
            Change::Delete(2),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn object_that_changes_its_route_is_deleted_from_the_old_one_first() {
        let changes = run([
            Event::Apply(("a", 1)),
            Event::Apply(("a", 7)),
            Event::Delete(("a", 9)),
        ]);
        let expected = [
            Change::Apply(("a", 1)),
            Change::Delete(1),
            Change::Apply(("a", 7)),
            Change::Delete(7),
        ];
        assert_eq!(changes, expected);
    }

    /// A list of these numbers, as events.
    fn list(numbers: std::ops::Range<u32>) -> Vec<Event<(u32, u32)>> {
        let objects = numbers.map(|n| Event::InitApply((n, n)));
        [Event::Init]
            .into_iter()
            .chain(objects)
            .chain([Event::InitDone])
            .collect()
    }

    type Numbers = Relist<u32, u32>;

    fn feed(relist: &mut Numbers, events: Vec<Event<(u32, u32)>>) -> Vec<u32> {
        let mut out = Vec::new();
        for event in events {
            relist.apply(
                event,
                |object| Some(object.0),
                |object| Some((object.0, object)),
                &mut out,
            );
        }
        deleted(out)
    }

    fn deleted(changes: Vec<Change<(u32, u32), u32>>) -> Vec<u32> {
        let deleted = |change| match change {
            Change::Delete(route) => Some(route),
            _ => None,
        };
        changes.into_iter().filter_map(deleted).collect()
    }

    fn braked(listed: u32) -> Numbers {
        let mut relist = Relist::new(Brake::On);
        feed(&mut relist, list(0..listed));
        assert!(!relist.doubts(), "at first there is nothing to lose");
        relist
    }

    #[test]
    fn empty_list_deletes_nothing_until_a_read_confirms_it() {
        for known in [1, 5, 1000] {
            let mut relist = braked(known);
            assert_eq!(feed(&mut relist, list(0..0)), [0; 0]);
            assert!(relist.doubts());
            let mut out = Vec::new();
            assert!(relist.confirm(&HashSet::new(), &mut out));
            assert_eq!(deleted(out).len(), known as usize);
            assert!(!relist.doubts());
        }
    }

    #[test]
    fn list_without_more_than_three_tenths_and_at_least_ten_deletes_nothing() {
        for (known, left, doubted) in [
            (100, 70, false),
            (100, 69, true),
            (20, 11, false),
            (20, 10, true),
            (33, 23, true),
            (34, 24, false),
        ] {
            let mut relist = braked(known);
            let gone = feed(&mut relist, list(0..left));
            assert_eq!(
                (relist.doubts(), gone.is_empty()),
                (doubted, doubted),
                "{left} of {known}"
            );
        }
    }

    #[test]
    fn what_a_read_still_has_stays_and_only_the_rest_goes() {
        let mut relist = braked(100);
        feed(&mut relist, list(0..50));
        let (mut out, present) = (Vec::new(), (0..90).collect());
        assert!(!relist.confirm(&present, &mut out), "listed wrongly: list again");
        assert_eq!(deleted(out), (90..100).collect::<Vec<_>>());
        assert_eq!(feed(&mut relist, list(0..90)), [0; 0], "then nothing is missing");
        assert_eq!(feed(&mut relist, vec![Event::Delete((80, 80))]), [80]);
    }

    #[test]
    fn what_another_watch_knew_is_gone_when_a_read_confirms_that_the_first_list_lacks_it() {
        let mut relist = Relist::new(Brake::Full);
        (0..3).for_each(|n| relist.know(n, n));
        assert_eq!(feed(&mut relist, list(1..3)), [0; 0]);
        let mut out = Vec::new();
        assert!(relist.confirm(&(1..3).collect(), &mut out));
        assert_eq!(deleted(out), [0]);
    }

    #[test]
    fn what_is_doubted_follows_the_watch() {
        let mut relist = braked(100);
        feed(&mut relist, list(0..50));
        let events = vec![Event::Apply((60, 60)), Event::Delete((70, 70))];
        assert_eq!(feed(&mut relist, events), [70], "an event is no list");
        let mut out = Vec::new();
        relist.confirm(&(0..61).collect(), &mut out);
        let gone = deleted(out);
        assert!(
            !gone.contains(&60) && !gone.contains(&70) && gone.contains(&61),
            "{gone:?}"
        );
    }

    #[test]
    fn list_after_one_that_is_doubted_still_knows_what_that_lacked() {
        let mut relist = braked(100);
        feed(&mut relist, list(0..0));
        feed(&mut relist, list(0..20));
        assert!(relist.doubts());
        assert_eq!(feed(&mut relist, list(0..95)), (95..100).collect::<Vec<_>>());
        assert!(!relist.doubts());
    }
}
