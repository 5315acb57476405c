//! Reads sealed segments from the disk, slowly, to find damage before a reader does.
//!
//! It bypasses the page cache where the file system allows that: what others read stays cached, and the
//! disk's bytes are checked. It says only whether a segment is sound. What is wrong, a survey finds out (see [`survey`](super::survey)).

use super::order::{Before, Expected, Order};
use super::scan::Found;
use crate::io::file;
use crate::log::Log;
use crate::log::batch::{self, BatchHeader};
use crate::log::compact::Throttle;
use crate::log::load::LoadJob;
use crate::log::segment;
use std::io;
use std::path::PathBuf;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Checks one segment.
pub struct ScrubJob {
    path: PathBuf,
    /// Records may be missing anywhere: where they should not be, the next survey says so.
    expected: Expected,
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
        let mut next_offset = self.expected.base;
        let mut at = 0;
        while at < self.size {
            let chunk = buffer.read_at(&source, at as u64)?;
            let chunk = &chunk[..chunk.len().min(self.size - at)];
            if chunk.is_empty() {
                return Ok(false);
            }
            at += chunk.len();
            waiting.extend_from_slice(chunk);
            let Some((bytes, next)) = sound_batches(&waiting, &self.expected, next_offset) else {
                return Ok(false);
            };
            waiting.drain(..bytes);
            next_offset = next;
            // Nothing cancels this throttle.
            let _ = throttle.take(chunk.len());
        }
        Ok(waiting.is_empty() && next_offset == self.expected.end)
    }
}

/// Bytes of the whole batches, and the offset behind them; `None` when one is not sound.
fn sound_batches(bytes: &[u8], expected: &Expected, mut next_offset: i64) -> Option<(usize, i64)> {
    let header_at = |at: usize| BatchHeader::parse(bytes.get(at..).unwrap_or_default());
    let mut position = 0;
    while bytes.len() - position >= batch::HEADER_BYTES {
        let header = header_at(position).ok()?;
        let end = position + header.size();
        let Some(batch) = bytes.get(position..end) else {
            break;
        };
        let found = Found {
            position,
            header,
            crc_matches: batch::crc_matches(batch),
            end,
        };
        let before = Before::sound(next_offset);
        let order = expected.order(&found, before, |at| Ok(header_at(at).ok()));
        if !found.crc_matches || order.ok()? != Order::Follows {
            return None;
        }
        position = end;
        next_offset = header.next_offset();
    }
    Some((position, next_offset))
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
            expected: Expected::new(base, segment.end, i64::MAX),
            size: segment.size,
        })
    }

    /// The job that surveys a segment, whether it was surveyed before or not.
    pub fn survey_job(&mut self, base: i64) -> Option<LoadJob> {
        let at = self
            .sealed
            .iter()
            .position(|segment| segment.base == base)?;
        self.sealed[at].suspect();
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
            expected: Expected::new(7, 87, 0),
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
