//! Own shards in the roll-up: what their workers report, on its way to sums, boards and metrics.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{NodeCounts, Reports, State};
use crate::{
    api::{
        ShardStatus,
        order::Rollout,
        shard::{NotReady, OrderCounts},
        ticket::Phase,
    },
    controller::{
        counts::board::{Board, Due},
        owned::slots::Slot,
    },
    domain::{
        pair::rollout::newest,
        values::{ids::OrderUid, shard::ShardId, shard_object::ShardObject, time::Mono},
    },
    env::metrics,
    shard::Report,
    watch::shard::ShardView,
    write::shard::ShardWriteResult,
};

/// An own shard that has decided once.
#[derive(Debug)]
pub(super) struct Own {
    slot: Arc<Slot>,
    nodes: NodeCounts,
    /// Sums over all Orders.
    sum: OrderCounts,
    /// Whether its pages have been read since this replica has it.
    pages: Pages,
    /// None until they have.
    board: Option<Board>,
}

/// What a shard has given back only its pages say, and the watch may be behind: they are read before
/// anything that is granted is acted on.
#[derive(Debug, PartialEq)]
enum Pages {
    Unread,
    Asked,
    Read,
}

/// What a report has led to.
#[derive(Default)]
pub(super) struct News {
    pub(super) first: bool,
    pub(super) any: bool,
}

/// Pages to be read, and for whom.
pub(in crate::controller) struct Question {
    slot: Arc<Slot>,
    pub(in crate::controller) pages: Vec<ShardObject>,
}

/// A write of a Shard object, and for whom.
pub(in crate::controller) struct Publication {
    slot: Arc<Slot>,
    pub(in crate::controller::counts) due: Due,
}

impl State {
    pub(super) fn put(
        &mut self,
        slot: &Arc<Slot>,
        nodes: NodeCounts,
        reports: Vec<Report>,
        now: Mono,
    ) -> News {
        let shard = slot.shard;
        let known = self
            .own
            .get(&shard)
            .is_some_and(|own| Arc::ptr_eq(&own.slot, slot));
        let news = News {
            first: !known,
            any: !known || !reports.is_empty(),
        };
        if !known {
            self.begin(slot);
        }
        let own = self.own.get_mut(&shard).expect("just made");
        own.nodes = nodes;
        for Report { order, counts, .. } in reports {
            let totals = self.orders.entry(order.clone()).or_default();
            let counts = counts.map(Arc::new);
            let before = match &counts {
                Some(counts) => totals.own.insert(shard, counts.clone()),
                None => totals.own.remove(&shard),
            };
            let [less, more] = [before.as_ref(), counts.as_ref()];
            for (field, of) in FIELDS {
                let (less, more) = (
                    less.map_or(0, |counts| of(counts)),
                    more.map_or(0, |counts| of(counts)),
                );
                let sum = field(&mut own.sum);
                *sum = *sum - less + more;
            }
            if let Some(board) = &mut own.board {
                board.put(&order, counts, now);
            }
            if !totals.needed() {
                self.orders.remove(&order);
            }
            self.changed.insert(order);
        }
        news
    }

    /// The counts of a shard are complete from now on: they take the place of what its pages say.
    fn begin(&mut self, slot: &Arc<Slot>) {
        for totals in self.orders.values_mut() {
            totals.own.remove(&slot.shard);
        }
        let own = Own {
            slot: slot.clone(),
            nodes: NodeCounts::default(),
            sum: OrderCounts::default(),
            pages: Pages::Unread,
            board: None,
        };
        self.own.insert(slot.shard, own);
    }

    /// Tells a shard whose pages have been read what is granted.
    fn tell_all(&self, slot: &Slot) {
        for (uid, totals) in &self.orders {
            let page = totals.pages.get(&slot.shard);
            let page = page.map_or(0, |(_, counts)| counts.grant_seq);
            let rollout = totals.told.clone().unwrap_or_default();
            // What is granted now was granted to whoever had the shard before, and so was what its page
            // speaks of: that process may have given it back.
            let granted = newest(&rollout.grants, slot.shard.0).map_or(0, |grant| grant.seq + 1);
            let floor = page.max(granted);
            if floor > 0 || totals.told.is_some() {
                slot.mailbox
                    .put(|inbox| inbox.rollout(uid.clone(), rollout, floor));
            }
        }
    }

    pub(super) fn board(&mut self, shard: ShardId) -> Option<&mut Board> {
        self.own.get_mut(&shard)?.board.as_mut()
    }

    /// Gives every own shard its board, once what is there is known.
    fn set_up(&mut self, now: Mono) {
        let due = |own: &Own| own.board.is_none() && own.pages == Pages::Read;
        for (&shard, own) in self.own.iter_mut().filter(|(_, own)| due(own)) {
            let counts = self.orders.iter().filter_map(|(uid, totals)| {
                let counts = totals.own.get(&shard)?;
                Some((uid.clone(), counts.clone()))
            });
            let there = self.objects.iter().filter(|(object, _)| object.shard == shard);
            let there = there.map(|(object, view)| (object.page, view));
            own.board = Some(Board::new(shard, counts.collect(), there, now));
        }
    }
}

impl Reports {
    /// Pages of own shards that are to be read now: those that the watch has shown, and one more.
    pub(in crate::controller) fn questions(&self) -> Vec<Question> {
        let mut state = self.state.lock();
        let State {
            own, objects, listed, ..
        } = &mut *state;
        let unread = own
            .iter_mut()
            .filter(|(_, own)| *listed && own.pages == Pages::Unread);
        let ask = |(&shard, own): (&ShardId, &mut Own)| {
            own.pages = Pages::Asked;
            let known = objects.keys().filter(|object| object.shard == shard);
            let next = known.filter_map(|object| object.page).max();
            let pages = 0..=next.map_or(0, |next| next.saturating_add(1));
            let object = |page| ShardObject {
                shard,
                page: Some(page),
            };
            Question {
                slot: own.slot.clone(),
                pages: pages.map(object).collect(),
            }
        };
        unread.map(ask).collect()
    }

    /// What the pages are; none if they could not be read.
    pub(in crate::controller) fn answered(
        &self,
        question: &Question,
        pages: Option<Vec<(ShardObject, ShardView)>>,
    ) {
        let shard = question.slot.shard;
        let mut state = self.state.lock();
        let own = state.own.get_mut(&shard);
        let Some(own) = own.filter(|own| Arc::ptr_eq(&own.slot, &question.slot)) else {
            return;
        };
        let Some(pages) = pages else {
            own.pages = Pages::Unread;
            return;
        };
        own.pages = Pages::Read;
        for (object, view) in pages {
            let newer = |known: &ShardView| known.version.revision >= view.version.revision;
            if !state.objects.get(&object).is_some_and(newer) {
                state.read(object, &view);
                state.objects.insert(object, view);
            }
        }
        state.tell_all(&question.slot);
    }

    /// Shard objects that are to be written now, and when to look again. `waiting` is how many writes
    /// of a shard wait.
    pub(in crate::controller) fn publications(
        &self,
        replica: &str,
        waiting: impl Fn(ShardId) -> u32,
        now: Mono,
    ) -> (Vec<Publication>, Option<Mono>) {
        let mut state = self.state.lock();
        state.set_up(now);
        let (mut all, mut wake) = (Vec::new(), None);
        for (&shard, own) in &mut state.own {
            let has = self.slots.get(shard);
            let totals = own.totals(replica, waiting(shard));
            let (Some(board), true) = (
                &mut own.board,
                has.is_some_and(|has| Arc::ptr_eq(&has, &own.slot) && !has.stop.is_cancelled()),
            ) else {
                continue;
            };
            board.total(totals, now);
            let mut due = Vec::new();
            wake = [wake, board.due(now, &mut due)].into_iter().flatten().min();
            let slot = &own.slot;
            all.extend(due.into_iter().map(|due| Publication {
                slot: slot.clone(),
                due,
            }));
        }
        (all, wake)
    }

    /// What has become of a write. The answer for a shard that is lost, or had anew, counts for nothing.
    pub(in crate::controller) fn published(
        &self,
        publication: Publication,
        answer: ShardWriteResult,
        now: Mono,
    ) {
        let Publication { slot, due } = publication;
        let mut state = self.state.lock();
        let own = state.own.get_mut(&slot.shard);
        if let Some(own) = own.filter(|own| Arc::ptr_eq(&own.slot, &slot))
            && let Some(board) = &mut own.board
        {
            board.answered(due, answer, now);
        }
    }

    /// Shows the sums over own shards.
    pub(in crate::controller) fn measure(&self) {
        let state = self.state.lock();
        let sum = |field: fn(&OrderCounts) -> u32| state.own.values().map(|own| field(&own.sum)).sum::<u32>();
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

impl Own {
    /// The Order's status shows another roll-out.
    pub(super) fn tell(&self, order: &OrderUid, rollout: &Arc<Rollout>) {
        if self.pages != Pages::Read {
            return;
        }
        self.slot
            .mailbox
            .put(|inbox| inbox.rollout(order.clone(), rollout.clone(), 0));
    }

    fn totals(&self, replica: &str, queue: u32) -> ShardStatus {
        let sum = &self.sum;
        let live = sum.pending + sum.reserved + sum.claiming + sum.claimed;
        ShardStatus {
            owner: replica.to_owned(),
            nodes: u32::try_from(self.nodes.all).unwrap_or(u32::MAX),
            not_ready: self.nodes.not_ready.iter().map(not_ready).collect(),
            tickets: live + sum.released + sum.expired,
            reserved: sum.reserved,
            claimed: sum.claimed,
            pending: sum.pending,
            queue,
            updated_time: None,
            orders: Vec::new(),
        }
    }
}

fn not_ready(&(since, count): &(Timestamp, u32)) -> NotReady {
    NotReady {
        since: Time(since),
        count,
    }
}

type Field = (fn(&mut OrderCounts) -> &mut u32, fn(&OrderCounts) -> u32);

/// What is summed over Orders.
const FIELDS: [Field; 7] = [
    (|counts| &mut counts.desired, |counts| counts.desired),
    (|counts| &mut counts.pending, |counts| counts.pending),
    (|counts| &mut counts.reserved, |counts| counts.reserved),
    (|counts| &mut counts.claiming, |counts| counts.claiming),
    (|counts| &mut counts.claimed, |counts| counts.claimed),
    (|counts| &mut counts.released, |counts| counts.released),
    (|counts| &mut counts.expired, |counts| counts.expired),
];
