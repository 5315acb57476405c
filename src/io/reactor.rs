//! The event loop of one thread, and the tasks that run on it.
//!
//! Nothing outside `io` names the crate behind it, so another reactor can take its place here.

use std::io;
use tokio::task::JoinHandle;

/// Submission entries. More operations than this at once cost one more system call.
const SUBMISSION_ENTRIES: u32 = 256;
/// Completion entries: a read and a write for each of some thousands of connections.
const COMPLETION_ENTRIES: u32 = 16 << 10;
/// What will do where memory is in too many pieces for more. Completions that find no room wait in the
/// kernel.
const COMPLETION_ENTRIES_MIN: u32 = 1 << 10;

/// Runs `main` on the calling thread, with the tasks that it spawns, until `main` ends. Tasks that still
/// run then are left as they are: the caller's thread, and with it the process, is on its way out.
///
/// # Errors
/// When the ring cannot be made; nothing was run then.
pub fn run(main: impl Future<Output = ()>) -> io::Result<()> {
    let runtime = make_runtime(COMPLETION_ENTRIES)?;
    runtime.block_on(main);
    // Operations may still be in flight on sockets of clients that hold on; the process ends now, and
    // the kernel with it ends them.
    std::mem::forget(runtime);
    Ok(())
}

fn make_runtime(completion_entries: u32) -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(completion_entries);
    let mut builder = tokio_uring::builder();
    builder.entries(SUBMISSION_ENTRIES).uring_builder(&ring);
    match tokio_uring::Runtime::new(&builder) {
        // The kernel wants the entries in one piece of memory.
        Err(error)
            if error.raw_os_error() == Some(libc::ENOMEM)
                && completion_entries > COMPLETION_ENTRIES_MIN =>
        {
            make_runtime(completion_entries / 2)
        }
        made => made,
    }
}

/// Runs a test's `main` on the calling thread and ends all that it spawned.
#[cfg(any(test, feature = "faults"))]
pub fn start<T>(main: impl Future<Output = T>) -> T {
    tokio_uring::start(main)
}

/// Starts a task on this thread's reactor.
pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio_uring::spawn(task)
}
