//! The journals' files, and how a start handles those that a crash left: it writes their entries
//! back into the partitions' segments, and removes them.

use super::PartitionKey;
use super::catalog::Catalog;
use crate::io::{file, map};
use crate::log::journal::{self, Entry};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The directory, in the data directory, that has the shards' journals.
pub const DIR_NAME: &str = "journal";
/// How the name of a journal ends.
pub const EXTENSION: &str = "journal";

/// What was found in journals and put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub groups: u64,
    pub bytes: u64,
}

/// Makes a shard's journal of two files with `bytes` bytes each. Blocks.
///
/// # Errors
/// ENOSPC on a full disk, and then nothing is left behind.
pub fn make_journal(data_dir: &Path, shard: usize, bytes: u64) -> io::Result<[File; 2]> {
    let dir = data_dir.join(DIR_NAME);
    file::create_dir(&dir)?;
    let make = |half| {
        let path = file_path(data_dir, shard, half);
        file::truncate(&file::open(&path, true)?, 0)?;
        grow_journal(data_dir, shard, half, 0, bytes)?;
        file::open_direct(&path, true)
    };
    let made = make(0).and_then(|first| Ok([first, make(1)?]));
    let made = made.and_then(|files| file::sync_dir(&dir).map(|()| files));
    if made.is_err() {
        let _ = remove_journal(data_dir, shard);
    }
    made
}

/// Makes a half of a shard's journal that is not in use longer, from `from` to `to` bytes. Blocks.
///
/// # Errors
/// The file system's; the half can be used as before.
pub fn grow_journal(
    data_dir: &Path,
    shard: usize,
    half: usize,
    from: u64,
    to: u64,
) -> io::Result<()> {
    let file = file::open(&file_path(data_dir, shard, half), false)?;
    file::extend_with_zeros(&file, from, to)?;
    file::sync_data(&file)?;
    // Pages of it in the cache would have to be dropped one by one with each write past it.
    file::reload(&file, 0)
}

/// Removes a shard's journal. Blocks.
///
/// # Errors
/// The file system's.
pub fn remove_journal(data_dir: &Path, shard: usize) -> io::Result<()> {
    for half in 0..2 {
        file::remove(&file_path(data_dir, shard, half))?;
    }
    match file::sync_dir(&data_dir.join(DIR_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn file_path(data_dir: &Path, shard: usize, half: usize) -> PathBuf {
    let name = format!("shard-{shard}-{half}.{EXTENSION}");
    data_dir.join(DIR_NAME).join(name)
}

/// The journals of a data directory, of however many shards.
///
/// # Errors
/// The file system's.
pub fn journals(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(data_dir.join(DIR_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// How many groups a journal has that the next start would write back.
///
/// # Errors
/// The file system's.
pub fn count_groups(path: &Path) -> io::Result<u64> {
    let file = file::open_for_reading(path)?;
    let bytes = file.metadata()?.len() as usize;
    let map = map::map_for_reading(&file, bytes)?;
    Ok(journal::groups(map.bytes(0..bytes)).count() as u64)
}

/// Writes all entries of journals back into the segments, makes them durable there, and removes the
/// journals. Blocks: at start only, before partitions are opened.
///
/// # Errors
/// The medium's; the journals are all still there then, and the next start tries again.
pub fn replay(data_dir: &Path, catalog: &Catalog) -> io::Result<Replayed> {
    let paths = journals(data_dir)?;
    let mut replayed = Replayed::default();
    for path in &paths {
        let file = file::open_for_reading(path)?;
        let bytes = file.metadata()?.len() as usize;
        let map = map::map_for_reading(&file, bytes)?;
        let content = map.bytes(0..bytes);
        let mut by_partition: BTreeMap<PartitionKey, Vec<Entry<'_>>> = BTreeMap::new();
        for group in journal::groups(content) {
            replayed.groups += 1;
            for entry in group.entries {
                let key = PartitionKey {
                    topic_id: entry.target.topic_id,
                    index: entry.target.partition,
                };
                by_partition.entry(key).or_default().push(entry);
            }
        }
        for (key, entries) in by_partition {
            // The files of a deleted topic are not needed.
            let Some(topic) = catalog.by_id(key.topic_id) else {
                continue;
            };
            let dir = data_dir.join(topic.dir_name(key.index));
            replayed.bytes += journal::restore(&dir, key.topic_id, &entries)?;
        }
    }
    for path in &paths {
        file::remove(path)?;
    }
    if !paths.is_empty() {
        file::sync_dir(&data_dir.join(DIR_NAME))?;
    }
    Ok(replayed)
}
