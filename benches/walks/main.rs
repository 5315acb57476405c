//! The two walks, Produce and Fetch: their parts alone, and whole over loopback.
//!
//! `cargo bench -- NAME` times those with NAME in their name.
//!
//! `--step NAME RECORDS TIMES` runs one step that often and times nothing; `--steps` prints the steps' names.
//! Both are for `tools/instructions`. `serve` is a broker: the loopback bench starts this program
//! once more as that.
//!
//! The figures are for seeing that a change made something slower, not for comparing brokers.

mod broker;
mod codec;
mod ids;
mod log;
mod shard;
mod steps;

use criterion::{Criterion, criterion_group};
use std::env;
use std::process::ExitCode;
use std::time::Duration;

/// As the broker's.
#[global_allocator]
static ALLOCATOR: millstream::io::memory::Allocator = millstream::io::memory::ALLOCATOR;

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
        codec::decode_produce, codec::encode_fetch, steps::time, ids::ids, broker::produce_and_fetch
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", ..] => broker::serve(),
        ["--steps", ..] => steps::STEPS
            .iter()
            .for_each(|step| println!("{}", step.name)),
        ["--step", name, records, times] => {
            let count = |text: &str| text.parse().expect("a number");
            steps::run(name, count(records) as usize, count(times));
        }
        _ => {
            walks();
            Criterion::default().configure_from_args().final_summary();
        }
    }
    ExitCode::SUCCESS
}
