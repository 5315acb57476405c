//! `serve`: runs a broker.

use crate::config::{Config, LogFormat};
use crate::io::log_levels;
use crate::server;
use std::io::{IsTerminal, Write};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Runs a broker until it is told to stop.
pub fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let config = Config::load(matches)?;
    start_logging(&config)?;
    let ready = |line: &str| {
        // This line need not be read.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    server::serve(config, ready, || reload(matches))?;
    // Threads may still hold sockets of clients that hang on; nothing of theirs is needed any more.
    std::process::exit(0)
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let (filter, handle) =
        reload::Layer::<_, Registry>::new(EnvFilter::try_new(&config.log_level)?);
    log_levels::install(&config.log_level, move |filter| {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    });
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(())
}

/// Puts in force what can change while the broker runs: which log lines are written.
fn reload(matches: &clap::ArgMatches) {
    let loaded = Config::load(matches).map_err(anyhow::Error::from);
    let reloaded = loaded.and_then(|config| {
        log_levels::reload(&config.log_level).map_err(anyhow::Error::msg)?;
        Ok(config)
    });
    match reloaded {
        // Whatever the level was and is, it is told.
        Ok(config) => tracing::warn!(
            log_level = config.log_level,
            "SIGHUP: log_level is reloaded; other settings need a restart"
        ),
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the settings cannot be read; those in force stay");
        }
    }
}
