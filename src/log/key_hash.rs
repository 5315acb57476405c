//! 128 bits in place of a key.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// The hashes' keys are secret and new for each run, so nobody can choose keys that collide. The first is that of one
/// part, the second that of two.
static HASHERS: LazyLock<[SipHasher13; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let random = RandomState::new();
        SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1))
    })
});

/// A keyed hash (SipHash-1-3 with 128 bits) of a key. Two of a billion keys have the same with a chance below
/// 2^-68, less than that of a disk that returns wrong bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u64; 2]);

impl KeyHash {
    /// That of no key in particular.
    pub const ZERO: KeyHash = KeyHash([0; 2]);

    pub fn of(key: &[u8]) -> KeyHash {
        let hash = HASHERS[0].hash(key);
        KeyHash([hash.h1, hash.h2])
    }

    /// The hash of two parts, other than that of any one key.
    pub fn of_two(first: &[u8], second: &[u8]) -> KeyHash {
        let mut hasher = HASHERS[1];
        hasher.write_usize(first.len());
        hasher.write(first);
        hasher.write(second);
        let hash = hasher.finish128();
        KeyHash([hash.h1, hash.h2])
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
