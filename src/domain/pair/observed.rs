//! What the watches show of Tickets and Guardians, reduced to what decisions read.
//!
//! A view never changes: a newer one replaces it. `Revision` orders the views of one object.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::api::{GATE_COVER, order::Lifecycle, ticket::Phase};
use crate::domain::{
    order::demand::Demand,
    values::ids::{NodeName, NodeUid, OrderUid, PodKey, PodUid, TicketKey, TicketUid},
};

/// A `resourceVersion`: a decimal number that grows (KEP-5504); 0 if it is not one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Revision(pub(crate) u64);

impl Revision {
    /// Reads `metadata.resourceVersion`.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        Self(text.and_then(|text| text.parse().ok()).unwrap_or_default())
    }
}

/// What decisions read of a Ticket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TicketView {
    /// Namespace and name.
    pub(crate) key: TicketKey,
    /// `metadata.uid`.
    pub(crate) uid: TicketUid,
    /// `metadata.resourceVersion`.
    pub(crate) revision: Revision,
    /// `metadata.creationTimestamp`.
    pub(crate) created: Timestamp,
    /// The controlling Order.
    pub(crate) order: OrderUid,
    pub(crate) order_name: Arc<str>,
    /// `spec.nodeUID`.
    pub(crate) node: NodeUid,
    /// `spec.nodeName`.
    pub(crate) node_name: NodeName,
    /// `spec.sequence`.
    pub(crate) sequence: i64,
    /// `spec.templateHash`.
    pub(crate) template_hash: Arc<str>,
    /// What `spec` asks for.
    pub(crate) demand: Demand,
    /// `spec.duration`.
    pub(crate) duration: Option<Arc<str>>,
    /// `spec.lifecycle`.
    pub(crate) lifecycle: Lifecycle,
    /// `status.phase`.
    pub(crate) phase: Phase,
    /// `status.windowStart`.
    pub(crate) window_start: Option<Timestamp>,
    /// `status.expirationTime`.
    pub(crate) expires: Option<Timestamp>,
    /// `status.finishedTime`.
    pub(crate) finished_at: Option<Timestamp>,
    /// `status.reason`.
    pub(crate) reason: Option<Arc<str>>,
    /// `status.message`.
    pub(crate) message: Option<Arc<str>>,
    /// `status.podName`.
    pub(crate) pod_name: Option<Arc<str>>,
    /// `status.activationTime`.
    pub(crate) activated: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub(crate) deleting: bool,
    /// Whether the four `korder.dev/` labels are as they were made.
    pub(crate) labels_intact: bool,
    /// Whether it has no label of a shard, so that only the watch of such Tickets shows it.
    pub(crate) unlabelled: bool,
    /// Labels outside `korder.dev/`.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl TicketView {
    /// Pending or Reserved.
    pub(crate) fn open(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Reserved)
    }

    /// Released or Expired.
    pub(crate) fn finished(&self) -> bool {
        matches!(self.phase, Phase::Released | Phase::Expired)
    }
}

/// Where a Guardian is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardianState {
    /// Not bound; the scheduler's message if it found no room.
    Unbound {
        /// `message` of the condition `PodScheduled=False`.
        unschedulable: Option<Arc<str>>,
    },
    /// Bound to this node and not ended.
    Bound(NodeName),
    /// Succeeded or Failed.
    Ended {
        /// `status.reason` and `status.message`.
        message: Arc<str>,
    },
}

/// What decisions read of a Guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuardianView {
    /// Namespace and name.
    pub(crate) key: PodKey,
    /// `metadata.uid`.
    pub(crate) uid: PodUid,
    /// `metadata.resourceVersion`.
    pub(crate) revision: Revision,
    /// The controlling Ticket.
    pub(crate) ticket: TicketKey,
    pub(crate) ticket_uid: TicketUid,
    pub(crate) order: OrderUid,
    /// Where it is in its life.
    pub(crate) state: GuardianState,
    /// `spec.schedulingGates`.
    pub(crate) gates: Box<[Arc<str>]>,
    /// `status.nominatedNodeName`.
    pub(crate) nominated: Option<NodeName>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub(crate) deleting: bool,
    /// Whether the `korder.dev/` labels are as they were made.
    pub(crate) labels_intact: bool,
    /// The hash of the template it was made from, if it says so.
    pub(crate) template_hash: Option<Arc<str>>,
}

impl GuardianView {
    /// Whether it is under cover: kept from the scheduler until another Guardian has made way.
    pub(crate) fn covered(&self) -> bool {
        self.gates.iter().any(|gate| **gate == *GATE_COVER)
    }

    /// The gates that are not korder's.
    pub(crate) fn other_gates(&self) -> Vec<Arc<str>> {
        let other = |gate: &&Arc<str>| ***gate != *GATE_COVER;
        self.gates.iter().filter(other).cloned().collect()
    }
}
