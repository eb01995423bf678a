//! A small world for members: an API server that compares versions, clocks that differ, and what can go
//! wrong. Time passes in beats; in each, every replica sees, decides and is answered.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::super::*;

/// Times in units: a beat is two of them, or three on a fast clock, so that all that counts happens on
/// whole beats. `lease` / `deadline` is the ratio of the clocks.
pub(super) const TERMS: Terms = Terms {
    lease: units(12),
    renew: units(4),
    deadline: units(8),
    request: units(1),
    retry: units(1),
    forget: units(10_000),
};

pub(super) const fn units(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One Lease on the server. Versions are counted for each by itself.
#[derive(Clone, Default)]
struct Entry {
    version: u64,
    /// None: there is no such Lease.
    record: Option<Option<Holder>>,
    /// What the holder's clock showed when it wrote.
    written: Mono,
}

impl Entry {
    fn record(&self) -> Option<Record> {
        self.record.as_ref().map(|holder| Record {
            version: self.version.to_string().into(),
            holder: holder.clone(),
            shards: None,
        })
    }

    /// A PUT: lands if the version stands.
    fn put(&mut self, version: Option<&str>, holder: Option<Holder>, written: Mono) -> Answer {
        let stands = match version {
            Some(version) => self.record.is_some() && version == self.version.to_string(),
            None => self.record.is_none(),
        };
        if !stands {
            return match (version, &self.record) {
                (Some(_), None) => Answer::Gone,
                _ => Answer::Conflict,
            };
        }
        *self = Self {
            version: self.version + 1,
            record: Some(holder),
            written,
        };
        Answer::Landed(self.record().unwrap())
    }

    fn delete(&mut self, version: &str) -> Answer {
        let Some(record) = self.record().filter(|record| *record.version == *version) else {
            return Answer::Conflict;
        };
        self.version += 1;
        self.record = None;
        Answer::Landed(record)
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
    /// The first request arrives whenever it likes.
    Slow,
}

/// A process, or the place where one was.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) member: Member,
    pub(super) up: bool,
    pub(super) paused: bool,
    /// The watch shows nothing.
    pub(super) blind: bool,
    pub(super) leaving: bool,
    pub(super) network: Network,
    pub(super) ended: Option<Fatal>,
    /// Units in a beat.
    rate: u64,
    now: Mono,
    incarnation: u8,
    /// Versions that the watch has shown.
    shown: Vec<u64>,
    /// Requests that will not be answered.
    lost: Vec<(LeaseName, Attempt)>,
    draining: BTreeSet<ShardId>,
    log: Vec<String>,
}

/// A request on its way.
type Late = (usize, usize, Option<Arc<str>>, Option<Holder>);

/// Replicas and their server.
#[derive(Clone)]
pub(super) struct World {
    pub(super) replicas: Vec<Replica>,
    server: Vec<Entry>,
    pub(super) late: Option<Late>,
    shards: ShardCount,
    terms: Terms,
    /// Expiry is judged by the time written in the Lease.
    pub(super) by_written_time: bool,
}

impl World {
    /// Replicas that are about to start, with the units of a beat on their clocks and what those show.
    pub(super) fn new(shards: u16, terms: Terms, clocks: &[(u64, u64)]) -> Self {
        let shards = ShardCount::try_from(shards).unwrap();
        let mut world = Self {
            replicas: Vec::new(),
            server: vec![Entry::default(); clocks.len() + usize::from(shards.get())],
            late: None,
            shards,
            terms,
            by_written_time: false,
        };
        for &(rate, now) in clocks {
            let replica = Replica {
                member: Member::new(holder(world.replicas.len(), 0), shards, terms),
                up: false,
                paused: false,
                blind: false,
                leaving: false,
                network: Network::Well,
                ended: None,
                rate,
                now: Mono(units(now)),
                incarnation: 0,
                shown: vec![0; world.server.len()],
                lost: Vec::new(),
                draining: BTreeSet::new(),
                log: Vec::new(),
            };
            world.replicas.push(replica);
        }
        world
    }

    /// A new process in the place of a replica.
    pub(super) fn start(&mut self, at: usize) {
        let (shards, terms, leases) = (self.shards, self.terms, self.server.len());
        let replica = &mut self.replicas[at];
        replica.incarnation += 1;
        replica.member = Member::new(holder(at, replica.incarnation), shards, terms);
        replica.shown = vec![0; leases];
        (replica.up, replica.paused, replica.blind, replica.leaving) = (true, false, false, false);
        (replica.network, replica.ended) = (Network::Well, None);
        replica.lost.clear();
        replica.draining.clear();
        self.see(at);
        self.replicas[at].member.listed();
        self.replicas[at].member.prepared();
    }

    pub(super) fn crash(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.member = Member::new(holder(at, replica.incarnation), self.shards, self.terms);
        replica.up = false;
        replica.blind = false;
        replica.paused = false;
        replica.lost.clear();
        replica.draining.clear();
    }

    pub(super) fn leave(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.leaving = true;
        replica.member.drain(replica.now);
    }

    /// Lets the request that was slow arrive.
    pub(super) fn arrive(&mut self) {
        if let Some((at, lease, version, holder)) = self.late.take() {
            let written = self.replicas[at].now;
            self.server[lease].put(version.as_deref(), holder, written);
        }
    }

    /// Time passes.
    pub(super) fn beat(&mut self) {
        for at in 0..self.replicas.len() {
            let replica = &mut self.replicas[at];
            replica.now = replica.now.after(units(replica.rate));
            if !replica.up || replica.paused {
                continue;
            }
            for (name, attempt) in std::mem::take(&mut replica.lost) {
                replica
                    .member
                    .answered(&name, attempt, Answer::Unknown, replica.now);
            }
            for shard in std::mem::take(&mut replica.draining) {
                replica.member.drained(shard);
            }
            if !replica.blind {
                self.see(at);
            }
            self.act(at);
            self.replicas[at].network = Network::Well;
        }
    }

    fn see(&mut self, at: usize) {
        for lease in 0..self.server.len() {
            let (entry, name) = (&self.server[lease], self.name(lease));
            let replica = &mut self.replicas[at];
            if replica.shown[lease] != entry.version {
                replica.shown[lease] = entry.version;
                replica.member.saw(&name, entry.record(), replica.now);
            }
            if self.by_written_time
                && let Some(seen) = replica.member.slot(&name).and_then(|slot| slot.seen.as_mut())
            {
                seen.changed = entry.written;
            }
        }
    }

    fn act(&mut self, at: usize) {
        loop {
            let replica = &mut self.replicas[at];
            let actions = replica.member.poll(replica.now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.carry_out(at, action);
            }
        }
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        self.replicas[at].log.push(describe(&action));
        let (name, attempt) = match &action {
            Action::Put { name, attempt, .. }
            | Action::Get { name, attempt }
            | Action::Delete { name, attempt, .. } => (name.clone(), *attempt),
            Action::Drain(shard) => {
                self.replicas[at].draining.insert(*shard);
                return;
            }
            Action::Stop(fatal) => {
                self.replicas[at].ended = Some(fatal.clone());
                self.replicas[at].up = false;
                return;
            }
            Action::Done => {
                self.replicas[at].up = false;
                return;
            }
            Action::Start(_) | Action::Drop(_) => return,
        };
        let (lease, network) = (self.lease(&name), self.replicas[at].network);
        let answer = match action {
            Action::Put { version, holder, .. } if network == Network::Slow && self.late.is_none() => {
                self.late = Some((at, lease, version, holder));
                Answer::Unknown
            }
            _ if network == Network::Cut => Answer::Unknown,
            Action::Put { version, holder, .. } => {
                let written = self.replicas[at].now;
                self.server[lease].put(version.as_deref(), holder, written)
            }
            Action::Delete { version, .. } => self.server[lease].delete(&version),
            _ => Answer::Found(self.server[lease].record()),
        };
        let lost = match network {
            Network::Well => false,
            Network::Cut | Network::Mute => true,
            Network::MuteMembership => matches!(name, LeaseName::Replica(_)),
            Network::MuteShard => name == LeaseName::Shard(ShardId(0)),
            Network::Slow => answer == Answer::Unknown,
        };
        let replica = &mut self.replicas[at];
        match lost {
            true => replica.lost.push((name, attempt)),
            false => replica.member.answered(&name, attempt, answer, replica.now),
        }
    }

    fn name(&self, lease: usize) -> LeaseName {
        match lease.checked_sub(self.replicas.len()) {
            None => LeaseName::Replica(id(lease)),
            Some(shard) => LeaseName::Shard(ShardId(u16::try_from(shard).unwrap())),
        }
    }

    fn lease(&self, name: &LeaseName) -> usize {
        (0..self.server.len())
            .find(|lease| self.name(*lease) == *name)
            .unwrap()
    }

    /// The replicas that may decide for a shard now, as their own clocks say.
    pub(super) fn deciders(&self, shard: ShardId) -> Vec<usize> {
        let decides = |replica: &Replica| {
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

    /// What is wrong in the end, when nothing has happened for long.
    pub(super) fn unrest(&self) -> Option<String> {
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

    /// What each replica has done since last asked.
    pub(super) fn log(&mut self) -> Vec<String> {
        let logs = self.replicas.iter_mut().enumerate();
        logs.flat_map(|(at, replica)| {
            let name = id(at);
            replica.log.drain(..).map(move |line| format!("{name} {line}"))
        })
        .collect()
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

fn describe(action: &Action) -> String {
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

/// How far back or ahead a time is told from others: further than any term.
const HORIZON: i64 = 14;

/// Two worlds with the same fingerprint go on alike: times count from now, versions back from the
/// server's, and requests by their Lease.
impl World {
    pub(super) fn fingerprint(&self) -> u64 {
        let hasher = &mut DefaultHasher::new();
        for (lease, entry) in self.server.iter().enumerate() {
            (&entry.record, entry.version == 0).hash(hasher);
            if self.by_written_time {
                entry.written.hash(hasher);
            }
            for replica in &self.replicas {
                (entry.version - replica.shown[lease]).min(9).hash(hasher);
            }
        }
        if let Some((at, lease, version, holder)) = &self.late {
            (at, lease, holder, self.behind(*lease, version.as_deref())).hash(hasher);
        }
        for replica in &self.replicas {
            let flags = (replica.up, replica.paused, replica.blind, replica.leaving);
            (
                flags,
                replica.network,
                replica.incarnation,
                replica.ended.is_some(),
            )
                .hash(hasher);
            if self.by_written_time {
                replica.now.hash(hasher);
            }
            replica.draining.hash(hasher);
            replica.lost.len().hash(hasher);
            for (name, _) in &replica.lost {
                name.hash(hasher);
            }
            self.hash_member(replica, hasher);
        }
        hasher.finish()
    }

    fn hash_member(&self, replica: &Replica, hasher: &mut impl Hasher) {
        let member = &replica.member;
        let at = |time: Option<Mono>| time.map(|time| from(replica.now, time));
        assert!(member.out.is_empty());
        (
            member.listed,
            member.prepared,
            member.deleted,
            member.over,
            &member.older,
        )
            .hash(hasher);
        (
            at(member.round),
            at(member.gate),
            at(member.drain),
            member.fatal.is_some(),
        )
            .hash(hasher);
        let named = |(id, slot)| (LeaseName::Replica(ReplicaId::clone(id)), slot);
        let own = (LeaseName::Replica(member.me.replica.clone()), &member.own);
        let shards = (0..)
            .map(|shard| LeaseName::Shard(ShardId(shard)))
            .zip(&member.shards);
        for (name, slot) in member.others.iter().map(named).chain([own]).chain(shards) {
            let lease = self.lease(&name);
            let behind = |version: Option<&Arc<str>>| self.behind(lease, version.map(|version| &**version));
            lease.hash(hasher);
            if let Some(seen) = &slot.seen {
                (&seen.record.holder, behind(Some(&seen.record.version))).hash(hasher);
                from(replica.now, seen.changed).hash(hasher);
            }
            (slot.gone, behind(slot.watched.as_ref()), slot.taken, slot.phase).hash(hasher);
            (at(slot.unresolved), at(slot.renewed), at(slot.next), at(slot.ask)).hash(hasher);
            if let Some(flight) = &slot.flight {
                (
                    flight.purpose,
                    from(replica.now, flight.started),
                    behind(flight.base.as_ref()),
                )
                    .hash(hasher);
            }
        }
    }

    fn behind(&self, lease: usize, version: Option<&str>) -> Option<u64> {
        let version: u64 = version?.parse().unwrap();
        Some((self.server[lease].version - version).min(9))
    }
}

fn from(now: Mono, time: Mono) -> i64 {
    let units = |time: Mono| i64::try_from(time.0.as_secs()).unwrap();
    (units(time) - units(now)).clamp(-HORIZON, HORIZON)
}
