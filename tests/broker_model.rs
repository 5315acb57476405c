//! The whole broker but for its sockets and its ring, beside a model of what clients were told: several
//! connections, shards that run in any order, failing files, and kills in between.
//!
//! A failure prints its seed: `MILLSTREAM_SEED=<seed> cargo test --test millstream broker_model` runs
//! that one again. `MILLSTREAM_RUNS` sets how many seeds are tried, and with `MILLSTREAM_TRACE` the steps and the
//! broker's log are shown. The fuzz target `broker` drives the same model.

#[path = "broker_model/answers.rs"]
mod answers;
#[path = "broker_model/client.rs"]
pub mod client;
#[path = "broker_model/driver.rs"]
mod driver;
#[path = "broker_model/input.rs"]
pub mod input;
#[path = "broker_model/machine.rs"]
pub mod machine;
#[path = "broker_model/model.rs"]
mod model;
#[path = "broker_model/requests.rs"]
pub mod requests;
#[path = "broker_model/schedules.rs"]
mod schedules;

use crate::log_model::{disk, rng};
use rng::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const INPUT_BYTES: usize = 3000;

#[test]
fn clients_find_what_they_were_told_in_whatever_order_shards_and_workers_run() {
    if std::env::var_os("MILLSTREAM_TRACE").is_some() {
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
        let _ = log.try_init();
    }
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect(name));
    let first = number("MILLSTREAM_SEED");
    let runs = number("MILLSTREAM_RUNS").unwrap_or(if first.is_some() { 1 } else { 150 });
    for seed in (first.unwrap_or(1)..).take(runs as usize) {
        let input = input(seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| driver::run(&input))) {
            eprintln!("this was seed {seed}: set MILLSTREAM_SEED={seed} to run it again");
            resume_unwind(panic);
        }
    }
}

/// What a seed has the driver do.
pub fn input(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..INPUT_BYTES).map(|_| rng.next() as u8).collect()
}
