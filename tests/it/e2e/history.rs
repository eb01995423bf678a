//! What the audit log proves of a time with several replicas: when each Ticket was open, and what was written
//! after another replica had the shard. The log holds the bodies of all writes of Tickets, whoever sent them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use korder::api::{Ticket, ticket::Phase};
use kube::{ResourceExt, api::ListParams};
use serde::Deserialize;
use serde_json::Value;
use testbed::real::{AuditEntry, Mark};

use super::world::Ground;

mod cases;

pub(crate) use cases::{request, trials};

/// The uids of an Order and of a Node.
type Pair = (String, String);

/// All Tickets that there were.
#[derive(Default)]
pub(crate) struct History {
    /// By uid.
    lives: BTreeMap<String, Life>,
    /// Pair and shard by the name, which no other pair has.
    names: BTreeMap<String, (Pair, String)>,
}

/// One Ticket from its creation to its end.
struct Life {
    name: String,
    /// What it was since each of its versions, and when the request for that arrived.
    states: BTreeMap<u64, (State, Timestamp)>,
    /// Whether its creation was answered.
    made: bool,
    /// When its deletion had been answered.
    gone: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Pending, Reserved or being claimed: a pair has one such Ticket at most.
    Open,
    Closed,
}

/// A time in which a Ticket was open.
struct Span {
    version: u64,
    since: Timestamp,
    end: End,
}

enum End {
    /// From this version on it was closed.
    Version(u64),
    /// It was gone by then.
    Gone(Timestamp),
    Never,
}

/// What a DELETE answers when the object is gone.
#[derive(Deserialize)]
struct Done {
    details: Details,
}

#[derive(Deserialize)]
struct Details {
    uid: String,
    name: String,
}

impl History {
    /// Reads the trial's Tickets since `mark`, and sees that none of those there are is missing.
    pub(crate) async fn read(ground: &Ground<'_>, mark: Mark) -> Result<Self> {
        let there = ground.api::<Ticket>().list(&ListParams::default()).await?;
        let audit = ground.audit();
        audit.settled_mark().await?;
        let mut entries = audit.writes_of(mark, "tickets")?;
        entries.retain(|entry| entry.namespace == ground.id);
        let history = Self::of(&entries)?;
        for ticket in there {
            let known = history.lives.get(&ticket.uid().unwrap_or_default());
            ensure!(
                known.is_some_and(|life| life.gone.is_none()),
                "the audit log does not know that {} is there",
                ticket.name_any()
            );
        }
        Ok(history)
    }

    fn of(entries: &[AuditEntry]) -> Result<Self> {
        let mut history = Self::default();
        for entry in entries.iter().filter(|entry| !entry.uri.contains("dryRun=")) {
            // One without an answer may have landed.
            if entry.verb == "create"
                && let Some(asked) = &entry.request
            {
                history.names.extend(named(&serde_json::from_str(asked)?));
            }
            if (200..300).contains(&entry.code) {
                history
                    .see(entry)
                    .with_context(|| format!("{} {}", entry.verb, entry.uri))?;
            }
        }
        // The creation of one that was first seen later may have landed at any time before.
        for life in history.lives.values_mut().filter(|life| !life.made) {
            life.states.insert(0, (State::Open, Timestamp::MIN));
        }
        Ok(history)
    }

    fn see(&mut self, entry: &AuditEntry) -> Result<()> {
        let body: Value = serde_json::from_str(entry.response.as_deref().context("no body")?)?;
        match body["kind"].as_str() {
            Some("Status") => {
                let Details { uid, name } = Done::deserialize(body)?.details;
                self.end(uid, name, entry.completed);
            }
            Some("TicketList") => {
                for item in body["items"].as_array().context("no items")? {
                    let deleted = Ticket::deserialize(item)?;
                    self.end(
                        deleted.uid().context("no uid")?,
                        deleted.name_any(),
                        entry.completed,
                    );
                }
            }
            _ => {
                let ticket = Ticket::deserialize(body)?;
                let state = match ticket.status.clone().unwrap_or_default().phase {
                    Phase::Pending | Phase::Reserved | Phase::Claiming => State::Open,
                    Phase::Claimed | Phase::Released | Phase::Expired => State::Closed,
                };
                let version = ticket.resource_version().context("no version")?.parse()?;
                self.names.extend(named(&ticket));
                let life = self.life(ticket.uid().context("no uid")?, ticket.name_any());
                life.states.insert(version, (state, entry.received));
                life.made |= entry.verb == "create";
            }
        }
        Ok(())
    }

    /// The Ticket was gone when its deletion had been answered.
    fn end(&mut self, uid: String, name: String, at: Timestamp) {
        let life = self.life(uid, name);
        life.gone = Some(life.gone.map_or(at, |gone| gone.min(at)));
    }

    fn life(&mut self, uid: String, name: String) -> &mut Life {
        self.lives.entry(uid).or_insert_with(|| Life {
            name,
            states: BTreeMap::new(),
            made: false,
            gone: None,
        })
    }

    /// How many Tickets there were.
    pub(crate) fn tickets(&self) -> usize {
        self.lives.len()
    }

    /// The shard of a Ticket or of its Guardian.
    pub(crate) fn shard(&self, name: &str) -> Option<&str> {
        let ticket = name.strip_prefix("guardian-").unwrap_or(name);
        let ticket = ticket.strip_suffix("-1").unwrap_or(ticket);
        self.names.get(ticket).map(|(_, shard)| shard.as_str())
    }

    /// Tickets of one pair that were open at the same time. A Ticket is taken for open until its deletion has
    /// been answered, and from when its creation arrived.
    pub(crate) fn twice(&self) -> Vec<(&str, &str)> {
        let mut pairs: BTreeMap<&Pair, Vec<&Life>> = BTreeMap::new();
        for life in self.lives.values() {
            if let Some((pair, _)) = self.names.get(&life.name) {
                pairs.entry(pair).or_default().push(life);
            }
        }
        let mut twice = Vec::new();
        for lives in pairs.values() {
            for (n, one) in lives.iter().enumerate() {
                // The API server itself keeps two of one name apart.
                let others = lives[n + 1..].iter().filter(|other| other.name != one.name);
                let both = others.filter(|other| together(one, other));
                twice.extend(both.map(|other| (one.name.as_str(), other.name.as_str())));
            }
        }
        twice
    }

    /// Fails if a pair ever had two open Tickets.
    pub(crate) fn proves_one_ticket_each(&self) -> Result<()> {
        let twice = self.twice();
        ensure!(twice.is_empty(), "open at the same time for one pair: {twice:#?}");
        Ok(())
    }

    /// The shards of what a request is about: of several objects those that its selector names.
    fn shards(&self, entry: &AuditEntry) -> Vec<String> {
        if entry.verb != "deletecollection" {
            return self.shard(&entry.name).map(str::to_owned).into_iter().collect();
        }
        let query = entry.uri.split_once('?').unwrap_or_default().1;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let selector = pairs
            .find(|(name, _)| name == "labelSelector")
            .map(|(_, value)| value);
        let named = selector.as_deref().and_then(|selector| {
            let shards = selector.split_once("korder.dev/shard in (")?.1;
            Some(shards.split_once(')')?.0.split(',').map(str::to_owned).collect())
        });
        named.unwrap_or_default()
    }

    /// Of late writes those that changed something: neither refused, nor answered with what was there.
    pub(crate) fn harmful<'a>(late: &[&'a AuditEntry], entries: &[AuditEntry]) -> Vec<&'a AuditEntry> {
        let harmful = |entry: &&&AuditEntry| {
            let body: Option<Value> = entry
                .response
                .as_ref()
                .and_then(|body| serde_json::from_str(body).ok());
            let version = |body: &Value| body.pointer("/metadata/resourceVersion").cloned();
            match (entry.code, entry.verb.as_str(), &body) {
                (404 | 409 | 412, ..) => false,
                (200, "deletecollection", Some(list)) => {
                    list["items"].as_array().is_none_or(|items| !items.is_empty())
                }
                (200, "patch" | "update", Some(object)) => !entries
                    .iter()
                    .filter(|before| before.completed < entry.received && before.name == entry.name)
                    .filter_map(|before| serde_json::from_str(before.response.as_ref()?).ok())
                    .any(|before| version(&before) == version(object)),
                _ => true,
            }
        };
        late.iter().filter(harmful).copied().collect()
    }

    /// Writes to Tickets and Guardians that arrived after another replica had taken the shard.
    pub(crate) fn late_writes<'a>(&self, entries: &'a [AuditEntry]) -> Vec<&'a AuditEntry> {
        let leases = ShardLeases::of(entries);
        let late = |entry: &&AuditEntry| {
            let shards = self.shards(entry);
            shards.iter().any(|shard| leases.is_anothers(shard, entry))
        };
        entries
            .iter()
            .filter(|entry| of_pairs(entry))
            .filter(late)
            .collect()
    }
}

/// Whether a request is about Tickets or Guardians.
pub(crate) fn of_pairs(entry: &AuditEntry) -> bool {
    matches!(entry.resource.as_str(), "tickets" | "pods")
}

/// The writes of shard Leases that landed.
pub(crate) struct ShardLeases<'a>(BTreeMap<&'a str, Vec<&'a AuditEntry>>);

impl<'a> ShardLeases<'a> {
    pub(crate) fn of(entries: &'a [AuditEntry]) -> Self {
        let mut leases: BTreeMap<&str, Vec<&AuditEntry>> = BTreeMap::new();
        for entry in entries
            .iter()
            .filter(|entry| entry.is_lease() && entry.is_write() && (200..300).contains(&entry.code))
        {
            if let Some(shard) = entry.name.strip_prefix("korder-shard-") {
                leases.entry(shard).or_default().push(entry);
            }
        }
        for writes in leases.values_mut() {
            writes.sort_by_key(|entry| entry.completed);
        }
        Self(leases)
    }

    /// Whether another replica had written the shard's Lease last when `entry` arrived, for sure: the release by
    /// the former owner may be answered after the take that it made possible.
    fn is_anothers(&self, shard: &str, entry: &AuditEntry) -> bool {
        let Some(last) = self.last_before(shard, entry) else {
            return false;
        };
        let own =
            |lease: &&AuditEntry| lease.user_agent == entry.user_agent && lease.received <= entry.received;
        let mut perhaps_later = self.of_shard(shard).iter().copied().filter(own);
        last.user_agent != entry.user_agent && !perhaps_later.any(|own| own.completed >= last.received)
    }

    fn of_shard(&self, shard: &str) -> &[&'a AuditEntry] {
        let writes = self.0.get(format!("{shard:0>2}").as_str());
        writes.map_or(&[], Vec::as_slice)
    }

    /// The last write of a shard's Lease that had been answered when `entry` arrived.
    pub(crate) fn last_before(&self, shard: &str, entry: &AuditEntry) -> Option<&'a AuditEntry> {
        let writes = self.of_shard(shard);
        let before = writes.partition_point(|lease| lease.completed < entry.received);
        writes[..before].last().copied()
    }
}

/// Name, pair and shard.
fn named(ticket: &Ticket) -> Option<(String, (Pair, String))> {
    let order = ticket.owner_references().first()?.uid.clone();
    let shard = ticket.labels().get("korder.dev/shard")?.clone();
    let pair = (order, ticket.spec.node_uid.clone());
    Some((ticket.name_any(), (pair, shard)))
}

impl Life {
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let last = self.gone.map_or(End::Never, End::Gone);
        for (&version, &(state, since)) in &self.states {
            let open = spans.last_mut().filter(|span| matches!(span.end, End::Never));
            match (open, state) {
                (None, State::Open) => spans.push(Span {
                    version,
                    since,
                    end: End::Never,
                }),
                (Some(span), State::Closed) => span.end = End::Version(version),
                _ => {}
            }
        }
        if let Some(span) = spans.last_mut().filter(|span| matches!(span.end, End::Never)) {
            span.end = last;
        }
        spans
    }
}

fn together(one: &Life, other: &Life) -> bool {
    let (one, other) = (one.spans(), other.spans());
    one.iter().any(|one| other.iter().any(|other| one.meets(other)))
}

impl Span {
    fn meets(&self, other: &Self) -> bool {
        let (first, second) = if self.version < other.version {
            (self, other)
        } else {
            (other, self)
        };
        match first.end {
            End::Version(closed) => second.version < closed,
            End::Gone(gone) => second.since < gone,
            End::Never => true,
        }
    }
}
