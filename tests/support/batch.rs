//! Record batches made by hand, byte by byte, so that every field can be what a test wants.

/// A batch of uncompressed records, before it is encoded.
#[derive(Clone, Debug)]
pub struct Batch {
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub attributes: i16,
    pub base_timestamp: i64,
    /// Timestamps relative to the first, keys and values.
    pub records: Vec<(i64, Option<Vec<u8>>, Vec<u8>)>,
}

pub const ATTRIBUTES: usize = 21;
pub const CRC: usize = 17;
pub const MAGIC: usize = 16;
pub const HEADER_BYTES: usize = 61;

impl Batch {
    /// Records with these values, from nobody in particular.
    pub fn of<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Batch {
        let record = |value: V| (0, None, value.as_ref().to_vec());
        Batch {
            producer_id: -1,
            epoch: -1,
            base_sequence: -1,
            attributes: 0,
            base_timestamp: 1_700_000_000_000,
            records: values.into_iter().map(record).collect(),
        }
    }

    /// As the idempotent producer `id` would send it.
    pub fn by(mut self, id: i64, epoch: i16, base_sequence: i32) -> Batch {
        (self.producer_id, self.epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// A record for each timestamp (ms).
    pub fn at_times(times: &[i64]) -> Batch {
        let mut batch = Batch::of(times.iter().map(|time| time.to_string()));
        batch.base_timestamp = times[0];
        for (record, time) in batch.records.iter_mut().zip(times) {
            record.0 = time - times[0];
        }
        batch
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (place, (time, key, value)) in self.records.iter().enumerate() {
            let mut record = vec![0];
            varint(&mut record, *time);
            varint(&mut record, place as i64);
            match key {
                Some(key) => bytes(&mut record, key),
                None => varint(&mut record, -1),
            }
            bytes(&mut record, value);
            varint(&mut record, 0);
            bytes(&mut records, &record);
        }
        self.encode_with(&records)
    }

    /// With any bytes where the records belong (compressed ones, or nonsense).
    pub fn encode_with(&self, records: &[u8]) -> Vec<u8> {
        let count = self.records.len() as i32;
        let latest = self.records.iter().map(|record| record.0).max();
        let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
        batch.extend(0_i64.to_be_bytes());
        batch.extend(((HEADER_BYTES - 12 + records.len()) as i32).to_be_bytes());
        batch.extend((-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend([0; 4]);
        batch.extend(self.attributes.to_be_bytes());
        batch.extend((count - 1).to_be_bytes());
        batch.extend(self.base_timestamp.to_be_bytes());
        batch.extend((self.base_timestamp + latest.unwrap_or(0)).to_be_bytes());
        batch.extend(self.producer_id.to_be_bytes());
        batch.extend(self.epoch.to_be_bytes());
        batch.extend(self.base_sequence.to_be_bytes());
        batch.extend(count.to_be_bytes());
        batch.extend(records);
        seal(&mut batch);
        batch
    }
}

/// Puts the right CRC-32C into a batch that was changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES..]);
    batch[CRC..ATTRIBUTES].copy_from_slice(&(crc as u32).to_be_bytes());
}

/// A batch as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub base_offset: i64,
    pub record_count: i32,
    pub attributes: i16,
    pub bytes: Vec<u8>,
}

impl Fetched {
    /// The offset after its last record: more than it holds, where some were compacted away.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(i32_at(&self.bytes, 23)) + 1
    }

    /// The values of uncompressed records.
    pub fn values(&self) -> Vec<Vec<u8>> {
        let mut rest = &self.bytes[HEADER_BYTES..];
        let mut values = Vec::new();
        for _ in 0..self.record_count {
            let length = read_varint(&mut rest) as usize;
            let (mut record, after) = rest.split_at(length);
            rest = after;
            record = &record[1..];
            let _ = (read_varint(&mut record), read_varint(&mut record));
            let _key = read_bytes(&mut record);
            values.push(read_bytes(&mut record));
        }
        values
    }
}

/// Takes the records of a fetch reply apart. Each batch must be whole and sound.
pub fn split(mut records: &[u8]) -> Vec<Fetched> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        let length = 12 + i32_at(records, 8) as usize;
        let (batch, after) = records.split_at(length);
        records = after;
        let mut again = batch.to_vec();
        seal(&mut again);
        assert_eq!(again, batch, "a fetched batch has a wrong CRC");
        batches.push(Fetched {
            base_offset: i64::from_be_bytes(batch[..8].try_into().unwrap()),
            record_count: i32_at(batch, 57),
            attributes: i16::from_be_bytes(batch[21..23].try_into().unwrap()),
            bytes: batch.to_vec(),
        });
    }
    batches
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    varint(to, bytes.len() as i64);
    to.extend(bytes);
}

fn varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn read_varint(from: &mut &[u8]) -> i64 {
    let (mut zigzag, mut shift) = (0_u64, 0);
    loop {
        let byte = from[0];
        *from = &from[1..];
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        }
        shift += 7;
    }
}

/// Null is read as empty.
fn read_bytes(from: &mut &[u8]) -> Vec<u8> {
    let length = read_varint(from).max(0) as usize;
    let (bytes, after) = from.split_at(length);
    *from = after;
    bytes.to_vec()
}
