//! Where the data directory lies, and what of it a fault leaves.

mod image;

pub use image::Image;

use crate::torn::Torn;
use anyhow::{Context, bail, ensure};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SMALL_BYTES: u64 = 512 << 20;
const FILL_STEP_MIN: u64 = 4096;
const FILL_EVERY: Duration = Duration::from_millis(1);
/// What a segment's file ends with that was another one's before.
pub const RECYCLED: &[u8; 16] = b"recycled segment";
const UNMOUNT_MAX: Duration = Duration::from_secs(20);

/// The file systems whose behaviour in a power cut is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
    /// An overlay, as a container without a volume has it, whose upper directory is on ext4.
    Overlay,
}

/// The place of the data directory.
pub enum Disk {
    /// An ordinary directory: SIGKILL leaves all that was written.
    Directory(PathBuf),
    /// A file system in an image: a cut leaves what had reached the image.
    Image(Image),
    /// A small file system that can be filled up: SIGKILL leaves all that was written.
    Small(Small),
    /// An ordinary directory, of which each kill leaves many images.
    Torn(Torn),
}

impl Disk {
    pub fn data_dir(&self) -> PathBuf {
        match self {
            Disk::Directory(dir) => dir.clone(),
            Disk::Image(image) => image.data_dir(),
            Disk::Small(small) => small.data_dir(),
            Disk::Torn(torn) => torn.data.clone(),
        }
    }

    /// Copies the data directory as it is now, and the disk as the last cut left it.
    pub fn keep(&self, to: &Path) -> anyhow::Result<()> {
        copy(&self.data_dir(), &to.join("data"))?;
        if let Disk::Torn(torn) = self
            && torn.untouched().exists()
        {
            copy(&torn.untouched(), &to.join("image"))?;
        }
        if let Disk::Image(image) = self
            && image.untouched().exists()
        {
            run(
                "cp",
                [
                    OsStr::new("--sparse=always"),
                    image.untouched().as_os_str(),
                    to.join("after-the-cut.img").as_os_str(),
                ],
            )?;
        }
        Ok(())
    }
}

/// A file system of its own, which something else can fill up.
pub struct Small {
    mounted: PathBuf,
}

impl Small {
    /// Makes it below `root`. Needs to be root.
    pub fn new(root: &Path, kind: FileSystem) -> anyhow::Result<Small> {
        let (file, mounted) = (root.join("small.img"), root.join("disk"));
        sparse(&file, SMALL_BYTES)?;
        // Without blocks that only root may use: the broker runs as root here.
        let make: &[&str] = match kind {
            FileSystem::Ext4 => &["mkfs.ext4", "-q", "-m", "0"],
            FileSystem::Xfs => &["mkfs.xfs", "-q"],
            FileSystem::Overlay => bail!("a full overlay is a full ext4: try that"),
        };
        let args = make[1..].iter().map(OsStr::new);
        run(make[0], args.chain([file.as_os_str()]))?;
        std::fs::create_dir(&mounted)?;
        mount(&file, &mounted)?;
        Ok(Small { mounted })
    }

    pub fn data_dir(&self) -> PathBuf {
        self.mounted.join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("ballast")
    }

    /// Takes all space but about so many bytes.
    pub fn fill(&self, left: u64) -> anyhow::Result<()> {
        let ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        let mut step = free_bytes(&self.mounted)?;
        while step >= FILL_STEP_MIN {
            let free = free_bytes(&self.mounted)?;
            step = step.min(free.saturating_sub(left));
            let length = ballast.metadata()?.len();
            if step < FILL_STEP_MIN || !reserve(&ballast, length, step)? {
                step /= 2;
            }
        }
        Ok(())
    }

    /// Takes all space, and what becomes free while `work` goes on: the broker removes files, too.
    pub fn keep_full(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.fill(0)?;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let filler = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    self.fill(0)?;
                    std::thread::sleep(FILL_EVERY);
                }
                anyhow::Ok(())
            });
            let worked = work();
            done.store(true, Ordering::SeqCst);
            worked.and(filler.join().expect("the filler does not panic"))
        })
    }

    /// Gives the space back.
    pub fn free(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run("umount", [OsStr::new("--lazy"), self.mounted.as_os_str()]);
    }
}

fn free_bytes(at: &Path) -> anyhow::Result<u64> {
    let stats = statvfs(at)?;
    Ok(stats.f_bavail * stats.f_frsize)
}

fn is_read_only(at: &Path) -> anyhow::Result<bool> {
    Ok(statvfs(at)?.f_flag & libc::ST_RDONLY != 0)
}

fn statvfs(at: &Path) -> anyhow::Result<libc::statvfs> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(at.as_os_str().as_bytes())?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stats` is large enough for a statvfs.
    let result = unsafe { libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) };
    ensure!(result == 0, "statvfs: {}", std::io::Error::last_os_error());
    // SAFETY: statvfs returned 0, so it filled the struct.
    Ok(unsafe { stats.assume_init() })
}

/// Whether there was room.
fn reserve(file: &File, from: u64, bytes: u64) -> anyhow::Result<bool> {
    use std::os::fd::AsRawFd;
    let (from, bytes) = (from as libc::off_t, bytes as libc::off_t);
    // SAFETY: fallocate takes no pointers; the descriptor is open until the call returns.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, from, bytes) };
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        _ if result == 0 => Ok(true),
        Some(libc::ENOSPC) => Ok(false),
        _ => bail!("the ballast: {error}"),
    }
}

/// Mounts of this process and its children are theirs alone from now on.
pub fn own_mounts() -> anyhow::Result<()> {
    // SAFETY: both calls take no pointers.
    let is_root = unsafe { libc::geteuid() } == 0;
    ensure!(
        is_root,
        "this fault mounts file systems: it needs to be run as root"
    );
    // SAFETY: as above; no other thread runs yet.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        bail!("a mount namespace: {}", std::io::Error::last_os_error());
    }
    run("mount", ["--make-rprivate", "/"].map(OsStr::new))
}

/// Copies a directory with all that is in it; the directories above `to` are made.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to.parent().unwrap_or(to))?;
    let flags = ["-a", "--sparse=always"].map(OsStr::new);
    run(
        "cp",
        flags.into_iter().chain([from.as_os_str(), to.as_os_str()]),
    )
}

/// How many segments of a data directory were written over an older one: their files end with a mark
/// until they are cut to their own data (docs/format.md).
pub fn recycled(data: &Path) -> u64 {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries(data).flat_map(|dir| entries(&dir.path()));
    let logs = files.map(|file| file.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.filter(|path| is_recycled(path).unwrap_or(false))
        .count() as u64
}

fn is_recycled(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut end = [0; RECYCLED.len()];
    let file = File::open(path)?;
    let at = file.metadata()?.len().saturating_sub(end.len() as u64);
    file.read_exact_at(&mut end, at)?;
    Ok(&end == RECYCLED)
}

fn sparse(file: &Path, bytes: u64) -> anyhow::Result<()> {
    Ok(File::create(file)?.set_len(bytes)?)
}

fn mount(file: &Path, at: &Path) -> anyhow::Result<()> {
    run(
        "mount",
        [
            OsStr::new("-o"),
            OsStr::new("loop"),
            file.as_os_str(),
            at.as_os_str(),
        ],
    )
}

/// An overlay at `at` whose directories are in `on`.
fn mount_overlay(on: &Path, at: &Path) -> anyhow::Result<()> {
    let on = on.display();
    let options = format!("lowerdir={on}/lower,upperdir={on}/upper,workdir={on}/work");
    let arguments = ["-t", "overlay", "overlay", "-o", options.as_str()].map(OsStr::new);
    run("mount", arguments.into_iter().chain([at.as_os_str()]))
}

/// The kernel closes the files of a ring some time after the end of the process that had it.
fn unmount(at: &Path) -> anyhow::Result<()> {
    let until = Instant::now() + UNMOUNT_MAX;
    loop {
        match run("umount", [at.as_os_str()]) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            result => return result,
        }
    }
}

/// All of the file at one moment, sharing its blocks (FICLONE).
fn clone_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd;
    let (source, clone) = (File::open(from)?, File::create(to)?);
    // SAFETY: FICLONE takes a descriptor; both are open until the call returns.
    let result = unsafe { libc::ioctl(clone.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
    ensure!(result == 0, "FICLONE: {}", std::io::Error::last_os_error());
    Ok(())
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(())
}
