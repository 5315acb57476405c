//! `millstream-floor`: the bare loops that a broker can be no faster than.
//!
//! - `commands`: `ingest` and `send`, servers for `millstream perf` that do nothing but move and check
//!   bytes. `server` is their epoll loop, `produce` and `fetch` the two hot requests, `control` the others.
//! - `log`, `segment`: where the bytes lie. `batches`: what `send` sends. `flush`: the thread that makes them durable.
//! - `sync`, `round_trip`: what the disk and the network alone take. `timing`: how they tell it.
//! - `http`: a bare hyper server. `http_load`: requests over HTTP, one after the other on each connection.
//! - `wire`: bytes of the protocol. `sys`: the system calls that the standard library lacks.

mod batches;
mod commands;
mod connection;
mod control;
mod fetch;
mod flush;
mod http;
mod http_load;
mod log;
mod produce;
mod round_trip;
mod segment;
mod server;
mod sync;
mod sys;
mod timing;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The bare loops that a broker can be no faster than, to measure Millstream against
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Serve `millstream perf produce` and `latency`: receive, check the CRC, copy, answer
    Ingest(commands::IngestArgs),
    /// Serve `millstream perf consume` from a file that is made at the start
    Send(commands::SendArgs),
    /// Append and fdatasync, one after the other; prints how long it took as JSON
    Sync(sync::Args),
    /// Requests of 1 KiB and replies of 100 bytes over loopback; prints how long they took as JSON
    RoundTrip(round_trip::Args),
    /// Answer every HTTP request with the same bytes, by bare hyper
    Http(http::Args),
    /// Send HTTP requests on many connections; prints how many and how long they took as JSON
    HttpLoad(http_load::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().mode {
        Mode::Ingest(args) => commands::ingest(args),
        Mode::Send(args) => commands::send(args),
        Mode::Sync(args) => sync::run(args),
        Mode::RoundTrip(args) => round_trip::run(&args),
        Mode::Http(args) => http::run(&args),
        Mode::HttpLoad(args) => http_load::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millstream-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
