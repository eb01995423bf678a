//! Writes the status of Orders: at most once a second per Order, only when it changes, and only as the owner of
//! the Order's shard.

use std::{sync::Arc, time::Duration};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{OrderSums, Reports, State};
use crate::{
    api::{OrderStatus, shard::OrderCounts},
    controller::events::EventQueue,
    domain::{
        order::{spec::Order, window::Agenda},
        pair::{observed::Revision, rollout},
        status::{self, progress::Standing},
        values::{
            ids::OrderUid,
            shard::{ShardCount, ShardId},
            time::{Mono, Now},
        },
    },
    env::clock::Clock,
    shard::Notice,
    write::Writer,
};

/// Least time between two status writes of one Order.
const EVERY: Duration = Duration::from_secs(1);
/// Longest pause after one that did not land, unless the Order changes meanwhile.
const LONGEST: Duration = Duration::from_secs(60);
/// Status writes in flight.
const WRITES: usize = 4;

/// A status to be written.
#[derive(Debug)]
pub(super) struct StatusWrite {
    order: Arc<Order>,
    pub(super) revision: Revision,
    pub(super) status: OrderStatus,
    /// What the status tells for the first time.
    notices: Vec<Notice>,
}

impl Reports {
    /// Statuses that are to be written now, and when to look again.
    pub(super) fn due(&self, now: &Now) -> (Vec<StatusWrite>, Option<Mono>) {
        let (mut due, mut wake) = (Vec::new(), None::<Mono>);
        let mut state = self.state.lock();
        state.ring(now.mono);
        for uid in std::mem::take(&mut state.changed) {
            if !self.looks_after(&uid) {
                continue;
            }
            let Some(order) = state.look_up(&uid, now) else {
                continue;
            };
            let sums = &state.orders[&uid];
            let at = sums.not_before();
            if sums.writing {
                state.changed.insert(uid);
            } else if now.mono < at {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                state.changed.insert(uid);
            } else {
                due.extend(state.status(uid, order, self.shards, now));
            }
        }
        let alarm = state.alarms.first().map(|(at, _)| *at);
        (due, wake.into_iter().chain(alarm).min())
    }

    /// Whether this replica has the Order's shard, and goes on having it.
    fn looks_after(&self, order: &OrderUid) -> bool {
        let owned = self.owned_shards.get(self.shards.of_order(order));
        owned.is_some_and(|owned| !owned.stop.is_cancelled())
    }

    /// The API server's clock was set: every window has to be looked at anew.
    fn clock_was_set(&self) {
        let mut state = self.state.lock();
        state.ring(Mono(Duration::MAX));
    }

    /// A status has been written, or not.
    pub(super) fn written(&self, uid: &OrderUid, status: Option<(OrderStatus, Revision)>, now: Mono) {
        let mut state = self.state.lock();
        let Some(sums) = state.orders.get_mut(uid) else {
            return;
        };
        sums.writing = false;
        sums.tried = Some(now);
        match status {
            Some((status, revision)) => {
                sums.failures = 0;
                // Unless somebody has written since: what the watch has shown counts.
                if revision >= sums.revision {
                    (sums.written, sums.revision) = (status, revision);
                }
            }
            None => {
                sums.failures = sums.failures.saturating_add(1);
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
            if let Some(sums) = self.orders.get_mut(&uid) {
                sums.alarm.take_if(|alarm| *alarm == at);
                self.changed.insert(uid);
            }
        }
    }

    /// The Order, if it lives; its windows are brought up to date, and looked at again when they change.
    fn look_up(&mut self, uid: &OrderUid, now: &Now) -> Option<Arc<Order>> {
        let sums = self.orders.get_mut(uid)?;
        if let Some(alarm) = sums.alarm.take() {
            self.alarms.remove(&(alarm, uid.clone()));
        }
        let order = sums.order.clone().filter(|order| !order.deleting)?;
        let known = sums.agenda.as_ref();
        if !known.is_some_and(|known| known.holds(&order, now.server)) {
            sums.agenda = Agenda::at(&order, now.server);
        }
        let agenda = sums.agenda.as_ref();
        let changes = agenda.and_then(|agenda| status::changes_at(agenda, now.server));
        if let Some(at) = changes.map(|at| now.mono_at(at)) {
            sums.alarm = Some(at);
            self.alarms.insert((at, uid.clone()));
        }
        Some(order)
    }

    /// The Order's status, if all shards have counted for it and it is another than was written.
    fn status(
        &mut self,
        uid: OrderUid,
        order: Arc<Order>,
        shards: ShardCount,
        now: &Now,
    ) -> Option<StatusWrite> {
        let sums = &self.orders[&uid];
        let counts = self.counts(sums, shards)?;
        let all = || counts.iter().map(|(shard, counts)| (shard.0, &***counts));
        let (agenda, before) = (sums.agenda.clone(), &sums.written);
        let counts = all().map(|(_, counts)| counts);
        let mut status = status::of(&order, agenda.as_ref(), counts, before, now.server);
        status.rollout = rollout::next(&order, all(), before.rollout.as_ref());
        let standing = Standing::of(&order, all(), status.rollout.as_ref());
        let sums = self.orders.get_mut(&uid).expect("just seen");
        let before = &sums.written;
        let alarm = sums.pace.note(&standing, &order, before, &mut status, *now);
        self.alarms.extend(alarm.map(|at| (at, uid.clone())));
        if status == *before {
            return None;
        }
        let told = status::events(agenda.as_ref(), before, &status, now.server).into_iter();
        let notices = told.map(|(reason, message)| Notice::on_order(&uid, reason, message));
        let write = StatusWrite {
            order,
            revision: sums.revision,
            status,
            notices: notices.collect(),
        };
        sums.writing = true;
        Some(write)
    }

    /// The counts of every shard; none while one has not said anything of the Order.
    fn counts<'a>(
        &self,
        sums: &'a OrderSums,
        shards: ShardCount,
    ) -> Option<Vec<(ShardId, &'a Arc<OrderCounts>)>> {
        let of = |shard| match self.own.contains_key(&shard) {
            true => sums.own.get(&shard),
            false => sums.pages.get(&shard).map(|(_, counts)| counts),
        };
        shards.all().map(|shard| Some((shard, of(shard)?))).collect()
    }
}

impl OrderSums {
    /// When a status may be written again.
    fn not_before(&self) -> Mono {
        let pause = EVERY.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.tried.map_or_else(Mono::default, |tried| tried.after(pause))
    }
}

/// What has become of a status write: the status and its revision if it landed, and what it tells.
type Written = (OrderUid, Option<(OrderStatus, Revision)>, Vec<Notice>);

/// Writes statuses until `stop`.
pub(crate) async fn run(
    reports: Arc<Reports>,
    events: Arc<EventQueue>,
    writer: Writer,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut writes = JoinSet::new();
    let mut jumps = clock.jumps();
    loop {
        let (due, wake) = reports.due(&clock.now());
        for write in due {
            while writes.len() >= WRITES {
                finish(&reports, &events, writes.join_next().await, &clock);
            }
            writes.spawn(send(writer.clone(), write));
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            ended = writes.join_next(), if !writes.is_empty() => finish(&reports, &events, ended, &clock),
            _ = jumps.changed() => reports.clock_was_set(),
            () = reports.bell.notified() => {}
            () = clock.sleep_until(wake) => {}
        }
    }
}

async fn send(writer: Writer, write: StatusWrite) -> Written {
    let StatusWrite {
        order,
        revision,
        status,
        notices,
    } = write;
    let landed = writer.order_status(&order, revision, &status).await;
    let landed = landed.map(|revision| (status, revision));
    (order.uid.clone(), landed, notices)
}

fn finish(reports: &Reports, events: &EventQueue, ended: Option<Result<Written, JoinError>>, clock: &Clock) {
    if let Some(ended) = ended {
        let (uid, status, notices) = ended.expect("a write neither panics nor is cancelled");
        // What could not be said is said, and told of, another time.
        if status.is_some() {
            events.put(notices, clock.mono());
        }
        reports.written(&uid, status, clock.mono());
    }
}
