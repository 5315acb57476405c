//! Message ids, conditions and the index of keys, driven in any order beside a model, with files that fail, kills and
//! power cuts in between: the model of `tests/index_model.rs`, with the fuzzer's bytes instead of a seed's.

#![no_main]
#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../../../tests/broker_model/client.rs"]
mod client;
#[path = "../../../tests/log_model/disk.rs"]
mod disk;
#[path = "../../../tests/index_model/driver.rs"]
mod driver;
#[path = "../../../tests/broker_model/input.rs"]
mod input;
#[path = "../../../tests/index_model/log.rs"]
mod log;
#[path = "../../../tests/broker_model/machine.rs"]
mod machine;
#[path = "../../../tests/log_model/rng.rs"]
mod rng;
#[path = "../broker/support.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| driver::run(input));
