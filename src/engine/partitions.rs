//! The partitions of one shard, by their keys.

use super::{PartitionKey, SharedPartition};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A shard's own partitions.
#[derive(Default)]
pub struct Partitions(
    RefCell<HashMap<PartitionKey, SharedPartition, BuildHasherDefault<KeyHasher>>>,
);

impl Partitions {
    pub fn get(&self, key: PartitionKey) -> Option<SharedPartition> {
        self.0.borrow().get(&key).cloned()
    }

    pub fn all(&self) -> Vec<SharedPartition> {
        self.0.borrow().values().cloned().collect()
    }

    pub fn insert(&self, key: PartitionKey, partition: SharedPartition) {
        self.0.borrow_mut().insert(key, partition);
    }

    pub fn remove(&self, key: PartitionKey) {
        self.0.borrow_mut().remove(&key);
    }
}

/// Hashes a partition's key on the way of every batch. The ids of topics are the broker's own and random,
/// so no client can choose keys that collide.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // An odd constant near 2^64 over the golden ratio spreads low bits over the high ones.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    /// The map takes a bucket from the low bits.
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;
    use uuid::Uuid;

    #[test]
    fn the_keys_of_one_shard_spread_over_the_buckets() {
        let hasher = BuildHasherDefault::<KeyHasher>::default();
        let topics = (0..32).map(|_| Uuid::new_v4());
        let keys =
            topics.flat_map(|topic_id| (0..256).map(move |index| PartitionKey { topic_id, index }));
        let own = keys.filter(|key| crate::engine::owner_of(*key, 8) == 3);
        let hashes: Vec<u64> = own.map(|key| hasher.hash_one(key)).collect();
        assert!(hashes.len() > 900);
        let all: HashSet<&u64> = hashes.iter().collect();
        assert_eq!(all.len(), hashes.len());
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0x3ff).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        // Of 1,024 balls in as many buckets, 63% of the buckets get one or more.
        assert!(low.len() > 500, "{} of 1024 buckets", low.len());
        assert!(high.len() > 120, "{} of 128 tags", high.len());
    }
}
