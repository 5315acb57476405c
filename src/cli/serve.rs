//! `serve`: runs a broker.

use crate::config::{Config, LogFormat};
use crate::server;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Runs a broker until it is told to stop.
pub fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let config = Config::load(matches)?;
    start_logging(&config)?;
    server::serve(config, |line| {
        // This line need not be read.
        let _ = writeln!(std::io::stdout(), "{line}");
    })?;
    // Threads may still hold sockets of clients that hang on; nothing of theirs is needed any more.
    std::process::exit(0)
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let logging = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.log_level)?)
        .with_writer(std::io::stderr)
        .with_target(false);
    match config.log_format {
        LogFormat::Text => logging.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logging.json().init(),
    }
    Ok(())
}
