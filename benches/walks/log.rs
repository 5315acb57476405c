//! One partition's log, with every job run in place.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use millstream::log::batch::{self, BatchHeader, build::BatchBuilder};
use millstream::log::index::{Entry, Index};
use millstream::log::{AppendError, Log, LogConfig, Read};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

pub const RECORD_BYTES: usize = 100;
pub const NOW_MS: i64 = 1_700_000_000_000;
/// A log that is appended to is begun anew at this size.
pub const LOG_BYTES_MAX: u64 = 256 << 20;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 64 << 20,
    segment_ms: i64::MAX,
    index_interval_bytes: 4096,
    retention_ms: -1,
    retention_bytes: -1,
    compaction: None,
    reserve_step_bytes_max: 64 << 20,
    checkpoint_bytes: u64::MAX,
    not_durable_bytes_max: 64 << 20,
};

/// A batch of about `bytes` bytes in records of [`RECORD_BYTES`], and how many they are.
pub fn batch_of(bytes: usize) -> (Vec<u8>, usize) {
    let records = (bytes / RECORD_BYTES).max(1);
    let batch = BatchBuilder::default().build(&vec![[b'v'; RECORD_BYTES]; records]);
    (batch, records)
}

/// A log in a directory of its own.
pub struct OpenLog {
    pub log: Log,
    /// Lives as long as the log.
    _dir: TempDir,
}

impl OpenLog {
    pub fn new() -> OpenLog {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("topic-0");
        let (log, _) = Log::open(place, Uuid::from_u128(7), CONFIG, &mut |_| {}).expect("a log");
        OpenLog { log, _dir: dir }
    }

    /// Checks and appends, as the broker does with what a producer sent.
    pub fn append(&mut self, batch: &[u8]) {
        let header = batch::check_produced(batch, usize::MAX).expect("a sound batch");
        self.append_checked(batch, &header);
    }

    pub fn append_checked(&mut self, batch: &[u8], header: &BatchHeader) {
        while let Err(error) = self.log.append(batch, header, None, NOW_MS) {
            assert_eq!(error, AppendError::NeedsRoom);
            self.make_room(batch.len(), header);
        }
    }

    fn make_room(&mut self, bytes: usize, header: &BatchHeader) {
        let job = self
            .log
            .room_job(bytes, header, NOW_MS)
            .expect("no job runs");
        let seal = self
            .log
            .room_done(job.run(), NOW_MS)
            .expect("there is space");
        if let Some(seal) = seal {
            self.log.seal_done(&seal.run());
        }
    }

    pub fn flush(&mut self) {
        let flush = self.log.flush_begin(Vec::new).expect("something to flush");
        for file in &flush.files {
            file.sync_data().expect("the disk works");
        }
        self.log.flush_end(flush, &Ok(()));
    }

    pub fn read(&mut self, offset: i64, max_bytes: usize) -> Bytes {
        loop {
            match self.log.read(offset, max_bytes, true, true, NOW_MS) {
                Ok(Read::Data { records, .. }) => return records,
                Ok(Read::Load(job)) => {
                    drop(self.log.load_done(job.run().expect("a segment"), NOW_MS))
                }
                Ok(Read::Empty) | Err(_) => panic!("offset {offset} is not there"),
            }
        }
    }
}

/// Check (CRC), offset, copy into the mapping, index; with the jobs that make room, without flushes.
pub fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for bytes in [1 << 10, 16 << 10, 256 << 10] {
        let (batch, records) = batch_of(bytes);
        group.throughput(both(records, batch.len()));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter_custom(|count| append_many(&batch, count));
        });
    }
    group.finish();
}

fn append_many(batch: &[u8], count: u64) -> Duration {
    let mut open = OpenLog::new();
    let mut took = Duration::ZERO;
    for _ in 0..count {
        if open.log.size_bytes() > LOG_BYTES_MAX {
            open = OpenLog::new();
        }
        let start = Instant::now();
        open.append(batch);
        took += start.elapsed();
    }
    took
}

pub fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc");
    for bytes in [1 << 10, 16 << 10, 1 << 20] {
        let (batch, _) = batch_of(bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| batch::crc_matches(black_box(&batch)));
        });
    }
    group.finish();
}

/// In the index of a full segment of a gigabyte.
pub fn index_lookup(c: &mut Criterion) {
    let mut index = Index::default();
    for entry in 0..(1 << 30) / 4096u32 {
        index.push(Entry {
            relative_offset: entry * 40,
            position: entry * 4096,
            max_timestamp_before: i64::from(entry),
        });
    }
    let mut spread = Spread(1);
    let offsets = index.len() as u64 * 40;
    c.bench_function("index lookup", |b| {
        b.iter(|| index.position_of_offset(black_box(spread.below(offsets) as u32)));
    });
}

/// From an offset to the bytes to send: index, walk, slice. Nothing is copied, so the bytes a second
/// say how much one core could hand to the sockets.
pub fn read_slices(c: &mut Criterion) {
    let (batch, records) = batch_of(16 << 10);
    let mut open = OpenLog::new();
    while open.log.size_bytes() < LOG_BYTES_MAX {
        open.append(&batch);
    }
    open.flush();
    let mut group = c.benchmark_group("read");
    let mut spread = Spread(1);
    for max_bytes in [16 << 10, 1 << 20] {
        // Away from the end, where less is left to read.
        let last = open.log.offsets().durable as u64 - (2 * max_bytes / RECORD_BYTES) as u64;
        let bytes = max_bytes / batch.len().min(max_bytes) * batch.len();
        group.throughput(both(bytes / batch.len() * records, bytes));
        group.bench_function(BenchmarkId::from_parameter(max_bytes), |b| {
            b.iter_batched(
                || spread.below(last) as i64,
                |offset| open.read(offset, max_bytes),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

pub fn both(records: usize, bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: records as u64,
        bytes: bytes as u64,
    }
}

/// Numbers that are all over the place, the same ones in every run (a Weyl sequence).
struct Spread(u64);

impl Spread {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }
}
