//! A medium that refuses writes: a file, served by FUSE to a loop device, whose ranges can be made to
//! fail.
//!
//! What the kernel does then is what it does with a disk that fails: the page is clean, the error is
//! told once, and the medium keeps what it had. The process that serves it is another one than the
//! harness. It ends with it, and then everything that waits for the medium gets an error; a thread of
//! the harness could wait for ever for another one of the same process.

use anyhow::{Context, ensure};
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The word on the command line that makes this program a medium.
pub const SUBCOMMAND: &str = "medium";
/// Attributes are asked for again each time: the file behind them is replaced.
const VALID_FOR: Duration = Duration::ZERO;

/// A medium, served by a process of its own. Dropping it ends that.
pub struct Medium {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The file that is the medium.
    pub at: PathBuf,
}

impl Medium {
    /// Serves `file` as `at`, a file that is made for it.
    pub fn serve(at: &Path, file: &Path) -> anyhow::Result<Medium> {
        File::create(at)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(SUBCOMMAND)
            .args([at, file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        // SAFETY: prctl is safe to call between fork and exec, and takes no pointers here.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("piped")?);
        let mut medium = Medium {
            child,
            orders,
            answers,
            at: at.to_owned(),
        };
        medium.answer().context("FUSE serves no file here")?;
        Ok(medium)
    }

    /// From now on another file has what the medium has. Nothing may have it open.
    pub fn change(&mut self, file: &Path) -> anyhow::Result<()> {
        self.order(&format!("use {}", file.display())).map(drop)
    }

    /// From now on writes to these bytes fail, and no others.
    pub fn fail(&mut self, ranges: &[Range<u64>]) -> anyhow::Result<()> {
        let ranges = ranges
            .iter()
            .map(|range| format!(" {}-{}", range.start, range.end));
        let ranges: String = ranges.collect();
        self.order(&format!("fail{ranges}")).map(drop)
    }

    /// From now on all writes succeed. Returns how many failed since the last time.
    pub fn heal(&mut self) -> anyhow::Result<u64> {
        self.order("heal")
    }

    fn order(&mut self, order: &str) -> anyhow::Result<u64> {
        let orders = self.orders.as_mut().context("open until it is dropped")?;
        writeln!(orders, "{order}")?;
        self.answer()
            .with_context(|| format!("the medium does not `{order}`"))
    }

    fn answer(&mut self) -> anyhow::Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let count = line.trim().strip_prefix("ok ");
        let count = count.with_context(|| format!("it says `{line}`"))?;
        Ok(count.parse()?)
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// What the process does that serves a medium: takes orders until there are no more.
pub fn run(at: &Path, file: &Path) -> anyhow::Result<()> {
    let state = Arc::new(Mutex::new(State::new(file)?));
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("torture-medium".to_owned())];
    let served = Served(Arc::clone(&state));
    let session = fuser::spawn_mount(served, at, &config)?;
    println!("ok 0");
    for order in io::stdin().lock().lines() {
        let answer = lock(&state).obey(&order?)?;
        println!("ok {answer}");
    }
    drop(session);
    Ok(())
}

struct State {
    file: File,
    failing: Vec<Range<u64>>,
    failed: u64,
}

impl State {
    fn new(file: &Path) -> io::Result<State> {
        Ok(State {
            file: File::options().read(true).write(true).open(file)?,
            failing: Vec::new(),
            failed: 0,
        })
    }

    /// Returns how many writes have failed by then.
    fn obey(&mut self, order: &str) -> anyhow::Result<u64> {
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match word {
            "use" => *self = State::new(Path::new(rest))?,
            "fail" => {
                self.failing = rest
                    .split_whitespace()
                    .map(range)
                    .collect::<Option<_>>()
                    .with_context(|| format!("no ranges: {rest}"))?;
            }
            "heal" => self.failing.clear(),
            _ => ensure!(false, "no order: {order}"),
        }
        let failed = self.failed;
        if word == "heal" {
            self.failed = 0;
        }
        Ok(failed)
    }

    fn write(&mut self, data: &[u8], at: u64) -> io::Result<()> {
        let end = at + data.len() as u64;
        if self
            .failing
            .iter()
            .any(|range| range.start < end && at < range.end)
        {
            self.failed += 1;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.file.write_all_at(data, at)
    }
}

fn range(word: &str) -> Option<Range<u64>> {
    let (start, end) = word.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    crate::model::lock(state)
}

/// The only file of the file system, its root.
struct Served(Arc<Mutex<State>>);

impl Served {
    fn attributes(&self) -> io::Result<FileAttr> {
        Ok(FileAttr {
            ino: INodeNo::ROOT,
            size: lock(&self.0).file.metadata()?.len(),
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn reply_attributes(&self, reply: ReplyAttr) {
        match self.attributes() {
            Ok(attributes) => reply.attr(&VALID_FOR, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }
}

impl Filesystem for Served {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.reply_attributes(reply);
    }

    /// Times are of no interest, and the size stays.
    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.reply_attributes(reply);
    }

    /// Nothing is kept in the page cache: what is read is what the medium has.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut data = vec![0; size as usize];
        let read = lock(&self.0).file.read_at(&mut data, at);
        match read {
            Ok(count) => reply.data(&data[..count]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = lock(&self.0).write(data, at);
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    /// What was written is on the medium: it has no cache of its own.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_touches_a_failing_range_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [1; 100]).unwrap();
        let mut state = State::new(&path).unwrap();
        state.obey("fail 10-20 50-60").unwrap();
        for at in [5, 15, 55] {
            state.write(&[2; 10], at).unwrap_err();
        }
        state.write(&[3; 10], 0).unwrap();
        state.write(&[3; 30], 20).unwrap();
        assert_eq!(state.obey("heal").unwrap(), 3);
        state.write(&[4; 10], 50).unwrap();
        let expected = [[3; 10], [1; 10], [3; 10], [3; 10], [3; 10], [4; 10]].concat();
        assert_eq!(std::fs::read(&path).unwrap()[..60], expected);
        assert_eq!(state.obey("heal").unwrap(), 0);
    }
}
