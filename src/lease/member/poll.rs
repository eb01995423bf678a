//! What comes out: each Lease is looked at in turn, the membership first.

use super::{
    Action, Assignment, Attempt, Flight, Grade, Holder, LeaseName, LeaseState, Member, Mono, Purpose,
    ReplicaId, ShardId, ShardPhase,
};
use crate::lease::assign::owners;

impl Member {
    /// What to do now. To be called after every input, and at [`Self::wake`].
    pub(crate) fn poll(&mut self, now: Mono) -> Vec<Action> {
        self.wake = None;
        if self.over {
            return Vec::new();
        }
        if let Some(fatal) = self.fatal.clone() {
            self.over = true;
            for lease in self.shards.iter_mut().chain([&mut self.own]) {
                lease.lose();
            }
            self.out.clear();
            return vec![Action::Stop(fatal)];
        }
        self.expire(now);
        if self.listed {
            self.begin_round(now);
            self.tend_membership(now);
            self.assign(now);
            self.turn(now);
            self.tend_shards(now);
            self.forget(now);
        }
        self.finish(now);
        std::mem::take(&mut self.out)
    }

    /// Gives up what has passed its deadline; without a membership, everything.
    fn expire(&mut self, now: Mono) {
        if self.own.overdue(&self.times, now) {
            self.own.lose();
        }
        self.wake = self.own.deadline(&self.times);
        let astray = self.drain.is_none() && self.own.renewed.is_none();
        for (shard, lease) in numbered(&mut self.shards) {
            if (astray || lease.overdue(&self.times, now)) && lease.lose() {
                self.out.push(Action::Drop(shard));
            }
            if let Some(deadline) = lease.deadline(&self.times) {
                due(&mut self.wake, deadline, now);
            }
        }
    }

    /// Lets every Lease that is held be renewed, once in a while.
    fn begin_round(&mut self, now: Mono) {
        if self.drain.is_none() {
            // Counted from when the membership was taken.
            self.round = self.own.renewed.and_then(|renewed| self.round.or(Some(renewed)));
        }
        let Some(last) = self.round else {
            return;
        };
        if due(&mut self.wake, last.after(self.times.renew), now) {
            self.round = Some(now);
            due(&mut self.wake, now.after(self.times.renew), now);
            if self.drain.is_none() {
                self.own.next = Some(now);
                self.gate = Some(now.after(self.times.retry));
            }
            for lease in self.shards.iter_mut().filter(|lease| lease.renewed.is_some()) {
                lease.next = Some(now);
            }
        }
    }

    fn tend_membership(&mut self, now: Mono) {
        let purpose = match self.own.grade(&self.me, &self.times, now) {
            Grade::Own if self.drain.is_some() => Some(Purpose::Release),
            _ if self.drain.is_some() => self.own.unresolved.map(|_| Purpose::Get),
            _ if self.own.renewed.is_some() => self.own.next.map(|_| Purpose::Hold),
            Grade::Live | Grade::Late => {
                // Under this replica's name, and not its own: nobody should.
                if let Some(expires) = self.own.expires(&self.times) {
                    due(&mut self.wake, expires, now);
                }
                None
            }
            _ => self.may_join().then_some(Purpose::Hold),
        };
        let name = LeaseName::Replica(self.me.replica.clone());
        let mut sender = Sender::new(&self.me, &mut self.attempts, &mut self.wake, now);
        self.out.extend(sender.send(name, &mut self.own, purpose, None));
    }

    /// Whether this process may be a member: one that takes over from an older process need not wait.
    fn may_join(&self) -> bool {
        let ours = |lease: &LeaseState| {
            lease
                .holder()
                .is_some_and(|holder| holder.replica == self.me.replica)
        };
        self.prepared || self.own.taken || self.shards.iter().any(|lease| ours(lease) && !lease.gone)
    }

    /// Computes who owns what, if what it depends on has changed.
    fn assign(&mut self, now: Mono) {
        if !self.member(now) {
            self.assignment = Assignment::default();
            return;
        }
        let members = self.members(now);
        let others = self.others.values().filter(|lease| !lease.gone);
        for lease in others.clone() {
            due(&mut self.wake, lease.since.after(self.times.lease), now);
        }
        for lease in others.chain(&self.shards) {
            if lease.renewed.is_none()
                && let Some(expires) = lease.expires(&self.times)
            {
                due(&mut self.wake, expires, now);
            }
        }
        let occupants: Vec<_> = self
            .shards
            .iter()
            .map(|lease| lease.occupant(&self.times, now).cloned())
            .collect();
        if members != self.assignment.members || occupants != self.assignment.occupants {
            let owners = owners(self.count, &members, |shard| {
                occupants[usize::from(shard.0)].as_ref()
            });
            self.assignment = Assignment {
                members,
                occupants,
                owners,
            };
        }
    }

    /// Whose a shard is to be: some only while this replica is a member.
    fn owner(&self, shard: ShardId) -> Option<bool> {
        let owner = self.assignment.owners.get(usize::from(shard.0))?.as_ref()?;
        Some(*owner == self.me.replica)
    }

    /// Starts what is held, ends what is another's.
    fn turn(&mut self, now: Mono) {
        for shard in self.count.all() {
            let mine = self.owner(shard);
            let anothers = mine == Some(false) || self.drain.is_some();
            let lease = &mut self.shards[usize::from(shard.0)];
            let recorded = lease.grade(&self.me, &self.times, now) == Grade::Own;
            match lease.phase {
                ShardPhase::Idle if mine == Some(true) && lease.renewed.is_some() => {
                    lease.phase = ShardPhase::Active;
                    self.out.push(Action::Start(shard));
                }
                ShardPhase::Idle if anothers && recorded => lease.phase = ShardPhase::Drained,
                ShardPhase::Active if anothers => {
                    lease.phase = ShardPhase::Draining;
                    self.out.push(Action::Drain(shard));
                }
                ShardPhase::Drained if !recorded => {
                    lease.lose();
                }
                _ => {}
            }
        }
    }

    fn tend_shards(&mut self, now: Mono) {
        let gate = self.gate.filter(|gate| now < *gate);
        let judge = self.first_judge(now);
        for shard in self.count.all() {
            let mine = self.owner(shard) == Some(true);
            let owner = self
                .assignment
                .owners
                .get(usize::from(shard.0))
                .and_then(Option::as_ref);
            let free = judge && owner.is_some_and(|owner| !self.judges(owner, now));
            let lease = &mut self.shards[usize::from(shard.0)];
            let purpose = match (lease.phase, lease.grade(&self.me, &self.times, now)) {
                (ShardPhase::Drained, _) => Some(Purpose::Release),
                (ShardPhase::Active | ShardPhase::Draining, _) => lease.next.map(|_| Purpose::Hold),
                (ShardPhase::Idle, Grade::Live | Grade::Late) => None,
                (ShardPhase::Idle, Grade::Foreign) if lease.held_by_one_of(&self.suspects) => None,
                (ShardPhase::Idle, _) if mine => Some(Purpose::Hold),
                (ShardPhase::Idle, Grade::Expired) if free => Some(Purpose::Release),
                (ShardPhase::Idle, _) => lease
                    .unresolved
                    .filter(|_| self.drain.is_some())
                    .map(|_| Purpose::Get),
            };
            let gate = gate.filter(|_| lease.renewed.is_some());
            let mut sender = Sender::new(&self.me, &mut self.attempts, &mut self.wake, now);
            self.out
                .extend(sender.send(LeaseName::Shard(shard), lease, purpose, gate));
        }
    }

    /// Whether a member has been one for so long that it can tell which Leases have expired.
    fn judges(&self, id: &ReplicaId, now: Mono) -> bool {
        // Who finds that a Lease has expired has proved it.
        let since = self.others.get(id).map(|lease| lease.since);
        since.is_none_or(|since| since.after(self.times.lease) <= now)
    }

    /// The first that judges frees what newcomers cannot tell to have expired.
    fn first_judge(&self, now: Mono) -> bool {
        let first = self.assignment.members.iter().find(|id| self.judges(id, now));
        first == Some(&self.me.replica)
    }

    /// Releases memberships that have expired, so that all agree on who is live, and deletes those that
    /// nobody will come back to.
    fn forget(&mut self, now: Mono) {
        let judge = self.first_judge(now);
        let first = self.assignment.members.first() == Some(&self.me.replica);
        for (id, lease) in &mut self.others {
            let Some(expires) = lease.expires(&self.times).filter(|_| !lease.gone) else {
                continue;
            };
            let (purpose, from) = match lease.grade(&self.me, &self.times, now) {
                Grade::Expired if judge => (Purpose::Release, expires),
                _ if first => (Purpose::Delete, expires.after(self.times.forget)),
                _ => continue,
            };
            let mut sender = Sender::new(&self.me, &mut self.attempts, &mut self.wake, now);
            let name = LeaseName::Replica(id.clone());
            self.out
                .extend(sender.send(name, lease, Some(purpose), Some(from)));
        }
    }

    /// Ends a drain when nothing is held, or when all that could be has expired.
    fn finish(&mut self, now: Mono) {
        let Some(since) = self.drain else {
            return;
        };
        let late = due(&mut self.wake, since.after(self.times.lease), now);
        let free = |lease: &LeaseState| {
            let recorded = !lease.gone && lease.holder() == Some(&self.me);
            lease.phase == ShardPhase::Idle
                && lease.flight.is_none()
                && lease.unresolved.is_none()
                && !recorded
        };
        if !late && !self.shards.iter().chain([&self.own]).all(free) {
            return;
        }
        if !late && !self.deleted && self.own.holder().is_none() && self.own.version().is_some() {
            self.deleted = true;
            let name = LeaseName::Replica(self.me.replica.clone());
            let mut sender = Sender::new(&self.me, &mut self.attempts, &mut self.wake, now);
            self.out
                .extend(sender.send(name, &mut self.own, Some(Purpose::Delete), None));
            return;
        }
        for (shard, lease) in numbered(&mut self.shards) {
            if lease.lose() {
                self.out.push(Action::Drop(shard));
            }
        }
        self.own.lose();
        self.over = true;
        self.wake = None;
        self.out.push(Action::Done);
    }
}

/// Where requests are made: what they need beside their Lease.
struct Sender<'a> {
    me: &'a Holder,
    attempts: &'a mut u64,
    wake: &'a mut Option<Mono>,
    now: Mono,
}

impl<'a> Sender<'a> {
    fn new(me: &'a Holder, attempts: &'a mut u64, wake: &'a mut Option<Mono>, now: Mono) -> Self {
        Self {
            me,
            attempts,
            wake,
            now,
        }
    }

    /// Makes a request if it is due and none is under way. A GET that is asked for comes first.
    fn send(
        &mut self,
        name: LeaseName,
        lease: &mut LeaseState,
        purpose: Option<Purpose>,
        from: Option<Mono>,
    ) -> Option<Action> {
        if lease.flight.is_some() {
            return None;
        }
        let (purpose, at) = match (lease.ask, purpose) {
            (Some(at), _) => (Purpose::Get, Some(at)),
            (None, purpose) => (purpose?, lease.next.max(from)),
        };
        if !at.is_none_or(|at| due(self.wake, at, self.now)) {
            return None;
        }
        *self.attempts += 1;
        let attempt = Attempt(*self.attempts);
        let version = lease.version();
        lease.flight = Some(Flight {
            attempt,
            purpose,
            started: self.now,
            base: version.clone(),
        });
        Some(match (purpose, version) {
            (Purpose::Get, _) => Action::Get { name, attempt },
            (Purpose::Delete, Some(version)) => Action::Delete {
                name,
                attempt,
                version,
            },
            (purpose, version) => Action::Put {
                name,
                attempt,
                version,
                holder: (purpose == Purpose::Hold).then(|| self.me.clone()),
            },
        })
    }
}

/// Whether a time has come; if not, it is one to wake at.
fn due(wake: &mut Option<Mono>, at: Mono, now: Mono) -> bool {
    if now < at {
        *wake = Some(wake.map_or(at, |wake| wake.min(at)));
    }
    now >= at
}

fn numbered(leases: &mut [LeaseState]) -> impl Iterator<Item = (ShardId, &mut LeaseState)> {
    (0..).map(ShardId).zip(leases)
}
