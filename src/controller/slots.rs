//! The shards this replica has: one slot per shard, taken or empty, read without a lock.
//!
//! A slot that is emptied and taken again is another slot: what was begun for the first ends there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::mailbox::{Inbox, Mailbox};
use crate::{
    domain::time::Mono,
    shard::{ShardCount, ShardId},
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
    /// Own deadline of its Lease, in nanoseconds of the replica's clock.
    until: AtomicU64,
}

impl Slot {
    /// Until when this replica may decide for the shard.
    pub fn until(&self) -> Mono {
        Mono(Duration::from_nanos(self.until.load(Ordering::Acquire)))
    }

    /// The shard's Lease was renewed, or given up.
    pub fn set_until(&self, until: Mono) {
        let nanos = u64::try_from(until.0.as_nanos()).unwrap_or(u64::MAX);
        self.until.store(nanos, Ordering::Release);
    }

    /// Whether something may still be decided, or a write that takes so long may begin.
    pub fn may_go_on(&self, now: Mono, takes: Duration) -> bool {
        now.after(takes) < self.until()
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
            until: AtomicU64::new(0),
        });
        slot.set_until(until);
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
    use super::*;

    #[test]
    fn news_of_shards_that_others_have_go_nowhere() {
        let slots = Slots::new(ShardCount::try_from(4).unwrap());
        let (mine, until) = (
            slots.take(ShardId(2), Mono(Duration::from_secs(9))),
            Duration::from_secs(4),
        );
        let order = |inbox: &mut Inbox| {
            inbox.orders.insert("o".into());
        };
        slots.put(ShardId(1), order);
        slots.put(ShardId(2), order);
        assert_eq!(slots.owned(), [ShardId(2)]);
        assert_eq!(mine.mailbox.take().orders.len(), 1);
        assert!(mine.may_go_on(Mono(Duration::from_secs(4)), until));
        assert!(!mine.may_go_on(Mono(Duration::from_secs(5)), until));
        slots.empty(ShardId(2));
        slots.put_all(order);
        assert_eq!((slots.owned(), mine.mailbox.take().orders.len()), (vec![], 0));
    }
}
