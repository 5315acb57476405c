//! The records of the internal topics, and their formats.

pub mod offsets_format;

use crate::log::batch::Codec;
use crate::log::batch::build::BatchBuilder;

/// A record's key and value; no value deletes what the key names.
pub type Record = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch of these records.
pub fn batch_of(records: &[Record], now_ms: i64) -> Vec<u8> {
    let builder = BatchBuilder {
        base_timestamp: now_ms,
        ..BatchBuilder::default()
    };
    builder.build_keyed(Codec::None, records)
}
