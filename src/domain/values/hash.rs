//! FNV-1a and base32: the two encodings that names and shards are made of.
//!
//! Both are fixed for ever: another result would rename every Ticket and move every node.

/// FNV-1a with 64 bits, as Kubernetes' server-side sharding and Go's `hash/fnv` compute it.
pub(crate) const fn fnv1a64(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

/// The 13 characters of lower-case RFC 4648 base32, without padding, of the 8 big-endian bytes.
pub(crate) fn base32(number: u64) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // 64 bits and one zero bit are 13 groups of five.
    let bits = u128::from(number) << 1;
    (0..13)
        .rev()
        .map(|group| char::from(ALPHABET[(bits >> (5 * group)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test suite of the authors of FNV (`test_fnv.c`).
    #[test]
    fn fnv1a64_has_the_published_values() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("b", 0xaf63_df4c_8601_f1a5),
            ("fo", 0x0898_5907_b541_d342),
            ("foobar", 0x8594_4171_f739_67e8),
            ("chongo was here!\n", 0x4681_0940_eff5_f915),
        ] {
            assert_eq!(fnv1a64(text.as_bytes()), hash, "{text:?}");
        }
    }

    /// Computed with Python's `base64.b32encode`.
    #[test]
    fn base32_is_rfc_4648_in_lower_case_without_padding() {
        assert_eq!(base32(0), "aaaaaaaaaaaaa");
        assert_eq!(base32(1), "aaaaaaaaaaaac");
        assert_eq!(base32(u64::MAX), "7777777777776");
        assert_eq!(base32(0x8594_4171_f739_67e8), "qwkec4pxhft6q");
    }
}
