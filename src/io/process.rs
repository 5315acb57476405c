//! What the process asks of the kernel about itself: cores, descriptors, memory.

use std::io;

/// The cores that this process may run on, lowest first.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is an empty set; sched_getaffinity fills at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = std::mem::size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &mut set) != 0 {
            return vec![0];
        }
        set
    };
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect()
}

/// Pins the calling thread to `core`.
///
/// # Errors
/// EINVAL when the process may not use that core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is an empty set and `core` is checked by CPU_SET's caller below.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core.min(libc::CPU_SETSIZE as usize - 1), &mut set);
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nice of a thread that must not hold up a shard's: a tenth of its weight.
const YIELDING_NICE: libc::c_int = 10;

/// Gives the calling thread a tenth of the time where it shares a core with busy ones. A system that does
/// not let it keeps it as it is.
pub fn yield_to_others() {
    // SAFETY: setpriority takes numbers only; on Linux 0 means the calling thread (setpriority(2)).
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, YIELDING_NICE) };
}

/// Raises the soft limit on open files to the hard one and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls take a pointer to a live rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// How many mappings the kernel allows the process (`vm.max_map_count`); `None` when it does not say.
pub fn max_map_count() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    text.trim().parse().ok()
}

/// Restores the default action of SIGPIPE, so that `| head` ends a command quietly.
pub fn end_quietly_on_closed_pipe() {
    // SAFETY: SIG_DFL is a valid disposition; called before other threads start.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Resident set size of this process in bytes, from /proc/self/statm; 0 when it cannot be read.
pub fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096)
}

/// Random bytes from the kernel, for ids.
pub fn random_u64() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
