//! Opening a log: from the checkpoint, reading only what came after it.
//!
//! Pages reach the disk in any order, so everything past the checkpoint is checked batch by batch:
//! header, offset, CRC. The first that fails is where the log ends; what lies behind was never
//! acknowledged and is cut. Segments before the checkpoint's are not read at all. A compaction that a
//! crash interrupted is settled first.

use super::batch::{self, BatchHeader};
use super::checkpoint::Checkpoint;
use super::compact::{self, CompactionState};
use super::segment::{self, SealedSegment, Walk};
use super::spare;
use super::{LogError, LogErrorKind};
use crate::io::file;
use crate::io::map;
use crate::io::sabotage::{self, Sabotage};
use std::fs;
use std::path::Path;
use uuid::Uuid;

/// What opening a log tells the layer above, in order: the state at the checkpoint, then every
/// batch after it.
pub enum Replay<'a> {
    Snapshot(&'a [u8]),
    Batch(&'a BatchHeader),
}

/// What was found in a partition's directory.
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
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    pub compaction: CompactionState,
    /// The directory belonged to a deleted topic of the same name; nothing else is set.
    pub foreign: bool,
}

/// Reads the directory of a partition that belongs to `topic_id`. A directory that is not there is
/// an empty log.
///
/// The caller syncs the directory before it serves anything: the checkpoint that was read here, or a
/// removal that was seen, may not have been made durable by the process before.
///
/// # Errors
/// When the medium fails, or when data from before the checkpoint is missing: such a log is not
/// opened, and nothing in it is changed.
pub fn recover(
    dir: &Path,
    topic_id: Uuid,
    replay: &mut dyn FnMut(Replay<'_>),
) -> Result<Recovered, LogError> {
    let at = |error| LogError::new(dir, LogErrorKind::Io(error));
    let mut recovered = Recovered {
        has_dir: false,
        segments: Vec::new(),
        log_start_offset: 0,
        end_offset: 0,
        end_segment: 0,
        end_position: 0,
        checkpoint_base: 0,
        scanned_bytes: 0,
        cut_bytes: 0,
        compaction: CompactionState::default(),
        foreign: false,
    };
    match fs::metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(recovered),
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
    let bases = list_segments(dir).map_err(at)?;
    // Compaction was at work only below the checkpoint; beyond it, offsets follow one another.
    let may_have_gaps = checkpoint.is_none();
    let start = checkpoint.unwrap_or_else(|| from_the_beginning(dir, topic_id, &bases));
    check_nothing_is_missing(dir, &start, &bases)?;
    replay(Replay::Snapshot(&start.snapshot));
    for (at_index, base) in bases.iter().enumerate() {
        let next = bases.get(at_index + 1).copied();
        if *base < start.segment_base {
            let size = segment_size(dir, *base).map_err(at)?;
            let end = next.unwrap_or(start.segment_base);
            recovered.segments.push(sealed(*base, end, size));
            continue;
        }
        let (position, offset) = match *base == start.segment_base {
            true => (start.position as usize, start.durable_offset),
            false => (0, *base),
        };
        let scan = scan(dir, *base, (position, offset), may_have_gaps, replay)?;
        if scan.rest_bytes > 0 {
            // It may know of batches that are cut now, and other ones will take their place.
            file::remove(&segment::file_path(dir, *base, "index")).map_err(at)?;
        }
        recovered.scanned_bytes += (scan.end_position - position) as u64;
        if !scan.is_recycled {
            recovered.cut_bytes += scan.rest_bytes;
        }
        recovered
            .segments
            .push(sealed(*base, scan.next_offset, scan.end_position));
        if next.is_some_and(|next| next != scan.next_offset) {
            let later = &bases[at_index + 1..];
            recovered.cut_bytes += discard(dir, later).map_err(at)?;
            break;
        }
    }
    let mut recovered = finish(dir, start, recovered)?;
    recovered.compaction = CompactionState::read(dir).map_err(at)?;
    if recovered.compaction.first_dirty > recovered.end_offset {
        // Records that were cut can be followed by others in their place.
        file::remove(&dir.join(compact::STATE_FILE_NAME)).map_err(at)?;
        recovered.compaction = CompactionState::default();
    }
    Ok(recovered)
}

/// Sets the ends and makes what was accepted durable, so that it can be shown to consumers.
fn finish(dir: &Path, start: Checkpoint, mut recovered: Recovered) -> Result<Recovered, LogError> {
    let at = |error| LogError::new(dir, LogErrorKind::Io(error));
    let first = recovered.segments.first().map_or(0, |segment| segment.base);
    recovered.end_offset = start.durable_offset;
    recovered.checkpoint_base = start.segment_base;
    if let Some(last) = recovered.segments.last() {
        recovered.end_offset = last.end;
        recovered.end_segment = last.base;
        recovered.end_position = last.size;
    }
    recovered.log_start_offset = start.log_start_offset.max(first).min(recovered.end_offset);
    let changed = recovered.scanned_bytes > 0 || recovered.cut_bytes > 0;
    for segment in recovered.segments.iter().rev() {
        if segment.base < start.segment_base {
            break;
        }
        trim(dir, segment, changed).map_err(at)?;
    }
    Ok(recovered)
}

/// Cuts what was reserved, or torn, behind the last batch of a segment that was read, for good.
fn trim(dir: &Path, segment: &SealedSegment, sync: bool) -> std::io::Result<()> {
    let too_long = segment_size(dir, segment.base)? > segment.size;
    if !too_long && !sync {
        return Ok(());
    }
    let file = file::open(&segment::file_path(dir, segment.base, "log"), false)?;
    if too_long {
        file::truncate(&file, segment.size as u64)?;
    }
    file::sync_data(&file)
}

fn sealed(base: i64, end: i64, size: usize) -> SealedSegment {
    SealedSegment {
        base,
        end,
        size,
        loaded: None,
        max_timestamp: None,
        first_timestamp: None,
        modified_ms: 0,
    }
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
    Checkpoint {
        topic_id,
        log_start_offset: base,
        durable_offset: base,
        segment_base: base,
        ..Checkpoint::default()
    }
}

fn check_nothing_is_missing(dir: &Path, start: &Checkpoint, bases: &[i64]) -> Result<(), LogError> {
    let missing = |what: String| Err(LogError::new(dir, LogErrorKind::Missing(what)));
    if bases.is_empty() && start.durable_offset == start.log_start_offset && start.position == 0 {
        return Ok(());
    }
    let name = segment::file_path(dir, start.segment_base, "log");
    if !bases.contains(&start.segment_base) {
        return missing(format!("{} is not there", name.display()));
    }
    let size = segment_size(dir, start.segment_base)
        .map_err(|error| LogError::new(dir, LogErrorKind::Io(error)))?;
    if (size as u64) < start.position {
        return missing(format!(
            "{} has {size} bytes, but {} of them were durable",
            name.display(),
            start.position
        ));
    }
    Ok(())
}

struct Scan {
    end_position: usize,
    next_offset: i64,
    /// Bytes behind the end, when they begin with something else than the zeros of reserved space.
    rest_bytes: u64,
    /// They are of the segment that the file was before, for all that can be told.
    is_recycled: bool,
}

fn scan(
    dir: &Path,
    base: i64,
    (position, offset): (usize, i64),
    may_have_gaps: bool,
    replay: &mut dyn FnMut(Replay<'_>),
) -> Result<Scan, LogError> {
    let at = |error| LogError::new(dir, LogErrorKind::Io(error));
    let size = segment_size(dir, base).map_err(at)?;
    let mut found = Scan {
        end_position: position,
        next_offset: offset,
        rest_bytes: 0,
        is_recycled: false,
    };
    if size == position {
        return Ok(found);
    }
    let file = file::open(&segment::file_path(dir, base, "log"), false).map_err(at)?;
    let reader = map::map_for_reading(&file, size).map_err(at)?;
    let mut walk = Walk::new(&reader, position, size);
    while let Ok((start, header)) = walk.step() {
        let bytes = reader.bytes(start..start + header.size());
        let follows = header.base_offset == found.next_offset
            || (may_have_gaps && header.base_offset > found.next_offset);
        let sound = batch::crc_matches(bytes) || sabotage::is_done(Sabotage::SkipCrc);
        if !follows || !sound {
            break;
        }
        found.end_position = walk.position();
        found.next_offset = header.next_offset();
        replay(Replay::Batch(&header));
    }
    // A look at the first page tells: reading all of a large reservation would cost what it saves.
    let rest = reader.bytes(found.end_position..size.min(found.end_position + 4096));
    if rest.iter().any(|byte| *byte != 0) {
        found.rest_bytes = (size - found.end_position) as u64;
        found.is_recycled = spare::is_marked(&file, size).map_err(at)?;
    }
    Ok(found)
}

fn discard(dir: &Path, bases: &[i64]) -> std::io::Result<u64> {
    let mut bytes = 0;
    for base in bases {
        bytes += segment_size(dir, *base)? as u64;
        file::remove(&segment::file_path(dir, *base, "index"))?;
        file::remove(&segment::file_path(dir, *base, "log"))?;
    }
    Ok(bytes)
}

fn segment_size(dir: &Path, base: i64) -> std::io::Result<usize> {
    Ok(fs::metadata(segment::file_path(dir, base, "log"))?.len() as usize)
}

/// Base offsets of the segments in a partition's directory, lowest first.
///
/// # Errors
/// `NotFound` when there is no such directory.
pub fn list_segments(dir: &Path) -> std::io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        bases.extend(segment::base_of(&entry?.path(), "log"));
    }
    bases.sort_unstable();
    Ok(bases)
}
