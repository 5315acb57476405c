//! The data directory: its lock, and the file `format` with its id and the version of its layout.

use crate::io::file;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The version of the data directory's layout. A newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// Says which layout the data directory has, and its id.
pub const FORMAT_FILE: &str = "format";
/// Locked by the broker that uses the data directory.
pub const LOCK_FILE: &str = "lock";
const FORMAT_BYTES_MAX: u64 = 64 << 10;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("the data directory {} cannot be used: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "another broker uses the data directory {}; stop it, or choose another with --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    #[error(
        "the data directory {} has format {found}; this version reads up to {FORMAT_VERSION}. \
         Use the version that wrote it, or a newer one",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "{} is not a data directory of this broker: {why}",
        path.display()
    )]
    NotOurs { path: PathBuf, why: String },
}

/// What the file `format` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Format {
    pub version: u32,
    pub cluster_id: String,
}

/// A data directory, locked for as long as this lives.
pub struct DataDir {
    pub cluster_id: Arc<str>,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing, locks it, and reads its format; an empty one becomes ours.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        file::create_dirs(path).map_err(|error| at(path, error))?;
        let lock = file::open(&path.join(LOCK_FILE), true).map_err(|error| at(path, error))?;
        file::lock(&lock).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked(path.to_owned()),
            _ => at(path, error),
        })?;
        let format = match read_format(path)? {
            Some(format) => format,
            None => new_format(path)?,
        };
        Ok(DataDir {
            cluster_id: format.cluster_id.into(),
            _lock: lock,
        })
    }
}

/// What the file `format` says; `None` if there is none.
///
/// # Errors
/// When it cannot be read, or is of a newer version.
pub fn read_format(path: &Path) -> Result<Option<Format>, DataDirError> {
    let content = file::read(&path.join(FORMAT_FILE), FORMAT_BYTES_MAX);
    let Some(content) = content.map_err(|error| at(path, error))? else {
        return Ok(None);
    };
    let format: Format =
        serde_json::from_slice(&content).map_err(|error| DataDirError::NotOurs {
            path: path.to_owned(),
            why: format!("its file `{FORMAT_FILE}` cannot be read ({error})"),
        })?;
    match format.version {
        0..=FORMAT_VERSION => Ok(Some(format)),
        found => Err(DataDirError::NewerFormat {
            path: path.to_owned(),
            found,
        }),
    }
}

/// Marks an empty directory as ours. One that holds other things is left alone.
fn new_format(path: &Path) -> Result<Format, DataDirError> {
    let at = |error| at(path, error);
    for entry in std::fs::read_dir(path).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        // lost+found: the directory may be a file system of its own.
        let known = [LOCK_FILE, "lost+found", "format.tmp"];
        if !known.iter().any(|known| name == *known) {
            return Err(DataDirError::NotOurs {
                path: path.to_owned(),
                why: format!("it has no file `{FORMAT_FILE}`, but it is not empty"),
            });
        }
    }
    let format = Format {
        version: FORMAT_VERSION,
        cluster_id: uuid::Uuid::new_v4().simple().to_string()[..22].to_owned(),
    };
    let content = serde_json::to_vec(&format).map_err(|error| at(io::Error::other(error)))?;
    file::replace(&path.join(FORMAT_FILE), &content).map_err(at)?;
    file::sync_dir(path).map_err(at)?;
    Ok(format)
}

fn at(path: &Path, error: io::Error) -> DataDirError {
    DataDirError::Io {
        path: path.to_owned(),
        error,
    }
}
