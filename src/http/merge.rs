//! Records of several partitions, in the order of their timestamps, as far as each partition's own order lets.

use super::records::{Found, Record};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Lists of records, each in its partition's order, out of which the one with the earliest first record gives next.
#[derive(Default)]
pub struct Merge {
    /// By the place of the partition's cursor. None is empty.
    lists: BTreeMap<usize, VecDeque<Record>>,
    firsts: BinaryHeap<Reverse<(i64, usize)>>,
    count: usize,
    bytes: usize,
}

impl Merge {
    /// Adds a record behind those of its partition.
    pub fn push(&mut self, place: usize, record: Record) {
        self.count += 1;
        self.bytes += record.bytes();
        let list = self.lists.entry(place).or_default();
        if list.is_empty() {
            self.firsts.push(Reverse((record.timestamp_ms, place)));
        }
        list.push_back(record);
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The record that comes next.
    pub fn peek(&self) -> Option<&Record> {
        let Reverse((_, place)) = self.firsts.peek()?;
        self.lists.get(place)?.front()
    }

    /// Takes the record that comes next, and the place of its partition.
    pub fn pop(&mut self) -> Option<(usize, Record)> {
        let Reverse((_, place)) = self.firsts.pop()?;
        let list = self.lists.get_mut(&place)?;
        let record = list.pop_front()?;
        match list.front() {
            Some(first) => self.firsts.push(Reverse((first.timestamp_ms, place))),
            None => drop(self.lists.remove(&place)),
        }
        self.count -= 1;
        self.bytes -= record.bytes();
        Some((place, record))
    }

    /// What is left: the first record of each partition, by place.
    pub fn firsts(&self) -> impl Iterator<Item = (usize, &Record)> {
        let lists = self.lists.iter();
        lists.filter_map(|(place, list)| Some((*place, list.front()?)))
    }

    /// Takes all, each with its partition.
    pub fn into_found(mut self, partition: impl Fn(usize) -> i32) -> Vec<Found> {
        let mut found = Vec::with_capacity(self.count);
        while let Some((place, record)) = self.pop() {
            found.push((partition(place), record));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_keep_their_order_and_are_merged_by_time() {
        let record = |offset, timestamp_ms| Record {
            offset,
            timestamp_ms,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let mut merge = Merge::default();
        for (place, offset, timestamp) in [(0, 0, 5), (0, 1, 1), (1, 0, 3), (1, 1, 9), (0, 2, 7)] {
            merge.push(place, record(offset, timestamp));
        }
        assert_eq!(merge.count(), 5);
        assert_eq!(merge.peek().unwrap().timestamp_ms, 3);
        assert_eq!(merge.pop().unwrap().0, 1);
        let firsts = merge.firsts().map(|(place, first)| (place, first.offset));
        assert_eq!(firsts.collect::<Vec<_>>(), [(0, 0), (1, 1)]);
        let found = merge.into_found(|place| place as i32);
        let each = found.iter().map(|(index, record)| (*index, record.offset));
        assert_eq!(each.collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (1, 1)]);
    }
}
