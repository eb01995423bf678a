//! The CamelCase words a Ticket's `status.reason` may hold, and when two messages say the same.
//!
//! Each word is written once, here; Events, status and metrics use it from here.

use std::sync::Arc;

/// The scheduler finds no room on the node.
pub(crate) const INSUFFICIENT_RESOURCES: &str = "InsufficientResources";
/// The API server refused the Guardian.
pub(crate) const GUARDIAN_REFUSED: &str = "GuardianRefused";
/// The API server refused the Ticket.
pub(crate) const TICKET_REFUSED: &str = "TicketRefused";
/// The Guardian was deleted or evicted by somebody else.
pub(crate) const GUARDIAN_DELETED: &str = "GuardianDeleted";
/// The Guardian Succeeded or Failed.
pub(crate) const GUARDIAN_ENDED: &str = "GuardianEnded";
/// There is no Guardian, and nobody saw it go.
pub(crate) const GUARDIAN_MISSING: &str = "GuardianMissing";
/// A foreign object has the name.
pub(crate) const NAME_TAKEN: &str = "NameTaken";
/// The Ticket is being brought to the Order's present template.
pub(crate) const ROLLING_OUT: &str = "RollingOut";
/// The Guardian is on its way.
pub(crate) const RESERVING: &str = "Reserving";

/// What a message says without its numbers: two messages with one gist are not worth two writes.
pub(crate) fn gist(reason: &str, message: &str) -> Arc<str> {
    let words = message.chars().filter(|character| !character.is_ascii_digit());
    format!("{reason}: {}", words.collect::<String>()).into()
}
