//! A directory, and what a power cut would leave of it.
//!
//! Every sync that succeeds is seen through `io::fault`: a synced file's content and a synced
//! directory's names are certain to be there afterwards. Of everything else, any part may have
//! reached the medium: each block of a file, its size, and each name on its own.

use super::rng::Rng;
use millstream::io::fault::{self, Synced};
use millstream::io::file;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub struct Disk {
    root: tempfile::TempDir,
    synced: Rc<RefCell<State>>,
}

/// What is certain.
#[derive(Default)]
struct State {
    /// Content by inode number. The handle keeps the number from being used again.
    files: BTreeMap<u64, (File, Vec<u8>)>,
    /// Names in the log's directory.
    names: BTreeMap<String, u64>,
    /// Whether the log's directory itself is certain.
    has_dir: bool,
}

impl Disk {
    /// In memory where the system has a place for that: a run makes thousands of syncs.
    pub fn new() -> Disk {
        let memory = Path::new("/dev/shm");
        let root = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let disk = Disk {
            root: root.unwrap(),
            synced: Rc::default(),
        };
        let (state, dir) = (Rc::clone(&disk.synced), disk.log_dir());
        fault::observe_syncs(move |what| state.borrow_mut().note(&dir, what));
        disk
    }

    pub fn log_dir(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// Base offsets of the segments' files.
    pub fn segment_bases(&self) -> Vec<i64> {
        millstream::log::recovery::list_segments(&self.log_dir()).unwrap_or_default()
    }

    /// Damages the checkpoint, for good.
    pub fn lose_checkpoint(&self, rng: &mut Rng) {
        let path = self.log_dir().join("checkpoint");
        if let Ok(content) = fs::read(&path) {
            let keep = rng.below(content.len() as u64) as usize;
            fs::write(&path, &content[..keep]).unwrap();
            file::sync_data(&File::open(&path).unwrap()).unwrap();
            file::sync_dir(&self.log_dir()).unwrap();
        }
    }

    /// Replaces the directory by one that a power cut now could leave.
    pub fn cut_power(&self, rng: &mut Rng) {
        let image = self.image(rng);
        let _ = fs::remove_dir_all(self.log_dir());
        let mut state = State::default();
        if let Some(image) = image {
            fs::create_dir(self.log_dir()).unwrap();
            state.has_dir = true;
            for (name, content) in image {
                let path = self.log_dir().join(&name);
                fs::write(&path, &content).unwrap();
                let inode = state.keep(handle(&path));
                state.names.insert(name, inode);
            }
        }
        *self.synced.borrow_mut() = state;
    }

    fn image(&self, rng: &mut Rng) -> Option<BTreeMap<String, Vec<u8>>> {
        let synced = self.synced.borrow();
        let now = list(&self.log_dir());
        if !self.log_dir().exists() || (!synced.has_dir && rng.one_in(2)) {
            return None;
        }
        let mut image = BTreeMap::new();
        let names: BTreeSet<&String> = synced.names.keys().chain(now.keys()).collect();
        for name in names {
            let old = synced.names.get(name).map(|inode| &synced.files[inode].0);
            let new = now.get(name).map(|(_, file)| file);
            let Some(file) = (if rng.one_in(2) { old } else { new }) else {
                continue;
            };
            let mut content = synced.torn(file, rng);
            if name.ends_with(".index") && !damage_index(&mut content, rng) {
                continue;
            }
            image.insert(name.clone(), content);
        }
        Some(image)
    }
}

impl State {
    fn note(&mut self, log_dir: &Path, what: Synced<'_>) {
        match what {
            Synced::File(file) => {
                self.keep(handle(&opened_path(file)));
            }
            Synced::Dir(dir) if dir == log_dir => {
                self.names.clear();
                for (name, (inode, file)) in list(log_dir) {
                    // The name is certain now, the content is not.
                    self.files.entry(inode).or_insert((file, Vec::new()));
                    self.names.insert(name, inode);
                }
            }
            Synced::Dir(_) => self.has_dir = log_dir.exists(),
        }
    }

    fn keep(&mut self, file: File) -> u64 {
        let inode = file.metadata().unwrap().ino();
        let content = read(&file);
        self.files.insert(inode, (file, content));
        inode
    }

    /// The content of a file whose blocks since its last sync reached the medium or did not.
    fn torn(&self, file: &File, rng: &mut Rng) -> Vec<u8> {
        let new = read(file);
        let inode = file.metadata().unwrap().ino();
        let none = Vec::new();
        let old = self.files.get(&inode).map_or(&none, |(_, content)| content);
        let length = if rng.one_in(2) { old.len() } else { new.len() };
        let block = if rng.one_in(4) { 512 } else { 4096 };
        // All old and all new are likelier than chance would have them.
        let taste = rng.below(4);
        let mut torn = vec![0; length];
        for start in (0..length).step_by(block) {
            let end = (start + block).min(length);
            let source = match taste {
                0 => old,
                1 => &new,
                _ if rng.one_in(2) => old,
                _ => &new,
            };
            let there = source.get(start..end.min(source.len())).unwrap_or_default();
            torn[start..start + there.len()].copy_from_slice(there);
        }
        torn
    }
}

/// An index file is a cache: it may hold anything, or be gone (false).
fn damage_index(content: &mut Vec<u8>, rng: &mut Rng) -> bool {
    let length = content.len() as u64;
    match rng.below(8) {
        0 => return false,
        1 => content.fill(0),
        2 => content.iter_mut().for_each(|byte| *byte = rng.next() as u8),
        3 => content.truncate(rng.below(length) as usize),
        4 => content.resize((length + rng.below(100)) as usize, 0),
        5 => {
            let at = rng.below(length) as usize;
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        _ => {}
    }
    true
}

fn list(dir: &Path) -> BTreeMap<String, (u64, File)> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let file = handle(&path);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        names.insert(name, (file.metadata().unwrap().ino(), file));
    }
    names
}

/// Holds on to a file without having it open, which would keep the log from recycling it.
fn handle(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_PATH);
    options.open(path).unwrap()
}

fn opened_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn read(handle: &File) -> Vec<u8> {
    fs::read(opened_path(handle)).unwrap()
}
