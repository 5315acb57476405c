//! 128 bits in place of a key.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The hashes' keys are secret and new for each run, so nobody can choose keys that collide.
static HASHERS: LazyLock<[RandomState; 2]> =
    LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// Two keyed hashes (SipHash) of a key. Two of a billion keys have the same with a chance below 2^-68, less
/// than that of a disk that returns wrong bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u64; 2]);

impl KeyHash {
    /// That of no key in particular.
    pub const ZERO: KeyHash = KeyHash([0; 2]);

    pub fn of(key: &[u8]) -> KeyHash {
        KeyHash([0, 1].map(|which: usize| HASHERS[which].hash_one(key)))
    }

    /// The hash of two parts, other than that of any one key.
    pub fn of_two(first: &[u8], second: &[u8]) -> KeyHash {
        KeyHash([0, 1].map(|which: usize| HASHERS[which].hash_one((first, second))))
    }

    /// Half of it, for tables.
    pub fn low(self) -> u64 {
        self.0[0]
    }

    /// The other half.
    pub fn high(self) -> u64 {
        self.0[1]
    }
}
