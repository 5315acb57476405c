//! System calls that the standard library lacks, and the flag that a signal sets.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGTERM and SIGINT only make [`is_stopped`] true.
pub fn stop_on_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: an all-zero sigaction is one without flags and mask; the handler only stores an
        // atomic, which is safe in a signal handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = stop as *const () as usize;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether a signal has asked for the end.
pub fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Runs the calling thread, and those that it starts from now on, on one core only.
pub fn pin(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    if core >= libc::CPU_SETSIZE as usize {
        bail!("there is no core {core}");
    }
    // SAFETY: the set is plain memory of the size that is passed, and the core is within it.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    check(done as isize)
        .map(drop)
        .with_context(|| format!("cannot run on core {core}: choose one that `nproc --all` counts"))
}

/// Reserves `bytes` for the file, which reads as zeros.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as i64) } as isize).map(drop)
}

/// Receives what has come.
pub fn recv(socket: RawFd, to: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as that.
    check(unsafe { libc::recv(socket, to.as_mut_ptr().cast(), to.len(), 0) })
}

/// Sends as much of the slices as fits; `more` follows at once.
pub fn send(socket: RawFd, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: IoSlice is an iovec by its documentation; a zeroed msghdr is an empty one.
    check(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = slices.as_ptr() as *mut libc::iovec;
        message.msg_iovlen = slices.len();
        let more = if more { libc::MSG_MORE } else { 0 };
        libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL | more)
    })
}

/// Sends from a file.
pub fn sendfile(socket: RawFd, file: &File, position: u64, bytes: usize) -> io::Result<usize> {
    let mut position = position as i64;
    // SAFETY: the position outlives the call.
    check(unsafe { libc::sendfile(socket, file.as_raw_fd(), &mut position, bytes) })
}

/// Something that wakes a poll from another thread.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> io::Result<Waker> {
        // SAFETY: no memory is passed; the descriptor is new and nobody else's.
        let fd =
            check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) } as isize)?;
        // SAFETY: as above.
        Ok(Waker(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read. It can only fail when it is awake already.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    /// Sleeps again.
    pub fn reset(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are written. It can only fail when nobody woke it.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What is waited for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Bytes,
    Room,
    /// Only that the other side is gone altogether.
    Nothing,
}

/// An epoll instance, level-triggered.
pub struct Poll(OwnedFd);

/// What became ready.
pub type Event = libc::epoll_event;

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: no memory is passed; the descriptor is new and nobody else's.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        // SAFETY: as above.
        Ok(Poll(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Events of `fd` come with `token`.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, Interest::Bytes)
    }

    /// Waits for something else from now on.
    pub fn change(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, what: i32, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Bytes => libc::EPOLLIN,
            Interest::Room => libc::EPOLLOUT,
            Interest::Nothing => 0,
        };
        let mut event = Event {
            events: events as u32,
            u64: token,
        };
        // SAFETY: the event outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &mut event) } as isize)
            .map(drop)
    }

    /// Waits until something is ready, for `timeout_ms` at most; a signal ends it too.
    pub fn wait<'e>(&self, events: &'e mut [Event], timeout_ms: i32) -> io::Result<&'e [Event]> {
        let most = events.len() as i32;
        // SAFETY: as many events as there are places for are written.
        let found = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), most, timeout_ms)
        } as isize);
        match found {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
            Ok(count) => Ok(&events[..count]),
        }
    }
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
