//! A file of record batches that are all alike.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::BufMut;

use crate::log::Fixed;
use crate::segment::{Copy, Segment};
use crate::wire::{BATCH_CRC_FROM, BATCH_HEADER_BYTES};

/// As `millstream perf produce` makes them.
const BATCH_BYTES_MAX: usize = 256 << 10;
const VALUE_BYTES: usize = 1024;
/// Batches that are written in one call.
const TOGETHER: i64 = 16;

impl Fixed {
    /// Makes a file of at most `bytes` bytes; all of it is in memory, and on the disk, afterwards.
    pub fn create(dir: &Path, bytes: u64) -> anyhow::Result<Fixed> {
        let (batch, records) = batch();
        let batches = (bytes / batch.len() as u64) as i64;
        if batches == 0 {
            bail!("--bytes {bytes} is less than a batch of {}", batch.len());
        }
        let path = dir.join("millstream-floor-send.log");
        let segment = Segment::create(path, batches as u64 * batch.len() as u64, Copy::Pwrite)?;
        let fixed = Fixed {
            segment: Arc::new(segment),
            batch_bytes: batch.len(),
            batch_records: records,
            batches,
        };
        fixed
            .fill(&batch)
            .with_context(|| format!("cannot write {bytes} bytes"))?;
        Ok(fixed)
    }

    fn fill(&self, batch: &[u8]) -> std::io::Result<()> {
        let mut together = Vec::with_capacity(TOGETHER as usize * batch.len());
        for first in (0..self.batches).step_by(TOGETHER as usize) {
            together.clear();
            for number in first..self.batches.min(first + TOGETHER) {
                together.put_i64(number * self.batch_records);
                together.put_slice(&batch[8..]);
            }
            self.segment
                .write(&together, first as u64 * batch.len() as u64, Copy::Pwrite)?;
        }
        self.segment.file.sync_all()?;
        self.segment.populate()
    }
}

/// A batch with base offset 0, and how many records it has.
pub fn batch() -> (Vec<u8>, i64) {
    let mut records = Vec::with_capacity(BATCH_BYTES_MAX);
    let mut count = 0;
    loop {
        let record = record(count);
        if BATCH_HEADER_BYTES + records.len() + record.len() > BATCH_BYTES_MAX {
            break;
        }
        records.extend_from_slice(&record);
        count += 1;
    }
    (with_header(&records, count), count)
}

fn with_header(records: &[u8], count: i64) -> Vec<u8> {
    let mut checked = Vec::with_capacity(BATCH_BYTES_MAX);
    checked.put_i16(0); // attributes
    checked.put_i32(count as i32 - 1); // last offset delta
    checked.put_i64(0); // base timestamp
    checked.put_i64(0); // max timestamp
    checked.put_i64(-1); // producer id
    checked.put_i16(-1); // producer epoch
    checked.put_i32(-1); // base sequence
    checked.put_i32(count as i32);
    checked.put_slice(records);
    let mut batch = Vec::with_capacity(BATCH_CRC_FROM + checked.len());
    batch.put_i64(0); // base offset
    batch.put_i32((BATCH_CRC_FROM - 12 + checked.len()) as i32);
    batch.put_i32(0); // leader epoch
    batch.put_i8(2); // magic
    batch.put_u32(crc_fast::crc32_iscsi(&checked));
    batch.put_slice(&checked);
    batch
}

fn record(number: i64) -> Vec<u8> {
    let mut body = vec![0]; // attributes
    put_varint(&mut body, 0); // timestamp delta
    put_varint(&mut body, number); // offset delta
    put_varint(&mut body, -1); // no key
    put_varint(&mut body, VALUE_BYTES as i64);
    body.extend((0..VALUE_BYTES as i64).map(|at| b'a' + ((at * 7 + number) % 26) as u8));
    put_varint(&mut body, 0); // headers
    let mut record = Vec::with_capacity(body.len() + 2);
    put_varint(&mut record, body.len() as i64);
    record.put_slice(&body);
    record
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}
