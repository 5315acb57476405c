//! Millstream: a durable event broker for one Linux host that speaks Kafka's wire protocol.
//!
//! The rooms, from top to bottom; imports point down only (`tests/tidy.rs` holds us to it):
//!
//! - `cli`: one thin file per subcommand.
//! - `server`: the composition root: open the data directory, start a shard per core, stop.
//! - `client`: the blocking Kafka client that the commands and the tests use.
//! - `shard`: one core: event loop, commit loop, timers.
//! - `kafka`: Kafka's protocol: connections, dispatch table, error codes, one file per API.
//! - `http`: records, topics and groups over HTTP, health, metrics, the page. It and `kafka` do not know each other.
//! - `findings`: what is wrong with a running broker, and what to do about it.
//! - `coordinator`: state that belongs to a name and survives a restart: groups and their offsets.
//! - `access`: who asks.
//! - `engine`: what a shard owns: catalog, partitions, producer state, the mailbox; the doors for appends
//!   and fetches.
//! - `log`: one partition's log: batches, segments, indexes, recovery, retention.
//! - `wire`: primitives of the protocol and of the internal topics' records.
//! - `net`: listener, streams, budgets; knows no protocol.
//! - `io`: files, mappings, clock; the only room with `unsafe`.
//! - `config`: every knob, once.

pub mod access;
pub mod cli;
pub mod client;
pub mod config;
pub mod coordinator;
pub mod engine;
pub mod findings;
pub mod http;
pub mod io;
pub mod kafka;
pub mod log;
pub mod net;
pub mod server;
pub mod shard;
pub mod wire;
