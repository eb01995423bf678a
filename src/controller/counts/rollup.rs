//! The roll-up: sums what all shards count into the status of the Orders this replica looks after.
//!
//! Own shards are counted as their workers report them, all others as their pages say. A status is
//! written at most once a second per Order, only when it changes, and only by the owner of the Order's
//! shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::controller::{
    events::News,
    owned::slots::{Slot, Slots},
};
use crate::{
    api::{OrderStatus, order::Rollout, shard::OrderCounts},
    domain::{
        order::{spec::Order, window::Agenda},
        pair::{observed::Revision, rollout},
        status::{
            self,
            progress::{Pace, Standing},
        },
        values::{
            ids::OrderUid,
            shard::{ShardCount, ShardId},
            shard_object::ShardObject,
            time::{Mono, Now},
        },
    },
    env::clock::Clock,
    shard::{Notice, Report},
    watch::{relist::Change, shard::ShardView},
    write::Writer,
};

mod own;

/// Which object, and its uid.
type ShardRoute = (ShardObject, String);

pub(super) use own::{Publication, Question};

/// Least time between two status writes of one Order.
const EVERY: Duration = Duration::from_secs(1);
/// Longest pause after one that did not land, unless the Order changes meanwhile.
const LONGEST: Duration = Duration::from_secs(60);
/// Status writes in flight.
const WRITES: usize = 4;

/// The nodes of a shard.
#[derive(Clone, Debug, Default)]
pub struct NodeCounts {
    /// How many there are.
    pub all: usize,
    /// Those that are NotReady, by since when.
    pub not_ready: Vec<(Timestamp, u32)>,
}

/// What the shards have counted, by Order.
#[derive(Debug)]
pub struct Reports {
    shards: ShardCount,
    slots: Arc<Slots>,
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    orders: BTreeMap<OrderUid, Totals>,
    /// Orders whose status may have to be written.
    changed: BTreeSet<OrderUid>,
    /// Own shards that have decided once: their counts are complete.
    own: BTreeMap<ShardId, own::Own>,
    /// The Shard objects of all replicas.
    objects: BTreeMap<ShardObject, ShardView>,
    /// All of them have been listed.
    listed: bool,
    /// When to look at an Order again: a window opens or closes, or its roll-out may stand still.
    alarms: BTreeSet<(Mono, OrderUid)>,
}

#[derive(Debug, Default)]
struct Totals {
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

/// A status to be written.
#[derive(Debug)]
struct Due {
    order: Arc<Order>,
    revision: Revision,
    status: OrderStatus,
    /// What the status tells for the first time.
    news: Vec<Notice>,
}

impl Reports {
    /// For so many shards, of which this replica has those in `slots`.
    pub fn new(shards: ShardCount, slots: Arc<Slots>) -> Self {
        Self {
            shards,
            slots,
            state: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Takes in what an own shard reports after it has decided.
    pub fn put(&self, slot: &Arc<Slot>, nodes: NodeCounts, reports: Vec<Report>, now: Mono) {
        let mut state = self.state.lock();
        // Asked with the lock held: whoever loses a shard empties its slot first.
        let has = self.slots.get(slot.shard);
        if !has.is_some_and(|has| Arc::ptr_eq(&has, slot)) {
            return;
        }
        let news = state.put(slot, nodes, reports, now);
        if news.first {
            // What was summed by others until now.
            let mine = |uid: &&OrderUid| self.shards.of_order(uid) == slot.shard;
            let mine: Vec<_> = state.orders.keys().filter(mine).cloned().collect();
            state.changed.extend(mine);
        }
        drop(state);
        if news.any {
            self.bell.notify_one();
        }
    }

    /// Another replica has the shard from now on, or nobody. Its slot is empty already.
    pub fn lose(&self, shard: ShardId) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.own.remove(&shard).is_some() {
            for (uid, totals) in &mut state.orders {
                if totals.own.remove(&shard).is_some() {
                    state.changed.insert(uid.clone());
                }
            }
            state.orders.retain(|_, totals| totals.needed());
        }
        self.bell.notify_one();
    }

    /// An Order is at this revision; `written` is its status, if that can be read.
    pub fn order(&self, order: &Arc<Order>, revision: Revision, written: Option<OrderStatus>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let totals = state.orders.entry(order.uid.clone()).or_default();
        let mut changed = totals.order.is_none();
        totals.order = Some(order.clone());
        // The watch may show what was before an own write.
        if revision >= totals.revision {
            if revision > totals.revision {
                // A write on an older one was in vain, through nobody's fault.
                totals.failures = 0;
            }
            totals.revision = revision;
            if let Some(written) = written {
                // One that somebody has taken away grants nothing.
                let none = totals.told.is_some().then(Rollout::default);
                let rollout = written.rollout.clone().or(none);
                if let Some(rollout) = rollout.filter(|rollout| totals.told.as_deref() != Some(rollout)) {
                    let rollout = Arc::new(rollout);
                    totals.told = Some(rollout.clone());
                    // Shards that have not decided yet, or whose pages are to be read, are told later.
                    for own in state.own.values() {
                        own.tell(&order.uid, &rollout);
                    }
                }
                changed |= totals.written != written;
                totals.written = written;
            }
        }
        if changed {
            state.changed.insert(order.uid.clone());
        }
        self.bell.notify_one();
    }

    /// An Order is gone.
    pub fn forget(&self, uid: &OrderUid) {
        let mut state = self.state.lock();
        if let Some(totals) = state.orders.get_mut(uid) {
            (totals.order, totals.told) = (None, None);
            if !totals.needed() {
                state.orders.remove(uid);
            }
        }
    }

    /// The watch of Shard objects shows this.
    pub fn see(&self, change: Change<(ShardObject, ShardView), ShardRoute>, now: Mono) {
        let mut state = self.state.lock();
        match change {
            Change::Apply((object, view)) => {
                state.read(object, &view);
                if let Some(board) = state.board(object.shard) {
                    board.see(object.page, &view, now);
                }
                state.objects.insert(object, view);
            }
            // After a list, the end of an object comes after the beginning of the next one of its name.
            Change::Delete((object, uid)) if state.has(&object, &uid) => {
                state.read(object, &ShardView::default());
                state.objects.remove(&object);
                if let Some(board) = state.board(object.shard) {
                    board.lose(object.page, now);
                }
            }
            Change::Delete(_) => {}
            Change::Synced => state.listed = true,
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Statuses that are to be written now, and when to look again.
    fn due(&self, now: &Now) -> (Vec<Due>, Option<Mono>) {
        let (mut due, mut wake) = (Vec::new(), None::<Mono>);
        let mut state = self.state.lock();
        state.ring(now.mono);
        for uid in std::mem::take(&mut state.changed) {
            let slot = self.slots.get(self.shards.of_order(&uid));
            if slot.is_none_or(|slot| slot.stop.is_cancelled()) {
                continue;
            }
            let Some(order) = state.look_up(&uid, now) else {
                continue;
            };
            let totals = &state.orders[&uid];
            let at = totals.not_before();
            if totals.writing || now.mono < at {
                if !totals.writing {
                    wake = Some(wake.map_or(at, |wake| wake.min(at)));
                }
                state.changed.insert(uid);
                continue;
            }
            let Some(counts) = state.counts(totals, self.shards) else {
                continue;
            };
            let all = || counts.iter().map(|(shard, counts)| (shard.0, &***counts));
            let before = &totals.written;
            let agenda = totals.agenda.clone();
            let counts = all().map(|(_, counts)| counts);
            let mut status = status::of(&order, agenda.as_ref(), counts, before, now.server);
            status.rollout = rollout::next(&order, all(), before.rollout.as_ref());
            let standing = Standing::of(&order, all(), status.rollout.as_ref());
            let revision = totals.revision;
            let totals = state.orders.get_mut(&uid).expect("just seen");
            let before = &totals.written;
            let alarm = totals.pace.note(&standing, &order, before, &mut status, *now);
            if status != *before {
                let news = status::news(agenda.as_ref(), before, &status, now.server).into_iter();
                due.push(Due {
                    news: news
                        .map(|(reason, message)| Notice::on_order(&uid, reason, message))
                        .collect(),
                    order,
                    revision,
                    status,
                });
                totals.writing = true;
            }
            state.alarms.extend(alarm.map(|at| (at, uid)));
        }
        let alarm = state.alarms.first().map(|(at, _)| *at);
        (due, wake.into_iter().chain(alarm).min())
    }

    /// The API server's clock was set: every window has to be looked at anew.
    fn clock_was_set(&self) {
        let mut state = self.state.lock();
        state.ring(Mono(Duration::MAX));
    }

    /// A status has been written, or not.
    fn written(&self, uid: &OrderUid, status: Option<(OrderStatus, Revision)>, now: Mono) {
        let mut state = self.state.lock();
        let Some(totals) = state.orders.get_mut(uid) else {
            return;
        };
        totals.writing = false;
        totals.tried = Some(now);
        match status {
            Some((status, revision)) => {
                totals.failures = 0;
                // Unless somebody has written since: what the watch has shown counts.
                if revision >= totals.revision {
                    (totals.written, totals.revision) = (status, revision);
                }
            }
            None => {
                totals.failures = totals.failures.saturating_add(1);
                state.changed.insert(uid.clone());
            }
        }
    }
}

impl State {
    /// Orders whose time has come have changed.
    fn ring(&mut self, now: Mono) {
        while let Some((at, _)) = self.alarms.first()
            && *at <= now
        {
            let (at, uid) = self.alarms.pop_first().expect("just seen");
            if let Some(totals) = self.orders.get_mut(&uid) {
                totals.alarm.take_if(|alarm| *alarm == at);
                self.changed.insert(uid);
            }
        }
    }

    /// The Order, if it lives; its windows are brought up to date, and looked at again when they change.
    fn look_up(&mut self, uid: &OrderUid, now: &Now) -> Option<Arc<Order>> {
        let totals = self.orders.get_mut(uid)?;
        if let Some(alarm) = totals.alarm.take() {
            self.alarms.remove(&(alarm, uid.clone()));
        }
        let order = totals.order.clone().filter(|order| !order.deleting)?;
        if !totals
            .agenda
            .as_ref()
            .is_some_and(|known| known.holds(&order, now.server))
        {
            totals.agenda = Agenda::at(&order, now.server);
        }
        let changes = totals
            .agenda
            .as_ref()
            .and_then(|agenda| status::changes_at(agenda, now.server));
        if let Some(at) = changes.map(|at| now.mono_at(at)) {
            totals.alarm = Some(at);
            self.alarms.insert((at, uid.clone()));
        }
        Some(order)
    }

    /// The counts of every shard; none while one has not said anything of the Order.
    fn counts<'a>(
        &self,
        totals: &'a Totals,
        shards: ShardCount,
    ) -> Option<Vec<(ShardId, &'a Arc<OrderCounts>)>> {
        let of = |shard| match self.own.contains_key(&shard) {
            true => totals.own.get(&shard),
            false => totals.pages.get(&shard).map(|(_, counts)| counts),
        };
        shards.all().map(|shard| Some((shard, of(shard)?))).collect()
    }

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
            let Some(totals) = self.orders.get_mut(uid) else {
                continue;
            };
            // Unless it is on another page by now.
            if totals.pages.get(&shard).is_some_and(|(other, _)| *other == page) {
                totals.pages.remove(&shard);
            }
            if !totals.needed() {
                self.orders.remove(uid);
            }
        }
        for (uid, counts) in &view.listing {
            let totals = self.orders.entry(uid.clone()).or_default();
            let before = totals.pages.insert(shard, (page, counts.clone()));
            if !own && before.is_none_or(|(_, before)| before != *counts) {
                self.changed.insert(uid.clone());
            }
        }
    }
}

impl Totals {
    /// When a status may be written again.
    fn not_before(&self) -> Mono {
        let pause = EVERY.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.tried.map_or_else(Mono::default, |tried| tried.after(pause))
    }

    /// Whether anybody still says anything of the Order.
    fn needed(&self) -> bool {
        self.order.is_some() || !self.own.is_empty() || !self.pages.is_empty()
    }
}

/// Writes statuses until `stop`.
pub async fn run(
    reports: Arc<Reports>,
    news: Arc<News>,
    writer: Writer,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut writes = JoinSet::new();
    let mut jumps = clock.jumps();
    loop {
        let (due, wake) = reports.due(&clock.now());
        for Due {
            order,
            revision,
            status,
            news: told,
        } in due
        {
            while writes.len() >= WRITES {
                finish(&reports, &news, writes.join_next().await, &clock);
            }
            let writer = writer.clone();
            writes.spawn(async move {
                let landed = writer.order_status(&order, revision, &status).await;
                let landed = landed.map(|revision| (status, revision));
                (order.uid.clone(), landed, told)
            });
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            ended = writes.join_next(), if !writes.is_empty() => finish(&reports, &news, ended, &clock),
            _ = jumps.changed() => reports.clock_was_set(),
            () = reports.bell.notified() => {}
            () = clock.sleep_until(wake) => {}
        }
    }
}

type Written = Result<(OrderUid, Option<(OrderStatus, Revision)>, Vec<Notice>), tokio::task::JoinError>;

fn finish(reports: &Reports, news: &News, ended: Option<Written>, clock: &Clock) {
    if let Some(ended) = ended {
        let (uid, status, told) = ended.expect("a write neither panics nor is cancelled");
        // What could not be said is said, and told of, another time.
        if status.is_some() {
            news.put(told, clock.mono());
        }
        reports.written(&uid, status, clock.mono());
    }
}

#[cfg(test)]
mod tests;
