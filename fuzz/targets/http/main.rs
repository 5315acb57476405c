//! Whatever comes over HTTP is answered, and is nobody's mistake but the client's: what `tests/http_requests.rs` does,
//! with the fuzzer's bytes.

#![no_main]
#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../../../tests/http_requests/driver.rs"]
mod driver;
#[path = "../../../tests/broker_model/input.rs"]
mod input;
#[path = "../../../tests/broker_model/machine.rs"]
mod machine;

use driver::Driver;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static DRIVER: RefCell<Driver> = RefCell::default();
}

fuzz_target!(|input: &[u8]| DRIVER.with_borrow_mut(|driver| driver.run(input)));
