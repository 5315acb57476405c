//! The two walks, Produce and Fetch: their parts alone, and whole over loopback.
//!
//! The figures are for seeing that a change made something slower, not for comparing brokers.

mod broker;
mod codec;
mod log;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// Short runs: the whole bench is to end within two minutes.
fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = walks;
    config = quick();
    targets = log::append, log::crc, log::index_lookup, log::read_slices,
        codec::decode_produce, codec::encode_fetch, broker::produce_and_fetch
}
criterion_main!(walks);
