//! A segment's bytes: one writer appends to the file, any number of readers slice what it published
//! out of a mapping of the same pages.
//!
//! Bytes are written with pwritev(2) and not stored through the mapping: a store into a fresh page
//! has the kernel zero it first (and the pages that it reads ahead), and after each sync it faults
//! once more on every page that the sync has protected; and where the page cache has large folios, a
//! store of any size dirties a whole one. With a sync after each 256 KiB a write was five times as
//! fast, without any up to thrice (docs/architecture.md).
//!
//! The whole segment's addresses are taken once, so that slices never move. Only bytes that were
//! published are ever read, and they lie in the file, so no load can meet SIGBUS.

use super::file::{self, Reserved};
use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, RemapOptions};
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
/// What [`MapReader::populate`] starts to read behind what it was asked for: sequential readers come for it next.
const READ_AHEAD_BYTES: usize = 4 << 20;
/// Pages that one mincore(2) asks about.
const PAGES_AT_ONCE: usize = 1024;

/// Segments that are mapped now, and the most that may be.
static MAPPED: AtomicUsize = AtomicUsize::new(0);
static MAPPED_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// How many segments are mapped.
pub fn mapped() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// From now on no more than `most` segments are mapped at once.
pub fn set_mapped_max(most: usize) {
    MAPPED_MAX.store(most, Ordering::Relaxed);
}

/// Counts a mapping for as long as it lives.
struct Counted(());

impl Counted {
    fn new() -> io::Result<Counted> {
        let before = MAPPED.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(());
        if before < MAPPED_MAX.load(Ordering::Relaxed) {
            Ok(counted)
        } else {
            Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "too many segments are mapped",
            ))
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        MAPPED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The regions that are mapped of each file, by device and inode number.
static LIVE: Mutex<BTreeMap<FileId, usize>> = Mutex::new(BTreeMap::new());

type FileId = (u64, u64);

/// Counts a mapping of a file for as long as it lives.
struct Live(FileId);

impl Live {
    fn new(id: FileId) -> Live {
        *live().entry(id).or_default() += 1;
        Live(id)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = live();
        if let Entry::Occupied(mut regions) = live.entry(self.0) {
            *regions.get_mut() -= 1;
            if *regions.get() == 0 {
                regions.remove();
            }
        }
    }
}

fn live() -> MutexGuard<'static, BTreeMap<FileId, usize>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id_of(file: &File) -> io::Result<FileId> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether this process has any part of the file mapped. A slice that is being sent counts.
pub fn is_mapped(file: &File) -> io::Result<bool> {
    let id = id_of(file)?;
    Ok(live().contains_key(&id))
}

struct Region {
    map: UnsafeCell<MmapRaw>,
    /// Start of the mapping; it never moves (`remap` is asked to stay in place).
    start: *mut u8,
    /// Bytes that are written for good: nothing below this is stored again.
    published: AtomicUsize,
    _counted: Counted,
    // Declared behind `map`, so that the file counts as mapped until it no longer is.
    _live: Live,
}

// SAFETY: bytes below `published` are immutable and may be read from any thread; bytes at and above
// it are read by nobody, and written through the file only. `map` itself is touched only by the one
// `MapWriter` (`seal`) and by drop, when no other handle is left.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The right to append to a file that is mapped. There is one for each mapping.
pub struct MapWriter {
    region: Arc<Region>,
    file: Arc<File>,
    reserved: usize,
    capacity: usize,
}

/// The right to read what was published.
#[derive(Clone)]
pub struct MapReader {
    region: Arc<Region>,
}

/// Maps `file` for appending. `capacity` (bytes) is the most that the mapping will ever hold,
/// `published` how much of the file is already written for good.
///
/// # Errors
/// `OutOfMemory` when addresses or maps (`vm.max_map_count`) run out; `InvalidInput` when `published` is
/// beyond what is reserved or beyond `capacity`.
pub fn map_for_append(
    file: &Arc<File>,
    capacity: usize,
    published: usize,
    reserved: Reserved,
) -> io::Result<MapWriter> {
    let usable = (reserved.bytes() as usize).min(capacity);
    if published > usable {
        let message = "published bytes lie beyond the reserved ones";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let counted = Counted::new()?;
    let live = Live::new(id_of(file)?);
    let map = MmapOptions::new()
        .len(capacity.max(1))
        .map_raw_read_only(&**file)?;
    Ok(MapWriter {
        region: Region::new(map, published, counted, live),
        file: Arc::clone(file),
        reserved: usable,
        capacity,
    })
}

/// Maps the first `length` bytes of a file that is not written any more.
///
/// # Errors
/// ENOMEM as above; `UnexpectedEof` when the file is shorter than `length`.
pub fn map_for_reading(file: &File, length: usize) -> io::Result<MapReader> {
    if file.metadata()?.len() < length as u64 {
        let message = "the file is shorter than the bytes to map";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    let counted = Counted::new()?;
    let live = Live::new(id_of(file)?);
    let map = MmapOptions::new()
        .len(length.max(1))
        .map_raw_read_only(file)?;
    Ok(MapReader {
        region: Region::new(map, length, counted, live),
    })
}

impl Region {
    fn new(map: MmapRaw, published: usize, counted: Counted, live: Live) -> Arc<Region> {
        // What a read of a mapped page reads ahead no one can pace; `populate` says what is read. It is
        // advice, and a kernel without it reads ahead.
        let _ = map.advise(Advice::Random);
        let start = map.as_mut_ptr();
        Arc::new(Region {
            map: UnsafeCell::new(map),
            start,
            published: AtomicUsize::new(published),
            _counted: counted,
            _live: live,
        })
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.published.load(Ordering::Acquire));
        // SAFETY: the range is inside the mapping and below `published`: initialised, never written
        // again, and mapped for as long as this region lives. The files are this broker's own (it
        // holds the data directory's lock); another process that truncates them breaks this promise,
        // as with every mapping.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }
}

impl MapWriter {
    pub fn reader(&self) -> MapReader {
        MapReader {
            region: Arc::clone(&self.region),
        }
    }

    /// Bytes published so far.
    pub fn len(&self) -> usize {
        self.region.published.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that can still be appended before more disk space must be reserved.
    pub fn room(&self) -> usize {
        self.reserved - self.len()
    }

    /// Bytes reserved on disk for this mapping.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes note that more of the file is reserved.
    pub fn extend(&mut self, reserved: Reserved) {
        let usable = (reserved.bytes() as usize).min(self.capacity);
        self.reserved = self.reserved.max(usable);
    }

    /// The published bytes in `range`, borrowed.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.region.bytes(range)
    }

    /// Appends `parts`, one after the other, and publishes them.
    ///
    /// # Errors
    /// The medium's. Nothing is published then, but some of the bytes may be in the file: it must not
    /// be appended to any more, for shorter parts would leave the rest of these behind them.
    ///
    /// # Panics
    /// When they are longer than [`room`](Self::room): the caller has checked.
    pub fn append(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        let bytes = parts[0].len() + parts[1].len();
        assert!(bytes <= self.room(), "append beyond the reserved bytes");
        let at = self.len();
        file::write_parts_at(&self.file, parts, at as u64)?;
        // Release: a thread that sees the new length sees the bytes.
        self.region.published.store(at + bytes, Ordering::Release);
        Ok(())
    }

    /// Gives up the addresses beyond the published bytes and the right to append; the file may be
    /// truncated to the published length afterwards. Slices that are out stay valid.
    pub fn seal(self) -> MapReader {
        let keep = self.len().div_ceil(PAGE).max(1) * PAGE;
        if keep < self.capacity {
            let in_place = RemapOptions::new().may_move(false);
            // SAFETY: this handle is the only one that ever touches `map` (readers use `start`), and
            // we own it. Shrinking in place keeps `start` and all published bytes mapped; what is
            // unmapped lies above `published`, where no slice can be.
            let shrunk = unsafe { (*self.region.map.get()).remap(keep, in_place) };
            // When that fails, addresses are wasted and nothing else: no slice reaches there.
            drop(shrunk);
        }
        self.reader()
    }
}

impl MapReader {
    /// Bytes published so far.
    pub fn len(&self) -> usize {
        self.region.published.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The published bytes in `range`, borrowed.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.region.bytes(range)
    }

    /// The published bytes in `range` as a `Bytes` that keeps the mapping alive; nothing is copied.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.len());
        Bytes::from_owner(MapSlice {
            reader: self.clone(),
            range,
        })
    }

    /// Whether every page of `range` is in memory (mincore(2)), so that reading it cannot stall on
    /// the disk. An answer of yes can be stale, never wrong for long.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn is_resident(&self, range: Range<usize>) -> bool {
        assert!(range.start <= range.end && range.end <= self.len());
        let (start, length) = page_span(&range);
        (start..start + length)
            .step_by(PAGES_AT_ONCE * PAGE)
            .all(|at| self.pages_are_resident(at, (start + length - at).min(PAGES_AT_ONCE * PAGE)))
    }

    /// `start` is a page boundary, `length` at most [`PAGES_AT_ONCE`] pages.
    fn pages_are_resident(&self, start: usize, length: usize) -> bool {
        let mut pages = [0u8; PAGES_AT_ONCE];
        // SAFETY: the span starts on a page of the mapping and lies inside it (the caller's range
        // does), and `pages` has a byte for each of its pages.
        let result = unsafe {
            let address = self.region.start.add(start);
            libc::mincore(address.cast(), length, pages.as_mut_ptr())
        };
        let pages = &pages[..length.div_ceil(PAGE)];
        result == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// Reads the pages of `range` into memory, and starts to read some behind them. Blocks: for a worker
    /// thread.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let ahead = (range.end + READ_AHEAD_BYTES).min(self.len());
        self.will_need(range.start..ahead.max(range.end));
        self.populate_pages(range)
    }

    /// As [`populate`](Self::populate), and nothing beyond `range`.
    ///
    /// # Panics
    /// When `range` is not inside the published bytes.
    pub fn populate_only(&self, range: Range<usize>) -> io::Result<()> {
        self.will_need(range.clone());
        self.populate_pages(range)
    }

    fn populate_pages(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.len());
        let (start, length) = page_span(&range);
        // SAFETY: the span lies inside the mapping; MADV_POPULATE_READ changes no content and
        // reports a bad page as an error where a load would raise SIGBUS (madvise(2)).
        let result = unsafe {
            let address = self.region.start.add(start);
            libc::madvise(address.cast(), length, libc::MADV_POPULATE_READ)
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Starts to read pages that are not in memory, all of them at once.
    fn will_need(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len());
        let (start, length) = page_span(&range);
        // SAFETY: the span lies inside the mapping; MADV_WILLNEED changes no content: it starts to read
        // what is not there. It is advice: pages that it does not bring are read when they are populated.
        unsafe {
            let address = self.region.start.add(start);
            libc::madvise(address.cast(), length, libc::MADV_WILLNEED);
        }
    }

    /// Whether `bytes` points into this mapping: how a test shows that nothing was copied.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        let start = self.region.start as usize;
        let at = bytes.as_ptr() as usize;
        at >= start && at + bytes.len() <= start + self.len()
    }
}

/// The pages that cover `range`: offset of the first and length in bytes.
fn page_span(range: &Range<usize>) -> (usize, usize) {
    let start = range.start / PAGE * PAGE;
    (start, range.end - start)
}

struct MapSlice {
    reader: MapReader,
    range: Range<usize>,
}

impl AsRef<[u8]> for MapSlice {
    fn as_ref(&self) -> &[u8] {
        self.reader.bytes(self.range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fault::{self, Op};

    fn mapped(capacity: usize, reserved: u64) -> (tempfile::TempDir, Arc<File>, MapWriter) {
        let dir = tempfile::tempdir().unwrap();
        let file = Arc::new(file::open(&dir.path().join("segment"), true).unwrap());
        let reserved = file::reserve(&file, reserved).unwrap();
        let writer = map_for_append(&file, capacity, 0, reserved).unwrap();
        (dir, file, writer)
    }

    #[test]
    fn appended_bytes_are_read_without_a_copy_and_reach_the_file() {
        let (dir, _file, mut writer) = mapped(1 << 20, 8192);
        writer.append([b"je", b"llo"]).unwrap();
        let reader = writer.reader();
        let slice = reader.slice(0..5);
        assert_eq!(slice, b"jello"[..]);
        assert!(reader.contains(&slice));
        assert!(reader.is_resident(0..5));
        let on_disk = std::fs::read(dir.path().join("segment")).unwrap();
        assert_eq!(&on_disk[..5], b"jello");
    }

    #[test]
    fn slices_outlive_growth_sealing_truncation_and_the_writer() {
        let (_dir, file, mut writer) = mapped(1 << 20, 4096);
        writer.append([&[7; 1000], &[7; 3000]]).unwrap();
        let slice = writer.reader().slice(100..4000);
        writer.extend(file::reserve(&file, 16384).unwrap());
        assert_eq!(writer.room(), 16384 - 4000);
        let reader = writer.seal();
        file::truncate(&file, 4000).unwrap();
        drop(reader);
        assert!(slice.iter().all(|byte| *byte == 7));
    }

    #[test]
    #[should_panic(expected = "reserved")]
    fn an_append_never_leaves_the_reserved_bytes() {
        let (_dir, _file, mut writer) = mapped(1 << 20, 4096);
        let _ = writer.append([&[0; 4097], &[]]);
    }

    #[test]
    fn a_write_that_fails_publishes_nothing() {
        let (_dir, _file, mut writer) = mapped(1 << 20, 4096);
        writer.append([b"a", b"b"]).unwrap();
        fault::inject(Op::Write, 0, libc::EIO, false);
        let error = writer.append([b"c", b"d"]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(writer.len(), 2);
    }

    #[test]
    fn a_full_disk_is_an_error_not_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let file = file::open(&dir.path().join("segment"), true).unwrap();
        fault::inject(Op::Reserve, 0, libc::ENOSPC, false);
        let error = file::reserve(&file, 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
