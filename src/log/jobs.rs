//! Jobs: what a log needs done where blocking is allowed. The log makes a job, the layer above runs it on
//! a worker thread and hands the result back. Nothing here touches the log itself.

use super::checkpoint::Checkpoint;
use super::index_file;
use super::segment::{self, IndexBuilder, IndexTail};
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
        segment: SegmentToOpen,
        topic_id: Uuid,
        /// The last segment that the log has.
        after: Option<i64>,
    },
    /// Make the last sealed segment writable again.
    Reopen {
        segment: SegmentToOpen,
        size: usize,
        /// The offset after its last.
        end: i64,
    },
}

/// A segment that is to be appended to.
pub struct SegmentToOpen {
    pub dir: PathBuf,
    pub base: i64,
    /// Bytes to reserve.
    pub bytes: u64,
    /// Bytes to map: it never gets larger.
    pub capacity: usize,
    pub index_interval_bytes: usize,
}

/// What a [`RoomJob`] brought.
pub enum Room {
    Grown(Reserved),
    Opened(OpenedSegment),
}

/// A segment ready for appends.
pub struct OpenedSegment {
    pub base: i64,
    pub file: Arc<File>,
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
        let (wanted, has, free) = match self {
            RoomJob::Grow { file, bytes } => {
                (*bytes, file.metadata()?.len(), file::free_bytes_of(file)?)
            }
            RoomJob::Create { segment, .. } => {
                // A spare is brought to the size of a whole segment at once.
                let (wanted, has) = match spare::bytes(&segment.dir)? {
                    Some(has) => (segment.capacity as u64, has),
                    None => (segment.bytes, 0),
                };
                (wanted, has, free_bytes_at(&segment.dir)?)
            }
            RoomJob::Reopen { segment, size, .. } => {
                (segment.bytes, *size as u64, free_bytes_at(&segment.dir)?)
            }
        };
        Ok(free >= floor.saturating_add(wanted.saturating_sub(has)))
    }

    /// # Errors
    /// ENOSPC on a full disk; `InvalidData` when the segment to reopen is damaged; whatever else the
    /// file system reports.
    pub fn run(self) -> io::Result<Room> {
        match self {
            RoomJob::Grow { file, bytes } => file::reserve(&file, bytes).map(Room::Grown),
            RoomJob::Create {
                segment,
                topic_id,
                after,
            } => {
                segment.prepare_dir(topic_id, after)?;
                segment.create().map(Room::Opened)
            }
            RoomJob::Reopen { segment, size, end } => segment.reopen(size, end).map(Room::Opened),
        }
    }
}

/// A partition has no directory before its first segment.
fn free_bytes_at(dir: &Path) -> io::Result<u64> {
    file::free_bytes(dir.parent().unwrap_or(dir))
}

impl SegmentToOpen {
    fn path(&self, extension: &str) -> PathBuf {
        segment::file_path(&self.dir, self.base, extension)
    }

    fn index(&self) -> IndexBuilder {
        IndexBuilder::new(self.base, self.index_interval_bytes)
    }

    fn reopen(self, size: usize, end: i64) -> io::Result<OpenedSegment> {
        let path = self.path("log");
        // An earlier write (of the page that sealing cut) may have an error that was not reported yet. It must
        // not be taken for an error of what is appended from now on.
        file::reload(&file::open_for_reading(&path)?, size as u64)?;
        let file = Arc::new(file::open(&path, false)?);
        let opened = self.map(Arc::clone(&file), size, end);
        opened.inspect_err(|_| {
            // It stays sealed, so it must have its final form again.
            let _ = file::truncate(&file, size as u64).and_then(|()| file::sync_data(&file));
        })
    }

    fn map(&self, file: Arc<File>, size: usize, end: i64) -> io::Result<OpenedSegment> {
        // Whatever a crash left beyond the last sound batch must not come back behind a batch that is
        // appended now.
        file::truncate(&file, size as u64)?;
        let reserved = file::reserve(&file, self.bytes)?;
        let writer = map::map_for_append(&file, self.capacity, size, reserved)?;
        let index = index_file::open(&self.dir, self.index(), &writer.reader())?;
        if (index.end, index.next_offset) != (size, end) {
            let message = "the last segment's batches do not lead to its end";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(OpenedSegment {
            base: self.base,
            file,
            writer,
            index: index.builder,
            index_flushed: index.good,
        })
    }

    fn prepare_dir(&self, topic_id: Uuid, after: Option<i64>) -> io::Result<()> {
        let there = match segment::list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bases => bases?,
        };
        // Only the very first segment: in a log that lost its checkpoint, one that starts here would say
        // that all before was deleted.
        if there.is_empty() {
            create_log(&self.dir, topic_id, self.base)?;
        }
        let is_half = |half: &i64| after.is_some_and(|after| after < *half) && *half < self.base;
        there
            .into_iter()
            .filter(is_half)
            .try_for_each(|half| file::remove(&segment::file_path(&self.dir, half, "log")))
    }

    fn create(self) -> io::Result<OpenedSegment> {
        self.create_file().inspect_err(|_| {
            // A file of that name would be taken for a segment at the next start, though the log may
            // have gone on beyond its base. Where it cannot be removed now, it is before the next segment
            // is created.
            let _ = file::remove(&self.path("log"));
        })
    }

    fn create_file(&self) -> io::Result<OpenedSegment> {
        let path = self.path("log");
        let (file, reserved) = match spare::take(&self.dir, self.base, self.capacity as u64)? {
            Some(recycled) => recycled,
            None => {
                let file = Arc::new(file::open(&path, true)?);
                file::truncate(&file, 0)?;
                let reserved = file::reserve(&file, self.bytes)?;
                (file, reserved)
            }
        };
        file::remove(&self.path("index"))?;
        let writer = map::map_for_append(&file, self.capacity, 0, reserved)?;
        file::sync_data(&file)?;
        file::sync_dir(&self.dir)?;
        Ok(OpenedSegment {
            base: self.base,
            file,
            writer,
            index: self.index(),
            index_flushed: 0,
        })
    }
}

fn create_log(dir: &Path, topic_id: Uuid, base: i64) -> io::Result<()> {
    file::create_dir(dir)?;
    if Checkpoint::read(dir)?.is_some() {
        return Ok(());
    }
    Checkpoint::starting_at(topic_id, base).write(dir)
}

/// Brings a segment that was appended to into its final form on disk.
pub struct SealJob {
    pub dir: PathBuf,
    pub base: i64,
    pub file: Arc<File>,
    pub size: u64,
    pub index: IndexTail,
    /// No other segment follows that is appended to: a spare is not needed any more.
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
        index_file::write_if_possible(&self.dir, self.base, &self.index);
        if self.is_last
            && let Err(error) = spare::remove(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "a spare file cannot be removed");
        }
        Ok(())
    }

    /// The kernel reports an error of writing back once for each open file. A flush that runs on the log's
    /// own file must get the error too.
    fn own_handle(&self) -> Arc<File> {
        let own = file::open(&segment::file_path(&self.dir, self.base, "log"), false);
        own.map_or_else(|_| Arc::clone(&self.file), Arc::new)
    }
}

/// Writes a checkpoint, and the index entries below it.
pub struct CheckpointJob {
    pub dir: PathBuf,
    pub checkpoint: Checkpoint,
    /// `None` when the active segment is another one by now.
    pub index: Option<IndexTail>,
}

impl CheckpointJob {
    pub fn run(&self) -> io::Result<()> {
        if let Some(index) = self.index.as_ref().filter(|index| !index.bytes.is_empty()) {
            index_file::write(&self.dir, self.checkpoint.segment_base, index)?;
        }
        self.checkpoint.write(&self.dir)?;
        file::sync_dir(&self.dir)
    }
}

/// Removes segments' files, the oldest first.
pub struct DeleteJob {
    pub dir: PathBuf,
    pub bases: Vec<i64>,
    /// The offset after the last one that is removed.
    pub end: i64,
    /// The last one's file, when it has this many bytes, is kept as the spare.
    pub spare_bytes_min: Option<u64>,
}

impl DeleteJob {
    pub fn run(self) -> io::Result<()> {
        // All up to the last, so that what a failed job left behind is removed before anything younger.
        let mut bases = segment::list(&self.dir)?;
        bases.retain(|base| *base < self.end);
        // What a failed compaction left beside the segment that replaced it is removed before that one.
        // Otherwise it could be used instead. True sorts last.
        bases.sort_by_key(|base| self.bases.contains(base));
        for base in bases {
            // Before a segment can be gone, what is older must be, or a power cut could leave a gap;
            // and so must any checkpoint that points into it.
            file::sync_dir(&self.dir)?;
            // The index first: a segment without an index is whole, an index without a segment is not.
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
