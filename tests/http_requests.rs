//! Whatever comes over HTTP is answered, and is nobody's mistake but the client's: no answer has the status 500.
//!
//! `MILLSTREAM_SEED=<seed> cargo test --test millstream http_requests` runs one seed again, and `MILLSTREAM_RUNS` sets
//! how many are tried. The fuzz target `http` does the same with a fuzzer's bytes.

#[path = "http_requests/driver.rs"]
pub mod driver;

use crate::broker_model::{input, machine};
use crate::log_model::rng::Rng;
use driver::Driver;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[test]
fn whatever_is_asked_is_answered() {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect(name));
    let first = number("MILLSTREAM_SEED");
    let runs = number("MILLSTREAM_RUNS").unwrap_or(if first.is_some() { 1 } else { 2000 });
    let mut driver = Driver::default();
    for seed in (first.unwrap_or(1)..).take(runs as usize) {
        let mut rng = Rng::new(seed);
        let input: Vec<u8> = (0..rng.below(400)).map(|_| rng.next() as u8).collect();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| driver.run(&input))) {
            eprintln!("this was seed {seed}: set MILLSTREAM_SEED={seed} to run it again");
            resume_unwind(panic);
        }
    }
}
