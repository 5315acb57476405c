//! What a user of a log can name: rolls, retention, reads, full disks, failed syncs, restarts.

use super::batch::BatchHeader;
use super::batch::build::BatchBuilder;
use super::*;
use crate::io::fault::{self, Op};
use crate::io::file;

mod containment;
mod durability;

pub(super) const TOPIC: Uuid = Uuid::from_u128(42);
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// A log whose jobs run at once.
pub(super) struct Fixture {
    dir: tempfile::TempDir,
    pub log: Log,
    pub now_ms: i64,
}

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 10_000,
        segment_ms: i64::MAX,
        index_interval_bytes: 500,
        retention_ms: -1,
        retention_bytes: -1,
        compaction: None,
        reserve_step_bytes_max: 1 << 20,
        checkpoint_bytes: u64::MAX,
        not_durable_bytes_max: NOT_DURABLE_BYTES_MAX,
    }
}

fn open_at(dir: &Path, config: LogConfig) -> Result<(Log, Recovered), LogError> {
    Log::open(dir.join("log"), TOPIC, config, &mut |_| {})
}

fn fixture_with(change: impl FnOnce(&mut LogConfig)) -> Fixture {
    let mut config = config();
    change(&mut config);
    fixture(config)
}

pub(super) fn fixture(config: LogConfig) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_at(dir.path(), config).unwrap();
    Fixture {
        dir,
        log,
        now_ms: START_MS,
    }
}

/// A batch of `records` records with about `bytes` bytes in all.
fn batch(records: usize, bytes: usize, timestamp_ms: i64) -> Vec<u8> {
    let builder = BatchBuilder {
        base_timestamp: timestamp_ms,
        ..BatchBuilder::default()
    };
    builder.build(&vec![vec![b'x'; bytes / records]; records])
}

impl Fixture {
    pub fn try_append(&mut self, bytes: &[u8]) -> io::Result<i64> {
        let header = BatchHeader::parse(bytes).unwrap();
        loop {
            match self.log.append(bytes, &header, None, self.now_ms) {
                Ok(offset) => return Ok(offset),
                Err(AppendError::NeedsRoom) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            let job = self.log.room_job(bytes.len(), &header, self.now_ms);
            self.make_room(job.unwrap())?;
        }
    }

    pub fn make_room(&mut self, job: RoomJob) -> io::Result<()> {
        let seal = self.log.room_done(job.run(), self.now_ms)?;
        if let Some(seal) = seal {
            self.log.seal_done(&seal.run());
        }
        Ok(())
    }

    /// Appends `count` batches of three records and about 1,000 bytes.
    fn append(&mut self, count: usize) {
        for _ in 0..count {
            self.try_append(&batch(3, 900, self.now_ms)).unwrap();
        }
    }

    fn flush(&mut self) {
        let Some(flush) = self.log.flush_begin(|| b"state".to_vec()) else {
            return;
        };
        let result = flush
            .files
            .iter()
            .try_for_each(|file| file::sync_data(file));
        if let Some(job) = self.log.flush_end(flush, &result) {
            let result = job.run();
            self.log.checkpoint_done(&job, &result);
        }
    }

    pub fn checkpoint(&mut self) {
        self.log.want_checkpoint();
        self.flush();
    }

    fn read(&mut self, offset: i64, max_bytes: usize, at_least_one: bool) -> Bytes {
        loop {
            let now_ms = self.now_ms;
            let read = self
                .log
                .read(offset, max_bytes, at_least_one, false, now_ms);
            match read.unwrap() {
                Read::Data { records, .. } => return records,
                Read::Empty => return Bytes::new(),
                Read::Load(job) => drop(self.log.load_done(job.run().unwrap(), now_ms)),
            }
        }
    }

    /// Applies retention until there is nothing left to do.
    fn retain(&mut self) {
        for _ in 0..20 {
            match self.log.retention(self.now_ms) {
                Retention::Nothing if !self.log.needs_flush() => return,
                Retention::Nothing => {}
                Retention::Delete(job) => job.run().unwrap(),
                Retention::Load(job) => drop(self.log.load_done(job.run().unwrap(), self.now_ms)),
                Retention::Roll(job) => self.make_room(job).unwrap(),
            }
            self.flush();
        }
        panic!("retention does not come to an end");
    }

    /// What a kill leaves: all jobs that ran, nothing else.
    pub fn reopen(&mut self) -> Recovered {
        let (log, recovered) = open_at(self.dir.path(), self.log.config().clone()).unwrap();
        self.log = log;
        recovered
    }

    fn path(&self, base: i64, extension: &str) -> PathBuf {
        segment::file_path(self.log.dir(), base, extension)
    }

    fn segments(&self) -> Vec<i64> {
        segment::list(self.log.dir()).unwrap()
    }
}

#[test]
fn an_index_has_no_entry_for_an_offset_that_its_segment_cannot_have() {
    let mut builder = segment::IndexBuilder::new(240, 0);
    let header = BatchHeader::parse(&batch(3, 300, START_MS)).unwrap();
    // The third is offset 256 with a flipped bit.
    for (position, base_offset) in [(0, 1264), (400, 1280), (800, (1 << 57) + 256), (1200, 1290)] {
        let header = BatchHeader {
            base_offset,
            ..header
        };
        builder.note(position, &header);
    }
    assert_eq!(builder.index.len(), 3);
    assert_eq!(builder.index.position_of_offset(1290 - 240), 1200);
}

#[test]
fn batches_of_old_that_claim_no_time_are_found_by_it_with_the_index_of_old() {
    let mut at = fixture(config());
    for number in 0..20 {
        let mut bytes = batch(3, 300, START_MS + 10 * number);
        bytes[35..43].copy_from_slice(&(-1_i64).to_be_bytes());
        at.try_append(&bytes).unwrap();
    }
    at.checkpoint();
    let find = |at: &mut Fixture, timestamp| loop {
        match at.log.batch_at_time(timestamp, 0, START_MS) {
            TimeLookup::Batch(bytes) => break BatchHeader::parse(&bytes).unwrap().base_offset,
            TimeLookup::NotFound => break -1,
            TimeLookup::Load(job) => {
                at.log.load_done(job.run().unwrap(), START_MS);
            }
        }
    };
    // The records of the batch before may be as late.
    assert_eq!(find(&mut at, START_MS + 100), 27);
    let seal = at.log.close_active(START_MS).unwrap().unwrap();
    at.log.seal_done(&seal.run());
    let path = at.path(0, "index");
    let entries = std::fs::read(&path).unwrap();
    let mut old = Vec::new();
    for bytes in entries.as_chunks().0 {
        let timeless = index::Entry {
            max_timestamp_before: -1,
            ..index::Entry::decode(bytes, 0).unwrap()
        };
        old.extend(timeless.encode(0));
    }
    assert!(old.len() > 5 * index::ENTRY_BYTES);
    std::fs::write(&path, old).unwrap();
    at.reopen();
    assert_eq!(find(&mut at, START_MS + 100), 27);
    assert_eq!(at.log.max_timestamp().ok(), Some(START_MS + 190));
}

#[test]
fn a_segment_is_rolled_when_it_is_full() {
    let mut at = fixture(config());
    at.append(25);
    assert_eq!(at.segments().len(), 3);
    for base in &at.segments()[..2] {
        let size = std::fs::metadata(at.path(*base, "log")).unwrap().len();
        assert!(size <= 10_000 && size > 8_900, "{size}");
    }
    assert_eq!(at.log.offsets().end, 75);
}

#[test]
fn a_segment_is_rolled_when_it_is_old() {
    let mut at = fixture_with(|config| config.segment_ms = 1000);
    at.append(1);
    at.now_ms += 1000;
    at.append(1);
    assert_eq!(at.segments(), [0]);
    at.now_ms += 1;
    at.append(1);
    assert_eq!(at.segments(), [0, 6]);
}

#[test]
fn after_the_clock_was_set_back_ages_count_from_then() {
    let mut at = fixture_with(|config| config.segment_ms = 1000);
    at.append(1);
    at.flush();
    at.now_ms -= 1_000_000;
    assert!(at.log.close_idle(at.now_ms, 500).unwrap().is_none());
    at.now_ms += 1001;
    at.append(1);
    assert_eq!(at.segments(), [0, 3], "rolled by its age");
    at.flush();
    at.now_ms += 501;
    assert!(at.log.close_idle(at.now_ms, 500).unwrap().is_some());
}

#[test]
fn a_batch_that_arrives_while_a_segment_is_being_made_goes_into_that_segment() {
    let mut at = fixture(config());
    at.append(8);
    let (large, small) = (batch(1, 5000, START_MS), batch(1, 50, START_MS));
    let header = BatchHeader::parse(&large).unwrap();
    let job = at.log.room_job(large.len(), &header, START_MS).unwrap();
    let small_header = BatchHeader::parse(&small).unwrap();
    let early = at.log.append(&small, &small_header, None, START_MS);
    assert_eq!(early, Err(AppendError::NeedsRoom));
    at.make_room(job).unwrap();
    assert_eq!(at.try_append(&small).unwrap(), 24);
    at.flush();
    at.reopen();
    assert_eq!(at.log.offsets().end, 25);
    assert_eq!(at.segments(), [0, 24]);
}

#[test]
fn a_larger_segment_size_counts_at_once() {
    let mut at = fixture(config());
    at.append(1);
    at.flush();
    at.log.delete_records(3).unwrap();
    at.retain();
    assert_eq!(at.log.size_bytes(), 0, "the active segment is empty");
    at.log.set_config(LogConfig {
        segment_bytes: 100_000,
        ..config()
    });
    assert_eq!(at.try_append(&batch(1, 50_000, START_MS)).unwrap(), 3);
    at.flush();
    assert_eq!(at.read(3, 1, true).len(), at.log.size_bytes() as usize);
}

#[test]
fn retention_by_time_deletes_what_is_old_and_keeps_the_offsets() {
    let mut at = fixture_with(|config| config.retention_ms = 5000);
    at.append(12);
    at.flush();
    at.now_ms += 4000;
    at.append(12);
    at.flush();
    at.retain();
    assert_eq!(at.log.offsets().start, 0);
    at.now_ms += 2000;
    at.retain();
    let start = at.log.offsets().start;
    assert!(start > 0 && start <= 36, "{start}");
    at.now_ms += 10_000;
    at.retain();
    let all_gone = Offsets {
        start: 72,
        durable: 72,
        end: 72,
    };
    assert_eq!(at.log.offsets(), all_gone);
    at.reopen();
    assert_eq!(at.log.offsets(), all_gone);
    assert_eq!(at.segments(), [72]);
}

#[test]
fn retention_by_size_keeps_at_least_that_much() {
    let mut at = fixture_with(|config| config.retention_bytes = 15_000);
    at.append(60);
    at.flush();
    at.retain();
    let size = at.log.size_bytes();
    assert!((15_000..25_000).contains(&size), "{size}");
    assert_eq!(at.log.offsets().end, 180);
}

#[test]
fn retention_by_size_counts_only_what_no_power_cut_takes_back() {
    let mut at = fixture_with(|config| config.retention_bytes = 15_000);
    at.append(16);
    at.flush();
    at.checkpoint();
    let durable = at.log.size_bytes();
    assert!((15_000..25_000).contains(&durable), "{durable}");
    at.append(40);
    assert!(matches!(at.log.retention(at.now_ms), Retention::Nothing));
    assert_eq!(at.log.offsets().start, 0);
    at.flush();
    at.checkpoint();
    at.retain();
    assert!(at.log.offsets().start > 0);
}

#[test]
fn records_without_timestamps_age_by_when_they_were_written() {
    let mut at = fixture_with(|config| config.retention_ms = 5000);
    at.try_append(&batch(1, 100, -1)).unwrap();
    at.flush();
    at.retain();
    assert_eq!(at.log.offsets().start, 0);
    assert_eq!(at.log.max_timestamp().ok(), Some(-1));
    at.now_ms += 5001;
    at.retain();
    assert_eq!(at.log.offsets().start, 1);
}

#[test]
fn retention_waits_for_a_checkpoint_that_needs_the_segment_no_more() {
    let mut at = fixture_with(|config| config.retention_bytes = 0);
    at.append(30);
    at.flush();
    assert!(matches!(at.log.retention(START_MS), Retention::Nothing));
    assert_eq!(at.log.offsets().start, 0);
    at.checkpoint();
    assert!(matches!(at.log.retention(START_MS), Retention::Delete(_)));
}

#[test]
fn records_that_are_not_durable_are_never_deleted() {
    let mut at = fixture_with(|config| config.retention_bytes = 0);
    at.append(30);
    assert!(matches!(at.log.retention(START_MS), Retention::Nothing));
    assert!(at.log.delete_records(1).is_err());
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go() {
    let mut at = fixture(config());
    at.append(30);
    at.flush();
    assert_eq!(at.log.delete_records(40).unwrap(), 40);
    assert_eq!(at.log.delete_records(10).unwrap(), 40, "never backwards");
    assert!(at.log.delete_records(91).is_err());
    assert!(at.log.durable_start() < 40);
    at.retain();
    assert_eq!(at.log.durable_start(), 40);
    assert!(at.segments()[0] > 0 && at.segments()[0] <= 40);
    at.reopen();
    assert_eq!(at.log.offsets().start, 40);
    let error = at.log.read(39, 1, true, false, START_MS).err();
    let (asked, start, end) = (39, 40, 90);
    assert_eq!(error, Some(ReadError::OutOfRange { asked, start, end }));
}

#[test]
fn a_read_in_the_middle_of_a_batch_returns_all_of_it() {
    let mut at = fixture(config());
    at.append(3);
    at.flush();
    for offset in 3..6 {
        let found = at.read(offset, 1500, false);
        assert_eq!(BatchHeader::parse(&found).unwrap().base_offset, 3);
    }
}

#[test]
fn a_read_ends_where_the_last_batch_that_fits_ends() {
    let mut at = fixture(config());
    at.append(5);
    at.flush();
    let one = at.log.size_bytes() as usize / 5;
    assert_eq!(at.read(0, one * 3, false).len(), one * 3);
    assert_eq!(at.read(0, one * 3 - 1, false).len(), one * 2);
    assert_eq!(at.read(3, one * 9, false).len(), one * 4);
    assert_eq!(at.read(0, one - 1, false).len(), 0);
    assert_eq!(at.read(0, 0, true).len(), one);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let mut at = fixture(config());
    at.append(2);
    at.flush();
    let one = at.log.size_bytes() as usize / 2;
    at.append(2);
    assert_eq!(at.read(0, 100_000, true).len(), 2 * one);
    assert!(at.read(6, 100_000, true).is_empty());
}

#[test]
fn a_failed_sync_poisons_the_log_and_reads_go_on() {
    let mut at = fixture(config());
    at.append(3);
    at.flush();
    at.append(3);
    fault::inject(Op::Sync, 0, libc::EIO, false);
    at.flush();
    assert!(fault::clear());
    assert!(at.log.is_poisoned());
    assert_eq!(at.log.offsets().durable, 9);
    assert!(!at.log.needs_flush());
    assert!(at.log.flush_begin(Vec::new).is_none(), "never retried");
    let error = at.try_append(&batch(1, 10, START_MS)).unwrap_err();
    assert!(error.to_string().contains("restarted"), "{error}");
    assert!(!at.read(6, 100_000, true).is_empty());
}

#[test]
fn a_failed_sync_of_a_rolled_segment_poisons_the_log_too() {
    let mut at = fixture(config());
    at.append(3);
    let seal = at.log.close_active(START_MS).unwrap().unwrap();
    fault::inject(Op::Sync, 0, libc::EIO, false);
    let result = seal.run();
    assert!(fault::clear());
    at.log.seal_done(&result);
    assert!(at.log.is_poisoned());
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_space_again() {
    let mut at = fixture(config());
    at.append(9);
    at.flush();
    for op in [Op::Reserve, Op::Sync, Op::Open] {
        fault::inject(op, 0, libc::ENOSPC, true);
        let error = at.try_append(&batch(1, 8000, START_MS)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        fault::clear();
        assert_eq!(at.segments(), [0], "{op:?} leaves no half segment");
        assert!(!at.read(0, 1000, true).is_empty());
    }
    // What fits into reserved space still goes there; then there is space again.
    at.try_append(&batch(1, 50, START_MS)).unwrap();
    assert_eq!(at.try_append(&batch(1, 8000, START_MS)).unwrap(), 28);
    at.flush();
    at.reopen();
    assert_eq!(at.log.offsets().end, 29);
}

#[test]
fn a_half_segment_that_cannot_be_removed_is_gone_before_the_log_goes_on_behind_it() {
    let mut at = fixture(config());
    at.append(9);
    at.flush();
    fault::inject(Op::Remove, 0, libc::ENOSPC, true);
    at.try_append(&batch(1, 8000, START_MS)).unwrap_err();
    fault::clear();
    assert_eq!(at.segments(), [0, 27]);
    at.try_append(&batch(1, 50, START_MS)).unwrap();
    fault::inject(Op::Remove, 0, libc::ENOSPC, true);
    at.try_append(&batch(1, 8000, START_MS)).unwrap_err();
    fault::clear();
    assert_eq!(at.try_append(&batch(1, 8000, START_MS)).unwrap(), 28);
    assert_eq!(at.segments(), [0, 28]);
    at.flush();
    at.checkpoint();
    at.reopen();
    assert!(!at.read(27, 1000, true).is_empty());
    assert_eq!(at.log.offsets().end, 29);
}

#[test]
fn an_index_that_cannot_be_written_holds_nothing_up() {
    let mut at = fixture(config());
    at.append(9);
    at.flush();
    let seal = at.log.close_active(START_MS).unwrap().unwrap();
    fault::inject(Op::Write, 1, libc::ENOSPC, false);
    at.log.seal_done(&seal.run());
    assert!(fault::clear());
    assert!(!at.log.is_poisoned());
    at.checkpoint();
    at.reopen();
    assert_eq!(
        at.read(24, 1100, true).len(),
        at.log.size_bytes() as usize / 9
    );
}

#[test]
fn a_segment_that_cannot_be_opened_for_appends_keeps_its_size() {
    let mut at = fixture(config());
    at.append(3);
    at.flush();
    at.checkpoint();
    at.reopen();
    let size = at.log.size_bytes();
    fault::inject(Op::Open, 1, libc::EMFILE, false);
    at.try_append(&batch(1, 50, START_MS)).unwrap_err();
    assert!(fault::clear());
    let on_disk = std::fs::metadata(at.path(0, "log")).unwrap().len();
    assert_eq!(on_disk, size);
}

#[test]
fn without_a_sound_checkpoint_the_log_is_read_from_its_beginning() {
    let mut at = fixture(config());
    at.append(25);
    at.flush();
    at.checkpoint();
    let path = at.log.dir().join(checkpoint::FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    for content in [None, Some(&whole[..20]), Some(&[0; 80][..])] {
        match content {
            None => std::fs::remove_file(&path).unwrap(),
            Some(content) => std::fs::write(&path, content).unwrap(),
        }
        let recovered = at.reopen();
        assert_eq!(recovered.scanned_bytes, at.log.size_bytes());
        assert_eq!(at.log.offsets().end, 75);
        assert_eq!(at.log.offsets().start, 0);
    }
}

#[test]
fn a_roll_after_the_checkpoint_was_lost_deletes_nothing() {
    let mut at = fixture(config());
    at.append(9);
    at.flush();
    std::fs::remove_file(at.log.dir().join(checkpoint::FILE_NAME)).unwrap();
    at.reopen();
    at.try_append(&batch(1, 8000, START_MS)).unwrap();
    at.reopen();
    assert_eq!(at.log.offsets().start, 0);
    assert_eq!(at.log.offsets().end, 28);
}

#[test]
fn a_torn_batch_is_cut_and_its_place_used_again() {
    let mut at = fixture(config());
    at.append(5);
    at.flush();
    let durable = at.log.size_bytes();
    at.append(2);
    let torn = at.log.size_bytes() - durable;
    let file = file::open(&at.path(0, "log"), false).unwrap();
    assert!(file.metadata().unwrap().len() > durable + torn, "reserved");
    file::write_at(&file, &[0xff; 8], durable + 100).unwrap();
    let recovered = at.reopen();
    assert_eq!(recovered.cut_bytes, torn);
    assert_eq!(at.log.offsets().end, 15);
    assert_eq!(at.log.size_bytes(), durable);
    at.append(1);
    at.flush();
    let found = at.read(15, 2000, true);
    assert!(batch::crc_matches(&found));
    assert_eq!(at.read(17, 2000, true), found);
}

#[test]
fn the_reserved_zeros_behind_a_torn_end_do_not_count_as_cut() {
    let mut at = fixture(config());
    at.append(5);
    at.flush();
    let durable = at.log.size_bytes();
    at.append(1);
    let torn = at.log.size_bytes() - durable;
    let file = file::open(&at.path(0, "log"), false).unwrap();
    assert!(file.metadata().unwrap().len() > durable + torn, "reserved");
    // Its header makes no sense, and no sound batch follows.
    file::write_at(&file, &[0xff; 60], durable).unwrap();
    let recovered = at.reopen();
    // The record ends with its number of headers, which is 0.
    assert_eq!(recovered.cut_bytes, torn - 1);
    assert_eq!(at.log.size_bytes(), durable);
}

#[test]
fn another_topics_directory_is_told_apart() {
    let mut at = fixture(config());
    at.append(1);
    let other = Uuid::from_u128(43);
    let (_, recovered) = Log::open(at.log.dir().into(), other, config(), &mut |_| {}).unwrap();
    assert!(recovered.foreign);
}
