//! The broker's engine and its requests, driven in any order beside a model, with files that fail and
//! kills in between: the model of `tests/broker_model.rs`, with the fuzzer's bytes instead of a seed's.

#![no_main]
#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../../../tests/broker_model/answers.rs"]
mod answers;
#[path = "../../../tests/broker_model/client.rs"]
mod client;
#[path = "../../../tests/log_model/disk.rs"]
mod disk;
#[path = "../../../tests/broker_model/driver.rs"]
mod driver;
#[path = "../../../tests/broker_model/input.rs"]
mod input;
#[path = "../../../tests/broker_model/machine.rs"]
mod machine;
#[path = "../../../tests/broker_model/model.rs"]
mod model;
#[path = "../../../tests/broker_model/requests.rs"]
mod requests;
#[path = "../../../tests/log_model/rng.rs"]
mod rng;
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| driver::run(input));
