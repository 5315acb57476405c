//! A checkpoint: what was durable in a partition's log at some moment. Opening the log reads only what
//! was appended after it.
//!
//! The file `checkpoint` is replaced as a whole (write, fdatasync, rename). Layout, big endian:
//! magic "MSCP" 0, version u16 4, topic id 6, log start offset i64 22, durable offset i64 30,
//! segment base i64 38, position u64 46, snapshot length u32 54, snapshot 58, crc32 of all before.

use super::batch::array_at;
use crate::io::file;
use std::io;
use std::path::Path;
use thiserror::Error;
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"MSCP";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 58;
/// Where the snapshot begins in the file.
pub const SNAPSHOT_AT: usize = FIXED_BYTES;
/// The most that a checkpoint file may have. A larger one is neither written nor read.
pub const FILE_BYTES_MAX: u64 = 128 << 20;
/// The most bytes that a snapshot may have.
pub const SNAPSHOT_BYTES_MAX: u64 = FILE_BYTES_MAX - FIXED_BYTES as u64 - 4;
/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "checkpoint";

/// Why bytes are not a checkpoint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    #[error("it has {0} bytes, fewer than any checkpoint")]
    TooShort(usize),
    #[error("its checksum does not match its bytes")]
    BadCrc,
    #[error("it does not begin as a checkpoint")]
    BadMagic,
    #[error("it has version {0}; only version {VERSION} is read")]
    BadVersion(u16),
    #[error("its values contradict one another")]
    Implausible,
}

/// A durable point of a log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The topic that the directory belonged to: it may be another one of the same name that was deleted.
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
    /// Of a log in which nothing is known to be durable yet.
    pub fn starting_at(topic_id: Uuid, base: i64) -> Checkpoint {
        Checkpoint {
            topic_id,
            log_start_offset: base,
            durable_offset: base,
            segment_base: base,
            ..Checkpoint::default()
        }
    }

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
        Checkpoint::check(bytes).ok()
    }

    /// As [`decode`](Self::decode), with the reason.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn check(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let too_short = CheckpointError::TooShort(bytes.len());
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(too_short)?;
        let (fixed, snapshot) = content.split_at_checked(FIXED_BYTES).ok_or(too_short)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return Err(CheckpointError::BadCrc);
        }
        if !fixed.starts_with(MAGIC) {
            return Err(CheckpointError::BadMagic);
        }
        let version = u16::from_be_bytes(array_at(fixed, 4));
        if version != VERSION {
            return Err(CheckpointError::BadVersion(version));
        }
        let number = |at: usize| i64::from_be_bytes(array_at(fixed, at));
        let checkpoint = Checkpoint {
            topic_id: Uuid::from_bytes(array_at(fixed, 6)),
            log_start_offset: number(22),
            durable_offset: number(30),
            segment_base: number(38),
            position: number(46) as u64,
            snapshot: snapshot.to_vec(),
        };
        let snapshot_bytes = u32::from_be_bytes(array_at(fixed, 54)) as usize;
        if snapshot.len() != snapshot_bytes || !checkpoint.is_plausible() {
            return Err(CheckpointError::Implausible);
        }
        Ok(checkpoint)
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
    ///
    /// # Errors
    /// `FileTooLarge` when the next start could not read it; the file system's.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        if self.snapshot.len() as u64 > SNAPSHOT_BYTES_MAX {
            let message = format!(
                "a snapshot of {} bytes is more than a checkpoint may have ({SNAPSHOT_BYTES_MAX})",
                self.snapshot.len()
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
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
