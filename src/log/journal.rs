//! The journal: one sync makes the bytes of many logs durable in it, before they are durable in their own
//! segments.
//!
//! A journal file is a sequence of groups, each written and synced as one. A group starts on a block of
//! 4,096 bytes; layout, big endian: magic "MSJG" 0, crc32 u32 4 of all that follows, run u64 8,
//! sequence u64 16, length u32 24 (bytes of the entries), entries u32 28, then the entries, each:
//! topic id 0, partition u32 16, segment base i64 20, position u32 28, length u32 32, bytes 36.
//!
//! Files are overwritten from their start again and again. A group belongs to the sequence when it has the
//! run of the first one and its number follows, so what an earlier round left behind ends it.
//!
//! An entry repeats what a segment has, or had before a power cut, at the same position. So entries may be
//! restored in any order and any number of times.

use super::batch::array_at;
use super::checkpoint::Checkpoint;
use super::compact::CompactionState;
use super::segment;
use crate::io::file::{self, AlignedBuffer};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"MSJG";
const HEADER_BYTES: usize = 32;
/// Bytes of an entry besides those of the segment.
pub const ENTRY_BYTES: usize = 36;
/// Groups start at multiples of this: no later write touches a block that has an earlier group.
const BLOCK_BYTES: usize = 4096;

/// The position in a segment where an entry's bytes belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub topic_id: Uuid,
    pub partition: u32,
    pub segment_base: i64,
    /// Bytes from the segment's start.
    pub position: u32,
}

/// Bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub target: Target,
    pub bytes: &'a [u8],
}

/// Builds groups, one after the other, in the same memory. It is aligned, so that it can be written past the
/// page cache.
pub struct GroupBuilder {
    buffer: AlignedBuffer,
    /// Bytes of the buffer that the group has.
    used: usize,
    entries: u32,
}

impl GroupBuilder {
    /// For groups of at most `bytes_max` bytes, which is a multiple of 4,096.
    pub fn new(bytes_max: usize) -> GroupBuilder {
        GroupBuilder {
            buffer: AlignedBuffer::new(bytes_max),
            used: HEADER_BYTES,
            entries: 0,
        }
    }

    /// Begins the next group.
    pub fn clear(&mut self) {
        self.used = HEADER_BYTES;
        self.entries = 0;
    }

    /// Takes the memory with the group out, to write it; see [`put_buffer`](Self::put_buffer).
    pub fn take_buffer(&mut self) -> AlignedBuffer {
        std::mem::take(&mut self.buffer)
    }

    /// Puts back what [`take_buffer`](Self::take_buffer) returned.
    pub fn put_buffer(&mut self, buffer: AlignedBuffer) {
        self.buffer = buffer;
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the file that the group will take with an entry of `more` bytes added.
    pub fn size_with(&self, more: usize) -> usize {
        (self.used + ENTRY_BYTES + more).next_multiple_of(BLOCK_BYTES)
    }

    /// Adds an entry, for which [`size_with`](Self::size_with) says that there is room.
    pub fn push(&mut self, target: Target, bytes: &[u8]) {
        self.put(target.topic_id.as_bytes());
        self.put(&target.partition.to_be_bytes());
        self.put(&target.segment_base.to_be_bytes());
        self.put(&target.position.to_be_bytes());
        self.put(&(bytes.len() as u32).to_be_bytes());
        self.put(bytes);
        self.entries += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.as_mut_slice()[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Completes the group in its buffer. Returns its bytes, a whole number of blocks.
    pub fn finish(&mut self, run: u64, sequence: u64) -> usize {
        let end = self.used;
        let length = (end - HEADER_BYTES) as u32;
        let size = end.next_multiple_of(BLOCK_BYTES);
        let group = &mut self.buffer.as_mut_slice()[..size];
        let header = &mut group[..HEADER_BYTES];
        header[..4].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&run.to_be_bytes());
        header[16..24].copy_from_slice(&sequence.to_be_bytes());
        header[24..28].copy_from_slice(&length.to_be_bytes());
        header[28..32].copy_from_slice(&self.entries.to_be_bytes());
        let crc = crc32fast::hash(&group[8..end]);
        group[4..8].copy_from_slice(&crc.to_be_bytes());
        group[end..].fill(0);
        size
    }
}

/// A group that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    pub run: u64,
    pub sequence: u64,
    pub entries: Vec<Entry<'a>>,
    /// Bytes of the file that it takes up.
    pub size: usize,
}

/// The groups at the start of a journal file, in the order they were written. What follows the last
/// is of an earlier round, torn, or was never written.
pub fn groups(content: &[u8]) -> Groups<'_> {
    Groups {
        content,
        follows: None,
    }
}

/// See [`groups`].
pub struct Groups<'a> {
    content: &'a [u8],
    /// Run and sequence that the next group must have.
    follows: Option<(u64, u64)>,
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let group = decode(self.content)?;
        let found = (group.run, group.sequence);
        if self.follows.is_some_and(|expected| expected != found) {
            return None;
        }
        self.follows = Some((group.run, group.sequence.wrapping_add(1)));
        self.content = self.content.get(group.size..).unwrap_or_default();
        Some(group)
    }
}

fn decode(content: &[u8]) -> Option<Group<'_>> {
    let (header, rest) = content.split_at_checked(HEADER_BYTES)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let length = u32_at(header, 24) as usize;
    let body = rest.get(..length)?;
    let end = HEADER_BYTES + length;
    if crc32fast::hash(&content[8..end]) != u32_at(header, 4) {
        return None;
    }
    let mut entries = Vec::new();
    let mut left = body;
    for _ in 0..u32_at(header, 28) {
        let (entry, rest) = decode_entry(left)?;
        entries.push(entry);
        left = rest;
    }
    Some(Group {
        run: u64_at(header, 8),
        sequence: u64_at(header, 16),
        entries,
        size: end.next_multiple_of(BLOCK_BYTES),
    })
}

fn decode_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(ENTRY_BYTES)?;
    let (bytes, rest) = rest.split_at_checked(u32_at(head, 32) as usize)?;
    let target = Target {
        topic_id: Uuid::from_bytes(array_at(head, 0)),
        partition: u32_at(head, 16),
        segment_base: u64_at(head, 20) as i64,
        position: u32_at(head, 28),
    };
    Some((Entry { target, bytes }, rest))
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(header, at))
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(header, at))
}

/// Puts entries of one partition back into its segments, and makes them durable there. For a log that
/// nobody has open, before it is recovered. Returns the bytes that were put back.
///
/// What lies before the log's checkpoint is in the segments already, and compaction may have changed it. Without a
/// checkpoint, what compaction has changed is left out. A segment that is missing was removed on purpose. All of
/// these are left as they are, and so is everything when the directory belongs to another topic.
///
/// # Errors
/// The medium's. Nothing is lost then: the journal is still there.
pub fn restore(dir: &Path, topic_id: Uuid, entries: &[Entry<'_>]) -> io::Result<u64> {
    let bases = match segment::list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        bases => bases?,
    };
    let (from_base, from_position) = match Checkpoint::read(dir)? {
        Some(checkpoint) if checkpoint.topic_id != topic_id => return Ok(0),
        Some(checkpoint) => (checkpoint.segment_base, checkpoint.position),
        None => (first_not_compacted(dir, &bases)?, 0),
    };
    let mut by_segment: BTreeMap<i64, Vec<&Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        let base = entry.target.segment_base;
        let end = u64::from(entry.target.position) + entry.bytes.len() as u64;
        if (base, end) > (from_base, from_position) && bases.binary_search(&base).is_ok() {
            by_segment.entry(base).or_default().push(entry);
        }
    }
    let mut restored = 0;
    for (base, entries) in by_segment {
        let file = file::open(&segment::file_path(dir, base, "log"), false)?;
        // Pages of it may be those of a failed sync: what is written to them could be lost.
        let from = if base == from_base { from_position } else { 0 };
        file::reload(&file, from)?;
        for entry in entries {
            file::write_at(&file, entry.bytes, u64::from(entry.target.position))?;
            restored += entry.bytes.len() as u64;
        }
        file::sync_data(&file)?;
    }
    Ok(restored)
}

/// The base of the first segment that no compaction has rewritten; the last one never is.
fn first_not_compacted(dir: &Path, bases: &[i64]) -> io::Result<i64> {
    let gaps_end = CompactionState::read(dir)?.gaps_end;
    let found = bases.iter().find(|base| **base >= gaps_end);
    Ok(found.or(bases.last()).copied().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: u32, position: u32) -> Target {
        Target {
            topic_id: Uuid::from_u128(7),
            partition,
            segment_base: 40,
            position,
        }
    }

    fn group(run: u64, sequence: u64, entries: &[(u32, &[u8])]) -> Vec<u8> {
        let mut builder = GroupBuilder::new(16 << 10);
        for (partition, bytes) in entries {
            builder.push(target(*partition, 9), bytes);
        }
        let size = builder.finish(run, sequence);
        builder.take_buffer().as_mut_slice()[..size].to_vec()
    }

    fn sequences(content: &[u8]) -> Vec<u64> {
        groups(content).map(|group| group.sequence).collect()
    }

    #[test]
    fn groups_come_back_as_they_were_written() {
        let mut content = group(5, 1, &[(0, b"one"), (3, &[7; 5000])]);
        content.extend(group(5, 2, &[(1, b"two")]));
        content.extend([0; 8192]);
        let read: Vec<Group> = groups(&content).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].entries[1].target, target(3, 9));
        assert_eq!(read[0].entries[1].bytes, [7; 5000]);
        assert_eq!(read[0].size, 8192);
        assert_eq!(read[1].entries[0].bytes, b"two");
    }

    #[test]
    fn the_row_ends_where_an_earlier_round_or_another_run_begins() {
        let mut content = group(5, 7, &[(0, b"new")]);
        content.extend(group(5, 2, &[(0, b"old")]));
        assert_eq!(sequences(&content), [7]);
        let mut content = group(5, 7, &[(0, b"new")]);
        content.extend(group(4, 8, &[(0, b"of a run before")]));
        assert_eq!(sequences(&content), [7]);
    }

    #[test]
    fn a_group_with_any_bit_flipped_ends_the_row() {
        let whole = group(5, 1, &[(0, b"some bytes"), (1, b"more")]);
        let used = HEADER_BYTES + 2 * ENTRY_BYTES + 14;
        for bit in 0..used * 8 {
            let mut torn = whole.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sequences(&torn), [0u64; 0], "bit {bit}");
        }
        assert_eq!(sequences(&whole[..used - 1]), [0u64; 0]);
        assert_eq!(sequences(&[0; 4096]), [0u64; 0]);
    }

    #[test]
    fn a_builder_is_used_again() {
        let mut builder = GroupBuilder::new(8192);
        assert!(builder.is_empty());
        assert_eq!(builder.size_with(10), 4096);
        assert_eq!(builder.size_with(4096), 8192);
        builder.push(target(0, 0), &[1; 6000]);
        builder.finish(1, 1);
        builder.clear();
        builder.push(target(1, 2), b"x");
        let size = builder.finish(1, 2);
        let mut buffer = builder.take_buffer();
        let again = &buffer.as_mut_slice()[..size];
        let read: Vec<Group> = groups(again).collect();
        assert_eq!(read[0].entries.len(), 1);
        assert_eq!(read[0].entries[0].bytes, b"x");
    }

    #[test]
    fn only_what_the_checkpoint_does_not_cover_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = |base| segment::file_path(dir.path(), base, "log");
        let topic_id = Uuid::from_u128(7);
        std::fs::write(path(0), [1; 10]).unwrap();
        std::fs::write(path(40), [1; 10]).unwrap();
        let checkpoint = Checkpoint {
            topic_id,
            durable_offset: 44,
            segment_base: 40,
            position: 6,
            ..Checkpoint::default()
        };
        checkpoint.write(dir.path()).unwrap();
        let entry = |segment_base, position| Entry {
            target: Target {
                segment_base,
                ..target(0, position)
            },
            bytes: &[2; 4],
        };
        let entries = [
            entry(0, 0),
            entry(40, 2),
            entry(40, 6),
            entry(40, 12),
            entry(90, 0),
        ];
        assert_eq!(restore(dir.path(), topic_id, &entries).unwrap(), 8);
        assert_eq!(std::fs::read(path(0)).unwrap(), [1; 10]);
        let restored = std::fs::read(path(40)).unwrap();
        assert_eq!(restored, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 2, 2, 2, 2]);
        assert!(!path(90).exists());
        let foreign = Uuid::from_u128(8);
        assert_eq!(restore(dir.path(), foreign, &entries).unwrap(), 0);
        std::fs::remove_file(dir.path().join(super::super::checkpoint::FILE_NAME)).unwrap();
        assert_eq!(restore(dir.path(), topic_id, &entries).unwrap(), 16);
        let compacted = CompactionState {
            gaps_end: 40,
            ..CompactionState::default()
        };
        compacted.write(dir.path()).unwrap();
        assert_eq!(restore(dir.path(), topic_id, &entries).unwrap(), 12);
    }
}
