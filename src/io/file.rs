//! Blocking file operations. They run on a worker thread or at start, never on a shard's reactor.

use super::fault::{self, Event, Op};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Proof that a file has disk space for its first `bytes` bytes; only [`reserve`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reserved(u64);

impl Reserved {
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Opens `path` for reading and writing, creating it when `create`.
pub fn open(path: &Path, create: bool) -> io::Result<File> {
    fault::check(Op::Open)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o640)
        .open(path)
}

/// Opens `path` for reading only.
pub fn open_for_reading(path: &Path) -> io::Result<File> {
    fault::check(Op::Open)?;
    File::open(path)
}

/// Opens `path` for reading, or for writing too, past the page cache, where the file system lets that
/// be.
pub fn open_direct(path: &Path, to_write: bool) -> io::Result<File> {
    fault::check(Op::Open)?;
    let mut options = OpenOptions::new();
    options.read(true).write(to_write);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(path);
    match direct {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        direct => direct,
    }
}

/// Memory that files opened with [`open_direct`] can be read into and written from.
#[derive(Default)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AlignedBuffer {
    /// What devices ask for at most.
    const ALIGNMENT: usize = 4096;

    /// `bytes` is a multiple of 4,096.
    pub fn new(bytes: usize) -> AlignedBuffer {
        let memory = vec![0; bytes + Self::ALIGNMENT];
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT);
        AlignedBuffer {
            memory,
            start,
            bytes,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.bytes]
    }

    /// Reads as much as fits, or less at the end of the file. `at` is a multiple of 4,096.
    pub fn read_at(&mut self, file: &File, at: u64) -> io::Result<&[u8]> {
        let buffer = self.as_mut_slice();
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An odd count was the end of the file: nothing aligned is behind it.
                Err(error) if filled % Self::ALIGNMENT != 0 && is_misaligned(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(&buffer[..filled])
    }
}

fn is_misaligned(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Reserves disk space so that the file has at least `bytes` bytes, all of them backed by blocks.
///
/// # Errors
/// ENOSPC on a full disk. Where the file system has no fallocate(2), zeros are written instead.
pub fn reserve(file: &File, bytes: u64) -> io::Result<Reserved> {
    fault::check(Op::Reserve)?;
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: fallocate takes no pointers; the descriptor is open for as long as `file` lives.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
    if result == 0 {
        return Ok(Reserved(bytes));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            write_zeros(file, file.metadata()?.len(), bytes).map(|()| Reserved(bytes))
        }
        Some(libc::EINTR) => reserve(file, bytes),
        _ => Err(error),
    }
}

/// Makes a file of `from` bytes one of `to`, with zeros that are all written: overwriting them later
/// changes nothing but data, where writing to space that was only reserved changes metadata too.
pub fn extend_with_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    reserve(file, to)?;
    fault::check(Op::Write)?;
    write_zeros(file, from, to)
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0u8; 256 << 10];
    let mut at = from;
    while at < to {
        let take = zeros.len().min((to - at) as usize);
        file.write_all_at(&zeros[..take], at)?;
        at += take as u64;
    }
    Ok(())
}

/// Asks for a stretch of the file to be read into memory soon, without waiting for it.
pub fn will_need(file: &File, from: u64, bytes: u64) {
    let (from, bytes) = (from as libc::off_t, bytes as libc::off_t);
    // SAFETY: posix_fadvise takes no pointers; the descriptor is open for as long as `file` lives.
    // It is advice: what it answers changes nothing.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), from, bytes, libc::POSIX_FADV_WILLNEED) };
}

/// Cuts the file to `bytes` bytes. The caller sees to it that no mapping reaches beyond.
pub fn truncate(file: &File, bytes: u64) -> io::Result<()> {
    fault::check(Op::Write)?;
    file.set_len(bytes)
}

/// fdatasync(2): the data, and the metadata needed to read it back.
pub fn sync_data(file: &File) -> io::Result<()> {
    let synced = fault::check(Op::Sync).and_then(|()| file.sync_data());
    fault::tell(if synced.is_ok() {
        Event::Synced(file)
    } else {
        Event::SyncFailed(file)
    });
    synced
}

/// Makes the names in a directory durable: creations, renames and removals.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fault::check(Op::Sync)?;
    File::open(dir)?.sync_all()?;
    fault::tell(Event::DirSynced(dir));
    Ok(())
}

/// Creates a directory and those of its parents that are missing, and makes each name durable. The name
/// of one that is there already is made durable too, where its parent can be opened.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    if dir.is_dir() {
        return match sync_parent(dir) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create_dirs(dir.parent().unwrap_or(Path::new("")))?;
    create_dir(dir)
}

/// Creates a directory and makes its name durable in its parent. One that is there already is made
/// durable too: its creator may have been killed before that.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    fault::check(Op::Open)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(dir),
    }
}

/// Replaces the whole content of `path`: a crash leaves the old content or the new one. The new one is
/// on stable storage before it gets its name; the name is when the directory was synced.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    write_new(&temporary, content)
        .and_then(|()| rename(&temporary, path))
        .inspect_err(|_| {
            // On a full disk it would keep the room that others need.
            let _ = fs::remove_file(&temporary);
        })
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    fault::check(Op::Open)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)?;
    write_at(&file, content, 0)?;
    sync_data(&file)
}

/// The largest piece in which the page cache holds a file (a large folio); each starts at a multiple of
/// its size.
const CACHED_PIECE_BYTES_MAX: u64 = 2 << 20;

/// Drops what the kernel has cached of the file from byte `from` on, so that what is read next is what
/// the disk has. After a failed sync the kernel takes pages for clean that the disk never got. Written
/// again in place they would still be lost on ext4, where the pages' blocks count as written already
/// and their extents stay unwritten.
///
/// Nothing is made durable: a sync must follow.
///
/// # Errors
/// Never for bytes that cannot be written: they are what is dropped.
pub fn reload(file: &File, from: u64) -> io::Result<()> {
    // What is cached as one piece is dropped as one piece, or not at all.
    let offset = from / CACHED_PIECE_BYTES_MAX * CACHED_PIECE_BYTES_MAX;
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // Only clean pages are dropped, so dirty ones are written first. Those that cannot be written are
    // clean afterwards, and the disk does not have them. This also takes an error that was never reported
    // yet (errseq_t), which would be taken for one of the sync that counts.
    let _ = sync_data(file);
    // SAFETY: posix_fadvise takes no pointers; the descriptor is open for as long as `file` lives.
    let result =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, 0, libc::POSIX_FADV_DONTNEED) };
    fault::tell(Event::Reloaded(file, from));
    match result {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Writes `parts` one after the other at `at`, in one call where the kernel takes them in one.
///
/// # Errors
/// The kernel's; some of the bytes may have been written then.
pub fn write_parts_at(file: &File, parts: [&[u8]; 2], at: u64) -> io::Result<()> {
    let [mut first, mut second] = parts;
    let mut at = at;
    loop {
        let take = fault::check_write(first.len() + second.len())?;
        let left = [first, second];
        let written = match write_once(file, limited(left, take), at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) if first.len() + second.len() > 0 => return Err(io::ErrorKind::WriteZero.into()),
            other => other?,
        };
        fault::tell(Event::Written(file, at..at + written as u64));
        at += written as u64;
        first = &left[0][written.min(left[0].len())..];
        second = &left[1][written.saturating_sub(left[0].len())..];
        if first.is_empty() && second.is_empty() {
            return Ok(());
        }
    }
}

/// The first `bytes` bytes of parts that follow each other.
fn limited(parts: [&[u8]; 2], bytes: usize) -> [&[u8]; 2] {
    let [first, second] = parts;
    let of_first = bytes.min(first.len());
    let of_second = (bytes - of_first).min(second.len());
    [&first[..of_first], &second[..of_second]]
}

/// pwritev(2): how many bytes it took.
fn write_once(file: &File, parts: [&[u8]; 2], at: u64) -> io::Result<usize> {
    let slices = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    let offset = libc::off_t::try_from(at).map_err(io::Error::other)?;
    // SAFETY: both slices point to live bytes, which pwritev(2) only reads.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr(), 2, offset) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Writes `content` at `at`.
pub fn write_at(file: &File, content: &[u8], at: u64) -> io::Result<()> {
    write_parts_at(file, [content, &[]], at)
}

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::check(Op::Rename)?;
    fs::rename(from, to)
}

/// Removes a file; one that is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    fault::check(Op::Remove)?;
    ignore_missing(fs::remove_file(path))
}

/// Removes a directory with all that is in it; one that is not there is fine.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    fault::check(Op::Remove)?;
    ignore_missing(fs::remove_dir_all(path))
}

/// Reads a whole file of at most `limit` bytes; `None` when there is none.
///
/// # Errors
/// `InvalidData` when the file is larger than `limit`.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    fault::check(Op::Open)?;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut content = Vec::with_capacity(file.metadata()?.len().min(limit) as usize);
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(Some(content))
}

/// The directory that holds `path`, made durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Takes the exclusive lock of an open file without waiting; the lock ends with the process.
///
/// # Errors
/// `WouldBlock` when another process holds it.
pub fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(io::Error::from)
}

/// fcntl(2): which signal says that a lease is to be given up. libc does not name it.
const F_SETSIG: libc::c_int = 10;

/// Whether no one else, in this process or another, has the file open or mapped, and it has no second
/// name: then it can be overwritten safely.
///
/// The kernel says so: it grants a lease for writing (fcntl(2), `F_SETLEASE`) to the only one who has a
/// file open. Where a file system has no leases, the answer is no.
pub fn is_mine_alone(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    if file.metadata()?.nlink() != 1 {
        return Ok(false);
    }
    let descriptor = file.as_raw_fd();
    // SAFETY: these commands take numbers only; the descriptor is open for as long as `file` lives.
    // An open(2) of the file in between makes the kernel send a signal, by default one that would end
    // the process: SIGURG is ignored by default, and used for nothing else here.
    let granted = unsafe {
        libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_WRLCK) == 0
    };
    if granted {
        // SAFETY: as above.
        unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK) };
    }
    Ok(granted)
}

/// File systems whose leases (fcntl(2)) are known to see every use of a file, mappings included, by
/// their magic number (statfs(2)). overlayfs is not one: it grants a lease on the file above while the
/// file below is mapped.
const WITH_LEASES: [libc::__fsword_t; 4] = [
    libc::EXT4_SUPER_MAGIC,
    libc::XFS_SUPER_MAGIC,
    libc::BTRFS_SUPER_MAGIC,
    libc::TMPFS_MAGIC,
];

/// Whether the answer of [`is_mine_alone`] can be relied on where this file lies.
pub fn honours_leases(file: &File) -> io::Result<bool> {
    let mut stats = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` lives, and `stats` is large enough.
    if unsafe { libc::fstatfs(file.as_raw_fd(), stats.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fstatfs returned 0, so it filled the struct.
    let stats = unsafe { stats.assume_init() };
    Ok(WITH_LEASES.contains(&stats.f_type))
}

/// Whether the disk, or this user's part of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    pub total_bytes: u64,
    /// Free for this process.
    pub free_bytes: u64,
}

/// Bytes free for this process on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    Ok(volume(path)?.free_bytes)
}

/// Bytes free for this process on the file system that holds an open file.
pub fn free_bytes_of(file: &File) -> io::Result<u64> {
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` lives, and `stats` is large enough.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), stats.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fstatvfs returned 0, so it filled the struct.
    let stats = unsafe { stats.assume_init() };
    Ok(stats.f_bavail * stats.f_frsize)
}

/// How large the file system is that holds `path`, and how much of it is free.
pub fn volume(path: &Path) -> io::Result<Volume> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stats` is large enough for a statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs returned 0, so it filled the struct.
    let stats = unsafe { stats.assume_init() };
    Ok(Volume {
        total_bytes: stats.f_blocks * stats.f_frsize,
        free_bytes: stats.f_bavail * stats.f_frsize,
    })
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn each_directory_that_is_created_gets_its_name_durably() {
        let root = tempfile::tempdir().unwrap();
        let synced: Rc<RefCell<Vec<std::path::PathBuf>>> = Rc::default();
        let told = Rc::clone(&synced);
        fault::observe(move |event| {
            if let Event::DirSynced(dir) = event {
                told.borrow_mut().push(dir.to_owned());
            }
        });
        let path = |name: &str| root.path().join(name);
        create_dirs(&path("a/b/c")).unwrap();
        assert!(path("a/b/c").is_dir());
        let above = root.path().parent().unwrap().to_owned();
        let expected = [above, root.path().to_owned(), path("a"), path("a/b")];
        assert_eq!(*synced.borrow(), expected);
        // Its creator may have been killed before its name was durable.
        synced.borrow_mut().clear();
        create_dirs(&path("a/b/c")).unwrap();
        assert_eq!(*synced.borrow(), [path("a/b")]);
        fault::observe(|_| {});
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old").unwrap();
        for op in [Op::Write, Op::Sync, Op::Rename] {
            fault::inject(op, 0, libc::ENOSPC, false);
            replace(&path, b"new").unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_is_reloaded_still_has_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(&dir.path().join("file"), true).unwrap();
        write_at(&file, &[7; 10_000], 0).unwrap();
        reload(&file, 5_000).unwrap();
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), [7; 10_000]);
    }
}
