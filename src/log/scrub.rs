//! Reads sealed segments from the disk, slowly, to find damage before a reader does.
//!
//! The page cache is passed by where the file system lets that be: what others read stays there, and it is
//! the disk's bytes that are checked. This tells only whether a segment is sound; what is wrong with one
//! that is not, a survey finds out (see [`damage`](super::damage)).

use super::Log;
use super::batch::{self, BatchHeader};
use super::compact::Throttle;
use super::load::LoadJob;
use super::segment::{self, Health};
use crate::io::file;
use std::io;
use std::path::PathBuf;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Checks one segment.
pub struct ScrubJob {
    path: PathBuf,
    base: i64,
    end: i64,
    size: usize,
}

impl ScrubJob {
    /// Bytes that it will read.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether every batch is sound and they lead from the segment's first offset to its end. Blocks, and
    /// sleeps.
    ///
    /// # Errors
    /// The medium's.
    pub fn run(&self, throttle: &mut Throttle) -> io::Result<bool> {
        let source = file::open_direct(&self.path, false)?;
        let mut buffer = file::AlignedBuffer::new(CHUNK_BYTES);
        let mut waiting = Vec::new();
        let mut next_offset = self.base;
        let mut at = 0;
        while at < self.size {
            let chunk = buffer.read_at(&source, at as u64)?;
            let chunk = &chunk[..chunk.len().min(self.size - at)];
            if chunk.is_empty() {
                return Ok(false);
            }
            at += chunk.len();
            waiting.extend_from_slice(chunk);
            let Some((bytes, next)) = sound_batches(&waiting, next_offset) else {
                return Ok(false);
            };
            waiting.drain(..bytes);
            next_offset = next;
            // A job that is to end is simply left alone.
            let _ = throttle.take(chunk.len());
        }
        Ok(waiting.is_empty() && next_offset == self.end)
    }
}

/// Bytes of the whole batches, and the offset behind them; `None` when one is not sound.
fn sound_batches(bytes: &[u8], mut next_offset: i64) -> Option<(usize, i64)> {
    let mut at = 0;
    while bytes.len() - at >= batch::HEADER_BYTES {
        let header = BatchHeader::parse(&bytes[at..]).ok()?;
        let Some(batch) = bytes.get(at..at + header.size()) else {
            break;
        };
        if header.base_offset < next_offset || !batch::crc_matches(batch) {
            return None;
        }
        at += header.size();
        next_offset = header.next_offset();
    }
    Some((at, next_offset))
}

impl Log {
    /// The segments that are in their final form, and in which nothing is known to be wrong.
    pub fn scrubbable(&self) -> Vec<i64> {
        if self.sealing > 0 {
            return Vec::new();
        }
        let segments = self.sealed.iter();
        segments
            .filter(|segment| segment.size > 0 && segment.end <= self.synced.offset)
            .filter(|segment| !self.damage.is_in(segment.base))
            .map(|segment| segment.base)
            .collect()
    }

    /// The job that checks a segment, if it is still there.
    pub fn scrub_job(&self, base: i64) -> Option<ScrubJob> {
        let segment = self.sealed.iter().find(|segment| segment.base == base)?;
        (!self.compaction.is_swapping(base)).then(|| ScrubJob {
            path: segment::file_path(&self.dir, base, "log"),
            base,
            end: segment.end,
            size: segment.size,
        })
    }

    /// The job that finds out what is wrong with a segment, whether it was surveyed before or not.
    pub fn survey_job(&mut self, base: i64) -> Option<LoadJob> {
        let at = self
            .sealed
            .iter()
            .position(|segment| segment.base == base)?;
        self.sealed[at].health = Health::Suspect;
        self.sealed[at].loaded = None;
        Some(self.load_job(&self.sealed[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;
    use std::sync::Arc;

    /// Batches of 30 kB that do not end where chunks do, and one larger than a chunk.
    fn segment() -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 0..80_i64 {
            let size = if number == 40 {
                3 * CHUNK_BYTES
            } else {
                30_000
            };
            let mut batch = BatchBuilder::default().build(&[vec![number as u8; size]]);
            batch::patch_position(&mut batch, 7 + number, 0);
            bytes.extend(batch);
        }
        bytes
    }

    fn is_sound(bytes: &[u8], size: usize) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, bytes).unwrap();
        let job = ScrubJob {
            path,
            base: 7,
            end: 87,
            size,
        };
        job.run(&mut Throttle::new(u64::MAX, Arc::default()))
            .unwrap()
    }

    #[test]
    fn every_changed_byte_is_found_and_so_is_a_segment_that_ends_early() {
        let bytes = segment();
        assert!(is_sound(&bytes, bytes.len()));
        let places = (0..40).map(|step| 20 + step * (bytes.len() / 41));
        for at in places.chain([0, 17, bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(!is_sound(&changed, bytes.len()), "byte {at}");
        }
        assert!(!is_sound(&bytes[..bytes.len() - 1], bytes.len()));
        assert!(!is_sound(&bytes[..bytes.len() - 1], bytes.len() - 1));
    }
}
