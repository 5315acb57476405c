//! `verify` finds every kind of damage at its place and nothing in a sound directory; `dump` prints
//! every kind of file.

mod foreign;
mod repair;

use millstream::config::TopicDefaults;
use millstream::engine::catalog::{Catalog, Entry};
use millstream::engine::catalog_log::CatalogLog;
use millstream::engine::producers::Producers;
use millstream::engine::verify::{Fault, Finding, plan};
use millstream::io::file;
use millstream::log::batch::build::BatchBuilder;
use millstream::log::batch::{self, BatchHeader};
use millstream::log::check::verify::{Fault as LogFault, Severity, Totals};
use millstream::log::{AppendError, Log, LogConfig};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use uuid::Uuid;

const TOPIC_ID: Uuid = Uuid::from_u128(0x1234_5678);
const NOW_MS: i64 = 1_700_000_100_000;
/// Records of a batch, batches of a segment, segments of the partition that the tests damage.
const RECORDS: i64 = 2;
const BATCHES: i64 = 4;
const SEGMENTS: i64 = 3;
const CHECKPOINT: &str = "orders-0/checkpoint";

/// A data directory with one topic of two partitions, of which the first has records.
struct DataDir {
    dir: TempDir,
    /// The bytes of a batch; all are equally long.
    batch_bytes: u64,
    log: Log,
    producers: Producers,
}

impl DataDir {
    /// As a broker leaves it that was stopped in order.
    fn stopped() -> DataDir {
        let mut data = DataDir::running();
        data.close();
        data
    }

    /// As a broker has it while it runs: the last segment has reserved space.
    fn running() -> DataDir {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::new(TopicDefaults::default());
        let mut catalog_log = CatalogLog::open(dir.path(), &mut catalog).unwrap();
        for (id, name) in [(TOPIC_ID, "orders"), (Uuid::from_u128(2), "idle")] {
            let entry = Entry::TopicCreated {
                id,
                name: name.into(),
                partitions: 2,
                configs: BTreeMap::new(),
            };
            catalog_log.append(&entry).unwrap();
        }
        fs::write(dir.path().join("lock"), "").unwrap();
        let format = r#"{"version":1,"cluster_id":"176f0c289ba24400ab0d30"}"#;
        fs::write(dir.path().join("format"), format).unwrap();
        let batch_bytes = batch_of(0).len() as u64;
        let config = LogConfig {
            segment_bytes: (batch_bytes * BATCHES as u64) as usize,
            segment_ms: i64::MAX,
            index_interval_bytes: 1,
            retention_ms: -1,
            retention_bytes: -1,
            compaction: None,
            reserve_step_bytes_max: 1 << 20,
            checkpoint_bytes: 1 << 20,
            not_durable_bytes_max: 1 << 20,
        };
        let path = dir.path().join("orders-0");
        let (log, _) = Log::open(path, TOPIC_ID, config, &mut |_| {}).unwrap();
        let mut data = DataDir {
            dir,
            batch_bytes,
            log,
            producers: Producers::default(),
        };
        for _ in 0..BATCHES * SEGMENTS {
            data.append();
        }
        data
    }

    fn append(&mut self) {
        let number = self.log.offsets().end / RECORDS;
        let bytes = batch_of(number);
        let header = BatchHeader::parse(&bytes).unwrap();
        let offset = loop {
            match self.log.append(&bytes, &header, None, NOW_MS) {
                Ok(offset) => break offset,
                Err(AppendError::NeedsRoom) => {
                    let job = self.log.room_job(bytes.len(), &header, NOW_MS).unwrap();
                    if let Some(seal) = self.log.room_done(job.run(), NOW_MS).unwrap() {
                        self.log.seal_done(&seal.run());
                    }
                }
                Err(error) => panic!("{error}"),
            }
        };
        let mark = header.producer().unwrap();
        self.producers
            .record(&mark, RECORDS as i32, offset, -1, NOW_MS);
    }

    fn flush(&mut self) {
        let snapshot = self.producers.encode();
        let flush = self.log.flush_begin(|| snapshot).unwrap();
        if let Some(job) = self.log.flush_end(flush, &Ok(())) {
            self.log.checkpoint_done(&job, &job.run());
        }
    }

    fn close(&mut self) {
        let seal = self.log.close_active(NOW_MS).unwrap().unwrap();
        self.log.seal_done(&seal.run());
        self.log.want_checkpoint();
        self.flush();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn segment(&self, number: i64, extension: &str) -> PathBuf {
        let base = number * BATCHES * RECORDS;
        self.path(&format!("orders-0/{base:020}.{extension}"))
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn verify(&self) -> (Totals, Vec<Finding>) {
        let plan = plan(&[self.dir.path()]);
        let (mut totals, mut findings) = (Totals::default(), plan.findings);
        for job in plan.jobs {
            let (found, more) = job.run(true, &|_| {});
            totals += found;
            findings.extend(more);
        }
        (totals, findings)
    }

    /// The findings as (file, byte, offset, name).
    fn found(&self) -> Vec<(String, Option<u64>, Option<i64>, &'static str)> {
        let (_, findings) = self.verify();
        let shown = |finding: Finding| {
            let path = finding.path.strip_prefix(self.dir.path()).unwrap();
            let name = path.to_string_lossy().into_owned();
            let fault = finding.fault.name();
            (name, finding.position, finding.offset, fault)
        };
        findings.into_iter().map(shown).collect()
    }

    /// Changes a file, asserts what is found, and puts the file back.
    fn damaged(
        &self,
        path: &Path,
        change: impl FnOnce(&mut Vec<u8>),
        expected: &[(u64, i64, &str)],
    ) {
        let before = fs::read(path).unwrap();
        self.change(path, change);
        let name = path.strip_prefix(self.dir.path()).unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|(at, offset, fault)| {
                let name = name.to_string_lossy().into_owned();
                (name, Some(*at), Some(*offset), *fault)
            })
            .collect();
        assert_eq!(self.found(), expected);
        fs::write(path, before).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }
}

fn batch_of(number: i64) -> Vec<u8> {
    let builder = BatchBuilder {
        base_timestamp: 1_700_000_000_000 + number * 1000,
        producer_id: 77,
        producer_epoch: 0,
        base_sequence: (number * RECORDS) as i32,
    };
    builder.build(&[
        format!("value-{number:05}-a"),
        format!("value-{number:05}-b"),
    ])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_sound_directory_has_no_findings_whether_stopped_or_killed() {
    let mut data = DataDir::running();
    assert_eq!(data.found(), [], "killed before the first flush");
    data.flush();
    assert_eq!(data.found(), [], "killed after a flush");
    data.append();
    assert_eq!(
        data.found(),
        [],
        "killed with reserved space behind the last batch"
    );
    assert!(data.verify().0.reserved_bytes > 0);
    data.close();
    let (totals, findings) = data.verify();
    assert_eq!(findings, []);
    let batches = (BATCHES * SEGMENTS + 1) as u64;
    let expected = Totals {
        segments: SEGMENTS as u64 + 1,
        batches,
        records: batches * RECORDS as u64,
        bytes: batches * data.batch_bytes,
        reserved_bytes: 0,
    };
    assert_eq!(totals, expected);
}

#[test]
fn every_flipped_bit_of_a_batch_is_found_at_that_batch() {
    let data = DataDir::stopped();
    let size = data.batch_bytes;
    // The first, one in the middle and the last of a segment; and the log's last.
    for (segment, number) in [(1, 0), (1, 2), (1, BATCHES - 1), (2, BATCHES - 1)] {
        let path = data.segment(segment, "log");
        let start = number as u64 * size;
        let offset = (segment * BATCHES + number) * RECORDS;
        for at in start..start + size {
            let expected = match at - start {
                0 if number == 0 => "no_batch",
                0..8 => "wrong_offset",
                12..16 => "wrong_leader_epoch",
                16 => "no_batch",
                _ => "bad_crc",
            };
            let before = fs::read(&path).unwrap();
            data.change(&path, |bytes| bytes[at as usize] ^= 0x80);
            let found = data.found();
            let [(name, Some(position), Some(first), fault)] = &found[..] else {
                panic!("byte {at} of segment {segment}: {found:?}");
            };
            assert!(path.ends_with(name));
            assert_eq!((*position, *first), (start, offset), "byte {at}");
            // A flipped sign or length leaves no header to believe.
            if ![0, 8, 9, 10, 11, 23, 57].contains(&(at - start)) {
                assert_eq!(*fault, expected, "byte {}", at - start);
            }
            fs::write(&path, before).unwrap();
        }
    }
}

#[test]
fn swapped_doubled_and_dropped_batches_are_found_where_the_offsets_break() {
    let data = DataDir::stopped();
    let size = data.batch_bytes as usize;
    let path = data.segment(0, "log");
    let wrong = "wrong_offset";
    let found_after = |change: &dyn Fn(&mut Vec<u8>)| {
        let before = fs::read(&path).unwrap();
        data.change(&path, change);
        let found = data.found();
        fs::write(&path, before).unwrap();
        let in_log =
            |(name, at, offset, fault): &(String, Option<u64>, Option<i64>, &'static str)| {
                name.ends_with(".log")
                    .then(|| (at.unwrap(), offset.unwrap(), *fault))
            };
        found.iter().filter_map(in_log).collect::<Vec<_>>()
    };
    let swapped = found_after(&|bytes| {
        let (first, second) = bytes[size..3 * size].split_at_mut(size);
        first.swap_with_slice(second);
    });
    let size64 = size as u64;
    assert_eq!(
        swapped,
        [
            (size64, 2, wrong),
            (2 * size64, 6, wrong),
            (3 * size64, 4, wrong)
        ]
    );
    let doubled = found_after(&|bytes| {
        let copy = bytes[size..2 * size].to_vec();
        bytes.splice(2 * size..2 * size, copy);
    });
    assert_eq!(doubled, [(2 * size64, 4, wrong)]);
    let dropped = found_after(&|bytes| drop(bytes.drain(size..2 * size)));
    assert_eq!(dropped, [(size64, 2, wrong)]);
}

#[test]
fn cut_zeroed_missing_and_renamed_segments_are_found() {
    let data = DataDir::stopped();
    let size = data.batch_bytes;
    let middle = data.segment(1, "log");
    // Cut inside a batch, where the last index entry points to.
    let cut = (3 * size + 20) as usize;
    data.damaged(
        &middle,
        |bytes| bytes.truncate(cut),
        &[(3 * size, 14, "no_batch")],
    );
    data.damaged(
        &middle,
        |bytes| bytes[2 * size as usize..].fill(0),
        &[(2 * size, 12, "zeros")],
    );
    data.damaged(
        &middle,
        |bytes| bytes.extend([0; 100]),
        &[(4 * size, 16, "zeros")],
    );
    let zeroed = size as usize..2 * size as usize;
    data.damaged(
        &middle,
        |bytes| bytes[zeroed].fill(0),
        &[(size, 10, "no_batch")],
    );

    let last = data.segment(2, "log");
    let name = "orders-0/00000000000000000016.log".to_owned();
    let bytes = fs::read(&last).unwrap();
    data.change(&last, |bytes| bytes.truncate(3 * size as usize));
    let index = "orders-0/00000000000000000016.index".to_owned();
    let stale = (index, Some(60), None, "index_stale");
    let missing = (name.clone(), Some(3 * size), Some(24), "durable_missing");
    assert_eq!(data.found(), [missing, stale]);
    fs::write(&last, bytes).unwrap();

    let renamed = data.path("orders-0/00000000000000000009.log");
    fs::rename(&middle, &renamed).unwrap();
    let found = data.found();
    let nine = "orders-0/00000000000000000009.log".to_owned();
    assert!(
        found.contains(&(nine.clone(), Some(0), Some(9), "segment_gap")),
        "{found:?}"
    );
    assert!(
        found.contains(&(nine, Some(0), Some(9), "wrong_offset")),
        "{found:?}"
    );
    fs::remove_file(&renamed).unwrap();
    let found = data.found();
    assert!(
        found.contains(&(name, Some(0), Some(16), "segment_gap")),
        "{found:?}"
    );
    fs::remove_file(&last).unwrap();
    let found = data.found();
    let missing = (
        CHECKPOINT.to_owned(),
        Some(38),
        Some(16),
        "checkpoint_segment_missing",
    );
    assert!(found.contains(&missing), "{found:?}");
}

#[test]
fn beyond_the_checkpoint_a_torn_tail_is_a_note_and_what_is_lost_is_told() {
    let mut data = DataDir::running();
    data.flush();
    data.log.want_checkpoint();
    data.flush();
    for _ in 0..3 {
        data.append();
    }
    let size = data.batch_bytes;
    let path = data.segment(3, "log");
    data.change(&path, |bytes| bytes[size as usize + 70] ^= 1);
    let (_, findings) = data.verify();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.fault.severity(), Severity::Note);
    assert_eq!((finding.position, finding.offset), (Some(size), Some(26)));
    let Fault::Log(LogFault::TornTail { bytes, first }) = &finding.fault else {
        panic!("{finding:?}");
    };
    assert_eq!(*bytes, fs::metadata(&path).unwrap().len() - size);
    assert!(matches!(**first, LogFault::BadCrc { .. }));
    // The same damage below the checkpoint is an error.
    let mut data = DataDir::running();
    data.flush();
    data.log.want_checkpoint();
    data.flush();
    let path = data.segment(2, "log");
    data.change(&path, |bytes| bytes[size as usize + 70] ^= 1);
    let (_, findings) = data.verify();
    assert_eq!(
        findings[0].fault.severity(),
        Severity::Error,
        "{findings:?}"
    );
}

#[test]
fn a_checkpoint_is_held_against_catalog_and_segments() {
    use millstream::log::checkpoint::Checkpoint;
    let data = DataDir::stopped();
    let path = data.path(CHECKPOINT);
    for at in 0..fs::metadata(&path).unwrap().len() as usize {
        let before = fs::read(&path).unwrap();
        data.change(&path, |bytes| bytes[at] ^= 4);
        let found = data.found();
        let expected = (CHECKPOINT.to_owned(), Some(0), None, "checkpoint_damaged");
        assert_eq!(found, [expected], "byte {at}");
        fs::write(&path, before).unwrap();
    }
    let sound = Checkpoint::read(path.parent().unwrap()).unwrap().unwrap();
    let with = |change: &dyn Fn(&mut Checkpoint)| {
        let mut changed = sound.clone();
        change(&mut changed);
        fs::write(&path, changed.encode()).unwrap();
        let found = data.found();
        found
            .into_iter()
            .map(|(_, at, _, fault)| (at.unwrap(), fault))
            .collect::<Vec<_>>()
    };
    assert_eq!(with(&|_| {}), []);
    assert_eq!(
        with(&|c| c.position -= 7),
        [(46, "checkpoint_off_boundary")]
    );
    assert_eq!(
        with(&|c| c.durable_offset -= 1),
        [(30, "checkpoint_offset")]
    );
    assert_eq!(
        with(&|c| c.topic_id = Uuid::nil()),
        [(6, "checkpoint_of_other_topic")]
    );
    assert_eq!(with(&|c| c.snapshot[0] = 9), [(58, "producers_unreadable")]);
    let too_far = with(&|c| c.position += 7);
    assert_eq!(too_far, [(4 * data.batch_bytes, "durable_missing")]);
}

#[test]
fn index_entries_must_be_sound_and_point_at_their_batch() {
    use millstream::log::index;
    let data = DataDir::stopped();
    let path = data.segment(1, "index");
    let entries = fs::metadata(&path).unwrap().len() as usize / index::ENTRY_BYTES;
    assert_eq!(entries, BATCHES as usize);
    for at in 0..entries * index::ENTRY_BYTES {
        let before = fs::read(&path).unwrap();
        data.change(&path, |bytes| bytes[at] ^= 0x20);
        let entry_at = (at / index::ENTRY_BYTES * index::ENTRY_BYTES) as u64;
        let found = data.found();
        assert_eq!(found.len(), 1, "byte {at}: {found:?}");
        assert_eq!((found[0].1, found[0].3), (Some(entry_at), "index_damaged"));
        fs::write(&path, before).unwrap();
    }
    let with_second = |change: &dyn Fn(&mut index::Entry)| {
        let before = fs::read(&path).unwrap();
        data.change(&path, |bytes| {
            let second = bytes[20..40].try_into().unwrap();
            let mut entry = index::Entry::decode(second, 8).unwrap();
            change(&mut entry);
            bytes[20..40].copy_from_slice(&entry.encode(8));
        });
        let found = data.found();
        fs::write(&path, before).unwrap();
        found
            .into_iter()
            .map(|(_, at, _, fault)| (at.unwrap(), fault))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with_second(&|e| e.position += 1),
        [(20, "index_off_boundary")]
    );
    assert_eq!(
        with_second(&|e| e.relative_offset += 1),
        [(20, "index_offset")]
    );
    assert_eq!(
        with_second(&|e| e.max_timestamp_before -= 1),
        [(20, "index_timestamp")]
    );
    let second = data.batch_bytes as usize;
    data.change(&path, |bytes| bytes.extend([0; 33]));
    let found = data.found();
    assert_eq!((found[0].1, found[0].3), (Some(80), "index_torn"));
    // Entries behind the end of the segment: as if the log had been longer once.
    data.change(&path, |bytes| {
        bytes.truncate(80);
        let stale = index::Entry {
            relative_offset: 8,
            position: 4 * second as u32,
            max_timestamp_before: 0,
        };
        bytes.extend(stale.encode(8));
    });
    let (_, findings) = data.verify();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fault.severity(), Severity::Note);
    assert_eq!(
        (findings[0].position, findings[0].fault.name()),
        (Some(80), "index_stale")
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(data.found()[0].3, "index_missing");
}

#[test]
fn records_that_contradict_their_header_are_found_although_the_checksum_matches() {
    let data = DataDir::stopped();
    let path = data.segment(0, "log");
    let size = data.batch_bytes as usize;
    let resealed = |change: fn(&mut [u8])| {
        move |bytes: &mut Vec<u8>| {
            let mut copy = bytes[size..2 * size].to_vec();
            change(&mut copy);
            batch::build::seal(&mut copy);
            bytes[size..2 * size].copy_from_slice(&copy);
        }
    };
    let at = size as u64;
    data.damaged(
        &path,
        resealed(|b| b[60] = 1),
        &[(at, 2, "wrong_count"), (at, 2, "bad_records")],
    );
    data.damaged(&path, resealed(|b| b[64] = 2), &[(at, 2, "bad_records")]);
    data.damaged(&path, resealed(|b| b[22] = 1), &[(at, 2, "bad_records")]);
    data.damaged(
        &path,
        resealed(|b| b[22] = 7),
        &[(at, 2, "unknown_codec"), (at, 2, "bad_records")],
    );
}

#[test]
fn the_catalog_is_checked_and_directories_that_no_topic_owns_are_noted() {
    let data = DataDir::stopped();
    let path = data.path("catalog.log");
    let content = fs::read(&path).unwrap();
    let (first, second) = {
        let pieces = millstream::engine::catalog_log::pieces(&content).unwrap();
        (pieces[0].at, pieces[1].at)
    };
    for at in first..content.len() {
        data.change(&path, |bytes| bytes[at] ^= 1);
        let entry_at = if at < second { first } else { second };
        let found = data.found();
        let expected = (
            "catalog.log".to_owned(),
            Some(entry_at as u64),
            None,
            "catalog_damaged",
        );
        assert!(found.contains(&expected), "byte {at}: {found:?}");
        fs::write(&path, &content).unwrap();
    }
    data.change(&path, |bytes| bytes.truncate(content.len() - 5));
    let expected = (
        "catalog.log".to_owned(),
        Some(second as u64),
        None,
        "catalog_torn",
    );
    assert_eq!(data.found(), [expected]);
    fs::write(&path, &content).unwrap();
    for stray in ["gone-0", "0123-0-delete"] {
        fs::create_dir(data.path(stray)).unwrap();
    }
    fs::write(data.path("orders-0/checkpoint.tmp"), "half").unwrap();
    let (_, findings) = data.verify();
    assert!(
        findings
            .iter()
            .all(|f| f.fault.severity() == Severity::Note)
    );
    let names: Vec<_> = findings.iter().map(|f| f.fault.name()).collect();
    assert_eq!(
        names,
        ["deleted_directory", "stray_directory", "stray_file"]
    );
    fs::write(data.path("format"), [0xff; 9]).unwrap();
    assert_eq!(data.found()[0].3, "format_unreadable");
    fs::remove_file(&path).unwrap();
    assert_eq!(data.found()[1].3, "catalog_missing");
}

#[test]
fn the_command_says_what_is_wrong_and_sets_its_exit_status() {
    let data = DataDir::stopped();
    let sound = data.run(&["verify", "."]);
    let text = stdout(&sound);
    assert!(sound.status.success(), "{text}");
    assert!(
        text.starts_with("2 topics, 4 partitions, 3 segments, 12 batches, 24 records, ")
            && text.ends_with(": sound\n"),
        "{text}"
    );
    assert_eq!(stdout(&data.run(&["verify", ".", "--quiet"])), "");
    fs::create_dir(data.path("gone-0")).unwrap();
    assert!(
        data.run(&["verify", "."]).status.success(),
        "a note is no error"
    );
    data.change(&data.segment(1, "log"), |bytes| bytes[70] ^= 1);
    let wrong = data.run(&["verify", ".", "--quiet"]);
    assert_eq!(wrong.status.code(), Some(1));
    let text = stdout(&wrong);
    let expected =
        "error: ./orders-0/00000000000000000008.log: byte 0: offset 8: the batch's CRC-32C";
    assert!(
        text.starts_with(expected) && text.lines().count() == 1,
        "{text}"
    );
    let json = stdout(&data.run(&["verify", ".", "--json", "--records"]));
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["finding"], "stray_directory");
    assert_eq!(
        (&lines[1]["finding"], &lines[1]["position"]),
        (&"bad_crc".into(), &0.into())
    );
    assert_eq!(
        (&lines[2]["errors"], &lines[2]["notes"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_directory_that_a_broker_has_open_is_refused_and_nothing_is_changed() {
    let data = DataDir::stopped();
    let held = file::open(&data.path("lock"), false).unwrap();
    file::lock(&held).unwrap();
    let refused = data.run(&["verify", "."]);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("a broker is running on "), "{error}");
    drop(held);
    assert!(data.run(&["verify", "."]).status.success());
}

#[test]
fn dump_prints_every_kind_of_file() {
    let data = DataDir::stopped();
    let text = |arguments: &[&str]| {
        let output = data.run(&[&["dump"], arguments].concat());
        (output.status.code(), stdout(&output))
    };
    let log = "orders-0/00000000000000000008.log";
    let (status, batches) = text(&[log]);
    assert_eq!(status, Some(0));
    let lines: Vec<&str> = batches.lines().collect();
    assert_eq!(lines.len(), 2 + BATCHES as usize, "{batches}");
    assert_eq!(
        lines[2],
        "       0             8..9      2      101  none    ok   2023-11-14T22:13:24.000Z +1 ms  \
         producer 77 epoch 0 sequence 8"
    );
    let (_, one) = text(&[log, "--records", "--from", "11", "--max", "1"]);
    assert!(
        one.ends_with("offset 11  2023-11-14T22:13:25.001Z  null = \"value-00005-b\"\n"),
        "{one}"
    );
    let (_, json) = text(&[log, "--json", "--records", "--max", "2"]);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["type"], &lines[0]["base_offset"]),
        (&"batch".into(), &8.into())
    );
    assert_eq!(lines[2]["value"], "value-00004-b");

    let (status, index) = text(&["orders-0/00000000000000000008.index"]);
    assert_eq!(
        (status, index.lines().count()),
        (Some(0), 2 + BATCHES as usize),
        "{index}"
    );
    let (status, checkpoint) = text(&[CHECKPOINT]);
    assert_eq!(status, Some(0));
    for part in [
        "durable offset    24",
        "producer 77",
        "sequences 22..23  offsets 22..23",
    ] {
        assert!(checkpoint.contains(part), "{checkpoint}");
    }
    let (status, catalog) = text(&["catalog.log"]);
    assert_eq!(status, Some(0));
    assert!(catalog.contains("orders  partitions 2"), "{catalog}");
    assert_eq!(text(&["format"]).0, Some(1), "no file that can be printed");
    assert_eq!(text(&["orders-0/99999999999999999999.log"]).0, Some(1));
}

#[test]
fn dump_tells_what_is_not_sound_and_goes_on_behind_it() {
    let data = DataDir::stopped();
    let size = data.batch_bytes as usize;
    let path = data.segment(0, "log");
    let shown = path.to_str().unwrap();
    data.change(&path, |bytes| bytes.extend([0; 50]));
    let output = data.run(&["dump", shown]);
    assert_eq!(output.status.code(), Some(0), "zeros are sound");
    assert!(stdout(&output).ends_with("50 bytes of zeros: reserved space\n"));
    data.change(&path, |bytes| bytes[70] ^= 1);
    data.change(&path, |bytes| bytes[2 * size + 16] = 1);
    let output = data.run(&["dump", shown]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("BAD") && text.contains("101 bytes are no batch: the batch has format 1")
    );
    assert!(text.contains("6..7"), "{text}");
    for name in [
        CHECKPOINT,
        "orders-0/00000000000000000000.index",
        "catalog.log",
    ] {
        data.change(&data.path(name), |bytes| bytes[24] ^= 1);
        assert_eq!(data.run(&["dump", name]).status.code(), Some(1), "{name}");
    }
}
