//! Which partition a record goes to: the same one that Kafka's Java producer would pick.

use std::hash::{BuildHasher, Hasher};

/// The partition of a record with `key` in a topic of `partitions` partitions.
///
/// `partitions` must be positive.
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions
}

/// Picks partitions for records without a key: the same one until a batch has gone out, then the
/// next. The first is picked at random, so that many short runs do not all hit partition 0.
#[derive(Debug)]
pub struct Sticky {
    current: i32,
    partitions: i32,
}

impl Sticky {
    /// For a topic of `partitions` partitions, which must be positive.
    pub fn new(partitions: i32) -> Sticky {
        let random = std::hash::RandomState::new().build_hasher().finish();
        let current = (random % partitions.max(1) as u64) as i32;
        Sticky {
            current,
            partitions,
        }
    }

    /// The partition for the next record.
    pub fn current(&self) -> i32 {
        self.current
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Moves on: a batch has gone out.
    pub fn advance(&mut self) {
        self.current = (self.current + 1) % self.partitions;
    }
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::{Sticky, murmur2, partition_for_key};

    /// The values that Kafka's own `UtilsTest` expects.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        let cases: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            ("abc", 479470107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert_eq!(partition_for_key(b"21", 7), (-973932308i32 & i32::MAX) % 7);
        for partitions in 1..20 {
            assert!((0..partitions).contains(&partition_for_key(b"foobar", partitions)));
        }
    }

    #[test]
    fn sticky_goes_round_all_partitions() {
        let mut sticky = Sticky::new(3);
        let first = sticky.current();
        assert_eq!(sticky.current(), first);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(sticky.current());
            sticky.advance();
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(sticky.current(), first);
    }
}
