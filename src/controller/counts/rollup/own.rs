//! Own shards in the roll-up: what their workers report, on its way to sums, Shard objects and metrics.

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
        counts::shard_objects::{ShardObjects, ShardWrite},
        owned::shard::OwnedShard,
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
pub(super) struct OwnCounts {
    owned: Arc<OwnedShard>,
    nodes: NodeCounts,
    /// Sums over all Orders.
    sum: OrderCounts,
    /// Whether its pages have been read since this replica has it.
    pages: PageState,
    /// None until they have.
    objects: Option<ShardObjects>,
}

/// What a shard has given back only its pages say, and the watch may be behind: they are read before
/// anything that is granted is acted on.
#[derive(Debug, PartialEq)]
enum PageState {
    Unread,
    Reading,
    Read,
}

/// What a report has led to.
#[derive(Default)]
pub(super) struct Effect {
    pub(super) first: bool,
    pub(super) any: bool,
}

/// Pages to be read, and for whom.
pub(in crate::controller) struct UnreadPages {
    owned: Arc<OwnedShard>,
    pub(in crate::controller) pages: Vec<ShardObject>,
}

/// A write of a Shard object, and for whom.
pub(in crate::controller) struct Publication {
    owned: Arc<OwnedShard>,
    pub(in crate::controller::counts) write: ShardWrite,
}

impl State {
    pub(super) fn put(
        &mut self,
        owned: &Arc<OwnedShard>,
        nodes: NodeCounts,
        reports: Vec<Report>,
        now: Mono,
    ) -> Effect {
        let shard = owned.shard;
        let known = self
            .own
            .get(&shard)
            .is_some_and(|own| Arc::ptr_eq(&own.owned, owned));
        let effect = Effect {
            first: !known,
            any: !known || !reports.is_empty(),
        };
        if !known {
            self.begin(owned);
        }
        let own = self.own.get_mut(&shard).expect("just made");
        own.nodes = nodes;
        for Report { order, counts, .. } in reports {
            let sums = self.orders.entry(order.clone()).or_default();
            let counts = counts.map(Arc::new);
            let before = match &counts {
                Some(counts) => sums.own.insert(shard, counts.clone()),
                None => sums.own.remove(&shard),
            };
            own.count(before.as_deref(), counts.as_deref());
            if let Some(objects) = &mut own.objects {
                objects.put(&order, counts, now);
            }
            if !sums.needed() {
                self.orders.remove(&order);
            }
            self.changed.insert(order);
        }
        effect
    }

    /// The counts of a shard are complete from now on: they take the place of what its pages say.
    fn begin(&mut self, owned: &Arc<OwnedShard>) {
        for sums in self.orders.values_mut() {
            sums.own.remove(&owned.shard);
        }
        let own = OwnCounts {
            owned: owned.clone(),
            nodes: NodeCounts::default(),
            sum: OrderCounts::default(),
            pages: PageState::Unread,
            objects: None,
        };
        self.own.insert(owned.shard, own);
    }

    /// Tells a shard whose pages have been read what is granted.
    fn tell_all(&self, owned: &OwnedShard) {
        for (uid, sums) in &self.orders {
            let page = sums.pages.get(&owned.shard);
            let page = page.map_or(0, |(_, counts)| counts.grant_seq);
            let rollout = sums.told.clone().unwrap_or_default();
            // What is granted now was granted to whoever had the shard before, and so was what its page
            // speaks of: that process may have given it back.
            let granted =
                newest(&rollout.grants, owned.shard.0).map_or(0, |grant| grant.seq.saturating_add(1));
            let floor = page.max(granted);
            if floor > 0 || sums.told.is_some() {
                owned
                    .mailbox
                    .put(|inbox| inbox.rollout(uid.clone(), rollout, floor));
            }
        }
    }

    pub(super) fn objects_of(&mut self, shard: ShardId) -> Option<&mut ShardObjects> {
        self.own.get_mut(&shard)?.objects.as_mut()
    }

    /// Gives every own shard its objects, once what is there is known.
    fn set_up(&mut self, now: Mono) {
        let due = |own: &OwnCounts| own.objects.is_none() && own.pages == PageState::Read;
        for (&shard, own) in self.own.iter_mut().filter(|(_, own)| due(own)) {
            let counts = self.orders.iter().filter_map(|(uid, sums)| {
                let counts = sums.own.get(&shard)?;
                Some((uid.clone(), counts.clone()))
            });
            let there = self.objects.iter().filter(|(object, _)| object.shard == shard);
            let there = there.map(|(object, view)| (object.page, view));
            own.objects = Some(ShardObjects::new(shard, counts.collect(), there, now));
        }
    }
}

impl Reports {
    /// Pages of own shards that are to be read now: those that the watch has shown, and one more.
    pub(in crate::controller) fn unread_pages(&self) -> Vec<UnreadPages> {
        let mut state = self.state.lock();
        let State {
            own, objects, listed, ..
        } = &mut *state;
        let unread = own
            .iter_mut()
            .filter(|(_, own)| *listed && own.pages == PageState::Unread);
        let ask = |(&shard, own): (&ShardId, &mut OwnCounts)| {
            own.pages = PageState::Reading;
            let known = objects.keys().filter(|object| object.shard == shard);
            let next = known.filter_map(|object| object.page).max();
            let pages = 0..=next.map_or(0, |next| next.saturating_add(1));
            let object = |page| ShardObject {
                shard,
                page: Some(page),
            };
            UnreadPages {
                owned: own.owned.clone(),
                pages: pages.map(object).collect(),
            }
        };
        unread.map(ask).collect()
    }

    /// What the pages are; none if they could not be read.
    pub(in crate::controller) fn pages_read(
        &self,
        unread: &UnreadPages,
        pages: Option<Vec<(ShardObject, ShardView)>>,
    ) {
        let shard = unread.owned.shard;
        let mut state = self.state.lock();
        let own = state.own.get_mut(&shard);
        let Some(own) = own.filter(|own| Arc::ptr_eq(&own.owned, &unread.owned)) else {
            return;
        };
        let Some(pages) = pages else {
            own.pages = PageState::Unread;
            return;
        };
        own.pages = PageState::Read;
        for (object, view) in pages {
            let newer = |known: &ShardView| known.version.revision >= view.version.revision;
            if !state.objects.get(&object).is_some_and(newer) {
                state.read(object, &view);
                state.objects.insert(object, view);
            }
        }
        state.tell_all(&unread.owned);
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
            let has = self.owned_shards.get(shard);
            let totals = own.totals(replica, waiting(shard));
            let (Some(objects), true) = (
                &mut own.objects,
                has.is_some_and(|has| Arc::ptr_eq(&has, &own.owned) && !has.stop.is_cancelled()),
            ) else {
                continue;
            };
            objects.set_totals(totals, now);
            let mut due = Vec::new();
            wake = [wake, objects.due(now, &mut due)].into_iter().flatten().min();
            let owned = &own.owned;
            all.extend(due.into_iter().map(|write| Publication {
                owned: owned.clone(),
                write,
            }));
        }
        (all, wake)
    }

    /// What has become of a write. The result for a shard that is lost, or had anew, counts for nothing.
    pub(in crate::controller) fn published(
        &self,
        publication: Publication,
        result: ShardWriteResult,
        now: Mono,
    ) {
        let Publication { owned, write } = publication;
        let mut state = self.state.lock();
        let own = state.own.get_mut(&owned.shard);
        if let Some(own) = own.filter(|own| Arc::ptr_eq(&own.owned, &owned))
            && let Some(objects) = &mut own.objects
        {
            objects.written(write, result, now);
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

impl OwnCounts {
    /// An Order counts for this instead of what it counted for `before`.
    fn count(&mut self, before: Option<&OrderCounts>, counts: Option<&OrderCounts>) {
        for (field, of) in FIELDS {
            let sum = field(&mut self.sum);
            let rest = sum.checked_sub(before.map_or(0, of));
            let rest = rest.expect("what is taken away has been added before");
            let now = rest.checked_add(counts.map_or(0, of));
            *sum = now.expect("fewer Tickets than fit into memory");
        }
    }

    /// The Order's status shows another roll-out.
    pub(super) fn tell(&self, order: &OrderUid, rollout: &Arc<Rollout>) {
        if self.pages != PageState::Read {
            return;
        }
        self.owned
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
