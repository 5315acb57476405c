//! Writes the records that stay of a group of neighbouring segments into one new segment.

use super::rewrite::{self, Outcome, Rules};
use super::swap::{self, Manifest, SwapJob};
use super::throttle::Throttle;
use super::{CompactError, CompactReport, Place};
use crate::io::file;
use crate::log::batch::BatchHeader;
use crate::log::check::order::Expected;
use crate::log::check::scan::{Found, Scan};
use crate::log::check::walk::Walk;
use crate::log::segment::IndexBuilder;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes written before they are synced, so that no other flush waits behind a whole segment.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// What is needed to clean a group.
pub struct Cleaning<'a> {
    pub dir: &'a Path,
    pub rules: Rules<'a>,
    /// The last offset that each producer is remembered by: that batch stays, if without records.
    pub producers: &'a HashMap<i64, i64>,
    pub index_interval_bytes: usize,
    /// Below this offset records may be missing already.
    pub gaps_end: i64,
    pub throttle: &'a mut Throttle,
    pub report: &'a mut CompactReport,
    /// When the last of the tombstones that are kept may go (ms), or -1.
    pub last_horizon_ms: &'a mut i64,
}

/// A segment's batches, which must be sound, in order and complete: what is damaged is not compacted.
pub struct Batches {
    walk: Walk,
    place: Place,
}

impl Batches {
    pub fn open(dir: &Path, place: &Place, gaps_end: i64) -> Result<Batches, CompactError> {
        let expected = Expected {
            base: place.base,
            end: place.end,
            gaps_end,
            known: None,
        };
        let batches = Batches {
            walk: Walk::open(dir, expected)?,
            place: *place,
        };
        let size = batches.scan().size();
        if size == place.size {
            Ok(batches)
        } else {
            Err(batches.damaged_at(size.min(place.size)))
        }
    }

    pub fn scan(&self) -> &Scan {
        self.walk.scan()
    }

    pub fn step(&mut self) -> Result<Option<Found>, CompactError> {
        let position = self.scan().position();
        match self.walk.step_sound()? {
            None if !self.walk.is_complete() => Err(self.damaged_at(position)),
            found => Ok(found),
        }
    }

    fn damaged_at(&self, position: usize) -> CompactError {
        CompactError::Damaged {
            base: self.place.base,
            position,
        }
    }
}

impl Cleaning<'_> {
    /// Cleans one group. `None` when it is a single segment that stays as it is.
    pub fn clean(&mut self, group: &[Place]) -> Result<Option<SwapJob>, CompactError> {
        let base = group[0].base;
        let end = group[group.len() - 1].end;
        let mut output = Output::new(self.dir, base, self.index_interval_bytes, group.len() == 1);
        for place in group {
            let mut batches = Batches::open(self.dir, place, self.gaps_end)?;
            while let Some(found) = batches.step()? {
                self.throttle.take(found.header.size())?;
                self.report.read_bytes += found.header.size() as u64;
                let written = self.batch(&mut output, batches.scan(), &found, end)?;
                self.throttle.take(written)?;
                self.report.written_bytes += written as u64;
            }
        }
        output.finish(group)
    }

    /// Returns the bytes that were written.
    fn batch(
        &mut self,
        output: &mut Output<'_>,
        scan: &Scan,
        found: &Found,
        group_end: i64,
    ) -> Result<usize, CompactError> {
        let (header, bytes) = (&found.header, scan.bytes(found));
        let too_large = |_| CompactError::TooLarge {
            offset: header.base_offset,
        };
        match rewrite::apply(&self.rules, header, bytes).map_err(too_large)? {
            Outcome::Same { horizon_ms } => {
                self.note_horizon(horizon_ms);
                output.keep(scan, found)
            }
            Outcome::Changed {
                batch,
                records_dropped,
                horizon_ms,
            } => {
                self.note_horizon(horizon_ms);
                self.report.dropped_records += records_dropped;
                output.replace(scan, found.position, Some(&batch))
            }
            Outcome::Emptied { records_dropped } => {
                self.report.dropped_records += records_dropped;
                match self.must_stay(header, group_end) {
                    false => output.replace(scan, found.position, None),
                    true if header.record_count == 0 => output.keep(scan, found),
                    true => {
                        let empty = rewrite::emptied(header);
                        output.replace(scan, found.position, Some(&empty))
                    }
                }
            }
        }
    }

    fn note_horizon(&mut self, horizon_ms: Option<i64>) {
        *self.last_horizon_ms = (*self.last_horizon_ms).max(horizon_ms.unwrap_or(-1));
    }

    /// The last batch of the new segment says where it ends, so that every segment begins where the
    /// one before it ended; and a producer's last batch says what its sequence is.
    fn must_stay(&self, header: &BatchHeader, group_end: i64) -> bool {
        let last_offset = header.last_offset();
        header.next_offset() == group_end
            || self.producers.get(&header.producer_id) == Some(&last_offset)
    }
}

/// The new segment. While nothing differs from a single old segment, nothing is written.
struct Output<'a> {
    dir: &'a Path,
    base: i64,
    file: Option<File>,
    /// Bytes that are the same as in the single segment so far, and not written yet.
    same_bytes: usize,
    may_be_same: bool,
    buffer: Vec<u8>,
    written_bytes: u64,
    synced_bytes: u64,
    crc: crc32fast::Hasher,
    index: IndexBuilder,
}

impl Output<'_> {
    fn new(dir: &Path, base: i64, index_interval_bytes: usize, may_be_same: bool) -> Output<'_> {
        Output {
            dir,
            base,
            file: None,
            same_bytes: 0,
            may_be_same,
            buffer: Vec::new(),
            written_bytes: 0,
            synced_bytes: 0,
            crc: crc32fast::Hasher::new(),
            index: IndexBuilder::new(base, index_interval_bytes),
        }
    }

    /// A batch stays as it is.
    fn keep(&mut self, scan: &Scan, found: &Found) -> Result<usize, CompactError> {
        if self.may_be_same {
            self.index.note(found.position, &found.header);
            self.same_bytes = found.end;
            return Ok(0);
        }
        self.put(scan.bytes(found), &found.header)
    }

    /// A batch becomes another one, or none.
    fn replace(
        &mut self,
        scan: &Scan,
        position: usize,
        batch: Option<&[u8]>,
    ) -> Result<usize, CompactError> {
        let mut written = 0;
        if std::mem::take(&mut self.may_be_same) {
            written += self.write_same(scan)?;
            debug_assert_eq!(self.position(), position as u64);
        }
        if let Some(batch) = batch {
            let header = BatchHeader::parse(batch).map_err(io::Error::other)?;
            written += self.put(batch, &header)?;
        }
        Ok(written)
    }

    fn write_same(&mut self, scan: &Scan) -> Result<usize, CompactError> {
        for from in (0..self.same_bytes).step_by(BUFFER_BYTES) {
            let to = (from + BUFFER_BYTES).min(self.same_bytes);
            let bytes = scan.passed(from..to)?;
            self.buffer.extend_from_slice(bytes);
            self.write_out()?;
        }
        Ok(self.same_bytes)
    }

    fn position(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    fn put(&mut self, batch: &[u8], header: &BatchHeader) -> Result<usize, CompactError> {
        let position = self.position();
        if position + batch.len() as u64 > u64::from(u32::MAX) {
            return Err(CompactError::TooLarge {
                offset: header.base_offset,
            });
        }
        self.index.note(position as usize, header);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(batch.len())
    }

    fn write_out(&mut self) -> Result<(), CompactError> {
        if self.file.is_none() {
            let path = swap::cleaned_path(self.dir, self.base, "log");
            let file = file::open(&path, true)?;
            file::truncate(&file, 0)?;
            self.file = Some(file);
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        file::write_at(file, &self.buffer, self.written_bytes)?;
        self.crc.update(&self.buffer);
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written_bytes - self.synced_bytes >= SYNC_EVERY_BYTES {
            file::sync_data(file)?;
            self.synced_bytes = self.written_bytes;
        }
        Ok(())
    }

    /// Makes the new segment durable, its name too.
    fn finish(mut self, group: &[Place]) -> Result<Option<SwapJob>, CompactError> {
        if self.may_be_same {
            return Ok(None);
        }
        self.write_out()?;
        if let Some(file) = &self.file {
            file::sync_data(file)?;
        }
        let index = file::open(&swap::cleaned_path(self.dir, self.base, "index"), true)?;
        file::truncate(&index, 0)?;
        let entries = &self.index.index;
        file::write_at(&index, &entries.encode(0..entries.len(), self.base), 0)?;
        file::sync_dir(self.dir)?;
        Ok(Some(SwapJob {
            dir: self.dir.to_owned(),
            manifest: Manifest {
                new_bytes: self.written_bytes,
                new_crc: self.crc.finalize(),
                old_bases: group.iter().map(|place| place.base).collect(),
            },
            max_timestamp: self.index.max_timestamp,
        }))
    }
}
