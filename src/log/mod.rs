//! One partition's log: record batches in segments, with the offsets that say what is durable.
//!
//! The log does no blocking work itself. Appends and reads touch memory only; what may block comes
//! out as a job (`jobs`), runs elsewhere, and its result is handed back. Flushes work the same way:
//! [`Log::flush_begin`] names the files, the commit loop syncs them (or puts the bytes into the
//! journal), [`Log::flush_end`] moves the durable offset.

mod append;
pub mod batch;
pub mod check;
pub mod checkpoint;
pub mod compact;
pub mod compress;
mod flush;
pub mod index;
pub mod index_file;
pub mod jobs;
pub mod journal;
pub mod key_hash;
pub mod load;
mod read;
pub mod records;
pub mod recovery;
mod retention;
pub mod segment;
mod segment_writer;
pub mod spare;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use check::damage::DamageList;
use compact::{CompactionConfig, Progress};
use jobs::{DeleteJob, RoomJob};
use load::LoadJob;
use recovery::{Recovered, Replay};
use segment::{ActiveSegment, SealedSegment};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Mutex;
use uuid::Uuid;

/// The first reservation of a segment; it doubles from there.
const FIRST_RESERVE_BYTES: u64 = 16 << 10;
/// Bytes before a segment's end that may be taken to be in the page cache without asking.
const HOT_BYTES: usize = 64 << 20;
/// The most bytes of one log that may be appended and not durable yet. A power cut can tear no more, so
/// recovery cuts no more.
pub const NOT_DURABLE_BYTES_MAX: u64 = 64 << 20;
/// The least time between two checkpoints of a log with many appends, ...
const CHECKPOINT_INTERVAL_MS: i64 = 100;
/// ... unless this many times `checkpoint_bytes` were appended since the last.
const CHECKPOINT_BYTES_TIMES: u64 = 32;
/// The most that one read returns: it bounds what is checked for and read into memory at once.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
#[error("{}: {error}", dir.display())]
pub struct LogError {
    pub dir: PathBuf,
    pub error: io::Error,
}

impl LogError {
    pub fn new(dir: &Path, error: io::Error) -> LogError {
        let dir = dir.to_owned();
        LogError { dir, error }
    }
}

/// Why a batch was not appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Ask [`Log::room_job`], run it, and try again.
    #[error("the active segment has no room")]
    NeedsRoom,
    /// Try again after the next flush.
    #[error("too many bytes of this log wait to become durable")]
    AheadOfDisk,
    #[error("the batch has more bytes than a segment may have")]
    LargerThanSegment,
    /// The log takes no more writes from now on.
    #[error("the batch could not be written: {0}")]
    WriteFailed(String),
    #[error(
        "a write or a flush of this log failed; it takes no more writes until the broker is restarted"
    )]
    Poisoned,
}

/// Why a log cannot be read at an offset.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("offset {asked} is not between {start} and {end}")]
    OutOfRange { asked: i64, start: i64, end: i64 },
    #[error("the segment that starts at offset {segment_base} is damaged near offset {asked}")]
    Corrupt { asked: i64, segment_base: i64 },
    #[error("the medium cannot read offset {asked}")]
    Unreadable { asked: i64 },
    #[error("the end of the log is lost, and offset {asked} may have been behind it")]
    EndLost { asked: i64 },
    #[error("the log could not be opened")]
    Offline,
}

/// What a log needs to know of its topic's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub segment_bytes: usize,
    /// Age at which a segment is rolled.
    pub segment_ms: i64,
    pub index_interval_bytes: usize,
    /// -1 keeps records whatever their age.
    pub retention_ms: i64,
    /// -1 keeps records whatever their size.
    pub retention_bytes: i64,
    /// How the log is compacted, when it is.
    pub compaction: Option<CompactionConfig>,
    /// The largest step in which disk space is reserved.
    pub reserve_step_bytes_max: u64,
    /// Bytes appended between two checkpoints; more where that would be many a second.
    pub checkpoint_bytes: u64,
    /// The most bytes that may be appended and not durable; at most [`NOT_DURABLE_BYTES_MAX`].
    pub not_durable_bytes_max: u64,
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

/// A position in the log below which everything is, or will be, durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    offset: i64,
    segment_base: i64,
    position: usize,
    /// Bytes appended to the log before this place, since it was opened.
    appended_bytes: u64,
}

/// A flush under way: sync every file, in [turn](Log::sync_turn), then call [`Log::flush_end`]; or put the log's
/// [`journal_tail`](Log::journal_tail) into the journal, and call [`Log::flush_journaled`].
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

/// Bytes of the active segment that are not durable yet.
pub struct Tail<'a> {
    pub segment_base: i64,
    /// Bytes from the segment's start.
    pub position: usize,
    pub bytes: &'a [u8],
}

/// A write-back under way: the journal has what these segments lack on stable storage. Sync every file, in
/// [turn](Log::sync_turn), then call [`Log::write_back_end`].
pub struct WriteBack {
    pub files: Vec<Arc<File>>,
    /// The bytes of the last of `files` that are concerned.
    pub last: Range<u64>,
    mark: Mark,
    /// For the checkpoint that follows.
    snapshot: Option<Vec<u8>>,
}

/// What a read found.
pub enum Read {
    /// Whole batches, the first one holding the offset asked for, or the next one there is.
    Data {
        records: Bytes,
        /// There is nothing durable behind them.
        reaches_end: bool,
    },
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
    /// Everything below is on stable storage in the segments themselves. What lies between here and
    /// `durable` is there in the journal.
    synced: Mark,
    /// Bytes appended since the log was opened.
    appended_bytes: u64,
    /// Sealed segments with bytes that no flush has taken yet.
    unsynced: Vec<Arc<File>>,
    /// While a flush runs: the sealed segments that it took out of `unsynced`.
    flushing: Option<Vec<Arc<File>>>,
    /// See [`Log::sync_turn`].
    sync_turn: Arc<Mutex<()>>,
    making_room: bool,
    /// A segment that starts at the log's end is being made: the end must stay where it is.
    rolling: bool,
    sealing: usize,
    checkpointing: bool,
    checkpoint_wanted: bool,
    /// The last checkpoint could not be written. None is due until [`Log::retry_checkpoint`].
    checkpoint_failed: bool,
    bytes_since_checkpoint: u64,
    /// When the first of them was appended (ms).
    since_checkpoint_ms: i64,
    /// The log start offset that the checkpoint on disk has.
    durable_start: i64,
    /// The segment that the checkpoint on disk points into: it and all after it must stay.
    checkpoint_base: i64,
    compaction: Progress,
    poisoned: bool,
    /// What reads are refused.
    damage: DamageList,
    /// It is not known where the log ends, so nothing is appended.
    is_end_lost: bool,
    /// It could not be opened: nothing is known of it.
    is_offline: bool,
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
        let log = Log::of(dir, topic_id, config, &mut recovered);
        Ok((log, recovered))
    }

    fn of(dir: PathBuf, topic_id: Uuid, config: LogConfig, recovered: &mut Recovered) -> Log {
        let offsets = Offsets {
            start: recovered.log_start_offset,
            durable: recovered.end_offset,
            end: recovered.end_offset,
        };
        offsets.check();
        let end = Mark {
            offset: recovered.end_offset,
            segment_base: recovered.end_segment,
            position: recovered.end_position,
            appended_bytes: 0,
        };
        Log {
            dir,
            topic_id,
            config,
            offsets,
            sealed: std::mem::take(&mut recovered.segments).into(),
            active: None,
            durable: end,
            synced: end,
            appended_bytes: 0,
            unsynced: Vec::new(),
            flushing: None,
            sync_turn: Arc::default(),
            making_room: false,
            rolling: false,
            sealing: 0,
            checkpointing: false,
            checkpoint_wanted: recovered.scanned_bytes > 0,
            checkpoint_failed: false,
            bytes_since_checkpoint: recovered.scanned_bytes,
            since_checkpoint_ms: 0,
            durable_start: recovered.log_start_offset,
            checkpoint_base: recovered.checkpoint_base,
            compaction: Progress {
                state: recovered.compaction,
                ..Progress::default()
            },
            poisoned: recovered.read_only.is_some(),
            damage: std::mem::take(&mut recovered.damage),
            is_end_lost: recovered.read_only.is_some(),
            is_offline: false,
        }
    }

    /// A log that could not be opened: it can be neither read nor written.
    pub fn offline(dir: PathBuf, topic_id: Uuid, config: LogConfig) -> Log {
        let mut log = Log::of(dir, topic_id, config, &mut Recovered::default());
        log.poisoned = true;
        log.is_offline = true;
        log
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

    /// Whether the log could not be opened.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// What is known to be damaged.
    pub fn damage(&self) -> &DamageList {
        &self.damage
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes when compaction replaced records: what was read before may be gone.
    pub fn era(&self) -> u64 {
        self.compaction.era
    }

    /// Applies a changed topic configuration.
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
}
