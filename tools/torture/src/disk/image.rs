//! A file system in an image, whose power can be cut: the image is cloned as it is.

use super::{FileSystem, clone_file, mount, mount_overlay, run, sparse, unmount};
use crate::extents;
use crate::medium::Medium;
use anyhow::Context;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The image's size; sparse, so only what is used takes space.
const IMAGE_BYTES: u64 = 1 << 30;
const HOST_BYTES: u64 = 6 << 30;

/// A file system in an image file on an xfs that can clone files (itself in an image).
///
/// All mounts are made in a mount namespace of this process, so they go with it, and their loop
/// devices with them.
pub struct Image {
    kind: FileSystem,
    host: PathBuf,
    mounted: PathBuf,
    /// Where an overlay is mounted whose upper directory is on the image.
    overlay: Option<PathBuf>,
    /// What refuses writes, between the image and its loop device.
    medium: Option<Medium>,
    number: u32,
    /// Whether faults may cut the power. Without, all that was written is there.
    pub loses_power: bool,
}

impl Image {
    /// Makes the images below `root`. Needs to be root. With `fails`, writes can be made to fail.
    pub fn new(root: &Path, kind: FileSystem, fails: bool) -> anyhow::Result<Image> {
        let file = root.join("host.img");
        sparse(&file, HOST_BYTES)?;
        run(
            "mkfs.xfs",
            ["-q", "-m", "reflink=1"]
                .map(OsStr::new)
                .into_iter()
                .chain([file.as_os_str()]),
        )
        .context("mkfs.xfs is in the package xfsprogs")?;
        let directory = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir(&path).map(|()| path)
        };
        let overlay = match kind {
            FileSystem::Overlay => Some(directory("overlay")?),
            _ => None,
        };
        let mut image = Image {
            kind,
            host: directory("host")?,
            mounted: directory("disk")?,
            overlay,
            medium: None,
            number: 0,
            loses_power: true,
        };
        mount(&file, &image.host)?;
        image.make()?;
        if fails {
            image.medium = Some(Medium::serve(&root.join("medium"), &image.file())?);
        }
        image.mount()?;
        image.make_directories()?;
        Ok(image)
    }

    pub fn data_dir(&self) -> PathBuf {
        let at = self.overlay.as_ref().unwrap_or(&self.mounted);
        at.join("data")
    }

    /// The data directory where its files are on the image.
    fn data_on_image(&self) -> PathBuf {
        match self.overlay {
            Some(_) => self.upper().join("data"),
            None => self.mounted.join("data"),
        }
    }

    fn upper(&self) -> PathBuf {
        self.mounted.join("upper")
    }

    fn file(&self) -> PathBuf {
        self.host.join(format!("disk-{}.img", self.number))
    }

    fn clone_file(&self) -> PathBuf {
        self.host.join(format!("disk-{}.img", self.number + 1))
    }

    /// A copy of the clone that nothing has mounted yet.
    pub fn untouched(&self) -> PathBuf {
        self.host.join("untouched.img")
    }

    /// Makes the file system.
    fn make(&self) -> anyhow::Result<()> {
        sparse(&self.file(), IMAGE_BYTES)?;
        let make = match self.kind {
            FileSystem::Ext4 | FileSystem::Overlay => "mkfs.ext4",
            FileSystem::Xfs => "mkfs.xfs",
        };
        run(make, [OsStr::new("-q"), self.file().as_os_str()])
    }

    fn mount(&self) -> anyhow::Result<()> {
        match &self.medium {
            Some(medium) => mount(&medium.at, &self.mounted)?,
            None => mount(&self.file(), &self.mounted)?,
        }
        match &self.overlay {
            // Of a new file system they are made afterwards.
            Some(overlay) if self.upper().exists() => mount_overlay(&self.mounted, overlay),
            _ => Ok(()),
        }
    }

    /// What an overlay needs, for good.
    fn make_directories(&self) -> anyhow::Result<()> {
        let Some(overlay) = &self.overlay else {
            return Ok(());
        };
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir(self.mounted.join(name))?;
        }
        File::open(&self.mounted)?.sync_all()?;
        mount_overlay(&self.mounted, overlay)
    }

    fn unmount(&self) -> anyhow::Result<()> {
        if let Some(overlay) = &self.overlay {
            unmount(overlay)?;
        }
        unmount(&self.mounted)
    }

    /// Clones the image: what is in the clone is what a cut at this moment leaves.
    pub fn cut(&self) -> anyhow::Result<()> {
        clone_file(&self.file(), &self.clone_file())
    }

    /// From now on the clone is the disk. Nothing may use the old one any more.
    pub fn go_on_with_clone(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        std::fs::remove_file(self.file())?;
        self.number += 1;
        clone_file(&self.file(), &self.untouched())?;
        self.change_medium()?;
        self.mount()
    }

    /// An empty file system in place of this one. Nothing may use the old one any more.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        std::fs::remove_file(self.file())?;
        self.number += 1;
        self.make()?;
        self.change_medium()?;
        self.mount()?;
        self.make_directories()
    }

    fn change_medium(&mut self) -> anyhow::Result<()> {
        let file = self.file();
        match &mut self.medium {
            Some(medium) => medium.change(&file),
            None => Ok(()),
        }
    }

    /// Whether writes can be made to fail.
    pub fn fails(&self) -> bool {
        self.medium.is_some()
    }

    /// From now on the medium refuses what is written where those files of the data directory lie that
    /// are `wanted`. Files that grow elsewhere meanwhile are not among them.
    pub fn fail(&mut self, wanted: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        let mut ranges = Vec::new();
        for path in files(&self.data_on_image()) {
            if !wanted(&path) {
                continue;
            }
            match extents::of(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => ranges.extend(found?),
            }
        }
        match &mut self.medium {
            Some(medium) => medium.fail(&merged(ranges)),
            None => Ok(()),
        }
    }

    /// The medium takes all writes again. Returns how many it refused.
    pub fn heal(&mut self) -> anyhow::Result<u64> {
        match &mut self.medium {
            Some(medium) => medium.heal(),
            None => Ok(0),
        }
    }

    /// Whether the file system has given up, as it does when the medium refuses its own journal: only
    /// a mount brings it back.
    pub fn is_dead(&self) -> bool {
        super::is_read_only(&self.mounted).unwrap_or(true)
            || std::fs::read_dir(&self.mounted).is_err()
            || self.refuses_files()
    }

    /// Some kernels let it look as if it could be written.
    fn refuses_files(&self) -> bool {
        let probe = self.mounted.join("probe");
        let made = std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe));
        made.is_err_and(|error| error.kind() != std::io::ErrorKind::StorageFull)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let overlay = self.overlay.iter();
        for at in overlay.chain([&self.mounted]) {
            let _ = run("umount", [OsStr::new("--lazy"), at.as_os_str()]);
        }
        // What it serves is on the host.
        self.medium = None;
        let _ = run("umount", [OsStr::new("--lazy"), self.host.as_os_str()]);
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

/// The same bytes in as few ranges as there can be.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
