//! Which log lines the process writes, and how that changes while it runs.
//!
//! The filter is that of the settings, with the levels of single loggers that were set since behind it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The logger that all others are below.
pub const ROOT: &str = "root";
/// The levels, from the most lines to the fewest.
pub const LEVELS: &[&str] = &["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

/// Puts a filter in force; an error says why it is none.
type Put = Box<dyn Fn(&str) -> Result<(), String> + Send>;

static CURRENT: Mutex<Option<LogLevels>> = Mutex::new(None);

struct LogLevels {
    /// The filter of the settings.
    base: String,
    /// By logger.
    set: BTreeMap<String, String>,
    put: Put,
}

/// Has `put` put in force what changes from now on; `base` is in force already.
pub fn install(base: &str, put: impl Fn(&str) -> Result<(), String> + Send + 'static) {
    let levels = LogLevels {
        base: base.to_owned(),
        set: BTreeMap::new(),
        put: Box::new(put),
    };
    *lock() = Some(levels);
}

/// Puts another filter of the settings in force; what was set of single loggers is forgotten.
///
/// # Errors
/// When it is no filter; nothing has changed then.
pub fn reload(base: &str) -> Result<(), String> {
    let mut current = lock();
    let levels = current.as_mut().ok_or(NOT_INSTALLED)?;
    (levels.put)(base)?;
    levels.base = base.to_owned();
    levels.set.clear();
    Ok(())
}

/// The level of a logger: one of [`LEVELS`], or `OFF`.
pub fn level_of(logger: &str) -> String {
    let current = lock();
    let filter = current.as_ref().map(LogLevels::filter).unwrap_or_default();
    level_in(&filter, logger)
}

/// Sets the levels of loggers, all or none; `None` takes back what was set.
///
/// # Errors
/// When the filter that they make cannot be put in force.
pub fn set(changes: &[(&str, Option<&str>)]) -> Result<(), String> {
    let mut current = lock();
    let levels = current.as_mut().ok_or(NOT_INSTALLED)?;
    let before = levels.set.clone();
    for (logger, level) in changes {
        match level {
            Some(level) => levels.set.insert((*logger).to_owned(), (*level).to_owned()),
            None => levels.set.remove(*logger),
        };
    }
    let put = (levels.put)(&levels.filter());
    if put.is_err() {
        levels.set = before;
    }
    put
}

const NOT_INSTALLED: &str = "the log levels of this process cannot change";

impl LogLevels {
    /// A later directive for the same logger replaces an earlier one.
    fn filter(&self) -> String {
        let mut filter = self.base.clone();
        for (logger, level) in &self.set {
            filter.push(',');
            if logger != ROOT {
                filter.push_str(logger);
                filter.push('=');
            }
            filter.push_str(level);
        }
        filter
    }
}

/// What a filter says of a logger: the directive with the longest name that the logger is in, and of those
/// the last.
fn level_in(filter: &str, logger: &str) -> String {
    let mut found = ("", "ERROR");
    // Directives about spans and fields have brackets; they add lines to those of the logger's level.
    for directive in filter.split(',').filter(|one| !one.contains('[')) {
        let directive = directive.trim();
        let (name, level) = match directive.split_once('=') {
            Some((name, level)) => (name, level),
            None if is_level(directive) => ("", directive),
            None => (directive, "TRACE"),
        };
        let holds = name.is_empty() || (logger != ROOT && logger.starts_with(name));
        if holds && !level.is_empty() && name.len() >= found.0.len() {
            found = (name, level);
        }
    }
    found.1.to_uppercase()
}

fn is_level(word: &str) -> bool {
    let mut words = LEVELS.iter().chain(&["OFF"]);
    words.any(|level| level.eq_ignore_ascii_case(word))
}

fn lock() -> std::sync::MutexGuard<'static, Option<LogLevels>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_says_a_loggers_level_and_the_last_of_the_same() {
        let filter = "info,millstream::log=debug,millstream::log=trace,warn,h2=off";
        for (logger, level) in [
            (ROOT, "WARN"),
            ("millstream", "WARN"),
            ("millstream::log", "TRACE"),
            ("millstream::log::append", "TRACE"),
            ("h2", "OFF"),
        ] {
            assert_eq!(level_in(filter, logger), level, "{logger}");
        }
        assert_eq!(level_in("millstream", ROOT), "ERROR");
        assert_eq!(level_in("millstream", "millstream"), "TRACE");
    }

    #[test]
    fn what_is_set_stands_behind_the_settings() {
        let mut levels = LogLevels {
            base: "info".to_owned(),
            set: BTreeMap::new(),
            put: Box::new(|_| Ok(())),
        };
        levels.set.insert("millstream::log".into(), "DEBUG".into());
        levels.set.insert(ROOT.into(), "WARN".into());
        assert_eq!(levels.filter(), "info,millstream::log=DEBUG,WARN");
    }
}
