//! The bytes of memory that clients make groups take: their names, their members and the offsets that they
//! committed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory that a group takes beside its names, its members and its offsets.
pub const GROUP_BYTES: usize = 1_024;

/// What one shard's groups take, of what those of all shards may take together.
pub struct Memory {
    own_bytes: Cell<usize>,
    all_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Memory {
    /// `all_bytes` is what the groups of all shards take together.
    pub fn new(all_bytes: Arc<AtomicUsize>, bytes_max: usize) -> Memory {
        Memory {
            own_bytes: Cell::new(0),
            all_bytes,
            bytes_max,
        }
    }

    /// What this shard's groups take.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes.get()
    }

    /// What the groups of all shards take.
    pub fn all_bytes(&self) -> usize {
        self.all_bytes.load(Ordering::Relaxed)
    }

    /// Whether groups may grow by this much. What does not make them grow always may.
    pub fn has_room_for(&self, growth_bytes: usize) -> bool {
        growth_bytes == 0 || self.all_bytes().saturating_add(growth_bytes) <= self.bytes_max
    }

    /// Notes that a group takes `after` bytes now, and took `before`.
    pub fn change(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.own_bytes.set(self.own_bytes.get() - before + after);
        self.all_bytes.fetch_add(after, Ordering::Relaxed);
        self.all_bytes.fetch_sub(before, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_one_limit_and_what_does_not_grow_passes() {
        let all = Arc::default();
        let shards = [(); 2].map(|()| Memory::new(Arc::clone(&all), 100));
        shards[0].change(0, 60);
        assert!(shards[1].has_room_for(40));
        assert!(!shards[1].has_room_for(41));
        shards[1].change(0, 41);
        assert!(!shards[1].has_room_for(1));
        assert!(shards[1].has_room_for(0));
        shards[0].change(60, 10);
        assert!(shards[1].has_room_for(49));
        assert_eq!(shards.map(|shard| shard.own_bytes()), [10, 41]);
    }
}
