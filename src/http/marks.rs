//! Where records stand in large batches that were read before: who asks for one record, as by its key, need not pass
//! over all that stand before it.

use crate::log::batch::BatchHeader;
use crate::log::records::{Mark, RecordIter};
use std::collections::HashMap;
use uuid::Uuid;

/// There is a mark for each so many records.
const EVERY: usize = 64;
/// The most marks of a shard. With more they are made again as they are needed.
const MARKS_MAX: usize = 1 << 16;

/// The marks of a shard.
#[derive(Default)]
pub struct Marks {
    known: HashMap<BatchId, Box<[Mark]>>,
    count: usize,
}

/// A batch, whatever compaction makes of those at the same place.
#[derive(PartialEq, Eq, Hash)]
struct BatchId {
    topic: Uuid,
    partition: i32,
    base_offset: i64,
    crc: u32,
}

impl Marks {
    /// Passes over the records of an uncompressed batch below `offset`. They begin with the first.
    pub fn skip_below(
        &mut self,
        (topic, partition): (Uuid, i32),
        header: &BatchHeader,
        records: &mut RecordIter<'_>,
        offset: i64,
    ) {
        if header.record_count as usize >= 2 * EVERY {
            let id = BatchId {
                topic,
                partition,
                base_offset: header.base_offset,
                crc: header.crc,
            };
            let marks = self.of(id, records.clone());
            let behind = marks.partition_point(|mark| mark.offset() <= offset);
            if let Some(last) = behind.checked_sub(1) {
                records.go_to(&marks[last]);
            }
        }
        records.skip_below(offset);
    }

    fn of(&mut self, id: BatchId, mut records: RecordIter<'_>) -> &[Mark] {
        if self.count > MARKS_MAX {
            self.known.clear();
            self.count = 0;
        }
        self.known.entry(id).or_insert_with(|| {
            let mut marks = Vec::new();
            while let Some(mark) = records.mark() {
                marks.push(mark);
                records.pass_over(EVERY);
            }
            self.count += marks.len();
            marks.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;
    use crate::log::records::Records;

    #[test]
    fn each_record_is_found_whether_its_batch_is_known_or_not() {
        let mut marks = Marks::default();
        for count in [1, 2 * EVERY - 1, 2 * EVERY, 5 * EVERY, 5 * EVERY + 7] {
            let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let batch = BatchBuilder::default().build(&values);
            let header = BatchHeader::parse(&batch).unwrap();
            let records = Records::unpack(header, &batch, usize::MAX).unwrap();
            for offset in (0..count as i64 + 2).rev().chain([-1, 0, i64::MAX]) {
                let mut left = records.iter();
                marks.skip_below((Uuid::nil(), 0), &header, &mut left, offset);
                let found = left.next().map(|record| record.unwrap().offset);
                let expected = offset.max(0);
                assert_eq!(found, (expected < count as i64).then_some(expected));
            }
        }
        assert_eq!(marks.known.len(), 3, "of large batches only");
    }

    #[test]
    fn they_are_bounded() {
        let mut marks = Marks::default();
        let batch = BatchBuilder::default().build(&["x"; 1_000 * EVERY]);
        let header = BatchHeader::parse(&batch).unwrap();
        let records = Records::unpack(header, &batch, usize::MAX).unwrap();
        for partition in 0..200 {
            let mut left = records.iter();
            marks.skip_below((Uuid::nil(), partition), &header, &mut left, 77);
            assert_eq!(left.next().unwrap().unwrap().offset, 77);
            let held = marks.known.values().map(|marks| marks.len()).sum::<usize>();
            assert_eq!(held, marks.count);
            assert!(held <= MARKS_MAX + 1_000);
        }
    }
}
