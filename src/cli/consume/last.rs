//! The newest records, looked for from the end backwards: what lies long before is not read.

use super::filter::Filter;
use super::reader::{Cursor, Reader, Sink};
use crate::cli::render::{Format, render};
use crate::log::records::Record;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// The first look goes at least this many offsets back.
const SPAN_MIN: i64 = 100;
/// No look goes more offsets back than this, and so none keeps many more records than are wanted.
const SPAN_MAX: i64 = 100_000;
/// Each look goes this many times as far as the one before.
const SPAN_GROWTH: i64 = 4;

/// A record that was found.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    timestamp: i64,
    line: Vec<u8>,
}

/// The newest `count` records between each cursor's position and its end that `filter` wants, rendered and
/// in the order of their timestamps. Moves the cursors to their ends.
pub fn newest(
    reader: &mut Reader,
    cursors: &mut [Cursor],
    count: usize,
    format: &Format,
    filter: &Filter,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut kept = BTreeMap::<i32, VecDeque<Kept>>::new();
    let mut open: Vec<(Cursor, i64)> = cursors.iter().map(|c| (c.clone(), c.end)).collect();
    let mut span = SPAN_MIN.max(count as i64).min(SPAN_MAX);
    while !open.is_empty() {
        let window = |(cursor, before): &(Cursor, i64)| Cursor {
            position: (before - span).max(cursor.position),
            end: *before,
            follow: false,
            ..*cursor
        };
        let mut windows: Vec<Cursor> = open.iter().map(window).collect();
        let begins = windows
            .iter()
            .map(|window| (window.partition, window.position));
        let begins: BTreeMap<i32, i64> = begins.collect();
        let mut tails = Tails {
            found: BTreeMap::new(),
            count,
            format,
            filter,
        };
        reader.read(&mut windows, &mut tails)?;
        for (partition, found) in tails.found {
            let kept = kept.entry(partition).or_default();
            for one in found.into_iter().rev().take(count - kept.len()) {
                kept.push_front(one);
            }
        }
        open.retain_mut(|(cursor, before)| {
            *before = begins[&cursor.partition];
            let enough = kept
                .get(&cursor.partition)
                .is_some_and(|k| k.len() >= count);
            !enough && *before > cursor.position
        });
        span = (span * SPAN_GROWTH).min(SPAN_MAX);
    }
    for cursor in cursors {
        cursor.position = cursor.end;
    }
    Ok(merged(kept, count))
}

/// The newest `count` of all partitions. The records of a partition stay in their order.
fn merged(mut kept: BTreeMap<i32, VecDeque<Kept>>, count: usize) -> Vec<Vec<u8>> {
    let back =
        |(&partition, kept): (&i32, &VecDeque<Kept>)| Some((kept.back()?.timestamp, partition));
    let mut ends: BinaryHeap<(i64, i32)> = kept.iter().filter_map(back).collect();
    let mut newest = VecDeque::new();
    while newest.len() < count
        && let Some((_, partition)) = ends.pop()
        && let Some(kept) = kept.get_mut(&partition)
        && let Some(one) = kept.pop_back()
    {
        newest.push_front(one.line);
        ends.extend(kept.back().map(|next| (next.timestamp, partition)));
    }
    newest.into()
}

/// Keeps the last records of each partition.
struct Tails<'a> {
    found: BTreeMap<i32, VecDeque<Kept>>,
    count: usize,
    format: &'a Format,
    filter: &'a Filter,
}

impl Sink for Tails<'_> {
    fn take(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> anyhow::Result<()> {
        if !self.filter.wants(record) {
            return Ok(());
        }
        let found = self.found.entry(partition).or_default();
        if found.len() == self.count {
            found.pop_front();
        }
        let mut line = Vec::new();
        render(&mut line, self.format, topic, partition, record);
        let timestamp = record.timestamp;
        found.push_back(Kept { timestamp, line });
        Ok(())
    }

    fn is_full(&self) -> bool {
        false
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(kept: &[(i32, &[i64])], count: usize) -> Vec<String> {
        let of = |&(partition, times): &(i32, &[i64])| {
            let kept = times.iter().map(|&timestamp| Kept {
                timestamp,
                line: format!("{partition}:{timestamp}").into_bytes(),
            });
            (partition, kept.collect())
        };
        let merged = merged(kept.iter().map(of).collect(), count).into_iter();
        merged
            .map(|line| String::from_utf8(line).expect("text"))
            .collect()
    }

    #[test]
    fn the_newest_of_all_partitions_come_in_the_order_of_time() {
        let kept = [(0, &[1, 4, 6][..]), (1, &[2, 5]), (2, &[])];
        assert_eq!(lines(&kept, 3), ["0:4", "1:5", "0:6"]);
        assert_eq!(lines(&kept, 9), ["0:1", "1:2", "0:4", "1:5", "0:6"]);
    }

    #[test]
    fn a_partitions_records_stay_in_order_whatever_their_times_say() {
        let kept = [(0, &[9, 1][..]), (1, &[5])];
        assert_eq!(lines(&kept, 3), ["0:9", "0:1", "1:5"]);
        assert_eq!(lines(&kept, 1), ["1:5"]);
    }
}
