//! One member, driven by hand: replica `a`, incarnation `1`, four shards, the real times.

use std::{collections::BTreeMap, time::Duration};

use super::{super::*, world::describe};

/// The member, the time, and what it has asked for.
pub(super) struct Rig {
    pub(super) member: Member,
    millis: u64,
    version: u64,
    asked: BTreeMap<LeaseName, Action>,
}

pub(super) fn name(text: &str) -> LeaseName {
    match text.parse() {
        Ok(shard) => LeaseName::Shard(ShardId(shard)),
        Err(_) => LeaseName::Replica(text.into()),
    }
}

/// `a2` is the second process of replica `a`; nothing is nobody.
fn holder(text: &str) -> Option<Holder> {
    let (replica, incarnation) = text.split_at_checked(1)?;
    Some(Holder {
        replica: replica.into(),
        incarnation: incarnation.into(),
    })
}

impl Rig {
    /// Has heard nothing yet.
    pub(super) fn new() -> Self {
        let me = holder("a1").unwrap();
        Self {
            member: Member::new(me, ShardCount::try_from(4).unwrap(), LeaseTimes::default()),
            millis: 1_000_000,
            version: 100,
            asked: BTreeMap::new(),
        }
    }

    /// Alone, and the owner of all four shards. Its last round was now.
    pub(super) fn alone() -> Self {
        let mut rig = Self::new();
        rig.member.listed();
        rig.member.prepared();
        assert_eq!(rig.poll(), "create a");
        rig.land("a");
        assert_eq!(rig.poll(), "create 0, create 1, create 2, create 3");
        rig.land_all();
        assert_eq!(rig.poll(), "start 0, start 1, start 2, start 3");
        rig
    }

    pub(super) fn now(&self) -> Mono {
        Mono(Duration::from_millis(self.millis))
    }

    /// Time passes without a poll.
    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        self.millis += millis;
        self
    }

    pub(super) fn poll(&mut self) -> String {
        let actions = self.member.poll(self.now());
        let text: Vec<String> = actions.iter().map(describe).collect();
        for action in actions {
            if let Action::Put { name, .. } | Action::Get { name, .. } | Action::Delete { name, .. } = &action
            {
                self.asked.insert(name.clone(), action);
            }
        }
        text.join(", ")
    }

    /// Everything until time `millis` from now, polled only when it wants to be, every PUT landing at once.
    pub(super) fn run(&mut self, millis: u64) -> Vec<String> {
        let (from, end, mut log) = (self.millis, self.millis + millis, Vec::new());
        loop {
            let text = self.poll();
            if !text.is_empty() {
                log.push(format!("{:.1}: {text}", (self.millis - from) as f64 / 1000.0));
                self.land_all();
                continue;
            }
            let wake = self
                .member
                .wake()
                .map_or(u64::MAX, |wake| wake.0.as_millis() as u64);
            assert!(wake > self.millis, "wakes without an action");
            self.millis = wake.min(end);
            if self.millis == end {
                return log;
            }
        }
    }

    fn version(&mut self) -> Arc<str> {
        self.version += 1;
        self.version.to_string().into()
    }

    /// A new record.
    pub(super) fn record(&mut self, text: &str) -> Record {
        Record {
            version: self.version(),
            holder: holder(text),
            shards: None,
        }
    }

    /// The watch shows a new record.
    pub(super) fn saw(&mut self, lease: &str, text: &str) -> &mut Self {
        let record = self.record(text);
        self.member.saw(&name(lease), Some(record), self.now());
        self
    }

    /// The watch shows that a Lease is gone.
    pub(super) fn gone(&mut self, lease: &str) -> &mut Self {
        self.member.saw(&name(lease), None, self.now());
        self
    }

    /// The record that the request under way makes if it lands.
    pub(super) fn written(&mut self, lease: &str) -> Record {
        let version = self.version();
        let Action::Put { holder, .. } = &self.asked[&name(lease)] else {
            panic!("no PUT of {lease}");
        };
        Record {
            version,
            holder: holder.clone(),
            shards: Some(4),
        }
    }

    pub(super) fn asking(&self, lease: &str) -> bool {
        self.asked.contains_key(&name(lease))
    }

    /// The answer to what is under way.
    pub(super) fn answer(&mut self, lease: &str, answer: LeaseResult) -> &mut Self {
        let asked = self.asked.remove(&name(lease)).expect("a request");
        let (Action::Put { attempt, .. } | Action::Get { attempt, .. } | Action::Delete { attempt, .. }) =
            asked
        else {
            unreachable!("only requests are kept")
        };
        self.member.answered(&name(lease), attempt, answer, self.now());
        self
    }

    pub(super) fn land(&mut self, lease: &str) -> &mut Self {
        let record = match &self.asked[&name(lease)] {
            Action::Delete { version, .. } => Record {
                version: version.clone(),
                holder: None,
                shards: None,
            },
            _ => self.written(lease),
        };
        self.answer(lease, LeaseResult::Landed(record))
    }

    /// Everything under way lands.
    pub(super) fn land_all(&mut self) -> &mut Self {
        for lease in self.asked.keys().cloned().collect::<Vec<_>>() {
            let text = match lease {
                LeaseName::Replica(id) => id.to_string(),
                LeaseName::Shard(shard) => shard.to_string(),
            };
            self.land(&text);
        }
        self
    }

    /// How long a shard may still act, in milliseconds.
    pub(super) fn left(&self, shard: u16) -> Option<u128> {
        let deadline = self.member.deadline(ShardId(shard))?;
        Some(deadline.since(self.now()).as_millis())
    }

    pub(super) fn wake_in(&self) -> Option<u128> {
        Some(self.member.wake()?.since(self.now()).as_millis())
    }
}
