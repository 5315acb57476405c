//! What one partition's log knew to be durable at some moment, so that opening it again reads only
//! what came after.
//!
//! The file `checkpoint` is replaced as a whole (write, fdatasync, rename). Layout, big endian:
//! magic "MSCP" 0, version u16 4, topic id 6, log start offset i64 22, durable offset i64 30,
//! segment base i64 38, position u64 46, snapshot length u32 54, snapshot 58, crc32 of all before.

use crate::io::file;
use std::io;
use std::path::Path;
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"MSCP";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 58;
/// The most that a checkpoint file may have: 5 batches of half a million producers.
const FILE_BYTES_MAX: u64 = 128 << 20;
/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "checkpoint";

/// A durable point of a log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The topic that the directory belonged to; a directory left by a deleted topic of the same
    /// name is told apart by it.
    pub topic_id: Uuid,
    pub log_start_offset: i64,
    /// All records below this offset are on stable storage.
    pub durable_offset: i64,
    /// Base offset of the segment that `durable_offset` lies in or at the end of.
    pub segment_base: i64,
    /// Bytes of that segment below `durable_offset`.
    pub position: u64,
    /// The state of the layer above at `durable_offset`, opaque here.
    pub snapshot: Vec<u8>,
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.snapshot.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(self.topic_id.as_bytes());
        bytes.extend_from_slice(&self.log_start_offset.to_be_bytes());
        bytes.extend_from_slice(&self.durable_offset.to_be_bytes());
        bytes.extend_from_slice(&self.segment_base.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
        bytes.extend_from_slice(&(self.snapshot.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.snapshot);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` for anything but a sound checkpoint of this version.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) || content.len() < FIXED_BYTES {
            return None;
        }
        let (fixed, snapshot) = content.split_at(FIXED_BYTES);
        let number = |at: usize| {
            let mut array = [0; 8];
            array.copy_from_slice(&fixed[at..at + 8]);
            i64::from_be_bytes(array)
        };
        let snapshot_len = u32::from_be_bytes(fixed[54..58].try_into().ok()?) as usize;
        let checkpoint = Checkpoint {
            topic_id: Uuid::from_slice(&fixed[6..22]).ok()?,
            log_start_offset: number(22),
            durable_offset: number(30),
            segment_base: number(38),
            position: number(46) as u64,
            snapshot: snapshot.to_vec(),
        };
        let sound = fixed.starts_with(MAGIC)
            && fixed[4..6] == VERSION.to_be_bytes()
            && snapshot.len() == snapshot_len
            && checkpoint.is_plausible();
        sound.then_some(checkpoint)
    }

    fn is_plausible(&self) -> bool {
        self.segment_base >= 0
            && self.segment_base <= self.durable_offset
            && self.log_start_offset >= 0
            && self.log_start_offset <= self.durable_offset
            && self.position <= u64::from(u32::MAX)
    }

    /// Reads the checkpoint of a partition's directory; `None` when there is no sound one.
    ///
    /// # Errors
    /// Only when the medium fails; a torn file is no error.
    pub fn read(dir: &Path) -> io::Result<Option<Checkpoint>> {
        let content = file::read(&dir.join(FILE_NAME), FILE_BYTES_MAX)?;
        Ok(content.as_deref().and_then(Checkpoint::decode))
    }

    /// Replaces the checkpoint of a partition's directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        file::replace(&dir.join(FILE_NAME), &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            topic_id: Uuid::from_u128(7),
            log_start_offset: 3,
            durable_offset: 900,
            segment_base: 500,
            position: 123_456,
            snapshot: b"producers".to_vec(),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), None);
        sample().write(dir.path()).unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), Some(sample()));
    }

    #[test]
    fn torn_flipped_or_empty_files_are_no_checkpoint() {
        let bytes = sample().encode();
        for length in 0..bytes.len() {
            assert_eq!(
                Checkpoint::decode(&bytes[..length]),
                None,
                "cut at {length}"
            );
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert_eq!(Checkpoint::decode(&flipped), None, "flipped at {at}");
        }
        assert_eq!(Checkpoint::decode(&vec![0; 4096]), None);
    }
}
