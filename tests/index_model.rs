//! Message ids, conditions and the index of keys beside a model, over kills, power cuts and disks that fail.
//!
//! `MILLSTREAM_SEED=<seed> cargo test --test millstream index_model` runs one seed again, `MILLSTREAM_RUNS` sets how
//! many are tried, and `MILLSTREAM_TRACE` shows the steps. The fuzz target `indexes` drives the same model.

#[path = "index_model/driver.rs"]
mod driver;
#[path = "index_model/log.rs"]
mod log;

use crate::broker_model::{client, input, machine};
use crate::log_model::{disk, rng};
use rng::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const INPUT_BYTES: usize = 3000;

#[test]
fn ids_are_stored_once_and_conditions_hold_whatever_happens() {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect(name));
    let first = number("MILLSTREAM_SEED");
    let runs = number("MILLSTREAM_RUNS").unwrap_or(if first.is_some() { 1 } else { 100 });
    for seed in (first.unwrap_or(1)..).take(runs as usize) {
        let input = input_of(seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| driver::run(&input))) {
            eprintln!("this was seed {seed}: set MILLSTREAM_SEED={seed} to run it again");
            resume_unwind(panic);
        }
    }
}

/// What a seed has the driver do.
pub fn input_of(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..INPUT_BYTES).map(|_| rng.next() as u8).collect()
}
