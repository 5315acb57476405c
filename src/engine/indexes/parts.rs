//! A hash table in parts, so that the growth of one moves few entries at a time: a table of ten million that
//! grows at once would hold its shard up for a third of a second.

use crate::log::key_hash::KeyHash;
use hashbrown::hash_table::{Entry, HashTable};
use std::array;

const PARTS: usize = 64;

/// What an entry takes in a table of `hashbrown`, at its usual load: the entry, its control byte, and what is
/// free.
pub const fn entry_bytes<T>() -> usize {
    (size_of::<T>() + 1) * 3 / 2
}

/// Entries by their [`KeyHash`], which the caller tells of each.
pub struct Parts<T>([HashTable<T>; PARTS]);

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Parts(array::from_fn(|_| HashTable::new()))
    }
}

impl<T> Parts<T> {
    fn part(hash: KeyHash) -> usize {
        // The tables take the low bits of the other half.
        hash.high() as usize % PARTS
    }

    pub fn find(&self, hash: KeyHash, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.0[Self::part(hash)].find(hash.low(), is_it)
    }

    pub fn find_mut(&mut self, hash: KeyHash, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.0[Self::part(hash)].find_mut(hash.low(), is_it)
    }

    /// Adds one that is not there.
    pub fn insert(&mut self, hash: KeyHash, entry: T, hash_of: impl Fn(&T) -> KeyHash) {
        self.0[Self::part(hash)].insert_unique(hash.low(), entry, |entry| hash_of(entry).low());
    }

    /// Adds one, or puts it in the place of the one that is there.
    pub fn put(
        &mut self,
        hash: KeyHash,
        entry: T,
        is_it: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> KeyHash,
    ) {
        let part = &mut self.0[Self::part(hash)];
        match part.entry(hash.low(), is_it, |entry| hash_of(entry).low()) {
            Entry::Occupied(mut there) => *there.get_mut() = entry,
            Entry::Vacant(free) => {
                free.insert(entry);
            }
        }
    }

    /// True when it was there.
    pub fn remove(&mut self, hash: KeyHash, is_it: impl FnMut(&T) -> bool) -> bool {
        let found = self.0[Self::part(hash)].find_entry(hash.low(), is_it);
        found.map(|entry| entry.remove()).is_ok()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    /// How many parts there are.
    #[cfg(test)]
    pub const COUNT: usize = PARTS;

    /// Keeps those that `keep` says, in one part of the table; how many went.
    pub fn retain_in(&mut self, part: usize, keep: impl FnMut(&mut T) -> bool) -> usize {
        let part = &mut self.0[part % PARTS];
        let before = part.len();
        part.retain(keep);
        before - part.len()
    }
}
