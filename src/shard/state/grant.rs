//! The shard's side of a roll-out: which grant it acts on, and when it gives it back.
//!
//! A shard begins a replacement only while it has fewer under way than its newest grant allows, in the
//! status of the Order, for the template that it sees in the Order's spec.

use std::{collections::BTreeSet, ops::Bound};

use super::Shard;
use crate::{
    api::order::Rollout,
    domain::{
        pair::rollout::newest,
        values::ids::{NodeUid, OrderUid, PairKey},
    },
};

/// What a roll-out says to this shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Grant {
    template_hash: String,
    /// How many Tickets the shard may have in replacement.
    count: u32,
    seq: i64,
    /// What the shard reports: the newest `seq` it has seen, or one more once that is given back.
    acts_on: i64,
}

impl Shard {
    /// The Order's status shows this roll-out. Grants below `floor` were another process's, which may have
    /// given them back.
    pub(crate) fn see_rollout(&mut self, uid: &OrderUid, rollout: &Rollout, floor: i64) {
        let own = newest(&rollout.grants, self.id.0);
        if own.is_none() && floor == 0 && !self.grants.contains_key(uid) {
            return;
        }
        let (count, seq) = own.map_or((0, 0), |own| (own.count, own.seq));
        let grant = self.grants.entry(uid.clone()).or_default();
        grant.template_hash.clone_from(&rollout.template_hash);
        (grant.count, grant.seq) = (count, seq);
        grant.acts_on = grant.acts_on.max(seq).max(floor);
        if self.orders.contains_key(uid) {
            self.touched.insert(uid.clone());
            self.seeking.insert(uid.clone());
        }
    }

    /// Whether a Ticket that was chosen may be replaced.
    pub(in crate::shard) fn granted(&self, uid: &OrderUid) -> bool {
        let Some(grant) = self.grants.get(uid).filter(|grant| grant.count > 0) else {
            return false;
        };
        let hash = self.nodes.order(uid).and_then(|order| {
            let spec = order.spec.as_ref().ok()?;
            Some(spec.template.hash.as_str() == grant.template_hash)
        });
        grant.acts_on == grant.seq && hash == Some(true)
    }

    /// Whether another Ticket may be replaced.
    pub(in crate::shard) fn may_begin(&self, uid: &OrderUid) -> bool {
        let under_way = |counted: u32| counted + self.begun(uid);
        let free = |grant: &Grant| {
            let entry = self.orders.get(uid);
            entry.is_some_and(|entry| under_way(entry.counts.rolling) < grant.count)
        };
        self.grants.get(uid).is_some_and(free) && self.granted(uid)
    }

    /// Replacements that have begun and are not counted yet.
    pub(in crate::shard) fn begun(&self, uid: &OrderUid) -> u32 {
        let begun = self.orders.get(uid).map(|entry| &entry.replacing);
        let begun = begun.map_or(0, BTreeSet::len);
        u32::try_from(begun).expect("fewer than the nodes of a shard")
    }

    /// The next pair after `last` whose Ticket may be replaced.
    pub(in crate::shard) fn next_stale(&self, uid: &OrderUid, last: Option<NodeUid>) -> Option<PairKey> {
        if !self.may_begin(uid) {
            return None;
        }
        let entry = self.orders.get(uid)?;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut after = entry.stale.range((from, Bound::Unbounded));
        let node = after.find(|node| !entry.replacing.contains(*node))?.clone();
        let order = uid.clone();
        Some(PairKey { order, node })
    }

    /// The grant to report. One that has nothing left to do is given back here, so that the report says
    /// both, and no replacement follows it.
    pub(in crate::shard) fn acts_on(&mut self, uid: &OrderUid) -> i64 {
        let done = self.orders.get(uid).is_some_and(|entry| {
            entry.replacing.is_empty() && entry.counts.stale == 0 && entry.counts.rolling == 0
        });
        let give_back = done && self.granted(uid);
        self.grants.get_mut(uid).map_or(0, |grant| {
            if give_back {
                grant.acts_on = grant.seq + 1;
            }
            grant.acts_on
        })
    }
}
