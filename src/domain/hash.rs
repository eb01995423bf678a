//! FNV-1a and base32: the two encodings that names and shards are made of.
//!
//! Both are fixed for ever: another result would rename every Ticket and move every node.

/// FNV-1a with 64 bits, as Kubernetes' server-side sharding and Go's `hash/fnv` compute it.
pub const fn fnv1a64(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

/// The 13 characters of lower-case RFC 4648 base32, without padding, of the 8 big-endian bytes.
pub fn base32(number: u64) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // 64 bits and one zero bit are 13 groups of five.
    let bits = u128::from(number) << 1;
    (0..13)
        .rev()
        .map(|group| char::from(ALPHABET[(bits >> (5 * group)) as usize & 31]))
        .collect()
}
