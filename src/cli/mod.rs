//! The command line: one file per subcommand.
//!
//! `topic`, `produce`, `consume`, `group` and `perf` talk to a running broker (Millstream or any other that
//! speaks Kafka's protocol) through [`crate::client`]. They share, from top to bottom:
//!
//! - `broker_args`: where the broker is, in Kafka's protocol and over HTTP; `compress`: the codecs by name.
//! - `render`: records as text; `lines`: lines of text; `format`: `-f`, for both.
//! - `position`: places in a partition, such as `beginning` and `@1767225600000`.
//! - `words`: sizes and counts for people to read.
//! - `confirm`: the question before something is destroyed.
//! - `screen`: what is shown again and again.
//! - `output`, `table`: standard output that may be closed early, and columns.
//! - `exit`: exit statuses, and failures that have one.
//!
//! `doctor` and `top` ask for metrics too, over HTTP.
//! `dump` and `verify` read the files of a broker instead.
//!
//! This room and `main.rs` are the only ones that use `anyhow`.

mod broker_args;
mod compress;
mod confirm;
mod consume;
mod doctor;
mod dump;
mod exit;
mod format;
mod group;
mod lines;
mod output;
mod perf;
mod position;
mod produce;
mod render;
mod screen;
mod serve;
mod table;
mod top;
mod topic;
mod verify;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Config;

use self::exit::Exit;
use self::output::{AlreadyTold, ReaderGone};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    about,
    max_term_width = 100,
    propagate_version = true,
    after_help = exit::HELP
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands, in the order in which `--help` lists them.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Serve,
    /// Create, list, describe, alter and delete topics
    Topic(topic::Args),
    /// Write lines of standard input or of files to a topic, a record a line
    Produce(produce::Args),
    /// Print a topic's records
    Consume(consume::Args),
    /// List and describe consumer groups, reset and delete their offsets, delete them
    Group(group::Args),
    /// Show what a broker is doing: rates, lag, disk, cores
    Top(top::Args),
    /// Tell what is wrong with a running broker, and what to do about it
    Doctor(doctor::Args),
    /// Benchmark a broker: throughput and latency under load
    Perf(perf::Args),
    /// Print what is in the broker's files: segments, indexes, checkpoints, the catalog
    Dump(dump::Args),
    /// Check every checksum and every offset in the files of a stopped broker, Kafka's too
    Verify(verify::Args),
}

/// Parses the command line, runs one subcommand, and says on standard error what went wrong.
///
/// The exit status is 0 after success (and when the reader of standard output has gone away, as
/// `| head` does), else what `exit` says.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    match run(command, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) if error.is::<AlreadyTold>() => Exit::Failed.into(),
        Err(error) => {
            output::say(&format!("millstream: {error:#}"));
            Exit::of(&error).into()
        }
    }
}

/// The command line with the flags of `serve`, which are made from the knobs.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("serve", Config::flags)
}

fn run(command: Command, matches: &clap::ArgMatches) -> anyhow::Result<()> {
    match command {
        Command::Serve => match matches.subcommand() {
            Some((_, matches)) => serve::run(matches),
            None => Ok(()),
        },
        Command::Topic(args) => topic::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Group(args) => group::run(args),
        Command::Top(args) => top::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Perf(args) => perf::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Verify(args) => verify::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
