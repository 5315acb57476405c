//! Opening a log: from the checkpoint, reading only what came after it.
//!
//! Pages reach the disk in any order, so everything past the checkpoint is checked batch by batch:
//! header, offset, CRC. The log ends at the first that fails; what lies behind was never
//! acknowledged and is cut. Segments before the checkpoint's are not read at all. A compaction that a
//! crash interrupted is settled first.
//!
//! What a crash cannot have done is damage. It is contained: see [`damage`].

use super::batch::BatchHeader;
use super::check::damage::{self, Damage, DamageList, Why};
use super::check::order::Expected;
use super::check::scan::{self, Scan, Step};
use super::check::survey::survey;
use super::check::walk::Walk;
use super::checkpoint::Checkpoint;
use super::compact::{self, CompactionState};
use super::segment::{self, SealedSegment};
use super::spare;
use super::{LogError, NOT_DURABLE_BYTES_MAX};
use crate::io::file;
use crate::io::sabotage::{self, Sabotage};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A crash does not tear more than this of what was sound: no more may be appended and not durable.
const CUT_BYTES_MAX: u64 = NOT_DURABLE_BYTES_MAX;
/// How far a recycled segment is searched for a sound batch behind one that is not: all of what an older
/// segment left there would make a start long, and what was not durable ends before.
const RECYCLED_SEARCH_BYTES: usize = NOT_DURABLE_BYTES_MAX as usize;
/// Part of the name of a file that keeps what was cut.
const CUT_INFIX: &str = ".cut-";
/// A start needs no index of what it surveys.
const NO_INDEX: usize = u32::MAX as usize;
const READ_ONLY_LOST: &str = "the end of the log is lost, and with it where it was";
const READ_ONLY_UNREADABLE: &str = "the end of the log cannot be read";
const READ_ONLY_FULL: &str = "the disk is full, and what must be kept of the log's torn end cannot be copied; make room, then restart";

/// What the layer above learns while a log is opened: first the state at the checkpoint, then every
/// batch after it.
pub enum Replay<'a> {
    Snapshot(&'a [u8]),
    Batch(&'a BatchHeader),
}

/// What was found in a partition's directory.
#[derive(Default)]
pub struct Recovered {
    /// There is a directory.
    pub has_dir: bool,
    pub segments: Vec<SealedSegment>,
    pub log_start_offset: i64,
    pub end_offset: i64,
    /// Base of the segment that holds the end, and bytes of it.
    pub end_segment: i64,
    pub end_position: usize,
    /// The segment that the checkpoint points into.
    pub checkpoint_base: i64,
    /// Bytes after the checkpoint that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut, up to the last that is not a zero of reserved space.
    pub cut_bytes: u64,
    /// The file that keeps what was cut, where sound batches were among it.
    pub cut_kept: Option<PathBuf>,
    /// All that is known to be damaged.
    pub damage: DamageList,
    /// Damage that was not known before.
    pub new_damage: Vec<Damage>,
    /// Why nothing may be appended: an offset that was used already could be used again.
    pub read_only: Option<&'static str>,
    pub compaction: CompactionState,
    /// The directory belonged to a deleted topic of the same name; nothing else is set.
    pub foreign: bool,
}

/// Reads the directory of a partition that belongs to `topic_id`. A directory that is not there is
/// an empty log. Damage is contained: see [`Recovered::damage`] and [`Recovered::read_only`].
///
/// The caller syncs the directory before it serves anything: the checkpoint that was read here, or a
/// removal that was seen, may not have been made durable by the process before.
///
/// # Errors
/// When the directory itself or the checkpoint cannot be read, or what was found cannot be made durable.
pub fn recover(
    dir: &Path,
    topic_id: Uuid,
    replay: &mut dyn FnMut(Replay<'_>),
) -> Result<Recovered, LogError> {
    let at = |error| LogError::new(dir, error);
    let mut recovered = Recovered::default();
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recovered),
        other => other.map_err(at)?,
    };
    recovered.has_dir = true;
    let checkpoint = Checkpoint::read(dir).map_err(at)?;
    if checkpoint
        .as_ref()
        .is_some_and(|found| found.topic_id != topic_id)
    {
        recovered.foreign = true;
        return Ok(recovered);
    }
    compact::recover_swap(dir).map_err(at)?;
    spare::remove(dir).map_err(at)?;
    let bases = segment::list(dir).map_err(at)?;
    // Compaction was at work only below the checkpoint; beyond it, offsets follow one another.
    let may_have_gaps = checkpoint.is_none();
    let start = checkpoint.unwrap_or_else(|| from_the_beginning(dir, topic_id, &bases));
    replay(Replay::Snapshot(&start.snapshot));
    let mut recovery = Recovery {
        dir,
        start,
        may_have_gaps,
        known: DamageList::read(dir).map_err(at)?,
        compaction: CompactionState::read(dir).map_err(at)?,
        replay,
        recovered,
    };
    recovery.read_segments(&bases).map_err(at)?;
    recovery.finish().map_err(at)
}

struct Recovery<'a> {
    dir: &'a Path,
    /// The checkpoint.
    start: Checkpoint,
    may_have_gaps: bool,
    /// What was found before.
    known: DamageList,
    compaction: CompactionState,
    replay: &'a mut dyn FnMut(Replay<'_>),
    recovered: Recovered,
}

/// Where the batches of a segment end that follow one another.
struct SoundEnd {
    base: i64,
    position: usize,
    offset: i64,
    /// Something else than the zeros of reserved space lies there.
    has_rest: bool,
    /// What an older segment left in the file may lie there.
    is_recycled: bool,
}

/// What lies behind the sound end of a log.
#[derive(Default)]
struct Tail {
    /// Of batches that are sound.
    sound_bytes: u64,
    /// Up to the last byte of each segment that is not a zero of reserved space.
    written_bytes: u64,
}

impl Recovery<'_> {
    fn read_segments(&mut self, bases: &[i64]) -> io::Result<()> {
        let split = bases.partition_point(|base| *base < self.start.segment_base);
        let (before, from) = bases.split_at(split);
        for (at, base) in before.iter().enumerate() {
            let next = before.get(at + 1).copied();
            self.take_sealed(*base, next.unwrap_or(self.start.segment_base))?;
        }
        if from.first() != Some(&self.start.segment_base) {
            self.miss_checkpoint_segment(from.first().copied());
        }
        for (at, base) in from.iter().enumerate() {
            if !self.read_segment(*base, &from[at + 1..])? {
                break;
            }
        }
        Ok(())
    }

    /// Segments before the checkpoint's are not read; what is wrong in them is found when they are.
    fn take_sealed(&mut self, base: i64, end: i64) -> io::Result<()> {
        let size = match segment_size(self.dir, base) {
            Err(error) if damage::is_of_medium(&error) => {
                self.lose(base, base..end, Why::Unreadable);
                0
            }
            size => size?,
        };
        self.take(base, end, size);
        Ok(())
    }

    fn take(&mut self, base: i64, end: i64, size: usize) {
        let segment = SealedSegment::new(base, end, size);
        self.recovered.segments.push(segment);
    }

    /// The segment that the checkpoint points into is not there. Where the log ended is known only when
    /// others follow.
    fn miss_checkpoint_segment(&mut self, next: Option<i64>) {
        let start = &self.start;
        let is_new = start.durable_offset == start.log_start_offset && start.position == 0;
        let is_first = self.recovered.segments.is_empty();
        if is_first && next.is_none() && is_new {
            return;
        }
        let mut lost = start.segment_base..next.unwrap_or(start.durable_offset);
        if is_first {
            lost.start = lost.start.min(start.log_start_offset);
        }
        self.lose(start.segment_base, lost, Why::Missing);
        if next.is_none() {
            self.recovered.read_only = Some(READ_ONLY_LOST);
        }
    }

    /// Returns whether the log continues in the next segment.
    fn read_segment(&mut self, base: i64, later: &[i64]) -> io::Result<bool> {
        let (position, offset) = if base == self.start.segment_base {
            (self.start.position as usize, self.start.durable_offset)
        } else {
            (0, base)
        };
        let mut end = SoundEnd {
            base,
            position,
            offset,
            has_rest: false,
            is_recycled: false,
        };
        let read = self.read_sound(&mut end);
        self.recovered.scanned_bytes += (end.position - position) as u64;
        match read {
            Err(error) if damage::is_of_medium(&error) => return self.lose_rest(&end, later),
            read => read?,
        }
        let next = later.first().copied();
        let goes_on = next == Some(end.offset);
        let is_whole = if end.has_rest {
            end.is_recycled && goes_on
        } else {
            goes_on || next.is_none()
        };
        if is_whole {
            self.take(base, end.offset, end.position);
            return Ok(true);
        }
        self.meet_damage(&end, later)
    }

    fn read_sound(&mut self, end: &mut SoundEnd) -> io::Result<()> {
        let path = segment::file_path(self.dir, end.base, "log");
        reload(&path, end.position)?;
        let gaps_end = if self.may_have_gaps { i64::MAX } else { 0 };
        let expected = Expected::new(end.base, i64::MAX, gaps_end);
        let mut walk = Walk::open_at(self.dir, expected, (end.position, end.offset))?;
        while let Some(found) = walk.step_sound()? {
            end.position = found.end;
            end.offset = found.header.next_offset();
            (self.replay)(Replay::Batch(&found.header));
        }
        // Only the first page is checked: reading all of a large reservation would take too long.
        end.has_rest = !walk.is_blank(end.position)?;
        end.is_recycled = walk.scan().is_recycled();
        Ok(())
    }

    /// The segment is shorter than what was durable of it, or cannot be read from here on.
    fn lose_rest(&mut self, end: &SoundEnd, later: &[i64]) -> io::Result<bool> {
        let is_short = segment_size(self.dir, end.base).is_ok_and(|size| size < end.position);
        if is_short {
            let next = later.first().copied().unwrap_or(end.offset);
            self.survey(end, next, (0, end.base))?;
        } else {
            self.survey_behind(end, later)?;
        }
        let mut found = self.recovered.new_damage.iter();
        let is_unreadable = found.any(|found| found.why == Why::Unreadable);
        let why = if is_short {
            Some(READ_ONLY_LOST)
        } else {
            is_unreadable.then_some(READ_ONLY_UNREADABLE)
        };
        self.recovered.read_only = why.filter(|_| later.is_empty());
        Ok(true)
    }

    /// The bytes here are not the batch that should follow. Beyond the checkpoint a crash leaves that
    /// too, with sound batches behind it: pages reach the disk in any order. Which of the two it is
    /// cannot be known, so what is cut is kept beside the log, unless a crash cannot have torn as much.
    fn meet_damage(&mut self, end: &SoundEnd, later: &[i64]) -> io::Result<bool> {
        let is_known = self.known.begins_at(end.base, end.position);
        let tail = match self.tail_behind(end, later) {
            Err(error) if damage::is_of_medium(&error) => Tail {
                sound_bytes: u64::MAX,
                written_bytes: 0,
            },
            tail => tail?,
        };
        if is_known || tail.sound_bytes > CUT_BYTES_MAX {
            self.survey_behind(end, later)?;
            return Ok(true);
        }
        if tail.sound_bytes > 0 {
            match keep_tail(self.dir, end.base, end.position, later) {
                // Nothing is cut, and nothing appended: the next start does both.
                Err(error) if file::is_full(&error) => {
                    self.recovered.read_only = Some(READ_ONLY_FULL);
                    self.take(end.base, end.offset, end.position);
                    return Ok(false);
                }
                kept => self.recovered.cut_kept = Some(kept?),
            }
        }
        self.recovered.cut_bytes += tail.written_bytes;
        if end.has_rest {
            // It may know of batches that are cut now, and other ones will take their place.
            file::remove(&segment::file_path(self.dir, end.base, "index"))?;
        }
        discard(self.dir, later)?;
        self.take(end.base, end.offset, end.position);
        Ok(false)
    }

    fn tail_behind(&self, end: &SoundEnd, later: &[i64]) -> io::Result<Tail> {
        let mut tail = Tail::default();
        let here = (end.base, (end.position, end.offset));
        let behind = later.iter().map(|base| (*base, (0, *base)));
        for (base, from) in std::iter::once(here).chain(behind) {
            let mut scan = Scan::open_at(&segment::file_path(self.dir, base, "log"), from)?;
            scan.search_recycled_at_most(RECYCLED_SEARCH_BYTES);
            let mut written_end = from.0;
            while let Some(step) = scan.step()? {
                match step {
                    Step::Batch(found) => {
                        written_end = found.end;
                        if found.crc_matches && found.header.base_offset >= end.offset {
                            tail.sound_bytes += found.header.size() as u64;
                        }
                    }
                    Step::Damage {
                        position, bytes, ..
                    } => written_end = scan.written_end(position..position + bytes)?,
                    // Nothing is known to be torn in what an older segment left.
                    Step::Zeros { .. } | Step::Recycled { .. } => {}
                }
            }
            tail.written_bytes += (written_end - from.0) as u64;
        }
        Ok(tail)
    }

    fn survey_behind(&mut self, end: &SoundEnd, later: &[i64]) -> io::Result<()> {
        let next = later.first().copied().unwrap_or(i64::MAX);
        self.survey(end, next, (end.position, end.offset))
    }

    /// Takes a segment as it is, with what is damaged in it, from `from` on. Batches behind the sound end are
    /// replayed. `next` is where the next segment begins.
    fn survey(&mut self, end: &SoundEnd, next: i64, from: (usize, i64)) -> io::Result<()> {
        let mut expected = Expected::new(end.base, next, self.compaction.gaps_end);
        if self.may_have_gaps {
            expected.gaps_end = i64::MAX;
        }
        let replay = &mut self.replay;
        let survey = survey(self.dir, expected, NO_INDEX, from, &mut |found, _| {
            if found.position >= end.position {
                replay(Replay::Batch(&found.header));
            }
        })?;
        let next = if next == i64::MAX {
            survey.next_offset
        } else {
            next
        };
        self.recovered.new_damage.extend(survey.damage);
        self.take(end.base, next, survey.size);
        Ok(())
    }

    /// Of a segment that cannot be opened.
    fn lose(&mut self, segment_base: i64, offsets: Range<i64>, why: Why) {
        self.recovered.new_damage.push(Damage {
            offsets,
            segment_base,
            bytes: 0..0,
            why,
        });
    }

    /// Sets the ends and makes what was accepted durable, so that it can be shown to consumers.
    fn finish(self) -> io::Result<Recovered> {
        let Recovery {
            dir,
            start,
            known,
            compaction,
            mut recovered,
            ..
        } = self;
        let bases = recovered.segments.iter().map(|segment| segment.base);
        let lost = recovered.new_damage.iter().map(|found| found.offsets.start);
        let first = bases.chain(lost).min().unwrap_or(0);
        recovered.end_offset = start.durable_offset;
        recovered.checkpoint_base = start.segment_base;
        if let Some(last) = recovered.segments.last() {
            let is_end_lost = recovered.read_only.is_some();
            let end_min = if is_end_lost { start.durable_offset } else { 0 };
            recovered.end_offset = last.end.max(end_min);
            recovered.end_segment = last.base;
            recovered.end_position = last.size;
        }
        recovered.log_start_offset = start.log_start_offset.max(first).min(recovered.end_offset);
        let mut all = known;
        recovered.new_damage = all.add(std::mem::take(&mut recovered.new_damage));
        all.forget_below(recovered.log_start_offset);
        let mut new = recovered.new_damage.iter();
        if new.any(|found| found.why.is_lasting()) {
            match all.write(dir) {
                // It is found again, as long as nothing is appended behind it.
                Err(error) if file::is_full(&error) => recovered.read_only = Some(READ_ONLY_FULL),
                written => written?,
            }
        }
        settle(dir, &start, &recovered, &all)?;
        recovered.damage = all;
        recovered.compaction = compaction;
        if compaction.first_dirty > recovered.end_offset {
            // Records that were cut can be followed by others in their place.
            file::remove(&dir.join(compact::STATE_FILE_NAME))?;
            recovered.compaction = CompactionState::default();
        }
        Ok(recovered)
    }
}

/// Makes what was read durable, and cuts what was reserved, or torn, behind it. Nothing is cut of a
/// segment with damage, nor where the disk is too full to keep what would be cut.
fn settle(
    dir: &Path,
    start: &Checkpoint,
    recovered: &Recovered,
    damage: &DamageList,
) -> io::Result<()> {
    let changed = recovered.scanned_bytes > 0 || recovered.cut_bytes > 0;
    let read = recovered.segments.iter().rev();
    for segment in read.take_while(|segment| segment.base >= start.segment_base) {
        let is_damaged = damage.is_in(segment.base);
        let size = match segment_size(dir, segment.base) {
            Err(error) if is_damaged && damage::is_of_medium(&error) => continue,
            size => size?,
        };
        let may_cut = !is_damaged && recovered.read_only != Some(READ_ONLY_FULL);
        let is_too_long = may_cut && size > segment.size;
        let from = if segment.base == start.segment_base {
            start.position as usize
        } else {
            0
        };
        let sound = damage.sound_pieces(segment.base, segment.size.min(size));
        let has_damage_only = is_damaged && sound.iter().all(|piece| piece.end <= from);
        if has_damage_only || !(is_too_long || changed || is_damaged) {
            continue;
        }
        let file = file::open(&segment::file_path(dir, segment.base, "log"), false)?;
        if is_too_long {
            file::truncate(&file, segment.size as u64)?;
        }
        file::sync_data(&file)?;
    }
    Ok(())
}

/// Drops a segment's pages from memory, from a byte on, so that they are read from the disk. A sync may have
/// failed in the process before, and what is in memory only must not be shown to consumers.
fn reload(path: &Path, from: usize) -> io::Result<()> {
    let file = file::open_for_reading(path)?;
    let has_more = file.metadata()?.len() > from as u64;
    if has_more && !sabotage::is_done(Sabotage::TrustCache) {
        file::reload(&file, from as u64)?;
    }
    Ok(())
}

/// Copies what is to be cut: the rest of a segment, and those behind it as a whole. Returns the first
/// file that has it.
fn keep_tail(dir: &Path, base: i64, from: usize, later: &[i64]) -> io::Result<PathBuf> {
    let path = segment::file_path(dir, base, "log");
    let kept = free_name(&path, from);
    let source = file::open_for_reading(&path)?;
    copy_from(&source, from, &kept).inspect_err(|_| {
        // Half a copy is of no use, and takes the room that others need.
        let _ = file::remove(&kept);
    })?;
    for base in later {
        let path = segment::file_path(dir, *base, "log");
        file::rename(&path, &free_name(&path, 0))?;
    }
    file::sync_dir(dir)?;
    Ok(kept)
}

/// Copies a file from a byte on to a new file, durably.
fn copy_from(source: &File, from: usize, to: &Path) -> io::Result<()> {
    let size = source.metadata()?.len();
    let copy = file::open(to, true)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = from as u64;
    while at < size {
        let take = buffer.len().min((size - at) as usize);
        source.read_exact_at(&mut buffer[..take], at)?;
        // Reserved space stays a hole.
        if !scan::is_zero(&buffer[..take]) {
            file::write_at(&copy, &buffer[..take], at - from as u64)?;
        }
        at += take as u64;
    }
    file::sync_data(&copy)
}

/// `<base>.log.cut-<position>`, or with a number behind it where there is one already.
fn free_name(segment: &Path, position: usize) -> PathBuf {
    let mut name = segment.with_extension(format!("log{CUT_INFIX}{position}"));
    let mut number = 1;
    while name.exists() {
        number += 1;
        name = segment.with_extension(format!("log{CUT_INFIX}{position}.{number}"));
    }
    name
}

/// Whether it is a file that keeps what a start has cut.
pub fn is_cut(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(&format!(".log{CUT_INFIX}"))
}

/// Without a checkpoint the whole log is read.
fn from_the_beginning(dir: &Path, topic_id: Uuid, bases: &[i64]) -> Checkpoint {
    let base = bases.first().copied().unwrap_or(0);
    if !bases.is_empty() {
        tracing::warn!(
            dir = %dir.display(),
            "no sound checkpoint; reading and checking the whole log of this partition"
        );
    }
    Checkpoint::starting_at(topic_id, base)
}

fn discard(dir: &Path, bases: &[i64]) -> io::Result<()> {
    for base in bases {
        file::remove(&segment::file_path(dir, *base, "index"))?;
        // Not there when it was kept under another name.
        file::remove(&segment::file_path(dir, *base, "log"))?;
    }
    Ok(())
}

fn segment_size(dir: &Path, base: i64) -> io::Result<usize> {
    Ok(fs::metadata(segment::file_path(dir, base, "log"))?.len() as usize)
}
