//! Every integration test, in one binary: it links once.

mod codecs;
mod fuzz_seeds;
mod tidy;
