//! Operations on files that a shard waits for. They go through its io_uring; over epoll, which knows no
//! files, a thread waits for the disk.

use super::fault::{self, Op};
use super::file::AlignedBuffer;
use super::reactor::Reactor;
use super::sabotage::{self, Sabotage};
use io_uring::{cqueue, opcode, types};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// fdatasync(2) through the ring of the current shard. Covers what was stored through mappings too.
///
/// # Errors
/// Whatever the medium reports. After an error the kernel may have dropped the dirty pages and the
/// error both, so the caller must never take a later success as proof for the same bytes.
pub async fn sync_data(file: Arc<File>) -> io::Result<()> {
    fault::check(Op::Sync)?;
    if sabotage::is_done(Sabotage::SkipFsync) {
        return Ok(());
    }
    if Reactor::current() == Reactor::Epoll {
        return on_a_thread(move || file.sync_data()).await?;
    }
    let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd()))
        .flags(types::FsyncFlags::DATASYNC)
        .build();
    // The operation owns a handle of the file, so the descriptor stays open until it completes.
    UnsubmittedOneshot::new(file, SyncDone, entry)
        .submit()
        .await
}

/// Has the kernel write a range of a file out, and waits until the device has taken it
/// (sync_file_range(2)). Nothing is durable before a [`sync_data`], which then has less to do.
///
/// # Errors
/// Whatever the medium reports. The kernel tells it once: the `sync_data` that follows may succeed, so
/// this error counts as one of it.
pub async fn write_out(file: Arc<File>, range: Range<u64>) -> io::Result<()> {
    fault::check(Op::Sync)?;
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let bytes = range.end - range.start;
    if Reactor::current() == Reactor::Epoll {
        let [start, bytes] = [range.start, bytes].map(libc::off64_t::try_from);
        let (start, bytes) = start
            .and_then(|start| Ok((start, bytes?)))
            .map_err(io::Error::other)?;
        // SAFETY: no pointers; the descriptor is open for as long as `file` lives.
        let write_out =
            move || match unsafe { libc::sync_file_range(file.as_raw_fd(), start, bytes, flags) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
        return on_a_thread(write_out).await?;
    }
    let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
    let entry = opcode::SyncFileRange::new(types::Fd(file.as_raw_fd()), bytes)
        .offset(range.start)
        .flags(flags)
        .build();
    UnsubmittedOneshot::new(file, SyncDone, entry)
        .submit()
        .await
}

/// Writes the first `bytes` bytes of a buffer to a file at `at`, in one operation that ends when they are
/// durable (RWF_DSYNC, see pwritev2(2)). `at` and `bytes` are multiples of 4,096. The buffer is returned.
///
/// # Errors
/// Whatever the medium reports, and `WriteZero` where only a part was written.
pub async fn write_durably(
    file: Arc<File>,
    mut buffer: AlignedBuffer,
    bytes: usize,
    at: u64,
) -> (io::Result<()>, AlignedBuffer) {
    if let Err(error) = fault::check(Op::Write).and_then(|()| fault::check(Op::Sync)) {
        return (Err(error), buffer);
    }
    let flags = if sabotage::is_done(Sabotage::SkipFsync) {
        0
    } else {
        libc::RWF_DSYNC
    };
    if Reactor::current() == Reactor::Epoll {
        let write = move || {
            (
                write_at_once(&file, &buffer.as_mut_slice()[..bytes], at, flags),
                buffer,
            )
        };
        return match on_a_thread(write).await {
            Ok(done) => done,
            Err(error) => (Err(error), AlignedBuffer::default()),
        };
    }
    let memory = buffer.as_mut_slice()[..bytes].as_ptr();
    let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), memory, bytes as u32)
        .offset(at)
        .rw_flags(flags)
        .build();
    // The operation owns the buffer, whose memory does not move with it, and a handle of the file.
    let (result, buffer) = UnsubmittedOneshot::new((file, buffer), WriteDone, entry)
        .submit()
        .await;
    (all_written(result, bytes), buffer)
}

/// pwritev2(2) of all bytes at once.
fn write_at_once(file: &File, bytes: &[u8], at: u64, flags: libc::c_int) -> io::Result<()> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let at = libc::off_t::try_from(at).map_err(io::Error::other)?;
    // SAFETY: `part` describes `bytes`, which lives until the call returns and is only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, at, flags) };
    let written = usize::try_from(written).map_err(|_| io::Error::last_os_error());
    all_written(written, bytes.len())
}

fn all_written(written: io::Result<usize>, bytes: usize) -> io::Result<()> {
    match written? {
        count if count == bytes => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
}

struct WriteDone;

impl OneshotOutputTransform for WriteDone {
    type Output = (io::Result<usize>, AlignedBuffer);
    type StoredData = (Arc<File>, AlignedBuffer);

    fn transform_oneshot_output(
        self,
        (_, buffer): Self::StoredData,
        completion: cqueue::Entry,
    ) -> Self::Output {
        (outcome(&completion), buffer)
    }
}

struct SyncDone;

impl OneshotOutputTransform for SyncDone {
    type Output = io::Result<()>;
    type StoredData = Arc<File>;

    fn transform_oneshot_output(self, _: Arc<File>, completion: cqueue::Entry) -> Self::Output {
        outcome(&completion).map(drop)
    }
}

/// What an operation brought, or the errno behind its sign.
fn outcome(completion: &cqueue::Entry) -> io::Result<usize> {
    let code = completion.result();
    usize::try_from(code).map_err(|_| io::Error::from_raw_os_error(-code))
}

/// Whether this process may use io_uring.
///
/// # Errors
/// The kernel's error, with the setting that forbids it named where one does.
pub fn probe() -> io::Result<()> {
    let Err(error) = io_uring::IoUring::new(2) else {
        return Ok(());
    };
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let why = match (error.raw_os_error(), setting.as_deref().map(str::trim)) {
        (Some(libc::EPERM), Ok("1")) => {
            "kernel.io_uring_disabled=1 allows io_uring to privileged processes only; \
             set it to 0 or add this user to kernel.io_uring_group"
        }
        (Some(libc::EPERM), Ok("2")) => "kernel.io_uring_disabled=2 forbids io_uring; set it to 0",
        (Some(libc::EPERM), _) => {
            "the sandbox's seccomp profile forbids io_uring_setup; allow the io_uring_* calls"
        }
        (Some(libc::ENOSYS), _) => "this kernel has no io_uring (Linux 5.14 or newer is needed)",
        (Some(libc::ENOMEM), _) => "the limit on locked memory is too low; raise ulimit -l",
        _ => "io_uring_setup failed",
    };
    Err(io::Error::new(error.kind(), format!("{why} ({error})")))
}
