//! All Orders at one moment, and which of them a node is eligible for.
//!
//! Readers hold an immutable [`Snapshot`]; one writer builds the next. The plain scan here is the
//! definition that anything faster is tested against.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crate::domain::{
    node::{
        eligibility::{Verdict, evaluate},
        record::Node,
    },
    order::spec::Order,
    values::ids::OrderUid,
};

/// All Orders at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    orders: BTreeMap<OrderUid, Arc<Order>>,
    label_keys: BTreeSet<Arc<str>>,
}

/// A hash over what Orders can see of a node: equal fingerprints, equal decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Snapshot {
    pub(crate) fn order(&self, uid: &OrderUid) -> Option<&Arc<Order>> {
        self.orders.get(uid)
    }

    /// All Orders, by uid.
    pub(crate) fn orders(&self) -> impl Iterator<Item = &Arc<Order>> {
        self.orders.values()
    }

    /// Writes the Orders that `node` is eligible for into `out`, sorted.
    pub(crate) fn matching(&self, node: &Node, grace: Duration, out: &mut Vec<OrderUid>) {
        out.clear();
        let eligible = self.orders.values().filter(|order| eligible(order, node, grace));
        out.extend(eligible.map(|order| order.uid.clone()));
    }

    /// The node as Orders see it: the label pairs they mention, taints, readiness, cordon.
    pub(crate) fn fingerprint(&self, node: &Node) -> Fingerprint {
        let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
        node.name.hash(&mut hasher);
        (node.unschedulable, node.ready, &node.taints).hash(&mut hasher);
        for key in &self.label_keys {
            node.labels.get(key).hash(&mut hasher);
        }
        Fingerprint(hasher.finish())
    }
}

/// Whether `node` is eligible for `order`; never for an invalid one.
pub(super) fn eligible(order: &Order, node: &Node, grace: Duration) -> bool {
    order
        .spec
        .as_ref()
        .is_ok_and(|spec| evaluate(&spec.placement, node, grace) == Verdict::Eligible)
}

/// The one writer of [`Snapshot`]s.
#[derive(Debug, Default)]
pub(crate) struct Index {
    next: Snapshot,
}

impl Index {
    pub(crate) fn order(&self, uid: &OrderUid) -> Option<&Arc<Order>> {
        self.next.orders.get(uid)
    }

    /// Adds an Order or replaces it.
    pub(crate) fn apply(&mut self, order: Arc<Order>) {
        self.next.orders.insert(order.uid.clone(), order);
    }

    /// Takes an Order away; returns it if it was there.
    pub(crate) fn delete(&mut self, uid: &OrderUid) -> Option<Arc<Order>> {
        self.next.orders.remove(uid)
    }

    /// The Orders as they are now, for readers to keep.
    pub(crate) fn publish(&mut self) -> Arc<Snapshot> {
        let specs = self
            .next
            .orders
            .values()
            .filter_map(|order| order.spec.as_ref().ok());
        self.next.label_keys = specs
            .flat_map(|spec| spec.placement.selector.label_keys())
            .map(Arc::from)
            .collect();
        Arc::new(self.next.clone())
    }
}
