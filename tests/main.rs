//! Every integration test, in one binary: it links once.

mod clients;
mod codecs;
mod durability;
mod hostile;
mod http;
mod lifecycle;
mod protocol;
mod support;
