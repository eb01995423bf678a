//! Which replica each shard belongs to: rendezvous hashing with bounded load and least movement.
//!
//! A function of the live members and of who holds what now, so that all replicas that see the same
//! compute the same. A part of the moves carried out leaves the rest of the answer as it was.

use std::cmp::Reverse;

use super::record::ReplicaId;
use crate::domain::values::hash::fnv1a64;
use crate::domain::values::shard::{ShardCount, ShardId};

/// The owner of every shard, in order; none has one if there are no members.
///
/// `members` are the live replicas, sorted and each once; `holder` tells who holds a shard now, where
/// anybody who is no member counts as nobody.
///
/// No two members differ by more than one shard. A member keeps what it holds up to its share and gives
/// up what ranks lowest with it; the rest goes, highest rank first, to members with room. Those that hold
/// more than the even share get the odd shards first, then those first in name: it saves a move, and it
/// stays so while the moves are carried out.
pub(crate) fn owners<'a>(
    count: ShardCount,
    members: &[ReplicaId],
    holder: impl Fn(ShardId) -> Option<&'a ReplicaId>,
) -> Vec<Option<ReplicaId>> {
    let mut kept = vec![Vec::new(); members.len()];
    for shard in count.all() {
        if let Some(member) = holder(shard).and_then(|holder| members.binary_search(holder).ok()) {
            kept[member].push(shard);
        }
    }
    let mut room = shares(usize::from(count.get()), &kept);
    let mut owners = vec![None; usize::from(count.get())];
    for (member, shards) in kept.iter_mut().enumerate() {
        shards.sort_by_key(|shard| (Reverse(rank(&members[member], *shard)), *shard));
        shards.truncate(room[member]);
        room[member] -= shards.len();
        for shard in shards {
            owners[usize::from(shard.0)] = Some(member);
        }
    }
    for (_, shard, member) in offers(&owners, members, &room) {
        if owners[shard].is_none() && room[member] > 0 {
            owners[shard] = Some(member);
            room[member] -= 1;
        }
    }
    let name = |owner: Option<usize>| owner.map(|member| members[member].clone());
    owners.into_iter().map(name).collect()
}

/// How many shards each member may have.
fn shares(count: usize, kept: &[Vec<ShardId>]) -> Vec<usize> {
    let Some(even) = count.checked_div(kept.len()) else {
        return Vec::new();
    };
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|&member| kept[member].len() <= even);
    let mut shares = vec![even; kept.len()];
    for &member in &order[..count % kept.len()] {
        shares[member] += 1;
    }
    shares
}

/// Every shard without an owner with every member that has room, highest rank first.
fn offers(
    owners: &[Option<usize>],
    members: &[ReplicaId],
    room: &[usize],
) -> Vec<(Reverse<u64>, usize, usize)> {
    let free = (0..owners.len()).filter(|&shard| owners[shard].is_none());
    let mut offers: Vec<_> = free
        .flat_map(|shard| {
            let open = (0..members.len()).filter(|&member| room[member] > 0);
            open.map(move |member| {
                let id = ShardId(u16::try_from(shard).expect("a shard's number"));
                (Reverse(rank(&members[member], id)), shard, member)
            })
        })
        .collect();
    offers.sort_unstable();
    offers
}

/// How much a replica is preferred for a shard.
fn rank(replica: &ReplicaId, shard: ShardId) -> u64 {
    let mut bytes = Vec::with_capacity(replica.as_str().len() + 3);
    bytes.extend_from_slice(replica.as_str().as_bytes());
    bytes.push(b'/');
    bytes.extend_from_slice(&shard.0.to_be_bytes());
    mix(fnv1a64(&bytes))
}

/// The finaliser of MurmurHash3: FNV leaves the last bytes of a short text in its low bits.
const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
