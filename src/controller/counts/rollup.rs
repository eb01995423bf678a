//! The roll-up: sums what all shards count into the status of the Orders this replica looks after.
//!
//! Own shards are counted as their workers report them, all others as their pages say. `status` writes what comes
//! of it, `own` has what is written of own shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    api::{OrderStatus, order::Rollout, shard::OrderCounts},
    controller::owned::shard::{OwnedShard, OwnedShards},
    domain::{
        order::{spec::Order, window::Agenda},
        pair::observed::Revision,
        status::progress::Pace,
        values::{
            ids::OrderUid,
            shard::{ShardCount, ShardId},
            shard_object::ShardObject,
            time::Mono,
        },
    },
    shard::Report,
    watch::{relist::Change, shard::ShardView},
};

mod own;
mod status;

/// Which object, and its uid.
type ShardRoute = (ShardObject, String);

pub(super) use own::{Publication, UnreadPages};
pub(crate) use status::run;

/// The nodes of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeCounts {
    /// How many there are.
    pub(crate) all: usize,
    /// Those that are NotReady, by since when.
    pub(crate) not_ready: Vec<(Timestamp, u32)>,
}

/// What the shards have counted, by Order.
#[derive(Debug)]
pub(crate) struct Reports {
    shards: ShardCount,
    owned_shards: Arc<OwnedShards>,
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    orders: BTreeMap<OrderUid, OrderSums>,
    /// Orders whose status may have to be written.
    changed: BTreeSet<OrderUid>,
    /// Own shards that have decided once: their counts are complete.
    own: BTreeMap<ShardId, own::OwnCounts>,
    /// The Shard objects of all replicas.
    objects: BTreeMap<ShardObject, ShardView>,
    /// All of them have been listed.
    listed: bool,
    /// When to look at an Order again: a window opens or closes, or its roll-out may stand still.
    alarms: BTreeSet<(Mono, OrderUid)>,
}

#[derive(Debug, Default)]
struct OrderSums {
    order: Option<Arc<Order>>,
    written: OrderStatus,
    revision: Revision,
    /// The roll-out that own shards have been told of.
    told: Option<Arc<Rollout>>,
    own: BTreeMap<ShardId, Arc<OrderCounts>>,
    /// By the pages of all shards, with the page's number.
    pages: BTreeMap<ShardId, (u16, Arc<OrderCounts>)>,
    writing: bool,
    /// The Order's windows around the present, and when that changes.
    agenda: Option<Agenda>,
    alarm: Option<Mono>,
    pace: Pace,
    /// When the last write ended, if there was one, and how many before it did not land.
    tried: Option<Mono>,
    failures: u32,
}

impl Reports {
    /// For so many shards, of which this replica has those in `owned_shards`.
    pub(crate) fn new(shards: ShardCount, owned_shards: Arc<OwnedShards>) -> Self {
        Self {
            shards,
            owned_shards,
            state: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Takes in what an own shard reports after it has decided.
    pub(crate) fn put(&self, owned: &Arc<OwnedShard>, nodes: NodeCounts, reports: Vec<Report>, now: Mono) {
        let mut state = self.state.lock();
        // Asked with the lock held: whoever loses a shard removes it first.
        let has = self.owned_shards.get(owned.shard);
        if !has.is_some_and(|has| Arc::ptr_eq(&has, owned)) {
            return;
        }
        let effect = state.put(owned, nodes, reports, now);
        if effect.first {
            // What was summed by others until now.
            let mine = |uid: &&OrderUid| self.shards.of_order(uid) == owned.shard;
            let mine: Vec<_> = state.orders.keys().filter(mine).cloned().collect();
            state.changed.extend(mine);
        }
        drop(state);
        if effect.any {
            self.bell.notify_one();
        }
    }

    /// Another replica has the shard from now on, or nobody. It has been removed from the owned ones.
    pub(crate) fn lose(&self, shard: ShardId) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.own.remove(&shard).is_some() {
            for (uid, sums) in &mut state.orders {
                if sums.own.remove(&shard).is_some() {
                    state.changed.insert(uid.clone());
                }
            }
            state.orders.retain(|_, sums| sums.needed());
        }
        self.bell.notify_one();
    }

    /// An Order is at this revision; `written` is its status, if that can be read.
    pub(crate) fn order(&self, order: &Arc<Order>, revision: Revision, written: Option<OrderStatus>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let sums = state.orders.entry(order.uid.clone()).or_default();
        let first = sums.order.replace(order.clone()).is_none();
        let (differs, rollout) = sums.see(revision, written);
        if let Some(rollout) = rollout {
            // Shards that have not decided yet, or whose pages are to be read, are told later.
            for own in state.own.values() {
                own.tell(&order.uid, &rollout);
            }
        }
        if first || differs {
            state.changed.insert(order.uid.clone());
        }
        self.bell.notify_one();
    }

    /// An Order is gone.
    pub(crate) fn forget(&self, uid: &OrderUid) {
        let mut state = self.state.lock();
        if let Some(sums) = state.orders.get_mut(uid) {
            (sums.order, sums.told) = (None, None);
            if !sums.needed() {
                state.orders.remove(uid);
            }
        }
    }

    /// The watch of Shard objects shows this.
    pub(crate) fn see(&self, change: Change<(ShardObject, ShardView), ShardRoute>, now: Mono) {
        let mut state = self.state.lock();
        match change {
            Change::Apply((object, view)) => {
                state.read(object, &view);
                if let Some(objects) = state.objects_of(object.shard) {
                    objects.see(object.page, &view, now);
                }
                state.objects.insert(object, view);
            }
            // After a list, the end of an object comes after the beginning of the next one of its name.
            Change::Delete((object, uid)) if state.has(&object, &uid) => {
                state.read(object, &ShardView::default());
                state.objects.remove(&object);
                if let Some(objects) = state.objects_of(object.shard) {
                    objects.lose(object.page, now);
                }
            }
            Change::Delete(_) => {}
            Change::Listed => state.listed = true,
        }
        drop(state);
        self.bell.notify_one();
    }
}

impl State {
    fn has(&self, object: &ShardObject, uid: &str) -> bool {
        let known = self.objects.get(object);
        known.is_some_and(|known| known.version.uid == uid)
    }

    /// Puts what a page says in the place of what it said.
    fn read(&mut self, object: ShardObject, view: &ShardView) {
        let Some(page) = object.page else {
            return;
        };
        let (shard, own) = (object.shard, self.own.contains_key(&object.shard));
        let before = self.objects.get(&object);
        let before: Vec<_> = before.into_iter().flat_map(|before| &before.listing).collect();
        let named: BTreeSet<&OrderUid> = view.listing.iter().map(|(uid, _)| uid).collect();
        for (uid, _) in before.into_iter().filter(|(uid, _)| !named.contains(uid)) {
            let Some(sums) = self.orders.get_mut(uid) else {
                continue;
            };
            // Unless it is on another page by now.
            if sums.pages.get(&shard).is_some_and(|(other, _)| *other == page) {
                sums.pages.remove(&shard);
            }
            if !sums.needed() {
                self.orders.remove(uid);
            }
        }
        for (uid, counts) in &view.listing {
            let sums = self.orders.entry(uid.clone()).or_default();
            let before = sums.pages.insert(shard, (page, counts.clone()));
            if !own && before.is_none_or(|(_, before)| before != *counts) {
                self.changed.insert(uid.clone());
            }
        }
    }
}

impl OrderSums {
    /// The watch shows this status. Returns whether it is another, and the roll-out that it tells anew.
    fn see(&mut self, revision: Revision, written: Option<OrderStatus>) -> (bool, Option<Arc<Rollout>>) {
        // The watch may show what was before an own write.
        if revision < self.revision {
            return (false, None);
        }
        if revision > self.revision {
            // A write on an older one was in vain, through nobody's fault.
            self.failures = 0;
        }
        self.revision = revision;
        let Some(written) = written else {
            return (false, None);
        };
        // One that somebody has taken away grants nothing.
        let none = self.told.is_some().then(Rollout::default);
        let rollout = written.rollout.clone().or(none);
        let rollout = rollout.filter(|rollout| self.told.as_deref() != Some(rollout));
        let rollout = rollout.map(Arc::new);
        if rollout.is_some() {
            self.told.clone_from(&rollout);
        }
        let differs = self.written != written;
        self.written = written;
        (differs, rollout)
    }

    /// Whether anybody still says anything of the Order.
    fn needed(&self) -> bool {
        self.order.is_some() || !self.own.is_empty() || !self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests;
