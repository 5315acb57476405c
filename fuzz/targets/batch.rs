//! No bytes make the batch and record readers panic, or unpack beyond the limit they were given.
//!
//! Every input is tried as it is, and once more made into one batch with a right length and CRC, so
//! that what lies behind those checks is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::log::batch::{self, BatchHeader, HEADER_BYTES, LENGTH_END, build};
use millstream::log::records::{self, Records};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
const UNPACKED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let _ = batch::check_produced(data, MESSAGE_BYTES_MAX);
    if let Ok(header) = BatchHeader::parse(data) {
        read(header, data);
    }
    let Some(sealed) = sealed(data) else { return };
    if let Ok(header) = batch::check_produced(&sealed, MESSAGE_BYTES_MAX) {
        read(header, &sealed);
        store(header, sealed);
    }
});

/// The input with the fields set that a producer never gets wrong.
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = data.to_vec();
    let length = i32::try_from(data.len().checked_sub(LENGTH_END)?).ok()?;
    sealed.get_mut(HEADER_BYTES..)?;
    sealed[0..8].fill(0);
    sealed[8..12].copy_from_slice(&length.to_be_bytes());
    sealed[16] = 2;
    build::seal(&mut sealed);
    Some(sealed)
}

fn read(header: BatchHeader, batch: &[u8]) {
    let _ = records::first_at_or_after(batch, header.max_timestamp, 0, UNPACKED_BYTES_MAX);
    let Ok(unpacked) = Records::unpack(header, batch, UNPACKED_BYTES_MAX) else {
        return;
    };
    let mut count = 0;
    let mut bytes = 0;
    for record in unpacked.iter() {
        let Ok(record) = record else { break };
        let pairs = record.headers.iter();
        bytes += pairs
            .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len))
            .sum::<usize>();
        bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        count += 1;
    }
    assert!(count <= header.record_count, "{count} records");
    assert!(
        bytes <= UNPACKED_BYTES_MAX.max(batch.len()),
        "{bytes} bytes of records"
    );
}

/// What the log does to a batch leaves it sound.
fn store(header: BatchHeader, mut batch: Vec<u8>) {
    batch::patch_position(&mut batch, 1 << 40, 7);
    assert!(batch::crc_matches(&batch));
    let (head, records) = batch.split_at_mut(batch::HEADER_BYTES);
    batch::patch_append_time(head, records, 1_700_000_000_000);
    assert!(batch::crc_matches(&batch));
    let stored = BatchHeader::parse(&batch).expect("a stored batch is one");
    assert_eq!(
        stored.next_offset(),
        (1 << 40) + i64::from(header.record_count)
    );
    assert_eq!(stored.producer(), header.producer());
}
