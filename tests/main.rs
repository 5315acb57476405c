//! Every integration test, in one binary: it links once.

mod administration;
mod clients;
mod codecs;
mod commands;
mod compaction;
mod containment;
mod durability;
mod fetch_sessions;
mod format;
mod full_disk;
mod fuzz_seeds;
mod group_command;
mod groups;
mod hostile;
mod http;
mod journal;
mod lifecycle;
mod log_model;
mod perf;
mod protocol;
mod support;
mod tidy;
mod unsupported;
mod verify;
mod zero_copy;
