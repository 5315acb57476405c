//! Which offset holds the newest record of each key, in a table of bounded size.

use crate::log::key_hash::KeyHash;

/// A key's hash and its newest offset; -1 in a free entry of the table.
#[derive(Clone, Copy)]
struct KeyOffset {
    hash: KeyHash,
    offset: i64,
}

const FREE: KeyOffset = KeyOffset {
    hash: KeyHash::ZERO,
    offset: -1,
};

/// Newest offsets by key. Keys themselves are not kept, only their hashes. Two of the five million keys of a full
/// table of 128 MiB have the same with a chance below 2^-80.
pub struct OffsetMap {
    table: Vec<KeyOffset>,
    used: usize,
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
        let at = self.find(KeyHash::of(key));
        if self.table[at].offset < 0 {
            assert!(self.room() > 0, "the offset map is full");
            self.used += 1;
        }
        let hash = KeyHash::of(key);
        let newest = self.table[at].offset.max(offset);
        self.table[at] = KeyOffset {
            hash,
            offset: newest,
        };
    }

    /// The newest offset of a key, when it is known.
    pub fn newest(&self, key: &[u8]) -> Option<i64> {
        let offset = self.table[self.find(KeyHash::of(key))].offset;
        (offset >= 0).then_some(offset)
    }

    /// Where a hash is in the table, or where it is to be put: there is always a free entry.
    fn find(&self, hash: KeyHash) -> usize {
        let mut at = (hash.low() % self.table.len() as u64) as usize;
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
