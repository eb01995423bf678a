//! What must hold of the room on full nodes: whoever had it keeps it, but for as many pairs of an Order as
//! may be in replacement at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::owner;
use testbed::{
    object::{Key, key, text, uid},
    sim::actors::{amounts::occupies, users::THIEF},
};

/// Which Tickets have a bound Guardian, and which have lost it.
#[derive(Default)]
pub(super) struct Rooms {
    /// How many pairs of an Order may be without the Guardian they had.
    most: Option<u32>,
    /// Bound Guardians by their Ticket's uid; none of a Ticket that has lost them all.
    bound: BTreeMap<String, BTreeSet<Key>>,
    /// The Order and the node of each of these Tickets.
    of: BTreeMap<String, (String, String)>,
}

impl Rooms {
    /// Judges from now on if there is a number.
    pub(super) fn new(most: Option<u32>) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// A Pod changed; returns what is wrong with that. `lost` tells of an Order and a node whether the room may
    /// be let go for another reason.
    pub(super) fn see_pod(
        &mut self,
        pod: &Value,
        gone: bool,
        lost: impl Fn(&str, &str) -> bool,
    ) -> Option<String> {
        let most = self.most?;
        let node = text(pod, "/spec/nodeName");
        let bound = !gone && occupies(pod);
        if text(pod, "/metadata/labels/app") == THIEF {
            let held = self.of.values().any(|(order, of)| of == node && !lost(order, of));
            return (bound && held).then(|| "room stolen".to_owned());
        }
        let ticket = owner(pod, "Ticket")?;
        if bound {
            let own = self.bound.entry(ticket.to_owned()).or_default();
            own.insert(key(pod));
        } else if let Some(own) = self.bound.get_mut(ticket) {
            own.remove(&key(pod));
        }
        let without = |(ticket, own): &(&String, &BTreeSet<Key>)| {
            let of = self.of.get(*ticket);
            own.is_empty() && of.is_some_and(|(order, node)| !lost(order, node))
        };
        let mut orders = BTreeMap::<&str, u32>::new();
        for (ticket, _) in self.bound.iter().filter(without) {
            *orders.entry(&self.of[ticket].0).or_default() += 1;
        }
        let worst = orders.values().max().copied().unwrap_or(0);
        (worst > most).then(|| format!("{worst} pairs without the Guardian they had, not {most}"))
    }

    /// A Ticket is there, or gone.
    pub(super) fn see_ticket(&mut self, ticket: &Value, gone: bool) {
        let order = owner(ticket, "Order").unwrap_or_default();
        if gone {
            self.of.remove(uid(ticket));
            self.bound.remove(uid(ticket));
        } else if !text(ticket, "/status/activationTime").is_empty() {
            let node = text(ticket, "/spec/nodeName");
            self.of
                .insert(uid(ticket).to_owned(), (order.to_owned(), node.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ticket(name: &str, node: &str) -> Value {
        json!({
            "metadata": { "uid": name, "ownerReferences": [{ "kind": "Order", "uid": "o", "controller": true }] },
            "spec": { "nodeName": node },
            "status": { "activationTime": "2030-01-01T00:00:00Z" },
        })
    }

    fn guardian(ticket: &str, node: &str) -> Value {
        let owner = json!({ "kind": "Ticket", "uid": ticket, "controller": true });
        json!({
            "metadata": { "name": format!("guardian-{ticket}-{node}"), "ownerReferences": [owner] },
            "spec": { "nodeName": node },
        })
    }

    fn thief(node: &str) -> Value {
        json!({ "metadata": { "labels": { "app": THIEF } }, "spec": { "nodeName": node } })
    }

    fn kept(_: &str, _: &str) -> bool {
        false
    }

    #[test]
    fn one_pair_too_many_and_a_thief_are_seen() {
        let mut rooms = Rooms::new(Some(1));
        for (name, node) in [("a", "n1"), ("b", "n2")] {
            rooms.see_ticket(&ticket(name, node), false);
            assert_eq!(rooms.see_pod(&guardian(name, node), false, kept), None);
        }
        assert_eq!(rooms.see_pod(&thief(""), false, kept), None);
        assert_eq!(
            rooms.see_pod(&thief("n3"), false, kept),
            None,
            "a node that is nobody's"
        );
        assert_eq!(rooms.see_pod(&guardian("a", "n1"), true, kept), None);
        assert_eq!(
            rooms.see_pod(&guardian("b", "n2"), true, kept).unwrap(),
            "2 pairs without the Guardian they had, not 1"
        );
        assert_eq!(rooms.see_pod(&thief("n1"), false, kept).unwrap(), "room stolen");
        let lost = |_: &str, node: &str| node == "n1";
        assert_eq!(rooms.see_pod(&thief("n1"), false, lost), None);
        rooms.see_ticket(&ticket("a", "n1"), true);
        assert_eq!(rooms.see_pod(&guardian("c", "n4"), false, kept), None);
    }
}
