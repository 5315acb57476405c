//! A segment's sparse index: at an interval of bytes, where a batch starts and the highest timestamp before it.
//!
//! One file serves offset and time lookups. An entry is 20 bytes, big endian: offset relative to the
//! segment's base 0, position 4, max timestamp of all batches before it 8, crc32 16. The checksum
//! covers the segment's base offset and the entry, so zeros, torn entries and entries of another
//! segment never decode. The file is a cache: what is missing is walked again from the log.

use std::ops::Range;

/// Bytes of an entry on disk.
pub const ENTRY_BYTES: usize = 20;

/// A batch's place in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Base offset of the batch, relative to the segment's.
    pub relative_offset: u32,
    /// Bytes from the start of the segment.
    pub position: u32,
    /// The highest timestamp (ms) among the batches before this one; -1 when there is none.
    pub max_timestamp_before: i64,
}

impl Entry {
    pub fn encode(&self, segment_base: i64) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.max_timestamp_before.to_be_bytes());
        let crc = checksum(segment_base, &bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` when the checksum does not match.
    pub fn decode(bytes: &[u8; ENTRY_BYTES], segment_base: i64) -> Option<Entry> {
        let (relative_offset, rest) = bytes.split_first_chunk::<4>()?;
        let (position, rest) = rest.split_first_chunk::<4>()?;
        let (max_timestamp_before, crc) = rest.split_first_chunk::<8>()?;
        let crc = u32::from_be_bytes(crc.try_into().ok()?);
        (crc == checksum(segment_base, &bytes[..16])).then_some(Entry {
            relative_offset: u32::from_be_bytes(*relative_offset),
            position: u32::from_be_bytes(*position),
            max_timestamp_before: i64::from_be_bytes(*max_timestamp_before),
        })
    }
}

/// The base offset is part of the checksum, and so is a magic, so that an entry of zeros does not
/// have a checksum of zero.
fn checksum(segment_base: i64, entry: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"MSIX");
    hasher.update(&segment_base.to_be_bytes());
    hasher.update(entry);
    hasher.finalize()
}

/// The entries of one segment in memory, in order of offset, position and timestamp alike.
#[derive(Clone, Debug, Default)]
pub struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// The sound entries at the start of an index file that lie before `end` (bytes of the segment)
    /// and follow one another.
    pub fn decode(file: &[u8], segment_base: i64, end: u32) -> Index {
        let mut index = Index::default();
        for bytes in file.as_chunks::<ENTRY_BYTES>().0 {
            match Entry::decode(bytes, segment_base) {
                Some(entry) if entry.position < end && index.accepts(&entry) => {
                    index.entries.push(entry)
                }
                _ => break,
            }
        }
        index
    }

    fn accepts(&self, entry: &Entry) -> bool {
        self.entries.last().is_none_or(|last| {
            entry.position > last.position
                && entry.relative_offset > last.relative_offset
                && entry.max_timestamp_before >= last.max_timestamp_before
        })
    }

    /// Adds an entry behind the last.
    pub fn push(&mut self, entry: Entry) {
        debug_assert!(self.accepts(&entry));
        self.entries.push(entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// How many entries lie before `position`.
    pub fn count_before(&self, position: u32) -> usize {
        self.entries
            .partition_point(|entry| entry.position < position)
    }

    /// The entries in `range` as they lie in the file.
    pub fn encode(&self, range: Range<usize>, segment_base: i64) -> Vec<u8> {
        self.entries[range]
            .iter()
            .flat_map(|entry| entry.encode(segment_base))
            .collect()
    }

    /// Where to start walking to find the batch that holds `relative_offset`.
    pub fn position_of_offset(&self, relative_offset: u32) -> u32 {
        self.before(|entry| entry.relative_offset <= relative_offset)
            .map_or(0, |entry| entry.position)
    }

    /// The last batch start known at or before `position`.
    pub fn position_at_or_before(&self, position: u32) -> u32 {
        self.before(|entry| entry.position <= position)
            .map_or(0, |entry| entry.position)
    }

    /// Where to start walking to find the first batch whose max timestamp is at least `timestamp`.
    pub fn position_of_timestamp(&self, timestamp: i64) -> u32 {
        self.before(|entry| entry.max_timestamp_before < timestamp)
            .map_or(0, |entry| entry.position)
    }

    /// The last entry of the leading ones that satisfy `holds`.
    fn before(&self, holds: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let count = self.entries.partition_point(holds);
        count.checked_sub(1).and_then(|last| self.entries.get(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Index {
        let mut index = Index::default();
        for (relative_offset, position, max_timestamp_before) in [
            (0, 0, -1),
            (10, 5000, 100),
            (25, 10_000, 100),
            (40, 15_000, 300),
        ] {
            index.push(Entry {
                relative_offset,
                position,
                max_timestamp_before,
            });
        }
        index
    }

    #[test]
    fn lookups_return_the_last_batch_start_that_is_not_too_far() {
        let index = sample();
        assert_eq!(index.position_of_offset(0), 0);
        assert_eq!(index.position_of_offset(24), 5000);
        assert_eq!(index.position_of_offset(25), 10_000);
        assert_eq!(index.position_of_offset(9999), 15_000);
        assert_eq!(index.position_at_or_before(14_999), 10_000);
        assert_eq!(index.position_of_timestamp(100), 0);
        assert_eq!(index.position_of_timestamp(101), 10_000);
        assert_eq!(Index::default().position_of_offset(3), 0);
    }

    #[test]
    fn a_file_is_read_up_to_the_first_unsound_entry() {
        let index = sample();
        let file = index.encode(0..4, 77);
        assert_eq!(Index::decode(&file, 77, u32::MAX).len(), 4);
        assert_eq!(Index::decode(&file, 77, 15_000).len(), 3);
        assert_eq!(Index::decode(&file, 78, u32::MAX).len(), 0, "another base");
        assert_eq!(Index::decode(&file[..50], 77, u32::MAX).len(), 2, "torn");
        let mut flipped = file.clone();
        flipped[ENTRY_BYTES * 2 + 3] ^= 1;
        assert_eq!(Index::decode(&flipped, 77, u32::MAX).len(), 2);
        assert_eq!(Index::decode(&[0; 400], 77, u32::MAX).len(), 0, "zeros");
        assert_eq!(Index::decode(&[0; 400], 0, u32::MAX).len(), 0, "zeros");
        let twice = [file.clone(), file].concat();
        assert_eq!(Index::decode(&twice, 77, u32::MAX).len(), 4, "stale rest");
    }
}
