//! What may be asked of the API server, and what came of it.
//!
//! An [`Op`] is one decision about one Ticket, complete in itself; an [`Outcome`] is all that the
//! decider learns of it.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{
    observed::{GuardianView, Revision, TicketView},
    reason,
};
use crate::api::ticket::Phase;
use crate::domain::{
    node::{eligibility, record::Node},
    order::spec::Order,
    values::ids::{NodeName, OrderKey, OrderUid, PodKey, PodUid, TicketKey, TicketUid},
};

/// One decision about one Ticket. Equal ones come to the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// Make a Ticket.
    CreateTicket {
        order: Arc<Order>,
        node: Arc<Node>,
        sequence: i64,
    },
    /// Bring labels, annotations and the mutable spec in line with the Order's template.
    SyncTicket {
        uid: TicketUid,
        order: Arc<Order>,
        /// The Ticket as it was seen.
        ticket: Box<TicketView>,
        /// Whether it is to ask for what the template asks for, too; it may have to wait for its turn.
        asks: bool,
    },
    /// Write the status.
    SetStatus {
        uid: TicketUid,
        /// The revision the decision was made on.
        revision: Revision,
        /// What to write.
        status: StatusChange,
        /// The window it is written in; none leaves what is there.
        term: Option<Term>,
    },
    /// Carry a Ticket over into a window; the rest of its status stays.
    Renew {
        uid: TicketUid,
        /// The revision the decision was made on.
        revision: Revision,
        /// The window.
        term: Term,
    },
    /// Write that a Ticket's window has ended.
    Expire {
        uid: TicketUid,
        /// The revision the decision was made on.
        revision: Revision,
        /// The window; none leaves what is there.
        term: Option<Term>,
        /// When it was seen to have ended.
        finished: Seen,
        /// Why the Ticket was never Reserved in the end.
        reason: Option<Arc<str>>,
        /// The same for people.
        message: Option<Arc<str>>,
    },
    DeleteTicket {
        uid: TicketUid,
        /// The revision the decision was made on.
        revision: Revision,
        /// Why.
        cause: Cause,
    },
    /// Make the Ticket's Guardian.
    CreateGuardian {
        /// Its name.
        pod: PodKey,
        /// Whether it is to take over the room of another.
        covered: bool,
        /// Where another may be that no watch shows, as it has lost its labels: a GET is to tell first.
        unless: Option<PodKey>,
        uid: TicketUid,
        /// Its Order, whose template is the Ticket's.
        order: Arc<Order>,
        node: Arc<Node>,
    },
    /// Put the labels back on a Guardian, and the annotation.
    RelabelGuardian {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        order: OrderUid,
        /// The template that it was made from, if that is known.
        template_hash: Option<Arc<str>>,
    },
    /// Add the tolerations of the Order's template to a Guardian.
    ExtendGuardian {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        order: Arc<Order>,
    },
    /// Let the scheduler count a Guardian on the node.
    NominateGuardian {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        /// The revision the decision was made on.
        revision: Revision,
        node: NodeName,
    },
    /// Let the scheduler bind a Guardian that was under cover.
    UngateGuardian {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        /// The gates of others.
        gates: Vec<Arc<str>>,
        /// Where the old one may still be: a GET is to tell first.
        unless: PodKey,
    },
    /// Delete a Guardian, grace 0.
    DeleteGuardian {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        /// Why.
        cause: Cause,
    },
    /// Delete a Guardian if a GET says that its Ticket is gone.
    DeleteOrphan {
        /// The Guardian.
        pod: PodKey,
        uid: PodUid,
        /// The uid its Ticket had.
        ticket: TicketUid,
    },
    /// GET the Ticket.
    ConfirmTicket,
    /// GET a Guardian by name.
    ConfirmGuardian(PodKey),
    /// GET the Order: is it gone, or made anew?
    ConfirmOrder {
        /// Its name.
        key: OrderKey,
        /// The uid it had.
        uid: OrderUid,
    },
    /// GET the Node: is it gone, or made anew?
    ConfirmNode(Box<TicketView>),
}

impl Op {
    /// Whether this takes a Reserved Ticket's turn in a roll-out.
    pub(crate) fn begins_replacement(&self) -> bool {
        matches!(self, Self::SetStatus { status, .. } if status.reason.as_deref() == Some(reason::ROLLING_OUT))
    }

    /// The word for this kind in metrics and logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::CreateTicket { .. } => "create_ticket",
            Self::SyncTicket { .. } => "patch_ticket",
            Self::SetStatus { .. } | Self::Renew { .. } | Self::Expire { .. } => "ticket_status",
            Self::DeleteTicket { .. } => "delete_ticket",
            Self::CreateGuardian { .. } => "create_guardian",
            Self::RelabelGuardian { .. } | Self::ExtendGuardian { .. } => "patch_guardian",
            Self::NominateGuardian { .. } => "nominate_guardian",
            Self::UngateGuardian { .. } => "ungate_guardian",
            Self::DeleteGuardian { .. } | Self::DeleteOrphan { .. } => "delete_guardian",
            Self::ConfirmTicket => "get_ticket",
            Self::ConfirmGuardian(_) => "get_guardian",
            Self::ConfirmOrder { .. } => "get_order",
            Self::ConfirmNode(_) => "get_node",
        }
    }
}

/// When something was seen first: decisions that differ in this alone come to the same, and the first is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(pub(crate) Timestamp);

impl PartialEq for Seen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Seen {}

/// A new status of a Ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusChange {
    pub(crate) phase: Phase,
    /// The reason; none clears it.
    pub(crate) reason: Option<Arc<str>>,
    /// The message; none clears it.
    pub(crate) message: Option<Arc<str>>,
    /// The Guardian; none clears it.
    pub(crate) pod_name: Option<Arc<str>>,
    /// Set once, when the Ticket is Reserved first.
    pub(crate) activation: Option<Seen>,
}

/// The window that a Ticket's status names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// `windowStart`.
    pub(crate) start: Timestamp,
    /// `expirationTime`; none clears it.
    pub(crate) end: Option<Timestamp>,
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The node lost eligibility.
    Ineligible(eligibility::Reason),
    NodeGone,
    /// The Order is gone or being deleted.
    OrderGone,
    /// The Ticket is finished, and nothing needs it any more.
    Finished,
    /// The pair has another open Ticket.
    Duplicate,
    /// The Guardian ended by itself.
    GuardianEnded,
    /// The Guardian was made from an older template.
    Replaced,
    /// The Guardian runs on another node.
    WrongNode,
}

impl Cause {
    /// The CamelCase word for Events and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ineligible(reason) => reason.as_str(),
            Self::NodeGone => "NodeGone",
            Self::OrderGone => "OrderGone",
            Self::Finished => "Finished",
            Self::Duplicate => "Duplicate",
            Self::GuardianEnded => "GuardianEnded",
            Self::Replaced => "Replaced",
            Self::WrongNode => "WrongNode",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the watch must show before the pair is decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The Ticket at this revision or later.
    Ticket(TicketUid, Revision),
    /// The end of the Ticket.
    TicketGone(TicketUid),
    /// The Guardian at this revision or later.
    Guardian(PodKey, PodUid, Revision),
    /// The end of the Guardian.
    GuardianGone(PodKey, PodUid),
}

/// What a GET told.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    /// The Ticket exists.
    Ticket(Box<TicketView>),
    /// No Ticket has this name, or one with another uid.
    TicketGone(TicketKey),
    /// The Guardian exists.
    Guardian(Box<GuardianView>),
    /// No Pod has this name, or one that is not the Ticket's.
    GuardianGone(PodKey),
    /// The Order is gone (true) or lives.
    OrderGone(bool),
    /// The Node is gone (true) or lives.
    NodeGone(bool),
}

/// What came of an [`Op`].
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It landed; the watch will show this.
    Landed(Expect),
    /// A GET told the state of things.
    Observed(Observation),
    /// The API server will not have it.
    Refused {
        /// A CamelCase word.
        reason: &'static str,
        /// The API server's message.
        message: Arc<str>,
    },
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Nothing landed, and trying again may help.
    Retry {
        /// For logs.
        message: Arc<str>,
    },
    /// The API server has too much to do, or answers nobody: nothing is wrong with this operation, and
    /// the budget sees to it that trying again costs little.
    Busy {
        /// For logs.
        message: Arc<str>,
    },
}

impl Outcome {
    /// The word for this outcome in metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Landed(_) => "landed",
            Self::Observed(_) => "observed",
            Self::Refused { .. } | Self::NamespaceTerminating => "refused",
            Self::Retry { .. } => "retry",
            Self::Busy { .. } => "busy",
        }
    }
}
