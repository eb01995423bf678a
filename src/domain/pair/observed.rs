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
pub struct Revision(pub u64);

impl Revision {
    /// Reads `metadata.resourceVersion`.
    pub fn parse(text: Option<&str>) -> Self {
        Self(text.and_then(|text| text.parse().ok()).unwrap_or_default())
    }
}

/// What decisions read of a Ticket.
#[derive(Clone, Debug, PartialEq)]
pub struct TicketView {
    /// Namespace and name.
    pub key: TicketKey,
    /// `metadata.uid`.
    pub uid: TicketUid,
    /// `metadata.resourceVersion`.
    pub revision: Revision,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// The controlling Order.
    pub order: OrderUid,
    /// Its name.
    pub order_name: Arc<str>,
    /// `spec.nodeUID`.
    pub node: NodeUid,
    /// `spec.nodeName`.
    pub node_name: NodeName,
    /// `spec.sequence`.
    pub sequence: i64,
    /// `spec.templateHash`.
    pub template_hash: Arc<str>,
    /// What `spec` asks for.
    pub demand: Demand,
    /// `spec.duration`.
    pub duration: Option<Arc<str>>,
    /// `spec.lifecycle`.
    pub lifecycle: Lifecycle,
    /// `status.phase`.
    pub phase: Phase,
    /// `status.windowStart`.
    pub window_start: Option<Timestamp>,
    /// `status.expirationTime`.
    pub expires: Option<Timestamp>,
    /// `status.finishedTime`.
    pub finished_at: Option<Timestamp>,
    /// `status.reason`.
    pub reason: Option<Arc<str>>,
    /// `status.message`.
    pub message: Option<Arc<str>>,
    /// `status.podName`.
    pub pod_name: Option<Arc<str>>,
    /// `status.activationTime`.
    pub activated: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Whether the four `korder.dev/` labels are as they were made.
    pub labels_intact: bool,
    /// Whether it has no label of a shard, so that only the watch of such Tickets shows it.
    pub unlabelled: bool,
    /// Labels outside `korder.dev/`.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl TicketView {
    /// Pending or Reserved.
    pub fn open(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Reserved)
    }

    /// Released or Expired.
    pub fn finished(&self) -> bool {
        matches!(self.phase, Phase::Released | Phase::Expired)
    }
}

/// Where a Guardian is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardianState {
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
pub struct GuardianView {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.resourceVersion`.
    pub revision: Revision,
    /// The controlling Ticket.
    pub ticket: TicketKey,
    /// Its uid.
    pub ticket_uid: TicketUid,
    /// The Order it is for.
    pub order: OrderUid,
    /// Where it is in its life.
    pub state: GuardianState,
    /// `spec.schedulingGates`.
    pub gates: Box<[Arc<str>]>,
    /// `status.nominatedNodeName`.
    pub nominated: Option<NodeName>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Whether the `korder.dev/` labels are as they were made.
    pub labels_intact: bool,
    /// The hash of the template it was made from, if it says so.
    pub template_hash: Option<Arc<str>>,
}

impl GuardianView {
    /// Whether it is under cover: kept from the scheduler until another Guardian has made way.
    pub fn covered(&self) -> bool {
        self.gates.iter().any(|gate| **gate == *GATE_COVER)
    }

    /// The gates that are not korder's.
    pub fn other_gates(&self) -> Vec<Arc<str>> {
        let other = |gate: &&Arc<str>| ***gate != *GATE_COVER;
        self.gates.iter().filter(other).cloned().collect()
    }
}
