//! Damage of a log: the bytes of a segment that are damaged, and the offsets that cannot be read because of it.
//!
//! Damage is contained: what is sound is read, the rest is refused, and no byte is changed. Only
//! `millstream verify --repair` changes it.
//!
//! The file `damage` keeps what was found, because a start does not read all of a log again. It is replaced
//! as a whole. Layout, big endian: magic "MSDM" 0, version u16 4, count u32 6, then for each: first
//! offset i64 0, offset behind the last i64 8, segment base i64 16, first byte u32 24, byte behind the
//! last u32 28, kind u8 32; crc32 of all before.

use crate::io::file;
use crate::log::ReadError;
use crate::log::batch::array_at;
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

/// What is wrong with a part of a segment.
/// The numbers are those of the file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Why {
    #[error("the batch's CRC-32C does not match")]
    BadCrc = 1,
    #[error("these bytes are no batch")]
    NoBatch = 2,
    #[error("the batch has another offset than it should")]
    WrongOffset = 3,
    #[error("the segment ends before its time")]
    Short = 4,
    #[error("the segment is not there")]
    Missing = 5,
    #[error("the medium cannot read these bytes")]
    Unreadable = 6,
    #[error("zeros where batches should be")]
    Zeros = 7,
    #[error("what an older segment left in the file where batches should be")]
    Recycled = 8,
}

impl Why {
    const ALL: [Why; 8] = [
        Why::BadCrc,
        Why::NoBatch,
        Why::WrongOffset,
        Why::Short,
        Why::Missing,
        Why::Unreadable,
        Why::Zeros,
        Why::Recycled,
    ];

    /// Whether it is kept over a restart. What the medium cannot read now it may read then, and a file
    /// that is not there may have been put back.
    pub fn is_lasting(self) -> bool {
        !matches!(self, Why::Missing | Why::Unreadable)
    }
}

/// A part of a log that cannot be read.
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
    /// The error for a read at this offset.
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
        self.in_segment(segment_base).next().is_some()
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
            if found.offsets.end <= offset {
                sound.start = sound.start.max(found.bytes.end);
            } else {
                sound.end = sound.end.min(found.bytes.start);
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

    /// Adds what was found. Returns the damage that was not known.
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
            bytes.push(found.why as u8);
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
    let offset = |at| i64::from_be_bytes(array_at(entry, at));
    let position = |at| u32::from_be_bytes(array_at(entry, at)) as usize;
    Some(Damage {
        offsets: offset(0)..offset(8),
        segment_base: offset(16),
        bytes: position(24)..position(28),
        why: Why::ALL.into_iter().find(|why| *why as u8 == entry[32])?,
    })
}

/// Whether an error means that the medium lost data, rather than that memory or permission is missing.
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
