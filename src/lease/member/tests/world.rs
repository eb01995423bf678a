//! A small world for members: an API server that compares versions, clocks that differ, and what can go
//! wrong. Time passes in beats; in each, every replica sees, decides and is answered.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use super::super::*;

/// Times in units: a beat is two of them, or three on a fast clock, so that all that counts happens on
/// whole beats. `lease` / `deadline` is the ratio of the clocks.
pub(super) const TIMES: LeaseTimes = LeaseTimes {
    lease: units(12),
    renew: units(4),
    deadline: units(8),
    request: units(1),
    retry: units(1),
    forget: units(10_000),
};

/// Beats that are longer than a lease on any clock.
pub(super) const LONG: u8 = 7;

pub(super) const fn units(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One Lease on the server. Versions are counted over all Leases, as etcd does.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) version: u64,
    /// None: there is no such Lease.
    pub(super) record: Option<Option<Holder>>,
    /// What the holder's clock showed when it wrote.
    pub(super) written: Mono,
}

impl Entry {
    pub(super) fn record(&self) -> Option<Record> {
        self.record.as_ref().map(|holder| Record {
            version: self.version.to_string().into(),
            holder: holder.clone(),
            shards: None,
        })
    }

    /// A PUT: lands as version `next` if the version it names stands.
    fn put(
        &mut self,
        next: u64,
        version: Option<&str>,
        holder: Option<Holder>,
        written: Mono,
    ) -> LeaseResult {
        if !self.stands(version) {
            return match (version, &self.record) {
                (Some(_), None) => LeaseResult::Gone,
                _ => LeaseResult::Conflict,
            };
        }
        *self = Self {
            version: next,
            record: Some(holder),
            written,
        };
        LeaseResult::Landed(self.record().unwrap())
    }

    pub(super) fn stands(&self, version: Option<&str>) -> bool {
        match version {
            Some(version) => self.record.is_some() && version.parse() == Ok(self.version),
            None => self.record.is_none(),
        }
    }

    fn delete(&mut self, next: u64, version: &str) -> LeaseResult {
        let Some(record) = self.record().filter(|record| *record.version == *version) else {
            return LeaseResult::Conflict;
        };
        self.version = next;
        self.record = None;
        LeaseResult::Landed(record)
    }
}

/// What becomes of a replica's requests in the next beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Network {
    #[default]
    Well,
    /// They do not arrive.
    Cut,
    /// They arrive, and the answers are lost.
    Mute,
    /// The membership's answer is lost.
    MuteMembership,
    /// The first shard's answer is lost.
    MuteShard,
    /// The answers come a beat later.
    Late,
    /// The first request arrives whenever it likes.
    Slow,
}

/// A process, or the place where one was.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) member: Member,
    pub(super) up: bool,
    pub(super) paused: bool,
    /// Beats since it was paused, up to more than a lease.
    pub(super) asleep: u8,
    /// The watch shows nothing.
    pub(super) blind: bool,
    pub(super) leaving: bool,
    pub(super) network: Network,
    pub(super) ended: Option<Fatal>,
    /// Something has been heard since the last poll.
    heard: bool,
    /// Units in a beat.
    rate: u64,
    pub(super) now: Mono,
    pub(super) incarnation: u8,
    /// Versions that the watch has shown.
    pub(super) shown: Vec<u64>,
    /// Answers of the next beat.
    pub(super) answers: Vec<(LeaseName, Attempt, LeaseResult)>,
    pub(super) draining: BTreeSet<ShardId>,
}

/// A request on its way.
pub(super) type Late = (usize, usize, Option<Arc<str>>, Option<Holder>);

/// Replicas and their server.
#[derive(Clone)]
pub(super) struct World {
    pub(super) replicas: Vec<Rc<Replica>>,
    pub(super) server: Vec<Entry>,
    pub(super) late: Option<Late>,
    shards: ShardCount,
    times: LeaseTimes,
    pub(super) names: Arc<[LeaseName]>,
    /// Expiry is judged by the time written in the Lease.
    pub(super) by_written_time: bool,
    /// What the replicas do, if anybody wants to know.
    pub(super) log: Option<Vec<String>>,
}

impl World {
    /// Replicas that are about to start, with the units of a beat on their clocks and what those show.
    pub(super) fn new(shards: u16, times: LeaseTimes, clocks: &[(u64, u64)]) -> Self {
        let shards = ShardCount::try_from(shards).unwrap();
        let names = (0..clocks.len()).map(|at| LeaseName::Replica(id(at)));
        let mut world = Self {
            replicas: Vec::new(),
            server: vec![Entry::default(); clocks.len() + usize::from(shards.get())],
            late: None,
            shards,
            times,
            names: names.chain(shards.all().map(LeaseName::Shard)).collect(),
            by_written_time: false,
            log: None,
        };
        for &(rate, now) in clocks {
            let replica = Replica {
                member: Member::new(holder(world.replicas.len(), 0), shards, times),
                up: false,
                paused: false,
                asleep: 0,
                blind: false,
                leaving: false,
                network: Network::Well,
                ended: None,
                heard: true,
                rate,
                now: Mono(units(now)),
                incarnation: 0,
                shown: vec![0; world.server.len()],
                answers: Vec::new(),
                draining: BTreeSet::new(),
            };
            world.replicas.push(Rc::new(replica));
        }
        world
    }

    pub(super) fn replica(&mut self, at: usize) -> &mut Replica {
        Rc::make_mut(&mut self.replicas[at])
    }

    /// A new process in the place of a replica.
    pub(super) fn start(&mut self, at: usize) {
        let (shards, times, leases) = (self.shards, self.times, self.server.len());
        let replica = Rc::make_mut(&mut self.replicas[at]);
        replica.incarnation += 1;
        replica.member = Member::new(holder(at, replica.incarnation), shards, times);
        replica.shown = vec![0; leases];
        (replica.up, replica.paused, replica.blind, replica.leaving) = (true, false, false, false);
        (replica.network, replica.ended, replica.asleep) = (Network::Well, None, 0);
        replica.heard = true;
        replica.answers.clear();
        replica.draining.clear();
        self.see(at);
        self.replica(at).member.listed();
        self.replica(at).member.prepared();
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.replica(at).up = false;
    }

    pub(super) fn leave(&mut self, at: usize) {
        let replica = self.replica(at);
        (replica.leaving, replica.heard) = (true, true);
        replica.member.drain(replica.now);
    }

    fn next_version(&self) -> u64 {
        let versions = self.server.iter().map(|entry| entry.version);
        versions.max().unwrap_or_default() + 1
    }

    /// Lets the request that was slow arrive.
    pub(super) fn arrive(&mut self) {
        if let Some((at, lease, version, holder)) = self.late.take() {
            let (next, written) = (self.next_version(), self.replicas[at].now);
            self.server[lease].put(next, version.as_deref(), holder, written);
        }
    }

    /// Time passes.
    pub(super) fn beat(&mut self) {
        for at in 0..self.replicas.len() {
            let replica = self.replica(at);
            replica.now = replica.now.after(units(replica.rate));
            if !replica.up {
                continue;
            }
            replica.asleep = if replica.paused {
                LONG.min(replica.asleep + 1)
            } else {
                0
            };
            if replica.paused {
                continue;
            }
            replica.heard |= !replica.answers.is_empty() || !replica.draining.is_empty();
            for (name, attempt, answer) in std::mem::take(&mut replica.answers) {
                replica.member.answered(&name, attempt, answer, replica.now);
            }
            for shard in std::mem::take(&mut replica.draining) {
                replica.member.drained(shard);
            }
            if !replica.blind {
                self.see(at);
            }
            self.act(at);
            self.replica(at).network = Network::Well;
        }
    }

    fn see(&mut self, at: usize) {
        let replica = Rc::make_mut(&mut self.replicas[at]);
        for (lease, (entry, name)) in self.server.iter().zip(&*self.names).enumerate() {
            if replica.shown[lease] != entry.version {
                replica.shown[lease] = entry.version;
                replica.heard = true;
                replica.member.saw(name, entry.record(), replica.now);
            }
            if self.by_written_time
                && let Some(seen) = replica.member.lease(name).and_then(|lease| lease.seen.as_mut())
            {
                seen.changed = entry.written;
            }
        }
    }

    fn act(&mut self, at: usize) {
        loop {
            let replica = self.replica(at);
            let asleep = !replica.heard && replica.member.wake().is_none_or(|wake| replica.now < wake);
            let actions = replica.member.poll(replica.now);
            replica.heard = !actions.is_empty();
            if actions.is_empty() {
                break;
            }
            assert!(!asleep, "{actions:?} before the time to wake");
            for action in actions {
                self.carry_out(at, action);
            }
        }
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        if let Some(log) = &mut self.log {
            log.push(format!("{} {}", id(at), describe(&action)));
        }
        let (name, attempt) = match &action {
            Action::Put { name, attempt, .. }
            | Action::Get { name, attempt }
            | Action::Delete { name, attempt, .. } => (name.clone(), *attempt),
            Action::Drain(shard) => {
                self.replica(at).draining.insert(*shard);
                return;
            }
            Action::Stop(fatal) => {
                self.replica(at).ended = Some(fatal.clone());
                self.replica(at).up = false;
                return;
            }
            Action::Done => {
                self.replica(at).up = false;
                return;
            }
            Action::Start(_) | Action::Drop(_) => return,
        };
        let (lease, network) = (self.lease(&name), self.replicas[at].network);
        let next = self.next_version();
        let answer = match action {
            Action::Put { version, holder, .. } if network == Network::Slow && self.late.is_none() => {
                self.late = Some((at, lease, version, holder));
                LeaseResult::Unknown
            }
            _ if network == Network::Cut => LeaseResult::Unknown,
            Action::Put { version, holder, .. } => {
                let written = self.replicas[at].now;
                self.server[lease].put(next, version.as_deref(), holder, written)
            }
            Action::Delete { version, .. } => self.server[lease].delete(next, &version),
            _ => LeaseResult::Found(self.server[lease].record()),
        };
        let lost = match network {
            Network::Well | Network::Late => false,
            Network::Cut | Network::Mute => true,
            Network::MuteMembership => matches!(name, LeaseName::Replica(_)),
            Network::MuteShard => name == LeaseName::Shard(ShardId(0)),
            Network::Slow => answer == LeaseResult::Unknown,
        };
        let replica = self.replica(at);
        match (lost, network) {
            (true, _) => replica.answers.push((name, attempt, LeaseResult::Unknown)),
            (false, Network::Late) => replica.answers.push((name, attempt, answer)),
            (false, _) => replica.member.answered(&name, attempt, answer, replica.now),
        }
    }

    pub(super) fn lease(&self, name: &LeaseName) -> usize {
        match name {
            LeaseName::Shard(shard) => self.replicas.len() + usize::from(shard.0),
            replica => self.names.iter().position(|name| name == replica).unwrap(),
        }
    }

    /// The replicas that may decide for a shard now, as their own clocks say.
    pub(super) fn deciders(&self, shard: ShardId) -> Vec<usize> {
        let decides = |replica: &Rc<Replica>| {
            let deadline = replica.member.deadline(shard);
            replica.up && deadline.is_some_and(|deadline| replica.now < deadline)
        };
        (0..self.replicas.len())
            .filter(|at| decides(&self.replicas[*at]))
            .collect()
    }

    /// A shard with two deciders.
    pub(super) fn overlap(&self) -> Option<String> {
        let shard = self.shards.all().find(|shard| self.deciders(*shard).len() > 1)?;
        Some(format!(
            "shard {shard} has the deciders {:?}",
            self.deciders(shard)
        ))
    }

    /// What is not as it must be in the end, when nothing has happened for long.
    pub(super) fn unrest(&self) -> Option<String> {
        if self.replicas.iter().any(|replica| replica.blind) {
            return None;
        }
        let replicas = self.replicas.iter().enumerate();
        let live: Vec<usize> = replicas
            .filter(|(_, replica)| replica.up && !replica.paused && !replica.leaving)
            .map(|(at, _)| at)
            .collect();
        if self
            .replicas
            .iter()
            .any(|replica| replica.up && !replica.paused && replica.leaving)
        {
            return Some("a drain has no end".to_owned());
        }
        let mut loads = vec![0; live.len()];
        for shard in self.shards.all() {
            let owners: Vec<usize> = (0..live.len())
                .filter(|at| self.replicas[live[*at]].member.owns(shard))
                .collect();
            match owners[..] {
                [owner] => loads[owner] += 1,
                [] if live.is_empty() => {}
                _ => return Some(format!("shard {shard} has the owners {owners:?} of {live:?}")),
            }
        }
        let (least, most) = (loads.iter().min(), loads.iter().max());
        (least.zip(most).is_some_and(|(least, most)| most - least > 1)).then(|| format!("loads {loads:?}"))
    }
}

fn id(at: usize) -> ReplicaId {
    ["a", "b", "c", "d"][at].into()
}

fn holder(at: usize, incarnation: u8) -> Holder {
    Holder {
        replica: id(at),
        incarnation: incarnation.to_string().into(),
    }
}

pub(super) fn describe(action: &Action) -> String {
    let text = |name: &LeaseName| match name {
        LeaseName::Replica(id) => id.to_string(),
        LeaseName::Shard(shard) => shard.to_string(),
    };
    match action {
        Action::Put {
            name, holder: None, ..
        } => format!("release {}", text(name)),
        Action::Put {
            name, version: None, ..
        } => format!("create {}", text(name)),
        Action::Put { name, .. } => format!("put {}", text(name)),
        Action::Get { name, .. } => format!("get {}", text(name)),
        Action::Delete { name, .. } => format!("delete {}", text(name)),
        Action::Start(shard) => format!("start {shard}"),
        Action::Drain(shard) => format!("drain {shard}"),
        Action::Drop(shard) => format!("drop {shard}"),
        Action::Stop(fatal) => format!("stop {fatal}"),
        Action::Done => "done".to_owned(),
    }
}
