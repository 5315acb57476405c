//! Writes the records that stay of a group of neighbouring segments into one new segment.

use super::rewrite::{self, Rewritten, Rules};
use super::swap::{self, Manifest, SwapJob};
use super::{CompactError, CompactJob, Source};
use crate::io::file;
use crate::log::batch::BatchHeader;
use crate::log::check::order::Expected;
use crate::log::check::scan::{Found, Scan};
use crate::log::check::walk::Walk;
use crate::log::segment::IndexBuilder;
use crate::log::segment_writer::{BUFFER_BYTES, SegmentWriter};
use std::io;
use std::path::{Path, PathBuf};

/// A segment's batches, which must be sound, in order and complete: what is damaged is not compacted.
pub struct Batches {
    walk: Walk,
    base: i64,
}

impl Batches {
    pub fn open(dir: &Path, source: &Source, gaps_end: i64) -> Result<Batches, CompactError> {
        let base = source.base;
        let expected = Expected::new(base, source.end, gaps_end);
        let walk = Walk::open(dir, expected)?;
        let (size, position) = (walk.scan().size(), walk.scan().size().min(source.size));
        if size != source.size {
            return Err(CompactError::Damaged { base, position });
        }
        Ok(Batches { walk, base })
    }

    pub fn scan(&self) -> &Scan {
        self.walk.scan()
    }

    pub fn step(&mut self) -> Result<Option<Found>, CompactError> {
        let (base, position) = (self.base, self.scan().position());
        match self.walk.step_sound()? {
            None if !self.walk.is_complete() => Err(CompactError::Damaged { base, position }),
            found => Ok(found),
        }
    }
}

impl CompactJob {
    /// Cleans one group. `None` when it is a single segment that stays as it is.
    pub(super) fn clean(&mut self, group: &[Source]) -> Result<Option<SwapJob>, CompactError> {
        let (base, end) = (group[0].base, group[group.len() - 1].end);
        let mut output = Output {
            path: swap::cleaned_path(&self.dir, base, "log"),
            same_bytes: 0,
            same_index: IndexBuilder::new(base, self.index_interval_bytes),
            writer: None,
        };
        for source in group {
            let mut batches = Batches::open(&self.dir, source, self.gaps_end)?;
            if group.len() > 1 {
                output.writer(batches.scan())?;
            }
            while let Some(found) = batches.step()? {
                self.throttle.take(found.header.size())?;
                self.report.read_bytes += found.header.size() as u64;
                let before = output.position();
                self.clean_batch(&mut output, batches.scan(), &found, end)?;
                let written = output.position() - before;
                self.throttle.take(written as usize)?;
                self.report.written_bytes += written;
            }
        }
        let Some(writer) = output.writer else {
            return Ok(None);
        };
        let new = writer.finish()?;
        let index = file::open(&swap::cleaned_path(&self.dir, base, "index"), true)?;
        file::truncate(&index, 0)?;
        file::write_at(&index, &new.index.encode(), 0)?;
        file::sync_dir(&self.dir)?;
        Ok(Some(SwapJob {
            dir: self.dir.clone(),
            manifest: Manifest {
                new_bytes: new.bytes,
                new_crc: new.crc,
                old_bases: group.iter().map(|source| source.base).collect(),
            },
            max_timestamp: new.index.max_timestamp,
        }))
    }

    fn clean_batch(
        &mut self,
        output: &mut Output,
        scan: &Scan,
        found: &Found,
        group_end: i64,
    ) -> Result<(), CompactError> {
        let header = &found.header;
        let rules = Rules {
            map: &self.map,
            map_end: self.map_end,
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
        };
        let cleaned = rewrite::apply(&rules, header, scan.bytes(found));
        let cleaned = cleaned.map_err(|_| CompactError::TooLarge {
            offset: header.base_offset,
        })?;
        self.last_horizon_ms = self.last_horizon_ms.max(cleaned.horizon_ms.unwrap_or(-1));
        self.report.dropped_records += cleaned.records_dropped;
        match cleaned.batch {
            Rewritten::Same => output.keep(scan, found),
            Rewritten::Changed(batch) => output.put(scan, &batch),
            Rewritten::Emptied if !self.must_stay(header, group_end) => {
                output.writer(scan).map(|_| ())
            }
            Rewritten::Emptied if header.record_count == 0 => output.keep(scan, found),
            Rewritten::Emptied => output.put(scan, &rewrite::emptied(header)),
        }
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
struct Output {
    path: PathBuf,
    /// Bytes that are the same as in the single old segment so far, and their index.
    same_bytes: usize,
    same_index: IndexBuilder,
    /// There from the first difference on.
    writer: Option<SegmentWriter>,
}

impl Output {
    /// Bytes that were written so far.
    fn position(&self) -> u64 {
        self.writer.as_ref().map_or(0, SegmentWriter::position)
    }

    /// A batch stays as it is.
    fn keep(&mut self, scan: &Scan, found: &Found) -> Result<(), CompactError> {
        if self.writer.is_some() {
            return self.put(scan, scan.bytes(found));
        }
        self.same_index.note(found.position, &found.header);
        self.same_bytes = found.end;
        Ok(())
    }

    /// A batch becomes this one.
    fn put(&mut self, scan: &Scan, batch: &[u8]) -> Result<(), CompactError> {
        let header = BatchHeader::parse(batch).map_err(io::Error::other)?;
        let writer = self.writer(scan)?;
        if writer.position() + batch.len() as u64 > u64::from(u32::MAX) {
            return Err(CompactError::TooLarge {
                offset: header.base_offset,
            });
        }
        Ok(writer.put(&header, batch)?)
    }

    /// The writer; what is the same so far is copied when it is created.
    fn writer(&mut self, scan: &Scan) -> Result<&mut SegmentWriter, CompactError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let mut writer = SegmentWriter::create(&self.path, self.same_index.clone())?;
                for from in (0..self.same_bytes).step_by(BUFFER_BYTES) {
                    let to = (from + BUFFER_BYTES).min(self.same_bytes);
                    writer.put_bytes(scan.passed(from..to)?)?;
                }
                writer
            }
        };
        Ok(self.writer.insert(writer))
    }
}
