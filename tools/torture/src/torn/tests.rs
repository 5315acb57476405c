//! What is torn is what nobody was promised, and nothing else.

use super::damage;
use super::durable::{self, Parts};
use super::image::{Content, Image};
use crate::clock::Clock;
use crate::ledger::{Proof, Upkeep};
use crate::model::{Model, Topic, lock};
use crate::record::{self, Id, Shape};
use crate::rng::Rng;
use kafka_protocol::records::Compression;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOPIC_ID: [u8; 16] = [7; 16];
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 300,
};

/// A batch of three records from `base` on.
fn batch(base: i64) -> Vec<u8> {
    let number = base as u32;
    let ids: Vec<Id> = (number..number + 3)
        .map(|number| Id { worker: 1, number })
        .collect();
    let batch = record::encode(("t", 0), SHAPE, &ids, None, Compression::None);
    let mut batch = batch.to_vec();
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch
}

/// All below this offset is durable, which is at a position of the segment with this base.
fn checkpoint(offset: i64, base: i64, position: usize) -> Vec<u8> {
    let mut bytes = b"MSCP\0\x01".to_vec();
    bytes.extend(TOPIC_ID);
    for number in [base, offset, base, position as i64] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend([0; 8]);
    bytes
}

/// A journal's group that has `bytes` of the segment at a position.
fn group(position: usize, bytes: &[u8]) -> Vec<u8> {
    let mut entry = TOPIC_ID.to_vec();
    entry.extend(0u32.to_be_bytes());
    entry.extend(0i64.to_be_bytes());
    entry.extend((position as u32).to_be_bytes());
    entry.extend((bytes.len() as u32).to_be_bytes());
    entry.extend(bytes);
    let mut checked = 5u64.to_be_bytes().to_vec();
    checked.extend(1u64.to_be_bytes());
    checked.extend((entry.len() as u32).to_be_bytes());
    checked.extend(1u32.to_be_bytes());
    checked.extend(entry);
    let mut group = b"MSJG".to_vec();
    group.extend(crc32fast::hash(&checked).to_be_bytes());
    group.extend(checked);
    group.resize(group.len().next_multiple_of(4096), 0);
    group
}

fn segment() -> PathBuf {
    PathBuf::from("t-0/00000000000000000000.log")
}

fn journal() -> PathBuf {
    PathBuf::from("journal/shard-0-0.journal")
}

/// Four batches, of which the first is below the checkpoint; all up to `acknowledged` are promised.
fn model(acknowledged: i64) -> Model {
    model_from(0, acknowledged)
}

fn model_from(base: i64, acknowledged: i64) -> Model {
    let model = Model::new(Clock::default());
    let topic = Topic::new("t", Upkeep::Keep, SHAPE, 1);
    let ids: Vec<Id> = (0..12).map(|number| Id { worker: 1, number }).collect();
    let ledger = topic.ledger(0).unwrap();
    lock(&ledger).sent(&ids);
    let known = &ids[..acknowledged as usize];
    lock(&ledger)
        .acknowledged(known, base, Proof::AcksAll, 0)
        .unwrap();
    lock(&model.topics).insert("t".to_owned(), Arc::new(topic));
    model
}

fn image(journaled: bool) -> (Image, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for base in [0, 3, 6, 9] {
        bytes.extend(batch(base));
        ends.push(bytes.len());
    }
    let mut image = Image::default();
    let second = bytes[ends[0]..ends[1]].to_vec();
    let at = ends[0];
    bytes.resize(16 << 10, 0);
    image.files.insert(segment(), Content::new(bytes));
    let checkpoint = Content::new(checkpoint(3, 0, ends[0]));
    image.files.insert("t-0/checkpoint".into(), checkpoint);
    if journaled {
        let mut bytes = group(at, &second);
        bytes.resize(64 << 10, 0);
        image.files.insert(journal(), Content::new(bytes));
    }
    (image, ends)
}

/// A segment that begins with offset 50, in the file of an older one.
fn recycled() -> (Image, PathBuf, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for base in [50, 53, 56, 20, 23] {
        bytes.extend(batch(base));
        ends.push(bytes.len());
    }
    bytes.resize(16 << 10, 7);
    bytes.extend(b"recycled segment");
    let mut image = Image::default();
    let path = PathBuf::from("t-0/00000000000000000050.log");
    image.files.insert(path.clone(), Content::new(bytes));
    let checkpoint = Content::new(checkpoint(53, 50, ends[0]));
    image.files.insert("t-0/checkpoint".into(), checkpoint);
    let spare = Content::new(vec![7; 5000]);
    image.files.insert("t-0/spare".into(), spare);
    (image, path, ends)
}

fn starts(parts: &Parts, path: &Path) -> Vec<usize> {
    let own = parts.free.iter().filter(|free| free.path == path);
    own.map(|free| free.range.start).collect()
}

#[test]
fn what_was_acknowledged_is_durable_and_what_follows_is_not() {
    let (image, ends) = image(false);
    for (acknowledged, end) in [(0, ends[0]), (3, ends[0]), (6, ends[1]), (12, ends[3])] {
        let parts = durable::parts(&image, &model(acknowledged));
        assert_eq!(starts(&parts, &segment()), [end], "{acknowledged}");
        assert_eq!(parts.durable[0].range, 0..end);
    }
}

#[test]
fn a_journal_with_something_acknowledged_stands_for_the_segment() {
    let (image, ends) = image(true);
    let parts = durable::parts(&image, &model(6));
    // The second batch may not be in the segment: the journal has it, and must keep it.
    assert_eq!(starts(&parts, &segment()), [ends[1], ends[0]]);
    assert_eq!(starts(&parts, &journal()), [4096]);
    // Nothing of it was promised: it may be torn itself, and stands for nothing.
    let parts = durable::parts(&image, &model(3));
    assert_eq!(starts(&parts, &segment()), [ends[0]]);
    assert_eq!(starts(&parts, &journal()), [0]);
}

#[test]
fn tearing_changes_nothing_before_the_durable_points() {
    let (image, _) = image(true);
    let parts = durable::parts(&image, &model(6));
    let free = |path: &Path, at: usize| {
        let mut own = parts.free.iter().filter(|free| free.path == path);
        own.any(|free| free.range.contains(&at))
    };
    let mut changed = 0;
    for seed in 0..500 {
        let torn = damage::tear(&image, &parts, &mut Rng::new(seed)).image;
        changed += usize::from(torn.files != image.files);
        for (path, before) in &image.files {
            let after = &torn.files[path];
            let byte = |content: &Content, at| content.bytes.get(at).copied().unwrap_or(0);
            let mut kept = (0..before.length).filter(|at| !free(path, *at));
            assert!(kept.all(|at| at < after.length && byte(before, at) == byte(after, at)));
        }
    }
    assert!(changed > 400, "{changed}");
}

#[test]
fn what_an_older_segment_has_left_is_not_what_was_acknowledged() {
    let (image, path, ends) = recycled();
    for (acknowledged, end) in [(3, ends[0]), (6, ends[1]), (9, ends[2])] {
        let parts = durable::parts(&image, &model_from(50, acknowledged));
        assert_eq!(starts(&parts, &path), [end], "{acknowledged}");
        assert_eq!(parts.durable[0].range, 0..end);
        assert_eq!(starts(&parts, Path::new("t-0/spare")), [0]);
    }
    // Of records that are not there, and an older segment has the place of, nothing is certain.
    let parts = durable::parts(&image, &model_from(50, 12));
    assert!(starts(&parts, &path).is_empty());
}

#[test]
fn batches_of_an_older_segment_may_follow_the_durable_ones() {
    let (image, path, ends) = recycled();
    let parts = durable::parts(&image, &model_from(50, 6));
    let mut followed = 0;
    for seed in 0..500 {
        let torn = damage::tear(&image, &parts, &mut Rng::new(seed));
        let content = &torn.image.files[&path];
        assert_eq!(durable::batches(&content.bytes[..ends[1]], 50).len(), 2);
        let older = durable::batches(&content.bytes[ends[1].min(content.bytes.len())..], 0);
        followed += usize::from(older.first().is_some_and(|batch| batch.offsets.end <= 50));
        let left = torn.what.contains("an older segment's left");
        assert!(!left || durable::is_recycled(content), "{}", torn.what);
    }
    assert!(followed > 50, "{followed}");
}

#[test]
fn flipping_changes_some_bits_before_the_durable_point() {
    let (image, ends) = image(false);
    let parts = durable::parts(&image, &model(6));
    for seed in 0..100 {
        let flipped = damage::flip(&image, &parts, &mut Rng::new(seed)).unwrap();
        let (before, after) = (&image.files[&segment()], &flipped.image.files[&segment()]);
        assert_eq!(before.bytes[ends[1]..], after.bytes[ends[1]..]);
        let flipped = flipped.flipped.unwrap();
        assert_eq!((flipped.topic.as_str(), flipped.index), ("t", 0));
        // The first batch is below the checkpoint; with the second, the log may end.
        for lost in flipped.lost {
            assert!([0..3, 0..6, 3..i64::MAX].contains(&lost), "{lost:?}");
        }
    }
}

#[test]
fn an_image_is_written_as_it_was_read() {
    let (image, _) = image(true);
    let dir = tempfile::tempdir().unwrap();
    assert!(
        Image::read(&dir.path().join("one"))
            .unwrap()
            .files
            .is_empty()
    );
    std::fs::create_dir_all(dir.path().join("one/t-0")).unwrap();
    std::fs::create_dir_all(dir.path().join("one/journal")).unwrap();
    for (path, content) in &image.files {
        let mut bytes = content.bytes.clone();
        bytes.resize(content.length, 0);
        std::fs::write(dir.path().join("one").join(path), bytes).unwrap();
    }
    let read = Image::read(&dir.path().join("one")).unwrap();
    assert_eq!(read.files, image.files);
    read.write(&dir.path().join("two")).unwrap();
    let again = Image::read(&dir.path().join("two")).unwrap();
    assert_eq!(again.files, image.files);
}
