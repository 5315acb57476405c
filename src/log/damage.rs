//! What of a log is damaged: which bytes of which segment, and which offsets can therefore not be read.
//!
//! Damage is contained, never mended here: what is sound is read, the rest is refused, and no byte is
//! changed. `millstream verify --repair` mends.
//!
//! The file `damage` keeps what was found, for a start does not read all of a log again. It is replaced
//! as a whole. Layout, big endian: magic "MSDM" 0, version u16 4, count u32 6, then for each: first
//! offset i64 0, offset behind the last i64 8, segment base i64 16, first byte u32 24, byte behind the
//! last u32 28, kind u8 32; crc32 of all before.

use super::ReadError;
use super::batch::BatchHeader;
use super::scan::{Found, Scan, Step};
use super::segment::{self, IndexBuilder};
use crate::io::file;
use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::path::Path;
use thiserror::Error;

const MAGIC: &[u8; 4] = b"MSDM";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 10;
const ENTRY_BYTES: usize = 33;
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "damage";

/// What is wrong with a stretch of a segment.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Why {
    #[error("the batch's CRC-32C does not match")]
    BadCrc,
    #[error("these bytes are no batch")]
    NoBatch,
    #[error("the batch has another offset than it should")]
    WrongOffset,
    #[error("zeros where batches should be")]
    Zeros,
    #[error("what an older segment left in the file where batches should be")]
    Recycled,
    #[error("the segment ends before its time")]
    Short,
    #[error("the segment is not there")]
    Missing,
    #[error("the medium cannot read these bytes")]
    Unreadable,
}

impl Why {
    /// Whether it is kept over a restart. What the medium cannot read now it may read then, and a file
    /// that is not there may have been put back.
    pub fn is_lasting(self) -> bool {
        !matches!(self, Why::Missing | Why::Unreadable)
    }

    fn code(self) -> u8 {
        match self {
            Why::BadCrc => 1,
            Why::NoBatch => 2,
            Why::WrongOffset => 3,
            Why::Short => 4,
            Why::Missing => 5,
            Why::Unreadable => 6,
            Why::Zeros => 7,
            Why::Recycled => 8,
        }
    }

    fn of_code(code: u8) -> Option<Why> {
        let all = [
            Why::BadCrc,
            Why::NoBatch,
            Why::WrongOffset,
            Why::Short,
            Why::Missing,
            Why::Unreadable,
            Why::Zeros,
            Why::Recycled,
        ];
        all.into_iter().find(|why| why.code() == code)
    }
}

/// A stretch of a log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Empty where bytes that are no batch follow the last one of a segment.
    pub offsets: Range<i64>,
    pub segment_base: i64,
    /// Of the segment's file; empty where batches are missing altogether.
    pub bytes: Range<usize>,
    pub why: Why,
}

impl Damage {
    /// What a reader who asks for this offset is told.
    pub fn refuse(&self, asked: i64) -> ReadError {
        match self.why {
            Why::Unreadable => ReadError::Unreadable { asked },
            _ => ReadError::Corrupt {
                asked,
                segment_base: self.segment_base,
            },
        }
    }
}

/// The damage that is known of a log, in the order of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageList(Vec<Damage>);

impl DamageList {
    pub fn iter(&self) -> impl Iterator<Item = &Damage> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The damage that holds this offset.
    pub fn at(&self, offset: i64) -> Option<&Damage> {
        self.0.iter().find(|found| found.offsets.contains(&offset))
    }

    pub fn is_in(&self, segment_base: i64) -> bool {
        self.0
            .iter()
            .any(|found| found.segment_base == segment_base)
    }

    /// Whether damage begins at this byte of a segment.
    pub fn begins_at(&self, segment_base: i64, position: usize) -> bool {
        self.in_segment(segment_base)
            .any(|found| found.bytes.start == position)
    }

    /// Whether there is nothing but damage in a segment from this byte on.
    pub fn is_last_from(&self, segment_base: i64, position: usize, size: usize) -> bool {
        self.in_segment(segment_base)
            .any(|found| found.bytes.contains(&position) && found.bytes.end >= size)
    }

    fn in_segment(&self, segment_base: i64) -> impl Iterator<Item = &Damage> {
        let is_there = move |found: &&Damage| found.segment_base == segment_base;
        self.0.iter().filter(is_there)
    }

    /// The bytes of a segment, below `end`, between the damage before `offset` and that behind it: where
    /// batches follow one another.
    pub fn sound_bytes(&self, segment_base: i64, offset: i64, end: usize) -> Range<usize> {
        let mut sound = 0..end;
        for found in self.in_segment(segment_base) {
            match found.offsets.end <= offset {
                true => sound.start = sound.start.max(found.bytes.end),
                false => sound.end = sound.end.min(found.bytes.start),
            }
        }
        sound
    }

    /// The stretches of a segment, below `end`, in which batches follow one another.
    pub fn sound_pieces(&self, segment_base: i64, end: usize) -> Vec<Range<usize>> {
        let mut from = 0;
        let mut pieces = Vec::new();
        for found in self.in_segment(segment_base) {
            pieces.push(from..found.bytes.start.min(end));
            from = found.bytes.end;
        }
        pieces.push(from..end);
        pieces.retain(|piece| piece.start < piece.end);
        pieces
    }

    /// Takes in what was found; returns what of it was not known.
    pub fn add(&mut self, found: Vec<Damage>) -> Vec<Damage> {
        let is_new = |damage: &Damage| !self.0.contains(damage);
        let new: Vec<Damage> = found.into_iter().filter(is_new).collect();
        self.0.extend(new.iter().cloned());
        self.0
            .sort_by_key(|found| (found.offsets.start, found.segment_base, found.bytes.start));
        new
    }

    /// Forgets what lies below the log's start.
    pub fn forget_below(&mut self, start: i64) {
        self.0
            .retain(|found| found.offsets.end > start || found.segment_base >= start);
    }

    /// How many offsets at or above `start` cannot be read.
    pub fn offset_count(&self, start: i64) -> u64 {
        let count = |found: &Damage| found.offsets.end - found.offsets.start.max(start);
        self.0.iter().map(|found| count(found).max(0) as u64).sum()
    }

    fn encode(&self) -> Vec<u8> {
        let lasting: Vec<&Damage> = self.0.iter().filter(|it| it.why.is_lasting()).collect();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + lasting.len() * ENTRY_BYTES + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(lasting.len() as u32).to_be_bytes());
        for found in lasting {
            for number in [found.offsets.start, found.offsets.end, found.segment_base] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            for position in [found.bytes.start, found.bytes.end] {
                bytes.extend_from_slice(&(position as u32).to_be_bytes());
            }
            bytes.push(found.why.code());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` for anything but a sound list of this version.
    pub fn decode(bytes: &[u8]) -> Option<DamageList> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (head, rest) = content.split_at_checked(HEAD_BYTES)?;
        let (entries, odd) = rest.as_chunks::<ENTRY_BYTES>();
        let count = u32::from_be_bytes(head[6..10].try_into().ok()?);
        let sound = crc32fast::hash(content) == u32::from_be_bytes(*crc)
            && head.starts_with(MAGIC)
            && head[4..6] == VERSION.to_be_bytes()
            && odd.is_empty()
            && entries.len() == count as usize;
        let list = sound.then(|| entries.iter().map(decode_entry).collect::<Option<Vec<_>>>());
        list.flatten().map(DamageList)
    }

    /// Reads the list of a partition's directory; one that is not there or torn knows of nothing.
    ///
    /// # Errors
    /// Only when the medium fails.
    pub fn read(dir: &Path) -> io::Result<DamageList> {
        let content = file::read(&dir.join(FILE_NAME), FILE_BYTES_MAX)?;
        let list = content.as_deref().and_then(DamageList::decode);
        Ok(list.unwrap_or_default())
    }

    /// Replaces the list of a partition's directory, durably.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        file::replace(&dir.join(FILE_NAME), &self.encode())?;
        file::sync_dir(dir)
    }
}

fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> Option<Damage> {
    let long = |at: usize| Some(i64::from_be_bytes(entry[at..at + 8].try_into().ok()?));
    let position =
        |at: usize| Some(u32::from_be_bytes(entry[at..at + 4].try_into().ok()?) as usize);
    Some(Damage {
        offsets: long(0)?..long(8)?,
        segment_base: long(16)?,
        bytes: position(24)?..position(28)?,
        why: Why::of_code(entry[32])?,
    })
}

/// What a segment should hold.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub base: i64,
    /// The offset after its last record; `i64::MAX` when that is not known.
    pub end: i64,
    /// Below this offset records may be missing: compaction was at work there.
    pub gaps_end: i64,
    pub index_interval_bytes: usize,
}

/// What a segment holds.
pub struct Survey {
    pub damage: Vec<Damage>,
    /// Of the sound batches.
    pub index: IndexBuilder,
    /// Milliseconds; -1 where the first sound batch has none.
    pub first_timestamp: i64,
    /// The end of the last sound batch.
    pub end_position: usize,
    /// The offset after the last sound batch.
    pub next_offset: i64,
    /// Bytes of the file.
    pub size: usize,
}

/// Whether an error says that the medium has lost what it should have, and not that there is no memory
/// or no permission.
pub fn is_of_medium(error: &io::Error) -> bool {
    let lost = [
        libc::EIO,
        libc::EFAULT,
        libc::EBADMSG,
        libc::EUCLEAN,
        libc::ENODATA,
        libc::EREMOTEIO,
    ];
    let kind = error.kind();
    kind == io::ErrorKind::NotFound
        || kind == io::ErrorKind::UnexpectedEof
        || error
            .raw_os_error()
            .is_some_and(|code| lost.contains(&code))
}

/// Checks a segment, every batch of it, from `from` on: a position where a batch begins, and the offset
/// that it should have. `visit` is told of every sound batch.
///
/// # Errors
/// Those that are not of the medium (see [`is_of_medium`]); what the medium lost is damage.
pub fn survey(
    dir: &Path,
    expected: Expected,
    from: (usize, i64),
    visit: &mut dyn FnMut(&Found, &[u8]),
) -> io::Result<Survey> {
    let mut surveyor = Surveyor {
        expected,
        pending: None,
        survey: Survey {
            damage: Vec::new(),
            index: IndexBuilder::new(expected.base, expected.index_interval_bytes),
            first_timestamp: -1,
            end_position: from.0,
            next_offset: from.1,
            size: 0,
        },
    };
    match Scan::open_at(&segment::file_path(dir, expected.base, "log"), from) {
        Ok(mut scan) => {
            surveyor.survey.size = scan.size();
            surveyor.run(&mut scan, visit)?;
        }
        Err(error) if is_of_medium(&error) => {
            let why = match error.kind() {
                io::ErrorKind::NotFound => Why::Missing,
                _ => Why::Unreadable,
            };
            surveyor.lose(from.0, why);
            surveyor.finish(from.0);
        }
        Err(error) => return Err(error),
    }
    Ok(surveyor.survey)
}

fn peek(scan: &mut Scan, position: usize) -> io::Result<Option<BatchHeader>> {
    match scan.peek(position) {
        Err(error) if is_of_medium(&error) => Ok(None),
        header => header,
    }
}

struct Surveyor {
    expected: Expected,
    /// Damage whose end is not found yet: where it begins.
    pending: Option<(usize, Why)>,
    survey: Survey,
}

impl Surveyor {
    fn run(&mut self, scan: &mut Scan, visit: &mut dyn FnMut(&Found, &[u8])) -> io::Result<()> {
        loop {
            let position = scan.position();
            match scan.step() {
                Ok(None) => break,
                Ok(Some(Step::Batch(found))) => self.batch(&found, scan, visit)?,
                Ok(Some(Step::Damage { position, .. })) => self.lose(position, Why::NoBatch),
                Ok(Some(Step::Recycled { position, .. })) => self.lose(position, Why::Recycled),
                Ok(Some(Step::Zeros { position, .. })) => self.lose(position, Why::Zeros),
                Err(error) if is_of_medium(&error) => {
                    self.lose(position, Why::Unreadable);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.finish(scan.size());
        Ok(())
    }

    fn batch(
        &mut self,
        found: &Found,
        scan: &mut Scan,
        visit: &mut dyn FnMut(&Found, &[u8]),
    ) -> io::Result<()> {
        if !found.crc_matches {
            self.lose(found.position, Why::BadCrc);
            return Ok(());
        }
        if !self.fits(found, scan)? {
            self.lose(found.position, Why::WrongOffset);
            return Ok(());
        }
        let header = &found.header;
        self.close(header.base_offset, found.position);
        if self.survey.end_position == 0 {
            self.survey.first_timestamp = header.base_timestamp;
        }
        self.survey.index.note(found.position, header);
        self.survey.end_position = found.end;
        self.survey.next_offset = header.next_offset();
        visit(found, scan.bytes(found));
        Ok(())
    }

    /// Whether a batch has the offset that it should have. It is not under the checksum: one that does
    /// not follow the batch before it, though the next one does, is wrong itself.
    fn fits(&self, found: &Found, scan: &mut Scan) -> io::Result<bool> {
        let (header, next) = (&found.header, self.survey.next_offset);
        let end = header.next_offset();
        if header.base_offset <= next || end > self.expected.end {
            return Ok(header.base_offset == next && end <= self.expected.end);
        }
        let in_gap = header.base_offset < self.expected.gaps_end;
        let is_behind_damage = self.pending.is_some();
        let Some(behind) = peek(scan, found.end)? else {
            // Nothing behind it tells; the segment's end does, or what is damaged before it.
            return Ok(is_behind_damage || in_gap || end == self.expected.end);
        };
        match behind.base_offset.cmp(&end) {
            Ordering::Equal => Ok(true),
            Ordering::Greater if in_gap => Ok(true),
            Ordering::Greater if !is_behind_damage => {
                let count = i64::from(header.last_offset_delta) + 1;
                Ok(behind.base_offset != next + count)
            }
            Ordering::Less if !is_behind_damage && !in_gap => Ok(false),
            // One of the two is wrong, and before them is nothing that tells which.
            _ => Ok(!self.is_followed(&behind, found.end, scan)?),
        }
    }

    /// Whether the batch at `position` ends where the next one, or the next segment, begins.
    fn is_followed(
        &self,
        header: &BatchHeader,
        position: usize,
        scan: &mut Scan,
    ) -> io::Result<bool> {
        let behind = peek(scan, position + header.size())?;
        let follows = behind.map_or(self.expected.end, |behind| behind.base_offset);
        Ok(follows == header.next_offset())
    }

    fn lose(&mut self, position: usize, why: Why) {
        self.pending.get_or_insert((position, why));
    }

    /// A sound batch begins here.
    fn close(&mut self, offset: i64, position: usize) {
        let next = self.survey.next_offset;
        let (start, why) = match self.pending.take() {
            Some(pending) => pending,
            None if offset == next || offset < self.expected.gaps_end => return,
            None => (position, Why::WrongOffset),
        };
        self.tell(next..offset, start..position, why);
    }

    fn finish(&mut self, size: usize) {
        let (next, end) = (self.survey.next_offset, self.expected.end);
        let last = match end {
            i64::MAX => next,
            end => end,
        };
        match self.pending.take() {
            Some((start, why)) => self.tell(next..last, start..size, why),
            None if next < last => self.tell(next..last, size..size, Why::Short),
            None => {}
        }
    }

    fn tell(&mut self, offsets: Range<i64>, bytes: Range<usize>, why: Why) {
        self.survey.damage.push(Damage {
            offsets,
            segment_base: self.expected.base,
            bytes,
            why,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(offsets: Range<i64>, segment_base: i64, why: Why) -> Damage {
        Damage {
            offsets,
            segment_base,
            bytes: 10..20,
            why,
        }
    }

    #[test]
    fn what_lasts_is_read_back_and_anything_torn_knows_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DamageList::read(dir.path()).unwrap().is_empty());
        let lasting = vec![
            damage(3..5, 0, Why::BadCrc),
            damage(9..9, 0, Why::Zeros),
            damage(70..90, 50, Why::Short),
        ];
        let mut list = DamageList::default();
        assert_eq!(list.add(lasting.clone()).len(), 3);
        assert_eq!(list.add(lasting.clone()), [], "known already");
        list.add(vec![damage(100..200, 100, Why::Unreadable)]);
        list.write(dir.path()).unwrap();
        assert_eq!(DamageList::read(dir.path()).unwrap().0, lasting);
        assert_eq!(list.offset_count(80), 110);
        let bytes = list.encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            assert_eq!(DamageList::decode(&flipped), None, "flipped at {at}");
            assert_eq!(DamageList::decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
