//! Writes a segment beside those that it will replace.

use super::batch::BatchHeader;
use super::segment::IndexBuilder;
use crate::io::file;
use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes gathered before they are written.
pub const BUFFER_BYTES: usize = 1 << 20;
/// Bytes written before they are synced, so that no other flush waits behind a whole segment.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// A segment that is being written.
pub struct SegmentWriter {
    file: File,
    buffer: Vec<u8>,
    written_bytes: u64,
    synced_bytes: u64,
    crc: crc32fast::Hasher,
    index: IndexBuilder,
}

/// A segment that was written, and is durable but for its name.
pub struct WrittenSegment {
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc: u32,
    pub index: IndexBuilder,
}

impl SegmentWriter {
    /// Creates the file at `path`, or empties it. `index` may know already of what is written first.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(path: &Path, index: IndexBuilder) -> io::Result<SegmentWriter> {
        let file = file::open(path, true)?;
        file::truncate(&file, 0)?;
        Ok(SegmentWriter {
            file,
            buffer: Vec::new(),
            written_bytes: 0,
            synced_bytes: 0,
            crc: crc32fast::Hasher::new(),
            index,
        })
    }

    /// Where the next batch goes (bytes).
    pub fn position(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&mut self, header: &BatchHeader, batch: &[u8]) -> io::Result<()> {
        self.index.note(self.position() as usize, header);
        self.put_bytes(batch)
    }

    /// Adds bytes of batches that the index knows already.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        file::write_at(&self.file, &self.buffer, self.written_bytes)?;
        self.crc.update(&self.buffer);
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written_bytes - self.synced_bytes >= SYNC_EVERY_BYTES {
            file::sync_data(&self.file)?;
            self.synced_bytes = self.written_bytes;
        }
        Ok(())
    }

    /// Makes the segment durable.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self) -> io::Result<WrittenSegment> {
        self.write_out()?;
        file::sync_data(&self.file)?;
        Ok(WrittenSegment {
            bytes: self.written_bytes,
            crc: self.crc.finalize(),
            index: self.index,
        })
    }
}
