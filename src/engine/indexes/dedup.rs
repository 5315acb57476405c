//! The message ids that a partition has seen within its window.
//!
//! A ring has them in the order in which they were seen, so the oldest go first; a table finds them. An id counts from
//! when it was seen first: to see it again does not keep it for longer.

use super::memory::{Bound, Part};
use super::parts::{Parts, entry_bytes};
use crate::log::key_hash::KeyHash;
use std::collections::VecDeque;
use std::hint::black_box;

/// Ids in one piece of the ring, so that its growth copies none.
const CHUNK: usize = 1024;
const CHUNK_BYTES: usize = CHUNK * (size_of::<Seen>() + entry_bytes::<u32>());
/// Old ids that go with each new one: more than one, so that they do go, and few, so that none waits for them.
const FORGOTTEN_AT_ONCE: usize = 4;
/// That go when a partition is looked after.
const EXPIRED_AT_ONCE: usize = 10_000;

/// What the window is held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Below this moment (ms) an id is too old.
    pub since_ms: i64,
    /// The log start offset: what is below is not there any more.
    pub start: i64,
    pub ids_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: KeyHash,
    offset: i64,
    /// When (ms).
    seen_ms: i64,
}

/// The ids, newest last.
pub struct DedupWindow {
    ring: VecDeque<Vec<Seen>>,
    /// The number of the first id of the ring's first piece; they count on, and over.
    first: u32,
    /// Ids at the front of the first piece that are gone.
    gone: usize,
    count: usize,
    /// The numbers of the ids.
    table: Parts<u32>,
    memory: Part,
    /// The log was read: an id that is not here was not seen.
    is_loaded: bool,
}

impl DedupWindow {
    pub fn new(bound: Bound) -> DedupWindow {
        DedupWindow {
            ring: VecDeque::new(),
            first: 0,
            gone: 0,
            count: 0,
            table: Parts::default(),
            memory: Part::of(bound),
            is_loaded: false,
        }
    }

    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    pub fn set_loaded(&mut self) {
        self.is_loaded = true;
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.count
    }

    /// The offset of the record with this id, if it was seen within the window.
    pub fn find(&self, id: KeyHash, limits: Limits) -> Option<i64> {
        let number = self.table.find(id, |number| self.seen(*number).id == id)?;
        let seen = self.seen(*number);
        let counts = seen.seen_ms >= limits.since_ms && seen.offset >= limits.start;
        counts.then_some(seen.offset)
    }

    /// Notes an id that was not seen within the window. Old ones go, and the oldest where there is no room.
    pub fn note(&mut self, id: KeyHash, offset: i64, seen_ms: i64, limits: Limits) {
        self.forget_old(limits, FORGOTTEN_AT_ONCE);
        let mut early = 0;
        // Few at a time too, where there may be fewer all of a sudden.
        while self.count >= limits.ids_max.max(1) && early < FORGOTTEN_AT_ONCE as u64 {
            self.forget_oldest();
            early += 1;
        }
        if self.ring.back().is_none_or(|last| last.len() == CHUNK) && !self.memory.take(CHUNK_BYTES)
        {
            // In place of the oldest: the first piece is used again when all of it is gone. One that has none takes one
            // all the same, or its partition would know of nothing.
            let pieces = self.ring.len();
            while pieces > 0 && self.ring.len() == pieces {
                self.forget_oldest();
                early += 1;
            }
            self.memory.take_anyway(CHUNK_BYTES);
        }
        self.memory.bound().note_dropped(early);
        if self.ring.back().is_none_or(|last| last.len() == CHUNK) {
            self.ring.push_back(Vec::with_capacity(CHUNK));
        }
        let number = self.next_number();
        if let Some(last) = self.ring.back_mut() {
            last.push(Seen {
                id,
                offset,
                seen_ms,
            });
        }
        self.count += 1;
        // One that is too old may still be there, under the same id.
        let (ring, first) = (&self.ring, self.first);
        let seen = |number: u32| seen_of(ring, first, number);
        let is_it = |number: &u32| seen(*number).id == id;
        self.table.put(id, number, is_it, |number| seen(*number).id);
    }

    /// Has the processor fetch where ids will be noted, and what they will push out. That is scattered over the table:
    /// side by side it takes hardly longer than once, and one after the other it would be most of what an id takes.
    pub fn prepare(&self, ids: &[(u32, KeyHash)], limits: Limits) {
        for (_, id) in ids {
            black_box(self.table.find(*id, |_| false));
        }
        let count = ids.len();
        let is_full = self.count + count > limits.ids_max;
        let is_old = self
            .oldest()
            .is_some_and(|oldest| oldest.seen_ms < limits.since_ms);
        if !is_full && !is_old {
            return;
        }
        let number = self.first.wrapping_add(self.gone as u32);
        let oldest = self.ring.iter().flatten().skip(self.gone).take(count);
        for (nth, oldest) in oldest.enumerate() {
            let number = number.wrapping_add(nth as u32);
            black_box(self.table.find(oldest.id, |there| *there == number));
        }
    }

    /// Forgets ids whose time is over, some of them.
    pub fn expire(&mut self, limits: Limits) {
        self.forget_old(limits, EXPIRED_AT_ONCE);
    }

    fn forget_old(&mut self, limits: Limits, most: usize) {
        for _ in 0..most {
            match self.oldest() {
                Some(oldest)
                    if oldest.seen_ms < limits.since_ms || oldest.offset < limits.start =>
                {
                    self.forget_oldest();
                }
                _ => return,
            }
        }
    }

    fn seen(&self, number: u32) -> &Seen {
        seen_of(&self.ring, self.first, number)
    }

    fn oldest(&self) -> Option<Seen> {
        self.ring.front()?.get(self.gone).copied()
    }

    fn next_number(&self) -> u32 {
        let full = self.ring.len().saturating_sub(1) * CHUNK;
        let last = self.ring.back().map_or(0, Vec::len);
        self.first.wrapping_add((full + last) as u32)
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.oldest() else { return };
        let number = self.first.wrapping_add(self.gone as u32);
        self.table.remove(oldest.id, |there| *there == number);
        self.gone += 1;
        self.count -= 1;
        if self.gone == CHUNK {
            self.ring.pop_front();
            self.first = self.first.wrapping_add(CHUNK as u32);
            self.gone = 0;
            self.memory.give(CHUNK_BYTES);
        }
    }
}

fn seen_of(ring: &VecDeque<Vec<Seen>>, first: u32, number: u32) -> &Seen {
    let place = number.wrapping_sub(first) as usize;
    &ring[place / CHUNK][place % CHUNK]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(number: u32) -> KeyHash {
        KeyHash::of(&number.to_be_bytes())
    }

    fn limits(since_ms: i64, ids_max: usize) -> Limits {
        Limits {
            since_ms,
            start: 0,
            ids_max,
        }
    }

    #[test]
    fn an_id_is_known_within_its_window_and_while_its_record_is_there() {
        let mut window = DedupWindow::new(Bound::of(1 << 20));
        window.note(id(1), 7, 100, limits(0, 10));
        assert_eq!(window.find(id(1), limits(100, 10)), Some(7));
        assert_eq!(window.find(id(1), limits(101, 10)), None);
        assert_eq!(window.find(id(2), limits(0, 10)), None);
        let gone = Limits {
            start: 8,
            ..limits(0, 10)
        };
        assert_eq!(window.find(id(1), gone), None);
        // Seen again after its window: it counts from then on, and the old one does not take it along.
        window.note(id(1), 9, 300, limits(200, 10));
        assert_eq!(window.find(id(1), limits(200, 10)), Some(9));
    }

    #[test]
    fn what_all_windows_take_is_bounded_and_the_oldest_ids_go() {
        let bound = Bound::of(3 * CHUNK_BYTES);
        let mut one = DedupWindow::new(bound.clone());
        let mut other = DedupWindow::new(bound.clone());
        for number in 0..10_000 {
            one.note(id(number), i64::from(number), 0, limits(0, usize::MAX));
        }
        other.note(id(0), 0, 0, limits(0, usize::MAX));
        assert_eq!(other.len(), 1, "a window has one piece in any case");
        assert!(
            one.len() >= 2 * CHUNK && one.len() <= 3 * CHUNK,
            "{}",
            one.len()
        );
        assert_eq!(bound.used(), 4 * CHUNK_BYTES);
        assert_eq!(bound.dropped(), 10_000 - one.len() as u64);
        assert_eq!(one.find(id(9_999), limits(0, 1)), Some(9_999));
        assert_eq!(one.find(id(0), limits(0, 1)), None);
        one.expire(limits(1, 0));
        assert_eq!(one.len(), 0, "its time is over");
        drop((one, other));
        assert_eq!(bound.used(), 0);
    }

    proptest! {
        /// Against a map: ids that come again, a window that moves, a bound on ids, and logs that are cut off
        /// at the front.
        #[test]
        fn the_window_agrees_with_a_map(
            steps in proptest::collection::vec((0..400u32, 0..40i64, any::<bool>()), 1..1_500),
            window_ms in 1..2_000i64,
            ids_max in 1..3_000usize,
        ) {
            let mut window = DedupWindow::new(Bound::of(1 << 24));
            let mut model: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
            let mut order: Vec<(u32, i64)> = Vec::new();
            let (mut now, mut start) = (0, 0);
            for (offset, (number, pause, cuts)) in steps.into_iter().enumerate() {
                let offset = offset as i64;
                now += pause;
                if cuts && pause == 0 {
                    start = offset;
                }
                let limits = Limits { since_ms: now - window_ms, start, ids_max };
                // The newest `ids_max` are there for certain.
                order.dedup();
                let kept = order.len().saturating_sub(ids_max);
                let is_kept = |at: i64| order[kept..].iter().any(|(_, offset)| *offset == at);
                let expected = model.get(&number).copied().filter(|(seen_ms, at)| {
                    *seen_ms >= limits.since_ms && *at >= start && is_kept(*at)
                });
                let found = window.find(id(number), limits);
                prop_assert_eq!(found, expected.map(|(_, at)| at));
                if found.is_none() {
                    window.note(id(number), offset, now, limits);
                    model.insert(number, (now, offset));
                    order.push((number, offset));
                }
                prop_assert!(window.len() <= ids_max);
            }
        }
    }
}
