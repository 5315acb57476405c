//! Which offset holds the newest record of each key, in a table of bounded size.

use std::hash::{BuildHasher, RandomState};

/// A key's two hashes and its newest offset; -1 in a free entry of the table.
#[derive(Clone, Copy)]
struct KeyOffset {
    hash: [u64; 2],
    offset: i64,
}

const FREE: KeyOffset = KeyOffset {
    hash: [0; 2],
    offset: -1,
};

/// Newest offsets by key. Keys themselves are not kept, only 128 bits of two keyed hashes (SipHash,
/// with new keys for each run). Two of the five million keys of a full table of 128 MiB have the same hashes
/// with a chance below 2^-80, less than that of a disk that returns wrong bytes. Nobody can choose such keys,
/// because the hashes' keys are secret.
pub struct OffsetMap {
    table: Vec<KeyOffset>,
    used: usize,
    hashers: [RandomState; 2],
}

/// Bytes of memory that a key takes, at the table's highest load.
pub const KEY_BYTES: usize = std::mem::size_of::<KeyOffset>() * 4 / 3;

impl OffsetMap {
    /// A table for `keys` keys, or for as many as fit into `bytes_max`.
    pub fn new(keys: usize, bytes_max: usize) -> OffsetMap {
        let entries_max = bytes_max / std::mem::size_of::<KeyOffset>();
        let entries = (keys / 3 * 4 + 16).min(entries_max).max(16);
        OffsetMap {
            table: vec![FREE; entries],
            used: 0,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// How many more keys it takes for certain.
    pub fn room(&self) -> usize {
        (self.table.len() * 3 / 4).saturating_sub(self.used)
    }

    /// Notes a record; those of one key come with rising offsets.
    ///
    /// # Panics
    /// When there is no [`room`](Self::room): the caller has checked.
    pub fn put(&mut self, key: &[u8], offset: i64) {
        let at = self.find(self.hash(key));
        if self.table[at].offset < 0 {
            assert!(self.room() > 0, "the offset map is full");
            self.used += 1;
        }
        let hash = self.hash(key);
        let newest = self.table[at].offset.max(offset);
        self.table[at] = KeyOffset {
            hash,
            offset: newest,
        };
    }

    /// The newest offset of a key, when it is known.
    pub fn newest(&self, key: &[u8]) -> Option<i64> {
        let offset = self.table[self.find(self.hash(key))].offset;
        (offset >= 0).then_some(offset)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|which: usize| self.hashers[which].hash_one(key))
    }

    /// Where a hash is in the table, or where it is to be put: there is always a free entry.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = (hash[0] % self.table.len() as u64) as usize;
        while self.table[at].offset >= 0 && self.table[at].hash != hash {
            at = (at + 1) % self.table.len();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_every_key_is_found_however_full_the_table_is() {
        let mut map = OffsetMap::new(1000, usize::MAX);
        let keys = map.room();
        assert!(keys >= 1000);
        for round in 0..3 {
            for key in 0..keys {
                let offset = (round * keys + key) as i64;
                map.put(format!("key-{key}").as_bytes(), offset);
            }
        }
        assert_eq!(map.room(), 0);
        for key in 0..keys {
            let newest = map.newest(format!("key-{key}").as_bytes());
            assert_eq!(newest, Some((2 * keys + key) as i64));
        }
        assert_eq!(map.newest(b"another"), None);
        assert_eq!(map.newest(b""), None);
    }

    #[test]
    fn the_table_stays_within_its_bytes() {
        let map = OffsetMap::new(usize::MAX / 8, 1 << 20);
        assert!(map.table.len() * std::mem::size_of::<KeyOffset>() <= 1 << 20);
        assert!(map.room() >= (1 << 20) / KEY_BYTES - 2);
    }
}
