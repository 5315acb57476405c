//! One bound for all tables of a kind on a shard.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that the tables of one kind take together, and may take.
#[derive(Clone, Debug)]
pub struct Bound(Rc<Counts>);

#[derive(Debug)]
struct Counts {
    used: Cell<usize>,
    most: usize,
    /// Entries that were dropped for lack of room.
    dropped: Cell<u64>,
}

impl Bound {
    pub fn of(most: usize) -> Bound {
        Bound(Rc::new(Counts {
            used: Cell::new(0),
            most,
            dropped: Cell::new(0),
        }))
    }

    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    pub fn dropped(&self) -> u64 {
        self.0.dropped.get()
    }

    pub fn note_dropped(&self, entries: u64) {
        self.0.dropped.set(self.0.dropped.get() + entries);
    }
}

/// The part of one table. What it takes is given back when it is dropped.
#[derive(Debug)]
pub struct Part {
    bound: Bound,
    bytes: usize,
}

impl Part {
    pub fn of(bound: Bound) -> Part {
        Part { bound, bytes: 0 }
    }

    /// Takes `bytes` more, if they are there.
    pub fn take(&mut self, bytes: usize) -> bool {
        let used = self.bound.used() + bytes;
        if used > self.bound.0.most {
            return false;
        }
        self.bound.0.used.set(used);
        self.bytes += bytes;
        true
    }

    /// Takes `bytes` more, beyond the bound if it has to be.
    pub fn take_anyway(&mut self, bytes: usize) {
        self.bound.0.used.set(self.bound.used() + bytes);
        self.bytes += bytes;
    }

    /// Gives `bytes` back.
    pub fn give(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.bound.0.used.set(self.bound.used() - bytes);
    }

    pub fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.give(self.bytes);
    }
}

/// A shard's bounds.
#[derive(Clone, Debug)]
pub struct IndexMemory {
    pub dedup: Bound,
    pub keys: Bound,
    made: Rc<Cell<u64>>,
}

impl IndexMemory {
    /// Bytes, of this shard alone.
    pub fn new(dedup: usize, keys: usize) -> IndexMemory {
        IndexMemory {
            dedup: Bound::of(dedup),
            keys: Bound::of(keys),
            made: Rc::default(),
        }
    }

    /// Numbers the indexes of the shard's partitions.
    pub fn next_number(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }
}
