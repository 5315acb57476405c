//! Repairs the directory of one partition that no broker has open: what is damaged is given up.
//!
//! An empty batch over the same offsets, as compaction leaves them, replaces batches that cannot be read:
//! clients skip it, and all that is sound keeps its offset. Nothing is written in place. A file that is to
//! change gets a second name among the copies first (a hard link, or a copy where the file system has no
//! hard links), and the new file is renamed over it. So every step can be done again.

use super::damage::{self, Damage, Why};
use super::order::Expected;
use super::scan::Found;
use super::survey::{self, Survey};
use super::walk::Walk;
use crate::io::file;
use crate::log::batch::BatchHeader;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::compact::{self, CompactionState};
use crate::log::segment::{self, IndexBuilder};
use crate::log::segment_writer::SegmentWriter;
use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes between two entries of an index that is rebuilt.
const INDEX_INTERVAL_BYTES: usize = 4096;
/// The offsets that one empty batch can stand for.
const OFFSETS_MAX: i64 = i32::MAX as i64;

/// A file that was repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub path: PathBuf,
    pub change: Change,
}

/// What was done to a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Change {
    #[error("offsets {} to {} are given up: an empty batch stands for them", .0.start, .0.end - 1)]
    GaveUp(Range<i64>),
    #[error("{0} bytes behind the last batch are cut")]
    Cut(usize),
    #[error("the checkpoint points to byte {position} of the segment that begins at offset {base}")]
    MovedCheckpoint { base: i64, position: u64 },
    #[error("the damaged checkpoint is removed; the next start reads the whole log")]
    RemovedCheckpoint,
    #[error("the index is rebuilt")]
    RebuiltIndex,
    #[error("the list of damage is removed")]
    RemovedDamageList,
}

/// Repairs the partition in `dir`. Copies of files that change go to `copies`, which is created when it is
/// needed. Indexes in `bad_indexes` are rebuilt.
///
/// # Errors
/// The file system's. What was done so far stays; calling this again continues.
pub fn repair(
    dir: &Path,
    copies: &Path,
    bad_indexes: &HashSet<PathBuf>,
) -> io::Result<Vec<Repaired>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    compact::recover_swap(dir)?;
    let mut repair = Repair {
        dir,
        copies,
        bad_indexes,
        checkpoint: None,
        gaps_end: CompactionState::read(dir)?.gaps_end,
        repaired: Vec::new(),
    };
    repair.take_checkpoint()?;
    repair.repair_segments()?;
    repair.point_checkpoint()?;
    repair.forget_damage()?;
    if !repair.repaired.is_empty() {
        file::sync_dir(dir)?;
    }
    Ok(repair.repaired)
}

struct Repair<'a> {
    dir: &'a Path,
    copies: &'a Path,
    bad_indexes: &'a HashSet<PathBuf>,
    checkpoint: Option<Checkpoint>,
    gaps_end: i64,
    repaired: Vec<Repaired>,
}

impl Repair<'_> {
    fn take_checkpoint(&mut self) -> io::Result<()> {
        let path = self.dir.join(checkpoint::FILE_NAME);
        let content = file::read(&path, checkpoint::FILE_BYTES_MAX)?;
        self.checkpoint = content.as_deref().and_then(Checkpoint::decode);
        if content.is_some() && self.checkpoint.is_none() {
            self.keep(&path)?;
            file::remove(&path)?;
            self.note(&path, Change::RemovedCheckpoint);
        }
        Ok(())
    }

    fn durable_offset(&self) -> i64 {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or(0, |checkpoint| checkpoint.durable_offset)
    }

    // ---- segments ----

    fn repair_segments(&mut self) -> io::Result<()> {
        let bases = segment::list(self.dir)?;
        let mut log_end = self.checkpoint.as_ref().map(|it| it.log_start_offset);
        for (at, base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).copied();
            log_end = Some(self.repair_segment(*base, next)?);
        }
        match log_end {
            Some(end) if end < self.durable_offset() => {
                self.add_segment(end..self.durable_offset())
            }
            _ => Ok(()),
        }
    }

    /// Returns the offset where the segment ends now.
    fn repair_segment(&mut self, base: i64, next: Option<i64>) -> io::Result<i64> {
        let mut survey = self.survey(base, next, &mut |_, _| Ok(()))?;
        let mut damage = std::mem::take(&mut survey.damage);
        let has_batches = survey.next_offset > base;
        let is_missing =
            |found: &mut Damage| has_batches && found.why == Why::Short && found.bytes.is_empty();
        let missing = damage.pop_if(is_missing);
        damage.retain(|found| next.is_some() || !is_reserved(found));
        if !damage.is_empty() {
            self.rewrite(base, next, &damage)?;
        } else if self
            .bad_indexes
            .contains(&segment::file_path(self.dir, base, "index"))
        {
            self.write_index(&survey.index)?;
        }
        if let Some(missing) = missing {
            self.add_segment(missing.offsets)?;
        }
        Ok(next.unwrap_or(survey.next_offset))
    }

    fn survey(
        &self,
        base: i64,
        next: Option<i64>,
        visit: &mut dyn FnMut(&BatchHeader, &[u8]) -> io::Result<()>,
    ) -> io::Result<Survey> {
        let expected = self.expected(base, next);
        let mut failed = None;
        let mut visit = |found: &Found, bytes: &[u8]| {
            if failed.is_none() {
                failed = visit(&found.header, bytes).err();
            }
        };
        let survey = survey::survey(
            self.dir,
            expected,
            INDEX_INTERVAL_BYTES,
            (0, base),
            &mut visit,
        );
        match failed {
            Some(error) => Err(error),
            None => survey,
        }
    }

    fn expected(&self, base: i64, next: Option<i64>) -> Expected {
        Expected::new(base, next.unwrap_or(i64::MAX), self.gaps_end)
    }

    /// Rewrites a segment without its damaged stretches.
    fn rewrite(&mut self, base: i64, next: Option<i64>, damage: &[Damage]) -> io::Result<()> {
        let lost = damage.iter().map(|found| found.offsets.clone());
        let mut output = self.output(base, lost.filter(|lost| !lost.is_empty()).collect())?;
        self.survey(base, next, &mut |header, bytes| {
            output.give_up_to(header.base_offset)?;
            output.writer.put(header, bytes)
        })?;
        let path = self.replace(base, output)?;
        for found in damage {
            let change = if found.offsets.is_empty() {
                Change::Cut(found.bytes.len())
            } else {
                Change::GaveUp(found.offsets.clone())
            };
            self.note(&path, change);
        }
        Ok(())
    }

    /// Creates a segment of empty batches for offsets that no segment has.
    fn add_segment(&mut self, lost: Range<i64>) -> io::Result<()> {
        let output = self.output(lost.start, VecDeque::from([lost.clone()]))?;
        let path = self.replace(lost.start, output)?;
        self.note(&path, Change::GaveUp(lost));
        Ok(())
    }

    fn output(&self, base: i64, lost: VecDeque<Range<i64>>) -> io::Result<Output> {
        let path = new_path(&segment::file_path(self.dir, base, "log"));
        let index = IndexBuilder::new(base, INDEX_INTERVAL_BYTES);
        Ok(Output {
            writer: SegmentWriter::create(&path, index)?,
            lost,
            split_at: self.durable_offset(),
        })
    }

    /// Renames the segment that was written over the old one.
    fn replace(&mut self, base: i64, mut output: Output) -> io::Result<PathBuf> {
        output.give_up_to(i64::MAX)?;
        let written = output.writer.finish()?;
        let path = segment::file_path(self.dir, base, "log");
        if path.exists() {
            self.keep(&path)?;
        }
        // An old index must never be taken for one of the new segment.
        file::remove(&path.with_extension("index"))?;
        file::sync_dir(self.dir)?;
        file::rename(&new_path(&path), &path)?;
        file::sync_dir(self.dir)?;
        self.write_index(&written.index)?;
        Ok(path)
    }

    fn write_index(&mut self, index: &IndexBuilder) -> io::Result<()> {
        let path = segment::file_path(self.dir, index.base(), "index");
        let is_news = path.exists();
        file::replace(&path, &index.encode())?;
        if is_news {
            self.note(&path, Change::RebuiltIndex);
        }
        Ok(())
    }

    // ---- the checkpoint and the list of damage ----

    /// The checkpoint's offset stays; the byte where it lies may be another now.
    fn point_checkpoint(&mut self) -> io::Result<()> {
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return Ok(());
        };
        let before = (checkpoint.segment_base, checkpoint.position);
        let found = self.find(checkpoint.durable_offset, checkpoint.segment_base)?;
        let Some((base, position)) = found.filter(|found| *found != before) else {
            return Ok(());
        };
        let path = self.dir.join(checkpoint::FILE_NAME);
        self.keep(&path)?;
        checkpoint.segment_base = base;
        checkpoint.position = position;
        checkpoint.write(self.dir)?;
        self.note(&path, Change::MovedCheckpoint { base, position });
        Ok(())
    }

    /// The segment and the byte where the batch with this offset begins, or the last one before it ends.
    /// Where it is the end of one segment and the beginning of the next, either will do: `preferred` if it is one.
    fn find(&self, offset: i64, preferred: i64) -> io::Result<Option<(i64, u64)>> {
        let mut bases = segment::list(self.dir)?;
        bases.retain(|base| *base <= offset);
        bases.sort_by_key(|base| (*base == preferred, *base));
        for base in bases.into_iter().rev().take(2) {
            let mut walk = Walk::open(self.dir, self.expected(base, None))?;
            while walk.next_offset() < offset && walk.step_sound()?.is_some() {}
            if walk.next_offset() == offset {
                return Ok(Some((base, walk.scan().position() as u64)));
            }
        }
        Ok(None)
    }

    fn forget_damage(&mut self) -> io::Result<()> {
        let path = self.dir.join(damage::FILE_NAME);
        if path.exists() {
            self.keep(&path)?;
            file::remove(&path)?;
            self.note(&path, Change::RemovedDamageList);
        }
        Ok(())
    }

    // ---- copies ----

    fn keep(&self, path: &Path) -> io::Result<()> {
        keep(path, self.copies)
    }

    fn note(&mut self, path: &Path, change: Change) {
        let path = path.to_owned();
        self.repaired.push(Repaired { path, change });
    }
}

/// Gives a file that is about to be replaced another name in `copies`, a directory that is made when it
/// is not there.
///
/// # Errors
/// The file system's.
pub fn keep(path: &Path, copies: &Path) -> io::Result<()> {
    fs::create_dir_all(copies)?;
    let copy = copies.join(path.file_name().unwrap_or_default());
    if copy.exists() {
        return Ok(());
    }
    if fs::hard_link(path, &copy).is_err() {
        fs::copy(path, &copy)?;
        file::sync_data(&file::open(&copy, false)?)?;
    }
    file::sync_dir(copies)
}

/// Zeros at the end of the last segment are reserved space, and so is what an older segment left there. The
/// next start frees it.
fn is_reserved(found: &Damage) -> bool {
    matches!(found.why, Why::Zeros | Why::Recycled) && found.offsets.is_empty()
}

fn new_path(segment: &Path) -> PathBuf {
    segment.with_extension("log.tmp")
}

/// A segment that is being written, with empty batches for what is lost.
struct Output {
    writer: SegmentWriter,
    /// The offsets that no batch has, in their order.
    lost: VecDeque<Range<i64>>,
    /// A batch must begin at this offset: the checkpoint lies there.
    split_at: i64,
}

impl Output {
    /// Writes empty batches for what is lost before `offset`.
    fn give_up_to(&mut self, offset: i64) -> io::Result<()> {
        while self.lost.front().is_some_and(|lost| lost.start < offset)
            && let Some(lost) = self.lost.pop_front()
        {
            let mut from = lost.start;
            while from < lost.end {
                let mut to = lost.end.min(from.saturating_add(OFFSETS_MAX));
                if (from + 1..to).contains(&self.split_at) {
                    to = self.split_at;
                }
                let (header, bytes) = empty_batch(from..to)?;
                self.writer.put(&header, &bytes)?;
                from = to;
            }
        }
        Ok(())
    }
}

/// A batch without records over these offsets; lookups by time pass it by.
fn empty_batch(offsets: Range<i64>) -> io::Result<(BatchHeader, Vec<u8>)> {
    let header = BatchHeader {
        base_offset: offsets.start,
        length: 0,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: (offsets.end - offsets.start - 1) as i32,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    let bytes = header.with_records(&[]);
    let header = BatchHeader::parse(&bytes).map_err(io::Error::other)?;
    Ok((header, bytes))
}
