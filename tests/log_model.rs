//! A partition's log beside a model of it, driven at random the way the broker drives it, through
//! clean restarts, kills, power cuts, full disks and failed syncs.
//!
//! A failure prints its seed: `MILLSTREAM_SEED=<seed> cargo test --test millstream log_model` runs
//! that one again. `MILLSTREAM_RUNS` sets how many seeds are tried.

#[path = "log_model/compaction.rs"]
mod compaction;
#[path = "log_model/disk.rs"]
pub mod disk;
#[path = "log_model/journal.rs"]
mod journal;
#[path = "log_model/model.rs"]
mod model;
#[path = "log_model/rng.rs"]
pub mod rng;

use disk::Disk;
use millstream::io::fault::{self, Op};
use millstream::io::file;
use millstream::log::batch::BatchHeader;
use millstream::log::batch::Codec;
use millstream::log::batch::build::BatchBuilder;
use millstream::log::compact::{SwapError, SwapJob};
use millstream::log::jobs::{CheckpointJob, DeleteJob, Room, RoomJob, SealJob};
use millstream::log::load::{LoadJob, Loaded};
use millstream::log::recovery::Replay;
use millstream::log::spare;
use millstream::log::{
    AppendError, Flush, Log, LogConfig, Offsets, Read, ReadError, Retention, TimeLookup,
};
use model::Model;
use rng::Rng;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

const STEPS: usize = 150;
const TOPIC: Uuid = Uuid::from_u128(0x6d696c6c73747265616d);

#[test]
fn a_log_agrees_with_its_model_whatever_happens_to_the_machine() {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect(name));
    let first = number("MILLSTREAM_SEED");
    let runs = number("MILLSTREAM_RUNS").unwrap_or(if first.is_some() { 1 } else { 300 });
    let mut recycled = 0;
    for seed in (first.unwrap_or(1)..).take(runs as usize) {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(segments) => recycled += segments,
            Err(panic) => {
                eprintln!("this was seed {seed}: set MILLSTREAM_SEED={seed} to run it again");
                resume_unwind(panic);
            }
        }
    }
    assert!(runs < 300 || recycled > 0, "no seed met a recycled segment");
}

/// Seed 208268 met a disk that told of one loss only: the failed sync was taken for the news of an
/// earlier one, so that the other open files of the segment were told of nothing.
#[test]
fn the_models_disk_tells_every_open_file_of_each_loss() {
    let disk = Disk::new();
    let path = disk.root().join("segment");
    let fails = |file: &std::fs::File, bytes: &[u8]| {
        file::write_at(file, bytes, 0).unwrap();
        fault::inject(Op::Sync, 0, 5, false);
        file::sync_data(file).expect_err("it is injected");
        fault::clear();
    };
    let told = file::open(&path, true).unwrap();
    fails(&told, b"first");
    let opened_later = file::open(&path, false).unwrap();
    assert!(!disk.owes_error(&told));
    fails(&opened_later, b"second");
    assert!(disk.owes_error(&told), "of the second loss");
}

/// Returns how many segments were recycled.
fn run(seed: u64) -> usize {
    let mut driver = Driver::new(seed);
    for _ in 0..STEPS {
        driver.step();
    }
    driver.reopen_cleanly();
    driver.check_everything();
    driver.recycled
}

fn is_recycled(result: &io::Result<Room>) -> bool {
    let Ok(Room::Opened(opened)) = result else {
        return false;
    };
    let file = &opened.file;
    let size = file.metadata().unwrap().len() as usize;
    spare::is_marked(file, size).unwrap()
}

/// What waits for the worker thread.
enum Job {
    Room(RoomJob),
    Seal(SealJob),
    Checkpoint(CheckpointJob),
    Delete(DeleteJob),
    Swap(SwapJob),
}

/// What the worker thread brought and the log was not told yet.
enum Done {
    Room(io::Result<Room>),
    Seal(io::Result<()>),
    Checkpoint(CheckpointJob, io::Result<()>),
    Swap(SwapJob, Result<Vec<std::fs::File>, SwapError>),
}

struct RunningFlush {
    flush: Flush,
    end: i64,
    unsynced: Vec<Arc<std::fs::File>>,
    result: io::Result<()>,
    turn: Turn,
    /// Its bytes are in the journal; nothing is synced.
    journaled: bool,
}

/// The turn to sync a log's files, while it is held.
#[derive(Default)]
struct Turn(Option<OwnedMutexGuard<()>>);

impl Turn {
    /// False when another one has it.
    fn take(&mut self, log: &Log) -> bool {
        if self.0.is_none() {
            self.0 = log.sync_turn().try_lock_owned().ok();
        }
        self.0.is_some()
    }
}

struct Driver {
    rng: Rng,
    disk: Disk,
    log: Log,
    model: Model,
    now_ms: i64,
    jobs: VecDeque<Job>,
    done: Vec<Done>,
    flush: Option<RunningFlush>,
    journal: Vec<journal::Journaled>,
    write_backs: Vec<journal::RunningWriteBack>,
    /// A swap that failed and was not undone.
    unsettled: Option<compaction::Running>,
    cleaning: Option<compaction::Running>,
    /// Whether this seed makes file operations fail.
    faulty: bool,
    /// Whether in this seed flushes and jobs take long, so that write-backs begin and end beside them.
    is_slow: bool,
    trace: bool,
    /// Segments that were begun in the file of an older one.
    recycled: usize,
}

impl Driver {
    fn new(seed: u64) -> Driver {
        let mut rng = Rng::new(seed);
        let disk = Disk::new();
        let (log, _) = Log::open(disk.log_dir(), TOPIC, config(&mut rng), &mut |_| {})
            .expect("an empty log opens");
        Driver {
            faulty: rng.one_in(4),
            is_slow: rng.one_in(4),
            rng,
            disk,
            log,
            model: Model::default(),
            now_ms: 1_700_000_000_000,
            jobs: VecDeque::new(),
            done: Vec::new(),
            flush: None,
            journal: Vec::new(),
            write_backs: Vec::new(),
            unsettled: None,
            cleaning: None,
            trace: std::env::var_os("MILLSTREAM_TRACE").is_some(),
            recycled: 0,
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{:?} {what}", self.log.offsets());
        }
    }

    fn step(&mut self) {
        let waits = self.is_slow && !self.rng.one_in(4);
        match self.rng.below(100) {
            0..22 => self.append(),
            28..34 | 53..59 if waits => self.write_back(),
            65..70 if waits => self.flush_begin(),
            70..73 if waits => self.reopen_after_power_cut(),
            22..28 => self.compact(),
            28..34 => self.run_job(),
            34..38 => self.write_back(),
            38..47 => self.deliver(),
            47..53 => self.flush_begin(),
            53..59 => self.flush_sync(),
            59..65 => self.flush_end(),
            65..75 => self.read(),
            75..79 => self.look_up_time(),
            79..80 => self.check_max_timestamp(),
            80..82 => self.delete_records(),
            82..86 => self.retention(),
            86..88 => self.close_idle(),
            88..89 => self.seal(),
            89..91 => self.set_config(),
            91..93 => self.grow(),
            93..94 => self.log.want_checkpoint(),
            94..95 => self.reopen_cleanly(),
            95..97 => self.reopen_killed(),
            97..99 => self.reopen_after_power_cut(),
            _ => self.check_everything(),
        }
        self.now_ms += self.rng.below(40) as i64;
        self.check_offsets();
    }

    // ---- writing ----

    fn append(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            self.append_one();
        }
    }

    fn append_one(&mut self) {
        let bytes = self.make_batch();
        let header = BatchHeader::parse(&bytes).unwrap();
        let stamp = self.rng.one_in(8).then_some(self.now_ms);
        let mut attempts = 0;
        loop {
            let before = self.log.offsets().end;
            match self.log.append(&bytes, &header, stamp, self.now_ms) {
                Ok(base) => {
                    assert!(!self.log.is_poisoned());
                    assert_eq!(base, before);
                    self.say(format_args!("append at {base}, {} bytes", bytes.len()));
                    self.model.append(bytes, base, stamp);
                    return;
                }
                Err(AppendError::WriteFailed(_)) => {
                    return assert!(self.faulty && self.log.is_poisoned());
                }
                Err(AppendError::Poisoned) => return assert!(self.log.is_poisoned()),
                Err(AppendError::LargerThanSegment) => {
                    return assert!(bytes.len() > self.log.config().segment_bytes);
                }
                Err(AppendError::AheadOfDisk) => {
                    let Offsets { durable, end, .. } = self.log.offsets();
                    assert!(durable < end, "ahead of the disk with nothing to flush");
                    // The producer waits for the next flush, or gives up.
                    if self.rng.one_in(2) {
                        return;
                    }
                    self.finish_flush();
                    self.flush_all();
                    if self.log.is_poisoned() {
                        return;
                    }
                    continue;
                }
                Err(AppendError::NeedsRoom) => {}
            }
            attempts += 1;
            assert!(attempts < 50 || self.faulty, "no room ever");
            if let Some(job) = self.log.room_job(bytes.len(), &header, self.now_ms) {
                self.jobs.push_back(Job::Room(job));
            }
            // The producer waits; or this batch is given up and another one comes first.
            if attempts > 60 || self.rng.one_in(3) {
                return;
            }
            self.run_jobs();
            self.deliver_all();
        }
    }

    fn make_batch(&mut self) -> Vec<u8> {
        let largest = match self.rng.below(12) {
            0 => 6000,
            1..4 => 1500,
            _ => 200,
        };
        let values: Vec<Vec<u8>> = (0..1 + self.rng.below(5))
            .map(|_| {
                let length = self.rng.below(largest) as usize;
                // Zeros too: they must not be taken for reserved space.
                let fill = if self.rng.one_in(5) {
                    0
                } else {
                    self.rng.below(256) as u8
                };
                vec![fill; length]
            })
            .collect();
        let records: Vec<_> = values
            .into_iter()
            .map(|value| {
                let key = vec![b'k', self.rng.below(12) as u8];
                let value = (!self.rng.one_in(8)).then_some(value);
                ((!self.rng.one_in(20)).then_some(key), value)
            })
            .collect();
        let codec = match self.rng.below(10) {
            0 => Codec::Gzip,
            1 => Codec::Snappy,
            2 => Codec::Lz4,
            3 => Codec::Zstd,
            _ => Codec::None,
        };
        BatchBuilder {
            base_timestamp: self.now_ms - self.rng.below(300) as i64,
            ..BatchBuilder::default()
        }
        .build_keyed(codec, &records)
    }

    fn grow(&mut self) {
        if let Some(job) = self.log.grow_job() {
            self.jobs.push_back(Job::Room(job));
        }
    }

    fn seal(&mut self) {
        let job = self.log.close_active(self.now_ms).unwrap();
        self.jobs.extend(job.map(Job::Seal));
    }

    fn close_idle(&mut self) {
        let idle_ms = self.rng.below(200) as i64;
        let job = self.log.close_idle(self.now_ms, idle_ms).unwrap();
        self.jobs.extend(job.map(Job::Seal));
    }

    fn set_config(&mut self) {
        let config = config(&mut self.rng);
        self.log.set_config(config);
    }

    // ---- jobs ----

    /// The worker runs the oldest job.
    fn run_job(&mut self) {
        let Some(job) = self.jobs.pop_front() else {
            return;
        };
        let may_fail = self.faulty && self.rng.one_in(8);
        if may_fail {
            self.inject(&[
                Op::Open,
                Op::Write,
                Op::Reserve,
                Op::Rename,
                Op::Remove,
                Op::Sync,
            ]);
        }
        self.say(format_args!("run {}", job_name(&job)));
        let done = match job {
            Job::Room(job) => {
                let result = job.run();
                self.recycled += usize::from(is_recycled(&result));
                Some(Done::Room(result))
            }
            Job::Seal(job) => Some(Done::Seal(job.run())),
            Job::Checkpoint(job) => {
                let result = job.run();
                Some(Done::Checkpoint(job, result))
            }
            Job::Swap(job) => {
                let result = job.run();
                Some(Done::Swap(job, result))
            }
            Job::Delete(job) => {
                let result = job.run();
                assert!(self.faulty || result.is_ok());
                None
            }
        };
        fault::clear();
        self.done.extend(done);
    }

    fn inject(&mut self, ops: &[Op]) {
        let op = ops[self.rng.below(ops.len() as u64) as usize];
        let errno = if op == Op::Sync { 5 } else { 28 };
        fault::inject(op, self.rng.below(3) as usize, errno, false);
    }

    fn run_jobs(&mut self) {
        while !self.jobs.is_empty() {
            self.run_job();
        }
    }

    /// The shard hears of one finished job, not always of the oldest first.
    fn deliver(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let at = self.rng.below(self.done.len() as u64) as usize;
        match self.done.remove(at) {
            Done::Room(result) => {
                if let Err(error) = &result {
                    assert!(self.faulty, "{error}");
                }
                if let Ok(seal) = self.log.room_done(result, self.now_ms) {
                    self.jobs.extend(seal.map(Job::Seal));
                }
            }
            Done::Seal(result) => self.log.seal_done(&result),
            Done::Swap(job, result) => self.swap_done(&job, &result),
            Done::Checkpoint(job, result) => {
                self.log.checkpoint_done(&job, &result);
                if result.is_ok() {
                    self.say(format_args!(
                        "checkpoint at {}",
                        job.checkpoint.durable_offset
                    ));
                }
            }
        }
    }

    fn deliver_all(&mut self) {
        while !self.done.is_empty() {
            self.deliver();
        }
    }

    // ---- flush ----

    fn flush_begin(&mut self) {
        if self.rng.one_in(2)
            && let Some(running) = self.journal_begin()
        {
            assert!(self.flush.is_none(), "two flushes at once");
            self.flush = Some(running);
            return;
        }
        let end = self.log.offsets().end;
        let padding = self.rng.below(40) as usize;
        let Some(flush) = self.log.flush_begin(|| snapshot(end, padding)) else {
            return;
        };
        assert!(self.flush.is_none(), "two flushes at once");
        self.flush = Some(RunningFlush {
            end,
            unsynced: flush.files.clone(),
            flush,
            result: Ok(()),
            turn: Turn::default(),
            journaled: false,
        });
    }

    fn flush_sync(&mut self) {
        let fails = self.faulty && self.rng.one_in(40);
        let Some(running) = &mut self.flush else {
            return;
        };
        if !running.unsynced.is_empty() && !running.turn.take(&self.log) {
            return;
        }
        if let Some(file) = running.unsynced.pop() {
            if fails || self.disk.owes_error(&file) {
                fault::inject(Op::Sync, 0, 5, false);
            }
            if let Err(error) = file::sync_data(&file) {
                running.result = Err(error);
            }
            fault::clear();
        }
    }

    fn flush_end(&mut self) {
        if self
            .flush
            .as_ref()
            .is_none_or(|running| !running.unsynced.is_empty())
        {
            return;
        }
        let running = self.flush.take().unwrap();
        let job = match running.journaled {
            true => {
                self.journal_end(running.flush);
                None
            }
            false => self.log.flush_end(running.flush, &running.result),
        };
        assert!(running.result.is_ok() || self.log.is_poisoned());
        if self.log.is_poisoned() {
            // By this flush or before it ended: it may be what the error was about.
            assert!(job.is_none());
            self.say(format_args!("poisoned"));
        } else {
            self.model.durable = running.end;
            self.say(format_args!("flushed to {}", running.end));
        }
        self.jobs.extend(job.map(Job::Checkpoint));
    }

    fn flush_all(&mut self) {
        self.flush_begin();
        self.finish_flush();
    }

    fn finish_flush(&mut self) {
        while self.flush.is_some() {
            self.go_on_with_write_backs();
            self.flush_sync();
            self.flush_end();
        }
    }

    // ---- reading ----

    fn read(&mut self) {
        let Offsets { start, end, .. } = self.log.offsets();
        let offset = start - 2 + self.rng.below((end - start + 5) as u64) as i64;
        let max_bytes = match self.rng.below(4) {
            0 => self.rng.below(300),
            1 => self.rng.below(3000),
            _ => self.rng.below(40_000),
        };
        self.check_read(offset, max_bytes as usize, self.rng.clone().one_in(2));
    }

    /// Returns the offset after the last record that was read.
    fn check_read(&mut self, offset: i64, max_bytes: usize, at_least_one: bool) -> i64 {
        let found = self.read_loading(offset, max_bytes, at_least_one);
        let Offsets {
            start,
            durable,
            end,
        } = self.log.offsets();
        if offset < start || offset > end {
            assert_eq!(
                found.err(),
                Some(ReadError::OutOfRange {
                    asked: offset,
                    start,
                    end
                })
            );
            return offset;
        }
        let found = found.unwrap_or_else(|error| panic!("read at {offset}: {error}"));
        if offset >= durable {
            assert!(found.is_none(), "read at {offset}, durable is {durable}");
            return offset;
        }
        let mut bounds = self.disk.segment_bases();
        bounds.extend(self.bases_in_swap());
        self.model
            .check_read(offset, max_bytes, at_least_one, found.as_deref(), &bounds)
    }

    fn read_loading(
        &mut self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<bytes::Bytes>, ReadError> {
        let mut resident = self.rng.one_in(2);
        loop {
            match self
                .log
                .read(offset, max_bytes, at_least_one, resident, self.now_ms)?
            {
                Read::Data { records, .. } => return Ok(Some(records)),
                Read::Empty => return Ok(None),
                Read::Load(job) => resident |= self.load(job),
            }
        }
    }

    /// Runs a load behind all jobs that wait. True when it brought pages.
    fn load(&mut self, job: LoadJob) -> bool {
        self.run_jobs();
        let loaded = job.run().unwrap();
        if self.rng.one_in(2) {
            self.deliver_all();
        }
        let pages = matches!(loaded, Loaded::Pages);
        self.log.load_done(loaded, self.now_ms);
        pages
    }

    fn look_up_time(&mut self) {
        let timestamp = self.now_ms - self.rng.below(2500) as i64;
        let Offsets { start, end, .. } = self.log.offsets();
        let from = start + self.rng.below((end - start + 1) as u64) as i64;
        let found = loop {
            match self.log.batch_at_time(timestamp, from, self.now_ms) {
                TimeLookup::Batch(bytes) => break Some(bytes),
                TimeLookup::NotFound => break None,
                TimeLookup::Load(job) => self.load(job),
            };
        };
        let start = self.log.offsets().start;
        self.model
            .check_time(timestamp, from.max(start), found.as_deref());
    }

    fn check_max_timestamp(&mut self) {
        let found = loop {
            match self.log.max_timestamp() {
                Ok(found) => break found,
                Err(job) => self.load(job),
            };
        };
        let start = self.log.offsets().start;
        assert!(found >= self.model.max_timestamp_from(start));
        assert!(found <= self.model.max_timestamp_from(0));
    }

    // ---- retention ----

    fn delete_records(&mut self) {
        let Offsets { start, durable, .. } = self.log.offsets();
        let offset = start + self.rng.below((durable - start + 3) as u64) as i64;
        match self.log.delete_records(offset) {
            Ok(now) => assert_eq!(now, offset.max(start)),
            Err(_) => assert!(offset > durable),
        }
        self.model.start = self.log.offsets().start;
    }

    fn retention(&mut self) {
        let size = self.log.size_bytes();
        match self.log.retention(self.now_ms) {
            Retention::Nothing => {}
            Retention::Load(job) => {
                self.load(job);
            }
            Retention::Roll(job) => self.jobs.push_back(Job::Room(job)),
            Retention::Delete(job) => {
                let (config, bases) = (self.log.config(), self.disk.segment_bases());
                self.model
                    .check_deletion(&job.bases, config, &bases, size, self.now_ms);
                self.jobs.push_back(Job::Delete(job));
            }
        }
        self.model.start = self.log.offsets().start;
    }

    // ---- reopening ----

    fn reopen_cleanly(&mut self) {
        self.deliver_all();
        let faulty = std::mem::take(&mut self.faulty);
        let mut is_clean = !self.log.is_poisoned();
        for _ in 0..6 {
            self.run_jobs();
            self.deliver_all();
            self.flush_all();
            self.finish_write_backs();
        }
        self.seal();
        self.log.want_checkpoint();
        for _ in 0..3 {
            self.run_jobs();
            self.deliver_all();
            self.flush_all();
            self.finish_write_backs();
        }
        is_clean &= !self.log.is_poisoned();
        if is_clean {
            let Offsets { durable, end, .. } = self.log.offsets();
            assert_eq!(durable, end);
            assert!(!self.log.needs_flush(), "a flush is still wanted");
        }
        self.say(format_args!("reopen cleanly"));
        let end_min = self.end_without_cut();
        let scanned = self.reopen(end_min);
        assert!(!is_clean || scanned == 0, "{scanned} bytes read again");
        self.faulty = faulty;
    }

    fn reopen_killed(&mut self) {
        self.say(format_args!("kill"));
        if self.rng.one_in(12) {
            self.disk.lose_checkpoint(&mut self.rng);
            self.model.durable_start = 0;
        }
        let end_min = self.end_without_cut();
        self.reopen(end_min);
    }

    /// Where the log must end at least for the next process, as long as the power stays on. What a
    /// failed sync was to write may be gone.
    fn end_without_cut(&self) -> i64 {
        if self.disk.has_failed() {
            self.model.durable
        } else {
            self.model.end()
        }
    }

    fn reopen_after_power_cut(&mut self) {
        self.say(format_args!("power cut"));
        self.disk.cut_power(&mut self.rng);
        self.reopen(self.model.durable);
    }

    /// Opens the log from what is on disk; it must reach `end_min` at least. Returns the bytes that
    /// were read again.
    fn reopen(&mut self, end_min: i64) -> u64 {
        self.jobs.clear();
        self.done.clear();
        self.flush = None;
        self.disk.close_files();
        self.restore_journal();
        let cleaning = self.cleaning.take();
        let mut replayed: Vec<(i64, i64)> = Vec::new();
        let mut first = None;
        let mut replay = |what: Replay<'_>| match what {
            Replay::Snapshot(bytes) => {
                assert!(
                    first.is_none() && replayed.is_empty(),
                    "the snapshot comes first, once"
                );
                first = Some(snapshot_end(bytes));
            }
            Replay::Batch(header) => replayed.push((header.base_offset, header.next_offset())),
        };
        let config = self.log.config().clone();
        let opened = Log::open(self.disk.log_dir(), TOPIC, config, &mut replay);
        let (log, recovered) = opened.unwrap_or_else(|error| panic!("open: {error}"));
        if recovered.has_dir {
            file::sync_dir(&self.disk.log_dir()).unwrap();
        }
        assert!(!recovered.foreign);
        self.log = log;
        for running in [self.unsettled.take(), cleaning].into_iter().flatten() {
            self.settle_swap(running);
        }
        let Offsets {
            start,
            durable,
            end,
        } = self.log.offsets();
        self.say(format_args!(
            "opened, {} bytes read",
            recovered.scanned_bytes
        ));
        assert_eq!(durable, end, "what a start accepts is durable");
        assert!(
            end >= end_min,
            "the log ends at {end}; {end_min} was durable"
        );
        self.model.truncate(end);
        self.model.durable = end;
        assert!(
            start <= self.model.start,
            "start {start}, it was {}",
            self.model.start
        );
        assert!(
            start >= self.model.durable_start,
            "start {start}: deleted records are back"
        );
        self.model.start = start;
        self.model.durable_start = self.log.durable_start();
        self.check_replay(first, &replayed, end);
        self.check_everything();
        recovered.scanned_bytes
    }

    /// Snapshot and batches together tell of every record once.
    fn check_replay(&self, first: Option<Option<i64>>, replayed: &[(i64, i64)], end: i64) {
        let mut at = match first {
            // An empty snapshot knows of nothing, so all that is readable must come.
            None | Some(None) => {
                let first = replayed.first().map_or(end, |(base, _)| *base);
                assert!(
                    self.model.has_gaps || first <= self.log.offsets().start,
                    "records were not replayed"
                );
                first
            }
            Some(Some(offset)) => offset,
        };
        for (base, next) in replayed {
            assert!(
                *base == at || (self.model.has_gaps && *base > at),
                "replay has a gap"
            );
            at = *next;
        }
        assert_eq!(at, end, "replay ends early");
    }

    // ---- checks ----

    fn check_offsets(&mut self) {
        let Offsets {
            start,
            durable,
            end,
        } = self.log.offsets();
        assert!(start <= durable && durable <= end);
        assert_eq!(start, self.model.start);
        assert_eq!(durable, self.model.durable);
        assert_eq!(end, self.model.end());
        let durable_start = self.log.durable_start();
        assert!(durable_start >= self.model.durable_start && durable_start <= start);
        self.model.durable_start = durable_start;
    }

    /// Reads all that is durable from the start.
    fn check_everything(&mut self) {
        let Offsets { start, durable, .. } = self.log.offsets();
        let mut at = start;
        while at < durable {
            at = self.check_read(at, 20_000, true);
        }
        self.look_up_time();
    }
}

fn config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: 1000 + rng.below(20_000) as usize,
        segment_ms: if rng.one_in(3) { 300 } else { i64::MAX },
        index_interval_bytes: rng.below(2000) as usize,
        retention_ms: if rng.one_in(3) {
            rng.below(2000) as i64
        } else {
            -1
        },
        retention_bytes: if rng.one_in(3) {
            rng.below(40_000) as i64
        } else {
            -1
        },
        compaction: rng.one_in(2).then(|| compaction::config(rng)),
        reserve_step_bytes_max: 1 << rng.below(18),
        checkpoint_bytes: rng.below(30_000),
        not_durable_bytes_max: 1 + rng.below(40_000),
    }
}

fn snapshot(end: i64, padding: usize) -> Vec<u8> {
    let mut bytes = end.to_be_bytes().to_vec();
    bytes.resize(8 + padding, 0xaa);
    bytes
}

fn snapshot_end(bytes: &[u8]) -> Option<i64> {
    let (end, _) = bytes.split_first_chunk::<8>()?;
    Some(i64::from_be_bytes(*end))
}

fn job_name(job: &Job) -> String {
    match job {
        Job::Room(RoomJob::Grow { bytes, .. }) => format!("grow to {bytes}"),
        Job::Room(RoomJob::Create { segment, .. }) => format!("create {}", segment.base),
        Job::Room(RoomJob::Reopen { segment, size, .. }) => {
            format!("reopen {} at {size}", segment.base)
        }
        Job::Seal(job) => format!("seal {} at {}", job.base, job.size),
        Job::Checkpoint(job) => format!("checkpoint at {}", job.checkpoint.durable_offset),
        Job::Delete(job) => format!("delete {:?}", job.bases),
        Job::Swap(job) => format!("swap {:?}", job.manifest.old_bases),
    }
}
