//! One partition's log: record batches in segments, with the offsets that say what is durable.
//!
//! The log does no blocking work itself. Appends and reads touch memory only; what may block comes
//! out as a job (`jobs`), runs elsewhere, and its result is handed back. Flushes work the same way:
//! [`Log::flush_begin`] names the files, the commit loop syncs them, [`Log::flush_end`] moves the
//! durable offset.

pub mod batch;
pub mod checkpoint;
pub mod index;
pub mod jobs;
pub mod records;
pub mod recovery;
pub mod segment;
#[cfg(test)]
mod tests;

use crate::io::map::MapReader;
use batch::BatchHeader;
use bytes::Bytes;
use checkpoint::Checkpoint;
use jobs::{CheckpointJob, DeleteJob, LoadJob, Loaded, OpenedSegment, Room, RoomJob, SealJob};
use recovery::{Recovered, Replay};
use segment::{ActiveSegment, LoadedSegment, ReadLimit, SealedSegment, SegmentView};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// The first reservation of a segment; it doubles from there.
const FIRST_RESERVE_BYTES: u64 = 16 << 10;
/// What was appended this recently is taken to be in the page cache without asking.
const HOT_BYTES: usize = 64 << 20;
/// The most that one read returns: it bounds what is checked for and read into memory at once.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
#[error("{}: {kind}", dir.display())]
pub struct LogError {
    pub dir: PathBuf,
    pub kind: LogErrorKind,
}

#[derive(Debug, Error)]
pub enum LogErrorKind {
    #[error("{0}")]
    Io(io::Error),
    #[error("data that was durable is missing: {0}")]
    Missing(String),
}

impl LogError {
    pub fn new(dir: &Path, kind: LogErrorKind) -> LogError {
        LogError {
            dir: dir.to_owned(),
            kind,
        }
    }
}

/// Why a batch was not appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Ask [`Log::room_job`], run it, and try again.
    #[error("the active segment has no room")]
    NeedsRoom,
    #[error("the batch has more bytes than a segment may have")]
    LargerThanSegment,
    #[error("a flush of this log failed; it takes no more writes until the broker is restarted")]
    Poisoned,
}

/// Why a log cannot be read at an offset.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("offset {asked} is not between {start} and {end}")]
    OutOfRange { asked: i64, start: i64, end: i64 },
    #[error("the segment that starts at offset {segment_base} is damaged near offset {asked}")]
    Corrupt { asked: i64, segment_base: i64 },
}

/// What a log needs to know of its topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: usize,
    /// Age at which a segment is rolled.
    pub segment_ms: i64,
    pub index_interval_bytes: usize,
    /// -1 keeps records whatever their age.
    pub retention_ms: i64,
    /// -1 keeps records whatever their size.
    pub retention_bytes: i64,
    /// The largest step in which disk space is reserved.
    pub reserve_step_bytes_max: u64,
    /// Bytes appended between two checkpoints.
    pub checkpoint_bytes: u64,
}

/// The offsets of a log by what is promised below them: `start <= durable <= end`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset that can be read.
    pub start: i64,
    /// The high watermark: records below are on stable storage and shown to consumers.
    pub durable: i64,
    /// Where the next record goes.
    pub end: i64,
}

impl Offsets {
    fn check(&self) {
        assert!(
            0 <= self.start && self.start <= self.durable && self.durable <= self.end,
            "offsets out of order: {self:?}"
        );
    }
}

/// A place in the log that everything below is, or will be, durable to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    offset: i64,
    segment_base: i64,
    position: usize,
}

/// A flush under way: sync every file, then call [`Log::flush_end`].
pub struct Flush {
    pub files: Vec<Arc<File>>,
    mark: Mark,
    snapshot: Option<Vec<u8>>,
}

impl Flush {
    /// Whether a checkpoint will be written that claims what this flush covers.
    pub fn makes_checkpoint(&self) -> bool {
        self.snapshot.is_some()
    }
}

/// What a read found.
pub enum Read {
    /// Whole batches, the first one holding the offset asked for.
    Data(Bytes),
    /// Nothing durable at or after the offset yet, or no batch fits.
    Empty,
    /// Run the job, hand in what it brought, and read again.
    Load(LoadJob),
}

/// What a lookup by timestamp found.
pub enum TimeLookup {
    /// A batch whose max timestamp is late enough; its records tell the rest.
    Batch(Bytes),
    NotFound,
    Load(LoadJob),
}

/// The next step of retention.
pub enum Retention {
    Nothing,
    Delete(DeleteJob),
    /// Run it, hand in what it brought, and ask again.
    Load(LoadJob),
    /// The last segment is to go: roll first, so that its end offset stays on disk.
    Roll(RoomJob),
}

/// One partition's log. See the module for how to drive it.
pub struct Log {
    dir: PathBuf,
    topic_id: Uuid,
    config: LogConfig,
    offsets: Offsets,
    sealed: VecDeque<SealedSegment>,
    active: Option<ActiveSegment>,
    durable: Mark,
    /// Files of sealed segments with bytes that no flush has covered yet.
    unsynced: Vec<Arc<File>>,
    flushing: bool,
    making_room: bool,
    /// A segment that starts at the log's end is being made: the end must stay where it is.
    rolling: bool,
    sealing: usize,
    checkpointing: bool,
    checkpoint_wanted: bool,
    bytes_since_checkpoint: u64,
    /// The log start offset that the checkpoint on disk has.
    durable_start: i64,
    /// The segment that the checkpoint on disk points into: it and all after it must stay.
    checkpoint_base: i64,
    poisoned: bool,
}

impl Log {
    /// Opens the log in `dir`, which need not exist yet.
    ///
    /// # Errors
    /// See [`recovery::recover`].
    pub fn open(
        dir: PathBuf,
        topic_id: Uuid,
        config: LogConfig,
        replay: &mut dyn FnMut(Replay<'_>),
    ) -> Result<(Log, Recovered), LogError> {
        let mut recovered = recovery::recover(&dir, topic_id, replay)?;
        let offsets = Offsets {
            start: recovered.log_start_offset,
            durable: recovered.end_offset,
            end: recovered.end_offset,
        };
        offsets.check();
        let log = Log {
            dir,
            topic_id,
            config,
            offsets,
            sealed: std::mem::take(&mut recovered.segments).into(),
            active: None,
            durable: Mark {
                offset: recovered.end_offset,
                segment_base: recovered.end_segment,
                position: recovered.end_position,
            },
            unsynced: Vec::new(),
            flushing: false,
            making_room: false,
            rolling: false,
            sealing: 0,
            checkpointing: false,
            checkpoint_wanted: recovered.scanned_bytes > 0,
            bytes_since_checkpoint: recovered.scanned_bytes,
            durable_start: recovered.log_start_offset,
            checkpoint_base: recovered.checkpoint_base,
            poisoned: false,
        };
        Ok((log, recovered))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn offsets(&self) -> Offsets {
        self.offsets
    }

    /// The log start offset that survives a crash.
    pub fn durable_start(&self) -> i64 {
        self.durable_start
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Puts a changed topic configuration in force.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Bytes of records in all segments.
    pub fn size_bytes(&self) -> u64 {
        let sealed: usize = self.sealed.iter().map(|segment| segment.size).sum();
        let active = self.active.as_ref().map_or(0, ActiveSegment::size);
        (sealed + active) as u64
    }

    pub fn segment_count(&self) -> usize {
        self.sealed.len() + usize::from(self.active.is_some())
    }

    // ---- append ----

    /// Appends one batch (checked by the caller) at the log's end and returns its base offset.
    ///
    /// `append_time_ms` stamps every record with that time.
    pub fn append(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        append_time_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<i64, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if bytes.len() > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment);
        }
        let base_offset = self.offsets.end;
        let must_roll = self.must_roll(bytes.len(), header, now_ms);
        let fits = |active: &&mut ActiveSegment| active.writer.room() >= bytes.len();
        let Some(active) = self.active.as_mut().filter(fits) else {
            return Err(AppendError::NeedsRoom);
        };
        if must_roll || self.rolling {
            return Err(AppendError::NeedsRoom);
        }
        let positioned = BatchHeader {
            base_offset,
            leader_epoch: 0,
            max_timestamp: append_time_ms.unwrap_or(header.max_timestamp),
            ..*header
        };
        if active.size() == 0 {
            active.started_ms = now_ms;
        }
        active.append(bytes, &positioned, append_time_ms);
        active.appended_ms = now_ms;
        self.offsets.end = positioned.next_offset();
        self.bytes_since_checkpoint += bytes.len() as u64;
        self.offsets.check();
        Ok(base_offset)
    }

    fn must_roll(&self, bytes: usize, header: &BatchHeader, now_ms: i64) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let last_offset = self.offsets.end + i64::from(header.last_offset_delta);
        let full = active.size() + bytes > self.config.segment_bytes.min(active.writer.capacity());
        let old = now_ms.saturating_sub(active.started_ms) > self.config.segment_ms;
        let too_far = last_offset - active.base > i64::from(i32::MAX);
        // An empty one can still be too small, when segment.bytes was raised after it was mapped.
        let too_small = bytes > active.writer.capacity();
        too_small || (active.size() > 0 && (full || old || too_far))
    }

    /// Whether reserving more now would spare a later append the wait.
    pub fn wants_room(&self) -> bool {
        !self.making_room
            && self.active.as_ref().is_some_and(|active| {
                let writer = &active.writer;
                let most = writer.capacity().min(self.config.segment_bytes);
                writer.room() < writer.reserved() / 4 && writer.reserved() < most
            })
    }

    /// The job that makes room for a batch of `bytes`, unless one is running.
    pub fn room_job(&mut self, bytes: usize, header: &BatchHeader, now_ms: i64) -> Option<RoomJob> {
        if self.making_room {
            return None;
        }
        self.making_room = true;
        let roll = self.must_roll(bytes, header, now_ms);
        if roll {
            self.shelve_empty_active();
        }
        Some(match &self.active {
            Some(active) if !roll => RoomJob::Grow {
                file: Arc::clone(&active.file),
                bytes: self.next_reserve(active.size(), active.writer.reserved(), bytes),
            },
            Some(_) => self.create_job(bytes),
            None => self.reopen_or_create(bytes),
        })
    }

    /// An empty active segment that is too small for a batch is opened again, not rolled: the next
    /// one would have its name.
    fn shelve_empty_active(&mut self) {
        let Some(active) = self.active.take_if(|active| active.size() == 0) else {
            return;
        };
        self.sealed.push_back(SealedSegment {
            base: active.base,
            end: self.offsets.end,
            size: 0,
            loaded: None,
            max_timestamp: Some(-1),
            modified_ms: active.appended_ms,
        });
    }

    /// The job that reserves the next step ahead of need; see [`wants_room`](Self::wants_room).
    pub fn grow_job(&mut self) -> Option<RoomJob> {
        if !self.wants_room() {
            return None;
        }
        let active = self.active.as_ref()?;
        self.making_room = true;
        Some(RoomJob::Grow {
            file: Arc::clone(&active.file),
            bytes: self.next_reserve(active.size(), active.writer.reserved(), 1),
        })
    }

    fn next_reserve(&self, size: usize, reserved: usize, wanted: usize) -> u64 {
        let step = (reserved as u64)
            .max(FIRST_RESERVE_BYTES)
            .min(self.config.reserve_step_bytes_max);
        let doubled = reserved as u64 + step;
        doubled
            .max((size + wanted) as u64)
            .min(self.config.segment_bytes.max(size + wanted) as u64)
    }

    fn create_job(&mut self, bytes: usize) -> RoomJob {
        self.rolling = true;
        RoomJob::Create {
            dir: self.dir.clone(),
            topic_id: self.topic_id,
            base: self.offsets.end,
            bytes: self.next_reserve(0, 0, bytes),
            capacity: self.config.segment_bytes.max(bytes),
            index_interval_bytes: self.config.index_interval_bytes,
        }
    }

    fn reopen_or_create(&mut self, bytes: usize) -> RoomJob {
        match self.sealed.back() {
            Some(last) if last.size + bytes <= self.config.segment_bytes => RoomJob::Reopen {
                dir: self.dir.clone(),
                base: last.base,
                size: last.size,
                bytes: self.next_reserve(last.size, last.size, bytes),
                capacity: self.config.segment_bytes,
                index_interval_bytes: self.config.index_interval_bytes,
            },
            _ => self.create_job(bytes),
        }
    }

    /// Takes in what a [`RoomJob`] brought. When a segment was rolled, the job that puts the old one
    /// into its final form is returned.
    ///
    /// # Errors
    /// The job's own error, handed through: there is no room.
    pub fn room_done(
        &mut self,
        result: io::Result<Room>,
        now_ms: i64,
    ) -> io::Result<Option<SealJob>> {
        self.making_room = false;
        self.rolling = false;
        match result? {
            Room::Grown(reserved) => {
                if let Some(active) = &mut self.active {
                    active.writer.extend(reserved);
                }
                Ok(None)
            }
            Room::Opened(opened) => {
                let seal = self.seal_active(now_ms)?;
                self.adopt(opened, now_ms);
                Ok(seal)
            }
        }
    }

    fn adopt(&mut self, opened: OpenedSegment, now_ms: i64) {
        assert!(
            !opened.writer.is_empty() || opened.base == self.offsets.end,
            "a new segment starts at the log's end"
        );
        if self
            .sealed
            .back()
            .is_some_and(|last| last.base == opened.base)
        {
            self.sealed.pop_back();
        }
        self.active = Some(ActiveSegment {
            base: opened.base,
            file: opened.file,
            writer: opened.writer,
            index: opened.index,
            index_flushed: opened.index_flushed,
            started_ms: now_ms,
            appended_ms: now_ms,
        });
    }

    /// Closes the active segment; its file gets its final form by the job returned.
    pub fn seal_active(&mut self, now_ms: i64) -> io::Result<Option<SealJob>> {
        let Some(active) = self.active.take() else {
            return Ok(None);
        };
        let size = active.size();
        let job = SealJob {
            dir: self.dir.clone(),
            base: active.base,
            file: Arc::clone(&active.file),
            size: size as u64,
            index_bytes: active
                .index
                .index
                .encode(active.index_flushed..active.index.index.len(), active.base),
            index_at: (active.index_flushed * index::ENTRY_BYTES) as u64,
        };
        if self.durable.offset < self.offsets.end {
            self.unsynced.push(active.file);
        }
        let reader = active.writer.seal();
        self.sealed.push_back(SealedSegment {
            base: active.base,
            end: self.offsets.end,
            size,
            max_timestamp: Some(active.index.max_timestamp),
            modified_ms: active.appended_ms,
            loaded: Some(LoadedSegment {
                view: SegmentView {
                    base: active.base,
                    reader,
                    index: Arc::new(active.index.index),
                },
                used_ms: now_ms,
            }),
        });
        self.sealing += 1;
        Ok(Some(job))
    }

    /// Takes note that a [`SealJob`] ended. One that failed poisons the log, for it syncs; and as it
    /// holds later checkpoints back, the next start reads that segment again.
    pub fn seal_done(&mut self, result: &io::Result<()>) {
        match result {
            Ok(()) => self.sealing -= 1,
            Err(_) => self.poisoned = true,
        }
    }

    // ---- flush ----

    /// Starts a flush of all that was appended, unless one runs or there is nothing to do.
    ///
    /// `snapshot` is called when a checkpoint is due: it returns the state of the layer above as of
    /// the log's end.
    pub fn flush_begin(&mut self, snapshot: impl FnOnce() -> Vec<u8>) -> Option<Flush> {
        let checkpoint = self.checkpoint_due();
        let dirty = self.durable.offset < self.offsets.end;
        if self.flushing || self.poisoned || !(dirty || checkpoint) {
            return None;
        }
        self.flushing = true;
        let mut files = std::mem::take(&mut self.unsynced);
        if dirty {
            let active = self.active.as_ref().filter(|active| active.size() > 0);
            files.extend(active.map(|active| Arc::clone(&active.file)));
        }
        Some(Flush {
            files,
            mark: self.end_mark(),
            snapshot: checkpoint.then(snapshot),
        })
    }

    fn checkpoint_due(&self) -> bool {
        let due =
            self.checkpoint_wanted || self.bytes_since_checkpoint >= self.config.checkpoint_bytes;
        due && self.sealing == 0 && !self.checkpointing && self.segment_count() > 0
    }

    fn end_mark(&self) -> Mark {
        let (segment_base, position) = match (&self.active, self.sealed.back()) {
            (Some(active), _) => (active.base, active.size()),
            (None, Some(last)) => (last.base, last.size),
            (None, None) => (self.offsets.end, 0),
        };
        Mark {
            offset: self.offsets.end,
            segment_base,
            position,
        }
    }

    /// Ends a flush: all below its mark is durable, or the log is poisoned. The checkpoint to write,
    /// when one was due, is returned.
    pub fn flush_end(&mut self, flush: Flush, result: &io::Result<()>) -> Option<CheckpointJob> {
        self.flushing = false;
        if result.is_err() {
            self.poisoned = true;
            return None;
        }
        self.durable = flush.mark;
        self.offsets.durable = flush.mark.offset;
        self.offsets.check();
        // A roll during the flush leaves a segment whose final form is not on disk yet; the next
        // flush makes the checkpoint then.
        let snapshot = flush.snapshot.filter(|_| self.sealing == 0)?;
        Some(self.checkpoint_job(flush.mark, snapshot))
    }

    fn checkpoint_job(&mut self, mark: Mark, snapshot: Vec<u8>) -> CheckpointJob {
        self.checkpointing = true;
        self.checkpoint_wanted = false;
        self.bytes_since_checkpoint = 0;
        let mut job = CheckpointJob {
            dir: self.dir.clone(),
            checkpoint: Checkpoint {
                topic_id: self.topic_id,
                log_start_offset: self.offsets.start,
                durable_offset: mark.offset,
                segment_base: mark.segment_base,
                position: mark.position as u64,
                snapshot,
            },
            index_bytes: Vec::new(),
            index_at: 0,
            index_flushed: 0,
        };
        let active = self.active.as_ref();
        if let Some(active) = active.filter(|active| active.base == mark.segment_base) {
            // Only entries of durable batches: an entry of one that a power cut takes back would
            // point into the middle of what is appended in its place.
            let index = &active.index.index;
            let flushed = active.index_flushed;
            let durable = index.count_before(mark.position as u32).max(flushed);
            job.index_bytes = index.encode(flushed..durable, active.base);
            job.index_at = (flushed * index::ENTRY_BYTES) as u64;
            job.index_flushed = durable;
        }
        job
    }

    /// Takes note that a [`CheckpointJob`] ended. A failed one is tried again with the next flush.
    pub fn checkpoint_done(&mut self, job: &CheckpointJob, result: &io::Result<()>) {
        self.checkpointing = false;
        if result.is_err() {
            self.checkpoint_wanted = true;
            return;
        }
        self.durable_start = self.durable_start.max(job.checkpoint.log_start_offset);
        self.checkpoint_base = job.checkpoint.segment_base;
        let base = job.checkpoint.segment_base;
        if let Some(active) = self.active.as_mut().filter(|active| active.base == base) {
            active.index_flushed = active.index_flushed.max(job.index_flushed);
        }
    }

    /// Asks for a checkpoint with the next flush.
    pub fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// Whether a flush would do anything.
    pub fn needs_flush(&self) -> bool {
        !self.poisoned && (self.durable.offset < self.offsets.end || self.checkpoint_due())
    }

    /// Whether a job or a flush of this log is under way.
    pub fn is_busy(&self) -> bool {
        self.flushing || self.making_room || self.checkpointing || self.sealing > 0
    }

    // ---- read ----

    /// Reads whole batches from the one that holds `offset` on, durable ones only, at most
    /// `max_bytes` (but one whole batch when `at_least_one`), from one segment.
    ///
    /// `assume_resident` skips the check that the pages are in memory: for the read after a load.
    pub fn read(
        &mut self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        assume_resident: bool,
        now_ms: i64,
    ) -> Result<Read, ReadError> {
        let Offsets {
            start,
            durable,
            end,
        } = self.offsets;
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        if offset >= durable {
            return Ok(Read::Empty);
        }
        let limit = |durable_end| ReadLimit {
            end: durable_end,
            max_bytes: max_bytes.min(READ_BYTES_MAX),
            at_least_one,
        };
        let durable_mark = self.durable;
        if let Some(active) = self.active.as_ref().filter(|active| offset >= active.base) {
            let limit = limit(durable_position(&durable_mark, active.base, active.size()));
            let hot_from = active.size().saturating_sub(HOT_BYTES);
            let reader = active.writer.reader();
            let index = &active.index.index;
            let from = index.position_of_offset((offset - active.base) as u32) as usize;
            let resident = assume_resident || from >= hot_from;
            return slice(&reader, index, active.base, offset, limit, resident);
        }
        let dir = &self.dir;
        let interval = self.config.index_interval_bytes;
        let at = self.sealed.partition_point(|segment| segment.end <= offset);
        let Some(segment) = self.sealed.get_mut(at) else {
            return Ok(Read::Empty);
        };
        let Some(loaded) = &mut segment.loaded else {
            return Ok(Read::Load(open_job(dir, interval, segment)));
        };
        loaded.used_ms = now_ms;
        let limit = limit(durable_position(&durable_mark, segment.base, segment.size));
        let view = &loaded.view;
        slice(
            &view.reader,
            &view.index,
            view.base,
            offset,
            limit,
            assume_resident,
        )
    }

    /// Takes in what a [`LoadJob`] brought.
    pub fn load_done(&mut self, loaded: Loaded, now_ms: i64) {
        let Loaded::Segment {
            view,
            max_timestamp,
            modified_ms,
        } = loaded
        else {
            return;
        };
        let segment = self
            .sealed
            .iter_mut()
            .find(|segment| segment.base == view.base && segment.size == view.reader.len());
        if let Some(segment) = segment {
            segment.max_timestamp = Some(max_timestamp);
            segment.modified_ms = modified_ms;
            segment.loaded = Some(LoadedSegment {
                view,
                used_ms: now_ms,
            });
        }
    }

    /// The first batch at or after `from_offset` that may hold a record as late as `timestamp` (ms).
    pub fn batch_at_time(&mut self, timestamp: i64, from_offset: i64, now_ms: i64) -> TimeLookup {
        let from_offset = from_offset.max(self.offsets.start);
        let durable = self.durable;
        for segment in &mut self.sealed {
            if segment.end <= from_offset || segment.base >= durable.offset {
                continue;
            }
            match segment.max_timestamp {
                Some(max) if max < timestamp => continue,
                _ => {}
            }
            let Some(loaded) = &mut segment.loaded else {
                let interval = self.config.index_interval_bytes;
                return TimeLookup::Load(open_job(&self.dir, interval, segment));
            };
            loaded.used_ms = now_ms;
            let end = durable_position(&durable, segment.base, segment.size);
            let SegmentView {
                base,
                reader,
                index,
            } = &loaded.view;
            let found =
                segment::locate_timestamp(reader, index, *base, timestamp, from_offset, end);
            if let Some(batch) = found {
                return TimeLookup::Batch(batch);
            }
        }
        let Some(active) = &self.active else {
            return TimeLookup::NotFound;
        };
        let end = durable_position(&durable, active.base, active.size());
        let (reader, index) = (active.writer.reader(), &active.index.index);
        segment::locate_timestamp(&reader, index, active.base, timestamp, from_offset, end)
            .map_or(TimeLookup::NotFound, TimeLookup::Batch)
    }

    /// The highest timestamp (ms) in the log, `Ok(-1)` when there is none, or what must be loaded to
    /// tell.
    pub fn max_timestamp(&self) -> Result<i64, LoadJob> {
        let mut max = self
            .active
            .as_ref()
            .map_or(-1, |active| active.index.max_timestamp);
        for segment in self.sealed.iter().filter(|segment| segment.size > 0) {
            match segment.max_timestamp {
                Some(timestamp) => max = max.max(timestamp),
                None => {
                    let interval = self.config.index_interval_bytes;
                    return Err(open_job(&self.dir, interval, segment));
                }
            }
        }
        Ok(max)
    }

    // ---- retention ----

    /// Moves the log start offset up to `offset` (at most the high watermark); the checkpoint that
    /// makes it survive is asked for. Returns the offset in force.
    pub fn delete_records(&mut self, offset: i64) -> Result<i64, ReadError> {
        let Offsets {
            start,
            durable,
            end,
        } = self.offsets;
        if offset > durable || offset < 0 {
            return Err(ReadError::OutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        if offset > start {
            self.offsets.start = offset;
            self.checkpoint_wanted = true;
        }
        Ok(self.offsets.start)
    }

    /// The next thing to do for retention by time, size and log start offset.
    pub fn retention(&mut self, now_ms: i64) -> Retention {
        if self.poisoned || self.making_room {
            return Retention::Nothing;
        }
        let mut excess = match self.config.retention_bytes {
            limit if limit >= 0 => self.size_bytes().saturating_sub(limit as u64),
            _ => 0,
        };
        let mut bases = Vec::new();
        while let Some(segment) = self.sealed.front() {
            let is_last = self.sealed.len() == 1 && self.active.is_none();
            if segment.end > self.durable.offset {
                break;
            }
            let below_start = segment.end <= self.offsets.start && segment.size > 0;
            let too_much = excess > 0 && excess >= segment.size as u64;
            let old = match self.is_old(segment, now_ms) {
                _ if below_start || too_much => false,
                Ok(old) => old,
                Err(load) if bases.is_empty() => return Retention::Load(load),
                Err(_) => break,
            };
            if !(below_start || too_much || old) {
                break;
            }
            if is_last && bases.is_empty() {
                self.making_room = true;
                return Retention::Roll(self.create_job(1));
            }
            if is_last || segment.base >= self.checkpoint_base {
                self.checkpoint_wanted = true;
                break;
            }
            excess = excess.saturating_sub(segment.size as u64);
            bases.push(segment.base);
            self.offsets.start = self.offsets.start.max(segment.end);
            self.sealed.pop_front();
        }
        if !bases.is_empty() {
            self.checkpoint_wanted = true;
            self.offsets.check();
            return Retention::Delete(DeleteJob {
                dir: self.dir.clone(),
                bases,
            });
        }
        self.retention_of_active(now_ms)
    }

    /// The active segment ages too: when all of it is too old it is rolled, and goes the next time.
    fn retention_of_active(&mut self, now_ms: i64) -> Retention {
        let expired = self.active.as_ref().is_some_and(|active| {
            let newest = match active.index.max_timestamp {
                -1 => active.appended_ms,
                timestamp => timestamp,
            };
            active.size() > 0
                && self.durable.offset == self.offsets.end
                && (self.is_expired(newest, now_ms) || self.offsets.start == self.offsets.end)
        });
        if !expired {
            return Retention::Nothing;
        }
        self.making_room = true;
        Retention::Roll(self.create_job(1))
    }

    fn is_old(&self, segment: &SealedSegment, now_ms: i64) -> Result<bool, LoadJob> {
        if self.config.retention_ms < 0 || segment.size == 0 {
            return Ok(false);
        }
        match segment.max_timestamp {
            Some(-1) => Ok(self.is_expired(segment.modified_ms, now_ms)),
            Some(timestamp) => Ok(self.is_expired(timestamp, now_ms)),
            None => Err(open_job(
                &self.dir,
                self.config.index_interval_bytes,
                segment,
            )),
        }
    }

    fn is_expired(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        self.config.retention_ms >= 0
            && now_ms.saturating_sub(timestamp_ms) > self.config.retention_ms
    }

    /// Unmaps sealed segments that nobody read for `idle_ms`, and closes an active segment that
    /// nobody appended to for as long, so that idle partitions hold neither maps nor descriptors.
    pub fn close_idle(&mut self, now_ms: i64, idle_ms: i64) -> io::Result<Option<SealJob>> {
        for segment in &mut self.sealed {
            let used = segment.loaded.as_ref().map(|loaded| loaded.used_ms);
            if used.is_some_and(|used_ms| now_ms.saturating_sub(used_ms) > idle_ms) {
                segment.loaded = None;
            }
        }
        let idle = self.active.as_ref().is_some_and(|active| {
            now_ms.saturating_sub(active.appended_ms) > idle_ms
                && self.durable.offset == self.offsets.end
        });
        if !idle || self.making_room || self.flushing || self.checkpointing {
            return Ok(None);
        }
        self.want_checkpoint();
        self.seal_active(now_ms)
    }
}

fn durable_position(durable: &Mark, segment_base: i64, size: usize) -> usize {
    match segment_base.cmp(&durable.segment_base) {
        std::cmp::Ordering::Less => size,
        std::cmp::Ordering::Equal => durable.position,
        std::cmp::Ordering::Greater => 0,
    }
}

fn open_job(dir: &Path, index_interval_bytes: usize, segment: &SealedSegment) -> LoadJob {
    LoadJob::Open {
        dir: dir.to_owned(),
        base: segment.base,
        size: segment.size,
        index_interval_bytes,
    }
}

fn slice(
    reader: &MapReader,
    index: &index::Index,
    segment_base: i64,
    offset: i64,
    limit: ReadLimit,
    resident: bool,
) -> Result<Read, ReadError> {
    let relative = (offset - segment_base) as u32;
    let from = index.position_of_offset(relative) as usize;
    let to = from.saturating_add(limit.max_bytes).min(limit.end);
    if !resident && from < to && !reader.is_resident(from..to) {
        return Ok(Read::Load(LoadJob::Populate {
            reader: reader.clone(),
            range: from..to,
        }));
    }
    match segment::locate(reader, index, offset, relative, limit) {
        Ok(range) if range.is_empty() => Ok(Read::Empty),
        Ok(range) => Ok(Read::Data(reader.slice(range))),
        Err(_) => Err(ReadError::Corrupt {
            asked: offset,
            segment_base,
        }),
    }
}
