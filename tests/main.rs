//! Every integration test, in one binary: it links once.

mod codecs;
mod protocol;
mod support;
