//! Names of Tickets and numbers of shards, computed from the rules a second time: nothing here is
//! korder's own code.

/// Shards of the korder under test: the default.
const SHARDS: u128 = 64;

/// FNV-1a, 64 bits.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// RFC 4648 base32 of eight big-endian bytes, lower case, without padding: 13 characters.
fn base32(value: u64) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = u128::from(value) << 1; // 65 bits: 13 groups of five
    let group = |i: u32| ALPHABET[usize::try_from(bits >> (60 - 5 * i) & 31).expect("five bits")];
    (0..13).map(|i| char::from(group(i))).collect()
}

/// The name of a Ticket.
pub(crate) fn ticket(order: &str, order_uid: &str, node_uid: &str, sequence: i64) -> String {
    let start: String = order.chars().take(40).collect();
    let hash = base32(fnv1a(&format!("{order_uid}/{node_uid}/{sequence}")));
    format!("{}-{hash}", start.trim_end_matches(['-', '.']))
}

/// The shard of a Node.
pub(crate) fn shard(node_uid: &str) -> String {
    ((u128::from(fnv1a(node_uid)) * SHARDS) >> 64).to_string()
}
