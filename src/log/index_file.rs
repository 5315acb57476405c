//! The file of a segment's index: reading, completing and writing it. It is a cache: what it lacks is
//! found by walking batch headers, and if it cannot be written nothing is lost.

use super::batch;
use super::check::scan;
use super::index::Index;
use super::segment::{self, HeaderWalk, IndexBuilder, IndexTail};
use crate::io::file;
use crate::io::map::MapReader;
use crate::io::rate_limited::{self, RateLimited};
use std::io;
use std::path::Path;

/// An index file can have an entry for every batch of the largest segment, not more.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Bytes that a walk over batch headers brings into memory at once.
const WALK_WINDOW_BYTES: usize = 1 << 20;

/// On a full disk every segment would log this.
static NO_INDEX: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);

/// The index of a segment, complete.
pub(super) struct CompleteIndex {
    pub builder: IndexBuilder,
    /// How many entries at the start of the file are good.
    pub good: usize,
    /// Where the batches end that could be walked (bytes), ...
    pub end: usize,
    /// ... and the offset after them.
    pub next_offset: i64,
}

/// Reads a segment's index file and adds what it lacks by walking the batches.
pub(super) fn open(
    dir: &Path,
    empty: IndexBuilder,
    reader: &MapReader,
) -> io::Result<CompleteIndex> {
    let (size, base) = (reader.len(), empty.base());
    let content = file::read(&segment::file_path(dir, base, "index"), FILE_BYTES_MAX)?;
    let mut known = Index::decode(&content.unwrap_or_default(), base, size as u32);
    if !ends_at_a_batch(&known, base, reader)? || has_no_times(&known, reader)? {
        known = Index::default();
    }
    let from = known.last().map_or(0, |last| last.position as usize);
    let mut index = CompleteIndex {
        good: known.len(),
        builder: empty.resume(known),
        end: from,
        next_offset: base,
    };
    let mut walk = HeaderWalk::new(reader, from, size);
    let mut loaded = from;
    loop {
        load_header(reader, &mut loaded, walk.position())?;
        match walk.step() {
            Ok((at, header)) if header.base_offset >= index.next_offset => {
                index.next_offset = header.next_offset();
                index.end = walk.position();
                index.builder.note(at, &header);
            }
            // Damage in a segment that no start reads any more is found by walking.
            _ => return Ok(index),
        }
    }
}

/// Brings the batch header at `position` into memory, where all before `loaded` is. A page that the
/// medium cannot read is an error here; touching it would be SIGBUS.
pub(super) fn load_header(
    reader: &MapReader,
    loaded: &mut usize,
    position: usize,
) -> io::Result<()> {
    if position + batch::HEADER_BYTES > *loaded {
        let end = (position + WALK_WINDOW_BYTES).min(reader.len());
        scan::populate(reader, position.max(*loaded).min(end)..end)?;
        *loaded = end;
    }
    Ok(())
}

/// Whether the last entry is of the batch that lies where it says. One that was written for a batch
/// that is no more has a sound checksum, but what was appended since would not follow it.
fn ends_at_a_batch(entries: &Index, base: i64, reader: &MapReader) -> io::Result<bool> {
    let Some(last) = entries.last() else {
        return Ok(true);
    };
    let position = last.position as usize;
    load_header(reader, &mut 0, position)?;
    let batch = HeaderWalk::new(reader, position, reader.len()).step();
    let offset = base + i64::from(last.relative_offset);
    Ok(batch.is_ok_and(|(_, header)| header.base_offset == offset))
}

/// Whether the entries know no time because they were written by a version that believed a max timestamp
/// of -1, as the segment's first batch has it.
fn has_no_times(entries: &Index, reader: &MapReader) -> io::Result<bool> {
    let is_timeless = entries
        .last()
        .is_some_and(|last| last.max_timestamp_before == -1);
    if !is_timeless || entries.len() == 1 {
        return Ok(false);
    }
    load_header(reader, &mut 0, 0)?;
    let first = HeaderWalk::new(reader, 0, reader.len()).step();
    Ok(first.is_ok_and(|(_, header)| header.claims_no_time_for_all()))
}

/// Writes what an index file lacked, so that the next load walks fewer batches.
pub(super) fn complete(dir: &Path, builder: &IndexBuilder, good: usize) {
    let count = builder.index.len();
    if good < count {
        write_if_possible(dir, builder.base(), &builder.tail(good..count));
    }
}

/// Writes entries. If that fails, the next load of the index walks more batches.
pub(super) fn write_if_possible(dir: &Path, base: i64, entries: &IndexTail) {
    if let Err(error) = write(dir, base, entries)
        && let Some(kept_back) = NO_INDEX.admit()
    {
        tracing::warn!(dir = %dir.display(), base, %error, kept_back, "an index could not be completed");
    }
}

/// Writes entries and cuts what was behind.
pub(super) fn write(dir: &Path, base: i64, entries: &IndexTail) -> io::Result<()> {
    let file = file::open(&segment::file_path(dir, base, "index"), true)?;
    file::write_at(&file, &entries.bytes, entries.at)?;
    file::truncate(&file, entries.at + entries.bytes.len() as u64)
}
