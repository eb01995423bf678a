//! The nodes of one shard, and what each was last found to match.
//!
//! A change that no Order can see ends here. Any other is answered with the Orders whose pair with the node it
//! touches: those gained, and those known whose eligibility is not simply as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use jiff::Timestamp;

use super::orders::{Fingerprint, Snapshot, eligible};
use crate::domain::{
    node::record::Node,
    order::spec::Order,
    values::ids::{NodeName, NodeUid, OrderUid},
};

/// One shard's nodes under the Orders of one moment.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// How long a NotReady node keeps its Tickets.
    grace: Duration,
    orders: Arc<Snapshot>,
    nodes: IndexMap<NodeUid, Entry, ahash::RandomState>,
    not_ready: BTreeMap<Timestamp, u32>,
}

#[derive(Debug)]
struct Entry {
    node: Arc<Node>,
    fingerprint: Fingerprint,
    /// Orders the node is eligible for, sorted.
    matches: Vec<OrderUid>,
}

/// What came of a changed node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Nothing that any Order can see has changed.
    Nothing,
    /// The pairs of the node with these Orders.
    Pairs(BTreeSet<OrderUid>),
}

impl Nodes {
    /// No nodes, no Orders.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            orders: Arc::default(),
            nodes: IndexMap::default(),
            not_ready: BTreeMap::new(),
        }
    }

    /// A node was added or changed; it has pairs with the Orders in `known`.
    pub(crate) fn apply(&mut self, node: Arc<Node>, known: &[OrderUid]) -> Touched {
        let fingerprint = self.orders.fingerprint(&node);
        let uid = node.uid.clone();
        let before = self.nodes.get(&uid).map(|entry| entry.node.clone());
        self.count(before.as_deref(), Some(&node));
        match self.nodes.get_mut(&uid) {
            Some(entry) if entry.fingerprint == fingerprint => {
                entry.node = node;
                return Touched::Nothing;
            }
            Some(entry) => (entry.node, entry.fingerprint) = (node, fingerprint),
            None => {
                let entry = Entry {
                    node,
                    fingerprint,
                    matches: Vec::new(),
                };
                self.nodes.insert(uid.clone(), entry);
            }
        }
        Touched::Pairs(self.rematch(&uid, known))
    }

    fn rematch(&mut self, uid: &NodeUid, known: &[OrderUid]) -> BTreeSet<OrderUid> {
        let entry = self.nodes.get_mut(uid).expect("just applied");
        let mut matches = Vec::new();
        self.orders.matching(&entry.node, self.grace, &mut matches);
        let before = std::mem::replace(&mut entry.matches, matches);
        let matches = &entry.matches;
        let new = |order: &&OrderUid| before.binary_search(order).is_err();
        let unsettled = |order: &&OrderUid| new(order) || matches.binary_search(order).is_err();
        let gained = matches.iter().filter(new);
        gained.chain(known.iter().filter(unsettled)).cloned().collect()
    }

    /// A node is gone; returns it if it was there.
    pub(crate) fn delete(&mut self, uid: &NodeUid) -> Option<Arc<Node>> {
        let entry = self.nodes.swap_remove(uid)?;
        self.count(Some(&entry.node), None);
        Some(entry.node)
    }

    /// The Orders as they are from now on, of which these were added, changed or deleted; returns for each the nodes
    /// that it has gained.
    pub(crate) fn apply_orders(
        &mut self,
        orders: Arc<Snapshot>,
        changed: &[OrderUid],
    ) -> Vec<(OrderUid, Vec<(NodeUid, NodeName)>)> {
        self.orders = orders;
        let gained = |uid: &OrderUid| (uid.clone(), self.rematch_order(uid));
        let gained = changed.iter().map(gained).collect();
        for entry in self.nodes.values_mut() {
            entry.fingerprint = self.orders.fingerprint(&entry.node);
        }
        gained
    }

    fn rematch_order(&mut self, uid: &OrderUid) -> Vec<(NodeUid, NodeName)> {
        let order = self.orders.order(uid).cloned();
        let mut gained = Vec::new();
        for (node, entry) in &mut self.nodes {
            let matched = order
                .as_ref()
                .is_some_and(|order| eligible(order, &entry.node, self.grace));
            match (entry.matches.binary_search(uid), matched) {
                (Err(index), true) => {
                    entry.matches.insert(index, uid.clone());
                    gained.push((node.clone(), entry.node.name.clone()));
                }
                (Ok(index), false) => {
                    entry.matches.remove(index);
                }
                _ => {}
            }
        }
        gained
    }

    pub(crate) fn order(&self, uid: &OrderUid) -> Option<&Arc<Order>> {
        self.orders.order(uid)
    }

    pub(crate) fn node(&self, uid: &NodeUid) -> Option<&Arc<Node>> {
        self.nodes.get(uid).map(|entry| &entry.node)
    }

    /// All nodes.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().map(|entry| &entry.node)
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How long a NotReady node keeps its Tickets.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// How many nodes are NotReady, by since when.
    pub(crate) fn not_ready(&self) -> &BTreeMap<Timestamp, u32> {
        &self.not_ready
    }

    fn count(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let since = Node::not_ready_since;
        let (was, is) = (before.and_then(since), after.and_then(since));
        if was == is {
            return;
        }
        if let Some(since) = is {
            *self.not_ready.entry(since).or_default() += 1;
        }
        if let Some(since) = was
            && let Some(count) = self.not_ready.get_mut(&since)
        {
            *count -= 1;
            if *count == 0 {
                self.not_ready.remove(&since);
            }
        }
    }
}
