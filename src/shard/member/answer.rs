//! What comes in: records from the watch, and the answers to requests.

use super::{Action, Answer, Attempt, Fatal, Flight, LeaseName, Member, Mono, Phase, Purpose, Record, Slot};
use crate::shard::lease::Holder;

impl Member {
    /// The watch, or a list, showed a Lease. None: it is deleted.
    pub fn saw(&mut self, name: &LeaseName, record: Option<Record>, now: Mono) {
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
        if let Some(slot) = self.slot(name) {
            slot.watched = Some(version);
        }
    }

    fn saw_nothing(&mut self, name: &LeaseName, now: Mono) {
        let Some(slot) = self.slot(name) else {
            return;
        };
        let known = slot.seen.as_ref().map(|seen| &seen.record.version);
        if known == slot.watched.as_ref() {
            slot.vanish(now);
        } else {
            // What is known came later than what the watch showed: it may have been made since.
            slot.ask = Some(now);
        }
        self.prune(name);
    }

    /// Forgets the membership of another that is deleted.
    fn prune(&mut self, name: &LeaseName) {
        if let LeaseName::Replica(id) = name
            && let Some(slot) = self.others.get(id)
            && slot.gone
            && slot.flight.is_none()
        {
            self.others.remove(id);
        }
    }

    /// A request ended.
    pub fn answered(&mut self, name: &LeaseName, attempt: Attempt, answer: Answer, now: Mono) {
        let (retry, renew) = (now.after(self.terms.retry), now.after(self.terms.renew));
        let Some(slot) = self.slot(name) else {
            return;
        };
        let Some(flight) = slot.flight.take_if(|flight| flight.attempt == attempt) else {
            return;
        };
        // Else there has been news: the request was made for what no longer stands.
        let current = slot.version() == flight.base;
        match answer {
            Answer::Landed(_) if flight.purpose == Purpose::Delete => slot.vanish(now),
            Answer::Landed(record) => self.landed(name, &flight, record, now),
            Answer::Found(found) => {
                (slot.ask, slot.next) = (None, Some(retry));
                match found {
                    Some(record) => self.learn(name, record, now),
                    None if current && flight.base.is_some() => slot.vanish(now),
                    None => {}
                }
                if let Some(slot) = self.slot(name) {
                    slot.unresolved = None;
                }
            }
            Answer::Gone if current && flight.base.is_some() => slot.vanish(now),
            Answer::Conflict if !current => slot.next = Some(now),
            Answer::Conflict => {
                let urgent = slot.renewed.is_some() || slot.unresolved.is_some() || slot.phase != Phase::Idle;
                slot.ask = Some(if urgent { now } else { renew });
            }
            Answer::Unknown | Answer::Gone => slot.failed(&flight, current, retry),
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
        let round = self.round;
        let Some(slot) = self.slot(name) else {
            return;
        };
        if ours && !slot.gone && slot.version() == Some(version) {
            slot.hold(flight.started);
            // A round that began meanwhile still renews it.
            slot.next = (round > Some(flight.started)).then_some(now);
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
        let holder = record.holder.clone();
        if !self.slot(name).is_some_and(|slot| slot.learn(record, &me, now)) || holder.as_ref() == Some(&me) {
            return;
        }
        if self.slot(name).is_some_and(Slot::lose)
            && let LeaseName::Shard(shard) = name
        {
            self.out.push(Action::Drop(*shard));
        }
        if let Some(holder) = holder.filter(|holder| holder.replica == me.replica) {
            self.saw_other_process(name, holder);
        }
    }

    /// Another process of this replica is recorded: an older one, or one that took over from this.
    fn saw_other_process(&mut self, name: &LeaseName, other: Holder) {
        let joined = self.own.taken;
        let taken = self.slot(name).is_some_and(|slot| slot.taken);
        if !joined {
            self.older.insert(other.incarnation);
        } else if taken || !self.older.contains(&other.incarnation) {
            self.fatal.get_or_insert(Fatal::ForeignIncarnation(other.replica));
        }
    }
}

impl Slot {
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
