//! Judges of a run: what must hold at every revision, and what must hold once all is quiet.
//!
//! Written from the rules alone, over the objects as the API server stores them; shares no code with
//! the controller under test.

mod rooms;
pub mod rules;
pub mod safety;
pub mod settled;
pub mod windows;

use serde_json::Value;

use testbed::object::{items, text};

/// Order uid and Node uid.
pub type Pair = (String, String);

/// The pair of a Ticket that an Order controls.
pub fn pair(ticket: &Value) -> Option<Pair> {
    let order = owner(ticket, "Order")?;
    Some((order.to_owned(), text(ticket, "/spec/nodeUID").to_owned()))
}

/// The uid of the controller of this kind.
pub fn owner<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let controls = |owner: &&Value| text(owner, "/kind") == kind && owner["controller"] == Value::Bool(true);
    items(object, "/metadata/ownerReferences")
        .iter()
        .find(controls)
        .map(|owner| text(owner, "/uid"))
}

/// Whether a Ticket is Pending or Reserved.
pub fn open(ticket: &Value) -> bool {
    matches!(text(ticket, "/status/phase"), "Pending" | "Reserved")
}

/// The name that the rules give a Ticket.
pub fn ticket_name(order: &str, order_uid: &str, node_uid: &str, sequence: i64) -> String {
    let prefix: String = order.chars().take(40).collect();
    let mut hash: u64 = 14_695_981_039_346_656_037;
    for byte in format!("{order_uid}/{node_uid}/{sequence}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
    }
    // 64 bits are 12 digits of 5 bits and one of 4, which is filled up with a zero.
    let digit = |index: u32| match index {
        12 => (hash & 0xf) << 1,
        _ => (hash >> (59 - 5 * index)) & 0x1f,
    };
    let letter =
        |value: u64| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::try_from(value).expect("5 bits")]);
    let code: String = (0..13).map(|index| letter(digit(index))).collect();
    format!("{}-{code}", prefix.trim_end_matches(['-', '.']))
}
