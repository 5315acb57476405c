//! Puts a cleaned segment into the place of the old ones, so that a crash at any moment leaves all
//! of the old or all of the new.
//!
//! The cleaned segment waits as `<base>.log.cleaned`, complete and durable, name and all. Then the
//! manifest `swap` is made durable. From there on the swap will happen: a start that finds the manifest
//! finishes it. In order: the old indexes go, the cleaned segment takes the
//! name of the first old one, *sync*, the other old ones go, *sync*, the manifest goes, *sync*. Until
//! the first of these syncs all the old segments are there, and after it the new one is; the manifest
//! knows the new one's length and checksum, so a start can tell which it has. docs/format.md has the
//! argument in full.
//!
//! Layout of the manifest, big endian: magic "MSSW" 0, version u16 4, bytes of the new segment u64 6,
//! crc32 of all of it u32 14, number of old segments u32 18, their base offsets i64 each 22, crc32 of
//! all before.

use crate::io::file;
use crate::log::batch::array_at;
use crate::log::segment;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"MSSW";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 22;
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The manifest's name in the partition's directory.
pub const FILE_NAME: &str = "swap";
/// The suffix of files of a cleaned segment that has not replaced the old ones yet.
pub const CLEANED_SUFFIX: &str = ".cleaned";

/// Which segments a new one replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub new_bytes: u64,
    /// CRC-32 of the whole new segment.
    pub new_crc: u32,
    /// Base offsets of the old segments, lowest first; the new one takes the first one's name.
    pub old_bases: Vec<i64>,
}

/// A file of a cleaned segment that has not replaced the old ones yet.
pub fn cleaned_path(dir: &Path, base: i64, extension: &str) -> PathBuf {
    segment::file_path(dir, base, &format!("{extension}{CLEANED_SUFFIX}"))
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + 8 * self.old_bases.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.new_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.new_crc.to_be_bytes());
        bytes.extend_from_slice(&(self.old_bases.len() as u32).to_be_bytes());
        for base in &self.old_bases {
            bytes.extend_from_slice(&base.to_be_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` for anything but a sound manifest of this version.
    pub fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (fixed, bases) = content.split_at_checked(FIXED_BYTES)?;
        let (bases, rest) = bases.as_chunks::<8>();
        let count = u32::from_be_bytes(array_at(fixed, 18));
        let sound = crc32fast::hash(content) == u32::from_be_bytes(*crc)
            && fixed.starts_with(MAGIC)
            && fixed[4..6] == VERSION.to_be_bytes()
            && rest.is_empty()
            && bases.len() == count as usize
            && count > 0;
        sound.then_some(Manifest {
            new_bytes: u64::from_be_bytes(array_at(fixed, 6)),
            new_crc: u32::from_be_bytes(array_at(fixed, 14)),
            old_bases: bases.iter().map(|base| i64::from_be_bytes(*base)).collect(),
        })
    }

    /// Reads the manifest of a partition's directory; `None` when no swap is under way.
    ///
    /// # Errors
    /// Only when the medium fails.
    pub fn read(dir: &Path) -> io::Result<Option<Manifest>> {
        let content = file::read(&dir.join(FILE_NAME), FILE_BYTES_MAX)?;
        Ok(content.as_deref().and_then(Manifest::decode))
    }

    /// The base offset of the new segment.
    pub fn base(&self) -> i64 {
        self.old_bases[0]
    }

    /// Whether the new segment is at `path`.
    pub fn is_new_at(&self, path: &Path) -> io::Result<bool> {
        let file = match file::open_for_reading(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        Ok(file.metadata()?.len() == self.new_bytes && crc_of(file)? == self.new_crc)
    }
}

fn crc_of(mut file: File) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// A swap that failed.
#[derive(Debug)]
pub struct SwapError {
    pub error: io::Error,
    /// The new segment has its name: the log uses it.
    pub is_renamed: bool,
    /// The manifest may still be there. The next start settles it; until then no other swap may be
    /// begun.
    pub is_unsettled: bool,
}

/// Does a swap whose cleaned segment is complete and durable.
pub struct SwapJob {
    pub dir: PathBuf,
    pub manifest: Manifest,
    /// The highest timestamp (ms) in the new segment, or -1.
    pub max_timestamp: i64,
}

impl SwapJob {
    /// Returns the old segments, open. What the file system frees with the last use of a file can
    /// take long: drop them where blocking is allowed, after the log has let go of them.
    ///
    /// # Errors
    /// Whatever the file system reports; when nothing is committed, the old segments are as before.
    pub fn run(&self) -> Result<Vec<File>, SwapError> {
        let renamed = self.open_old().and_then(|old| {
            file::replace(&self.dir.join(FILE_NAME), &self.manifest.encode())?;
            file::sync_dir(&self.dir)?;
            rename_new(&self.dir, &self.manifest)?;
            Ok(old)
        });
        let old = renamed.map_err(|error| SwapError {
            error,
            is_renamed: false,
            is_unsettled: undo(&self.dir, self.manifest.base()).is_err(),
        })?;
        finish(&self.dir, &self.manifest).map_err(|error| SwapError {
            error,
            is_renamed: true,
            is_unsettled: true,
        })?;
        Ok(old)
    }

    fn open_old(&self) -> io::Result<Vec<File>> {
        let bases = self.manifest.old_bases.iter();
        bases
            .map(|base| file::open_for_reading(&segment::file_path(&self.dir, *base, "log")))
            .collect()
    }
}

/// Removes the old indexes and renames the new segment. The manifest must be durable.
fn rename_new(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    // An index of an old segment must never be taken for the new one's, which has the same name.
    for old in &manifest.old_bases {
        file::remove(&segment::file_path(dir, *old, "index"))?;
    }
    let base = manifest.base();
    let place = segment::file_path(dir, base, "log");
    file::rename(&cleaned_path(dir, base, "log"), &place)
}

/// Does the rest of a swap whose new segment has its name. Every step can be done twice.
fn finish(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    file::sync_dir(dir)?;
    for old in &manifest.old_bases[1..] {
        file::remove(&segment::file_path(dir, *old, "log"))?;
    }
    let base = manifest.base();
    let index = cleaned_path(dir, base, "index");
    if index.exists() {
        file::rename(&index, &segment::file_path(dir, base, "index"))?;
    }
    file::sync_dir(dir)?;
    file::remove(&dir.join(FILE_NAME))?;
    file::sync_dir(dir)
}

fn undo(dir: &Path, base: i64) -> io::Result<()> {
    file::remove(&dir.join(FILE_NAME))?;
    remove_cleaned(dir, base)?;
    file::sync_dir(dir)
}

/// Removes a cleaned segment that will not be used.
pub fn remove_cleaned(dir: &Path, base: i64) -> io::Result<()> {
    file::remove(&cleaned_path(dir, base, "log"))?;
    file::remove(&cleaned_path(dir, base, "index"))
}

/// Settles a compaction that a crash interrupted: a swap with a manifest is finished, anything else is
/// undone. A start calls this before it looks at the segments.
///
/// # Errors
/// Only when the medium fails.
pub fn recover(dir: &Path) -> io::Result<()> {
    if let Some(manifest) = Manifest::read(dir)? {
        // The process that wrote it may have been killed before its name was durable. Until it is, a power cut
        // could leave the new segment's name without the manifest that says what it replaces.
        file::sync_dir(dir)?;
        let (base, log) = (manifest.base(), "log");
        // If not, the manifest could not be removed when the swap was done, and retention went on.
        let is_current = segment::list(dir)?.contains(&base);
        if is_current && manifest.is_new_at(&cleaned_path(dir, base, log))? {
            rename_new(dir, &manifest)?;
            finish(dir, &manifest)?;
        } else if is_current && manifest.is_new_at(&segment::file_path(dir, base, log))? {
            // Its own index, or one of an old segment: which is not known.
            for old in &manifest.old_bases {
                file::remove(&segment::file_path(dir, *old, "index"))?;
            }
            remove_cleaned(dir, base)?;
            finish(dir, &manifest)?;
        }
    }
    let paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut left = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    left.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(CLEANED_SUFFIX) || name == FILE_NAME
    });
    left.iter().try_for_each(|path| file::remove(path))?;
    if left.is_empty() {
        Ok(())
    } else {
        file::sync_dir(dir)
    }
}
