//! The resource BROKER_LOGGER: the levels of the broker's loggers (KIP-412).

use crate::config::{ConfigChange, Entry, Source};
use crate::io::log_levels::{self, LEVELS, ROOT};
use crate::kafka::{ApiError, ErrorCode};
use std::borrow::Cow;

/// The rooms that write log lines, and what is above them.
const LOGGERS: &[&str] = &[
    ROOT,
    "millstream",
    "millstream::cli",
    "millstream::coordinator",
    "millstream::engine",
    "millstream::http",
    "millstream::io",
    "millstream::kafka",
    "millstream::log",
    "millstream::net",
    "millstream::server",
    "millstream::shard",
];
/// Kafka's type of such a config.
const STRING: i8 = 2;

/// Every logger with its level.
pub fn describe() -> Vec<Entry> {
    let entry = |logger: &&str| Entry {
        name: (*logger).to_owned(),
        value: log_levels::level_of(logger),
        source: Source::DynamicBrokerLogger,
        type_code: STRING,
        documentation: Cow::Borrowed(
            "The log lines that are written: this level and those above it.",
        ),
        synonyms: Vec::new(),
        read_only: false,
        is_default: false,
        is_sensitive: false,
    };
    LOGGERS.iter().map(entry).collect()
}

/// Changes levels, all or none. They hold until the broker stops or reloads its settings.
///
/// # Errors
/// When a logger or a level does not exist, or the root would have no level.
pub fn alter(changes: &[(String, ConfigChange)], only_check: bool) -> Result<(), ApiError> {
    let mut levels = Vec::with_capacity(changes.len());
    for (logger, change) in changes {
        levels.push((logger.as_str(), level(logger, change)?));
    }
    if only_check || levels.is_empty() {
        return Ok(());
    }
    log_levels::set(&levels).map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error))?;
    for (logger, level) in levels {
        let level = level.unwrap_or("that of the settings");
        // Whatever the level was and is, it is told.
        tracing::warn!(logger, level, "a client changed the level of a logger");
    }
    Ok(())
}

/// The level to be set; `None` takes back what was set.
fn level(logger: &str, change: &ConfigChange) -> Result<Option<&'static str>, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidConfig, message);
    if !LOGGERS.contains(&logger) {
        return Err(invalid(format!("there is no logger `{logger}`")));
    }
    match change {
        ConfigChange::Set(wanted) => {
            // Kafka has one more above ERROR.
            let wanted = if wanted == "FATAL" { "ERROR" } else { wanted };
            let known = LEVELS.iter().find(|level| **level == wanted);
            let known = known.copied().map(Some);
            known.ok_or_else(|| {
                let levels = LEVELS.join(", ");
                invalid(format!(
                    "`{logger}` cannot be `{wanted}`: it takes {levels}, FATAL"
                ))
            })
        }
        ConfigChange::Delete if logger == ROOT => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "the level of the root logger cannot be removed",
        )),
        ConfigChange::Delete => Ok(None),
        ConfigChange::Append(_) | ConfigChange::Subtract(_) => {
            Err(invalid(format!("the level of `{logger}` is not a list")))
        }
    }
}
