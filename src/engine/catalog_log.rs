//! The file `catalog.log`: the catalog's entries, each with a checksum, in the order they happened.
//!
//! Layout: magic "MSCATLOG" and version u32, then for each entry: "MSCE", length u32, crc32 of the
//! content, content (JSON). Big endian. An entry is appended and synced before it is in force. A torn
//! entry at the end was never in force and is cut; an unsound entry with sound ones behind it is
//! damage, and the broker does not start on it.

use super::catalog::{Catalog, Entry};
use crate::io::file;
use crate::io::sabotage::{self, Sabotage};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"MSCATLOG";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 12;
const ENTRY_MAGIC: &[u8; 4] = b"MSCE";
const ENTRY_HEADER_BYTES: usize = 12;
/// The largest catalog file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// A longer file is rewritten when most of its entries are out of date.
const LONG_BYTES: u64 = 4 << 20;
/// The file's name in the data directory.
pub const FILE_NAME: &str = "catalog.log";

/// Why the catalog cannot be read.
#[derive(Debug, Error)]
pub enum CatalogLogError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the file does not begin as a catalog")]
    BadHeader,
    #[error("the catalog has version {0}; this broker reads up to version {VERSION}")]
    NewerVersion(u32),
    #[error("the entry at byte {0} is damaged, though sound entries follow it")]
    Damaged(usize),
}

/// The catalog's file, open for appending. Blocking: used at start and on a worker thread.
#[derive(Debug)]
pub struct CatalogLog {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    /// Its length when it was last rewritten.
    compact_length: u64,
    /// A failed append could not be undone, or its sync failed: the contents of the disk are not known.
    poisoned: bool,
}

impl CatalogLog {
    /// Reads the catalog in `data_dir` into `catalog`; a directory without one gets an empty one.
    ///
    /// The file is replaced at each start. So what was deleted leaves nothing behind, a torn end is gone,
    /// and what this start takes for in force is on stable storage: the writer of the last entry may have
    /// been killed before it was synced, or have met an error when it was. A full disk cannot take the
    /// new file; the old one is made durable instead.
    ///
    /// # Errors
    /// See [`CatalogLogError`].
    pub fn open(data_dir: &Path, catalog: &mut Catalog) -> Result<CatalogLog, CatalogLogError> {
        let path = data_dir.join(FILE_NAME);
        let content = file::read(&path, FILE_BYTES_MAX)?;
        let (entries, sound_bytes) = match &content {
            Some(content) => decode_sound(content)?,
            None => (Vec::new(), 0),
        };
        let content = content.unwrap_or_default();
        for entry in &entries {
            catalog.apply(entry);
        }
        let compact = encode(&catalog.entries());
        let trusted = sabotage::is_done(Sabotage::TrustCatalog) && content == compact;
        let written = if trusted {
            Ok(())
        } else {
            file::replace(&path, &compact)
        };
        let length = match written {
            Err(error) if may_keep(&error, sound_bytes) => {
                keep(&path, &content[..sound_bytes])?;
                tracing::warn!(path = %path.display(), %error,
                    "the catalog cannot be written in its shortest form; it is used as it is");
                sound_bytes
            }
            written => written.map(|()| compact.len())?,
        };
        file::sync_dir(data_dir)?;
        Ok(CatalogLog {
            file: Arc::new(file::open(&path, false)?),
            path,
            length: length as u64,
            compact_length: compact.len() as u64,
            poisoned: false,
        })
    }

    /// Appends an entry; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// The medium's. The entry is not in force then. When it cannot be told whether it reached the
    /// disk, all later appends fail too.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.poisoned {
            let message = format!(
                "an earlier write to {} failed; restart the broker",
                self.path.display()
            );
            return Err(io::Error::other(message));
        }
        let bytes = encode_entry(entry);
        if let Err(error) = file::write_at(&self.file, &bytes, self.length) {
            self.poisoned = file::truncate(&self.file, self.length).is_err();
            return Err(error);
        }
        if let Err(error) = file::sync_data(&self.file) {
            self.poisoned = true;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whether most of the file is past, so that it is time to [`rewrite`](Self::rewrite) it.
    pub fn is_long(&self) -> bool {
        self.length > LONG_BYTES && self.length > 4 * self.compact_length
    }

    /// Rewrites the file with `entries`, which make the same catalog as those that are in it.
    ///
    /// # Errors
    /// The medium's. The old file stays, or all later appends fail.
    pub fn rewrite(&mut self, entries: &[Entry]) -> io::Result<()> {
        let bytes = encode(entries);
        file::replace(&self.path, &bytes)?;
        // From here on appends go into the new file, so its name must be durable.
        self.poisoned = true;
        file::sync_parent(&self.path)?;
        self.file = Arc::new(file::open(&self.path, false)?);
        self.length = bytes.len() as u64;
        self.compact_length = self.length;
        self.poisoned = false;
        Ok(())
    }
}

/// Whether a start may go on with the old file although it could not be replaced.
fn may_keep(error: &io::Error, sound_bytes: usize) -> bool {
    file::is_full(error) && sound_bytes > 0 && !sabotage::is_done(Sabotage::CompactOnly)
}

/// Makes the file durable as it is, without its torn end. Takes no room on the disk.
fn keep(path: &Path, sound: &[u8]) -> io::Result<()> {
    let file = file::open(path, false)?;
    // What a failed sync left in memory only must not be taken for written.
    file::reload(&file, 0)?;
    file::truncate(&file, sound.len() as u64)?;
    file::write_at(&file, sound, 0)?;
    file::sync_data(&file)
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    for entry in entries {
        bytes.extend(encode_entry(entry));
    }
    bytes
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let content = serde_json::to_vec(entry).expect("an entry is plain data");
    let mut bytes = ENTRY_MAGIC.to_vec();
    bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

/// The entries of a catalog file, up to a torn end.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, CatalogLogError> {
    decode_sound(bytes).map(|(entries, _)| entries)
}

/// The same, and where the torn end begins: the file's length, if it has none.
fn decode_sound(bytes: &[u8]) -> Result<(Vec<Entry>, usize), CatalogLogError> {
    let mut entries = Vec::new();
    let mut unsound = None;
    for piece in pieces(bytes)? {
        match (piece.entry, unsound) {
            (Some(_), Some(at)) => return Err(CatalogLogError::Damaged(at)),
            (Some(entry), None) => entries.push(entry),
            (None, _) => unsound = Some(piece.at),
        }
    }
    Ok((entries, unsound.unwrap_or(bytes.len())))
}

/// A stretch of a catalog file.
#[derive(Debug)]
pub struct Piece {
    /// The byte it begins at.
    pub at: usize,
    /// Bytes.
    pub size: usize,
    /// None: bytes that are no sound entry.
    pub entry: Option<Entry>,
}

/// A catalog file from front to back.
///
/// # Errors
/// When its first bytes are not a catalog's.
pub fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, CatalogLogError> {
    let header = bytes
        .get(..HEADER_BYTES)
        .ok_or(CatalogLogError::BadHeader)?;
    if !header.starts_with(MAGIC) {
        return Err(CatalogLogError::BadHeader);
    }
    let version = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    if version > VERSION {
        return Err(CatalogLogError::NewerVersion(version));
    }
    let mut pieces = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let (entry, size) = match decode_entry(&bytes[at..]) {
            Some((entry, size)) => (Some(entry), size),
            None => (None, next_entry(bytes, at + 1) - at),
        };
        pieces.push(Piece { at, size, entry });
        at += size;
    }
    Ok(pieces)
}

/// Where the next sound entry begins, or the end.
fn next_entry(bytes: &[u8], from: usize) -> usize {
    (from..bytes.len())
        .filter(|at| bytes[*at..].starts_with(ENTRY_MAGIC))
        .find(|at| decode_entry(&bytes[*at..]).is_some())
        .unwrap_or(bytes.len())
}

/// Whether unsound bytes at the end of the file are a whole entry rather than a torn one: an append
/// that a crash cut short lacks bytes, or has zeros where pages did not reach the disk.
pub fn is_whole(end: &[u8]) -> bool {
    let Some((header, content)) = end.split_at_checked(ENTRY_HEADER_BYTES) else {
        return false;
    };
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let has_length = length as usize == content.len() && !content.contains(&0);
    has_length || serde_json::from_slice::<serde_json::Value>(content).is_ok()
}

fn decode_entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let header = bytes.get(..ENTRY_HEADER_BYTES)?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if !header.starts_with(ENTRY_MAGIC) {
        return None;
    }
    let end = ENTRY_HEADER_BYTES.checked_add(word(4) as usize)?;
    let content = bytes.get(ENTRY_HEADER_BYTES..end)?;
    if crc32fast::hash(content) != word(8) {
        return None;
    }
    Some((serde_json::from_slice(content).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fault;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn created(id: u128) -> Entry {
        Entry::TopicCreated {
            id: Uuid::from_u128(id),
            name: format!("topic-{id}"),
            partitions: 1,
            configs: BTreeMap::new(),
        }
    }

    fn reopened(dir: &Path) -> Result<Catalog, CatalogLogError> {
        let mut catalog = Catalog::default();
        CatalogLog::open(dir, &mut catalog).map(|_| catalog)
    }

    #[test]
    fn entries_are_there_after_reopening_and_a_torn_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::default();
        let mut log = CatalogLog::open(dir.path(), &mut catalog).unwrap();
        for id in 1..=3 {
            log.append(&created(id)).unwrap();
        }
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        let two = whole.len() - encode_entry(&created(3)).len();
        for length in two..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(
                reopened(dir.path()).unwrap().topic_count(),
                2,
                "cut at {length}"
            );
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(reopened(dir.path()).unwrap().topic_count(), 3);
    }

    #[test]
    fn damage_before_sound_entries_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = encode(&[created(1), created(2)]);
        bytes[HEADER_BYTES + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = reopened(dir.path()).unwrap_err();
        assert!(
            matches!(error, CatalogLogError::Damaged(HEADER_BYTES)),
            "{error}"
        );
        bytes[8..12].copy_from_slice(&9u32.to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let error = reopened(dir.path()).unwrap_err();
        assert!(matches!(error, CatalogLogError::NewerVersion(9)), "{error}");
    }

    #[test]
    fn a_full_disk_refuses_the_entry_and_the_next_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CatalogLog::open(dir.path(), &mut Catalog::default()).unwrap();
        fault::inject(fault::Op::Write, 0, libc::ENOSPC, false);
        log.append(&created(1)).unwrap_err();
        log.append(&created(2)).unwrap();
        fault::inject(fault::Op::Sync, 0, libc::EIO, false);
        log.append(&created(3)).unwrap_err();
        log.append(&created(4)).unwrap_err();
        let catalog = reopened(dir.path()).unwrap();
        assert!(catalog.by_name("topic-2").is_some());
        assert!(catalog.by_name("topic-4").is_none());
    }

    #[test]
    fn a_start_makes_durable_what_it_takes_for_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CatalogLog::open(dir.path(), &mut Catalog::default()).unwrap();
        log.append(&created(1)).unwrap();
        drop(log);
        // The file is in its shortest form; it is not known whether it was synced.
        let synced = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
        let told = std::rc::Rc::clone(&synced);
        fault::observe(move |event| {
            let (files, dirs) = told.get();
            match event {
                fault::Event::Synced(file) if file.metadata().unwrap().len() > 12 => {
                    told.set((files + 1, dirs))
                }
                fault::Event::DirSynced(_) => told.set((files, dirs + 1)),
                _ => {}
            }
        });
        reopened(dir.path()).unwrap();
        fault::observe(|_| {});
        assert_eq!(synced.get(), (1, 1));
    }

    #[test]
    fn a_full_disk_does_not_keep_a_start_from_using_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut log = CatalogLog::open(dir.path(), &mut Catalog::default()).unwrap();
        for entry in [
            created(1),
            Entry::TopicDeleted {
                id: Uuid::from_u128(1),
            },
            created(2),
        ] {
            log.append(&entry).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], b"MSCE torn"].concat();
        std::fs::write(&path, &torn).unwrap();
        fault::inject(fault::Op::Write, 0, libc::ENOSPC, false);
        let mut catalog = Catalog::default();
        let mut log = CatalogLog::open(dir.path(), &mut catalog).unwrap();
        assert!(fault::clear());
        assert_eq!(
            std::fs::read(&path).unwrap(),
            whole,
            "only the torn end is gone"
        );
        assert!(!path.with_extension("tmp").exists());
        assert!(catalog.by_name("topic-2").is_some());
        log.append(&created(3)).unwrap();
        assert!(reopened(dir.path()).unwrap().by_name("topic-3").is_some());
    }

    #[test]
    fn a_file_written_anew_holds_the_same_and_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::default();
        let mut log = CatalogLog::open(dir.path(), &mut catalog).unwrap();
        let gone = [
            created(1),
            Entry::TopicDeleted {
                id: Uuid::from_u128(1),
            },
            Entry::TopicPurged {
                id: Uuid::from_u128(1),
            },
        ];
        for entry in gone.iter().chain(&[created(2)]) {
            log.append(entry).unwrap();
            catalog.apply(entry);
        }
        let before = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        log.rewrite(&catalog.entries()).unwrap();
        log.append(&created(3)).unwrap();
        let after = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(after < before);
        let names: Vec<String> = reopened(dir.path())
            .unwrap()
            .topics()
            .map(|topic| topic.name.clone())
            .collect();
        assert_eq!(names, ["topic-2", "topic-3"]);
    }
}
