//! No bytes make the reader of a producer snapshot panic; what it accepts is written back the same,
//! and goes on working.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::engine::producers::{Producers, Verdict};
use millstream::log::batch::ProducerMark;

/// A batch that is appended after the snapshot was read: producer, epoch, records, sequence.
const BATCH_BYTES: usize = 6;

// The first byte says how many batches follow it; the rest is the snapshot.
fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let Some((batches, snapshot)) = rest.split_at_checked(usize::from(*count) * BATCH_BYTES) else {
        return;
    };
    let Some(mut producers) = Producers::decode(snapshot) else {
        return;
    };
    same_after_a_restart(&producers);
    let mut offset = 0;
    for batch in batches.chunks_exact(BATCH_BYTES) {
        let record_count = i32::from(batch[2]) + 1;
        let mark = ProducerMark {
            producer_id: i64::from(batch[0]),
            epoch: i16::from(batch[1]),
            // The top bit chooses between sequences near 0 and near the end, where they start over.
            base_sequence: match batch[3] >> 7 {
                0 => i32::from(u16::from_be_bytes([batch[4], batch[5]])),
                _ => i32::MAX - i32::from(u16::from_be_bytes([batch[4], batch[5]])),
            },
        };
        if let Ok(Verdict::Append) = producers.check(&mark, record_count) {
            producers.record(&mark, record_count, offset, -1, offset);
            // The same batch once more is known at once.
            let again = producers.check(&mark, record_count);
            assert!(matches!(again, Ok(Verdict::Duplicate(kept)) if kept.base_offset == offset));
            offset += i64::from(record_count);
        }
    }
    same_after_a_restart(&producers);
});

fn same_after_a_restart(producers: &Producers) {
    assert_eq!(
        Producers::decode(&producers.encode()).as_ref(),
        Some(producers)
    );
}
