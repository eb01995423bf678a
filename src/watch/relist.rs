//! A relist as a difference of keys, once for every kind of object.
//!
//! Objects listed again are applied again; objects that were known and are not listed are deleted.
//! Until a list is complete nothing is deleted.

use std::{collections::HashMap, hash::Hash};

use kube::runtime::watcher::Event;

/// What a watch event comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V, R> {
    /// The object is there, new or changed.
    Apply(V),
    /// The object that was routed by this is gone, or is routed elsewhere now.
    Delete(R),
    /// All there was has been listed.
    Synced,
}

/// What is known, by uid, each with what is needed to route its end.
#[derive(Debug)]
pub struct Relist<U, R> {
    known: HashMap<U, R, ahash::RandomState>,
    before: Option<HashMap<U, R, ahash::RandomState>>,
}

impl<U, R> Default for Relist<U, R> {
    fn default() -> Self {
        Self {
            known: HashMap::default(),
            before: None,
        }
    }
}

impl<U: Eq + Hash + Ord, R: Clone + PartialEq + Ord> Relist<U, R> {
    /// Turns an event into changes. `read` gives route and value; none for foreign objects, also for
    /// one that was not foreign before.
    pub fn apply<K, V>(
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
                match &mut self.before {
                    Some(before) => before.extend(known),
                    None => self.before = Some(known),
                }
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(uid) = uid(&object) else {
                    return;
                };
                let before = self.before.as_mut().and_then(|before| before.remove(&uid));
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
                let known = uid(&object).and_then(|uid| self.known.remove(&uid));
                let route = known.or_else(|| read(object).map(|(route, _)| route));
                out.extend(route.map(Change::Delete));
            }
            Event::InitDone => {
                let mut gone: Vec<(U, R)> = self.before.take().into_iter().flatten().collect();
                gone.sort();
                out.extend(gone.into_iter().map(|(_, route)| Change::Delete(route)));
                out.push(Change::Synced);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Object = (&'static str, u32);

    fn run(events: impl IntoIterator<Item = Event<Object>>) -> Vec<Change<Object, u32>> {
        let (mut relist, mut out) = (Relist::default(), Vec::new());
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
            [a, b.clone(), Change::Synced, b, Change::Delete(1), Change::Synced]
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
            [Change::Delete(1), Change::Delete(2), Change::Synced]
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
}
