//! Which bytes of a data directory are certain to be on the disk, and which may be anything.
//!
//! What was acknowledged with acks=all, or seen by a consumer, was synced: in the segment, or in a
//! journal. Checkpoints say how far segments were. All behind that may have reached the disk or not.
//! What did not is zeros, or, in a file that was another segment's before, that one's batches.
//! This reads the files by `docs/format.md`, and takes nothing from the broker's own code.

use super::image::{Content, Image};
use crate::disk::RECYCLED;
use crate::model::{Model, lock};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

const JOURNAL_BLOCK: usize = 4096;

/// What may be done to a stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    pub path: PathBuf,
    pub range: Range<usize>,
    /// Whether the file may end anywhere in it.
    pub may_end: bool,
    /// What an older segment has left where nothing was written: batches, the first of which begins
    /// where the stretch does. Empty where that is zeros.
    pub older: Vec<u8>,
}

/// What is certain, and what is not.
#[derive(Debug, Default)]
pub struct Parts {
    pub free: Vec<Free>,
    /// Stretches that hold what was acknowledged.
    pub durable: Vec<Durable>,
}

/// A segment's bytes below the durable point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    pub path: PathBuf,
    pub range: Range<usize>,
    pub topic: String,
    pub index: i32,
    /// From here on a start checks every batch, and takes what is wrong for the end of the log.
    pub cut_from: usize,
    pub batches: Vec<Batch>,
}

/// Where a batch lies, and which offsets it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub range: Range<usize>,
    pub offsets: Range<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    topic: [u8; 16],
    offset: i64,
    base: i64,
    position: usize,
}

/// A journal's group: where it lies and what it has.
struct Group {
    range: Range<usize>,
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    topic: [u8; 16],
    partition: u32,
    base: i64,
    position: usize,
    bytes: Vec<u8>,
}

/// A partition's durable end: segment and position.
type Ends = BTreeMap<([u8; 16], u32), (i64, usize)>;

/// Takes an image of a stopped broker's files apart.
pub fn parts(image: &Image, model: &Model) -> Parts {
    let journals = journals(image);
    let entries: Vec<&Entry> = journals
        .values()
        .flatten()
        .flat_map(|group| &group.entries)
        .collect();
    let mut parts = Parts::default();
    let mut ends = Ends::new();
    for topic in model.topics() {
        for (index, ledger) in (0..).zip(topic.ledgers()) {
            let dir = PathBuf::from(format!("{}-{index}", topic.name));
            let Some(checkpoint) = checkpoint(image, &dir) else {
                continue;
            };
            let own = |entry: &&&Entry| {
                entry.topic == checkpoint.topic && entry.partition == index as u32
            };
            let own: Vec<&Entry> = entries.iter().filter(own).copied().collect();
            let acknowledged = lock(&ledger).durable_end();
            let Some(end) = acknowledged.and_then(|offset| {
                find(image, &dir, checkpoint, &own, offset.max(checkpoint.offset))
            }) else {
                continue;
            };
            ends.insert((checkpoint.topic, index as u32), end);
            add_segments(image, checkpoint, end, (&topic.name, index), &mut parts);
        }
    }
    for (path, groups) in &journals {
        let durable = groups.iter().rposition(|group| group.is_durable(&ends));
        let durable = durable.map_or(0, |last| last + 1);
        let end = groups[..durable].last().map_or(0, |group| group.range.end);
        parts.free.push(Free {
            path: path.clone(),
            range: end..image.files[path].length,
            may_end: groups.is_empty(),
            older: Vec::new(),
        });
        for entry in groups[..durable].iter().flat_map(|group| &group.entries) {
            parts.free.extend(covered(image, model, entry));
        }
    }
    parts.free.extend(unsynced_files(image));
    parts.free.retain(|free| !free.range.is_empty());
    parts
}

/// What lies behind the durable end may be anything.
fn add_segments(
    image: &Image,
    checkpoint: Checkpoint,
    (base, position): (i64, usize),
    (topic, index): (&str, i32),
    parts: &mut Parts,
) {
    for (own, path) in segments(image, Path::new(&format!("{topic}-{index}"))) {
        let content = &image.files[&path];
        let end = match own.cmp(&base) {
            Ordering::Less => content.length,
            Ordering::Equal => position.min(content.length),
            Ordering::Greater => 0,
        };
        let batches = batches(&content.bytes[..end.min(content.bytes.len())], own);
        if let Some(last) = batches.last() {
            parts.durable.push(Durable {
                path: path.clone(),
                range: 0..last.range.end,
                topic: topic.to_owned(),
                index,
                cut_from: match own.cmp(&checkpoint.base) {
                    Ordering::Less => usize::MAX,
                    Ordering::Equal => checkpoint.position,
                    Ordering::Greater => 0,
                },
                batches,
            });
        }
        parts.free.push(Free {
            range: end..content.length,
            may_end: true,
            older: older(content, own),
            path,
        });
    }
}

/// What a segment that was written over another one may have where nothing reached the disk: batches
/// like its own, with offsets below its own.
fn older(content: &Content, base: i64) -> Vec<u8> {
    if !is_recycled(content) {
        return Vec::new();
    }
    let own = batches(&content.bytes, base);
    let Some(end) = own.last().map(|last| last.range.end) else {
        return content.bytes[..content.length - RECYCLED.len()].to_vec();
    };
    let mut bytes = content.bytes[..end].to_vec();
    let mut next = base;
    for Batch { range, offsets } in own.iter().rev() {
        next -= offsets.end - offsets.start;
        bytes[range.start..range.start + 8].copy_from_slice(&next.max(0).to_be_bytes());
    }
    bytes
}

/// Whether a segment's file was another one's before, and is not cut to its own data yet.
pub fn is_recycled(content: &Content) -> bool {
    content.bytes.len() == content.length && content.bytes.ends_with(RECYCLED)
}

/// The stretch of a segment that a journal's durable group has: it may not be in the segment yet.
fn covered(image: &Image, model: &Model, entry: &Entry) -> Option<Free> {
    let topic = model.topics().into_iter().find_map(|topic| {
        let dir = PathBuf::from(format!("{}-{}", topic.name, entry.partition));
        let checkpoint = checkpoint(image, &dir)?;
        (checkpoint.topic == entry.topic).then_some((dir, checkpoint))
    });
    let (dir, checkpoint) = topic?;
    let end = entry.position + entry.bytes.len();
    let from = match entry.base {
        base if base < checkpoint.base => return None,
        base if base == checkpoint.base => entry.position.max(checkpoint.position),
        _ => entry.position,
    };
    let path = dir.join(format!("{:020}.log", entry.base));
    let content = image.files.get(&path)?;
    Some(Free {
        range: from..end.min(content.length).max(from),
        may_end: false,
        older: older(content, entry.base),
        path,
    })
}

/// Indexes, replacements that were being written, files that wait to be written over, and what a start
/// has cut: nothing of them is needed.
fn unsynced_files(image: &Image) -> impl Iterator<Item = Free> {
    let swapping = |path: &Path| {
        let swap = path.parent().map(|dir| dir.join("swap"));
        swap.is_some_and(|swap| image.files.contains_key(&swap))
    };
    let unsynced = |path: &&PathBuf| {
        let name = path.to_string_lossy();
        let replaced = name.ends_with(".cleaned") && !swapping(path);
        let spare = path.file_name().is_some_and(|name| name == "spare");
        // What a start has cut.
        let cut = name.contains(".log.cut-");
        replaced || spare || cut || name.ends_with(".tmp") || name.ends_with(".index")
    };
    let paths = image.files.keys().filter(unsynced);
    let free = |path: &PathBuf| Free {
        path: path.clone(),
        range: 0..image.files[path].length,
        may_end: true,
        older: Vec::new(),
    };
    paths.map(free).collect::<Vec<_>>().into_iter()
}

/// Where a partition's batch ends that is the last below `offset`. `None` if the files do not say.
fn find(
    image: &Image,
    dir: &Path,
    checkpoint: Checkpoint,
    entries: &[&Entry],
    offset: i64,
) -> Option<(i64, usize)> {
    let segments: Vec<(i64, PathBuf)> = segments(image, dir)
        .into_iter()
        .filter(|(base, _)| *base >= checkpoint.base)
        .collect();
    for (at, (base, path)) in segments.iter().enumerate() {
        let next = segments.get(at + 1).map(|(base, _)| *base);
        if next.is_some_and(|next| next <= offset) {
            continue;
        }
        let restored = entries.iter().filter(|entry| entry.base == *base);
        let content = restored_bytes(&image.files[path], restored, checkpoint);
        let (mut position, mut reached) = match *base == checkpoint.base {
            true => (checkpoint.position, checkpoint.offset),
            false => (0, *base),
        };
        while reached < offset {
            let batch = batch_at(&content, position)?;
            // What an older segment left there is not what is sought.
            if batch.offsets.start < reached {
                return None;
            }
            (position, reached) = (batch.range.end, batch.offsets.end);
        }
        return Some((*base, position));
    }
    None
}

/// A segment as it is once the journal is written back.
fn restored_bytes<'a>(
    content: &Content,
    entries: impl Iterator<Item = &'a &'a Entry>,
    checkpoint: Checkpoint,
) -> Vec<u8> {
    let mut bytes = content.bytes.clone();
    for entry in entries {
        let end = entry.position + entry.bytes.len();
        if entry.base == checkpoint.base && end <= checkpoint.position {
            continue;
        }
        bytes.resize(bytes.len().max(end), 0);
        bytes[entry.position..end].copy_from_slice(&entry.bytes);
    }
    bytes
}

/// The batches of a segment, up to what is none or an older segment's.
pub fn batches(bytes: &[u8], base: i64) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut next = (0, base);
    while let Some(batch) = batch_at(bytes, next.0).filter(|found| found.offsets.start >= next.1) {
        next = (batch.range.end, batch.offsets.end);
        batches.push(batch);
    }
    batches
}

fn batch_at(bytes: &[u8], at: usize) -> Option<Batch> {
    let header = bytes.get(at..at + 61)?;
    let length = 12 + usize::try_from(i32::from_be_bytes(header[8..12].try_into().ok()?)).ok()?;
    let sound = header[16] == 2 && length >= 61 && at + length <= bytes.len();
    let first = i64_at(header, 0)?;
    let last = first + i64::from(u32_at(header, 23)?);
    sound.then_some(Batch {
        range: at..at + length,
        offsets: first..last + 1,
    })
}

fn segments(image: &Image, dir: &Path) -> Vec<(i64, PathBuf)> {
    let files = image.files.keys().filter(|path| path.parent() == Some(dir));
    let base = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        Some((name.parse().ok()?, path.clone()))
    };
    files.filter_map(base).collect()
}

fn checkpoint(image: &Image, dir: &Path) -> Option<Checkpoint> {
    let bytes = &image.files.get(&dir.join("checkpoint"))?.bytes;
    Some(Checkpoint {
        topic: bytes.get(6..22)?.try_into().ok()?,
        offset: i64_at(bytes, 30)?,
        base: i64_at(bytes, 38)?,
        position: i64_at(bytes, 46)? as usize,
    })
}

fn journals(image: &Image) -> BTreeMap<PathBuf, Vec<Group>> {
    let files = image.files.iter();
    let files = files.filter(|(path, _)| path.extension().is_some_and(|of| of == "journal"));
    files
        .map(|(path, content)| (path.clone(), groups(&content.bytes)))
        .collect()
}

/// The row of groups at a journal's start.
fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut follows = None;
    let mut at = 0;
    while let Some((group, run, sequence)) = group_at(bytes, at) {
        if follows.is_some_and(|follows| follows != (run, sequence)) {
            break;
        }
        follows = Some((run, sequence + 1));
        at = group.range.end;
        groups.push(group);
    }
    groups
}

fn group_at(bytes: &[u8], at: usize) -> Option<(Group, u64, u64)> {
    let bytes = bytes.get(at..)?;
    if !bytes.starts_with(b"MSJG") {
        return None;
    }
    let end = 32 + u32_at(bytes, 24)? as usize;
    let checked = bytes.get(8..end)?;
    if crc32fast::hash(checked) != u32_at(bytes, 4)? {
        return None;
    }
    let mut entries = Vec::new();
    let mut left = bytes.get(32..end)?;
    for _ in 0..u32_at(bytes, 28)? {
        let length = u32_at(left, 32)? as usize;
        entries.push(Entry {
            topic: left.get(..16)?.try_into().ok()?,
            partition: u32_at(left, 16)?,
            base: i64_at(left, 20)?,
            position: u32_at(left, 28)? as usize,
            bytes: left.get(36..36 + length)?.to_vec(),
        });
        left = &left[36 + length..];
    }
    let range = at..(at + end).next_multiple_of(JOURNAL_BLOCK);
    let run = i64_at(bytes, 8)? as u64;
    Some((Group { range, entries }, run, i64_at(bytes, 16)? as u64))
}

impl Group {
    /// Whether it has anything that was acknowledged; what nothing is known of counts as such.
    fn is_durable(&self, ends: &Ends) -> bool {
        self.entries.iter().any(|entry| {
            let end = ends.get(&(entry.topic, entry.partition));
            end.is_none_or(|end| (entry.base, entry.position) < *end)
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
