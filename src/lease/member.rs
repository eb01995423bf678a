//! The membership of one replica and its hold on shards: what to write to which Lease, and when.
//!
//! What the watch shows, what requests are answered and what the time is goes in; requests and the
//! start and end of shards come out. It promises that a shard is held by one replica at a time as long
//! as no clock runs `lease / deadline` times as fast as another. It reads no clock and waits for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::state::{Flight, LeaseState, Purpose, ShardPhase};
use super::record::{Grade, Holder, LeaseName, LeaseTimes, Record, ReplicaId, Seen};
use crate::domain::values::shard::{ShardCount, ShardId};
use crate::domain::values::time::Mono;

mod input;
mod poll;
mod state;

/// Number of a request, never used twice by one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt(pub(crate) u64);

/// What to do. Every request is answered once, by [`Member::answered`], within [`LeaseTimes::request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Writes a Lease.
    Put {
        name: LeaseName,
        /// Number of the request.
        attempt: Attempt,
        /// The version that must still stand; none to create.
        version: Option<Arc<str>>,
        /// Who holds it from then on; none to release it.
        holder: Option<Holder>,
    },
    /// Reads a Lease as it is now.
    Get {
        name: LeaseName,
        /// Number of the request.
        attempt: Attempt,
    },
    /// Deletes a membership: the own at the end of a drain, or one that expired long ago.
    Delete {
        name: LeaseName,
        /// Number of the request.
        attempt: Attempt,
        /// The version that must still stand.
        version: Arc<str>,
    },
    /// The shard is held: it may decide, until [`Member::deadline`].
    Start(ShardId),
    /// No new writes of this shard; [`Member::drained`] once those in flight have ended.
    Drain(ShardId),
    /// The shard is no longer held: stop it at once.
    Drop(ShardId),
    /// Nothing may be written any more: end the process.
    Stop(Fatal),
    /// The drain is over: nothing is held.
    Done,
}

/// Why a process must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Exit 2.
    #[error("another process of replica {0} has taken over its Leases")]
    ForeignIncarnation(ReplicaId),
    /// Exit 1.
    #[error("the installation has {recorded} shards, and this replica was started with {own}")]
    ShardCount {
        /// The number on the Leases.
        recorded: u16,
        /// The number this replica was started with.
        own: u16,
    },
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseResult {
    /// The PUT landed, and this is the Lease now; for a DELETE the Lease as it was.
    Landed(Record),
    /// 409 or 412: another version stands, or what was to be created exists.
    Conflict,
    Gone,
    /// The answer to a GET; none for 404.
    Found(Option<Record>),
    /// It may have landed or not: a time-out, a lost reply, 5xx. 429 too.
    Unknown,
}

impl LeaseResult {
    /// For metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Landed(_) => "landed",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Found(_) => "found",
            Self::Unknown => "unknown",
        }
    }
}

/// One replica among the others.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    times: LeaseTimes,
    me: Holder,
    count: ShardCount,
    listed: bool,
    prepared: bool,
    own: LeaseState,
    others: BTreeMap<ReplicaId, LeaseState>,
    shards: Vec<LeaseState>,
    /// Incarnations of this replica that were there before this process joined.
    older: BTreeSet<Arc<str>>,
    /// Others that shards showed since, each with the version of the newest such record.
    suspects: BTreeMap<Arc<str>, Arc<str>>,
    attempts: u64,
    /// Start of the last renewal round.
    round: Option<Mono>,
    /// Renewals and releases of shards wait for the membership's answer until then.
    gate: Option<Mono>,
    drain: Option<Mono>,
    /// The own membership has been deleted, or that was tried.
    deleted: bool,
    fatal: Option<Fatal>,
    over: bool,
    assignment: Assignment,
    out: Vec<Action>,
    wake: Option<Mono>,
}

/// The last assignment, and what it was computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Assignment {
    members: Vec<ReplicaId>,
    occupants: Vec<Option<ReplicaId>>,
    owners: Vec<Option<ReplicaId>>,
}

impl Member {
    /// A replica that knows nothing yet and holds nothing.
    pub(crate) fn new(me: Holder, count: ShardCount, times: LeaseTimes) -> Self {
        Self {
            times,
            me,
            count,
            listed: false,
            prepared: false,
            own: LeaseState::default(),
            others: BTreeMap::new(),
            shards: vec![LeaseState::default(); usize::from(count.get())],
            older: BTreeSet::new(),
            suspects: BTreeMap::new(),
            attempts: 0,
            round: None,
            gate: None,
            drain: None,
            deleted: false,
            fatal: None,
            over: false,
            assignment: Assignment::default(),
            out: Vec::new(),
            wake: None,
        }
    }

    /// All Leases have been listed once: before that nothing is taken.
    pub(crate) fn listed(&mut self) {
        self.listed = true;
    }

    /// Nodes and Orders have been listed once: before that a newcomer does not join.
    ///
    /// A process that finds shard Leases of its own replica does not wait for it.
    pub(crate) fn prepared(&mut self) {
        self.prepared = true;
    }

    /// The last write of a draining shard has ended.
    pub(crate) fn drained(&mut self, shard: ShardId) {
        if let Some(lease) = self.shards.get_mut(usize::from(shard.0))
            && lease.phase == ShardPhase::Draining
        {
            lease.phase = ShardPhase::Drained;
            lease.next = None;
        }
    }

    /// SIGTERM: gives up the membership, then every shard as soon as it is drained.
    pub(crate) fn drain(&mut self, now: Mono) {
        if self.drain.is_none() {
            self.drain = Some(now);
            self.own.next = None;
            self.gate = self.own.renewed.map(|_| now.after(self.times.retry));
        }
    }

    /// When [`Self::poll`] has something to do if nothing is heard before. True since the last poll.
    pub(crate) fn wake(&self) -> Option<Mono> {
        self.wake
    }

    /// Until when a shard may act: nothing is decided at or after this time. None if it is not held.
    ///
    /// It is still held while it drains.
    pub(crate) fn deadline(&self, shard: ShardId) -> Option<Mono> {
        let lease = self.shards.get(usize::from(shard.0))?;
        if !matches!(lease.phase, ShardPhase::Active | ShardPhase::Draining) {
            return None;
        }
        let shard = lease.deadline(&self.times)?;
        match self.drain {
            Some(_) => Some(shard),
            None => Some(shard.min(self.own.deadline(&self.times)?)),
        }
    }

    /// Until when this replica is a member; none if it is not.
    pub(crate) fn until(&self) -> Option<Mono> {
        self.own.deadline(&self.times).filter(|_| self.drain.is_none())
    }

    /// Whether a shard has been started and not been told to end. Its [`Self::deadline`] may have passed.
    #[cfg(test)]
    pub(crate) fn owns(&self, shard: ShardId) -> bool {
        let lease = self.shards.get(usize::from(shard.0));
        lease.is_some_and(|lease| lease.phase == ShardPhase::Active)
    }

    /// Whether this replica is a member: it holds its own Lease and does not drain.
    pub(crate) fn member(&self, now: Mono) -> bool {
        self.drain.is_none() && self.own.renewed.is_some() && !self.own.overdue(&self.times, now)
    }

    /// The live members, sorted.
    pub(crate) fn members(&self, now: Mono) -> Vec<ReplicaId> {
        let live = |id: &ReplicaId, lease: &LeaseState| {
            let held = lease.holder().is_some_and(|holder| holder.replica == *id);
            let grade = lease.grade(&self.me, &self.times, now);
            held && !lease.gone && matches!(grade, Grade::Live | Grade::Late)
        };
        let others = self.others.iter().filter(|(id, lease)| live(id, lease));
        let mut members: Vec<ReplicaId> = others.map(|(id, _)| id.clone()).collect();
        if self.member(now) {
            let at = members.partition_point(|id| *id < self.me.replica);
            members.insert(at, self.me.replica.clone());
        }
        members
    }

    /// Who is recorded as the holder of a shard, and what that is worth.
    #[cfg(test)]
    pub(crate) fn holder(&self, shard: ShardId, now: Mono) -> (Option<&ReplicaId>, Grade) {
        match self.shards.get(usize::from(shard.0)) {
            Some(lease) => (
                lease.holder().map(|holder| &holder.replica),
                lease.grade(&self.me, &self.times, now),
            ),
            None => (None, Grade::Free),
        }
    }

    fn lease(&mut self, name: &LeaseName) -> Option<&mut LeaseState> {
        match name {
            LeaseName::Replica(id) if *id == self.me.replica => Some(&mut self.own),
            LeaseName::Replica(id) => self.others.get_mut(id),
            LeaseName::Shard(shard) => self.shards.get_mut(usize::from(shard.0)),
        }
    }
}

#[cfg(test)]
mod tests;
