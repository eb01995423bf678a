//! What must hold at every revision: unique Tickets, right names, and no removal without a rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    Pair, open, owner, pair,
    rooms::Rooms,
    rules::{Deserves, deserves, valid},
    ticket_name, windows,
};
use testbed::{
    object::{Key, condition, deleting, items, key, text, uid},
    sim::{
        actors::{
            amounts::occupies,
            scheduler::{overcommitted, pinned},
        },
        api::{Change, ChangeKind},
        cluster::Cluster,
    },
};

/// How far its idea of the server's time may be off.
const SLACK: SignedDuration = SignedDuration::from_secs(3);

/// How long korder may not have seen that a Guardian is bound.
const UNSEEN: SignedDuration = SignedDuration::from_secs(5);

/// Watches a run; clones share what was found.
#[derive(Clone)]
pub struct Safety {
    shared: Arc<Mutex<Seen>>,
}

struct Seen {
    controller: Arc<str>,
    grace: SignedDuration,
    /// How long the controller may act on what it saw before.
    lag: SignedDuration,
    names: BTreeMap<String, String>,
    /// By uid.
    tickets: BTreeMap<String, Arc<Value>>,
    /// Names of a pair's open Tickets.
    open: BTreeMap<Pair, BTreeSet<Key>>,
    /// Live Guardians by their Ticket's uid.
    guardians: BTreeMap<String, BTreeMap<Key, Arc<Value>>>,
    rooms: Rooms,
    /// Orders and Nodes by uid as they were, each from a time on; none while gone.
    pasts: BTreeMap<String, Past>,
    /// The Tickets of a pair that have gone lately.
    gone: BTreeMap<Pair, Vec<(Timestamp, Arc<Value>)>>,
    /// When somebody else last took a Ticket's Guardian away.
    robbed: BTreeMap<String, Timestamp>,
    /// Since when Pods are bound, by uid.
    bound: BTreeMap<String, Timestamp>,
    /// When an object of this uid ended, or was asked to by somebody else.
    ended: BTreeMap<String, Timestamp>,
    /// When what an Order asks for has changed last.
    edited: BTreeMap<String, Timestamp>,
    /// Pods on a node, by its name, and the Nodes.
    pods_on: BTreeMap<String, BTreeMap<Key, Arc<Value>>>,
    nodes: BTreeMap<String, Arc<Value>>,
    /// The controller's changes of each Ticket and its Guardian by the pair, while they are counted.
    counted: Option<BTreeMap<Pair, u64>>,
    violations: Vec<String>,
    revisions: u64,
}

/// How an object was, each from a time on; none while it was not there.
type Past = Vec<(Timestamp, Option<Arc<Value>>)>;

impl Safety {
    /// Watches `cluster` from now on, and the writes of `controller` above all, which may act on what was so
    /// within `lag`. On full nodes `most` is how many pairs may be without the Guardian they had.
    pub fn watch(
        cluster: &Cluster,
        controller: &str,
        grace: SignedDuration,
        lag: SignedDuration,
        most: Option<u32>,
    ) -> Self {
        let seen = Seen::new(controller, grace, lag, most);
        let safety = Self {
            shared: Arc::new(Mutex::new(seen)),
        };
        let shared = safety.shared.clone();
        cluster.observe(Box::new(move |change| shared.lock().see(change)));
        safety
    }

    /// Counts the controller's changes of each pair from now on.
    pub fn count_from_now(&self) {
        self.shared.lock().counted = Some(BTreeMap::new());
    }

    /// Pairs that the controller has changed more often than that.
    pub fn busy(&self, most: u64) -> Vec<String> {
        let seen = self.shared.lock();
        let counted = seen.counted.iter().flatten();
        let busy = counted.filter(|(_, count)| **count > most);
        busy.map(|(pair, count)| format!("{count} writes to the pair {pair:?} after the faults"))
            .collect()
    }

    /// What was found, and the number of revisions looked at.
    pub fn verdict(&self) -> (Vec<String>, u64) {
        let seen = self.shared.lock();
        (seen.violations.clone(), seen.revisions)
    }
}

impl Seen {
    fn new(controller: &str, grace: SignedDuration, lag: SignedDuration, most: Option<u32>) -> Self {
        Self {
            controller: controller.into(),
            grace,
            lag,
            names: BTreeMap::new(),
            tickets: BTreeMap::new(),
            open: BTreeMap::new(),
            guardians: BTreeMap::new(),
            rooms: Rooms::new(most),
            pasts: BTreeMap::new(),
            gone: BTreeMap::new(),
            robbed: BTreeMap::new(),
            bound: BTreeMap::new(),
            ended: BTreeMap::new(),
            edited: BTreeMap::new(),
            pods_on: BTreeMap::new(),
            nodes: BTreeMap::new(),
            counted: None,
            violations: Vec::new(),
            revisions: 0,
        }
    }

    fn see(&mut self, change: &Change) {
        self.revisions += 1;
        let gone = change.kind == ChangeKind::Deleted;
        let object = &change.after;
        match &*change.resource {
            "orders" => self.see_order(object, change, gone),
            "nodes" => self.see_node(object, change.at, gone),
            "tickets" => self.see_ticket(object, change, gone),
            "pods" => {
                self.see_room(object, change, gone);
                let mut rooms = std::mem::take(&mut self.rooms);
                let lost = |order: &str, node: &str| {
                    let node = self.nodes.get(node).map_or("", |node| uid(node));
                    self.removable(&(order.to_owned(), node.to_owned()), change.at)
                };
                let wrong = rooms.see_pod(object, gone, lost);
                self.rooms = rooms;
                if let Some(wrong) = wrong {
                    self.violated(change, &wrong);
                }
                self.see_guardian(object, change, gone);
            }
            _ => {}
        }
        if gone {
            self.ended.insert(uid(object).to_owned(), change.at);
        }
    }

    fn violated(&mut self, change: &Change, what: &str) {
        let (resource, name) = (&change.resource, &change.name);
        let line = format!(
            "{what}: {resource} {name} at revision {} by {}",
            change.revision, change.by
        );
        self.violations.push(line);
    }

    fn see_order(&mut self, order: &Arc<Value>, change: &Change, gone: bool) {
        let same = |before: &Value| before["spec"] == order["spec"] && deleting(before) == deleting(order);
        if self.note(order, change.at, gone, same) {
            self.edited.insert(uid(order).to_owned(), change.at);
        }
    }

    /// A Pod that comes to a node must fit there.
    fn see_room(&mut self, pod: &Arc<Value>, change: &Change, gone: bool) {
        let node = text(pod, "/spec/nodeName");
        if node.is_empty() {
            return;
        }
        let on = self.pods_on.entry(node.to_owned()).or_default();
        if gone || !occupies(pod) {
            on.remove(&key(pod));
            return;
        }
        let new = on.insert(key(pod), pod.clone()).is_none();
        if let Some(node) = self.nodes.get(node).filter(|_| new) {
            let pods: Vec<_> = on.values().cloned().collect();
            for over in overcommitted(std::slice::from_ref(node), &pods) {
                self.violated(change, &format!("overcommitted {over}"));
            }
        }
    }

    fn count(&mut self, pair: &Pair, change: &Change) {
        if change.by == self.controller
            && let Some(counted) = &mut self.counted
        {
            *counted.entry(pair.clone()).or_default() += 1;
        }
    }

    fn see_node(&mut self, node: &Arc<Value>, at: Timestamp, gone: bool) {
        let name = text(node, "/metadata/name").to_owned();
        self.nodes.insert(name, node.clone());
        self.names
            .insert(uid(node).to_owned(), text(node, "/metadata/name").to_owned());
        self.note(node, at, gone, |before| judged(before) == judged(node));
    }

    /// Notes how an object is from now on, unless it is the same as before; returns whether it did.
    fn note(
        &mut self,
        object: &Arc<Value>,
        at: Timestamp,
        gone: bool,
        same: impl Fn(&Value) -> bool,
    ) -> bool {
        let (lag, past) = (self.lag, self.pasts.entry(uid(object).to_owned()).or_default());
        let last = past.last().and_then(|(_, last)| last.as_deref());
        if !gone && last.is_some_and(same) {
            return false;
        }
        past.push((at, (!gone).then(|| object.clone())));
        let old = past.iter().rposition(|(since, _)| since.duration_until(at) > lag);
        past.drain(..old.unwrap_or_default());
        true
    }

    /// How an object was at times since `lag` before `at`; none if it was not there at some time.
    fn versions(&self, uid: &str, at: Timestamp) -> Vec<Option<&Value>> {
        let past = self.pasts.get(uid).map_or(&[][..], Vec::as_slice);
        let current = past.iter().enumerate().filter(|(index, _)| {
            let until = past.get(index + 1).map_or(at, |(next, _)| *next);
            until.duration_until(at) <= self.lag
        });
        let versions: Vec<_> = current.map(|(_, (_, version))| version.as_deref()).collect();
        if versions.is_empty() { vec![None] } else { versions }
    }

    /// Whether something is so of the pair as the controller may have seen it: each watch lags for itself.
    fn lately(&self, pair: &Pair, at: Timestamp, so: impl Fn(Deserves) -> bool) -> bool {
        let (orders, nodes) = (self.versions(&pair.0, at), self.versions(&pair.1, at));
        let each = orders
            .iter()
            .flat_map(|order| nodes.iter().map(move |node| (order, node)));
        let early = at.saturating_sub(self.lag).unwrap_or(at);
        let late = at.saturating_add(SLACK).unwrap_or(at);
        each.into_iter().any(|pair| match pair {
            (Some(order), Some(node)) => {
                let deserved = deserves(order, node, self.grace, at);
                let open = deserved == Deserves::Closed && windows::open_within(order, early, late);
                so(deserved) || (open && so(Deserves::Ticket))
            }
            _ => so(Deserves::Until(Some(Timestamp::MIN))),
        })
    }

    fn removable(&self, pair: &Pair, at: Timestamp) -> bool {
        self.lately(pair, at, |deserved| {
            let late = |end: Timestamp| end.saturating_sub(SLACK).unwrap_or(end) <= at;
            matches!(deserved, Deserves::Until(Some(end)) if late(end))
        })
    }

    fn just_now(&self, when: Option<&Timestamp>, at: Timestamp) -> bool {
        when.is_some_and(|when| when.duration_until(at) <= self.lag)
    }

    fn see_ticket(&mut self, ticket: &Arc<Value>, change: &Change, gone: bool) {
        let key = key(ticket);
        self.rooms.see_ticket(ticket, gone);
        if gone {
            self.tickets.remove(uid(ticket));
            if let Some(pair) = pair(ticket) {
                let gone = self.gone.entry(pair).or_default();
                gone.retain(|(gone, _)| gone.duration_until(change.at) <= self.lag);
                gone.push((change.at, ticket.clone()));
            }
        } else {
            self.tickets.insert(uid(ticket).to_owned(), ticket.clone());
        }
        let own = change.by == self.controller;
        let Some(pair) = pair(ticket) else {
            if own {
                self.violated(change, "a Ticket that is nobody's");
            }
            return;
        };
        self.count(&pair, change);
        match change.kind {
            ChangeKind::Added if own => self.check_new_ticket(ticket, &pair, change),
            ChangeKind::Modified
                if own && deleting(ticket) && !change.before.as_deref().is_some_and(deleting) =>
            {
                self.check_removal(ticket, &pair, change);
            }
            ChangeKind::Deleted if own && !change.before.as_deref().is_some_and(deleting) => {
                self.check_removal(ticket, &pair, change);
            }
            ChangeKind::Modified if own && text(ticket, "/status/phase") == "Expired" => {
                self.check_expiry(&pair, change);
            }
            _ => {}
        }
        let names = self.open.entry(pair.clone()).or_default();
        if !gone && open(ticket) {
            names.insert(key);
        } else {
            names.remove(&key);
        }
        if names.len() > 1 {
            let names = format!("two open Tickets of one pair ({names:?})");
            self.violated(change, &names);
        }
    }

    fn check_new_ticket(&mut self, ticket: &Value, pair: &Pair, change: &Change) {
        let sequence = ticket
            .pointer("/spec/sequence")
            .and_then(Value::as_i64)
            .unwrap_or(-1);
        let order = items_owner_name(ticket);
        let expected = ticket_name(order, &pair.0, &pair.1, sequence);
        if *change.name != *expected {
            self.violated(change, &format!("a Ticket that should be named {expected}"));
        }
        if self.names.get(&pair.1).map(String::as_str) != Some(text(ticket, "/spec/nodeName")) {
            self.violated(change, "a Ticket whose nodeName is not its node's");
        }
        let eligible = self.lately(pair, change.at, |deserved| deserved == Deserves::Ticket);
        if !eligible {
            self.violated(change, "a new Ticket on a node that is not eligible");
        }
        for (label, value) in [("order-uid", pair.0.as_str()), ("node-uid", pair.1.as_str())] {
            if text(ticket, &format!("/metadata/labels/korder.dev~1{label}")) != value {
                self.violated(change, &format!("a Ticket without the right label {label}"));
            }
        }
    }

    /// A Ticket expires only once its window is over, and no other follows at once.
    fn check_expiry(&mut self, pair: &Pair, change: &Change) {
        let Some(before) = change.before.as_deref().filter(|before| open(before)) else {
            return;
        };
        if !self.over(before, pair, change.at) {
            self.violated(change, "a Ticket expires although its window is not over");
        }
    }

    /// Whether the window of an open Ticket is over, and no other follows at once.
    fn over(&self, ticket: &Value, pair: &Pair, at: Timestamp) -> bool {
        let late = at.saturating_add(SLACK).unwrap_or(at);
        let over = |order: &Value| {
            let own = windows::of_ticket(order, ticket);
            let ended = own.is_some_and(|own| !own.followed && own.end.is_some_and(|end| end <= late));
            ended || windows::current(order, at).is_none()
        };
        let mut versions = self.versions(&pair.0, at).into_iter().flatten();
        versions.any(|order| valid(order) && over(order))
    }

    /// A finished Ticket goes when nothing needs it any more.
    fn needless(&self, ticket: &Value, pair: &Pair, at: Timestamp) -> bool {
        let sequence = |ticket: &Value| ticket.pointer("/spec/sequence").and_then(Value::as_i64);
        let siblings = self
            .tickets
            .values()
            .filter(|other| self::pair(other).as_ref() == Some(pair));
        let just_gone = self.gone.get(pair).into_iter().flatten();
        let just_gone = just_gone.filter(|(gone, _)| self.just_now(Some(gone), at));
        let just_gone = just_gone.map(|(_, gone)| gone);
        let newer = siblings
            .chain(just_gone)
            .filter(|other| sequence(other) > sequence(ticket));
        let newer: Vec<&Value> = newer.map(|newer| &**newer).collect();
        let late = at.saturating_add(SLACK).unwrap_or(at);
        let gone = |order: Option<&Value>| {
            order.is_none_or(|order| {
                deleting(order) || (valid(order) && windows::may_go(order, ticket, &newer, late))
            })
        };
        let lost = self.versions(&pair.1, at).contains(&None);
        lost || self.versions(&pair.0, at).into_iter().any(gone)
    }

    fn check_removal(&mut self, ticket: &Value, pair: &Pair, change: &Change) {
        let finished = windows::finished(ticket);
        if finished && self.needless(ticket, pair, change.at) {
            return;
        }
        if finished || !self.removable(pair, change.at) {
            let what = format!("no rule removes the {} Ticket", text(ticket, "/status/phase"));
            self.violated(change, &what);
        }
    }

    fn see_guardian(&mut self, pod: &Arc<Value>, change: &Change, gone: bool) {
        let Some(ticket) = owner(pod, "Ticket").map(str::to_owned) else {
            return;
        };
        if let Some(pair) = self.tickets.get(&ticket).and_then(|ticket| pair(ticket)) {
            self.count(&pair, change);
        }
        let own = change.by == self.controller;
        let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if !text(pod, "/spec/nodeName").is_empty() {
            self.bound.entry(uid(pod).to_owned()).or_insert(change.at);
        }
        if !own && (gone || over || deleting(pod)) {
            self.robbed.insert(ticket.clone(), change.at);
        }
        let siblings = self.guardians.entry(ticket.clone()).or_default();
        if gone || over || deleting(pod) {
            siblings.remove(&key(pod));
        } else {
            siblings.insert(key(pod), pod.clone());
        }
        let open = siblings.values().filter(|sibling| !covered(sibling)).count();
        if open > 1 || siblings.len() > 2 {
            let names: Vec<_> = siblings.keys().collect();
            let names = format!("{open} Guardians of one Ticket that are not under cover ({names:?})");
            self.violated(change, &names);
        }
        if own && change.kind == ChangeKind::Added {
            self.check_new_guardian(pod, &ticket, change);
        }
        if own && gone && !over {
            self.check_guardian_removal(pod, &ticket, change);
        }
    }

    fn check_new_guardian(&mut self, pod: &Value, ticket: &str, change: &Change) {
        let Some(known) = self.tickets.get(ticket).cloned() else {
            if !self.just_now(self.ended.get(ticket), change.at) {
                self.violated(change, "a Guardian of a Ticket that never was");
            }
            return;
        };
        let plain = format!("guardian-{}", text(&known, "/metadata/name"));
        let second = covered(pod) && *change.name == format!("{plain}-1");
        if *change.name != plain && !second {
            self.violated(change, "a Guardian of the wrong name");
        }
        if pinned(pod) != Some(text(&known, "/spec/nodeName")) {
            self.violated(change, "a Guardian that is not pinned to its Ticket's node");
        }
    }

    /// A Guardian that runs goes with its Ticket, or for a new template.
    fn check_guardian_removal(&mut self, pod: &Value, ticket: &str, change: &Change) {
        let known = self.tickets.get(ticket);
        let justified = match known.and_then(|known| pair(known)) {
            None => true,
            Some(pair) => {
                let unbound = text(pod, "/spec/nodeName").is_empty();
                let edited = self.just_now(self.edited.get(&pair.0), change.at);
                let over = known.is_some_and(|known| windows::finished(known));
                let ends = self.removable(&pair, change.at) || self.goes_first(pod, known, &pair, change.at);
                unbound || edited || over || ends || replaced(pod, known)
            }
        };
        if !self.relieved(pod, ticket, change.at) {
            self.violated(change, "a Guardian went before another was to take over its room");
        }
        if !justified {
            self.violated(change, "no rule removes the Guardian");
        }
    }

    /// Whether a Guardian goes before its Ticket expires: one without labels would be out of sight afterwards.
    fn goes_first(&self, pod: &Value, ticket: Option<&Arc<Value>>, pair: &Pair, at: Timestamp) -> bool {
        let stripped = text(pod, "/metadata/labels/korder.dev~1shard").is_empty();
        stripped && ticket.is_some_and(|ticket| open(ticket) && self.over(ticket, pair, at))
    }

    /// Whether the room of a Guardian that goes is given up, or never was reserved, or another is bound or
    /// nominated to take it.
    fn relieved(&self, pod: &Value, ticket: &str, at: Timestamp) -> bool {
        let known = self.tickets.get(ticket);
        let reserved = |known: &&Arc<Value>| {
            !text(known, "/status/activationTime").is_empty() && !windows::finished(known)
        };
        let kept = known
            .filter(reserved)
            .and_then(|known| pair(known))
            .is_some_and(|pair| !self.removable(&pair, at) && !self.goes_first(pod, known, &pair, at));
        let room = text(pod, "/spec/nodeName");
        // It was not bound when that was decided.
        let unseen = |bound: &Timestamp| bound.duration_until(at) <= UNSEEN;
        let room = match self.bound.get(uid(pod)).is_some_and(unseen) {
            true => "",
            false => room,
        };
        let takes = |sibling: &Arc<Value>| {
            [
                text(sibling, "/spec/nodeName"),
                text(sibling, "/status/nominatedNodeName"),
            ]
            .contains(&room)
        };
        let mut siblings = self.guardians.get(ticket).into_iter().flat_map(BTreeMap::values);
        // The other one may have been there when that was decided.
        let robbed = self.just_now(self.robbed.get(ticket), at);
        !kept || room.is_empty() || robbed || siblings.any(takes)
    }
}

/// Whether a Pod is kept from the scheduler by korder.
fn covered(pod: &Value) -> bool {
    items(pod, "/spec/schedulingGates")
        .iter()
        .any(|gate| text(gate, "/name") == "korder.dev/cover")
}

/// Whether a Guardian is of another template than its Ticket.
fn replaced(pod: &Value, ticket: Option<&Arc<Value>>) -> bool {
    let of = text(pod, "/metadata/annotations/korder.dev~1template-hash");
    ticket.is_some_and(|ticket| text(ticket, "/spec/templateHash") != of)
}

/// What of a Node decides what its pairs deserve.
fn judged(node: &Value) -> [&Value; 4] {
    let ready = condition(node, "Ready").unwrap_or(&Value::Null);
    [
        &node["metadata"]["labels"],
        &node["spec"],
        &ready["status"],
        &ready["lastTransitionTime"],
    ]
}

/// The name of the Order that controls a Ticket.
fn items_owner_name(ticket: &Value) -> &str {
    text(ticket, "/metadata/ownerReferences/0/name")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KORDER: &str = "korder";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time of this century")
    }

    fn owned(kind: &str, name: &str, by: (&str, &str), labels: Value) -> Value {
        let owner = json!([{ "kind": by.0, "name": by.1, "uid": by.1, "controller": true }]);
        json!({ "kind": kind, "metadata": {
            "namespace": "default", "name": name, "uid": name, "labels": labels, "ownerReferences": owner,
        } })
    }

    /// One pair of an Order that asks for room for 70 s every other minute, whose Ticket is Reserved in the window that
    /// begins at 120; what is said of korder for removing the Guardian at `removed`.
    fn said(labels: Value, removed: i64) -> Vec<String> {
        let (grace, lag) = (SignedDuration::from_secs(60), SignedDuration::from_secs(15));
        let mut seen = Seen::new(KORDER, grace, lag, None);
        let order = json!({
            "metadata": { "namespace": "default", "name": "order", "uid": "order", "creationTimestamp": at(0) },
            "spec": {
                "strategy": { "type": "Scheduled", "schedule": "*/2 * * * *" },
                "template": { "spec": { "duration": "70s" } },
            },
        });
        let node = json!({
            "metadata": { "name": "node", "uid": "node" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }], "allocatable": { "pods": "9" } },
        });
        let mut ticket = owned("Ticket", "ticket", ("Order", "order"), json!({}));
        ticket["spec"] = json!({ "nodeName": "node", "nodeUID": "node", "sequence": 0 });
        ticket["status"] = json!({ "phase": "Reserved", "windowStart": at(120), "activationTime": at(121) });
        let mut pod = owned("Pod", "guardian-ticket", ("Ticket", "ticket"), labels);
        pod["spec"] = json!({ "nodeName": "node" });
        let mut see = |resource: &str, object: &Value, by: &str, second: i64, kind: ChangeKind| {
            let change = Change {
                revision: 1,
                at: at(second),
                by: by.into(),
                resource: resource.into(),
                namespace: text(object, "/metadata/namespace").into(),
                name: text(object, "/metadata/name").into(),
                kind,
                before: (kind != ChangeKind::Added).then(|| Arc::new(object.clone())),
                after: Arc::new(object.clone()),
            };
            seen.see(&change);
        };
        see("orders", &order, "user", 0, ChangeKind::Added);
        see("nodes", &node, "nodes", 0, ChangeKind::Added);
        see("tickets", &ticket, "before", 120, ChangeKind::Added);
        see("pods", &pod, "before", 121, ChangeKind::Added);
        see("pods", &pod, KORDER, removed, ChangeKind::Deleted);
        seen.violations
    }

    #[test]
    fn guardian_without_labels_may_go_before_its_ticket_expires_and_no_other() {
        let labels = json!({ "korder.dev/shard": "0" });
        assert_eq!(said(json!({}), 191), [""; 0], "its window is over");
        assert_eq!(said(json!({}), 180).len(), 2, "its window is open");
        assert_eq!(said(labels, 191).len(), 2, "it would not be out of sight");
    }
}
