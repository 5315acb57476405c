//! Every integration test, in one binary: it links once.

mod codecs;
mod durability;
mod http;
mod lifecycle;
mod protocol;
mod support;
