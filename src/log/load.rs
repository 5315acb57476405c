//! Bringing segments into memory for readers: mapping one with its index, reading cold pages, surveying one
//! in which something is wrong.

use super::batch::{self, BatchError};
use super::check::damage::Damage;
use super::check::order::Expected;
use super::check::survey::survey;
use super::index_file;
use super::segment::{self, IndexBuilder, SegmentView, Walk};
use crate::io::file;
use crate::io::map::{self, MapReader};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Brings into memory what a read needs.
pub enum LoadJob {
    /// Map a sealed segment and read its index.
    Open {
        dir: PathBuf,
        base: i64,
        size: usize,
        index_interval_bytes: usize,
        /// How many swaps the log had seen.
        era: u64,
    },
    /// Check all of a segment in which something is wrong, and map it.
    Survey {
        dir: PathBuf,
        expected: Expected,
        index_interval_bytes: usize,
        /// As above.
        era: u64,
    },
    /// The segment's files are being replaced, by a job that runs before this one: try again.
    Wait,
    /// Read pages that are not in the page cache.
    Populate {
        reader: MapReader,
        range: Range<usize>,
    },
}

/// What a [`LoadJob`] brought.
pub enum Loaded {
    Segment {
        view: SegmentView,
        /// Milliseconds; -1 where no record has a timestamp.
        max_timestamp: i64,
        /// Milliseconds; -1 where the first record has none.
        first_timestamp: i64,
        /// The file's modification time in milliseconds.
        modified_ms: i64,
        /// Where its batches end, and the offset after them.
        ends_at: (usize, i64),
        era: u64,
    },
    Surveyed(Surveyed),
    Pages,
    Nothing,
}

impl LoadJob {
    /// The base offset of the segment that is to be mapped.
    pub fn opens(&self) -> Option<i64> {
        match self {
            LoadJob::Open { base, .. } => Some(*base),
            LoadJob::Wait | LoadJob::Populate { .. } | LoadJob::Survey { .. } => None,
        }
    }

    /// # Errors
    /// Whatever the file system reports; EFAULT for pages that the medium cannot read, `InvalidData` for
    /// those that have other bytes than were written.
    pub fn run(self) -> io::Result<Loaded> {
        match self {
            LoadJob::Wait => Ok(Loaded::Nothing),
            LoadJob::Survey {
                dir,
                expected,
                index_interval_bytes,
                era,
            } => {
                survey_for_readers(&dir, expected, index_interval_bytes, era).map(Loaded::Surveyed)
            }
            LoadJob::Populate { reader, range } => {
                reader.populate(range.clone())?;
                check_batches(&reader, range).map(|()| Loaded::Pages)
            }
            LoadJob::Open {
                dir,
                base,
                size,
                index_interval_bytes,
                era,
            } => {
                let file = file::open(&segment::file_path(&dir, base, "log"), false)?;
                let reader = map::map_for_reading(&file, size)?;
                let index = IndexBuilder::new(base, index_interval_bytes);
                let (builder, good, ends_at) = index_file::open(&dir, index, &reader)?;
                index_file::complete(&dir, &builder, good);
                index_file::load_header(&reader, &mut 0, 0)?;
                let first = Walk::new(&reader, 0, size).step();
                Ok(Loaded::Segment {
                    era,
                    ends_at,
                    first_timestamp: first.map_or(-1, |(_, header)| header.base_timestamp),
                    view: SegmentView {
                        base,
                        reader,
                        index: Arc::new(builder.index),
                    },
                    max_timestamp: builder.max_timestamp,
                    modified_ms: modified_ms(&file)?,
                })
            }
        }
    }
}

/// What comes from the medium is checked when it comes: later reads find it in memory, unchanged. The
/// first batch begins where `range` does; a last batch that is cut off is not looked at.
fn check_batches(reader: &MapReader, range: Range<usize>) -> io::Result<()> {
    let mut walk = Walk::new(reader, range.start, range.end);
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
    Ok(modified
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64))
}

/// What a survey brought for readers.
pub struct Surveyed {
    pub base: i64,
    /// Bytes of the file; 0 when it is not there or cannot be opened.
    pub size: usize,
    pub damage: Vec<Damage>,
    /// `None` when there is nothing to map.
    pub view: Option<SegmentView>,
    /// Milliseconds; -1 where no sound batch has one.
    pub max_timestamp: i64,
    /// Milliseconds; -1 where the first sound batch has none.
    pub first_timestamp: i64,
    /// The file's modification time in milliseconds, when there is one.
    pub modified_ms: Option<i64>,
    pub era: u64,
}

/// Surveys a segment and maps it; its index is rebuilt, because the old one may be what is wrong.
///
/// # Errors
/// Those that are not of the medium.
fn survey_for_readers(
    dir: &Path,
    expected: Expected,
    index_interval_bytes: usize,
    era: u64,
) -> io::Result<Surveyed> {
    let base = expected.base;
    let survey = survey(
        dir,
        expected,
        index_interval_bytes,
        (0, base),
        &mut |_, _| {},
    )?;
    let mut surveyed = Surveyed {
        base,
        size: survey.size,
        damage: survey.damage,
        view: None,
        max_timestamp: survey.index.max_timestamp,
        first_timestamp: survey.first_timestamp,
        modified_ms: None,
        era,
    };
    if survey.size > 0 {
        index_file::complete(dir, &survey.index, 0);
        let file = file::open_for_reading(&segment::file_path(dir, base, "log"))?;
        surveyed.modified_ms = Some(modified_ms(&file)?);
        surveyed.view = Some(SegmentView {
            base,
            reader: map::map_for_reading(&file, survey.size)?,
            index: Arc::new(survey.index.index),
        });
    }
    Ok(surveyed)
}
