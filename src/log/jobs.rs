//! What a log needs done where blocking is allowed. The log makes a job, the layer above runs it on
//! a worker thread and brings the result back; nothing here touches the log itself.

use super::checkpoint::Checkpoint;
use super::index_file;
use super::recovery::list_segments;
use super::segment::{self, IndexBuilder, SyncHandles};
use super::spare;
use crate::io::file::{self, Reserved};
use crate::io::map::{self, MapWriter};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Makes room for appends.
pub enum RoomJob {
    /// Reserve more of the active segment's file.
    Grow { file: Arc<File>, bytes: u64 },
    /// Start a segment, and the partition's directory when it is the first.
    Create {
        dir: PathBuf,
        topic_id: Uuid,
        /// The last segment that the log has.
        after: Option<i64>,
        base: i64,
        bytes: u64,
        capacity: usize,
        index_interval_bytes: usize,
    },
    /// Make the last sealed segment writable again.
    Reopen {
        dir: PathBuf,
        base: i64,
        size: usize,
        /// The offset after its last.
        end: i64,
        bytes: u64,
        capacity: usize,
        index_interval_bytes: usize,
    },
}

/// What a [`RoomJob`] brought.
pub enum Room {
    Grown(Reserved),
    Opened(OpenedSegment),
}

/// A segment ready for appends.
pub struct OpenedSegment {
    pub base: i64,
    pub files: SyncHandles,
    pub writer: MapWriter,
    pub index: IndexBuilder,
    pub index_flushed: usize,
}

impl RoomJob {
    /// Whether the file system has `floor` bytes free when this is done. Always, for a floor of 0.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn leaves_free(&self, floor: u64) -> io::Result<bool> {
        if floor == 0 {
            return Ok(true);
        }
        let (wanted, free) = match self {
            RoomJob::Grow { file, bytes } => {
                let has = file.metadata()?.len();
                (bytes.saturating_sub(has), file::free_bytes_of(file)?)
            }
            RoomJob::Create {
                dir,
                bytes,
                capacity,
                ..
            } => {
                // A spare is brought to the size of a whole segment at once.
                let wanted = match spare::bytes(dir)? {
                    Some(has) => (*capacity as u64).saturating_sub(has),
                    None => *bytes,
                };
                (wanted, free_bytes_at(dir)?)
            }
            RoomJob::Reopen {
                dir, bytes, size, ..
            } => (bytes.saturating_sub(*size as u64), free_bytes_at(dir)?),
        };
        Ok(free >= floor.saturating_add(wanted))
    }

    /// # Errors
    /// ENOSPC on a full disk; `InvalidData` when the segment to reopen is damaged; whatever else the
    /// file system reports.
    pub fn run(self) -> io::Result<Room> {
        match self {
            RoomJob::Grow { file, bytes } => file::reserve(&file, bytes).map(Room::Grown),
            RoomJob::Create {
                dir,
                topic_id,
                after,
                base,
                bytes,
                capacity,
                index_interval_bytes,
            } => {
                let index = IndexBuilder::new(base, index_interval_bytes);
                prepare_dir(&dir, topic_id, after, base)?;
                create(&dir, index, bytes, capacity).map(Room::Opened)
            }
            RoomJob::Reopen {
                dir,
                base,
                size,
                end,
                bytes,
                capacity,
                index_interval_bytes,
            } => {
                let path = segment::file_path(&dir, base, "log");
                // An error of an earlier write that nobody was told of (of the page that sealing cut) must not
                // be taken for one of what is appended from now on.
                file::reload(&file::open_for_reading(&path)?, size as u64)?;
                let file = Arc::new(file::open(&path, false)?);
                let index = IndexBuilder::new(base, index_interval_bytes);
                let opened = sync_handles(&path, Arc::clone(&file))
                    .and_then(|files| reopen(&dir, index, files, (size, end), bytes, capacity));
                opened.map(Room::Opened).inspect_err(|_| {
                    // It stays sealed, so it must have its final form again.
                    let _ =
                        file::truncate(&file, size as u64).and_then(|()| file::sync_data(&file));
                })
            }
        }
    }
}

/// A partition has no directory before its first segment.
fn free_bytes_at(dir: &Path) -> io::Result<u64> {
    file::free_bytes(dir.parent().unwrap_or(dir))
}

fn reopen(
    dir: &Path,
    index: IndexBuilder,
    files: SyncHandles,
    (size, end): (usize, i64),
    bytes: u64,
    capacity: usize,
) -> io::Result<OpenedSegment> {
    // Whatever a crash left beyond the last sound batch must not come back behind a batch that is
    // appended now.
    file::truncate(&files.flush, size as u64)?;
    let reserved = file::reserve(&files.flush, bytes)?;
    let writer = map::map_for_append(&files.flush, capacity, size, reserved)?;
    let (index, index_flushed, ends_at) = index_file::open(dir, index, &writer.reader())?;
    if ends_at != (size, end) {
        let message = "the last segment's batches do not lead to its end";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(OpenedSegment {
        base: index.base(),
        files,
        writer,
        index,
        index_flushed,
    })
}

/// The open files beside `flush`, of the same segment.
fn sync_handles(path: &Path, flush: Arc<File>) -> io::Result<SyncHandles> {
    Ok(SyncHandles {
        flush,
        write_back: Arc::new(file::open(path, false)?),
        checkpoint: Arc::new(file::open(path, false)?),
    })
}

fn prepare_dir(dir: &Path, topic_id: Uuid, after: Option<i64>, base: i64) -> io::Result<()> {
    let there = match list_segments(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bases => bases?,
    };
    // Only the very first segment: in a log that lost its checkpoint, one that starts here would say
    // that all before was deleted.
    if there.is_empty() {
        create_log(dir, topic_id, base)?;
    }
    let is_half = |half: &i64| after.is_some_and(|after| after < *half) && *half < base;
    there
        .into_iter()
        .filter(is_half)
        .try_for_each(|half| file::remove(&segment::file_path(dir, half, "log")))
}

fn create(
    dir: &Path,
    index: IndexBuilder,
    bytes: u64,
    capacity: usize,
) -> io::Result<OpenedSegment> {
    let base = index.base();
    create_file(dir, index, bytes, capacity, base).inspect_err(|_| {
        // A file of that name would be taken for a segment at the next start, though the log may
        // have gone on beyond its base. Where it cannot be removed now, it is before the next segment
        // is created.
        let _ = file::remove(&segment::file_path(dir, base, "log"));
    })
}

fn create_log(dir: &Path, topic_id: Uuid, base: i64) -> io::Result<()> {
    file::create_dir(dir)?;
    if Checkpoint::read(dir)?.is_some() {
        return Ok(());
    }
    let first = Checkpoint {
        topic_id,
        log_start_offset: base,
        durable_offset: base,
        segment_base: base,
        ..Checkpoint::default()
    };
    first.write(dir)
}

fn create_file(
    dir: &Path,
    index: IndexBuilder,
    bytes: u64,
    capacity: usize,
    base: i64,
) -> io::Result<OpenedSegment> {
    let path = segment::file_path(dir, base, "log");
    let (file, reserved) = match spare::take(dir, base, capacity as u64)? {
        Some(recycled) => recycled,
        None => new_file(&path, bytes)?,
    };
    let files = sync_handles(&path, Arc::clone(&file))?;
    file::remove(&segment::file_path(dir, base, "index"))?;
    let writer = map::map_for_append(&file, capacity, 0, reserved)?;
    file::sync_data(&file)?;
    file::sync_dir(dir)?;
    Ok(OpenedSegment {
        base,
        files,
        writer,
        index,
        index_flushed: 0,
    })
}

fn new_file(path: &Path, bytes: u64) -> io::Result<(Arc<File>, Reserved)> {
    let file = Arc::new(file::open(path, true)?);
    file::truncate(&file, 0)?;
    let reserved = file::reserve(&file, bytes)?;
    Ok((file, reserved))
}

/// Brings a segment that was appended to into its final form on disk.
pub struct SealJob {
    pub dir: PathBuf,
    pub base: i64,
    pub file: Arc<File>,
    pub size: u64,
    /// Index entries to write, and where in the index file.
    pub index_bytes: Vec<u8>,
    pub index_at: u64,
    /// No other segment is appended to in its place: a spare is of no use any more.
    pub is_last: bool,
    /// Whether to make the data durable. If not, the log's next flush does.
    pub sync: bool,
}

impl SealJob {
    /// Gives back the reserved bytes beyond the data, makes the data durable, completes the index.
    ///
    /// # Errors
    /// Only when the data is concerned: an index that cannot be written is built again when needed.
    pub fn run(self) -> io::Result<()> {
        file::truncate(&self.file, self.size)?;
        if self.sync {
            file::sync_data(&self.own_handle())?;
        }
        index_file::write_if_possible(&self.dir, self.base, &self.index_bytes, self.index_at);
        if self.is_last
            && let Err(error) = spare::remove(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "a spare file cannot be removed");
        }
        Ok(())
    }

    /// The kernel reports an error of writing back once for each open file. A flush of this segment
    /// may be under way on ours, and must hear of the error itself.
    fn own_handle(&self) -> Arc<File> {
        let own = file::open(&segment::file_path(&self.dir, self.base, "log"), false);
        own.map_or_else(|_| Arc::clone(&self.file), Arc::new)
    }
}

/// Writes a checkpoint, and the index entries below it.
pub struct CheckpointJob {
    pub dir: PathBuf,
    pub checkpoint: Checkpoint,
    pub index_bytes: Vec<u8>,
    pub index_at: u64,
    /// How many index entries the file has afterwards.
    pub index_flushed: usize,
}

impl CheckpointJob {
    pub fn run(&self) -> io::Result<()> {
        if !self.index_bytes.is_empty() {
            let base = self.checkpoint.segment_base;
            index_file::write(&self.dir, base, &self.index_bytes, self.index_at)?;
        }
        self.checkpoint.write(&self.dir)?;
        file::sync_dir(&self.dir)
    }
}

/// Removes segments' files, the oldest first.
pub struct DeleteJob {
    pub dir: PathBuf,
    pub bases: Vec<i64>,
    /// The offset after the last that goes.
    pub end: i64,
    /// The last one's file, when it has this many bytes, is kept as the spare.
    pub spare_bytes_min: Option<u64>,
}

impl DeleteJob {
    pub fn run(self) -> io::Result<()> {
        // All up to the last, so that what a failed job left behind goes before anything younger.
        let mut bases = list_segments(&self.dir)?;
        bases.retain(|base| *base < self.end);
        // What a failed compaction left beside the segment that replaced it goes before that one. Otherwise it
        // could take its place. True sorts last.
        bases.sort_by_key(|base| self.bases.contains(base));
        for base in bases {
            // Before a segment can be gone, what is older must be, or a power cut could leave a gap;
            // and so must any checkpoint that points into it.
            file::sync_dir(&self.dir)?;
            // The index first: an index without its segment is nothing, a segment without its index
            // is whole.
            file::remove(&segment::file_path(&self.dir, base, "index"))?;
            if !self.keeps(base)? {
                file::remove(&segment::file_path(&self.dir, base, "log"))?;
            }
        }
        Ok(())
    }

    fn keeps(&self, base: i64) -> io::Result<bool> {
        match self.spare_bytes_min {
            Some(bytes_min) if self.bases.last() == Some(&base) => {
                spare::keep(&self.dir, base, bytes_min)
            }
            _ => Ok(false),
        }
    }
}
