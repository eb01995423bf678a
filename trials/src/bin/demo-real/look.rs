//! Reads what the API server has, and compares it with what the rules predict.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::{
    api::{core::v1::Pod, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ApiResource, ListParams, Object},
    runtime::watcher::{self, watcher},
};
use serde::Deserialize;
use serde_json::Value;
use testbed::object::{items, text, uid};

use crate::rules::{COUNT, ORDERS};

/// How often progress is shown.
const REDRAW: Duration = Duration::from_millis(250);

/// An Order (its place in [`ORDERS`]) and a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) order: usize,
    pub(crate) node: String,
    pub(crate) node_uid: String,
}

/// A Ticket, as far as the demo looks.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) pair: Pair,
    pub(crate) name: String,
    pub(crate) revision: String,
    phase: String,
    deleting: bool,
}

/// A Guardian, as far as the demo looks.
#[derive(Clone, Debug)]
pub(crate) struct Guardian {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ticket_uid: String,
    node: Option<String>,
}

/// All Nodes, and what an Order's status says.
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<String, Value>,
    pub(crate) statuses: [Status; 3],
}

/// All Tickets by uid, and all Guardians.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    pub(crate) tickets: BTreeMap<String, Ticket>,
    pub(crate) guardians: Vec<Guardian>,
}

/// The part of an Order's status that is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) replicas: usize,
    pub(crate) available_replicas: usize,
    pub(crate) unavailable_replicas: usize,
}

/// What the Events on the Orders add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) made: [usize; 3],
    /// By Order and reason.
    pub(crate) gone: BTreeMap<(usize, String), usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TicketSpec {
    node_name: String,
    #[serde(rename = "nodeUID")]
    node_uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TicketStatus {
    phase: String,
    reason: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Unread {}

/// Reads with an administrator's client.
pub(crate) struct Eyes {
    client: Client,
    tickets: Api<Object<TicketSpec, TicketStatus>>,
    guardians: Api<Object<PodSpec, Unread>>,
    orders: Api<Object<Unread, Status>>,
}

impl Eyes {
    pub(crate) fn new(client: Client) -> Self {
        let ours = |kind: &str, plural: &str| ApiResource {
            group: "core.korder.dev".into(),
            version: "v1alpha1".into(),
            api_version: "core.korder.dev/v1alpha1".into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        Self {
            tickets: Api::all_with(client.clone(), &ours("Ticket", "tickets")),
            guardians: Api::all_with(client.clone(), &ApiResource::erase::<Pod>(&())),
            orders: Api::all_with(client.clone(), &ours("Order", "orders")),
            client,
        }
    }

    pub(crate) async fn world(&self) -> Result<World> {
        let nodes = async {
            let list = http::Request::get("/api/v1/nodes").body(Vec::new())?;
            Ok(self.client.request::<Value>(list).await?)
        };
        let (nodes, statuses) = tokio::try_join!(nodes, self.statuses())?;
        let named = |node: &Value| (text(node, "/metadata/name").to_owned(), node.clone());
        Ok(World {
            nodes: items(&nodes, "/items").iter().map(named).collect(),
            statuses,
        })
    }

    pub(crate) async fn statuses(&self) -> Result<[Status; 3]> {
        let mut statuses = [Status::default(); 3];
        for order in self.orders.list(&ListParams::default()).await? {
            if let Some(place) = place(order.metadata.name.as_deref()) {
                statuses[place] = order.status.unwrap_or_default();
            }
        }
        Ok(statuses)
    }

    /// Follows the Tickets, and shows of each Order how many are Reserved and Pending, of how many, until `all`
    /// are Reserved. Returns how many Tickets gave which reason for being Pending.
    pub(crate) async fn follow(
        &self,
        all: [usize; 3],
        mut show: impl FnMut([[usize; 3]; 3]) -> Result<()>,
    ) -> Result<BTreeMap<String, usize>> {
        let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut phases: HashMap<String, (usize, bool)> = HashMap::new();
        let mut events = watcher(self.tickets.clone(), watcher::Config::default()).boxed();
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                biased; // a redraw is due every quarter of a second, events come by the hundred
                _ = redraw.tick() => {
                    let mut orders = all.map(|all| [0, 0, all]);
                    for (order, reserved) in phases.values() {
                        orders[*order][usize::from(!reserved)] += 1;
                    }
                    show(orders)?;
                    if orders.iter().all(|[reserved, _, all]| reserved >= all) {
                        let counted = reasons.into_iter().map(|(reason, tickets)| (reason, tickets.len()));
                        return Ok(counted.collect());
                    }
                }
                event = events.next() => match event.context("the watch ended")? {
                    Ok(watcher::Event::Init) => phases.clear(),
                    Ok(watcher::Event::InitApply(ticket) | watcher::Event::Apply(ticket)) => {
                        let order = ticket.metadata.labels.as_ref().and_then(|labels| labels.get("korder.dev/order"));
                        if let Some(order) = place(order.map(String::as_str)) {
                            let (status, uid) = (ticket.status.unwrap_or_default(), ticket.metadata.uid);
                            let uid = uid.unwrap_or_default();
                            if let Some(reason) = status.reason {
                                reasons.entry(reason).or_default().insert(uid.clone());
                            }
                            phases.insert(uid, (order, status.phase == "Reserved"));
                        }
                    }
                    Ok(watcher::Event::Delete(ticket)) => {
                        phases.remove(&ticket.metadata.uid.unwrap_or_default());
                    }
                    // The watcher begins again by itself.
                    Ok(watcher::Event::InitDone) | Err(_) => {}
                },
            }
        }
    }

    pub(crate) async fn room(&self) -> Result<Room> {
        let (all, guardians) = (
            ListParams::default(),
            ListParams::default().labels("korder.dev/guardian=true"),
        );
        let (tickets, guardians) =
            tokio::try_join!(self.tickets.list(&all), self.guardians.list(&guardians))?;
        let ticket = |ticket: Object<TicketSpec, TicketStatus>| {
            let order = ticket.metadata.labels.as_ref()?.get("korder.dev/order")?;
            let pair = Pair {
                order: place(Some(order))?,
                node: ticket.spec.node_name,
                node_uid: ticket.spec.node_uid,
            };
            let uid = ticket.metadata.uid?;
            let ticket = Ticket {
                pair,
                name: ticket.metadata.name?,
                revision: ticket.metadata.resource_version?,
                phase: ticket.status.unwrap_or_default().phase,
                deleting: ticket.metadata.deletion_timestamp.is_some(),
            };
            Some((uid, ticket))
        };
        let guardian = |pod: Object<PodSpec, Unread>| Guardian {
            ticket_uid: owner(&pod.metadata),
            name: pod.metadata.name.unwrap_or_default(),
            uid: pod.metadata.uid.unwrap_or_default(),
            node: pod.spec.node_name,
        };
        Ok(Room {
            tickets: tickets.items.into_iter().filter_map(ticket).collect(),
            guardians: guardians.items.into_iter().map(guardian).collect(),
        })
    }

    /// Adds up the notes `made 12 Tickets, …` and `removed 3 Tickets: 2 NodeGone (…), 1 NotReady (…)`.
    pub(crate) async fn told(&self) -> Result<Told> {
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let mut told = Told::default();
        for event in events.list(&ListParams::default()).await? {
            let on = event.regarding.and_then(|on| on.name);
            if let (Some(order), Some(note)) = (place(on.as_deref()), event.note) {
                told.add(order, &note);
            }
        }
        Ok(told)
    }
}

impl Told {
    /// Whether it tells of nothing that is not in `other`.
    pub(crate) fn within(&self, other: &Self) -> bool {
        let made = self
            .made
            .iter()
            .zip(other.made)
            .all(|(made, other)| *made <= other);
        let gone = self
            .gone
            .iter()
            .all(|(reason, count)| other.gone.get(reason).is_some_and(|all| count <= all));
        made && gone
    }

    pub(crate) fn total(&self) -> usize {
        self.made.iter().sum::<usize>() + self.gone.values().sum::<usize>()
    }

    fn add(&mut self, order: usize, note: &str) {
        if let Some(rest) = note.strip_prefix("made ") {
            self.made[order] += number(rest);
        } else if let Some((_, reasons)) = note
            .strip_prefix("removed ")
            .and_then(|rest| rest.split_once(": "))
        {
            for part in reasons.split(", ") {
                let reason = part.split_whitespace().nth(1).unwrap_or_default();
                *self.gone.entry((order, reason.to_owned())).or_default() += number(part);
            }
        }
    }
}

fn number(text: &str) -> usize {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

fn place(order: Option<&str>) -> Option<usize> {
    ORDERS.iter().position(|known| Some(known.name) == order)
}

fn owner(metadata: &ObjectMeta) -> String {
    let owners = metadata.owner_references.iter().flatten();
    owners.map(|owner| owner.uid.clone()).next().unwrap_or_default()
}

impl World {
    /// The pairs that are eligible now.
    pub(crate) fn eligible(&self) -> BTreeSet<Pair> {
        let pairs = self.nodes.iter().flat_map(|(name, node)| {
            let eligible = move |order: &usize| ORDERS[*order].why_not(node).is_none();
            (0..ORDERS.len()).filter(eligible).map(move |order| Pair {
                order,
                node: name.clone(),
                node_uid: uid(node).to_owned(),
            })
        });
        pairs.collect()
    }

    /// The reason that a pair's Tickets go for.
    pub(crate) fn why_gone(&self, pair: &Pair) -> &'static str {
        let node = self.nodes.get(&pair.node);
        let node = node.filter(|node| uid(node) == pair.node_uid);
        node.map_or("NodeGone", |node| ORDERS[pair.order].why_not(node).unwrap_or("?"))
    }
}

impl Room {
    /// Of each Order, the Tickets Reserved and Pending, and the eligible nodes.
    pub(crate) fn progress(&self, world: &World) -> [[usize; 3]; COUNT] {
        let mut orders = [[0; 3]; COUNT];
        for ticket in self.tickets.values() {
            orders[ticket.pair.order][usize::from(ticket.phase != "Reserved")] += 1;
        }
        for pair in world.eligible() {
            orders[pair.order][2] += 1;
        }
        orders
    }
}

/// Compares statuses: cheap, and the first thing that is still wrong after a change.
pub(crate) fn compare_statuses(world: &World, held: &BTreeSet<Pair>) -> Result<(), String> {
    let eligible = world.eligible();
    for (place, order) in ORDERS.iter().enumerate() {
        let count = |pairs: &BTreeSet<Pair>| pairs.iter().filter(|pair| pair.order == place).count();
        let expected = Status {
            replicas: count(&eligible),
            available_replicas: count(&eligible) + count(held),
            unavailable_replicas: 0,
        };
        if world.statuses[place] != expected {
            return Err(format!(
                "status of {}: {:?} instead of {expected:?}",
                order.name, world.statuses[place]
            ));
        }
    }
    Ok(())
}

/// Compares Tickets and Guardians with the pairs that must have exactly one of each.
pub(crate) fn compare_room(room: &Room, pairs: &BTreeSet<Pair>) -> Result<(), String> {
    let mut differs = Vec::new();
    let mut holders: BTreeMap<&str, Vec<&Guardian>> = BTreeMap::new();
    for guardian in &room.guardians {
        holders.entry(&guardian.ticket_uid).or_default().push(guardian);
    }
    let mut missing: BTreeSet<&Pair> = pairs.iter().collect();
    for (uid, ticket) in &room.tickets {
        let name = &ticket.name;
        let guardians = holders.remove(uid.as_str()).unwrap_or_default();
        let bound = guardians
            .iter()
            .filter(|guardian| guardian.node.as_ref() == Some(&ticket.pair.node))
            .count();
        if !missing.remove(&ticket.pair) {
            differs.push(format!("Ticket {name} for {} is one too many", ticket.pair.node));
        } else if ticket.phase != "Reserved" || ticket.deleting {
            differs.push(format!(
                "Ticket {name} for {} is {}",
                ticket.pair.node, ticket.phase
            ));
        } else if (guardians.len(), bound) != (1, 1) {
            let found = guardians.len();
            differs.push(format!(
                "Ticket {name} for {}: {found} Guardians, {bound} on its node",
                ticket.pair.node
            ));
        }
    }
    let missing = missing
        .into_iter()
        .map(|pair| format!("no Ticket of {} for {}", ORDERS[pair.order].name, pair.node));
    differs.extend(missing);
    let orphans = holders.into_values().flatten();
    differs.extend(orphans.map(|guardian| format!("Guardian {} has no Ticket", guardian.name)));
    match differs.len() {
        0 => Ok(()),
        1..=3 => Err(differs.join("; ")),
        more => Err(format!("{}; and {} more", differs[..3].join("; "), more - 3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_added_up_by_reason() {
        let mut told = Told::default();
        told.add(0, "made 12 Tickets, for example for node n1");
        told.add(0, "made 1 Ticket, for example for node n1");
        told.add(
            2,
            "removed 3 Tickets: 2 NodeGone (for example for node n1), 1 NotReady (for example for node n3)",
        );
        told.add(2, "1 Ticket, for example for node n1: the Guardian is gone");
        assert_eq!(told.made, [13, 0, 0]);
        let gone: Vec<_> = told
            .gone
            .iter()
            .map(|((order, reason), count)| (*order, reason.as_str(), *count))
            .collect();
        assert_eq!(gone, [(2, "NodeGone", 2), (2, "NotReady", 1)]);
    }

    #[test]
    fn room_differs_when_a_ticket_is_double_missing_or_unguarded() {
        let pair = |node: &str| Pair {
            order: 0,
            node: node.into(),
            node_uid: format!("uid-{node}"),
        };
        let ticket = |node: &str| Ticket {
            pair: pair(node),
            name: format!("t-{node}"),
            revision: "1".into(),
            phase: "Reserved".into(),
            deleting: false,
        };
        let guardian = |ticket: &str, node: &str| Guardian {
            name: format!("guardian-{ticket}"),
            uid: String::new(),
            ticket_uid: ticket.into(),
            node: Some(node.into()),
        };
        let room = |tickets: &[(&str, &str)], guardians: &[(&str, &str)]| Room {
            tickets: tickets
                .iter()
                .map(|(uid, node)| ((*uid).to_owned(), ticket(node)))
                .collect(),
            guardians: guardians.iter().map(|(uid, node)| guardian(uid, node)).collect(),
        };
        let pairs = BTreeSet::from([pair("a"), pair("b")]);
        let error = |room: &Room| compare_room(room, &pairs).unwrap_err();

        assert_eq!(
            compare_room(
                &room(&[("1", "a"), ("2", "b")], &[("1", "a"), ("2", "b")]),
                &pairs
            ),
            Ok(())
        );
        let twice = error(&room(
            &[("1", "a"), ("2", "b"), ("3", "b")],
            &[("1", "a"), ("2", "b"), ("3", "b")],
        ));
        assert!(twice.contains("one too many"), "{twice}");
        let missing = error(&room(&[("1", "a")], &[("1", "a")]));
        assert!(missing.contains("no Ticket"), "{missing}");
        let elsewhere = error(&room(&[("1", "a"), ("2", "b")], &[("1", "a"), ("2", "a")]));
        assert!(elsewhere.contains("0 on its node"), "{elsewhere}");
        let orphan = error(&room(
            &[("1", "a"), ("2", "b")],
            &[("1", "a"), ("2", "b"), ("9", "a")],
        ));
        assert!(orphan.contains("has no Ticket"), "{orphan}");
    }
}
