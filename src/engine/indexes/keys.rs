//! Where the newest record of each key is.

use super::memory::{Bound, Part};
use super::parts::{Parts, entry_bytes};
use crate::log::key_hash::KeyHash;

const ENTRY_BYTES: usize = entry_bytes::<Entry>();
/// Memory is taken for so many keys at a time.
const TAKEN_AT_ONCE: usize = 256;
/// Records between two sweeps, of one part of the table each.
const NOTED_BETWEEN_SWEEPS: usize = 1024;

#[derive(Clone, Copy)]
struct Entry {
    key: KeyHash,
    /// Of the newest record.
    offset: i64,
    /// It has no value, so the key is not there.
    is_tombstone: bool,
}

/// What an index can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The log is being read: what is not found may be there.
    Loading {
        /// All records that are older than this (ms) are known.
        known_ms: i64,
    },
    Ready,
    /// There are more keys than there is memory for, so it has none.
    TooMany,
    /// The log could not be read.
    Broken,
}

/// Offsets by key.
pub struct KeyIndex {
    table: Parts<Entry>,
    memory: Part,
    /// Keys that memory was taken for.
    room: usize,
    state: KeyState,
    /// Records noted since a part was swept.
    since_swept: usize,
    /// The part that is swept next, counted on.
    next_swept: usize,
}

impl KeyIndex {
    pub fn new(bound: Bound) -> KeyIndex {
        KeyIndex {
            table: Parts::default(),
            memory: Part::of(bound),
            room: 0,
            state: KeyState::Loading { known_ms: i64::MIN },
            since_swept: 0,
            next_swept: 0,
        }
    }

    pub fn state(&self) -> KeyState {
        self.state
    }

    pub fn set_state(&mut self, state: KeyState) {
        if self.state != KeyState::TooMany {
            self.state = state;
        }
    }

    /// Notes a record. Those of one key may come in any order: the newest counts.
    pub fn note(&mut self, key: KeyHash, offset: i64, is_tombstone: bool) {
        if matches!(self.state, KeyState::TooMany | KeyState::Broken) {
            return;
        }
        if let Some(entry) = self.table.find_mut(key, |entry| entry.key == key) {
            if offset > entry.offset {
                *entry = Entry {
                    key,
                    offset,
                    is_tombstone,
                };
            }
            return;
        }
        if self.room == 0 {
            if !self.memory.take(TAKEN_AT_ONCE * ENTRY_BYTES) {
                self.memory.bound().note_dropped(self.table.len() as u64);
                *self = KeyIndex {
                    state: KeyState::TooMany,
                    ..KeyIndex::new(self.memory.bound().clone())
                };
                return;
            }
            self.room = TAKEN_AT_ONCE;
        }
        self.room -= 1;
        let entry = Entry {
            key,
            offset,
            is_tombstone,
        };
        self.table.insert(key, entry, |entry| entry.key);
    }

    /// The newest record of a key; `None` where it has none from `start` on.
    pub fn newest_record(&self, key: KeyHash, start: i64) -> Option<(i64, bool)> {
        let entry = self.table.find(key, |entry| entry.key == key)?;
        (entry.offset >= start).then_some((entry.offset, entry.is_tombstone))
    }

    /// The offset of the newest record of a key; `None` where it has none from `start` on, or has none that has
    /// a value.
    pub fn newest(&self, key: KeyHash, start: i64) -> Option<i64> {
        let (offset, is_tombstone) = self.newest_record(key, start)?;
        (!is_tombstone).then_some(offset)
    }

    /// Whether the record at `offset` is the newest of its key. A key that nothing is known of was deleted, by this
    /// record or a later one that says the same.
    pub fn is_newest(&self, key: KeyHash, offset: i64, is_tombstone: bool) -> bool {
        let entry = self.table.find(key, |entry| entry.key == key);
        entry.map_or(is_tombstone, |entry| entry.offset == offset)
    }

    /// Now and then forgets, in one part of the table, keys that are not there any more: below the log's `start`, or
    /// deleted. While the log is read they must stay: older records of theirs are still to come.
    pub fn sweep(&mut self, start: i64, durable: i64) {
        self.since_swept += 1;
        if self.since_swept < NOTED_BETWEEN_SWEEPS || self.state != KeyState::Ready {
            return;
        }
        self.since_swept = 0;
        self.next_swept = self.next_swept.wrapping_add(1);
        self.sweep_part(self.next_swept, start, durable);
    }

    fn sweep_part(&mut self, part: usize, start: i64, durable: i64) {
        let gone = self.table.retain_in(part, |entry| {
            let is_deleted = entry.is_tombstone && entry.offset < durable;
            entry.offset >= start && !is_deleted
        });
        self.room += gone;
        let whole = self.room / TAKEN_AT_ONCE;
        if whole > 1 {
            // The table keeps its size; what it has room for is taken by the keys that come.
            self.room -= (whole - 1) * TAKEN_AT_ONCE;
            self.memory.give((whole - 1) * TAKEN_AT_ONCE * ENTRY_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(number: u32) -> KeyHash {
        KeyHash::of(&number.to_be_bytes())
    }

    #[test]
    fn an_index_over_its_bound_has_nothing_and_says_so() {
        let bound = Bound::of(2 * TAKEN_AT_ONCE * ENTRY_BYTES);
        let mut index = KeyIndex::new(bound.clone());
        index.set_state(KeyState::Ready);
        for number in 0..2 * TAKEN_AT_ONCE as u32 {
            index.note(key(number), i64::from(number), false);
        }
        assert_eq!(index.state(), KeyState::Ready);
        index.note(key(0), 10_000, false);
        assert_eq!(index.newest(key(0), 0), Some(10_000), "no new key");
        index.note(key(9_999), 10_001, false);
        assert_eq!(index.state(), KeyState::TooMany);
        assert_eq!((index.newest(key(0), 0), bound.used()), (None, 0));
        index.set_state(KeyState::Ready);
        assert_eq!(index.state(), KeyState::TooMany, "never a false `none`");
    }

    proptest! {
        /// Against a map: records in the order of the log, and those of its beginning in between.
        #[test]
        fn the_index_agrees_with_a_map(
            records in proptest::collection::vec((0..50u32, any::<bool>()), 1..500),
            split in 0..500usize,
            start in 0..500i64,
            sweeps in any::<bool>(),
        ) {
            let records: Vec<_> = records.into_iter().enumerate().collect();
            let (old, new) = records.split_at(split.min(records.len()));
            let mut index = KeyIndex::new(Bound::of(1 << 20));
            let mut model: BTreeMap<u32, (i64, bool)> = BTreeMap::new();
            // While the log's beginning is read, new records come.
            let (mut old, mut new) = (old.iter(), new.iter());
            loop {
                let pair = [new.next(), old.next()];
                if pair == [None, None] {
                    break;
                }
                for (offset, (number, is_tombstone)) in pair.into_iter().flatten() {
                    let offset = *offset as i64;
                    index.note(key(*number), offset, *is_tombstone);
                    let newest = model.entry(*number).or_insert((offset, *is_tombstone));
                    if offset > newest.0 {
                        *newest = (offset, *is_tombstone);
                    }
                }
            }
            index.set_state(KeyState::Ready);
            for (number, (offset, _)) in &model {
                prop_assert!(index.is_newest(key(*number), *offset, false));
                prop_assert!(!index.is_newest(key(*number), *offset + 1, true));
            }
            if sweeps {
                (0..Parts::<Entry>::COUNT).for_each(|part| index.sweep_part(part, start, i64::MAX));
            }
            for number in 0..50 {
                let newest = model.get(&number);
                let expected = newest.filter(|(offset, is_tombstone)| *offset >= start && !is_tombstone);
                prop_assert_eq!(index.newest(key(number), start), expected.map(|(offset, _)| *offset));
            }
        }
    }
}
