//! Compaction rule by rule, and every place where it can be stopped.

use super::*;
use crate::io::fault;
use crate::log::batch::build::BatchBuilder;
use crate::log::batch::{self, BatchHeader, Codec};
use crate::log::check::verify::{self, Severity};
use crate::log::records::Records;
use crate::log::tests::{self, Fixture, START_MS, TOPIC};
use crate::log::{LogConfig, Read, segment};

const DELETE_RETENTION_MS: i64 = 10_000;
const LIMITS: CompactLimits = CompactLimits {
    map_bytes: 1 << 20,
    io_bytes_per_second: u64::MAX,
};

type Pair<'a> = (&'a str, Option<&'a str>);

fn fixture() -> Fixture {
    tests::fixture(LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        compaction: Some(CompactionConfig {
            delete_retention_ms: DELETE_RETENTION_MS,
            min_dirty_ratio: 0.5,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        }),
        ..tests::config()
    })
}

/// A log with a key that has two values, which compaction can reach.
fn two_values() -> Fixture {
    let mut at = fixture();
    at.put(&[("a", Some("1"))]);
    at.put(&[("a", Some("2"))]);
    at.roll();
    at
}

fn step_to_swap(job: &mut CompactJob) -> SwapJob {
    match job.step() {
        Ok(CompactStep::Swap(swap)) => swap,
        _ => panic!("there is something to swap"),
    }
}

impl Fixture {
    /// Appends a batch of these records.
    fn put(&mut self, records: &[Pair<'_>]) {
        self.put_compressed(Codec::None, records);
    }

    fn put_compressed(&mut self, codec: Codec, records: &[Pair<'_>]) {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| (Some(*key), *value))
            .collect();
        self.put_batch(codec, &BatchBuilder::default(), &records);
    }

    fn put_batch(
        &mut self,
        codec: Codec,
        builder: &BatchBuilder,
        records: &[(Option<&str>, Option<&str>)],
    ) {
        let builder = BatchBuilder {
            base_timestamp: self.now_ms,
            ..builder.clone()
        };
        let batch = builder.build_keyed(codec, records);
        self.try_append(&batch).unwrap();
    }

    /// Closes the active segment, so that all before can be compacted.
    fn roll(&mut self) {
        self.roll_without_checkpoint();
        self.checkpoint();
    }

    fn roll_without_checkpoint(&mut self) {
        let job = self.log.create_job(1);
        self.make_room(job).unwrap();
        self.put(&[("filler", Some("filler"))]);
    }

    fn job(&mut self) -> Option<CompactJob> {
        loop {
            match self.log.compaction(self.now_ms, LIMITS) {
                Compaction::Nothing | Compaction::NeedsCheckpoint => return None,
                Compaction::Clean(job) => return Some(*job),
                Compaction::Load(job) => {
                    self.log.load_done(job.run().unwrap(), self.now_ms);
                }
            }
        }
    }

    fn run(&mut self, job: &mut CompactJob) -> Result<(), CompactError> {
        let result = loop {
            match job.step() {
                Ok(CompactStep::Done) => break Ok(()),
                Err(error) => break Err(error),
                Ok(CompactStep::Swap(swap)) => {
                    self.log.swap_begin(&swap);
                    let result = swap.run();
                    self.log.swap_done(&swap, &result);
                    if let Err(failed) = result {
                        break Err(failed.error.into());
                    }
                }
            }
        };
        self.log.compaction_done(job, &result);
        result
    }

    /// Compacts when it is due, and says whether it was.
    fn compact(&mut self) -> bool {
        let Some(mut job) = self.job() else {
            return false;
        };
        self.run(&mut job).unwrap();
        self.check();
        true
    }

    fn batches(&mut self) -> Vec<(BatchHeader, Vec<u8>)> {
        let mut batches = Vec::new();
        let offsets = self.log.offsets();
        let mut at = offsets.start;
        while at < offsets.durable {
            let found = match self.log.read(at, 1, true, true, self.now_ms).unwrap() {
                Read::Data { records, .. } => records,
                Read::Empty => panic!("nothing at {at}"),
                Read::Load(job) => {
                    self.log.load_done(job.run().unwrap(), self.now_ms);
                    continue;
                }
            };
            let header = BatchHeader::parse(&found).unwrap();
            assert!(header.last_offset() >= at && batch::crc_matches(&found));
            at = header.next_offset();
            batches.push((header, found.to_vec()));
        }
        batches
    }

    /// All records but the fillers: offset, key and value.
    fn records(&mut self) -> Vec<(i64, String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut all = Vec::new();
        for (header, bytes) in self.batches() {
            let records = Records::unpack(header, &bytes, 1 << 20).unwrap();
            for record in records.iter().map(Result::unwrap) {
                let key = record.key.map(text).unwrap_or_default();
                all.push((record.offset, key, record.value.map(text)));
            }
        }
        all.retain(|(_, key, _)| key != "filler");
        all
    }

    fn keys(&mut self) -> Vec<(i64, String)> {
        let records = self.records().into_iter();
        records.map(|(offset, key, _)| (offset, key)).collect()
    }

    /// What is on disk has nothing wrong.
    fn check(&self) {
        let origin = verify::Origin::Ours {
            topic_id: Some(TOPIC),
        };
        let report = verify::verify(self.log.dir(), &origin, true, &|_| {});
        let is_bad = |finding: &&verify::Finding| finding.fault.severity() == Severity::Error;
        let bad: Vec<_> = report.findings.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    fn set(&mut self, change: impl FnOnce(&mut CompactionConfig)) {
        let mut config = self.log.config().clone();
        change(config.compaction.as_mut().unwrap());
        self.log.set_config(config);
    }
}

fn owned(keys: &[(i64, &str)]) -> Vec<(i64, String)> {
    keys.iter()
        .map(|(offset, key)| (*offset, (*key).to_owned()))
        .collect()
}

#[test]
fn what_is_due_behind_the_checkpoint_asks_for_one() {
    let mut at = fixture();
    at.put(&[("user", Some("secret"))]);
    at.put(&[("user", None)]);
    assert!(matches!(
        at.log.compaction(at.now_ms, LIMITS),
        Compaction::Nothing
    ));
    assert!(
        at.log
            .flush_begin(Vec::new)
            .is_some_and(|flush| !flush.makes_checkpoint())
    );
    let mut at = fixture();
    at.put(&[("user", Some("secret"))]);
    at.put(&[("user", None)]);
    at.roll_without_checkpoint();
    let next = at.log.compaction(at.now_ms, LIMITS);
    assert!(matches!(next, Compaction::NeedsCheckpoint));
    at.checkpoint();
    assert!(at.compact());
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset_whatever_the_codec() {
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        let mut at = fixture();
        at.put_compressed(
            codec,
            &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))],
        );
        at.put_compressed(codec, &[("b", Some("2"))]);
        at.put_compressed(codec, &[("a", Some("2")), ("d", Some("1"))]);
        at.roll();
        assert!(at.compact());
        assert_eq!(at.keys(), owned(&[(2, "c"), (3, "b"), (4, "a"), (5, "d")]));
        assert!(
            at.batches()
                .iter()
                .all(|(header, _)| header.base_offset == 6 || header.codec() == Some(codec))
        );
        at.reopen();
        assert_eq!(at.keys().len(), 4, "{codec:?}");
    }
}

#[test]
fn the_active_segment_and_that_of_the_checkpoint_are_left_alone() {
    let mut at = fixture();
    at.put(&[("a", Some("1"))]);
    at.put(&[("a", Some("2"))]);
    assert!(at.job().is_none(), "nothing is sealed");
    at.roll();
    at.put(&[("a", Some("3"))]);
    assert!(at.compact());
    assert_eq!(at.keys(), owned(&[(1, "a")]), "3 is not durable yet");
    at.log.flush_begin(Vec::new).unwrap();
}

#[test]
fn a_dirty_share_below_the_ratio_waits_and_age_overrides_it() {
    let mut at = fixture();
    for key in 0..30 {
        at.put(&[(&format!("{key}"), Some("some value of some length"))]);
    }
    at.roll();
    assert!(at.compact());
    assert!(!at.compact(), "all is clean");
    at.put(&[("0", Some("new"))]);
    at.roll();
    assert!(!at.compact(), "one of thirty is dirty");
    at.now_ms += 1000;
    at.set(|config| config.max_lag_ms = 1000);
    assert!(!at.compact());
    at.now_ms += 1;
    assert!(at.compact());
    assert_eq!(at.keys().len(), 30);
}

#[test]
fn young_records_are_left_alone_until_the_lag_has_passed() {
    let mut at = fixture();
    at.set(|config| config.min_lag_ms = 5000);
    at.put(&[("a", Some("1"))]);
    at.put(&[("a", Some("2"))]);
    at.roll();
    at.now_ms += 4999;
    assert!(!at.compact());
    at.now_ms += 2;
    assert!(at.compact());
    assert_eq!(at.keys(), owned(&[(1, "a")]));
}

#[test]
fn tombstones_stay_for_delete_retention_after_they_were_first_compacted() {
    let mut at = fixture();
    at.put(&[("a", Some("1")), ("b", Some("1"))]);
    at.put(&[("a", None), ("c", Some("1"))]);
    at.roll();
    assert!(at.compact());
    assert_eq!(at.keys(), owned(&[(1, "b"), (2, "a"), (3, "c")]));
    let (header, bytes) = at.batches().remove(1);
    assert_eq!(
        header.delete_horizon_ms(),
        Some(START_MS + DELETE_RETENTION_MS)
    );
    let records = Records::unpack(header, &bytes, 1000).unwrap();
    let times: Vec<i64> = records
        .iter()
        .map(|record| record.unwrap().timestamp)
        .collect();
    assert_eq!(
        times,
        [START_MS, START_MS + 1],
        "timestamps are as they were"
    );
    at.now_ms += DELETE_RETENTION_MS - 1;
    assert!(!at.compact());
    at.reopen();
    assert!(!at.compact());
    at.now_ms += 1;
    assert!(at.compact(), "the tombstones' time alone makes it due");
    assert_eq!(at.keys(), owned(&[(1, "b"), (3, "c")]));
    assert!(!at.compact());
}

#[test]
fn records_without_a_key_go_and_unreadable_batches_stay() {
    let mut at = fixture();
    at.put_batch(
        Codec::None,
        &BatchBuilder::default(),
        &[(None, Some("x")), (Some("a"), Some("1"))],
    );
    let mut garbage = BatchBuilder::default().build_keyed(Codec::None, &[(Some("a"), Some("2"))]);
    garbage[batch::HEADER_BYTES] = 0x7f;
    batch::build::seal(&mut garbage);
    at.try_append(&garbage).unwrap();
    at.put(&[("a", Some("3"))]);
    at.roll();
    let mut job = at.job().unwrap();
    at.run(&mut job).unwrap();
    let offsets: Vec<i64> = at
        .batches()
        .iter()
        .map(|(header, _)| header.base_offset)
        .collect();
    assert_eq!(offsets, [2, 3, 4]);
}

#[test]
fn a_producers_last_batch_stays_without_records_and_so_does_the_last_of_a_segment() {
    let mut at = fixture();
    let producer = |base_sequence| BatchBuilder {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
        ..BatchBuilder::default()
    };
    at.put_batch(Codec::None, &producer(0), &[(Some("a"), Some("1"))]);
    at.put_batch(Codec::None, &producer(1), &[(Some("a"), Some("2"))]);
    at.put(&[("a", Some("3"))]);
    at.put_batch(
        Codec::None,
        &BatchBuilder::default(),
        &[(None, Some("no key"))],
    );
    at.roll();
    let mut job = at.job().unwrap();
    job.keep_producers(HashMap::from([(7, 1)]));
    at.run(&mut job).unwrap();
    at.check();
    let batches: Vec<_> = at
        .batches()
        .iter()
        .map(|(header, _)| {
            (
                header.base_offset,
                header.record_count,
                header.base_sequence,
            )
        })
        .collect();
    assert_eq!(batches, [(1, 0, 1), (2, 1, -1), (3, 0, -1), (4, 1, -1)]);
}

#[test]
fn small_neighbours_become_one_segment_and_reads_in_gaps_find_the_next_batch() {
    let mut at = fixture();
    for round in 0..5 {
        for key in 0..20 {
            let value = format!("value {round}");
            at.put(&[(&format!("{key}"), Some(&value))]);
        }
    }
    at.roll();
    let before = segment::list(at.log.dir()).unwrap().len();
    assert!(before > 4);
    assert!(at.compact());
    let records = at.keys();
    // They are grouped by the size they had.
    at.set(|config| config.min_dirty_ratio = 0.0);
    at.roll();
    assert!(at.compact());
    assert_eq!(at.keys(), records);
    let after = segment::list(at.log.dir()).unwrap().len();
    assert!(after < before && after <= 3, "{after} of {before}");
    assert_eq!(at.log.segment_count(), after);
    let keys: Vec<i64> = at.keys().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(keys, (80..100).collect::<Vec<_>>());
    for asked in 0..100 {
        let found = match at.log.read(asked, 1, true, true, 0).unwrap() {
            Read::Data { records, .. } => BatchHeader::parse(&records).unwrap(),
            _ => panic!("nothing at {asked}"),
        };
        assert_eq!(found.base_offset, asked.max(80));
    }
    // Without a checkpoint all is read again, gaps and all.
    std::fs::remove_file(at.log.dir().join("checkpoint")).unwrap();
    let end = at.log.offsets().end;
    at.reopen();
    assert_eq!(at.log.offsets().end, end);
    assert_eq!(at.keys().len(), 20);
}

#[test]
fn a_small_map_takes_several_runs() {
    let mut at = fixture();
    for key in 0..100 {
        at.put(&[(&format!("{}", key % 50), Some("value"))]);
    }
    at.roll();
    let limits = CompactLimits {
        map_bytes: 20 * KEY_BYTES,
        ..LIMITS
    };
    let mut runs = 0;
    while let Compaction::Clean(mut job) = at.log.compaction(at.now_ms, limits) {
        at.run(&mut job).unwrap();
        runs += 1;
        assert!(runs < 20);
        at.set(|config| config.min_dirty_ratio = 0.0);
    }
    assert!(runs >= 5, "{runs}");
    let keys: Vec<i64> = at.keys().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(keys, (50..100).collect::<Vec<_>>());
}

#[test]
fn a_segment_with_nothing_to_take_away_is_not_written() {
    let mut at = fixture();
    for key in 0..8 {
        let value = "v".repeat(100);
        at.put(&[(&format!("{key}"), Some(&value))]);
    }
    at.roll();
    let mut job = at.job().unwrap();
    at.run(&mut job).unwrap();
    assert_eq!(job.report().written_bytes, 0);
    assert!(at.job().is_none());
}

#[test]
fn a_damaged_segment_is_never_compacted() {
    let mut at = two_values();
    let path = segment::file_path(at.log.dir(), 0, "log");
    let sound = std::fs::read(&path).unwrap();
    // A value, and a high byte of an offset, which no checksum covers.
    for (byte, damaged_at) in [(68, 0), (70, 70)] {
        let mut bytes = sound.clone();
        bytes[byte] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut job = at.job().expect("it is tried again");
        let error = at.run(&mut job).unwrap_err();
        let expected = matches!(error, CompactError::Damaged { base: 0, position }
            if position == damaged_at);
        assert!(expected, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn while_a_swap_is_under_way_nothing_is_loaded_from_files_that_may_be_either() {
    let mut at = two_values();
    at.reopen();
    let mut job = at.job().unwrap();
    let swap = step_to_swap(&mut job);
    at.log.swap_begin(&swap);
    let Ok(Read::Load(wait)) = at.log.read(0, 1, true, true, 0) else {
        panic!("it is not loaded");
    };
    assert!(matches!(wait, crate::log::load::LoadJob::Wait));
    let result = swap.run();
    at.log.load_done(wait.run().unwrap(), 0);
    at.log.swap_done(&swap, &result);
    assert!(matches!(job.step(), Ok(CompactStep::Done)));
    at.log.compaction_done(&job, &Ok(()));
    assert_eq!(at.keys(), owned(&[(1, "a")]));
}

#[test]
fn a_job_that_was_cancelled_notes_nothing_in_a_directory_that_may_be_anothers() {
    let mut at = two_values();
    at.reopen();
    let mut job = at.job().unwrap();
    let swap = step_to_swap(&mut job);
    at.log.swap_begin(&swap);
    let result = swap.run();
    at.log.swap_done(&swap, &result);
    let noted = CompactionState::read(at.log.dir()).unwrap();
    at.log.cancel_compaction();
    assert!(matches!(job.step(), Err(CompactError::Cancelled)));
    assert_eq!(CompactionState::read(at.log.dir()).unwrap(), noted);
}

/// Segments that were compacted already and become one, and some that stay on their own.
fn crash_fixture() -> Fixture {
    let mut at = fixture();
    for round in 0..4 {
        for key in 0..12 {
            let value = format!("{round}").repeat(40);
            at.put(&[(&format!("{key}"), Some(&value))]);
        }
        if round == 1 {
            at.roll();
            assert!(at.compact());
        }
    }
    at.put(&[("0", None)]);
    at.roll();
    at
}

#[test]
fn a_job_that_is_stopped_after_any_file_operation_leaves_all_of_the_old_or_all_of_the_new() {
    let newest: Vec<_> = {
        let mut at = crash_fixture();
        assert!(at.compact());
        at.records()
    };
    let mut stopped = 0;
    for count in 0.. {
        let mut at = crash_fixture();
        let old = at.records();
        let mut job = at.job().unwrap();
        fault::stop_after(count);
        let result = at.run(&mut job);
        let struck = fault::clear();
        if result.is_ok() {
            break;
        }
        assert!(struck);
        stopped += 1;
        let is_whole = |found: &[_]| {
            newest.iter().all(|record| found.contains(record))
                && found.iter().all(|record| old.contains(record))
                && found.is_sorted_by_key(|(offset, _, _)| *offset)
        };
        // The log itself goes on, and so does the next one.
        assert!(is_whole(&at.records()), "running, after {count}");
        at.put(&[("filler", Some("1"))]);
        at.reopen();
        let found = at.records();
        assert!(is_whole(&found), "after {count}: {found:?}");
        at.roll();
        at.check();
        at.set(|config| config.min_dirty_ratio = 0.0);
        assert!(at.compact() || found == newest);
        let again = at.records();
        assert_eq!(again[..newest.len()], newest[..], "after {count}");
    }
    assert!(stopped > 25, "only {stopped} operations");
}
