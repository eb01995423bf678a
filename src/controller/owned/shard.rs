//! The shards that this replica owns, read without a lock.
//!
//! A shard that is given up and taken again is another [`OwnedShard`]: what was begun for the first ends there.

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

/// All shards that this replica owns.
#[derive(Debug)]
pub(crate) struct OwnedShards {
    /// By number; empty where another replica has the shard, or nobody.
    shards: Box<[ArcSwapOption<OwnedShard>]>,
}

/// A shard that this replica owns.
#[derive(Debug)]
pub(crate) struct OwnedShard {
    pub(crate) shard: ShardId,
    /// What it has yet to look at.
    pub(crate) mailbox: Mailbox,
    /// Until when something may be decided for it.
    pub(crate) lease: Arc<Deadline>,
    /// Ends the worker: nothing more is decided.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the worker has ended.
    pub(crate) stopped: CancellationToken,
    /// Ends what is in flight: its answers count for nothing.
    pub(crate) drop: CancellationToken,
    /// Everything has been listed: it decides.
    pub(crate) active: AtomicBool,
    in_flight: AtomicUsize,
    landed: Notify,
}

/// A write in a shard, which lasts until this is dropped: the shard is not released before.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<OwnedShard>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

/// Shards in which one request writes.
#[derive(Debug)]
pub(crate) struct SharedWrite {
    shards: Vec<ShardId>,
    _in_flight: Vec<InFlight>,
}

impl HeldShards for SharedWrite {
    fn shards(&self) -> &[ShardId] {
        &self.shards
    }
}

impl OwnedShard {
    pub(crate) fn begin_write(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }

    /// Waits until no write is in flight.
    pub(crate) async fn idle(&self) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            landed.await;
        }
    }

    /// Whether it decides, and will until then.
    fn decides_until(&self, ends: Mono) -> bool {
        self.active.load(Ordering::Acquire)
            && !self.stop.is_cancelled()
            && self.lease.admits(ends, Duration::ZERO)
    }
}

impl OwnedShards {
    /// None of so many shards.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self {
            shards: shards.all().map(|_| ArcSwapOption::empty()).collect(),
        }
    }

    /// Takes a shard, whose Lease this replica holds until then.
    pub(crate) fn take(&self, shard: ShardId, until: Mono) -> Arc<OwnedShard> {
        let owned = Arc::new(OwnedShard {
            shard,
            mailbox: Mailbox::default(),
            lease: Arc::new(Deadline::at(until)),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
            drop: CancellationToken::new(),
            active: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            landed: Notify::new(),
        });
        self.shards[usize::from(shard.0)].store(Some(owned.clone()));
        owned
    }

    /// Gives up a shard.
    pub(crate) fn remove(&self, shard: ShardId) -> Option<Arc<OwnedShard>> {
        self.shards[usize::from(shard.0)].swap(None)
    }

    /// The shard, if this replica has it.
    pub(crate) fn get(&self, shard: ShardId) -> Option<Arc<OwnedShard>> {
        self.shards.get(usize::from(shard.0))?.load_full()
    }

    /// Which shards this replica has, in their order.
    pub(crate) fn ids(&self) -> Vec<ShardId> {
        let owned = |shard: &ArcSwapOption<OwnedShard>| shard.load().as_ref().map(|owned| owned.shard);
        self.shards.iter().filter_map(owned).collect()
    }

    /// The shards that something may be decided for now.
    pub(crate) fn held_at(&self, now: Mono) -> Vec<ShardId> {
        let owned = self.shards.iter().filter_map(ArcSwapOption::load_full);
        let held =
            owned.filter(|owned| !owned.stop.is_cancelled() && owned.lease.admits(now, Duration::ZERO));
        held.map(|owned| owned.shard).collect()
    }

    /// Begins a write that ends at this time in all shards that decide until then: none of them is given up before.
    pub(crate) fn begin_write(&self, ends: Mono) -> SharedWrite {
        let begun = |owned: Arc<OwnedShard>| {
            // Begun first: whoever drains the shard meanwhile waits for it.
            let in_flight = owned.begin_write();
            owned.decides_until(ends).then_some((owned.shard, in_flight))
        };
        let owned = self.shards.iter().filter_map(ArcSwapOption::load_full);
        let (shards, in_flight) = owned.filter_map(begun).unzip();
        SharedWrite {
            shards,
            _in_flight: in_flight,
        }
    }

    /// Puts something into the mailbox of a shard, if this replica has it.
    pub(crate) fn put(&self, shard: ShardId, put: impl FnOnce(&mut Inbox)) {
        if let Some(owned) = self.shards.get(usize::from(shard.0)).map(ArcSwapOption::load)
            && let Some(owned) = &*owned
        {
            owned.mailbox.put(put);
        }
    }

    /// Puts something into the mailboxes of all shards that this replica has.
    pub(crate) fn put_all(&self, put: impl Fn(&mut Inbox)) {
        for shard in &self.shards {
            if let Some(owned) = &*shard.load() {
                owned.mailbox.put(&put);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn updates_of_shards_that_others_have_go_nowhere() {
        let owned = OwnedShards::new(ShardCount::try_from(4).unwrap());
        let mine = owned.take(ShardId(2), Mono::default());
        let order = |inbox: &mut Inbox| {
            inbox.orders.insert("o".into());
        };
        owned.put(ShardId(1), order);
        owned.put(ShardId(2), order);
        assert_eq!(owned.ids(), [ShardId(2)]);
        assert_eq!(mine.mailbox.take().orders.len(), 1);
        owned.remove(ShardId(2));
        owned.put_all(order);
        assert_eq!((owned.ids(), mine.mailbox.take().orders.len()), (vec![], 0));
    }

    #[test]
    fn writes_are_begun_in_shards_that_decide_alone_and_keep_them() {
        let owned = OwnedShards::new(ShardCount::try_from(4).unwrap());
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let take = |(shard, until)| owned.take(ShardId(shard), at(until));
        let [one, ending, _unlisted, short] = [(0, 9), (1, 9), (2, 9), (3, 5)].map(take);
        for active in [&one, &ending, &short] {
            active.active.store(true, Ordering::Release);
        }
        ending.stop.cancel();
        let write = owned.begin_write(at(5));
        assert_eq!(write.shards(), [ShardId(0)]);
        assert!(ending.idle().now_or_never().is_some());
        assert!(one.idle().now_or_never().is_none());
        drop(write);
        assert!(one.idle().now_or_never().is_some());
    }

    #[test]
    fn a_shard_is_idle_when_every_write_has_ended() {
        let owned = OwnedShards::new(ShardCount::try_from(1).unwrap());
        let owned = owned.take(ShardId(0), Mono::default());
        let (one, other) = (owned.begin_write(), owned.begin_write());
        let mut idle = Box::pin(owned.idle());
        drop(one);
        assert!(idle.as_mut().now_or_never().is_none());
        drop(other);
        assert!(idle.as_mut().now_or_never().is_some());
    }
}
