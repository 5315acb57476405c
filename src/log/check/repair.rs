//! Mends the directory of one partition that no broker has open: what is damaged is given up.
//!
//! In the place of batches that cannot be read comes an empty batch over the same offsets, as compaction
//! leaves them: clients move over it, and all that is sound keeps its offset. Nothing is written in
//! place. A file that is to change gets a second name among the copies first (a hard link, or a copy
//! where the file system has none), and the new one takes its name. So every step can be done again.

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
use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes between two entries of an index that is rebuilt.
const INDEX_INTERVAL_BYTES: usize = 4096;
/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// The offsets that one empty batch can stand for.
const OFFSETS_MAX: i64 = i32::MAX as i64;

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    pub path: PathBuf,
    pub what: Done,
}

/// What was done to a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Done {
    #[error("offsets {} to {} are given up: an empty batch stands for them", .0.start, .0.end - 1)]
    GaveUp(Range<i64>),
    #[error("{0} bytes behind the last batch are cut")]
    Cut(usize),
    #[error("the checkpoint points to byte {position} of the segment that begins at offset {base}")]
    MovedCheckpoint { base: i64, position: u64 },
    #[error("the damaged checkpoint is taken away; the next start reads the whole log")]
    TookCheckpoint,
    #[error("the index is rebuilt")]
    MadeIndex,
    #[error("the list of what is damaged is taken away")]
    ForgotDamage,
}

/// Mends the partition in `dir`. Copies of what is changed go to `copies`, which is made when it is
/// needed. Indexes in `bad_indexes` are rebuilt.
///
/// # Errors
/// The file system's; what was done so far is done, and doing it again goes on.
pub fn repair(
    dir: &Path,
    copies: &Path,
    bad_indexes: &HashSet<PathBuf>,
) -> io::Result<Vec<Mended>> {
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
        mended: Vec::new(),
    };
    repair.take_checkpoint()?;
    repair.mend_segments()?;
    repair.point_checkpoint()?;
    repair.forget_damage()?;
    if !repair.mended.is_empty() {
        file::sync_dir(dir)?;
    }
    Ok(repair.mended)
}

struct Repair<'a> {
    dir: &'a Path,
    copies: &'a Path,
    bad_indexes: &'a HashSet<PathBuf>,
    checkpoint: Option<Checkpoint>,
    gaps_end: i64,
    mended: Vec<Mended>,
}

impl Repair<'_> {
    fn take_checkpoint(&mut self) -> io::Result<()> {
        let path = self.dir.join(checkpoint::FILE_NAME);
        let content = file::read(&path, checkpoint::FILE_BYTES_MAX)?;
        self.checkpoint = content.as_deref().and_then(Checkpoint::decode);
        if content.is_some() && self.checkpoint.is_none() {
            self.keep(&path)?;
            file::remove(&path)?;
            self.note(&path, Done::TookCheckpoint);
        }
        Ok(())
    }

    fn durable_offset(&self) -> i64 {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or(0, |checkpoint| checkpoint.durable_offset)
    }

    // ---- segments ----

    fn mend_segments(&mut self) -> io::Result<()> {
        let bases = segment::list(self.dir)?;
        let mut log_end = self.checkpoint.as_ref().map(|it| it.log_start_offset);
        for (at, base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).copied();
            log_end = Some(self.mend_segment(*base, next)?);
        }
        match log_end {
            Some(end) if end < self.durable_offset() => {
                self.add_segment(end..self.durable_offset())
            }
            _ => Ok(()),
        }
    }

    /// Returns the offset where the segment ends now.
    fn mend_segment(&mut self, base: i64, next: Option<i64>) -> io::Result<i64> {
        let survey = self.survey(base, next, &mut |_, _| Ok(()))?;
        let path = segment::file_path(self.dir, base, "log");
        let is_missing_behind = |found: &&Damage| {
            found.why == Why::Short && found.bytes.is_empty() && survey.next_offset > base
        };
        let missing = survey.damage.iter().find(is_missing_behind).cloned();
        let in_it: Vec<Damage> = survey
            .damage
            .iter()
            .filter(|found| Some(*found) != missing.as_ref())
            .filter(|found| !(next.is_none() && is_reserved(found)))
            .cloned()
            .collect();
        if !in_it.is_empty() {
            self.rewrite(base, next, &in_it)?;
        } else if self.bad_indexes.contains(&path.with_extension("index")) {
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
        Expected {
            base,
            end: next.unwrap_or(i64::MAX),
            gaps_end: self.gaps_end,
            known: None,
        }
    }

    /// Rewrites a segment without its damaged stretches.
    fn rewrite(&mut self, base: i64, next: Option<i64>, damage: &[Damage]) -> io::Result<()> {
        let path = segment::file_path(self.dir, base, "log");
        let lost = damage.iter().map(|found| found.offsets.clone());
        let lost: Vec<Range<i64>> = lost.filter(|lost| !lost.is_empty()).collect();
        let mut output = Output::create(&path, base, self.durable_offset())?;
        output.lost = lost.iter().cloned().collect();
        self.survey(base, next, &mut |header, bytes| {
            output.give_up_to(header.base_offset)?;
            output.put(header, bytes)
        })?;
        output.give_up_to(i64::MAX)?;
        let index = output.finish()?;
        self.replace(&path, &index)?;
        for lost in lost {
            self.note(&path, Done::GaveUp(lost));
        }
        let cut = damage.iter().filter(|found| found.offsets.is_empty());
        for found in cut {
            self.note(&path, Done::Cut(found.bytes.len()));
        }
        Ok(())
    }

    /// Makes a segment that stands for offsets of which nothing is there.
    fn add_segment(&mut self, lost: Range<i64>) -> io::Result<()> {
        let path = segment::file_path(self.dir, lost.start, "log");
        let mut output = Output::create(&path, lost.start, self.durable_offset())?;
        output.lost.push_back(lost.clone());
        output.give_up_to(i64::MAX)?;
        let index = output.finish()?;
        self.replace(&path, &index)?;
        self.note(&path, Done::GaveUp(lost));
        Ok(())
    }

    /// The segment that was written takes its place.
    fn replace(&mut self, path: &Path, index: &IndexBuilder) -> io::Result<()> {
        if path.exists() {
            self.keep(path)?;
        }
        // An old index must never be taken for one of the new segment.
        file::remove(&path.with_extension("index"))?;
        file::sync_dir(self.dir)?;
        file::rename(&new_path(path), path)?;
        file::sync_dir(self.dir)?;
        self.write_index(index)
    }

    fn write_index(&mut self, index: &IndexBuilder) -> io::Result<()> {
        let path = segment::file_path(self.dir, index.base(), "index");
        let is_news = path.exists();
        let content = index.index.encode(0..index.index.len(), index.base());
        file::replace(&path, &content)?;
        if is_news {
            self.note(&path, Done::MadeIndex);
        }
        Ok(())
    }

    // ---- the checkpoint, and what is known of damage ----

    /// The checkpoint's offset stays; the byte where it lies may be another now.
    fn point_checkpoint(&mut self) -> io::Result<()> {
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return Ok(());
        };
        let place = self.place_of(checkpoint.durable_offset, &checkpoint)?;
        let Some((base, position)) = place else {
            return Ok(());
        };
        if (base, position) == (checkpoint.segment_base, checkpoint.position) {
            return Ok(());
        }
        let path = self.dir.join(checkpoint::FILE_NAME);
        self.keep(&path)?;
        checkpoint.segment_base = base;
        checkpoint.position = position;
        checkpoint.write(self.dir)?;
        self.note(&path, Done::MovedCheckpoint { base, position });
        Ok(())
    }

    /// The segment and the byte where the batch with this offset begins, or the last one before it ends.
    fn place_of(&self, offset: i64, checkpoint: &Checkpoint) -> io::Result<Option<(i64, u64)>> {
        let mut bases = segment::list(self.dir)?;
        bases.retain(|base| *base <= offset);
        // Where it is the end of one segment and the beginning of the next, either will do.
        bases.sort_by_key(|base| (*base == checkpoint.segment_base, *base));
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
            self.note(&path, Done::ForgotDamage);
        }
        Ok(())
    }

    // ---- copies ----

    fn keep(&self, path: &Path) -> io::Result<()> {
        keep(path, self.copies)
    }

    fn note(&mut self, path: &Path, what: Done) {
        self.mended.push(Mended {
            path: path.to_owned(),
            what,
        });
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

/// Zeros at the end of the last segment are space that was reserved, and so is what an older segment
/// left there; the next start gives it back.
fn is_reserved(found: &Damage) -> bool {
    matches!(found.why, Why::Zeros | Why::Recycled) && found.offsets.is_empty()
}

fn new_path(segment: &Path) -> PathBuf {
    segment.with_extension("log.tmp")
}

/// A segment that is being written.
struct Output {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    index: IndexBuilder,
    /// What no batch that comes has, in the order of offsets.
    lost: VecDeque<Range<i64>>,
    /// A batch must begin at this offset: the checkpoint lies there.
    split_at: i64,
}

impl Output {
    fn create(path: &Path, base: i64, split_at: i64) -> io::Result<Output> {
        let file = file::open(&new_path(path), true)?;
        file::truncate(&file, 0)?;
        Ok(Output {
            file,
            buffer: Vec::new(),
            written: 0,
            index: IndexBuilder::new(base, INDEX_INTERVAL_BYTES),
            lost: VecDeque::new(),
            split_at,
        })
    }

    /// Writes empty batches for what is lost before `offset`.
    fn give_up_to(&mut self, offset: i64) -> io::Result<()> {
        while let Some(lost) = self.lost.front().cloned()
            && lost.start < offset
        {
            self.lost.pop_front();
            let mut from = lost.start;
            while from < lost.end {
                let mut to = lost.end.min(from.saturating_add(OFFSETS_MAX));
                if (from + 1..to).contains(&self.split_at) {
                    to = self.split_at;
                }
                let (header, bytes) = empty_batch(from..to)?;
                self.put(&header, &bytes)?;
                from = to;
            }
        }
        Ok(())
    }

    fn put(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        let position = self.written + self.buffer.len() as u64;
        self.index.note(position as usize, header);
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= BUFFER_BYTES {
            true => self.write_out(),
            false => Ok(()),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        file::write_at(&self.file, &self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<IndexBuilder> {
        self.write_out()?;
        file::sync_data(&self.file)?;
        Ok(self.index)
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
