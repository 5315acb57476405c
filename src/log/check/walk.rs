//! The loop over a segment's batches, with the rule for their offsets applied to each.

use super::damage::is_of_medium;
use super::order::{Before, Expected, Order};
use super::scan::{Found, Scan, Step};
use crate::log::batch::BatchHeader;
use crate::log::segment;
use std::io;
use std::path::Path;

/// A segment whose batches are checked one after the other.
pub struct Walk {
    scan: Scan,
    expected: Expected,
    before: Before,
}

impl Walk {
    /// Opens the segment in `dir` that is expected, from its beginning.
    ///
    /// # Errors
    /// See [`Scan::open_at`].
    pub fn open(dir: &Path, expected: Expected) -> io::Result<Walk> {
        Walk::open_at(dir, expected, (0, expected.base))
    }

    /// As [`open`](Self::open), from a position on where a batch with this offset should begin.
    pub fn open_at(dir: &Path, expected: Expected, from: (usize, i64)) -> io::Result<Walk> {
        let scan = Scan::open_at(&segment::file_path(dir, expected.base, "log"), from)?;
        Ok(Walk {
            scan,
            expected,
            before: Before::sound(from.1),
        })
    }

    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// The offset after the last batch that is right.
    pub fn next_offset(&self) -> i64 {
        self.before.next_offset
    }

    /// The offset that the next bytes claim, when they look like a batch.
    ///
    /// # Errors
    /// Those that are not of the medium.
    pub fn claimed_offset(&mut self) -> io::Result<Option<i64>> {
        let position = self.scan.position();
        let header = peek(&mut self.scan, position)?;
        Ok(header.map(|header| header.base_offset))
    }

    /// Whether all of the file was read, and every byte of it was in order.
    pub fn is_complete(&self) -> bool {
        let at_end = self.scan.position() == self.scan.size();
        at_end && !self.before.is_damaged && self.next_offset() == self.expected.end
    }

    /// The next batch if it is sound and in order. After `None` the walk is over: what lies there is not looked
    /// through.
    ///
    /// # Errors
    /// See [`Scan::step`].
    pub fn step_sound(&mut self) -> io::Result<Option<Found>> {
        let Some(found) = self.scan.step_sound()? else {
            return Ok(None);
        };
        let order = self.take(&found)?;
        self.before.is_damaged |= order != Order::Follows;
        Ok((order == Order::Follows).then_some(found))
    }

    /// Whether the page behind the last batch, or the rest of the file, is zeros.
    ///
    /// # Errors
    /// See [`Scan::is_blank`].
    pub fn is_blank(&mut self, position: usize) -> io::Result<bool> {
        self.scan.is_blank(position)
    }

    /// What comes next in the file, `None` at its end; and the order of a batch whose checksum matches.
    ///
    /// # Errors
    /// See [`Scan::step`].
    pub fn step(&mut self) -> io::Result<Option<(Step, Option<Order>)>> {
        let Some(step) = self.scan.step()? else {
            return Ok(None);
        };
        let order = match &step {
            Step::Batch(found) if found.crc_matches => Some(self.take(found)?),
            _ => None,
        };
        self.before.is_damaged |= order.is_none();
        Ok(Some((step, order)))
    }

    fn take(&mut self, found: &Found) -> io::Result<Order> {
        let scan = &mut self.scan;
        let order = self
            .expected
            .order(found, self.before, |position| peek(scan, position))?;
        let header = &found.header;
        let right = match order {
            Order::Follows | Order::Skips => Some(header.base_offset),
            Order::WrongAlone(right) => Some(right),
            Order::Wrong => None,
        };
        if let Some(right) = right {
            self.before = Before::sound(right + i64::from(header.last_offset_delta) + 1);
        } else {
            self.before.is_damaged = true;
        }
        Ok(order)
    }
}

/// The header at a position; `None` where the medium cannot read it.
fn peek(scan: &mut Scan, position: usize) -> io::Result<Option<BatchHeader>> {
    match scan.peek(position) {
        Err(error) if is_of_medium(&error) => Ok(None),
        header => header,
    }
}
