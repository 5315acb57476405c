//! Each step of the two walks by itself, on batches of two sizes. Criterion times them, and
//! `tools/instructions` counts what they take; the size of a batch decides what matters there.

use crate::codec::{fetch_frame, fetch_response, produce_frame_with};
use crate::log::{LOG_BYTES_MAX, NOW_MS, OpenLog};
use crate::shard::{Shard, TOPIC, commit};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use millstream::engine::EngineError;
use millstream::engine::partition::{AckWhen, Append, Appended};
use millstream::kafka::data::{fetch, produce};
use millstream::kafka::dispatch::RequestHeader;
use millstream::log::batch::{self, BatchHeader, build::BatchBuilder};
use millstream::log::recovery;
use millstream::wire::Wire;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, error::TryRecvError};
use uuid::Uuid;

/// Records of a batch, of [`RECORD_BYTES`] each.
pub const SIZES: [usize; 2] = [1, 250];
const RECORD_BYTES: usize = 1024;
/// Answered when it is appended: nobody waits for a commit.
const ACKS_LEADER: i16 = 1;
/// What a fetch may find more than it takes.
const BATCHES_READABLE: u64 = 8;
/// Batches of the segment that is recovered.
const BATCHES_RECOVERED: u64 = 16;

/// Does a step so many times.
type Run = Box<dyn FnMut(u64)>;

/// A step of a walk.
pub struct Step {
    pub name: &'static str,
    /// Appends what it is given: is begun anew when there is too much.
    writes: bool,
    prepare: fn(Bytes) -> Run,
}

/// In the order of the walks.
pub const STEPS: &[Step] = &[
    step("produce: decode", false, decode_produce),
    step("produce: CRC", false, crc),
    step("produce: check", false, check),
    step("produce: log append", true, log_append),
    step("produce: partition append", true, partition_append),
    step("produce: append and commit", true, append_and_commit),
    step("produce: frame to reply", true, dispatch_produce),
    step("fetch: decode", false, decode_fetch),
    step("fetch: log read", false, log_read),
    step("fetch: partition read", false, partition_read),
    step("fetch: encode", false, encode_fetch),
    step("fetch: frame to reply", false, dispatch_fetch),
    step("start: recovery", false, recover),
];

const fn step(name: &'static str, writes: bool, prepare: fn(Bytes) -> Run) -> Step {
    Step {
        name,
        writes,
        prepare,
    }
}

/// Does one step so many times, and nothing else: for counting instructions.
pub fn run(name: &str, records: usize, times: u64) {
    let step = STEPS.iter().find(|step| step.name == name);
    let step = step.unwrap_or_else(|| panic!("there is no step {name:?}"));
    (step.prepare)(batch_of(records))(times);
}

/// Those that no other bench times.
pub fn time(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    let others = [
        "produce: CRC",
        "produce: log append",
        "produce: decode",
        "fetch: encode",
        "fetch: log read",
    ];
    for step in STEPS.iter().filter(|step| !others.contains(&step.name)) {
        for records in SIZES {
            let batch = batch_of(records);
            group.throughput(Throughput::Bytes(batch.len() as u64));
            group.bench_function(BenchmarkId::new(step.name, batch.len()), |b| {
                b.iter_custom(|times| step.time(&batch, times));
            });
        }
    }
    group.finish();
}

impl Step {
    fn time(&self, batch: &Bytes, times: u64) -> Duration {
        let most = match self.writes {
            true => LOG_BYTES_MAX / batch.len() as u64,
            false => u64::MAX,
        };
        let (mut left, mut took) = (times, Duration::ZERO);
        while left > 0 {
            let mut run = (self.prepare)(batch.clone());
            let now = left.min(most);
            let start = Instant::now();
            run(now);
            took += start.elapsed();
            left -= now;
        }
        took
    }
}

fn batch_of(records: usize) -> Bytes {
    let values = vec![[b'v'; RECORD_BYTES]; records];
    BatchBuilder::default().build(&values).into()
}

fn decode_produce(batch: Bytes) -> Run {
    let frame = produce_frame_with(TOPIC, 1, &batch, ACKS_LEADER);
    each(move || {
        let (header, mut reader) = RequestHeader::decode(&frame).expect("a header");
        let request = produce::Request::decode(&mut reader, header.api_version);
        drop(black_box(request.expect("a request")));
    })
}

fn crc(batch: Bytes) -> Run {
    each(move || assert!(batch::crc_matches(black_box(&batch))))
}

fn check(batch: Bytes) -> Run {
    each(move || {
        let header = batch::check_produced(black_box(&batch), usize::MAX);
        black_box(header.expect("a sound batch"));
    })
}

fn log_append(batch: Bytes) -> Run {
    let header = BatchHeader::parse(&batch).expect("a header");
    let mut open = OpenLog::new();
    each(move || open.append_checked(&batch, &header))
}

fn partition_append(batch: Bytes) -> Run {
    let shard = Shard::new();
    Box::new(move |times| {
        shard.wait(async {
            for _ in 0..times {
                let answered = append(&shard, &batch, AckWhen::Appended);
                answered.await.expect("an answer").expect("it is appended");
                shard.appended(batch.len());
            }
        });
    })
}

fn append_and_commit(batch: Bytes) -> Run {
    let shard = Shard::new();
    Box::new(move |times| {
        let partition = shard.partition();
        shard.wait(async {
            for _ in 0..times {
                let mut answered = append(&shard, &batch, AckWhen::Durable);
                commit(&partition);
                while let Err(TryRecvError::Empty) = answered.try_recv() {
                    // It waits for room.
                    tokio::task::yield_now().await;
                    commit(&partition);
                }
            }
        });
    })
}

fn append(
    shard: &Shard,
    batch: &Bytes,
    ack: AckWhen,
) -> oneshot::Receiver<Result<Appended, EngineError>> {
    let header = BatchHeader::parse(batch).expect("a header");
    let (reply, answered) = oneshot::channel();
    let append = Append {
        batch: batch.clone(),
        header,
        ack,
        reply,
        marks: None,
    };
    let partition = shard.partition();
    let due = partition.borrow_mut().append(append, NOW_MS);
    shard.engine().mark_due(&partition, due);
    answered
}

fn dispatch_produce(batch: Bytes) -> Run {
    let shard = Shard::new();
    let frame = produce_frame_with(TOPIC, 1, &batch, ACKS_LEADER);
    Box::new(move |times| {
        black_box(shard.call(&frame, times));
    })
}

fn decode_fetch(batch: Bytes) -> Run {
    let frame = fetch_frame(TOPIC, 0, batch.len() as i32);
    each(move || {
        let (header, mut reader) = RequestHeader::decode(&frame).expect("a header");
        let request = fetch::Request::decode(&mut reader, header.api_version);
        drop(black_box(request.expect("a request")));
    })
}

fn log_read(batch: Bytes) -> Run {
    let mut open = OpenLog::new();
    for _ in 0..BATCHES_READABLE {
        open.append(&batch);
    }
    open.flush();
    each(move || assert_eq!(open.read(0, batch.len()).len(), batch.len()))
}

fn partition_read(batch: Bytes) -> Run {
    let partition = readable(&batch).partition();
    each(move || {
        let read = partition
            .borrow_mut()
            .log
            .read(0, batch.len(), true, true, NOW_MS);
        drop(black_box(read.expect("records")));
    })
}

fn encode_fetch(batch: Bytes) -> Run {
    let frame = fetch_frame(TOPIC, 0, batch.len() as i32);
    let response = fetch_response(1, &batch);
    each(move || {
        let (header, _) = RequestHeader::decode(&frame).expect("a header");
        let api = header.api().expect("an API");
        let mut writer = api.reply(header.api_version, header.correlation_id);
        response.encode(&mut writer, header.api_version);
        drop(black_box(writer.finish()));
    })
}

fn dispatch_fetch(batch: Bytes) -> Run {
    let shard = readable(&batch);
    let frame = fetch_frame(TOPIC, 0, batch.len() as i32);
    Box::new(move |times| assert!(shard.call(&frame, times) > batch.len()))
}

fn readable(batch: &Bytes) -> Shard {
    let shard = Shard::new();
    let frame = produce_frame_with(TOPIC, 1, batch, ACKS_LEADER);
    shard.call(&frame, BATCHES_READABLE);
    shard.commit();
    shard
}

/// A batch each time, as part of a whole segment.
fn recover(batch: Bytes) -> Run {
    let mut open = OpenLog::new();
    for _ in 0..BATCHES_RECOVERED {
        open.append(&batch);
    }
    Box::new(move |times| {
        // All of it, its directory too.
        let open = &open;
        for _ in 0..times.div_ceil(BATCHES_RECOVERED) {
            let found = recovery::recover(open.log.dir(), Uuid::from_u128(7), &mut |_| {});
            assert_eq!(
                found.expect("a log").scanned_bytes,
                BATCHES_RECOVERED * batch.len() as u64
            );
        }
    })
}

fn each(mut once: impl FnMut() + 'static) -> Run {
    Box::new(move |times| (0..times).for_each(|_| once()))
}
