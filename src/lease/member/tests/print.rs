//! Which worlds are the same: the state of all members, reduced to what makes a difference.

use std::{
    hash::{Hash, Hasher},
    mem::discriminant,
};

use super::{super::*, world::*};

/// How far back or ahead a time is told from others: further than any term.
const HORIZON: i64 = 12;

/// Two worlds with the same fingerprint go on alike: times count from now, of a version only whether it
/// still stands, and requests by their Lease.
impl World {
    pub(super) fn fingerprint(&self, extra: impl Hash) -> u64 {
        let print = &mut Print(0);
        extra.hash(print);
        for (lease, entry) in self.server.iter().enumerate() {
            entry.record.is_some().hash(print);
            self.hash_holder(entry.record.as_ref().and_then(Option::as_ref), print);
            if self.by_written_time {
                entry.written.hash(print);
            }
            for replica in self.replicas.iter().filter(|replica| replica.up) {
                (entry.version == replica.shown[lease]).hash(print);
            }
        }
        if let Some((at, lease, version, holder)) = &self.late {
            (at, lease, self.server[*lease].stands(version.as_deref())).hash(print);
            self.hash_holder(holder.as_ref(), print);
        }
        for replica in &self.replicas {
            let flags = (replica.paused, replica.blind, replica.leaving);
            (replica.up, replica.incarnation, replica.ended.is_some()).hash(print);
            if !replica.up {
                continue;
            }
            (flags, replica.asleep, replica.network as u8).hash(print);
            if self.by_written_time {
                replica.now.hash(print);
            }
            replica.draining.hash(print);
            replica.answers.len().hash(print);
            for (name, _, answer) in &replica.answers {
                (self.lease(name), discriminant(answer)).hash(print);
                if let LeaseResult::Landed(record) | LeaseResult::Found(Some(record)) = answer {
                    self.server[self.lease(name)]
                        .stands(Some(&record.version))
                        .hash(print);
                    self.hash_holder(record.holder.as_ref(), print);
                }
            }
            self.hash_member(replica, print);
        }
        print.0
    }

    fn hash_member(&self, replica: &Replica, print: &mut Print) {
        let member = &replica.member;
        let at = |time: Option<Mono>| time.map_or(i64::MAX, |time| from(replica.now, time));
        assert!(member.out.is_empty());
        (
            member.listed,
            member.prepared,
            member.deleted,
            member.over,
            member.fatal.is_some(),
        )
            .hash(print);
        member.older.hash(print);
        for (incarnation, version) in &member.suspects {
            let own = self.lease(&LeaseName::Replica(member.me.replica.clone()));
            let record = self.server[own].record();
            (
                incarnation,
                record.is_some_and(|record| record.newer_than(version)),
            )
                .hash(print);
        }
        (at(member.round), at(member.gate), at(member.drain)).hash(print);
        for (index, name) in self.names.iter().enumerate() {
            let lease = match name {
                LeaseName::Replica(id) if *id == member.me.replica => &member.own,
                LeaseName::Replica(id) => match member.others.get(id) {
                    Some(lease) => lease,
                    None => continue,
                },
                LeaseName::Shard(shard) => &member.shards[usize::from(shard.0)],
            };
            let known = lease.seen.as_ref().map(|seen| &seen.record.version);
            if let Some(seen) = &lease.seen {
                self.hash_holder(seen.record.holder.as_ref(), print);
                let stands = self.server[index].stands(known.map(|version| &**version));
                (index, stands, from(replica.now, seen.changed)).hash(print);
            }
            (
                lease.gone,
                lease.watched.as_ref() == known,
                lease.taken,
                lease.phase as u8,
            )
                .hash(print);
            (
                at(lease.unresolved),
                at(lease.renewed),
                at(lease.next),
                at(lease.ask),
            )
                .hash(print);
            if let Some(flight) = &lease.flight {
                let purpose = flight.purpose as u8;
                let current = flight.base == lease.version();
                (purpose, from(replica.now, flight.started), current).hash(print);
            }
        }
    }

    fn hash_holder(&self, holder: Option<&Holder>, print: &mut Print) {
        let at = holder.map(|holder| {
            self.names
                .iter()
                .position(|name| matches!(name, LeaseName::Replica(id) if *id == holder.replica))
        });
        (at, holder.map(|holder| holder.incarnation.as_bytes()[0])).hash(print);
    }
}

/// A quick hash of many small numbers.
struct Print(u64);

impl Hasher for Print {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn from(now: Mono, time: Mono) -> i64 {
    let units = |time: Mono| i64::try_from(time.0.as_secs()).unwrap();
    (units(time) - units(now)).clamp(-HORIZON, HORIZON)
}
