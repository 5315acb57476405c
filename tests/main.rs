//! Every integration test, in one binary: it links once.

mod codecs;
mod durability;
mod fuzz_seeds;
mod http;
mod lifecycle;
mod log_model;
mod protocol;
mod support;
mod tidy;
mod verify;
