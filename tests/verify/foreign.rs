//! `verify` of logs without a catalog: Kafka's log directories, partitions' directories, segments.

use super::{DataDir, batch_of, stdout};
use millstream::engine::verify::plan;
use millstream::io::file;
use millstream::log::batch;
use millstream::log::check::verify::Totals;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Where a batch has its magic, and a byte of its records.
const MAGIC_AT: usize = 16;
const RECORDS_AT: usize = 70;

/// A finding as (file, byte, offset, name).
type Found = (String, Option<u64>, Option<i64>, &'static str);

/// What a Kafka has on its disk: of `orders-0` two segments with gaps between offsets, written under
/// leader epochs 0 to 3, the last one with zeros behind its batches; and another partition that is
/// empty.
struct KafkaDir {
    dir: TempDir,
    batch_bytes: usize,
}

impl KafkaDir {
    fn new() -> KafkaDir {
        let kafka = KafkaDir {
            dir: tempfile::tempdir().unwrap(),
            batch_bytes: batch_of(0).len(),
        };
        for dir in ["orders-0", "orders-1", "old-0.0123abcd-delete"] {
            fs::create_dir(kafka.path(dir)).unwrap();
        }
        kafka.write("meta.properties", b"version=1\n");
        kafka.write("recovery-point-offset-checkpoint", b"0\n1\norders 0 9\n");
        kafka.write("old-0.0123abcd-delete/00000000000000000000.log", b"left");
        kafka.write("orders-1/00000000000000000000.log", b"");
        kafka.write("orders-0/leader-epoch-checkpoint", b"0\n");
        kafka.write("orders-0/00000000000000000000.index", &[7; 24]);
        kafka.write("orders-0/00000000000000000000.timeindex", &[7; 36]);
        kafka.write(SEALED, &batches(&[(3, 0), (5, 1), (20, 1)]));
        let last = [batches(&[(31, 2), (50, 3)]), vec![0; 1000]].concat();
        kafka.write(LAST, &last);
        kafka
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn verify(&self, names: &[&str]) -> (Totals, Vec<Found>) {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        verify(self.dir.path(), &paths)
    }

    /// What is found in the whole directory after a change of one file, which is put back.
    fn found_after(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Found> {
        let before = fs::read(self.path(name)).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        self.write(name, &bytes);
        let (_, mut found) = self.verify(&["."]);
        self.write(name, &before);
        found.retain(|finding| finding.3 != "zeros_at_end");
        found
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(self.dir.path(), arguments)
    }
}

const SEALED: &str = "orders-0/00000000000000000003.log";
const LAST: &str = "orders-0/00000000000000000030.log";

/// Batches of two records each, with such base offsets and leader epochs.
fn batches(positions: &[(i64, i32)]) -> Vec<u8> {
    let batch = |(number, (offset, epoch)): (usize, &(i64, i32))| {
        let mut bytes = batch_of(number as i64);
        batch::patch_position(&mut bytes, *offset, *epoch);
        bytes
    };
    positions.iter().enumerate().flat_map(batch).collect()
}

fn verify(root: &Path, paths: &[PathBuf]) -> (Totals, Vec<Found>) {
    let plan = plan(paths);
    let (mut totals, mut findings) = (Totals::default(), plan.findings);
    for job in plan.jobs {
        let (found, more) = job.run(true, &|_| {});
        totals += found;
        findings.extend(more);
    }
    let found = findings.into_iter().map(|finding| {
        let path = finding.path.strip_prefix(root).unwrap();
        let name = path.to_string_lossy().into_owned();
        (name, finding.position, finding.offset, finding.fault.name())
    });
    (totals, found.collect())
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn finding(name: &str, at: usize, offset: i64, fault: &'static str) -> Found {
    (name.to_owned(), Some(at as u64), Some(offset), fault)
}

#[test]
fn a_kafka_log_directory_is_sound_and_zeros_at_its_end_are_a_note() {
    let kafka = KafkaDir::new();
    let size = kafka.batch_bytes;
    let (totals, found) = kafka.verify(&["."]);
    assert_eq!(found, [finding(LAST, 2 * size, 52, "zeros_at_end")]);
    let expected = Totals {
        segments: 3,
        batches: 5,
        records: 10,
        bytes: 5 * size as u64,
        reserved_bytes: 1000,
    };
    assert_eq!(totals, expected);
    let output = kafka.run(&["verify", ".", "--records"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    let counts = "1 topic, 2 partitions, 3 segments, 5 batches, 10 records, ";
    assert!(text.lines().last().unwrap().starts_with(counts), "{text}");
    assert!(text.ends_with(": sound, 1 note\n"), "{text}");
    // Copied without the file that tells Kafka's.
    fs::remove_file(kafka.path("meta.properties")).unwrap();
    assert_eq!(kafka.verify(&["."]).0, expected);
}

#[test]
fn a_batch_of_kafkas_that_is_damaged_is_found_at_its_place() {
    let kafka = KafkaDir::new();
    let size = kafka.batch_bytes;
    let second = |fault| [finding(SEALED, size, 5, fault)];
    let flipped = kafka.found_after(SEALED, |bytes| bytes[size + RECORDS_AT] ^= 1);
    assert_eq!(flipped, second("bad_crc"));
    let old = kafka.found_after(SEALED, |bytes| bytes[size + MAGIC_AT] = 1);
    assert_eq!(old, second("no_batch"));
    let zeroed = kafka.found_after(SEALED, |bytes| bytes[size..2 * size].fill(0));
    assert_eq!(zeroed, second("no_batch"));
    let cut = kafka.found_after(LAST, |bytes| bytes.truncate(2 * size - 1));
    assert_eq!(cut, [finding(LAST, size, 33, "no_batch")]);
    // No zeros at the end of a log, for another segment follows.
    let lost = kafka.found_after(SEALED, |bytes| bytes[2 * size..].fill(0));
    assert_eq!(lost, [finding(SEALED, 2 * size, 7, "zeros")]);
    let resealed = kafka.found_after(SEALED, |bytes| {
        let batch = &mut bytes[size..2 * size];
        batch[64] = 2; // The first record's timestamp delta and what follows.
        batch::build::seal(batch);
    });
    assert_eq!(resealed, second("bad_records"));
}

#[test]
fn offsets_and_leader_epochs_must_not_go_back_in_a_partition() {
    let kafka = KafkaDir::new();
    let size = kafka.batch_bytes;
    let with = |name, positions: &[(i64, i32)]| {
        kafka.found_after(name, |bytes| *bytes = batches(positions))
    };
    let back = with(SEALED, &[(3, 0), (20, 0), (5, 1)]);
    assert_eq!(back, [finding(SEALED, 2 * size, 22, "wrong_offset")]);
    let before_name = with(LAST, &[(29, 2), (50, 3)]);
    assert_eq!(before_name, [finding(LAST, 0, 30, "wrong_offset")]);
    let overlap = with(SEALED, &[(3, 0), (29, 1)]);
    assert_eq!(overlap, [finding(LAST, 0, 30, "segment_gap")]);
    let epoch = with(SEALED, &[(3, 0), (5, 4), (20, 4)]);
    assert_eq!(epoch, [finding(LAST, 0, 31, "leader_epoch_back")]);
    assert_eq!(with(SEALED, &[(3, 0), (5, 1), (20, -1)]), [], "not known");
    let far = with(LAST, &[(31, 2), (30 + (1 << 31), 3)]);
    assert_eq!(far, [finding(LAST, size, 33, "wrong_offset")]);
}

#[test]
fn a_compacted_batch_of_kafkas_may_lack_records_but_have_no_more_than_its_offsets() {
    let kafka = KafkaDir::new();
    let with_last_delta = |delta: i32| {
        kafka.found_after(LAST, |bytes| {
            let mut batch = batches(&[(31, 2)]);
            batch[23..27].copy_from_slice(&delta.to_be_bytes());
            batch::build::seal(&mut batch);
            *bytes = batch;
        })
    };
    assert_eq!(with_last_delta(9), []);
    let faults: Vec<_> = with_last_delta(0)
        .into_iter()
        .map(|found| found.3)
        .collect();
    assert_eq!(faults, ["wrong_count"]);
}

#[test]
fn partitions_and_segments_are_checked_by_themselves_and_segments_of_one_directory_in_order() {
    let kafka = KafkaDir::new();
    let size = kafka.batch_bytes;
    let zeros = finding(LAST, 2 * size, 52, "zeros_at_end");
    let counted = |names: &[&str]| {
        let (totals, found) = kafka.verify(names);
        assert_eq!(found.iter().filter(|found| **found != zeros).count(), 0);
        (totals.segments, totals.batches, found.len())
    };
    assert_eq!(counted(&["orders-0"]), (2, 5, 1));
    assert_eq!(counted(&["orders-1"]), (1, 0, 0));
    assert_eq!(counted(&["orders-0", "orders-1"]), (3, 5, 1));
    assert_eq!(counted(&[LAST]), (1, 2, 1));
    assert_eq!(counted(&[LAST, SEALED]), (2, 5, 1));
    let output = kafka.run(&["verify", LAST, SEALED]);
    let text = stdout(&output);
    let counts = "1 topic, 1 partition, 2 segments, 5 batches, 10 records, ";
    assert!(text.lines().last().unwrap().starts_with(counts), "{text}");
    // What the other segment tells is not known to one.
    let found = kafka.found_after(LAST, |bytes| *bytes = batches(&[(31, 0)]));
    assert_eq!(found, [finding(LAST, 0, 31, "leader_epoch_back")]);
    kafka.write(LAST, &batches(&[(31, 0)]));
    assert_eq!(kafka.verify(&[LAST]).1, []);
}

#[test]
fn messages_from_before_kafka_0_11_are_an_error_that_says_so() {
    let kafka = KafkaDir::new();
    // One of magic 1: offset, size, CRC, magic, attributes, timestamp, key -1, value.
    let rest = [
        &[0; 4][..],
        &[1, 0],
        &[0; 8],
        &[255; 4],
        &[0, 0, 0, 1],
        b"v",
    ]
    .concat();
    let size = (rest.len() as u32).to_be_bytes();
    let message = [&31_i64.to_be_bytes()[..], &size, &rest].concat();
    kafka.write(LAST, &[&message[..], &message].concat());
    let output = kafka.run(&["verify", LAST]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("the batch has format 1"), "{text}");
    assert!(text.contains("magic 0 or 1"), "{text}");
}

#[test]
fn batches_behind_a_damaged_first_one_are_found_however_high_the_segments_offsets_are() {
    let kafka = KafkaDir::new();
    let size = kafka.batch_bytes;
    let base = 5_000_000_000;
    let name = "orders-1/00000000005000000000.log";
    let mut bytes = batches(&[(base, 0), (base + 2, 0), (base + 4, 0)]);
    bytes[MAGIC_AT] = 77;
    kafka.write(name, &bytes);
    let (totals, found) = kafka.verify(&["orders-1"]);
    assert_eq!(found, [finding(name, 0, base, "no_batch")]);
    assert_eq!(totals.bytes, 2 * size as u64);
}

#[test]
fn a_partition_of_millstreams_is_held_against_its_checkpoint_and_indexes() {
    let data = DataDir::stopped();
    let of_partition = || verify(data.dir.path(), &[data.path("orders-0")]).1;
    assert_eq!(of_partition(), []);
    let checkpoint = data.path(super::CHECKPOINT);
    let before = fs::read(&checkpoint).unwrap();
    data.change(&checkpoint, |bytes| bytes[20] ^= 1);
    assert_eq!(of_partition()[0].3, "checkpoint_damaged");
    fs::write(&checkpoint, before).unwrap();
    data.change(&data.segment(1, "index"), |bytes| bytes[3] ^= 1);
    assert_eq!(of_partition()[0].3, "index_damaged");
    let segment = verify(data.dir.path(), &[data.segment(1, "log")]);
    assert_eq!(
        (segment.0.batches, segment.1),
        (super::BATCHES as u64, vec![])
    );
    // A data directory that has lost its catalog is not taken for Kafka's.
    for name in ["catalog.log", "format"] {
        fs::remove_file(data.path(name)).unwrap();
    }
    let found = verify(data.dir.path(), &[data.dir.path().to_owned()]).1;
    assert_eq!(found[0].3, "catalog_missing");
}

#[test]
fn a_running_brokers_partition_and_segment_are_refused_and_other_files_too() {
    let data = DataDir::stopped();
    let held = file::open(&data.path("lock"), false).unwrap();
    file::lock(&held).unwrap();
    let refused = |path: &str, words: &str| {
        let output = data.run(&["verify", path]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(words), "{error}");
    };
    refused("orders-0", "a broker is running on ");
    refused(
        "orders-0/00000000000000000008.log",
        "a broker is running on ",
    );
    refused(
        "orders-0/00000000000000000008.index",
        "neither a directory nor",
    );
    refused("orders-9", "neither a directory nor");
    drop(held);
    let all = data.run(&[
        "verify",
        ".",
        "orders-0",
        "orders-0/00000000000000000008.log",
    ]);
    let text = stdout(&all);
    assert!(
        all.status.success() && text.contains(" 7 segments, "),
        "{text}"
    );
}
