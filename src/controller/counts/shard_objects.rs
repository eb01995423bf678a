//! The `Shard` objects of one own shard: what they are to say, what they say, and when to write them.
//!
//! Pure. Written only when changed, never more often than every two seconds, and while it goes on
//! changing not before it has been quiet for one second or ten have passed. An Order keeps its page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    api::{ShardStatus, shard::OrderCounts},
    domain::values::{ids::OrderUid, shard::ShardId, shard_object::ShardObject, time::Mono},
    watch::shard::{Listing, ShardVersion, ShardView},
    write::shard::{ShardContent, ShardWriteResult},
};

/// Orders on a page.
const PER_PAGE: usize = 500;
/// Least time between two writes of one object.
const EVERY: Duration = Duration::from_secs(2);
/// How long an object must not have changed before it is written.
const QUIET: Duration = Duration::from_secs(1);
/// How long a change waits at most while others follow.
const LATEST: Duration = Duration::from_secs(10);
/// Longest pause after writes that did not land.
const LONGEST: Duration = Duration::from_secs(60);

/// The objects of one shard.
#[derive(Debug)]
pub(super) struct ShardObjects {
    shard: ShardId,
    totals: ShardStatus,
    state: ObjectState,
    pages: BTreeMap<u16, Page>,
    placed: HashMap<OrderUid, u16, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Page {
    orders: BTreeMap<OrderUid, Arc<OrderCounts>>,
    state: ObjectState,
}

/// What is known of one object.
#[derive(Debug, Default)]
struct ObjectState {
    version: Option<ShardVersion>,
    /// What it says, if that is known.
    says: Option<ShardContent>,
    writing: bool,
    debounce: Debounce,
}

/// When an object may be written.
#[derive(Debug, Default)]
struct Debounce {
    /// The first and the last change since it was written.
    changed: Option<(Mono, Mono)>,
    not_before: Mono,
    failures: u32,
}

/// A write that is due.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShardWrite {
    pub(super) object: ShardObject,
    /// What it is written on; none if there is no such object yet.
    pub(super) version: Option<ShardVersion>,
    pub(super) content: ShardContent,
}

impl ShardObjects {
    /// The objects of a shard whose counts are complete. What `there` is stays until something else is
    /// to be said, and Orders stay on the pages they are on.
    pub(super) fn new<'a>(
        shard: ShardId,
        counts: Listing,
        there: impl Iterator<Item = (Option<u16>, &'a ShardView)>,
        now: Mono,
    ) -> Self {
        let mut objects = Self {
            shard,
            totals: ShardStatus::default(),
            state: ObjectState::default(),
            pages: BTreeMap::new(),
            placed: HashMap::default(),
        };
        let known: BTreeMap<_, _> = counts.into_iter().collect();
        for (page, view) in there {
            for (order, _) in &view.listing {
                if let (Some(page), Some(counts)) = (page, known.get(order)) {
                    let page = *objects.placed.entry(order.clone()).or_insert(page);
                    let orders = &mut objects.pages.entry(page).or_default().orders;
                    orders.insert(order.clone(), counts.clone());
                }
            }
            objects.see(page, view, now);
        }
        for (order, counts) in known {
            objects.put(&order, Some(counts), now);
        }
        objects.state.debounce.change(now);
        objects
    }

    /// The counts of an Order changed; none if it is gone.
    pub(super) fn put(&mut self, order: &OrderUid, counts: Option<Arc<OrderCounts>>, now: Mono) {
        let placed = self.placed.get(order).copied();
        let Some(number) = placed.or_else(|| counts.is_some().then(|| self.free())) else {
            return;
        };
        let page = self.pages.entry(number).or_default();
        match counts {
            Some(counts) => {
                page.orders.insert(order.clone(), counts);
                self.placed.insert(order.clone(), number);
            }
            None => {
                page.orders.remove(order);
                self.placed.remove(order);
            }
        }
        page.state.debounce.change(now);
    }

    /// The first page with room.
    fn free(&self) -> u16 {
        let room = |page: &u16| {
            self.pages
                .get(page)
                .is_none_or(|page| page.orders.len() < PER_PAGE)
        };
        (0..u16::MAX).find(room).expect("fewer than 30 million Orders")
    }

    pub(super) fn set_totals(&mut self, totals: ShardStatus, now: Mono) {
        if self.totals != totals {
            self.totals = totals;
            self.state.debounce.change(now);
        }
    }

    fn state(&mut self, page: Option<u16>) -> &mut ObjectState {
        match page {
            Some(page) => &mut self.pages.entry(page).or_default().state,
            None => &mut self.state,
        }
    }

    /// An object is there, perhaps written by somebody else.
    pub(super) fn see(&mut self, page: Option<u16>, view: &ShardView, now: Mono) {
        let content = match page {
            Some(_) => ShardContent::Page(view.listing.clone()),
            None => ShardContent::Totals(view.totals.clone()),
        };
        let state = self.state(page);
        let older =
            |known: &ShardVersion| known.uid == view.version.uid && known.revision >= view.version.revision;
        if !state.version.as_ref().is_some_and(older) {
            (state.version, state.says) = (Some(view.version.clone()), Some(content));
            state.debounce.change(now);
        }
    }

    /// An object is gone.
    pub(super) fn lose(&mut self, page: Option<u16>, now: Mono) {
        let state = match page {
            Some(page) => self.pages.get_mut(&page).map(|page| &mut page.state),
            None => Some(&mut self.state),
        };
        if let Some(state) = state.filter(|state| !state.writing) {
            (state.version, state.says) = (None, None);
            state.debounce.change(now);
        }
    }

    /// Adds the writes that are due; returns when to look again.
    pub(super) fn due(&mut self, now: Mono, due: &mut Vec<ShardWrite>) -> Option<Mono> {
        let (shard, totals) = (self.shard, &self.totals);
        let mut wake = self.state.due(now, || ShardContent::Totals(totals.clone()));
        due.extend(wake.write(shard, None));
        self.pages.retain(|&number, page| {
            let Page { orders, state } = page;
            let listing = || {
                let all = orders
                    .iter()
                    .map(|(order, counts)| (order.clone(), counts.clone()));
                ShardContent::Page(all.collect())
            };
            let needless = orders.is_empty() && state.version.is_none() && !state.writing;
            let mut next = if needless {
                Next::default()
            } else {
                state.due(now, listing)
            };
            due.extend(next.write(shard, Some(number)));
            wake.at = [wake.at, next.at].into_iter().flatten().min();
            !needless
        });
        wake.at
    }

    /// What has become of a write.
    pub(super) fn written(&mut self, write: ShardWrite, result: ShardWriteResult, now: Mono) {
        let state = self.state(write.object.page);
        state.writing = false;
        // What is not there cannot have gone: it could not be made.
        let failed = match result {
            ShardWriteResult::Failed => true,
            ShardWriteResult::Gone => write.version.is_none(),
            ShardWriteResult::Written(_) | ShardWriteResult::Found(_) => false,
        };
        state.debounce.written(now, failed);
        match result {
            ShardWriteResult::Written(version) => {
                (state.version, state.says) = (Some(version), Some(write.content));
            }
            ShardWriteResult::Gone => {
                (state.version, state.says) = (None, None);
                state.debounce.change(now);
            }
            ShardWriteResult::Found(view) => {
                // Also if it is what was known: the write did not land.
                state.debounce.change(now);
                self.see(write.object.page, &view, now);
            }
            ShardWriteResult::Failed => state.debounce.change(now),
        }
    }
}

/// What is to be done about an object.
#[derive(Default)]
struct Next {
    at: Option<Mono>,
    write: Option<(Option<ShardVersion>, ShardContent)>,
}

impl Next {
    fn write(&mut self, shard: ShardId, page: Option<u16>) -> Option<ShardWrite> {
        let (version, content) = self.write.take()?;
        let object = ShardObject { shard, page };
        Some(ShardWrite {
            object,
            version,
            content,
        })
    }
}

impl ObjectState {
    fn due(&mut self, now: Mono, wanted: impl FnOnce() -> ShardContent) -> Next {
        let Some(at) = self.debounce.due().filter(|_| !self.writing) else {
            return Next::default();
        };
        if now < at {
            return Next {
                at: Some(at),
                write: None,
            };
        }
        self.debounce.changed = None;
        let wanted = wanted();
        if self.says.as_ref() == Some(&wanted) {
            return Next::default();
        }
        self.writing = true;
        Next {
            at: None,
            write: Some((self.version.clone(), wanted)),
        }
    }
}

impl Debounce {
    fn change(&mut self, now: Mono) {
        self.changed = Some((self.changed.map_or(now, |(first, _)| first), now));
    }

    fn due(&self) -> Option<Mono> {
        let (first, last) = self.changed?;
        Some(last.after(QUIET).min(first.after(LATEST)).max(self.not_before))
    }

    fn written(&mut self, now: Mono, failed: bool) {
        self.failures = if failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
        let pause = EVERY.saturating_mul(1 << self.failures.min(5));
        self.not_before = now.after(pause.min(LONGEST));
    }
}

#[cfg(test)]
mod tests;
