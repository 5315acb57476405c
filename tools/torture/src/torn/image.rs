//! A data directory in memory: read once, written many times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files by their path below the data directory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub files: BTreeMap<PathBuf, Content>,
    dirs: Vec<PathBuf>,
}

/// What a file has; zeros at its end are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub length: usize,
}

impl Image {
    /// A directory that is not there has nothing: a broker may be killed before it made its own.
    pub fn read(dir: &Path) -> io::Result<Image> {
        let mut image = Image::default();
        if dir.try_exists()? {
            image.add(dir, Path::new(""))?;
        }
        Ok(image)
    }

    fn add(&mut self, dir: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.dirs.push(path.clone());
                self.add(dir, &path)?;
            } else {
                let content = Content::new(fs::read(entry.path())?);
                self.files.insert(path, content);
            }
        }
        Ok(())
    }

    /// Writes it to a directory in place of whatever is there.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(dir)?,
        }
        for below in &self.dirs {
            fs::create_dir_all(dir.join(below))?;
        }
        for (path, content) in &self.files {
            let file = File::create(dir.join(path))?;
            file.write_all_at(&content.bytes, 0)?;
            file.set_len(content.length as u64)?;
        }
        Ok(())
    }
}

impl Content {
    pub fn new(mut bytes: Vec<u8>) -> Content {
        let length = bytes.len();
        let end = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(end.map_or(0, |last| last + 1));
        Content { bytes, length }
    }

    /// Sees to it that the first so many bytes can be changed in place.
    pub fn reach(&mut self, end: usize) {
        let end = end.min(self.length);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }

    pub fn cut(&mut self, length: usize) {
        self.length = length;
        self.bytes.truncate(length);
    }
}
