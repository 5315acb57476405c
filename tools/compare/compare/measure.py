"""What /proc and the file system tell of a process and of the machine."""

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import pathlib
import shutil
import threading
import time

SAMPLE_SECONDS = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = mmap.PAGESIZE
MADV_POPULATE_WRITE = 23
WARM_MEMORY_SHARE = 0.8
WARM_FILE_BYTES = 4_000_000_000
DISK_RESERVE_BYTES = 5_000_000_000


class Sampler:
    """Reads the CPU time and memory of processes, and the machine's CPU time, every 50 ms until it is left."""

    def __init__(self, *pids):
        self.pids = [pid for pid in pids if pid]
        self.cpu = {pid: [] for pid in self.pids}
        self.user = {pid: [] for pid in self.pids}
        self.anon_peak = {pid: 0 for pid in self.pids}
        self.machine_user, self.machine_steal = [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._sample()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self._sample()

    def cpu_seconds(self, pid, begin, end):
        """CPU time spent between two moments (time.monotonic), between samples taken as even."""
        return between(self.cpu[pid], begin, end)

    def others_seconds(self, begin, end):
        """CPU time that programs other than these took, and that the host gave to other machines. What
        the kernel does cannot be told apart, and is not in it."""
        own = sum(between(self.user[pid], begin, end) for pid in self.pids)
        stolen = between(self.machine_steal, begin, end)
        return max(between(self.machine_user, begin, end) - own, 0) + stolen

    def _run(self):
        while not self.stopped.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self):
        now = time.monotonic()
        user, steal = machine_seconds()
        self.machine_user.append((now, user))
        self.machine_steal.append((now, steal))
        for pid in self.pids:
            with contextlib.suppress(OSError, ValueError):
                user, system = cpu_seconds(pid)
                now = time.monotonic()
                self.cpu[pid].append((now, user + system))
                self.user[pid].append((now, user))
                self.anon_peak[pid] = max(self.anon_peak[pid], memory(pid)["RssAnon"])


def between(samples, begin, end):
    return at(samples, end) - at(samples, begin)


def at(samples, moment):
    """The value at a moment, from (moment, value) in their order."""
    before = samples[0]
    for sample in samples:
        if sample[0] >= moment:
            span = sample[0] - before[0]
            share = (moment - before[0]) / span if span > 0 else 1.0
            return before[1] + (sample[1] - before[1]) * max(share, 0.0)
        before = sample
    return before[1]


def cpu_seconds(pid):
    """User and system time of all its threads, those that have ended too."""
    return parse_cpu_seconds(pathlib.Path(f"/proc/{pid}/stat").read_text())


def parse_cpu_seconds(stat):
    # The name, in parentheses, may have spaces and parentheses in it.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def machine_seconds():
    """The user time of all programs, and the time that the host took away."""
    return parse_machine_seconds(pathlib.Path("/proc/stat").read_text())


def parse_machine_seconds(stat):
    fields = [int(field) for field in stat.splitlines()[0].split()[1:]]
    return (fields[0] + fields[1]) / TICKS, fields[7] / TICKS


def memory(pid):
    """VmHWM (the most it ever had in memory, mapped files included), VmRSS and RssAnon, in bytes."""
    return parse_memory(pathlib.Path(f"/proc/{pid}/status").read_text())


def parse_memory(status):
    found = dict.fromkeys(("VmHWM", "VmRSS", "RssAnon"), 0)
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return found


def disk_bytes(folder):
    """What a folder's files take of the disk, holes left out."""
    total = 0
    for path in pathlib.Path(folder).rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def device_written_bytes(folder):
    """What was written to the device that a folder is on, by anybody, since the machine started. None where
    that cannot be told."""
    device = os.stat(folder).st_dev
    stat = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return parse_device_written_bytes(stat.read_text())
    except OSError:
        return None


def parse_device_written_bytes(stat):
    # The seventh number counts sectors of 512 bytes, whatever the device's own are.
    return int(stat.split()[6]) * 512


def free_bytes(folder):
    """What may be written there without filling the disk."""
    return max(shutil.disk_usage(folder).free - DISK_RESERVE_BYTES, 0)


@contextlib.contextmanager
def on_cores(cores):
    """Children that are started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# ---- the page cache ----


def evict(folder):
    """Drops a folder's files from the page cache. Nobody may have them mapped."""
    os.sync()
    for path in files(folder):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_share(folder):
    """Which share of the bytes in a folder's files is in the page cache."""
    resident = total = 0
    for path in files(folder):
        try:
            pages, found = resident_pages(path)
        except FileNotFoundError:
            # Checkpoints come and go while the broker runs.
            continue
        total += pages
        resident += found
    return resident / total if total else 0.0


def resident_pages(path):
    size = path.stat().st_size
    if size == 0:
        return 0, 0
    with open(path, "rb") as file:
        # A private writable mapping, only because ctypes wants to be able to write to what it points at.
        with mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            pages = (size + PAGE - 1) // PAGE
            vector = (ctypes.c_ubyte * pages)()
            start = ctypes.c_char.from_buffer(mapped)
            failed = ctypes.CDLL(None, use_errno=True).mincore(
                ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), vector
            )
            del start
            if failed:
                raise OSError(ctypes.get_errno(), "mincore")
            return pages, sum(byte & 1 for byte in bytes(vector))


def files(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


# ---- warming ----


def warm(folder):
    """Has the machine's memory and some of its disk touched, so that nobody's figures pay for a virtual
    machine that gets them page by page. Returns what that took, in words: new pages and new blocks are
    what every broker needs, and some machines are slow to hand them out."""
    size = int(available_memory() * WARM_MEMORY_SHARE)
    child = multiprocessing.Process(target=touch_memory, args=(size,))
    memory_seconds = timed(lambda: (child.start(), child.join()))
    written = min(WARM_FILE_BYTES, free_bytes(folder) // 2)
    disk_seconds = timed(lambda: touch_disk(folder, written))
    return {
        "new pages": f"{size / 1e9:.1f} GB touched at {size / 1e9 / memory_seconds:.1f} GB/s by one core",
        "new blocks": f"{written / 1e9:.1f} GB written and synced at {written / 1e9 / disk_seconds:.1f} GB/s",
    }


def timed(work):
    started = time.monotonic()
    work()
    return time.monotonic() - started


def touch_memory(size):
    with mmap.mmap(-1, size) as memory_map:
        try:
            memory_map.madvise(MADV_POPULATE_WRITE)
        except OSError:
            memory_map[::PAGE] = b"\1" * len(range(0, size, PAGE))


def touch_disk(folder, size):
    path = pathlib.Path(folder) / "warm"
    block = b"\1" * (1 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def available_memory():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
