//! A spare: the file of a segment that retention removed, kept for the next segment.
//!
//! Writing to a new file costs the kernel more than writing to an old one: pages must be found, blocks
//! be given out, and each sync commits that they were. So where a log is busy, the last segment that
//! retention takes is not removed but renamed to `spare`, and the next segment starts by renaming that
//! to its own name and overwriting it. There is one for each log at most, and it is removed when the log
//! has no active segment any more.
//!
//! What the file had before lies behind what is written to it, until it is sealed. It cannot be taken for
//! the segment's own: all its batches have lower offsets than the segment's base. A mark at the file's end
//! says that it is no torn tail either.

use super::segment;
use crate::io::file::{self, Reserved};
use crate::io::map;
use crate::io::sabotage::{self, Sabotage};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The spare's name in a partition's directory.
pub const FILE_NAME: &str = "spare";
/// The end of a file that was another segment before.
const MARK: &[u8; 16] = b"recycled segment";
/// A spare is kept only where this many times its size is free.
const FREE_TIMES: u64 = 4;

/// Keeps a segment's file as the spare, in place of one that is there already. False when it cannot
/// serve: it has less than `bytes_min` bytes, another name too, or the disk is nearly full.
///
/// # Errors
/// The file system's.
pub fn keep(dir: &Path, base: i64, bytes_min: u64) -> io::Result<bool> {
    let path = segment::file_path(dir, base, "log");
    let found = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    let room = file::free_bytes(dir)? / FREE_TIMES >= found.len();
    let serves = found.len() >= bytes_min && room;
    if serves {
        file::rename(&path, &dir.join(FILE_NAME))?;
    }
    Ok(serves)
}

/// Makes the spare, when there is one, the file of the segment that starts at `base`, with room for
/// `bytes`. `None` when there is none, or when somebody still reads it: it is removed then.
///
/// # Errors
/// The file system's. The segment's file may be there then.
pub fn take(dir: &Path, base: i64, bytes: u64) -> io::Result<Option<(Arc<File>, Reserved)>> {
    let path = segment::file_path(dir, base, "log");
    match file::rename(&dir.join(FILE_NAME), &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed?,
    }
    let spare = file::open(&path, false)?;
    if !may_overwrite(&spare)? {
        file::remove(&path)?;
        return Ok(None);
    }
    let usable = spare.metadata()?.len().max(bytes);
    let reserved = file::reserve(&spare, usable)?;
    file::write_at(&spare, MARK, usable)?;
    Ok(Some((Arc::new(spare), reserved)))
}

/// Whether no reader has the file open or mapped. This process knows what it has mapped itself; for others
/// the kernel knows, where leases are honoured.
fn may_overwrite(spare: &File) -> io::Result<bool> {
    if sabotage::is_done(Sabotage::RecycleByLease) {
        return file::is_mine_alone(spare);
    }
    Ok(!map::is_mapped(spare)? && file::honours_leases(spare)? && file::is_mine_alone(spare)?)
}

/// Bytes of the spare; `None` when there is none.
pub fn bytes(dir: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(dir.join(FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found?.len())),
    }
}

/// Removes the spare, when there is one.
pub fn remove(dir: &Path) -> io::Result<()> {
    file::remove(&dir.join(FILE_NAME))
}

/// Whether a file of `size` bytes has the bytes of an earlier segment behind its own.
pub fn is_marked(file: &File, size: usize) -> io::Result<bool> {
    let Some(at) = size.checked_sub(MARK.len()) else {
        return Ok(false);
    };
    let mut end = [0; MARK.len()];
    file.read_exact_at(&mut end, at as u64)?;
    Ok(&end == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = segment::file_path(dir.path(), 0, "log");
        fs::write(&path, vec![7; bytes]).unwrap();
        (dir, path)
    }

    #[test]
    fn a_segment_becomes_another_and_is_marked() {
        let (dir, old) = segment(5000);
        assert!(keep(dir.path(), 0, 5000).unwrap());
        assert!(!old.exists());
        let (file, reserved) = take(dir.path(), 90, 8000).unwrap().unwrap();
        assert_eq!(reserved.bytes(), 8000);
        let path = segment::file_path(dir.path(), 90, "log");
        let content = fs::read(path).unwrap();
        assert_eq!(content.len(), 8000 + MARK.len());
        assert_eq!(content[..5000], [7; 5000]);
        assert!(is_marked(&file, content.len()).unwrap());
        assert!(!is_marked(&file, 8000).unwrap());
        assert!(take(dir.path(), 95, 1).unwrap().is_none());
    }

    #[test]
    fn what_is_small_or_not_there_is_not_kept() {
        let (dir, old) = segment(5000);
        assert!(!keep(dir.path(), 0, 5001).unwrap());
        assert!(!keep(dir.path(), 3, 0).unwrap());
        assert!(old.exists());
    }

    #[test]
    fn what_somebody_reads_or_has_a_name_for_is_never_written_to() {
        let (dir, path) = segment(5000);
        let reader = File::open(&path).unwrap();
        keep(dir.path(), 0, 0).unwrap();
        assert!(take(dir.path(), 1, 1).unwrap().is_none());
        drop(reader);

        let (dir, path) = segment(5000);
        let open = file::open(&path, false).unwrap();
        let map = crate::io::map::map_for_reading(&open, 5000).unwrap();
        drop(open);
        keep(dir.path(), 0, 0).unwrap();
        assert!(take(dir.path(), 1, 1).unwrap().is_none());
        assert_eq!(map.bytes(0..5000), [7; 5000]);
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());

        let (dir, path) = segment(5000);
        let snapshot = dir.path().join("a hard link");
        fs::hard_link(&path, &snapshot).unwrap();
        keep(dir.path(), 0, 0).unwrap();
        assert!(take(dir.path(), 1, 9000).unwrap().is_none());
        assert_eq!(fs::read(snapshot).unwrap(), [7; 5000]);
    }
}
