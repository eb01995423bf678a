//! What comes in: records from the watch, and the answers to requests.

use std::sync::Arc;

use super::{
    Action, Attempt, Fatal, Flight, LeaseName, LeaseResult, LeaseState, Member, Mono, Purpose, Record,
    ShardPhase,
};
use crate::lease::record::Holder;

impl Member {
    /// The watch, or a list, showed a Lease. None: it is deleted.
    pub(crate) fn saw(&mut self, name: &LeaseName, record: Option<Record>, now: Mono) {
        let Some(record) = record else {
            return self.saw_nothing(name, now);
        };
        if let LeaseName::Replica(id) = name
            && *id != self.me.replica
        {
            self.others.entry(id.clone()).or_default();
        }
        let version = record.version.clone();
        self.learn(name, record, now);
        if let Some(lease) = self.lease(name) {
            lease.watched = Some(version);
        }
    }

    fn saw_nothing(&mut self, name: &LeaseName, now: Mono) {
        let Some(lease) = self.lease(name) else {
            return;
        };
        let known = lease.seen.as_ref().map(|seen| &seen.record.version);
        if known == lease.watched.as_ref() {
            lease.vanish(now);
        } else {
            // What is known came later than what the watch showed: it may have been made since.
            lease.ask = Some(now);
        }
        self.prune(name);
    }

    /// Forgets the membership of another that is deleted.
    fn prune(&mut self, name: &LeaseName) {
        if let LeaseName::Replica(id) = name
            && let Some(lease) = self.others.get(id)
            && lease.gone
            && lease.flight.is_none()
        {
            self.others.remove(id);
        }
    }

    /// A request ended.
    pub(crate) fn answered(&mut self, name: &LeaseName, attempt: Attempt, answer: LeaseResult, now: Mono) {
        let (retry, renew) = (now.after(self.times.retry), now.after(self.times.renew));
        let Some(lease) = self.lease(name) else {
            return;
        };
        let Some(flight) = lease.flight.take_if(|flight| flight.attempt == attempt) else {
            return;
        };
        // Else there has been news: the request was made for what no longer stands.
        let current = lease.version() == flight.base;
        match answer {
            LeaseResult::Landed(_) if flight.purpose == Purpose::Delete => lease.vanish(now),
            LeaseResult::Landed(record) => self.landed(name, &flight, record, now),
            LeaseResult::Found(found) => {
                (lease.ask, lease.next) = (None, Some(retry));
                match found {
                    Some(record) => self.learn(name, record, now),
                    None if current && flight.base.is_some() => lease.vanish(now),
                    None => {}
                }
                if let Some(lease) = self.lease(name) {
                    lease.unresolved = None;
                }
            }
            LeaseResult::Gone if current && flight.base.is_some() => lease.vanish(now),
            LeaseResult::Conflict if !current => lease.next = Some(now),
            LeaseResult::Conflict => {
                let urgent =
                    lease.renewed.is_some() || lease.unresolved.is_some() || lease.phase != ShardPhase::Idle;
                lease.ask = Some(if urgent { now } else { renew });
            }
            LeaseResult::Unknown | LeaseResult::Gone => lease.failed(&flight, current, retry),
        }
        if *name == LeaseName::Replica(self.me.replica.clone()) {
            self.gate = None;
        }
        self.prune(name);
    }

    fn landed(&mut self, name: &LeaseName, flight: &Flight, record: Record, now: Mono) {
        let version = record.version.clone();
        let ours = record.holder.as_ref() == Some(&self.me);
        self.learn(name, record, now);
        let suspected = !self.suspects.is_empty() && *name == LeaseName::Replica(self.me.replica.clone());
        let again = suspected || self.round > Some(flight.started);
        let Some(lease) = self.lease(name) else {
            return;
        };
        if ours && !lease.gone && lease.version() == Some(version) {
            lease.hold(flight.started);
            // A round that began meanwhile still renews it, and a suspect is to be cleared.
            lease.next = again.then_some(now);
        }
    }

    /// Takes a record from anywhere.
    fn learn(&mut self, name: &LeaseName, record: Record, now: Mono) {
        let me = self.me.clone();
        if let (LeaseName::Shard(_), Some(recorded)) = (name, record.shards)
            && recorded != self.count.get()
        {
            let own = self.count.get();
            self.fatal.get_or_insert(Fatal::ShardCount { recorded, own });
        }
        let (holder, version) = (record.holder.clone(), record.version.clone());
        if holder.as_ref() == Some(&me) && *name == LeaseName::Replica(me.replica.clone()) {
            self.clear_suspects(&record);
        }
        if !self
            .lease(name)
            .is_some_and(|lease| lease.learn(record, &me, now))
            || holder.as_ref() == Some(&me)
        {
            return;
        }
        if self.lease(name).is_some_and(LeaseState::lose)
            && let LeaseName::Shard(shard) = name
        {
            self.out.push(Action::Drop(*shard));
        }
        if let Some(holder) = holder.filter(|holder| holder.replica == me.replica) {
            self.saw_other_process(name, holder, version, now);
        }
    }

    /// Another process of this replica is recorded: an older one, or one that took over from this.
    ///
    /// One that takes over begins with the membership. What is only found on a shard that this process never
    /// held may also be a late write of an older process: the next renewal of the membership tells.
    fn saw_other_process(&mut self, name: &LeaseName, other: Holder, version: Arc<str>, now: Mono) {
        let joined = self.own.taken;
        let taken = self.lease(name).is_some_and(|lease| lease.taken);
        if !joined {
            self.older.insert(other.incarnation);
        } else if taken {
            self.fatal.get_or_insert(Fatal::ForeignIncarnation(other.replica));
        } else if !self.older.contains(&other.incarnation) {
            self.suspects.insert(other.incarnation, version);
            self.own.next = Some(now);
        }
    }

    /// The membership was this process's after a suspect had written: that one did not take over.
    fn clear_suspects(&mut self, record: &Record) {
        let cleared = self
            .suspects
            .extract_if(.., |_, version| record.newer_than(version));
        self.older.extend(cleared.map(|(incarnation, _)| incarnation));
    }
}

impl LeaseState {
    fn failed(&mut self, flight: &Flight, current: bool, again: Mono) {
        match flight.purpose {
            Purpose::Hold if !current => {}
            Purpose::Hold => self.unresolved = self.unresolved.or(Some(flight.started)),
            Purpose::Get => self.ask = Some(again),
            Purpose::Release | Purpose::Delete => {}
        }
        self.next = Some(again);
    }
}
