//! Bringing segments into memory for readers: mapping one with its index, reading cold pages, surveying one
//! in which something is wrong.

use super::batch::{self, BatchError};
use super::check::damage::Damage;
use super::check::order::Expected;
use super::check::survey::survey;
use super::index_file;
use super::segment::{self, HeaderWalk, IndexBuilder, SegmentView};
use crate::io::file;
use crate::io::map::{self, MapReader};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Brings into memory what a read needs.
pub enum LoadJob {
    /// Map a sealed segment and read its index.
    Open(SegmentToLoad),
    /// Check all of a segment in which something is wrong, and map it.
    Survey(SegmentToLoad),
    /// The segment's files are being replaced, by a job that runs before this one: try again.
    Wait,
    /// Read pages that are not in the page cache.
    Populate {
        reader: MapReader,
        range: Range<usize>,
    },
}

/// A sealed segment that is to be mapped.
pub struct SegmentToLoad {
    pub dir: PathBuf,
    pub expected: Expected,
    /// Bytes.
    pub size: usize,
    pub index_interval_bytes: usize,
    /// How many swaps the log had seen.
    pub era: u64,
}

/// What a [`LoadJob`] brought.
pub enum Loaded {
    Segment(LoadedParts),
    Pages,
    Nothing,
}

/// A segment as a [`LoadJob`] found it.
pub struct LoadedParts {
    pub base: i64,
    /// Bytes of the file; 0 when it is not there or cannot be opened.
    pub size: usize,
    /// `None` when there is nothing to map.
    pub view: Option<SegmentView>,
    /// Milliseconds; -1 where no sound batch has one.
    pub max_timestamp: i64,
    /// Milliseconds; -1 where the first sound batch has none.
    pub first_timestamp: i64,
    /// The file's modification time in milliseconds, when there is one.
    pub modified_ms: Option<i64>,
    pub checked: Checked,
    pub era: u64,
}

/// What is known of a segment's batches after it was loaded.
pub enum Checked {
    /// Their headers lead to this position and offset.
    Headers(usize, i64),
    /// All of them were checked, and this is damaged.
    Surveyed(Vec<Damage>),
}

impl LoadJob {
    /// The base offset of the segment that is to be mapped.
    pub fn opens(&self) -> Option<i64> {
        match self {
            LoadJob::Open(segment) => Some(segment.expected.base),
            LoadJob::Wait | LoadJob::Populate { .. } | LoadJob::Survey(_) => None,
        }
    }

    /// # Errors
    /// Whatever the file system reports; EFAULT for pages that the medium cannot read, `InvalidData` for
    /// those that have other bytes than were written.
    pub fn run(self) -> io::Result<Loaded> {
        self.run_with(|reader, range| reader.populate(range))
    }

    /// As [`run`](Self::run), with a way of its own to read pages.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_with(
        self,
        read: impl FnOnce(&MapReader, Range<usize>) -> io::Result<()>,
    ) -> io::Result<Loaded> {
        match self {
            LoadJob::Wait => Ok(Loaded::Nothing),
            LoadJob::Survey(segment) => segment.survey().map(Loaded::Segment),
            LoadJob::Open(segment) => segment.open().map(Loaded::Segment),
            LoadJob::Populate { reader, range } => {
                read(&reader, range.clone())?;
                check_batches(&reader, range).map(|()| Loaded::Pages)
            }
        }
    }
}

impl SegmentToLoad {
    fn open(self) -> io::Result<LoadedParts> {
        let (base, size) = (self.expected.base, self.size);
        let file = file::open(&segment::file_path(&self.dir, base, "log"), false)?;
        let reader = map::map_for_reading(&file, size)?;
        let empty = IndexBuilder::new(base, self.index_interval_bytes);
        let index = index_file::open(&self.dir, empty, &reader)?;
        index_file::complete(&self.dir, &index.builder, index.good);
        index_file::load_header(&reader, &mut 0, 0)?;
        let first = HeaderWalk::new(&reader, 0, size).step();
        Ok(LoadedParts {
            base,
            size,
            max_timestamp: index.builder.max_timestamp,
            first_timestamp: first.map_or(-1, |(_, header)| header.base_timestamp),
            modified_ms: Some(modified_ms(&file)?),
            checked: Checked::Headers(index.end, index.next_offset),
            view: Some(SegmentView {
                base,
                reader,
                index: Arc::new(index.builder.index),
            }),
            era: self.era,
        })
    }

    /// The index is built again, because the old one may be what is wrong.
    fn survey(self) -> io::Result<LoadedParts> {
        let (dir, base) = (&self.dir, self.expected.base);
        let interval = self.index_interval_bytes;
        let found = survey(dir, self.expected, interval, (0, base), &mut |_, _| {})?;
        let mut loaded = LoadedParts {
            base,
            size: found.size,
            view: None,
            max_timestamp: found.index.max_timestamp,
            first_timestamp: found.first_timestamp,
            modified_ms: None,
            checked: Checked::Surveyed(found.damage),
            era: self.era,
        };
        if found.size > 0 {
            index_file::complete(dir, &found.index, 0);
            let file = file::open_for_reading(&segment::file_path(dir, base, "log"))?;
            loaded.modified_ms = Some(modified_ms(&file)?);
            loaded.view = Some(SegmentView {
                base,
                reader: map::map_for_reading(&file, found.size)?,
                index: Arc::new(found.index.index),
            });
        }
        Ok(loaded)
    }
}

/// Checks what was read from the medium; later reads find it in memory, unchanged. The first batch begins
/// where `range` does; a last batch that is cut off is not checked.
fn check_batches(reader: &MapReader, range: Range<usize>) -> io::Result<()> {
    let mut walk = HeaderWalk::new(reader, range.start, range.end);
    loop {
        match walk.step() {
            Err(BatchError::Truncated) => return Ok(()),
            Ok((at, header)) if batch::crc_matches(reader.bytes(at..at + header.size())) => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn modified_ms(file: &File) -> io::Result<i64> {
    let modified = file.metadata()?.modified()?;
    let since = modified.duration_since(UNIX_EPOCH);
    Ok(since.map_or(0, |since| since.as_millis() as i64))
}
