//! What a replica knows of one Lease: the newest record, the request under way, and what it holds.
//!
//! A record counts only if it is newer than the one known, whichever way it came. Nothing here decides
//! what to do.

use std::{collections::BTreeMap, sync::Arc};

use super::{Attempt, Seen};
use crate::{
    domain::values::time::Mono,
    lease::record::{Grade, Holder, LeaseTimes, Record, ReplicaId, grade},
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// To hold the Lease, or go on holding it.
    Hold,
    Release,
    Delete,
    Get,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    pub(super) purpose: Purpose,
    pub(super) started: Mono,
    /// The version it was made for.
    pub(super) base: Option<Arc<str>>,
}

/// Where a shard is in the hands of this replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum ShardPhase {
    #[default]
    Idle,
    /// Started: the shard decides.
    Active,
    /// No new writes; those in flight are awaited.
    Draining,
    /// To be released.
    Drained,
}

/// One Lease.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseState {
    /// The newest record, also after its deletion.
    pub(super) seen: Option<Seen>,
    /// Since when the recorded holder has been.
    pub(super) since: Mono,
    /// It has been deleted since.
    pub(super) gone: bool,
    /// The version that the watch showed last.
    pub(super) watched: Option<Arc<str>>,
    pub(super) flight: Option<Flight>,
    /// Start of the earliest PUT to hold it of which nobody knows whether it landed.
    pub(super) unresolved: Option<Mono>,
    /// Start of the last PUT that landed; none while the Lease is not held.
    pub(super) renewed: Option<Mono>,
    /// This process has held it.
    pub(super) taken: bool,
    /// When the next PUT is due. None: at the next round if held, else at once.
    pub(super) next: Option<Mono>,
    /// What is known is behind: nothing is put before a GET, due at this time, or news.
    pub(super) ask: Option<Mono>,
    pub(super) phase: ShardPhase,
}

impl LeaseState {
    /// The version that a PUT has to name, none to create.
    pub(super) fn version(&self) -> Option<Arc<str>> {
        let seen = self.seen.as_ref().filter(|_| !self.gone)?;
        Some(seen.record.version.clone())
    }

    /// The recorded holder, also an expired one.
    pub(super) fn holder(&self) -> Option<&Holder> {
        self.seen.as_ref()?.record.holder.as_ref()
    }

    /// Whether one of these processes is recorded.
    pub(super) fn held_by_one_of(&self, incarnations: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        let holder = self.holder();
        holder.is_some_and(|holder| incarnations.contains_key(&holder.incarnation))
    }

    /// The grade of the Lease. A deleted one is another's until it would have expired.
    pub(super) fn grade(&self, me: &Holder, times: &LeaseTimes, now: Mono) -> Grade {
        match grade(self.seen.as_ref(), me, times, now) {
            grade @ (Grade::Live | Grade::Late) => grade,
            _ if self.gone => Grade::Free,
            grade => grade,
        }
    }

    /// When the recorded holder expires.
    pub(super) fn expires(&self, times: &LeaseTimes) -> Option<Mono> {
        Some(self.seen.as_ref()?.changed.after(times.lease))
    }

    /// The recorded replica, unless it has expired.
    pub(super) fn occupant(&self, times: &LeaseTimes, now: Mono) -> Option<&ReplicaId> {
        let fresh = self.renewed.is_some() || self.expires(times).is_some_and(|at| now < at);
        self.holder().filter(|_| fresh).map(|holder| &holder.replica)
    }

    /// Takes a record; false if it is not newer than the one known.
    ///
    /// Every PUT made for an older version is settled by a newer record: if it shows this process, one of
    /// them landed, and counts from the start of the earliest; else none can land any more.
    pub(super) fn learn(&mut self, record: Record, me: &Holder, now: Mono) -> bool {
        if let Some(seen) = &self.seen
            && !record.newer_than(&seen.record.version)
        {
            return false;
        }
        if record.holder.as_ref() == Some(me) {
            let flying = self
                .flight
                .as_ref()
                .filter(|flight| flight.purpose == Purpose::Hold);
            let earliest = flying
                .map(|flight| flight.started)
                .into_iter()
                .chain(self.unresolved)
                .min();
            if let Some(started) = earliest {
                self.hold(started);
            }
        }
        if self.holder() != record.holder.as_ref() {
            self.since = now;
        }
        self.unresolved = None;
        self.ask = None;
        self.next = None;
        self.gone = false;
        self.seen = Some(Seen { record, changed: now });
        true
    }

    /// Counts a PUT that landed.
    pub(super) fn hold(&mut self, started: Mono) {
        self.renewed = self.renewed.max(Some(started));
        self.taken = true;
    }

    /// Takes note that the Lease has been deleted.
    pub(super) fn vanish(&mut self, now: Mono) {
        self.gone = true;
        self.ask = None;
        self.next = self.renewed.map(|_| now);
    }

    /// No longer holds the Lease; true if a shard has to stop for it.
    pub(super) fn lose(&mut self) -> bool {
        self.renewed = None;
        let running = matches!(self.phase, ShardPhase::Active | ShardPhase::Draining);
        self.phase = ShardPhase::Idle;
        running
    }

    /// Whether the own deadline of what is held has passed.
    pub(super) fn overdue(&self, times: &LeaseTimes, now: Mono) -> bool {
        self.deadline(times).is_some_and(|deadline| deadline <= now)
    }

    /// Until when the Lease is held.
    pub(super) fn deadline(&self, times: &LeaseTimes) -> Option<Mono> {
        self.renewed.map(|renewed| renewed.after(times.deadline))
    }
}
