//! Who may replace Tickets while the template changes: the grants in an Order's status.
//!
//! Pure, and of the API's objects alone: whoever owns the Order's status goes on where another left
//! off. One shard at a time holds a grant; what may be without a running Guardian, all told, is never
//! more than `maxUnavailable`, whatever a shard has not seen yet.

use super::order::Order;
use crate::api::{
    order::{Grant, Rollout},
    shard::OrderCounts,
};

/// The roll-out of `order` by what its shards count, `before` being the one so far.
pub fn next<'a>(
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
    let same = before.filter(|before| before.template_hash == hash);
    if same.is_none() && shards.clone().all(|(_, counts)| counts.stale == 0) {
        return before.cloned();
    }
    let sum = |field: fn(&OrderCounts) -> u32| shards.clone().map(|(_, counts)| field(counts)).sum::<u32>();
    let (rolling, most) = (
        sum(|counts| counts.rolling),
        spec.max_unavailable.of(sum(|counts| counts.desired)),
    );
    // Grants for another template are void: every shard has said that it sees this one.
    let mut grants = same.map(|same| same.grants.clone()).unwrap_or_default();
    let of = |shard: u16| {
        shards
            .clone()
            .find(|(id, _)| *id == shard)
            .map(|(_, counts)| counts)
    };
    grants.retain(|grant| of(grant.shard).is_some_and(|counts| !is_over(grant, counts)));
    let known = shards.clone().map(|(_, counts)| counts.grant_seq).max();
    let last = before.map_or(0, |before| before.seq);
    let seq = 1 + last.max(known.unwrap_or_default());
    let revoke = |grant: &mut Grant| (grant.count, grant.seq) = (0, seq);
    if order.paused || rolling > most {
        grants.iter_mut().filter(|grant| grant.count > 0).for_each(revoke);
    } else {
        // Who holds a grant may begin one replacement more than it reports.
        let outstanding = u32::try_from(grants.len()).expect("one per shard at most");
        let room = most.saturating_sub(rolling.saturating_add(outstanding));
        let waits = |(shard, counts): &(u16, &OrderCounts)| {
            counts.stale > 0 && grants.iter().all(|grant| grant.shard != *shard)
        };
        let next = shards.clone().find(waits).filter(|_| room > 0);
        let holder = grants.iter_mut().find(|grant| grant.count > 0);
        let busy = holder
            .as_ref()
            .and_then(|grant| of(grant.shard))
            .is_some_and(|counts| counts.stale > 0);
        if let (false, Some((shard, counts))) = (busy, next) {
            holder.into_iter().for_each(revoke);
            grants.push(Grant {
                shard,
                count: counts.rolling + room,
                seq,
            });
        }
    }
    Some(Rollout {
        template_hash: hash.to_owned(),
        seq: grants
            .iter()
            .map(|grant| grant.seq)
            .max()
            .unwrap_or_default()
            .max(last),
        grants,
    })
}

/// Whether the shard has seen that the grant is revoked, or has given it back.
fn is_over(grant: &Grant, counts: &OrderCounts) -> bool {
    match grant.count {
        0 => counts.grant_seq >= grant.seq,
        _ => counts.grant_seq > grant.seq,
    }
}

#[cfg(test)]
mod tests;
