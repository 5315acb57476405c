//! A directory, and what a power cut would leave of it.
//!
//! Every sync is seen through `io::fault`: a synced file's content and a synced directory's names are
//! certain to be there afterwards. Of everything else, any part may have reached the medium: each block
//! of a file, its size, and each name on its own, but for the two of a rename, which is atomic. After a sync that failed, the blocks that it should
//! have written are clean to the kernel and not on the medium; no later sync brings them there, unless
//! they are written again.

use super::rng::Rng;
use millstream::io::fault::{self, Event};
use millstream::io::file;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub struct Disk {
    root: tempfile::TempDir,
    synced: Rc<RefCell<State>>,
}

/// What is certain, by inode number. The handles keep the numbers from being used again.
#[derive(Default)]
struct State {
    /// Contents.
    files: BTreeMap<u64, (File, Vec<u8>)>,
    /// Names in directories.
    dirs: BTreeMap<u64, (File, BTreeMap<String, u64>)>,
    /// Blocks that were written since the last sync of their file.
    dirty: BTreeMap<u64, BTreeSet<u64>>,
    /// Blocks whose last sync failed, and that were not written since.
    lost: BTreeMap<u64, BTreeSet<u64>>,
    /// How often writing a file back failed.
    errors: BTreeMap<u64, u64>,
    /// How many of these each open file was told of, by its descriptor and its inode: a descriptor's
    /// number is used again, for other files too.
    told: BTreeMap<(i32, u64), u64>,
    /// A sync failed since the process that has files open began.
    has_failed: bool,
}

/// What the kernel writes as a whole: a page.
const BLOCK_BYTES: u64 = 4096;

/// What a power cut leaves.
enum Image {
    File(Vec<u8>),
    Dir(BTreeMap<String, Image>),
}

/// What was moved and is still where it was, by inode number: nothing is ever in two places.
type Moves = BTreeMap<u64, bool>;

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
        let (state, root) = (Rc::clone(&disk.synced), disk.root().to_owned());
        fault::observe(move |what| state.borrow_mut().note(&root, what));
        disk
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn log_dir(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// Base offsets of the segments' files.
    pub fn segment_bases(&self) -> Vec<i64> {
        millstream::log::segment::list(&self.log_dir()).unwrap_or_default()
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

    /// Whether the next sync of this open file, which was open all the time, tells of an error.
    pub fn owes_error(&self, file: &File) -> bool {
        self.synced.borrow().owes_error(file)
    }

    /// The process that had files open is gone.
    pub fn close_files(&self) {
        let mut state = self.synced.borrow_mut();
        state.errors.clear();
        state.told.clear();
        state.has_failed = false;
    }

    /// Whether a sync failed: what it was to write may be with the kernel only, or gone.
    pub fn has_failed(&self) -> bool {
        self.synced.borrow().has_failed
    }

    /// Replaces all there is by what a power cut now could leave.
    pub fn cut_power(&self, rng: &mut Rng) {
        let image = self.image(&handle(self.root()), rng, &mut Moves::new());
        for entry in fs::read_dir(self.root()).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let mut state = State::default();
        state.write(self.root(), image);
        *self.synced.borrow_mut() = state;
    }

    fn image(&self, dir: &File, rng: &mut Rng, moves: &mut Moves) -> BTreeMap<String, Image> {
        let synced = self.synced.borrow();
        let now = list(&opened_path(dir));
        let none = BTreeMap::new();
        let before = synced
            .dirs
            .get(&inode_of(dir))
            .map_or(&none, |(_, names)| names);
        let mut image = BTreeMap::new();
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let was_renamed = |file: &File| {
            let inode = inode_of(file);
            let old = before.iter().find(|(_, old)| **old == inode);
            let new = now.iter().find(|(_, (new, _))| *new == inode);
            old.zip(new).is_some_and(|((old, _), (new, _))| old != new)
        };
        for name in names {
            let old = before.get(name).map(|inode| synced.handle(*inode));
            let new = now.get(name).map(|(_, file)| file);
            let mut both = [new, old].into_iter().flatten();
            let takes_old = match both.find(|file| is_dir(file) || was_renamed(file)) {
                Some(moved) => *moves
                    .entry(inode_of(moved))
                    .or_insert_with(|| rng.one_in(2)),
                None => rng.one_in(2),
            };
            let Some(file) = (if takes_old { old } else { new }) else {
                continue;
            };
            if is_dir(file) {
                let inner = self.image(file, rng, moves);
                image.insert(name.clone(), Image::Dir(inner));
                continue;
            }
            let mut content = synced.torn(file, rng);
            if name.ends_with(".index") && !damage_index(&mut content, rng) {
                continue;
            }
            image.insert(name.clone(), Image::File(content));
        }
        image
    }
}

impl State {
    fn note(&mut self, root: &Path, what: Event<'_>) {
        match what {
            Event::Written(file, range) => self.written(file, range),
            Event::SyncFailed(file) => {
                let inode = inode_of(file);
                let dirty = self.dirty.remove(&inode).unwrap_or_default();
                // Blocks that are lost now are news to the files that were told of an earlier error too.
                if !dirty.is_empty() || !self.owes_error(file) {
                    *self.errors.entry(inode).or_default() += 1;
                }
                let told = (file.as_raw_fd(), inode);
                self.told.insert(told, self.errors[&inode]);
                self.has_failed = true;
                self.lost.entry(inode).or_default().extend(dirty);
            }
            Event::Reloaded(file, from) => self.reload(file, from),
            Event::Synced(file) => {
                self.dirty.remove(&inode_of(file));
                self.keep(handle(&opened_path(file)));
            }
            Event::DirSynced(dir) if dir.starts_with(root) => {
                let mut names = BTreeMap::new();
                for (name, (inode, file)) in list(dir) {
                    // The name is certain now, the content is not.
                    match is_dir(&file) {
                        true => drop(self.dirs.entry(inode).or_insert((file, BTreeMap::new()))),
                        false => drop(self.files.entry(inode).or_insert((file, Vec::new()))),
                    }
                    names.insert(name, inode);
                }
                let dir = handle(dir);
                self.dirs.insert(inode_of(&dir), (dir, names));
            }
            Event::DirSynced(_) => {}
        }
    }

    /// Writes what is certain from then on.
    fn write(&mut self, dir: &Path, image: BTreeMap<String, Image>) {
        let mut names = BTreeMap::new();
        for (name, image) in image {
            let path = dir.join(&name);
            match image {
                Image::File(content) => {
                    fs::write(&path, content).unwrap();
                    self.keep(handle(&path));
                }
                Image::Dir(inner) => {
                    fs::create_dir(&path).unwrap();
                    self.write(&path, inner);
                }
            }
            names.insert(name, inode_of(&handle(&path)));
        }
        let dir = handle(dir);
        self.dirs.insert(inode_of(&dir), (dir, names));
    }

    fn written(&mut self, file: &File, range: Range<u64>) {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        let inode = inode_of(file);
        if let Some(lost) = self.lost.get_mut(&inode) {
            lost.retain(|block| !blocks.contains(block));
        }
        self.dirty.entry(inode).or_default().extend(blocks);
    }

    /// Puts what the medium has into the file, in place of what only the kernel had.
    fn reload(&mut self, file: &File, from: u64) {
        let inode = inode_of(file);
        let is_kept = |block: &u64| (block + 1) * BLOCK_BYTES <= from;
        let lost = self.lost.entry(inode).or_default();
        let dropped: Vec<u64> = lost
            .iter()
            .copied()
            .filter(|block| !is_kept(block))
            .collect();
        lost.retain(is_kept);
        let none = Vec::new();
        let before = self.files.get(&inode).map_or(&none, |(_, content)| content);
        let file = File::options().write(true).open(opened_path(file)).unwrap();
        let size = file.metadata().unwrap().len();
        for block in dropped {
            let start = block * BLOCK_BYTES;
            let end = (start + BLOCK_BYTES).min(size);
            let content: Vec<u8> = (start..end)
                .map(|at| before.get(at as usize).copied().unwrap_or(0))
                .collect();
            file.write_all_at(&content, start).unwrap();
        }
    }

    /// The kernel tells an error once to each open file that was open when it happened.
    fn owes_error(&self, file: &File) -> bool {
        let inode = inode_of(file);
        let errors = self.errors.get(&inode).copied().unwrap_or(0);
        let told = self.told.get(&(file.as_raw_fd(), inode));
        told.copied().unwrap_or(0) < errors
    }

    /// All of the file is certain now, but for the blocks that a failed sync left out.
    fn keep(&mut self, file: File) {
        let mut content = read(&file);
        let inode = inode_of(&file);
        let before = self.files.get(&inode).map(|(_, content)| &content[..]);
        for block in self.lost.get(&inode).into_iter().flatten() {
            let start = (block * BLOCK_BYTES) as usize;
            let end = (start + BLOCK_BYTES as usize).min(content.len());
            for (at, byte) in content.iter_mut().enumerate().take(end).skip(start) {
                let old = before.and_then(|before| before.get(at));
                *byte = old.copied().unwrap_or(0);
            }
        }
        self.files.insert(inode, (file, content));
    }

    fn handle(&self, inode: u64) -> &File {
        let file = self.files.get(&inode).map(|(file, _)| file);
        file.unwrap_or_else(|| &self.dirs[&inode].0)
    }

    /// The content of a file whose blocks since its last sync reached the medium or did not.
    fn torn(&self, file: &File, rng: &mut Rng) -> Vec<u8> {
        let new = read(file);
        let none = Vec::new();
        let old = self
            .files
            .get(&inode_of(file))
            .map_or(&none, |(_, content)| content);
        let none_lost = BTreeSet::new();
        let lost = self.lost.get(&inode_of(file)).unwrap_or(&none_lost);
        let length = if rng.one_in(2) { old.len() } else { new.len() };
        let block = if rng.one_in(4) { 512 } else { 4096 };
        // All old and all new are likelier than chance would have them.
        let taste = rng.below(4);
        let mut torn = vec![0; length];
        for start in (0..length).step_by(block) {
            let end = (start + block).min(length);
            let is_lost = lost.contains(&(start as u64 / BLOCK_BYTES));
            let source = match taste {
                _ if is_lost => old,
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
        names.insert(name, (inode_of(&file), file));
    }
    names
}

/// Holds on to a file without having it open, which would keep the log from recycling it.
fn handle(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_PATH);
    options.open(path).unwrap()
}

fn inode_of(handle: &File) -> u64 {
    handle.metadata().unwrap().ino()
}

fn is_dir(handle: &File) -> bool {
    handle.metadata().unwrap().is_dir()
}

fn opened_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn read(handle: &File) -> Vec<u8> {
    fs::read(opened_path(handle)).unwrap()
}
