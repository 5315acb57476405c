//! A file of record batches: reserved, mapped, and written in one of several ways.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use memmap2::{Advice, MmapMut, MmapRaw};

use crate::sys;

/// How bytes get from the socket into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Copy {
    /// `map-random` for batches below 32 KiB, `pwrite` for others
    BySize,
    /// Received into a buffer, stored into the mapping
    Map,
    /// The same, with MADV_RANDOM
    MapRandom,
    /// Received into a buffer, written with pwrite
    Pwrite,
}

/// From this size on a batch is worth a system call.
const PWRITE_BYTES_MIN: usize = 32 << 10;

impl Copy {
    /// The way for a batch of this size.
    pub fn of(self, batch_bytes: usize) -> Copy {
        match self {
            Copy::BySize if batch_bytes < PWRITE_BYTES_MIN => Copy::MapRandom,
            Copy::BySize => Copy::Pwrite,
            other => other,
        }
    }
}

/// One file and its mapping. Removed when dropped.
#[derive(Debug)]
pub struct Segment {
    pub file: File,
    pub bytes: u64,
    map: MmapRaw,
    path: PathBuf,
}

impl Segment {
    /// Makes a file of `bytes` bytes.
    pub fn create(path: PathBuf, bytes: u64, copy: Copy) -> anyhow::Result<Segment> {
        let (file, map) = reserve(&path, bytes, copy)
            .with_context(|| format!("cannot make {} of {bytes} bytes", path.display()))?;
        Ok(Segment {
            file,
            bytes,
            map,
            path,
        })
    }

    /// Puts `data` at `position`.
    pub fn write(&self, data: &[u8], position: u64, copy: Copy) -> io::Result<()> {
        match copy {
            Copy::Pwrite => self.file.write_all_at(data, position),
            _ => {
                let to = self.at(position, data.len());
                // SAFETY: `at` checks the bounds; `data` is a buffer of ours, never part of a mapping.
                unsafe { to.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
                Ok(())
            }
        }
    }

    /// What is there. Good for bytes that were written and will not be until the ring of segments
    /// comes round; after that a reader may get newer bytes, which nobody here minds.
    pub fn slice(&self, position: u64, bytes: usize) -> &[u8] {
        // SAFETY: `at` checks the bounds; only this process knows the file.
        unsafe { std::slice::from_raw_parts(self.at(position, bytes), bytes) }
    }

    /// Has all pages in the mapping, so that reading them costs no faults.
    pub fn populate(&self) -> io::Result<()> {
        self.map.advise(Advice::PopulateRead)
    }

    fn at(&self, position: u64, bytes: usize) -> *mut u8 {
        assert!(
            position + bytes as u64 <= self.bytes,
            "beyond the segment's end"
        );
        // SAFETY: within the mapping, as just checked.
        unsafe { self.map.as_mut_ptr().add(position as usize) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn reserve(path: &Path, bytes: u64, copy: Copy) -> io::Result<(File, MmapRaw)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let map = sys::allocate(&file, bytes).and_then(|()| map(&file, copy));
    if map.is_err() {
        let _ = fs::remove_file(path);
    }
    Ok((file, map?))
}

fn map(file: &File, copy: Copy) -> io::Result<MmapRaw> {
    // SAFETY: the file is this process's own; nobody else cuts it.
    let map = unsafe { MmapMut::map_mut(file)? };
    if matches!(copy, Copy::MapRandom | Copy::BySize) {
        map.advise(Advice::Random)?;
    }
    Ok(map.into())
}
