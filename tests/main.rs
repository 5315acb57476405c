//! Every integration test, in one binary: it links once.

mod codecs;
mod log_model;
