//! The roll-up: sums what shards report into the status of Orders, and hands out roll-out grants.
//!
//! A status is written at most once a second per Order, and only when it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::slots::Slots;
use crate::{
    api::{OrderStatus, shard::OrderCounts, ticket::Phase},
    domain::{ids::OrderUid, order::Order, status, time::Mono},
    runtime::{clock::Clock, metrics},
    shard::{Report, ShardId},
    write::Writer,
};

/// Least time between two status writes of one Order.
const EVERY: Duration = Duration::from_secs(1);
/// Longest pause after one that did not land.
const LONGEST: Duration = Duration::from_secs(60);
/// Status writes in flight.
const WRITES: usize = 4;

/// What the shards have reported, by Order.
#[derive(Debug)]
pub struct Reports {
    shards: usize,
    orders: Mutex<BTreeMap<OrderUid, Totals>>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Totals {
    order: Option<Arc<Order>>,
    written: OrderStatus,
    shards: BTreeMap<ShardId, OrderCounts>,
    /// Shards that have Tickets to replace.
    stale: BTreeSet<ShardId>,
    granted: Option<ShardId>,
    changed: bool,
    writing: bool,
    /// The watch has shown another status since the write began: perhaps a write of before that came late.
    overtaken: bool,
    not_before: Mono,
    failures: u32,
}

impl Reports {
    /// For so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            orders: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Takes in what a shard reports.
    pub fn put(&self, reports: Vec<Report>) {
        if reports.is_empty() {
            return;
        }
        let mut orders = self.orders.lock();
        for report in reports {
            let totals = orders.entry(report.order.clone()).or_default();
            totals.changed = true;
            if report.stale {
                totals.stale.insert(report.shard);
            } else {
                totals.stale.remove(&report.shard);
            }
            match report.counts {
                Some(counts) => totals.shards.insert(report.shard, counts),
                None => totals.shards.remove(&report.shard),
            };
            if totals.order.is_none() && totals.shards.is_empty() {
                orders.remove(&report.order);
            }
        }
        drop(orders);
        self.bell.notify_one();
    }

    /// An Order changed; `written` is its status as the API server has it, if that can be read.
    pub fn order(&self, order: &Arc<Order>, written: Option<OrderStatus>) {
        let mut orders = self.orders.lock();
        let totals = orders.entry(order.uid.clone()).or_default();
        totals.order = Some(order.clone());
        if let Some(written) = written {
            let differs = totals.written != written;
            totals.changed |= differs;
            totals.overtaken |= differs;
            totals.written = written;
        }
        drop(orders);
        self.bell.notify_one();
    }

    /// An Order is gone.
    pub fn forget(&self, uid: &OrderUid) {
        let mut orders = self.orders.lock();
        if let Some(totals) = orders.get_mut(uid) {
            totals.order = None;
            if totals.shards.is_empty() {
                orders.remove(uid);
            }
        }
    }

    /// Statuses that are to be written now, and when to look again.
    fn due(&self, now: &crate::domain::time::Now) -> (Vec<(Arc<Order>, OrderStatus)>, Option<Mono>) {
        let (mut due, mut wake) = (Vec::new(), None::<Mono>);
        for totals in self.orders.lock().values_mut() {
            let Some(order) = totals.order.clone().filter(|order| !order.deleting) else {
                continue;
            };
            if !totals.changed || totals.writing || totals.shards.len() < self.shards {
                continue;
            }
            if now.mono < totals.not_before {
                wake = Some(wake.map_or(totals.not_before, |wake| wake.min(totals.not_before)));
                continue;
            }
            totals.changed = false;
            let status = status::of(&order, totals.shards.values(), &totals.written, now.server);
            if status != totals.written {
                (totals.writing, totals.overtaken) = (true, false);
                due.push((order, status));
            }
        }
        (due, wake)
    }

    fn written(&self, uid: &OrderUid, status: Option<OrderStatus>, now: Mono) {
        if let Some(totals) = self.orders.lock().get_mut(uid) {
            totals.writing = false;
            totals.failures = match status {
                Some(_) => 0,
                None => totals.failures + 1,
            };
            let pause = EVERY.saturating_mul(1 << totals.failures.min(10)).min(LONGEST);
            totals.not_before = now.after(pause);
            match status {
                Some(_) if totals.overtaken => totals.changed = true,
                Some(status) => totals.written = status,
                None => totals.changed = true,
            }
        }
    }

    /// Shards that may begin to replace Tickets (true), or must stop (false).
    fn grants(&self) -> Vec<(OrderUid, ShardId, bool)> {
        let mut news = Vec::new();
        for (uid, totals) in &mut *self.orders.lock() {
            // A shard that has said nothing yet may have pairs without a Guardian.
            if totals.shards.len() < self.shards {
                continue;
            }
            let before = totals.granted;
            totals.granted = totals.grant();
            if before != totals.granted {
                news.extend(before.map(|shard| (uid.clone(), shard, false)));
                news.extend(totals.granted.map(|shard| (uid.clone(), shard, true)));
            }
        }
        news
    }

    fn count(&self) {
        let orders = self.orders.lock();
        let all = || orders.values().flat_map(|totals| totals.shards.values());
        let sum = |field: fn(&OrderCounts) -> u32| all().map(field).sum();
        let phases = [
            (Phase::Pending, sum(|counts| counts.pending)),
            (Phase::Reserved, sum(|counts| counts.reserved)),
            (Phase::Claiming, sum(|counts| counts.claiming)),
            (Phase::Claimed, sum(|counts| counts.claimed)),
            (Phase::Released, sum(|counts| counts.released)),
            (Phase::Expired, sum(|counts| counts.expired)),
        ];
        metrics::pairs(sum(|counts| counts.desired), phases);
    }
}

impl Totals {
    /// The one shard that may replace Tickets: the first that has any, if fewer pairs are without a
    /// running Guardian than may be; it goes on while they are no more than that.
    fn grant(&self) -> Option<ShardId> {
        let order = self
            .order
            .as_ref()
            .filter(|order| !order.paused && !order.deleting)?;
        let spec = order.spec.as_ref().ok()?;
        if self
            .shards
            .values()
            .any(|counts| counts.generation != order.generation)
        {
            return self.granted;
        }
        let rolling: u32 = self.shards.values().map(|counts| counts.rolling).sum();
        let most = spec
            .max_unavailable
            .of(self.shards.values().map(|counts| counts.desired).sum());
        let present = self
            .granted
            .filter(|shard| self.stale.contains(shard) && rolling <= most);
        present.or_else(|| self.stale.first().copied().filter(|_| rolling < most))
    }
}

/// Writes statuses and hands out grants until `stop`.
pub async fn run(
    reports: Arc<Reports>,
    writer: Writer,
    slots: Arc<Slots>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut writes = JoinSet::new();
    loop {
        let now = clock.now();
        let (due, wake) = reports.due(&now);
        for (order, status) in due {
            while writes.len() >= WRITES {
                finish(&reports, writes.join_next().await, &clock);
            }
            let writer = writer.clone();
            writes.spawn(async move {
                let landed = writer.order_status(&order, &status).await;
                (order.uid.clone(), landed.then_some(status))
            });
        }
        for (uid, shard, granted) in reports.grants() {
            slots.put(shard, |inbox| {
                inbox.grants.insert(uid, granted);
            });
        }
        reports.count();
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            ended = writes.join_next(), if !writes.is_empty() => finish(&reports, ended, &clock),
            () = reports.bell.notified() => {}
            () = clock.sleep_until(wake) => {}
        }
    }
}

type Written = Result<(OrderUid, Option<OrderStatus>), tokio::task::JoinError>;

fn finish(reports: &Reports, ended: Option<Written>, clock: &Clock) {
    if let Some(ended) = ended {
        let (uid, status) = ended.expect("a write neither panics nor is cancelled");
        reports.written(&uid, status, clock.mono());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{testing::order, time::Now};

    fn report(shard: u16, rolling: u32, stale: bool) -> Report {
        Report {
            shard: ShardId(shard),
            order: "o-uid".into(),
            counts: Some(OrderCounts {
                desired: 5,
                reserved: 5 - rolling,
                rolling,
                ..OrderCounts::default()
            }),
            stale,
        }
    }

    fn granted(reports: &Reports, news: [Report; 2]) -> Vec<(u16, bool)> {
        reports.put(news.into());
        let grants = reports.grants().into_iter();
        grants.map(|(_, shard, granted)| (shard.0, granted)).collect()
    }

    fn now(seconds: i64) -> Now {
        Now {
            server: crate::domain::testing::at(seconds),
            mono: Mono(Duration::from_secs(seconds.unsigned_abs())),
        }
    }

    fn of(order: Order) -> Arc<Order> {
        Arc::new(Order {
            generation: 0,
            ..order
        })
    }

    #[test]
    fn a_shard_keeps_the_grant_while_no_more_pairs_lack_a_guardian_than_may() {
        let reports = Reports::new(2);
        let one = json!({ "updateStrategy": { "maxUnavailable": 1 } });
        reports.order(&of(order("o", one)), None);
        let steps = [
            ([report(0, 0, false), report(1, 0, true)], vec![(1, true)]),
            ([report(0, 0, false), report(1, 1, true)], vec![]),
            ([report(0, 1, false), report(1, 1, true)], vec![(1, false)]),
            ([report(0, 1, false), report(1, 0, true)], vec![]),
            ([report(0, 0, true), report(1, 0, false)], vec![(0, true)]),
        ];
        for (step, (news, expected)) in steps.into_iter().enumerate() {
            assert_eq!(granted(&reports, news), expected, "step {step}");
        }
    }

    #[test]
    fn no_shard_begins_before_all_have_reported() {
        let reports = Reports::new(3);
        let one = json!({ "updateStrategy": { "maxUnavailable": 1 } });
        reports.order(&of(order("o", one)), None);
        let steps = [
            ([report(0, 0, true), report(1, 0, false)], vec![]),
            ([report(0, 0, true), report(2, 1, false)], vec![]),
            ([report(0, 0, true), report(2, 0, false)], vec![(0, true)]),
        ];
        for (step, (news, expected)) in steps.into_iter().enumerate() {
            assert_eq!(granted(&reports, news), expected, "step {step}");
        }
    }

    #[test]
    fn a_write_of_before_that_lands_last_is_written_over() {
        let reports = Reports::new(1);
        let order = of(order("o", json!({})));
        let reserved = |count: u32| {
            reports.put(vec![report(0, 5 - count, false)]);
            let (_, status) = reports.due(&now(i64::from(count) * 10)).0.pop().unwrap();
            status
        };
        reports.order(&order, None);
        let first = reserved(1);
        reports.written(&order.uid, None, now(10).mono);
        let second = reserved(2);
        reports.order(&order, Some(second.clone()));
        reports.order(&order, Some(first));
        reports.written(&order.uid, Some(second.clone()), now(20).mono);
        let (_, again) = reports.due(&now(30)).0.pop().unwrap();
        assert_eq!(again.available_replicas, second.available_replicas);
    }

    #[test]
    fn status_of_an_order_that_cannot_be_decoded_is_written_once() {
        let reports = Reports::new(1);
        let good = order("o", json!({}));
        let bad = Arc::new(Order::undecodable(
            good.uid.clone(),
            good.key.clone(),
            0,
            good.created,
            false,
            "a map, expected a string",
        ));
        reports.order(&bad, None);
        reports.put(vec![report(0, 0, false)]);
        let (_, status) = reports.due(&now(10)).0.pop().unwrap();
        reports.written(&bad.uid, Some(status), now(10).mono);
        reports.order(&bad, None);
        reports.put(vec![report(0, 0, false)]);
        assert!(reports.due(&now(20)).0.is_empty());
    }
}
