//! The shards this replica has: one slot per shard, taken or empty, read without a lock.
//!
//! A slot that is emptied and taken again is another slot: what was begun for the first ends there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::mailbox::{Inbox, Mailbox};
use crate::{
    domain::values::{
        shard::{ShardCount, ShardId},
        time::Mono,
    },
    lease::deadline::Deadline,
    write::collection::HeldShards,
};

/// A slot for every shard.
#[derive(Debug)]
pub struct Slots {
    slots: Box<[ArcSwapOption<Slot>]>,
}

/// A shard that this replica has.
#[derive(Debug)]
pub struct Slot {
    /// The shard.
    pub shard: ShardId,
    /// What it has yet to look at.
    pub mailbox: Mailbox,
    /// Until when something may be decided for it.
    pub lease: Arc<Deadline>,
    /// Ends the worker: nothing more is decided.
    pub stop: CancellationToken,
    /// Cancelled when the worker has ended.
    pub stopped: CancellationToken,
    /// Ends what is in flight: its answers count for nothing.
    pub drop: CancellationToken,
    /// Everything has been listed: it decides.
    pub active: AtomicBool,
    flight: AtomicUsize,
    landed: Notify,
}

/// Shards in which something is written.
#[derive(Debug)]
pub struct Writing {
    slots: Vec<Arc<Slot>>,
    shards: Vec<ShardId>,
}

impl HeldShards for Writing {
    fn shards(&self) -> &[ShardId] {
        &self.shards
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.slots.iter().for_each(|slot| slot.end());
    }
}

impl Slot {
    /// A write begins.
    pub fn begin(&self) {
        self.flight.fetch_add(1, Ordering::AcqRel);
    }

    /// A write has ended.
    pub fn end(&self) {
        if self.flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.landed.notify_waiters();
        }
    }

    /// Waits until no write is in flight.
    pub async fn idle(&self) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if self.flight.load(Ordering::Acquire) == 0 {
                return;
            }
            landed.await;
        }
    }
}

impl Slots {
    /// Empty slots.
    pub fn new(shards: ShardCount) -> Self {
        Self {
            slots: shards.all().map(|_| ArcSwapOption::empty()).collect(),
        }
    }

    /// Takes the shard's slot, whose Lease this replica holds until then.
    pub fn take(&self, shard: ShardId, until: Mono) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            shard,
            mailbox: Mailbox::default(),
            lease: Arc::new(Deadline::at(until)),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
            drop: CancellationToken::new(),
            active: AtomicBool::new(false),
            flight: AtomicUsize::new(0),
            landed: Notify::new(),
        });
        self.slots[usize::from(shard.0)].store(Some(slot.clone()));
        slot
    }

    /// Empties the shard's slot.
    pub fn empty(&self, shard: ShardId) -> Option<Arc<Slot>> {
        self.slots[usize::from(shard.0)].swap(None)
    }

    /// The shard's slot, if this replica has it.
    pub fn get(&self, shard: ShardId) -> Option<Arc<Slot>> {
        self.slots.get(usize::from(shard.0))?.load_full()
    }

    /// The shards that this replica has, in their order.
    pub fn owned(&self) -> Vec<ShardId> {
        let taken = self
            .slots
            .iter()
            .filter_map(|slot| slot.load().as_ref().map(|slot| slot.shard));
        taken.collect()
    }

    /// Begins a write that ends at this time in all shards that decide until then: none of them is given up before.
    pub fn writing(&self, ends: Mono) -> Writing {
        let begun = |slot: &Arc<Slot>| {
            slot.begin();
            let may = slot.active.load(Ordering::Acquire)
                && !slot.stop.is_cancelled()
                && slot.lease.admits(ends, Duration::ZERO);
            if !may {
                slot.end();
            }
            may
        };
        let slots = self.slots.iter().filter_map(ArcSwapOption::load_full);
        let slots: Vec<_> = slots.filter(begun).collect();
        let shards = slots.iter().map(|slot| slot.shard).collect();
        Writing { slots, shards }
    }

    /// Puts something into the mailbox of a shard, if this replica has it.
    pub fn put(&self, shard: ShardId, put: impl FnOnce(&mut Inbox)) {
        if let Some(slot) = self.slots.get(usize::from(shard.0)).map(ArcSwapOption::load)
            && let Some(slot) = &*slot
        {
            slot.mailbox.put(put);
        }
    }

    /// Puts something into the mailboxes of all shards that this replica has.
    pub fn put_all(&self, put: impl Fn(&mut Inbox)) {
        for slot in &self.slots {
            if let Some(slot) = &*slot.load() {
                slot.mailbox.put(&put);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn news_of_shards_that_others_have_go_nowhere() {
        let slots = Slots::new(ShardCount::try_from(4).unwrap());
        let mine = slots.take(ShardId(2), Mono::default());
        let order = |inbox: &mut Inbox| {
            inbox.orders.insert("o".into());
        };
        slots.put(ShardId(1), order);
        slots.put(ShardId(2), order);
        assert_eq!(slots.owned(), [ShardId(2)]);
        assert_eq!(mine.mailbox.take().orders.len(), 1);
        slots.empty(ShardId(2));
        slots.put_all(order);
        assert_eq!((slots.owned(), mine.mailbox.take().orders.len()), (vec![], 0));
    }

    #[test]
    fn writes_are_begun_in_shards_that_decide_alone_and_keep_them() {
        let slots = Slots::new(ShardCount::try_from(4).unwrap());
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let take = |(shard, until)| slots.take(ShardId(shard), at(until));
        let [one, ending, _unlisted, short] = [(0, 9), (1, 9), (2, 9), (3, 5)].map(take);
        for slot in [&one, &ending, &short] {
            slot.active.store(true, Ordering::Release);
        }
        ending.stop.cancel();
        let writing = slots.writing(at(5));
        assert_eq!(writing.shards(), [ShardId(0)]);
        assert!(ending.idle().now_or_never().is_some());
        assert!(one.idle().now_or_never().is_none());
        drop(writing);
        assert!(one.idle().now_or_never().is_some());
    }

    #[test]
    fn a_slot_is_idle_when_every_write_has_ended() {
        let slots = Slots::new(ShardCount::try_from(1).unwrap());
        let slot = slots.take(ShardId(0), Mono::default());
        slot.begin();
        slot.begin();
        let mut idle = Box::pin(slot.idle());
        slot.end();
        assert!(idle.as_mut().now_or_never().is_none());
        slot.end();
        assert!(idle.as_mut().now_or_never().is_some());
    }
}
