//! Who may replace Tickets while the template changes: the grants in an Order's status.
//!
//! Pure, and of the API's objects alone: whoever owns the Order's status goes on where another left
//! off. A grant caps what a shard has in replacement. What may be without a running Guardian, all told,
//! is never more than `maxUnavailable`, whatever a shard has not seen yet and however old a page is: a
//! grant that was lowered stays in the list, before the lower one, until the shard's page speaks of that.

use crate::api::{
    order::{Grant, Rollout},
    shard::OrderCounts,
};
use crate::domain::order::spec::Order;

/// The roll-out of `order` by what its shards count, `before` being the one so far.
pub(crate) fn next<'a>(
    order: &Order,
    shards: impl Iterator<Item = (u16, &'a OrderCounts)> + Clone,
    before: Option<&Rollout>,
) -> Option<Rollout> {
    let same_generation = |(_, counts): (_, &OrderCounts)| counts.generation == order.generation;
    let (Ok(spec), true) = (&order.spec, shards.clone().all(same_generation)) else {
        // A shard that has not seen the present spec may act on what was granted for another.
        return before.cloned();
    };
    let hash = spec.template.hash.as_str();
    let same = before.is_some_and(|before| before.template_hash == hash);
    if !same && shards.clone().all(|(_, counts)| counts.stale == 0) {
        return before.cloned();
    }
    let granted = before.map_or(&[][..], |before| &before.grants);
    let mut shares: Vec<_> = shards
        .clone()
        .map(|(id, counts)| Share::new(id, counts, granted))
        .collect();
    let desired = shards.clone().map(|(_, counts)| counts.desired).sum();
    let most = spec.max_unavailable.of(desired);
    let void = !same && shares.iter().any(|share| !share.caps.is_empty());
    if order.paused || void {
        shares.iter_mut().for_each(|share| share.wanted = 0);
    } else {
        share_out(&mut shares, most);
    }
    let known = shards.map(|(_, counts)| counts.grant_seq).max();
    let last = before.map_or(0, |before| before.seq);
    let seq = 1 + last.max(known.unwrap_or_default());
    let grants: Vec<Grant> = shares
        .into_iter()
        .flat_map(|share| share.grants_at(seq))
        .collect();
    let newest = grants.iter().map(|grant| grant.seq).max();
    Some(Rollout {
        template_hash: hash.to_owned(),
        seq: newest.unwrap_or_default().max(last),
        grants,
    })
}

/// The cap that a shard acts on, if it has seen the newest of its grants.
pub(crate) fn newest(grants: &[Grant], shard: u16) -> Option<&Grant> {
    let own = grants.iter().filter(|grant| grant.shard == shard);
    own.max_by_key(|grant| grant.seq)
}

/// What one shard has and is to have.
struct Share {
    shard: u16,
    stale: u32,
    rolling: u32,
    /// Caps that may be in force, the newest last; each is lower than the one before.
    caps: Vec<Grant>,
    /// Its newest cap; 0 if it acts on none.
    cap: u32,
    wanted: u32,
}

impl Share {
    /// What is left of what was granted: a shard begins nothing any more on a cap that is older than what
    /// its page acts on, but what it has begun is still under way.
    fn new(shard: u16, counts: &OrderCounts, granted: &[Grant]) -> Self {
        let own = granted.iter().filter(|grant| grant.shard == shard);
        let mut caps: Vec<Grant> = own.cloned().collect();
        caps.sort_by_key(|grant| grant.seq);
        for cap in caps.iter_mut().filter(|cap| cap.seq < counts.grant_seq) {
            cap.count = cap.count.min(counts.rolling);
        }
        let newer = |index: usize| caps[index + 1..].iter().map(|cap| cap.count).max();
        let in_force = |index: &usize| {
            caps[*index].seq >= counts.grant_seq && newer(*index).is_none()
                || caps[*index].count > newer(*index).unwrap_or(0)
        };
        let caps: Vec<Grant> = (0..caps.len())
            .filter(in_force)
            .map(|index| caps[index].clone())
            .collect();
        // A cap of nothing that the shard has seen says no more than no cap at all.
        let done = |caps: &[Grant]| matches!(caps, [cap] if cap.count == 0 && cap.seq <= counts.grant_seq);
        let caps = if done(&caps) { Vec::new() } else { caps };
        let cap = caps.last().filter(|cap| cap.seq >= counts.grant_seq);
        let cap = cap.map_or(0, |cap| cap.count);
        Self {
            shard,
            stale: counts.stale,
            rolling: counts.rolling,
            caps,
            cap,
            wanted: cap,
        }
    }

    /// How many may be without a running Guardian by what was granted, and by what is seen.
    fn bound(&self) -> u32 {
        let granted = self.caps.first().map_or(0, |cap| cap.count);
        granted.max(self.rolling)
    }

    /// How many it will be once every shard has seen its newest cap; nobody granted what is beyond.
    fn soon(&self) -> u32 {
        let granted = self.caps.first().map_or(0, |cap| cap.count);
        self.cap + self.rolling.saturating_sub(granted)
    }

    /// How many more Tickets than its cap allows the shard has to replace.
    fn lacks(&self) -> u32 {
        (self.stale + self.rolling).saturating_sub(self.wanted.max(self.rolling))
    }

    fn grants_at(mut self, seq: i64) -> Vec<Grant> {
        if self.wanted != self.cap {
            self.caps.retain(|cap| cap.count > self.wanted);
            self.caps.push(Grant {
                shard: self.shard,
                count: self.wanted,
                seq,
            });
        }
        self.caps
    }
}

/// Sets what each share is to have, so that all together stay within `most`.
fn share_out(shares: &mut [Share], most: u32) {
    let soon: u32 = shares.iter().map(Share::soon).sum();
    let mut over = soon.saturating_sub(most);
    for share in shares.iter_mut() {
        let less = share.cap.min(over);
        (share.wanted, over) = (share.cap - less, over - less);
    }
    let now: u32 = shares.iter().map(Share::bound).sum();
    let mut room = most.saturating_sub(now);
    // One each at a time: all shards work at once.
    let mut given = soon <= most;
    while std::mem::take(&mut given) {
        for share in shares.iter_mut().filter(|share| share.lacks() > 0) {
            let begun = share.wanted.max(share.rolling);
            let costs = u32::from(begun >= share.bound());
            if costs <= room {
                (share.wanted, room, given) = (begun + 1, room - costs, true);
            }
        }
    }
    if shares.iter().any(|share| share.lacks() > 0) {
        // What is not needed here is needed there.
        for share in shares.iter_mut() {
            share.wanted = share.wanted.min(share.stale + share.rolling);
        }
    }
}

#[cfg(test)]
mod tests;
