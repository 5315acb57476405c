//! Records that say who sent them where, so that each can be told from all others and any change
//! is seen.

use crate::rng::mix;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The header that carries a record's id, its timestamp and a checksum over everything.
const HEADER: &str = "id";
const NOT_AS_SENT: &str = "is not as it was sent here";
const BATCH_HEADER_BYTES: usize = 61;
/// Among a batch's attributes.
const APPEND_TIME: i16 = 1 << 3;
/// One record in so many of a compacted topic is a tombstone.
const TOMBSTONE_IN: u64 = 8;

/// Who sent a record, and which of its own it is. Ids are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub worker: u32,
    pub number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "record {} of worker {}", self.number, self.worker)
    }
}

impl Id {
    fn hash(self) -> u64 {
        mix((u64::from(self.worker) << 32 | u64::from(self.number)).wrapping_add(1))
    }

    /// The key of this record among so many.
    pub fn key(self, keys: u32) -> u32 {
        (self.hash() % u64::from(keys)) as u32
    }

    /// Whether it deletes its key, in a compacted topic.
    pub fn is_tombstone(self) -> bool {
        (self.hash() >> 32).is_multiple_of(TOMBSTONE_IN)
    }
}

/// What records of a topic look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// So many keys, and tombstones among the records; without, no keys.
    pub keys: Option<u32>,
    /// The most bytes of a value.
    pub value_bytes_max: u32,
}

/// Where a record belongs; goes into its checksum.
pub type Place<'a> = (&'a str, i32);

/// Who sends a batch: an idempotent producer with its first sequence, or nobody in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub sequence: i32,
}

/// A batch as a producer sends it.
pub fn encode(
    place: Place<'_>,
    shape: Shape,
    ids: &[Id],
    producer: Option<Producer>,
    compression: Compression,
) -> Bytes {
    let timestamp = now_ms();
    let records: Vec<Record> = (0..)
        .zip(ids)
        .map(|(delta, id)| record(place, shape, *id, delta, timestamp, producer))
        .collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).expect("records that fit");
    batch.freeze()
}

fn record(
    place: Place<'_>,
    shape: Shape,
    id: Id,
    delta: i32,
    timestamp: i64,
    producer: Option<Producer>,
) -> Record {
    let key = shape
        .keys
        .map(|keys| Bytes::from(format!("key {}", id.key(keys))));
    let value = value(shape, id);
    let mut header = BytesMut::new();
    header.put_u32(id.worker);
    header.put_u32(id.number);
    header.put_i64(timestamp);
    header.put_u64(checksum(place, &header, key.as_deref(), value.as_deref()));
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.map_or(-1, |producer| producer.id),
        producer_epoch: producer.map_or(-1, |_| 0),
        timestamp_type: TimestampType::Creation,
        offset: i64::from(delta),
        sequence: producer.map_or(-1, |producer| producer.sequence) + delta,
        timestamp,
        key,
        value,
        headers: [(crate::wire::text(HEADER), Some(header.freeze()))].into(),
    }
}

fn value(shape: Shape, id: Id) -> Option<Bytes> {
    if shape.keys.is_some() && id.is_tombstone() {
        return None;
    }
    let hash = id.hash();
    let length = (hash >> 8) % u64::from(shape.value_bytes_max) + 1;
    let byte = |at: u64| mix(hash.wrapping_add(at / 8)).to_le_bytes()[(at % 8) as usize];
    Some((0..length).map(byte).collect())
}

/// FNV-1a over all that makes a record.
fn checksum(place: Place<'_>, header: &[u8], key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let (topic, partition) = place;
    let lengths = [key, value].map(|part| part.map_or(-1, |part| part.len() as i64));
    let parts: [&[u8]; 7] = [
        topic.as_bytes(),
        &partition.to_be_bytes(),
        header,
        &lengths[0].to_be_bytes(),
        &lengths[1].to_be_bytes(),
        key.unwrap_or_default(),
        value.unwrap_or_default(),
    ];
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A batch as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub base: i64,
    /// The last offset that belongs to it, whether or not it still has the record.
    pub last: i64,
    pub producer_id: i64,
    pub base_sequence: i32,
    pub bytes: usize,
    /// Whether the broker set its time, and not the producer.
    pub append_time: bool,
    /// Of its newest record.
    pub time_ms: i64,
    /// With their offsets.
    pub records: Vec<(i64, Id)>,
}

/// Takes the records of a fetch reply apart.
///
/// # Errors
/// Says what is wrong with a batch, or a record that is not as it was sent to `place`.
pub fn decode(place: Place<'_>, mut records: Bytes) -> Result<Vec<Batch>, String> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        let length = length_of(&records)
            .filter(|length| (BATCH_HEADER_BYTES..=records.len()).contains(length))
            .ok_or_else(|| format!("{} bytes that are no batch", records.len()))?;
        batches.push(decode_batch(place, records.split_to(length))?);
    }
    Ok(batches)
}

/// The batches of a fetch reply up to the first whose checksum is wrong or that is none, and whether
/// there was such a one: where a consumer stops, too.
///
/// # Errors
/// A record that is not as it was sent, in a batch whose checksum is right.
pub fn decode_sound(place: Place<'_>, mut records: Bytes) -> Result<(Vec<Batch>, bool), String> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        let length = length_of(&records)
            .filter(|length| (BATCH_HEADER_BYTES..=records.len()).contains(length));
        let Some(length) = length else {
            return Ok((batches, true));
        };
        match decode_batch(place, records.split_to(length)) {
            Ok(batch) => batches.push(batch),
            Err(what) if what.ends_with(NOT_AS_SENT) => return Err(what),
            Err(_) => return Ok((batches, true)),
        }
    }
    Ok((batches, false))
}

fn length_of(records: &Bytes) -> Option<usize> {
    let length = records.get(8..12)?.get_i32();
    usize::try_from(length).ok().map(|length| length + 12)
}

fn decode_batch(place: Place<'_>, bytes: Bytes) -> Result<Batch, String> {
    let base = (&bytes[..8]).get_i64();
    let wrong = |what: &dyn fmt::Display| format!("the batch at offset {base}: {what}");
    let set = RecordBatchDecoder::decode(&mut bytes.clone()).map_err(|error| wrong(&error))?;
    let identified = set.records.iter().map(|record| {
        let id = identify(place, record).ok_or_else(|| {
            wrong(&format!(
                "the record at offset {} {NOT_AS_SENT}",
                record.offset
            ))
        })?;
        Ok((record.offset, id))
    });
    Ok(Batch {
        base,
        last: base + i64::from((&bytes[23..27]).get_i32()),
        producer_id: (&bytes[43..51]).get_i64(),
        base_sequence: (&bytes[53..57]).get_i32(),
        bytes: bytes.len(),
        append_time: (&bytes[21..23]).get_i16() & APPEND_TIME != 0,
        time_ms: time_of(&bytes),
        records: identified.collect::<Result<_, String>>()?,
    })
}

/// The time of a batch's newest record, from its header.
pub fn time_of(batch: &[u8]) -> i64 {
    (&batch[35..43]).get_i64()
}

/// The id of a record that is as it was sent to `place`.
fn identify(place: Place<'_>, record: &Record) -> Option<Id> {
    let header = record.headers.get(HEADER.as_bytes())?.as_ref()?;
    let (content, mut sum) = header.split_at_checked(16)?;
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let mut fields = content;
    let id = Id {
        worker: fields.get_u32(),
        number: fields.get_u32(),
    };
    let timestamp = fields.get_i64();
    let same_time =
        record.timestamp_type == TimestampType::LogAppend || record.timestamp == timestamp;
    let sound = sum.len() == 8 && sum.get_u64() == checksum(place, content, key, value);
    (sound && same_time).then_some(id)
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        keys: Some(3),
        value_bytes_max: 50,
    };

    fn ids() -> Vec<Id> {
        (0..20).map(|number| Id { worker: 7, number }).collect()
    }

    fn batch(compression: Compression) -> Bytes {
        let producer = Producer { id: 5, sequence: 9 };
        encode(("t", 1), SHAPE, &ids(), Some(producer), compression)
    }

    #[test]
    fn records_come_back_with_their_ids_offsets_and_sequences() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batches = decode(("t", 1), batch(compression)).unwrap();
            assert_eq!(batches.len(), 1);
            let found = &batches[0];
            assert_eq!((found.base, found.last), (0, 19));
            assert_eq!((found.producer_id, found.base_sequence), (5, 9));
            let expected: Vec<(i64, Id)> = (0..).zip(ids()).collect();
            assert_eq!(found.records, expected);
        }
    }

    #[test]
    fn a_record_of_another_partition_is_told_from_ones_own() {
        assert!(decode(("t", 0), batch(Compression::None)).is_err());
        assert!(decode(("u", 1), batch(Compression::None)).is_err());
    }

    #[test]
    fn every_changed_byte_behind_the_offset_and_epoch_is_seen() {
        let sound = batch(Compression::None);
        for at in 16..sound.len() {
            let mut changed = sound.to_vec();
            changed[at] ^= 1;
            assert!(decode(("t", 1), changed.into()).is_err(), "byte {at}");
        }
    }
}
