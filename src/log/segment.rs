//! A segment: up to `segment.bytes` of record batches in one file named by its base offset.
//!
//! The one segment that is appended to is an [`ActiveSegment`]. All others are [`SealedSegment`]s:
//! their file has exactly their size, and mapping and index are loaded when somebody reads them.

use super::batch::{self, BatchError, BatchHeader};
use super::index::{Entry, Index};
use crate::io::map::{MapReader, MapWriter};
use bytes::Bytes;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of the segment that starts at `base`, named as Kafka names it.
pub fn file_path(dir: &Path, base: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// The base offset in a segment file's name, when it is one with this extension.
pub fn base_of(path: &Path, extension: &str) -> Option<i64> {
    let stem = path.file_stem()?.to_str()?;
    let is_segment = path.extension()? == extension
        && stem.len() == 20
        && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_segment.then(|| stem.parse().ok()).flatten()
}

/// A segment's bytes together with what finds things in them.
#[derive(Clone)]
pub struct SegmentView {
    pub base: i64,
    pub reader: MapReader,
    pub index: Arc<Index>,
}

/// The batches of `reader` from `position` (a batch start) on, each with its position.
pub struct Walk<'a> {
    reader: &'a MapReader,
    position: usize,
    end: usize,
}

impl<'a> Walk<'a> {
    pub fn new(reader: &'a MapReader, position: usize, end: usize) -> Walk<'a> {
        Walk {
            reader,
            position,
            end,
        }
    }

    /// The position after the last batch that was returned.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next batch's header, its place, or why there is none: `Truncated` at the end.
    pub fn step(&mut self) -> Result<(usize, BatchHeader), BatchError> {
        let at = self.position;
        let header_end = (at + batch::HEADER_BYTES).min(self.end);
        let header = BatchHeader::parse(self.reader.bytes(at.min(header_end)..header_end))?;
        if header.size() > self.end - at {
            return Err(BatchError::Truncated);
        }
        self.position = at + header.size();
        Ok((at, header))
    }
}

/// Bounds of a lookup in one segment.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Bytes of the segment that may be read: the durable ones.
    pub end: usize,
    /// The most bytes to return.
    pub max_bytes: usize,
    /// Return one whole batch even when it is larger than `max_bytes`.
    pub at_least_one: bool,
}

/// Where `offset` lies in the segment and how far a read may go: whole batches only.
///
/// `from` is a batch's start at or before it. An empty range means that nothing fits.
pub fn locate(
    reader: &MapReader,
    index: &Index,
    offset: i64,
    from: usize,
    limit: ReadLimit,
) -> Result<Range<usize>, BatchError> {
    let mut walk = Walk::new(reader, from, limit.end);
    let (start, first) = loop {
        let (at, header) = walk.step()?;
        if header.last_offset() >= offset {
            break (at, header);
        }
    };
    let first_end = start + first.size();
    if first.size() > limit.max_bytes {
        let end = if limit.at_least_one { first_end } else { start };
        return Ok(start..end);
    }
    let wanted = start.saturating_add(limit.max_bytes);
    if wanted >= limit.end {
        return Ok(start..limit.end);
    }
    let near = index.position_at_or_before(wanted.min(u32::MAX as usize) as u32) as usize;
    let mut walk = Walk::new(reader, near.max(first_end), limit.end);
    let mut end = walk.position();
    while let Ok((at, header)) = walk.step() {
        if at + header.size() > wanted {
            break;
        }
        end = at + header.size();
    }
    Ok(start..end)
}

/// The first batch at or after `from_offset` whose max timestamp is at least `timestamp`, in the bytes
/// from `from_min` (a batch's start) to `end`.
pub fn locate_timestamp(
    reader: &MapReader,
    index: &Index,
    base: i64,
    timestamp: i64,
    (from_min, from_offset): (usize, i64),
    end: usize,
) -> Option<Bytes> {
    let relative = (from_offset - base).clamp(0, i64::from(u32::MAX)) as u32;
    let by_time = index.position_of_timestamp(timestamp) as usize;
    let by_offset = index.position_of_offset(relative) as usize;
    let from = by_time.max(by_offset).max(from_min);
    if from >= end {
        return None;
    }
    let mut walk = Walk::new(reader, from, end);
    while let Ok((at, header)) = walk.step() {
        if header.max_timestamp >= timestamp && header.last_offset() >= from_offset {
            return Some(reader.slice(at..at + header.size()));
        }
    }
    None
}

/// Builds an index while batches go by.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    pub index: Index,
    base: i64,
    interval_bytes: usize,
    /// Highest timestamp (ms) of the batches so far, or -1.
    pub max_timestamp: i64,
}

impl IndexBuilder {
    pub fn new(base: i64, interval_bytes: usize) -> IndexBuilder {
        IndexBuilder {
            index: Index::default(),
            base,
            interval_bytes,
            max_timestamp: -1,
        }
    }

    /// Goes on from entries that were read from a file: the next batch to note is the last entry's.
    pub fn resume(self, index: Index) -> IndexBuilder {
        IndexBuilder {
            max_timestamp: index.last().map_or(-1, |last| last.max_timestamp_before),
            index,
            ..self
        }
    }

    /// The base offset of the segment.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// Takes note of the batch at `position`.
    pub fn note(&mut self, position: usize, header: &BatchHeader) {
        let interval = self.interval_bytes.max(1);
        let last = self.index.last();
        let due = last.is_none_or(|last| position >= last.position as usize + interval);
        if due {
            self.index.push(Entry {
                relative_offset: (header.base_offset - self.base) as u32,
                position: position as u32,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }
}

/// The open files through which a segment is synced. The kernel reports a failed write once for each
/// open file (errseq_t), so syncs that run side by side need one each. All are opened before anything
/// is written that they sync.
#[derive(Clone)]
pub struct SyncHandles {
    pub flush: Arc<File>,
    pub write_back: Arc<File>,
    /// Of the write-back that a checkpoint waits for.
    pub checkpoint: Arc<File>,
}

/// The segment that is appended to.
pub struct ActiveSegment {
    pub base: i64,
    pub files: SyncHandles,
    pub writer: MapWriter,
    pub index: IndexBuilder,
    /// Index entries that the index file has already.
    pub index_flushed: usize,
    /// When the segment got its first record or was opened again (ms): its age for `segment.ms`.
    pub started_ms: i64,
    /// When it was last appended to (ms).
    pub appended_ms: i64,
    pub recent: Recent,
}

/// Which bytes of a segment were appended so recently that they are in the page cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    /// Time (ms) and size when the period before the current one began.
    previous: (i64, usize),
    /// The same of the current period.
    current: (i64, usize),
}

impl Recent {
    /// How long a period lasts.
    const PERIOD_MS: i64 = 5_000;

    /// A segment that has `size` bytes now, none of them recent.
    pub fn starting_at(size: usize, now_ms: i64) -> Recent {
        Recent {
            previous: (now_ms, size),
            current: (now_ms, size),
        }
    }

    /// Takes note that bytes are appended behind the first `size` bytes.
    pub(super) fn note(&mut self, size: usize, now_ms: i64) {
        // A clock that was set back begins a period, too.
        if (now_ms - self.current.0).unsigned_abs() >= Self::PERIOD_MS as u64 {
            self.previous = self.current;
            self.current = (now_ms, size);
        }
    }

    /// Where the recent bytes begin; `size` when none are.
    pub fn begin_at(&self, size: usize, now_ms: i64) -> usize {
        let [previous, current] = [self.previous, self.current];
        let is_recent = |since: i64| (now_ms - since).unsigned_abs() < 2 * Self::PERIOD_MS as u64;
        if is_recent(previous.0) {
            previous.1
        } else if is_recent(current.0) {
            current.1
        } else {
            size
        }
    }
}

impl ActiveSegment {
    pub fn size(&self) -> usize {
        self.writer.len()
    }
}

/// A segment that is not appended to.
pub struct SealedSegment {
    pub base: i64,
    /// The offset after its last record: the next segment's base.
    pub end: i64,
    /// Bytes.
    pub size: usize,
    pub loaded: Option<LoadedSegment>,
    /// The highest timestamp (ms) in it, once known; -1 when no record has one.
    pub max_timestamp: Option<i64>,
    /// The timestamp (ms) of its first record, once known; -1 when that has none.
    pub first_timestamp: Option<i64>,
    /// When it was last appended to (ms), as far as `max_timestamp` is known.
    pub modified_ms: i64,
    pub health: Health,
}

impl SealedSegment {
    /// Whether it never had a record. One that lost its bytes did.
    pub fn is_empty(&self) -> bool {
        self.base == self.end
    }
}

/// What is known of a sealed segment's batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known to be wrong.
    #[default]
    Unknown,
    /// Something is wrong: all of it must be checked before it is read again.
    Suspect,
    /// All of it was checked: what is wrong is known.
    Surveyed,
}

/// What is in memory of a sealed segment that somebody reads.
pub struct LoadedSegment {
    pub view: SegmentView,
    /// When it was last read (ms), for unmapping what is cold.
    pub used_ms: i64,
}
