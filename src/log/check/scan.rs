//! A segment's file from front to back: every batch with whether its checksum matches, and what lies
//! between and behind the batches.

use crate::io::file;
use crate::io::map::{self, MapReader};
use crate::io::sabotage::{self, Sabotage};
use crate::log::batch::{self, BatchError, BatchHeader, HEADER_BYTES};
use crate::log::segment;
use crate::log::spare;
use std::fs::File;
use std::io;
use std::path::Path;

/// How much is read ahead of the scan, in bytes.
const WINDOW_BYTES: usize = 4 << 20;
/// Position of the format's number in a batch.
const MAGIC_AT: usize = 16;

/// A segment's file that is being scanned.
pub struct Scan {
    file: File,
    reader: MapReader,
    position: usize,
    loaded: usize,
    /// The next batches have no lower offset, as far as is known.
    offset_min: i64,
    /// The file was another segment's before.
    is_recycled: bool,
    /// How far a recycled file is searched for the next sound batch.
    search_bytes_max: usize,
}

/// What comes next in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Batch(Found),
    /// Bytes that are no batch; the scan continues behind them.
    Damage {
        position: usize,
        bytes: usize,
        why: BatchError,
    },
    /// All the rest is zeros.
    Zeros {
        position: usize,
        bytes: usize,
    },
    /// All the rest is what the file had when it was another segment's.
    Recycled {
        position: usize,
        bytes: usize,
    },
}

/// A batch whose header makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub position: usize,
    pub header: BatchHeader,
    pub crc_matches: bool,
    /// Where the scan continues. Not behind the batch when its length may be wrong.
    pub end: usize,
}

impl Scan {
    /// Opens the file at `path`; what is appended later is not seen.
    pub fn open(path: &Path) -> io::Result<Scan> {
        // If the first batch is damaged, the name says which offsets may follow.
        let base = segment::base_of(path, "log").unwrap_or(0);
        Scan::open_at(path, (0, base))
    }

    /// As [`open`](Self::open), from a position on where a batch with this offset should begin.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before that position.
    pub fn open_at(path: &Path, (position, offset): (usize, i64)) -> io::Result<Scan> {
        let file = file::open_for_reading(path)?;
        let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if size < position {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reader = map::map_for_reading(&file, size)?;
        file::will_need(&file, position as u64, WINDOW_BYTES as u64);
        Ok(Scan {
            is_recycled: spare::is_marked(&file, size)?,
            search_bytes_max: usize::MAX,
            file,
            reader,
            position,
            loaded: position,
            offset_min: offset,
        })
    }

    /// Of a file that was another segment's before, only so many bytes are searched for the next sound
    /// batch; when there is none among them, the rest is taken for the other segment's.
    pub fn search_recycled_at_most(&mut self, bytes: usize) {
        self.search_bytes_max = bytes;
    }

    /// Whether the file was another segment's before.
    pub fn is_recycled(&self) -> bool {
        self.is_recycled
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.reader.len()
    }

    /// Where the next step begins.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes of a batch that was found.
    pub fn bytes(&self, found: &Found) -> &[u8] {
        let end = found.position + found.header.size();
        self.reader.bytes(found.position..end)
    }

    /// Bytes that the scan has passed, brought into memory again where they are not there any more.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn passed(&self, range: std::ops::Range<usize>) -> io::Result<&[u8]> {
        populate(&self.reader, range.clone())?;
        Ok(self.reader.bytes(range))
    }

    /// Where the zeros begin that bytes which the scan has passed end with.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn written_end(&self, mut range: std::ops::Range<usize>) -> io::Result<usize> {
        while !range.is_empty() {
            let from = range.start.max(range.end.saturating_sub(WINDOW_BYTES));
            let bytes = self.passed(from..range.end)?;
            if !is_zero(bytes) {
                let last = bytes.iter().rposition(|byte| *byte != 0);
                return Ok(last.map_or(from, |last| from + last + 1));
            }
            range.end = from;
        }
        Ok(range.start)
    }

    /// What the bytes at `position` claim to be, when they look like a batch. The scan stays where it is.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn peek(&mut self, position: usize) -> io::Result<Option<BatchHeader>> {
        self.load(position + HEADER_BYTES)?;
        Ok(self.header_at(position).ok())
    }

    /// The next batch, or what is there instead; `None` at the end of the file.
    ///
    /// # Errors
    /// When the medium cannot read the bytes, or the file was cut while it was scanned.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        let position = self.position;
        if position == self.size() {
            return Ok(None);
        }
        self.load(position + HEADER_BYTES)?;
        let step = match self.header_at(position) {
            Ok(header) => self.batch(position, header)?,
            Err(why) => self.no_batch(position, why)?,
        };
        Ok(Some(step))
    }

    /// The next batch if it is sound; else the scan stays where it is. So a start need not look through
    /// what lies behind the last one.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn step_sound(&mut self) -> io::Result<Option<Found>> {
        let position = self.position;
        self.load(position + HEADER_BYTES)?;
        let Ok(header) = self.header_at(position) else {
            return Ok(None);
        };
        let found = self.check(position, header)?;
        if !found.crc_matches && !sabotage::is_done(Sabotage::SkipCrc) {
            return Ok(None);
        }
        self.position = found.end;
        self.offset_min = header.next_offset();
        Ok(Some(found))
    }

    /// Whether a whole page from here on, or the rest of the file, is zeros: all of a large reservation
    /// is not looked through.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn is_blank(&mut self, position: usize) -> io::Result<bool> {
        let end = self.size().min(position + 4096);
        self.load(end)?;
        Ok(is_zero(self.reader.bytes(position..end)))
    }

    fn check(&mut self, position: usize, header: BatchHeader) -> io::Result<Found> {
        let end = position + header.size();
        self.load(end)?;
        Ok(Found {
            position,
            header,
            crc_matches: batch::crc_matches(self.reader.bytes(position..end)),
            end,
        })
    }

    fn batch(&mut self, position: usize, header: BatchHeader) -> io::Result<Step> {
        let mut found = self.check(position, header)?;
        let is_older = header.base_offset < self.offset_min;
        if self.is_recycled
            && (is_older || !found.crc_matches)
            && self.next_sound_batch(position + 1)? == self.size()
        {
            return Ok(self.recycled(position));
        }
        if found.crc_matches || self.continues_at(found.end, header.next_offset())? {
            self.offset_min = header.next_offset();
        } else {
            found.end = self.next_sound_batch(position + 1)?;
        }
        self.position = found.end;
        Ok(Step::Batch(found))
    }

    fn no_batch(&mut self, position: usize, why: BatchError) -> io::Result<Step> {
        if self.is_zero_from(position)? {
            self.position = self.size();
            return Ok(Step::Zeros {
                position,
                bytes: self.size() - position,
            });
        }
        self.position = self.next_sound_batch(position + 1)?;
        if self.is_recycled && self.position == self.size() {
            return Ok(self.recycled(position));
        }
        Ok(Step::Damage {
            position,
            bytes: self.position - position,
            why,
        })
    }

    fn recycled(&mut self, position: usize) -> Step {
        self.position = self.size();
        Step::Recycled {
            position,
            bytes: self.size() - position,
        }
    }

    fn header_at(&self, position: usize) -> Result<BatchHeader, BatchError> {
        let header_end = (position + HEADER_BYTES).min(self.size());
        let header = BatchHeader::parse(self.reader.bytes(position..header_end))?;
        if header.size() > self.size() - position {
            return Err(BatchError::Truncated);
        }
        Ok(header)
    }

    /// Whether what follows a damaged batch is where that batch's header says.
    fn continues_at(&mut self, position: usize, next_offset: i64) -> io::Result<bool> {
        self.load(position + HEADER_BYTES)?;
        let header_end = (position + HEADER_BYTES).min(self.size());
        let is_reserved = is_zero(self.reader.bytes(position..header_end));
        let next = self.header_at(position);
        Ok(is_reserved || next.is_ok_and(|next| next.base_offset == next_offset))
    }

    /// Where a sound batch begins at or after `from`, or the end of the file.
    fn next_sound_batch(&mut self, from: usize) -> io::Result<usize> {
        let size = self.size();
        let mut end = size;
        if self.is_recycled {
            end = end.min(from.saturating_add(self.search_bytes_max));
        }
        let mut position = from;
        while position < end {
            self.load(position + HEADER_BYTES)?;
            let magic_at = position + MAGIC_AT;
            if magic_at >= size {
                break;
            }
            let here = position;
            position += 1;
            if self.reader.bytes(magic_at..magic_at + 1) != [2] {
                continue;
            }
            let Ok(header) = self.header_at(here) else {
                continue;
            };
            let ahead = header.base_offset - self.offset_min;
            let is_older = self.is_recycled && ahead < 0;
            if is_older || (0..=i64::from(i32::MAX)).contains(&ahead) {
                let batch_end = here + header.size();
                self.load(batch_end)?;
                if batch::crc_matches(self.reader.bytes(here..batch_end)) {
                    if !is_older {
                        return Ok(here);
                    }
                    // A whole batch of the older segment: nothing of this one lies inside.
                    position = batch_end;
                }
            }
        }
        Ok(size)
    }

    fn is_zero_from(&mut self, position: usize) -> io::Result<bool> {
        let mut at = position;
        while at < self.size() {
            let end = (at + WINDOW_BYTES).min(self.size());
            self.load(end)?;
            if !is_zero(self.reader.bytes(at..end)) {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// Brings the bytes before `to` into memory, a window at a time, while the next window is on its
    /// way. A page that cannot be read is an error here, where touching it would be a signal.
    fn load(&mut self, to: usize) -> io::Result<()> {
        let to = to.min(self.size());
        if to <= self.loaded {
            return Ok(());
        }
        let end = to.max(self.loaded + WINDOW_BYTES).min(self.size());
        file::will_need(&self.file, end as u64, WINDOW_BYTES as u64);
        populate(&self.reader, self.loaded..end)?;
        self.loaded = end;
        Ok(())
    }
}

/// Brings bytes into memory. A page that the medium cannot read is an error here; touching it would be
/// SIGBUS.
pub(in crate::log) fn populate(
    reader: &MapReader,
    range: std::ops::Range<usize>,
) -> io::Result<()> {
    match reader.populate(range) {
        // A kernel before 5.14 cannot; the pages come when they are touched.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| *chunk == ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;

    /// Batches of two records each, of growing size, and where each begins.
    fn segment(count: i64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for index in 0..count {
            starts.push(bytes.len());
            let value = vec![b'v'; 10 + index as usize];
            let mut batch = BatchBuilder::default().build(&[&value[..], b"x"]);
            batch::patch_position(&mut batch, index * 2, 0);
            bytes.extend(batch);
        }
        (bytes, starts)
    }

    fn steps(bytes: &[u8]) -> Vec<Step> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, bytes).unwrap();
        let mut scan = Scan::open(&path).unwrap();
        std::iter::from_fn(|| scan.step().unwrap()).collect()
    }

    fn unsound(steps: &[Step]) -> Vec<(usize, usize)> {
        let stretch = |step: &Step| match step {
            Step::Batch(found) if found.crc_matches => None,
            Step::Batch(found) => Some((found.position, found.end)),
            Step::Damage {
                position, bytes, ..
            }
            | Step::Zeros { position, bytes }
            | Step::Recycled { position, bytes } => Some((*position, position + bytes)),
        };
        steps.iter().filter_map(stretch).collect()
    }

    #[test]
    fn every_flipped_bit_under_the_checksum_or_in_the_framing_costs_that_batch_only() {
        let (bytes, starts) = segment(4);
        assert_eq!(unsound(&steps(&bytes)), []);
        for at in starts[1]..starts[2] {
            let in_batch = at - starts[1];
            // Base offset and leader epoch lie outside the checksum.
            if in_batch < 8 || (12..16).contains(&in_batch) {
                continue;
            }
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let found = unsound(&steps(&flipped));
                assert_eq!(found, [(starts[1], starts[2])], "byte {in_batch} bit {bit}");
            }
        }
    }

    #[test]
    fn what_a_recycled_file_had_before_is_told_from_damage() {
        let (old, _) = segment(6);
        let offset = 100;
        let (mut new, starts) = segment(3);
        for (index, start) in starts.iter().enumerate() {
            batch::patch_position(&mut new[*start..], offset + index as i64 * 2, 0);
        }
        // Once the old batches begin where the new ones end, and once they do not.
        for cut in [new.len(), new.len() - 3] {
            let dir = tempfile::tempdir().unwrap();
            let path = segment::file_path(dir.path(), offset, "log");
            let content = [&new[..], &old[cut..], b"recycled segment"].concat();
            std::fs::write(&path, &content).unwrap();
            let scan = |content: &[u8]| -> Vec<Step> {
                std::fs::write(&path, content).unwrap();
                let mut scan = Scan::open(&path).unwrap();
                std::iter::from_fn(|| scan.step().unwrap()).collect()
            };
            let rest = Step::Recycled {
                position: new.len(),
                bytes: content.len() - new.len(),
            };
            let found = scan(&content);
            assert_eq!((found.len(), found.last()), (4, Some(&rest)));
            let mut damaged = content.clone();
            damaged[starts[1] + 40] ^= 1;
            assert_eq!(
                unsound(&scan(&damaged)),
                [(starts[1], starts[2]), (new.len(), content.len())]
            );
        }
    }

    #[test]
    fn what_follows_the_last_batch_is_zeros_only_when_all_of_it_is() {
        let (bytes, _) = segment(2);
        let with = |rest: &[u8]| *steps(&[&bytes[..], rest].concat()).last().unwrap();
        let position = bytes.len();
        assert!(matches!(with(b""), Step::Batch(_)));
        for count in [1, 60, 61, 5000] {
            let zeros = Step::Zeros {
                position,
                bytes: count,
            };
            assert_eq!(with(&vec![0; count]), zeros);
            let mut rest = vec![0; count];
            rest[count - 1] = 7;
            let step = with(&rest);
            assert!(
                matches!(step, Step::Damage { position: at, bytes, .. } if at == position && bytes == count),
                "{step:?}"
            );
        }
        let torn = with(&bytes[..100]);
        assert!(
            matches!(
                torn,
                Step::Damage {
                    why: BatchError::Truncated,
                    ..
                }
            ),
            "{torn:?}"
        );
    }
}
