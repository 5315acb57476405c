//! The file of a segment's index: reading it, completing it, writing it. It is a cache: what it lacks is
//! found by walking batch headers, and where it cannot be written nothing is lost.

use super::batch;
use super::index::{self, Index};
use super::scan;
use super::segment::{self, IndexBuilder, Walk};
use crate::io::file;
use crate::io::map::MapReader;
use crate::io::rate_limited::{self, RateLimited};
use std::io;
use std::path::Path;

/// An index file can have an entry for every batch of the largest segment, not more.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Bytes that a walk over batch headers brings into memory at once.
const WALK_WINDOW_BYTES: usize = 1 << 20;

/// With a full disk each segment would say so.
static NO_INDEX: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);

/// Reads a segment's index file and adds what it lacks by walking the batches. The second value says
/// how many entries at the start of the file are good; the third, where the batches end that could be
/// walked, and the offset after them.
pub(super) fn open(
    dir: &Path,
    empty: IndexBuilder,
    reader: &MapReader,
) -> io::Result<(IndexBuilder, usize, (usize, i64))> {
    let (size, base) = (reader.len(), empty.base());
    let content = file::read(&segment::file_path(dir, base, "index"), FILE_BYTES_MAX)?;
    let decoded = Index::decode(&content.unwrap_or_default(), base, size as u32);
    let known = if ends_at_a_batch(&decoded, base, reader)? {
        decoded
    } else {
        Index::default()
    };
    let good = known.len();
    let from = known.last().map_or(0, |last| last.position as usize);
    let (mut end, mut next_offset) = (from, base);
    let mut builder = empty.resume(known);
    let mut walk = Walk::new(reader, from, size);
    let mut loaded = from;
    loop {
        load_header(reader, &mut loaded, walk.position())?;
        let Ok((at, header)) = walk.step() else {
            break;
        };
        // Damage in a segment that no start reads any more: what follows is found by walking.
        if header.base_offset < next_offset {
            break;
        }
        next_offset = header.next_offset();
        end = walk.position();
        builder.note(at, &header);
    }
    Ok((builder, good, (end, next_offset)))
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
    let batch = Walk::new(reader, position, reader.len()).step();
    let offset = base + i64::from(last.relative_offset);
    Ok(batch.is_ok_and(|(_, header)| header.base_offset == offset))
}

/// Writes what an index file lacked, so that the next to open it need not walk so far. It is only a
/// cache: where it cannot be written, nothing is lost.
pub(super) fn complete(dir: &Path, builder: &IndexBuilder, good: usize) {
    let (entries, base) = (&builder.index, builder.base());
    if good == entries.len() {
        return;
    }
    let bytes = entries.encode(good..entries.len(), base);
    let at = (good * index::ENTRY_BYTES) as u64;
    write_if_possible(dir, base, &bytes, at);
}

/// Writes entries at a place of the file; where that fails, the next to open the index walks farther.
pub(super) fn write_if_possible(dir: &Path, base: i64, entries: &[u8], at: u64) {
    if let Err(error) = write(dir, base, entries, at)
        && let Some(kept_back) = NO_INDEX.admit()
    {
        tracing::warn!(dir = %dir.display(), base, %error, kept_back, "an index could not be completed");
    }
}

/// Writes entries at a place of the file and cuts what was behind.
pub(super) fn write(dir: &Path, base: i64, bytes: &[u8], at: u64) -> io::Result<()> {
    let file = file::open(&segment::file_path(dir, base, "index"), true)?;
    file::write_at(&file, bytes, at)?;
    file::truncate(&file, at + bytes.len() as u64)
}
