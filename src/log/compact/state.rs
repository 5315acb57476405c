//! How far a log is compacted, in a small file of its own.
//!
//! The file `compaction` is replaced as a whole. Layout, big endian: magic "MSCC" 0, version u16 4,
//! first dirty offset i64 6, end of gaps i64 14, last delete horizon i64 22, crc32 of all before 30.
//! It is a cache: without it the whole log counts as dirty, and is read once more.

use crate::io::file;
use crate::log::batch::array_at;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 4] = b"MSCC";
const VERSION: u16 = 1;
const BYTES: usize = 34;
/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "compaction";

/// What is known of a log that was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionState {
    /// Below this offset no key has two records.
    pub first_dirty: i64,
    /// Below this offset records may be missing: compaction was at work there.
    pub gaps_end: i64,
    /// When the last of the tombstones that are still kept may go (ms); -1 when there are none.
    pub last_horizon_ms: i64,
}

impl Default for CompactionState {
    fn default() -> Self {
        CompactionState {
            first_dirty: 0,
            gaps_end: 0,
            last_horizon_ms: -1,
        }
    }
}

impl CompactionState {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.first_dirty.to_be_bytes());
        bytes.extend_from_slice(&self.gaps_end.to_be_bytes());
        bytes.extend_from_slice(&self.last_horizon_ms.to_be_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` for anything but a sound state of this version.
    pub fn decode(bytes: &[u8]) -> Option<CompactionState> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let number = |at| i64::from_be_bytes(array_at(content, at));
        let sound = crc32fast::hash(content) == u32::from_be_bytes(*crc)
            && content.starts_with(MAGIC)
            && content[4..6] == VERSION.to_be_bytes();
        let state = CompactionState {
            first_dirty: number(6),
            gaps_end: number(14),
            last_horizon_ms: number(22),
        };
        (sound && state.first_dirty >= 0 && state.gaps_end >= 0).then_some(state)
    }

    /// Reads the state of a partition's directory; a missing or torn one is the state of a log that
    /// was never compacted.
    ///
    /// # Errors
    /// Only when the medium fails.
    pub fn read(dir: &Path) -> io::Result<CompactionState> {
        let content = file::read(&dir.join(FILE_NAME), 4096)?;
        let state = content.as_deref().and_then(CompactionState::decode);
        Ok(state.unwrap_or_default())
    }

    /// Replaces the state of a partition's directory, durably.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        file::replace(&dir.join(FILE_NAME), &self.encode())?;
        file::sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_anything_torn_is_a_log_never_compacted() {
        let dir = tempfile::tempdir().unwrap();
        let state = CompactionState {
            first_dirty: 70,
            gaps_end: 90,
            last_horizon_ms: 1234,
        };
        assert_eq!(CompactionState::read(dir.path()).unwrap().first_dirty, 0);
        state.write(dir.path()).unwrap();
        assert_eq!(CompactionState::read(dir.path()).unwrap(), state);
        let bytes = state.encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            assert_eq!(CompactionState::decode(&flipped), None, "flipped at {at}");
            assert_eq!(CompactionState::decode(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(CompactionState::decode(&[0; BYTES]), None);
    }
}
