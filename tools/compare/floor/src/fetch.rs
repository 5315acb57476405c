//! Fetch: a head of a few dozen bytes for each partition, and slices of its file.

use std::time::{Duration, Instant};

use bytes::BufMut;

use crate::connection::Connection;
use crate::log::{Slice, Topics};
use crate::wire::{self, Fetch, FetchPartition};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// A fetch that waits for something to read.
pub struct Parked {
    pub place: usize,
    pub serial: u64,
    pub fetch: Fetch,
    pub deadline: Instant,
}

impl Parked {
    pub fn new(place: usize, serial: u64, fetch: Fetch) -> Parked {
        let wait = Duration::from_millis(fetch.max_wait_ms.max(0) as u64);
        Parked {
            place,
            serial,
            fetch,
            deadline: Instant::now() + wait,
        }
    }
}

struct Found {
    index: i32,
    error: i16,
    high_watermark: i64,
    start: i64,
    slices: Vec<Slice>,
}

/// Answers, unless there is too little to read and `at_once` is false. Returns whether it did.
pub fn answer(fetch: &Fetch, topics: &Topics, connection: &mut Connection, at_once: bool) -> bool {
    let mut bytes = 0;
    let mut failed = false;
    let mut found = Vec::with_capacity(fetch.topics.len());
    for topic in &fetch.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let left = fetch.bytes_max.saturating_sub(bytes);
            let one = find(topics, &topic.name, asked, left);
            bytes += one.bytes();
            failed |= one.error != 0;
            partitions.push(one);
        }
        found.push((topic.name.as_str(), partitions));
    }
    let is_answer = at_once || failed || bytes >= fetch.min_bytes;
    if is_answer {
        put(fetch.correlation_id, found, connection);
    }
    is_answer
}

fn find(topics: &Topics, topic: &str, asked: &FetchPartition, bytes_max: usize) -> Found {
    let mut found = Found {
        index: asked.index,
        error: 0,
        high_watermark: -1,
        start: -1,
        slices: Vec::new(),
    };
    let Some(partition) = topics.partition(topic, asked.index) else {
        found.error = UNKNOWN_TOPIC_OR_PARTITION;
        return found;
    };
    let partition = partition.borrow();
    (found.high_watermark, found.start) = (partition.high_watermark, partition.start());
    if bytes_max > 0 {
        match partition.read(asked.offset, asked.bytes_max.min(bytes_max)) {
            Some(slices) => found.slices = slices,
            None => found.error = OFFSET_OUT_OF_RANGE,
        }
    }
    found
}

impl Found {
    fn bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.bytes).sum()
    }
}

fn put(correlation_id: i32, found: Vec<(&str, Vec<Found>)>, connection: &mut Connection) {
    let bytes = reply_bytes(&found);
    let out = connection.out();
    out.put_i32(bytes as i32);
    out.put_i32(correlation_id);
    out.put_i32(0); // throttle_time_ms
    out.put_i16(0); // error_code
    out.put_i32(0); // session_id
    out.put_i32(found.len() as i32);
    for (topic, partitions) in found {
        let out = connection.out();
        wire::put_string(out, topic);
        out.put_i32(partitions.len() as i32);
        for found in partitions {
            let bytes = found.bytes();
            let out = connection.out();
            wire::put_fetched(
                out,
                found.index,
                found.error,
                found.high_watermark,
                found.start,
                bytes,
            );
            found
                .slices
                .into_iter()
                .for_each(|slice| connection.out_file(slice));
        }
    }
}

fn reply_bytes(found: &[(&str, Vec<Found>)]) -> usize {
    let partition = |found: &Found| 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4 + found.bytes();
    let topic = |(name, partitions): &(&str, Vec<Found>)| {
        2 + name.len() + 4 + partitions.iter().map(partition).sum::<usize>()
    };
    4 + 4 + 2 + 4 + 4 + found.iter().map(topic).sum::<usize>()
}
