//! What the audit log proves of held rooms: how many Tickets were ever without the Guardian they had, and
//! which Pods took a room.
//!
//! A Guardian counts from when its binding had been answered until its deletion arrived, so that what is
//! found is never less than what was true at any revision.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use libtest_mimic::Trial;
use testbed::real::{AuditEntry, Mark};

use super::world::Ground;
use crate::harness::fast;

/// What was seen of the Pods of a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rooms {
    /// Bound Guardians by their Ticket, of every Ticket that ever had one.
    pub bound: BTreeMap<String, BTreeSet<String>>,
    /// The most Tickets at a time that had one and had none any more.
    pub worst: usize,
    /// Bound Pods that are no Guardians.
    pub others: BTreeSet<String>,
}

impl Rooms {
    /// Reads what became of the trial's Pods since `mark`.
    pub(crate) async fn read(ground: &Ground<'_>, mark: Mark) -> Result<Self> {
        let audit = ground.audit();
        audit.settled_mark().await?;
        let mut entries = audit.writes_of(mark, "pods")?;
        entries.retain(|entry| entry.namespace == ground.id);
        Ok(Self::of(&entries))
    }

    fn of(entries: &[AuditEntry]) -> Self {
        let mut changes: Vec<(Timestamp, Change, &str)> = entries
            .iter()
            .filter_map(|entry| {
                let change = Change::of(entry)?;
                let at = match change {
                    Change::Removed => entry.received,
                    Change::Bound => entry.completed,
                };
                Some((at, change, entry.name.as_str()))
            })
            .collect();
        changes.sort_unstable();
        let mut rooms = Self::default();
        for (_, change, pod) in changes {
            rooms.see(change, pod);
        }
        rooms
    }

    fn see(&mut self, change: Change, pod: &str) {
        let Some(ticket) = pod.strip_prefix("guardian-") else {
            if change == Change::Bound {
                self.others.insert(pod.to_owned());
            }
            return;
        };
        let ticket = ticket.strip_suffix("-1").unwrap_or(ticket);
        match change {
            Change::Bound => {
                let own = self.bound.entry(ticket.to_owned()).or_default();
                own.insert(pod.to_owned());
            }
            Change::Removed => {
                if let Some(own) = self.bound.get_mut(ticket) {
                    own.remove(pod);
                }
            }
        }
        let without = self.bound.values().filter(|own| own.is_empty()).count();
        self.worst = self.worst.max(without);
    }

    /// How many Tickets have a bound Guardian at the end.
    pub(crate) fn held(&self) -> usize {
        self.bound.values().filter(|own| !own.is_empty()).count()
    }
}

/// At one moment all removals come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Removed,
    Bound,
}

impl Change {
    fn of(entry: &AuditEntry) -> Option<Self> {
        let landed = (200..300).contains(&entry.code);
        // What was not answered, or too late, may have landed.
        let maybe = landed || entry.code == 0 || entry.code >= 499;
        match (entry.verb.as_str(), entry.subresource.as_str()) {
            ("create", "binding") if landed => Some(Self::Bound),
            ("delete", "") | ("create", "eviction") if maybe => Some(Self::Removed),
            _ => None,
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fast("rooms", "pairs_without_a_guardian_at_a_time_are_counted", || {
            let bound = |n: i64, pod| entry("create", "binding", pod, n, 201);
            let gone = |n: i64, pod| entry("delete", "", pod, n, 200);
            let calm = [
                bound(1, "guardian-a"),
                bound(1, "guardian-b"),
                gone(3, "guardian-a"),
                bound(4, "guardian-a-1"),
            ];
            let worst = |more: &[AuditEntry]| {
                let rooms = Rooms::of(&[&calm, more].concat());
                (rooms.worst, rooms.held())
            };
            assert_eq!(worst(&[]), (1, 2));
            assert_eq!(worst(&[gone(6, "guardian-b"), bound(7, "guardian-b-1")]), (1, 2));
            // Before the other's binding was answered.
            assert_eq!(worst(&[gone(4, "guardian-b")]), (2, 1));
            assert_eq!(worst(&[entry("delete", "", "guardian-b", 4, 409)]), (1, 2));
            assert_eq!(worst(&[entry("delete", "", "guardian-b", 4, 504)]), (2, 1));
            assert_eq!(
                worst(&[entry("create", "eviction", "guardian-b", 4, 201)]),
                (2, 1)
            );
            Ok(())
        }),
        fast("rooms", "a_pod_that_took_a_room_is_found", || {
            let others = |code| Rooms::of(&[entry("create", "binding", "thief-1", 1, code)]).others;
            assert_eq!(others(201), ["thief-1".to_owned()].into());
            assert_eq!(others(409), BTreeSet::new());
            Ok(())
        }),
    ]
}

/// A request that took a tenth of a second.
fn entry(verb: &str, subresource: &str, name: &str, at: i64, code: u16) -> AuditEntry {
    AuditEntry {
        resource: "pods".to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        code,
        ..super::history::request(verb, at, serde_json::Value::Null)
    }
}
