//! Names and sequence numbers of Tickets and their Guardians.
//!
//! The name is what makes a Ticket unique: two writers that decide the same pair write the same
//! name, and the API server refuses the second.

use super::{
    hash::{base32, fnv1a64},
    ids::{NodeUid, OrderUid},
};

/// Characters of the Order's name that a Ticket's name begins with.
const PREFIX: usize = 40;

/// The name of the Ticket with number `sequence` of a pair.
///
/// ```
/// use korder::domain::ticket::ticket_name;
///
/// let name = ticket_name("gpu-buffer", &"o-1".into(), &"n-1".into(), 0);
/// assert_eq!(name.len(), "gpu-buffer-".len() + 13);
/// ```
pub fn ticket_name(order_name: &str, order: &OrderUid, node: &NodeUid, sequence: i64) -> String {
    let end = order_name
        .char_indices()
        .nth(PREFIX)
        .map_or(order_name.len(), |(index, _)| index);
    let prefix = order_name[..end].trim_end_matches(['-', '.']);
    let hash = fnv1a64(format!("{order}/{node}/{sequence}").as_bytes());
    format!("{prefix}-{}", base32(hash))
}

/// The sequence of a pair's next Ticket: one more than the greatest that exists, 0 without any.
pub fn next_sequence(existing: impl IntoIterator<Item = i64>) -> i64 {
    existing
        .into_iter()
        .max()
        .map_or(0, |greatest| greatest.saturating_add(1))
}

/// The name of a Ticket's Guardian when no other Guardian of that Ticket exists.
pub fn guardian_name(ticket: &str) -> String {
    format!("guardian-{ticket}")
}

/// The name of a Guardian made under cover while `present`, the Ticket's old one, still exists.
pub fn cover_name(ticket: &str, present: &str) -> String {
    let plain = guardian_name(ticket);
    if present == plain { plain + "-1" } else { plain }
}
