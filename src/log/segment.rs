//! A segment: up to `segment.bytes` of record batches in one file named by its base offset.
//!
//! The one segment that is appended to is an [`ActiveSegment`]. All others are [`SealedSegment`]s:
//! their file has exactly their size, and mapping and index are loaded when somebody reads them.

use super::batch::{self, BatchError, BatchHeader};
use super::index::{self, Entry, Index};
use crate::io::map::{MapReader, MapWriter};
use bytes::Bytes;
use std::fs::File;
use std::io;
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

/// Base offsets of the segments in a partition's directory, lowest first.
///
/// # Errors
/// `NotFound` when there is no such directory.
pub fn list(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        bases.extend(base_of(&entry?.path(), "log"));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// A segment's bytes together with what finds things in them.
#[derive(Clone)]
pub struct SegmentView {
    pub base: i64,
    pub reader: MapReader,
    pub index: Arc<Index>,
}

impl SegmentView {
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup {
            base: self.base,
            reader: &self.reader,
            index: &self.index,
        }
    }
}

/// The batches of `reader` from `position` (a batch start) on, each with its position.
pub struct HeaderWalk<'a> {
    reader: &'a MapReader,
    position: usize,
    end: usize,
}

impl<'a> HeaderWalk<'a> {
    pub fn new(reader: &'a MapReader, position: usize, end: usize) -> HeaderWalk<'a> {
        HeaderWalk {
            reader,
            position,
            end,
        }
    }

    /// The position after the last batch that was returned.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next batch's position and header, or why there is none: `Truncated` at the end.
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

/// Bounds of a read in one segment.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// The part of the segment that may be read: batches follow one another in it, and all are durable.
    pub start: usize,
    pub end: usize,
    /// The most bytes to return.
    pub max_bytes: usize,
    /// Return one whole batch even when it is larger than `max_bytes`.
    pub at_least_one: bool,
}

/// A segment's bytes and index, borrowed from the active or from a sealed one.
pub struct Lookup<'a> {
    pub base: i64,
    pub reader: &'a MapReader,
    pub index: &'a Index,
}

impl Lookup<'_> {
    /// Where a walk begins that looks for the batch with `offset`.
    pub fn position_before(&self, offset: i64) -> usize {
        let relative = (offset - self.base).clamp(0, i64::from(u32::MAX)) as u32;
        self.index.position_of_offset(relative) as usize
    }

    /// Where `offset` lies in the segment and how far a read may go: whole batches only.
    ///
    /// `from` is a batch's start at or before it. An empty range means that nothing fits.
    pub fn locate(
        &self,
        offset: i64,
        from: usize,
        limit: ReadLimit,
    ) -> Result<Range<usize>, BatchError> {
        let mut walk = HeaderWalk::new(self.reader, from, limit.end);
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
        let near = wanted.min(u32::MAX as usize) as u32;
        let near = self.index.position_at_or_before(near) as usize;
        let mut walk = HeaderWalk::new(self.reader, near.max(first_end), wanted);
        while walk.step().is_ok() {}
        Ok(start..walk.position())
    }

    /// The first batch at or after `from_offset` whose max timestamp (ms) is at least `timestamp`, among those
    /// in `range`, which begins with a batch.
    pub fn locate_timestamp(
        &self,
        timestamp: i64,
        from_offset: i64,
        range: Range<usize>,
    ) -> Option<Bytes> {
        // An entry earlier: the batch before may have later records than its header says.
        let by_time = self.index.position_of_timestamp(timestamp);
        let by_time = self.index.position_at_or_before(by_time.saturating_sub(1)) as usize;
        let from = by_time
            .max(self.position_before(from_offset))
            .max(range.start);
        if from >= range.end {
            return None;
        }
        let mut walk = HeaderWalk::new(self.reader, from, range.end);
        // The batch before, where its records may be later than its header says.
        let mut before = None;
        while let Ok((at, header)) = walk.step() {
            if header.last_offset() < from_offset {
                continue;
            }
            let batch = at..at + header.size();
            if header.known_max_timestamp() >= timestamp {
                return Some(self.reader.slice(before.unwrap_or(batch)));
            }
            before = header.claims_no_time_for_all().then_some(batch);
        }
        before.map(|batch| self.reader.slice(batch))
    }
}

/// Index entries that are to be written to a segment's index file, behind those that it has.
pub struct IndexTail {
    pub bytes: Vec<u8>,
    /// Where in the file.
    pub at: u64,
    /// How many entries the file has afterwards.
    pub flushed: usize,
}

/// Builds an index from batches in their order.
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

    /// The entries with these numbers, as they lie in the file.
    pub fn tail(&self, entries: Range<usize>) -> IndexTail {
        IndexTail {
            at: (entries.start * index::ENTRY_BYTES) as u64,
            flushed: entries.end,
            bytes: self.index.encode(entries, self.base),
        }
    }

    /// All entries, as they lie in the file.
    pub fn encode(&self) -> Vec<u8> {
        self.tail(0..self.index.len()).bytes
    }

    /// Takes note of the batch at `position`. One whose offset cannot be in this segment (a base offset is not
    /// under the checksum) gets no entry.
    pub fn note(&mut self, position: usize, header: &BatchHeader) {
        let interval = self.interval_bytes.max(1);
        let last = self.index.last();
        let due = last.is_none_or(|last| position >= last.position as usize + interval);
        if due && let Ok(relative_offset) = u32::try_from(header.base_offset - self.base) {
            self.index.push(Entry {
                relative_offset,
                position: position as u32,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.max_timestamp = self.max_timestamp.max(header.known_max_timestamp());
    }
}

/// The segment that is appended to.
pub struct ActiveSegment {
    pub base: i64,
    pub file: Arc<File>,
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
    /// A segment of which nothing else is known.
    pub fn new(base: i64, end: i64, size: usize) -> SealedSegment {
        SealedSegment {
            base,
            end,
            size,
            loaded: None,
            max_timestamp: None,
            first_timestamp: None,
            modified_ms: 0,
            health: Health::Unknown,
        }
    }

    /// When its newest record was written (ms): by its timestamp, or, when no record has one, by when the segment
    /// was last appended to. `None` when it must be loaded to tell.
    pub fn newest_ms(&self) -> Option<i64> {
        match self.max_timestamp? {
            -1 => Some(self.modified_ms),
            newest => Some(newest),
        }
    }

    /// All of it must be checked before it is read again.
    pub fn suspect(&mut self) {
        self.health = Health::Suspect;
        self.loaded = None;
    }

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
