//! Names and sequence numbers of Tickets and their Guardians.
//!
//! The name is what makes a Ticket unique: two writers that decide the same pair write the same
//! name, and the API server refuses the second.

use crate::domain::values::{
    hash::{base32, fnv1a64},
    ids::{NodeUid, OrderUid},
};

/// Characters of the Order's name that a Ticket's name begins with.
const PREFIX: usize = 40;

/// The name of the Ticket with number `sequence` of a pair.
pub(crate) fn ticket_name(order_name: &str, order: &OrderUid, node: &NodeUid, sequence: i64) -> String {
    let end = order_name
        .char_indices()
        .nth(PREFIX)
        .map_or(order_name.len(), |(index, _)| index);
    let prefix = order_name[..end].trim_end_matches(['-', '.']);
    let hash = fnv1a64(format!("{order}/{node}/{sequence}").as_bytes());
    format!("{prefix}-{}", base32(hash))
}

/// The sequence of a pair's next Ticket: one more than the greatest that exists, 0 without any.
pub(crate) fn next_sequence(existing: impl IntoIterator<Item = i64>) -> i64 {
    existing
        .into_iter()
        .max()
        .map_or(0, |greatest| greatest.saturating_add(1))
}

/// The name of a Ticket's Guardian when no other Guardian of that Ticket exists.
pub(crate) fn guardian_name(ticket: &str) -> String {
    format!("guardian-{ticket}")
}

/// The name of a Guardian made under cover while `present`, the Ticket's old one, still exists.
pub(crate) fn cover_name(ticket: &str, present: &str) -> String {
    let plain = guardian_name(ticket);
    if present == plain { plain + "-1" } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(order: &str, sequence: i64) -> String {
        ticket_name(
            order,
            &"5f0c0d9e-3d1a-4b0e-9d55-0f6a9a1f0001".into(),
            &"a3b1f6f2-7c55-4c1c-8f3e-2b1a7d9c0002".into(),
            sequence,
        )
    }

    /// Computed with Python: `hashlib` has no FNV, so its two lines were written out there, and
    /// `base64.b32encode`.
    #[test]
    fn a_name_is_the_beginning_of_the_orders_and_the_hash_of_the_pair() {
        let a39 = "a".repeat(39);
        let a38 = "a".repeat(38);
        for (order, sequence, expected) in [
            ("gpu-node-buffer", 0, "gpu-node-buffer-mk2sz77bc453e"),
            ("gpu-node-buffer", 1, "gpu-node-buffer-mk2s377bc46wk"),
            (
                "infrastructure-reservation-of-the-agents-in-all-zones",
                0,
                "infrastructure-reservation-of-the-agents-mk2sz77bc453e",
            ),
            (&format!("{a39}-b"), 7, &format!("{a39}-mk2sp77bc4ztg")),
            (&format!("{a38}.-b"), 7, &format!("{a38}-mk2sp77bc4ztg")),
            (&"a".repeat(63), 12, &format!("{}-2enibs32pu5nk", "a".repeat(40))),
        ] {
            assert_eq!(name(order, sequence), expected);
        }
    }

    #[test]
    fn the_longest_name_is_a_label_value() {
        assert_eq!(name(&"a".repeat(63), i64::MAX).len(), 54);
    }

    #[test]
    fn the_next_sequence_is_one_more_than_the_greatest() {
        assert_eq!(next_sequence([]), 0);
        assert_eq!(next_sequence([0]), 1);
        assert_eq!(next_sequence([4, 9, 2]), 10);
        assert_eq!(next_sequence([i64::MAX]), i64::MAX);
    }

    #[test]
    fn a_guardian_has_one_of_two_names() {
        assert_eq!(guardian_name("gpu-x"), "guardian-gpu-x");
        assert_eq!(cover_name("gpu-x", "guardian-gpu-x"), "guardian-gpu-x-1");
        assert_eq!(cover_name("gpu-x", "guardian-gpu-x-1"), "guardian-gpu-x");
    }
}
