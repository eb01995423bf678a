//! What a shard says of its Orders: counts, and news worth an Event.
//!
//! Counts are kept by difference, so that a report costs nothing per unaffected pair.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{order::UnavailableReason, shard::OrderCounts, ticket::Phase},
    domain::values::ids::{NodeName, OrderUid},
};

/// How many reasons a report names.
const REASONS: usize = 5;

/// What one pair adds to its Order's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairSummary {
    /// The node is eligible.
    pub(crate) desired: bool,
    /// Phases of the pair's Tickets.
    pub(crate) phases: Vec<Phase>,
    /// Why the eligible node has no Reserved, Claiming or Claimed Ticket.
    pub(crate) unavailable: Option<Arc<str>>,
    /// A Reserved Ticket has the present template.
    pub(crate) updated: bool,
    /// The node is eligible and its Reserved Ticket has another template.
    pub(crate) stale: bool,
    /// A Ticket that was Reserved is in replacement.
    pub(crate) rolling: bool,
}

/// What one shard has of one Order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Eligible nodes.
    pub(crate) desired: u32,
    /// Tickets by phase.
    pub(crate) phases: BTreeMap<Phase, u32>,
    /// Eligible nodes without a Reserved, Claiming or Claimed Ticket.
    pub(crate) unavailable: u32,
    /// Reserved Tickets of the present template.
    pub(crate) updated: u32,
    /// Eligible nodes whose Reserved Ticket has another template.
    pub(crate) stale: u32,
    /// Pairs in replacement.
    pub(crate) rolling: u32,
    /// The nodes behind `unavailable`, by reason. Two may have one name for a moment: when a Node is
    /// made anew and a relist shows the new one first.
    pub(crate) reasons: BTreeMap<Arc<str>, BTreeMap<NodeName, u32>>,
}

impl Counts {
    /// Adds one pair.
    pub(crate) fn add(&mut self, node: &NodeName, pair: &PairSummary) {
        self.desired += u32::from(pair.desired);
        self.updated += u32::from(pair.updated);
        self.stale += u32::from(pair.stale);
        self.rolling += u32::from(pair.rolling);
        for &phase in &pair.phases {
            *self.phases.entry(phase).or_default() += 1;
        }
        if let Some(reason) = &pair.unavailable {
            self.unavailable += 1;
            let nodes = self.reasons.entry(reason.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
        }
    }

    /// Takes one pair away that was added before.
    pub(crate) fn remove(&mut self, node: &NodeName, pair: &PairSummary) {
        self.desired -= u32::from(pair.desired);
        self.updated -= u32::from(pair.updated);
        self.stale -= u32::from(pair.stale);
        self.rolling -= u32::from(pair.rolling);
        for phase in &pair.phases {
            *self.phases.get_mut(phase).expect("added before") -= 1;
        }
        if let Some(reason) = &pair.unavailable {
            self.unavailable -= 1;
            let nodes = self.reasons.get_mut(reason).expect("added before");
            let count = nodes.get_mut(node).expect("added before");
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
            if nodes.is_empty() {
                self.reasons.remove(reason);
            }
        }
    }

    /// Tickets in `phase`.
    pub(crate) fn in_phase(&self, phase: Phase) -> u32 {
        self.phases.get(&phase).copied().unwrap_or(0)
    }

    /// The counts as they are written, with the five most frequent reasons. `begun` replacements are not
    /// seen yet.
    pub(crate) fn summary(
        &self,
        order: &OrderUid,
        generation: i64,
        begun: u32,
        grant_seq: i64,
    ) -> OrderCounts {
        let mut reasons: Vec<UnavailableReason> = self
            .reasons
            .iter()
            .map(|(reason, nodes)| UnavailableReason {
                reason: reason.to_string(),
                count: nodes.values().sum(),
                node: nodes.keys().next().map(ToString::to_string).unwrap_or_default(),
            })
            .collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        reasons.truncate(REASONS);
        OrderCounts {
            order_uid: order.to_string(),
            desired: self.desired,
            reserved: self.in_phase(Phase::Reserved),
            claiming: self.in_phase(Phase::Claiming),
            claimed: self.in_phase(Phase::Claimed),
            unavailable: self.unavailable,
            pending: self.in_phase(Phase::Pending),
            released: self.in_phase(Phase::Released),
            expired: self.in_phase(Phase::Expired),
            updated: self.updated,
            stale: self.stale,
            rolling: self.rolling + begun,
            grant_seq,
            generation,
            reasons,
        }
    }
}

/// What one shard has of one Order.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) order: OrderUid,
    /// The counts; none once neither the Order nor a pair of it is left.
    pub(crate) counts: Option<OrderCounts>,
}

/// Something that happened to one pair, or to an Order, and is worth an Event on the Order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) order: OrderUid,
    /// What happened.
    pub(crate) kind: NoticeKind,
    pub(crate) node: NodeName,
    /// The reason, for removals and failures.
    pub(crate) reason: Arc<str>,
    /// A message for people, for failures.
    pub(crate) message: Arc<str>,
}

impl Notice {
    /// What happened to an Order as a whole.
    pub(crate) fn on_order(order: &OrderUid, reason: &'static str, message: String) -> Self {
        Self {
            order: order.clone(),
            kind: NoticeKind::Order(reason),
            node: "".into(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Kinds of [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NoticeKind {
    /// A Ticket was made.
    Created,
    /// A Ticket was removed.
    Removed,
    /// A Ticket or its Guardian failed or was refused.
    Failing,
    /// What is said of the Order itself has changed, such as that a window opened; with the Event's reason.
    Order(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_of_one_name_are_counted_and_taken_away_each_on_its_own() {
        let (mut counts, node) = (Counts::default(), NodeName::from("n1"));
        let pair = PairSummary {
            desired: true,
            unavailable: Some("Reserving".into()),
            ..PairSummary::default()
        };
        counts.add(&node, &pair);
        counts.add(&node, &pair);
        assert_eq!(counts.summary(&"o".into(), 1, 0, 0).reasons[0].count, 2);
        counts.remove(&node, &pair);
        counts.remove(&node, &pair);
        assert_eq!(
            counts,
            Counts {
                phases: BTreeMap::new(),
                ..Counts::default()
            }
        );
    }

    /// A count that would go below zero is a broken invariant, in every build.
    #[test]
    #[should_panic(expected = "overflow")]
    fn a_pair_that_was_never_added_cannot_be_taken_away() {
        let pair = PairSummary {
            desired: true,
            ..PairSummary::default()
        };
        Counts::default().remove(&"n1".into(), &pair);
    }
}
