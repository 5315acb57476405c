//! Bytes of the protocol that are read and written by hand: Produce 7 and Fetch 11.

use anyhow::bail;
use bytes::{Buf, BufMut};

pub const PRODUCE: i16 = 0;
pub const PRODUCE_VERSION: i16 = 7;
pub const FETCH: i16 = 1;
pub const FETCH_VERSION: i16 = 11;

/// Bytes of a record batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
pub const BATCH_CRC_FROM: usize = 21;
/// Bytes of a batch's base offset and length, which the length does not count.
const BATCH_LENGTH_END: usize = 12;
/// More than all that stands before the batch in a Produce request.
pub const HEAD_BYTES_MAX: usize = 4096;

/// The first bytes of every request.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The whole frame, with its size.
    pub bytes: usize,
    pub api_key: i16,
    pub version: i16,
}

impl Start {
    pub const BYTES: usize = 8;

    pub fn read(mut frame: &[u8]) -> Start {
        Start {
            bytes: 4 + frame.get_i32().max(0) as usize,
            api_key: frame.get_i16(),
            version: frame.get_i16(),
        }
    }
}

/// A Produce request up to the records of its only batch.
#[derive(Debug)]
pub struct ProduceHead<'a> {
    pub correlation_id: i32,
    pub acks: i16,
    pub topic: &'a str,
    pub partition: i32,
    /// Where the batch begins in the frame.
    pub batch_at: usize,
    pub batch_bytes: usize,
    pub crc: u32,
    pub records: i64,
}

impl<'a> ProduceHead<'a> {
    /// None if more bytes are needed.
    pub fn read(frame: &'a [u8]) -> anyhow::Result<Option<ProduceHead<'a>>> {
        match ProduceHead::read_all(frame) {
            None if frame.len() >= HEAD_BYTES_MAX => bail!("a produce request's head is too long"),
            None => Ok(None),
            Some(head) => head.check(frame).map(Some),
        }
    }

    fn read_all(frame: &'a [u8]) -> Option<ProduceHead<'a>> {
        let mut rest = &frame[Start::BYTES..];
        let correlation_id = rest.try_get_i32().ok()?;
        string(&mut rest)?; // client_id
        string(&mut rest)?; // transactional_id
        let acks = rest.try_get_i16().ok()?;
        rest.try_get_i32().ok()?; // timeout_ms
        let topics = rest.try_get_i32().ok()?;
        let topic = string(&mut rest)?;
        let partitions = rest.try_get_i32().ok()?;
        let partition = rest.try_get_i32().ok()?;
        let batch_bytes = rest.try_get_i32().ok()?;
        let batch = rest.get(..BATCH_HEADER_BYTES)?;
        let one = topics == 1 && partitions == 1;
        Some(ProduceHead {
            correlation_id,
            acks,
            topic: std::str::from_utf8(topic).unwrap_or_default(),
            partition,
            batch_at: frame.len() - rest.len(),
            batch_bytes: if one { batch_bytes.max(0) as usize } else { 0 },
            crc: (&batch[17..]).get_u32(),
            records: i64::from((&batch[23..]).get_i32()) + 1,
        })
    }

    fn check(self, frame: &[u8]) -> anyhow::Result<ProduceHead<'a>> {
        let whole = Start::read(frame).bytes;
        let length = (&frame[self.batch_at + 8..]).get_i32().max(0) as usize;
        if self.batch_bytes != length + BATCH_LENGTH_END
            || self.batch_at + self.batch_bytes != whole
        {
            bail!(
                "a produce request that is not one batch for one partition; only those are taken"
            );
        }
        Ok(self)
    }
}

/// Appends a Produce reply, with its size.
pub fn put_produced(
    out: &mut Vec<u8>,
    correlation_id: i32,
    topic: &str,
    partition: i32,
    error: i16,
    base_offset: i64,
) {
    let bytes = 4 + 4 + 2 + topic.len() + 4 + 4 + 2 + 8 + 8 + 8 + 4;
    out.put_i32(bytes as i32);
    out.put_i32(correlation_id);
    out.put_i32(1);
    put_string(out, topic);
    out.put_i32(1);
    out.put_i32(partition);
    out.put_i16(error);
    out.put_i64(base_offset);
    out.put_i64(-1); // log_append_time_ms
    out.put_i64(0); // log_start_offset
    out.put_i32(0); // throttle_time_ms
}

/// A Fetch request.
#[derive(Debug)]
pub struct Fetch {
    pub correlation_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: usize,
    pub bytes_max: usize,
    pub topics: Vec<FetchTopic>,
}

/// A topic of it.
#[derive(Debug)]
pub struct FetchTopic {
    pub name: String,
    pub partitions: Vec<FetchPartition>,
}

/// A partition of it.
#[derive(Clone, Copy, Debug)]
pub struct FetchPartition {
    pub index: i32,
    pub offset: i64,
    pub bytes_max: usize,
}

impl Fetch {
    /// Reads a whole frame; None if it makes no sense.
    pub fn read(frame: &[u8]) -> Option<Fetch> {
        let mut rest = &frame[Start::BYTES..];
        let correlation_id = rest.try_get_i32().ok()?;
        string(&mut rest)?; // client_id
        rest.try_get_i32().ok()?; // replica_id
        let max_wait_ms = rest.try_get_i32().ok()?;
        let min_bytes = rest.try_get_i32().ok()?.max(0) as usize;
        let bytes_max = rest.try_get_i32().ok()?.max(0) as usize;
        rest.try_get_i8().ok()?; // isolation_level
        rest.try_get_i64().ok()?; // session_id, session_epoch
        let topics = rest.try_get_i32().ok()?;
        let topics = (0..topics).map(|_| FetchTopic::read(&mut rest));
        Some(Fetch {
            correlation_id,
            max_wait_ms,
            min_bytes,
            bytes_max,
            topics: topics.collect::<Option<_>>()?,
        })
    }
}

impl FetchTopic {
    fn read(rest: &mut &[u8]) -> Option<FetchTopic> {
        let name = String::from_utf8(string(rest)?.to_owned()).ok()?;
        let partitions = rest.try_get_i32().ok()?;
        let partitions = (0..partitions).map(|_| FetchPartition::read(rest));
        Some(FetchTopic {
            name,
            partitions: partitions.collect::<Option<_>>()?,
        })
    }
}

impl FetchPartition {
    fn read(rest: &mut &[u8]) -> Option<FetchPartition> {
        let index = rest.try_get_i32().ok()?;
        rest.try_get_i32().ok()?; // current_leader_epoch
        let offset = rest.try_get_i64().ok()?;
        rest.try_get_i64().ok()?; // log_start_offset
        let bytes_max = rest.try_get_i32().ok()?.max(0) as usize;
        Some(FetchPartition {
            index,
            offset,
            bytes_max,
        })
    }
}

/// What stands before a partition's records in a Fetch reply.
pub fn put_fetched(
    out: &mut Vec<u8>,
    index: i32,
    error: i16,
    high_watermark: i64,
    start: i64,
    bytes: usize,
) {
    out.put_i32(index);
    out.put_i16(error);
    out.put_i64(high_watermark);
    out.put_i64(high_watermark); // last_stable_offset
    out.put_i64(start);
    out.put_i32(-1); // aborted_transactions
    out.put_i32(-1); // preferred_read_replica
    out.put_i32(bytes as i32);
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// A string that may be null, which reads as empty.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = rest.try_get_i16().ok()?.max(0) as usize;
    let (text, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(text)
}
