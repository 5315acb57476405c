//! Message ids: small records, each with an id that was never there before, from a frame to its reply.

use crate::codec::produce_frame_with;
use crate::shard::{Shard, TOPIC};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use millstream::log::batch::Codec;
use millstream::log::batch::build::{BatchBuilder, Header, RecordRef};
use std::cell::Cell;
use std::time::{Duration, Instant};

const RECORD_BYTES: usize = 100;
/// Records of a frame.
const RECORDS: u64 = 5_000;
/// Frames that are made, and then timed.
const FRAMES: u64 = 20;
/// Answered when it is appended: nobody waits for a commit.
const ACKS_LEADER: i16 = 1;

/// With a window of an hour, and without one.
pub fn ids(c: &mut Criterion) {
    let mut group = c.benchmark_group("ids");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, window_ms) in [("no window", "0"), ("window of an hour", "3600000")] {
        let shard = Shard::with(&[("dedup.window.ms", window_ms)]);
        let next_id = Cell::new(0);
        group.bench_function(BenchmarkId::new(name, RECORDS), |b| {
            b.iter_custom(|times| {
                let (mut left, mut took) = (times, Duration::ZERO);
                while left > 0 {
                    let count = left.min(FRAMES);
                    let frames: Vec<Bytes> = (0..count).map(|_| frame(&next_id)).collect();
                    let start = Instant::now();
                    for frame in &frames {
                        shard.call(frame, 1);
                    }
                    took += start.elapsed();
                    left -= count;
                }
                took
            });
        });
        let end = shard.partition().borrow().offsets().end;
        assert_eq!(end, next_id.get() as i64, "each was stored");
    }
    group.finish();
}

fn frame(next_id: &Cell<u64>) -> Bytes {
    let first = next_id.replace(next_id.get() + RECORDS);
    let ids: Vec<[u8; 16]> = (first..first + RECORDS).map(id).collect();
    let headers = ids
        .iter()
        .map(|id| -> [Header<'_>; 1] { [(b"idempotency-key", Some(id))] });
    let headers: Vec<[Header<'_>; 1]> = headers.collect();
    let records = headers.iter().map(|headers| RecordRef {
        timestamp_ms: BatchBuilder::default().base_timestamp,
        key: None,
        value: Some(&[b'v'; RECORD_BYTES]),
        headers,
    });
    let records: Vec<RecordRef<'_>> = records.collect();
    let batch = BatchBuilder::default().encode(Codec::None, &records);
    produce_frame_with(TOPIC, 1, &batch.expect("a batch").into(), ACKS_LEADER)
}

/// As text, which ids are.
fn id(number: u64) -> [u8; 16] {
    let text = format!("{number:016x}");
    text.as_bytes().try_into().expect("sixteen digits")
}
