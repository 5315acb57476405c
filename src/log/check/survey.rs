//! Checks a whole segment, and makes a list of its damage.

use super::damage::{Damage, Why, is_of_medium};
use super::order::{Expected, Order};
use super::scan::{Found, Step};
use super::walk::Walk;
use crate::log::segment::IndexBuilder;
use std::io;
use std::ops::Range;
use std::path::Path;

/// What a segment holds.
pub struct Survey {
    pub damage: Vec<Damage>,
    /// Of the sound batches.
    pub index: IndexBuilder,
    /// Milliseconds; -1 where the first sound batch has none.
    pub first_timestamp: i64,
    /// The end of the last sound batch.
    pub end_position: usize,
    /// The offset after the last sound batch.
    pub next_offset: i64,
    /// Bytes of the file.
    pub size: usize,
    segment_base: i64,
    /// Damage whose end is not found yet: where it begins.
    pending: Option<(usize, Why)>,
}

/// Checks a segment, every batch of it, from `from` on: a position where a batch begins, and the offset
/// that it should have. `visit` is called with every sound batch. The index gets an entry every
/// `index_interval_bytes`.
///
/// # Errors
/// Those that are not of the medium (see [`is_of_medium`]); what the medium lost is damage.
pub fn survey(
    dir: &Path,
    expected: Expected,
    index_interval_bytes: usize,
    from: (usize, i64),
    visit: &mut dyn FnMut(&Found, &[u8]),
) -> io::Result<Survey> {
    let mut survey = Survey {
        damage: Vec::new(),
        index: IndexBuilder::new(expected.base, index_interval_bytes),
        first_timestamp: -1,
        end_position: from.0,
        next_offset: from.1,
        size: 0,
        segment_base: expected.base,
        pending: None,
    };
    match Walk::open_at(dir, expected, from) {
        Ok(mut walk) => {
            survey.size = walk.scan().size();
            survey.run(&mut walk, visit)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => survey.lose(from.0, Why::Missing),
        Err(error) if is_of_medium(&error) => survey.lose(from.0, Why::Unreadable),
        Err(error) => return Err(error),
    }
    survey.finish(expected.end, survey.size.max(from.0));
    Ok(survey)
}

impl Survey {
    fn run(&mut self, walk: &mut Walk, visit: &mut dyn FnMut(&Found, &[u8])) -> io::Result<()> {
        loop {
            let position = walk.scan().position();
            match walk.step() {
                Ok(None) => return Ok(()),
                Ok(Some((Step::Batch(found), Some(order @ (Order::Follows | Order::Skips))))) => {
                    if order == Order::Skips {
                        self.lose(position, Why::WrongOffset);
                    }
                    self.note(&found);
                    visit(&found, walk.scan().bytes(&found));
                }
                Ok(Some((step, _))) => self.lose(position, why(&step)),
                Err(error) if is_of_medium(&error) => {
                    self.lose(position, Why::Unreadable);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn lose(&mut self, position: usize, why: Why) {
        self.pending.get_or_insert((position, why));
    }

    /// Takes note of a sound batch: damage before it ends here.
    fn note(&mut self, found: &Found) {
        let header = &found.header;
        if let Some((start, why)) = self.pending.take() {
            let lost = self.next_offset..header.base_offset;
            self.add_damage(lost, start..found.position, why);
        }
        if self.end_position == 0 {
            self.first_timestamp = header.base_timestamp;
        }
        self.index.note(found.position, header);
        self.end_position = found.end;
        self.next_offset = header.next_offset();
    }

    /// The segment's file ends at `size`, and its last record should be before `end`.
    fn finish(&mut self, end: i64, size: usize) {
        let next = self.next_offset;
        let end = if end == i64::MAX { next } else { end };
        match self.pending.take() {
            Some((start, why)) => self.add_damage(next..end, start..size, why),
            None if next < end => self.add_damage(next..end, size..size, Why::Short),
            None => {}
        }
    }

    fn add_damage(&mut self, offsets: Range<i64>, bytes: Range<usize>, why: Why) {
        self.damage.push(Damage {
            offsets,
            segment_base: self.segment_base,
            bytes,
            why,
        });
    }
}

/// Why what a step found is not a sound batch.
fn why(step: &Step) -> Why {
    match step {
        Step::Batch(found) if found.crc_matches => Why::WrongOffset,
        Step::Batch(_) => Why::BadCrc,
        Step::Damage { .. } => Why::NoBatch,
        Step::Recycled { .. } => Why::Recycled,
        Step::Zeros { .. } => Why::Zeros,
    }
}
