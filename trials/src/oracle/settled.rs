//! What must hold once everything is quiet: every pair has what the rules give it, and nothing else
//! is there.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    Pair, open, owner, pair,
    rules::{Deserves, asks, deserves, valid},
    windows,
};
use testbed::{
    object::{at, condition, deleting, items, text, uid},
    sim::{
        actors::{
            amounts::{amounts, occupies},
            scheduler::overcommitted,
        },
        cluster::Cluster,
    },
};

/// How long after a window opens or closes, and before, Tickets may be on their way.
const EDGE: SignedDuration = SignedDuration::from_secs(15);

/// How many of so many pairs a roll-out may have without a running Guardian.
fn max_unavailable(order: &Value, pairs: usize) -> usize {
    let most = at(order, "/spec/updateStrategy/maxUnavailable");
    let percent = most.map_or("10%", |most| most.as_str().unwrap_or_default());
    let percent = percent.strip_suffix('%').and_then(|number| number.parse().ok());
    let number = most.and_then(Value::as_u64).and_then(|most| most.try_into().ok());
    let most = number.or_else(|| percent.map(|percent: usize| pairs * percent / 100));
    most.expect("a number or a share").max(1)
}

/// Whether a Guardian has lost its labels after the last that became of its Ticket: if that has finished and korder
/// was restarted before the Guardian went, nothing leads to it until the Ticket goes.
fn stripped_since(guardian: &Value, ticket: &Value) -> bool {
    let revision = |object| {
        text(object, "/metadata/resourceVersion")
            .parse::<u64>()
            .expect("a number")
    };
    text(guardian, "/metadata/labels/korder.dev~1guardian").is_empty()
        && revision(guardian) > revision(ticket)
}

/// All objects at one revision.
pub struct State {
    orders: Vec<Arc<Value>>,
    nodes: Vec<Arc<Value>>,
    tickets: Vec<Arc<Value>>,
    pods: Vec<Arc<Value>>,
    now: jiff::Timestamp,
    grace: SignedDuration,
}

/// How far a state is from what the rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Pairs that do not have what they deserve.
    pub pairs: BTreeMap<Pair, String>,
    /// What else is wrong.
    pub other: Vec<String>,
}

impl Gaps {
    /// Whether all is as it should be.
    pub fn none(&self) -> bool {
        self.pairs.is_empty() && self.other.is_empty()
    }
}

impl State {
    /// The state of `cluster` now; `grace` is the flag's.
    pub fn of(cluster: &Cluster, grace: SignedDuration) -> Self {
        cluster.api(|api| Self {
            orders: api.list("orders"),
            nodes: api.list("nodes"),
            tickets: api.list("tickets"),
            pods: api.list("pods"),
            now: api.now(),
            grace,
        })
    }

    /// What is not as the rules say.
    pub fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        let mut tickets = BTreeMap::<Pair, Vec<&Arc<Value>>>::new();
        for ticket in self.tickets.iter().filter(|ticket| open(ticket)) {
            match pair(ticket) {
                Some(pair) => tickets.entry(pair).or_default().push(ticket),
                None => gaps
                    .other
                    .push(format!("{} is nobody's", text(ticket, "/metadata/name"))),
            }
        }
        let guardians = self.guardians(&mut gaps);
        for order in &self.orders {
            self.order(order, &mut tickets, &guardians, &mut gaps);
        }
        for (pair, left) in tickets {
            let names: Vec<&str> = left.iter().map(|ticket| text(ticket, "/metadata/name")).collect();
            gaps.pairs
                .insert(pair, format!("{names:?} of no Order or no node"));
        }
        let over = overcommitted(&self.nodes, &self.pods);
        gaps.other
            .extend(over.into_iter().map(|over| format!("overcommitted {over}")));
        gaps
    }

    /// Guardians by their Ticket's uid; those without a Ticket are gaps.
    fn guardians(&self, gaps: &mut Gaps) -> BTreeMap<&str, &Arc<Value>> {
        let known: BTreeMap<&str, &Arc<Value>> =
            self.tickets.iter().map(|ticket| (uid(ticket), ticket)).collect();
        let mut guardians = BTreeMap::new();
        for pod in &self.pods {
            let Some(ticket) = owner(pod, "Ticket") else {
                continue;
            };
            let name = text(pod, "/metadata/name");
            if !known.contains_key(ticket) {
                gaps.other.push(format!("{name} guards no Ticket"));
            } else if self.waits_under_cover(pod, known[ticket]) {
                // Until its node is eligible again.
            } else if guardians.insert(ticket, pod).is_some() {
                gaps.other
                    .push(format!("{name} guards a Ticket that is guarded already"));
            }
        }
        guardians
    }

    /// Whether a Guardian under cover cannot take over now.
    fn waits_under_cover(&self, pod: &Value, ticket: &Value) -> bool {
        if items(pod, "/spec/schedulingGates").is_empty() {
            return false;
        }
        let of = |all: &[Arc<Value>], wanted: &str| all.iter().find(|one| uid(one) == wanted).cloned();
        let order = of(&self.orders, owner(ticket, "Order").unwrap_or_default());
        let node = of(&self.nodes, text(ticket, "/spec/nodeUID"));
        !order
            .zip(node)
            .is_some_and(|(order, node)| deserves(&order, &node, self.grace, self.now) == Deserves::Ticket)
    }

    fn order(
        &self,
        order: &Arc<Value>,
        tickets: &mut BTreeMap<Pair, Vec<&Arc<Value>>>,
        guardians: &BTreeMap<&str, &Arc<Value>>,
        gaps: &mut Gaps,
    ) {
        let (mut desired, mut reserved, mut held) = (0, 0, 0);
        let timed = valid(order) && !deleting(order);
        if timed && windows::at_an_edge(order, self.now, EDGE) {
            tickets.retain(|(of, _), _| of != uid(order));
            return;
        }
        if timed {
            self.finished(order, guardians, gaps);
        }
        let stuck = self.stuck(order);
        for node in &self.nodes {
            let pair = (uid(order).to_owned(), uid(node).to_owned());
            let own = tickets.remove(&pair).unwrap_or_default();
            let is_reserved = own
                .iter()
                .any(|ticket| text(ticket, "/status/phase") == "Reserved");
            let deserved = deserves(order, node, self.grace, self.now);
            let wanted = deserved == Deserves::Ticket;
            desired += u32::from(wanted);
            reserved += u32::from(is_reserved);
            held += u32::from(is_reserved && wanted);
            let gap = match deserved {
                Deserves::Ticket => self.missing(order, node, &own, guardians, stuck),
                Deserves::Closed => (!own.is_empty()).then(|| "an open Ticket outside of windows".to_owned()),
                Deserves::Until(Some(end)) if end <= self.now => {
                    (!own.is_empty()).then(|| "a Ticket on a node that is not eligible".to_owned())
                }
                Deserves::Until(_) | Deserves::AsItIs => None,
            };
            if let Some(gap) = gap {
                let (order, node) = (text(order, "/metadata/name"), text(node, "/metadata/name"));
                gaps.pairs.insert(pair, format!("{order} on {node}: {gap}"));
            }
        }
        if asks(order) {
            let counts = [
                ("replicas", desired),
                ("availableReplicas", reserved),
                ("unavailableReplicas", desired - held),
            ];
            for (field, count) in counts {
                let told = order
                    .pointer(&format!("/status/{field}"))
                    .cloned()
                    .unwrap_or(json!(0));
                if told != json!(count) {
                    let name = text(order, "/metadata/name");
                    gaps.other
                        .push(format!("{name}: status.{field} is {told}, not {count}"));
                }
            }
        }
        if !deleting(order) {
            let open = || windows::current(order, self.now).is_some();
            let reason = match (valid(order), desired, desired - held) {
                (false, _, _) => "InvalidSpec",
                _ if !open() && windows::another(order, self.now) => "OutsideWindow",
                _ if !open() => "Completed",
                (_, 0, _) => "NoEligibleNodes",
                (_, _, 0) => "AllReserved",
                _ if !asks(order) => "Paused",
                _ => "Reserving",
            };
            let ready = condition(order, "Ready").map_or("", |ready| text(ready, "/reason"));
            if ready != reason {
                let name = text(order, "/metadata/name");
                gaps.other
                    .push(format!("{name}: Ready says {ready}, not {reason}"));
            }
        }
        let generation = at(order, "/metadata/generation");
        if !deleting(order) && at(order, "/status/observedGeneration") != generation {
            let name = text(order, "/metadata/name");
            gaps.other
                .push(format!("{name}: status.observedGeneration is not {generation:?}"));
        }
        if deleting(order) {
            gaps.other
                .push(format!("{} has not gone", text(order, "/metadata/name")));
        }
    }

    /// Finished Tickets hold no room, and go when the rules let them.
    fn finished(&self, order: &Value, guardians: &BTreeMap<&str, &Arc<Value>>, gaps: &mut Gaps) {
        let own = |ticket: &&Arc<Value>| owner(ticket, "Order") == Some(uid(order));
        let sequence = |ticket: &Value| at(ticket, "/spec/sequence").and_then(Value::as_i64);
        for ticket in self
            .tickets
            .iter()
            .filter(own)
            .filter(|ticket| windows::finished(ticket))
        {
            let name = text(ticket, "/metadata/name");
            let newer = self
                .tickets
                .iter()
                .filter(|other| pair(other) == pair(ticket) && sequence(other) > sequence(ticket));
            let newer: Vec<&Value> = newer.map(|newer| &**newer).collect();
            if windows::may_go(order, ticket, &newer, self.now - EDGE) {
                gaps.other.push(format!("{name} is finished and stays"));
            }
            let guardian = guardians.get(uid(ticket));
            if guardian.is_some_and(|guardian| !stripped_since(guardian, ticket)) {
                gaps.other.push(format!("{name} is finished and guarded"));
            }
        }
    }

    /// Whether a roll-out may stand still: as many pairs as may have lost the room they had, and wait for it.
    fn stuck(&self, order: &Value) -> bool {
        let eligible = |node: &&Arc<Value>| deserves(order, node, self.grace, self.now) == Deserves::Ticket;
        let own = |ticket: &&Arc<Value>| owner(ticket, "Order") == Some(uid(order));
        let waits = |ticket: &&Arc<Value>| {
            text(ticket, "/status/phase") == "Pending" && !text(ticket, "/status/activationTime").is_empty()
        };
        let (desired, waiting) = (
            self.nodes.iter().filter(eligible).count(),
            self.tickets.iter().filter(own).filter(waits).count(),
        );
        waiting >= max_unavailable(order, desired)
    }

    /// What is wrong with the window that a Ticket's status names.
    fn of_another_window(&self, order: &Value, ticket: &Value) -> Option<String> {
        let window = windows::current(order, self.now)?;
        let said = [
            windows::time(ticket, "/status/windowStart"),
            windows::time(ticket, "/status/expirationTime"),
        ];
        let unsaid = said == [None, None];
        let right = said == [Some(window.start), window.end];
        let silent = unsaid && (text(ticket, "/status/phase") == "Pending" || window.end.is_none());
        (!right && !silent).then(|| format!("a Ticket of {said:?} in {window:?}"))
    }

    /// What an eligible pair lacks.
    fn missing(
        &self,
        order: &Value,
        node: &Value,
        own: &[&Arc<Value>],
        guardians: &BTreeMap<&str, &Arc<Value>>,
        stuck: bool,
    ) -> Option<String> {
        let [ticket] = own else {
            let paused = !asks(order) && own.is_empty();
            return (!paused).then(|| format!("{} open Tickets", own.len()));
        };
        if !asks(order) {
            return None;
        }
        let (wanted, has) = (at(order, "/spec/template/spec")?, ticket.get("spec")?);
        let same_amounts = ["/resources/requests", "/resources/limits"].iter().all(|list| {
            amounts(at(wanted, list)) == amounts(at(has, list)) || wanted.get("resources").is_none()
        });
        let same = same_amounts && items(wanted, "/tolerations") == items(has, "/tolerations");
        let waits_for_its_turn = stuck && text(ticket, "/status/phase") == "Reserved";
        if !(same || waits_for_its_turn) {
            return Some("a Ticket of another template".to_owned());
        }
        if text(ticket, "/spec/nodeName") != text(node, "/metadata/name") {
            return Some("a Ticket of another node name".to_owned());
        }
        if let Some(wrong) = self.of_another_window(order, ticket) {
            return Some(wrong);
        }
        let Some(guardian) = guardians.get(uid(ticket)) else {
            return Some("a Ticket without a Guardian".to_owned());
        };
        let tolerated = items(guardian, "/spec/tolerations");
        if items(has, "/tolerations")
            .iter()
            .any(|asked| !tolerated.contains(asked))
        {
            return Some("a Guardian that tolerates less".to_owned());
        }
        let asked = |object: &Value, list: &str| amounts(at(object, list));
        if asked(guardian, "/spec/containers/0/resources/requests") != asked(has, "/resources/requests")
            && wanted.get("resources").is_some()
        {
            let (guardian, ticket) = (
                asked(guardian, "/spec/containers/0/resources/requests"),
                asked(has, "/resources/requests"),
            );
            return Some(format!(
                "a Guardian of another size: {guardian:?}, not {ticket:?}"
            ));
        }
        let phase = text(ticket, "/status/phase");
        let waits = condition(guardian, "PodScheduled")
            .is_some_and(|condition| text(condition, "/reason") == "Unschedulable");
        match (occupies(guardian), phase) {
            (true, "Reserved") | (false, "Pending") if occupies(guardian) || waits => None,
            (bound, phase) => Some(format!("a {phase} Ticket, Guardian bound: {bound}")),
        }
    }
}
