//! What is wrong with a running broker, and what to do about it: found in its metrics, its settings and its disks, by
//! the command line's `doctor` and by the broker itself, for its page.
//!
//! - here: what is looked at, and what a finding is; `checks`: what is found; `metrics`: metrics read back from
//!   their page; `words`: how numbers are told.

pub mod checks;
pub mod metrics;
pub mod words;

use self::metrics::Metrics;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A group that is further behind is a finding, unless something else is asked for.
pub const LAG_SECONDS_MAX: f64 = 300.0;
/// Less free disk than this share is a finding, unless something else is asked for.
pub const DISK_FREE_MIN: f64 = 0.1;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost, refused or stopped until somebody acts.
    Error,
    /// It leads there, or clients are held back.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// The check's name, for programs.
    pub check: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub todo: String,
}

impl Finding {
    /// Something is lost, refused or stopped.
    pub fn error(check: &'static str, what: impl Into<String>, todo: &str) -> Finding {
        Finding::new(Severity::Error, check, what, todo)
    }

    /// Something leads to an error.
    pub fn warning(check: &'static str, what: impl Into<String>, todo: &str) -> Finding {
        Finding::new(Severity::Warning, check, what, todo)
    }

    pub(super) fn note(check: &'static str, what: impl Into<String>, todo: &str) -> Finding {
        Finding::new(Severity::Note, check, what, todo)
    }

    pub(super) fn new(
        severity: Severity,
        check: &'static str,
        what: impl Into<String>,
        todo: &str,
    ) -> Finding {
        Finding {
            severity,
            check,
            what: what.into(),
            todo: todo.to_owned(),
        }
    }
}

/// What the broker answered.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Whether there are metrics at all.
    pub has_metrics: bool,
    /// The metrics at first, and a moment later.
    pub before: Metrics,
    pub after: Metrics,
    /// The broker's settings that are numbers, by the knob's name.
    pub knobs: BTreeMap<&'static str, f64>,
    pub disks: Vec<Disk>,
    /// Seconds since 1970 on this host's clock.
    pub now_seconds: f64,
    /// A group that is further behind is a finding.
    pub lag_seconds_max: f64,
    /// Less free disk than this share is a finding.
    pub disk_free_min: f64,
}

impl Evidence {
    /// How much a counter grew, and what it was, by one of its labels.
    fn growth(&self, name: &str, label: &str) -> Vec<(&str, f64, f64)> {
        let before = self.before.by(name, label);
        let after = self.after.by(name, label).into_iter();
        let grown = after.map(|(which, now)| {
            let then = before.get(which).copied().unwrap_or_default();
            (which, now - then, now)
        });
        grown.collect()
    }
}

/// A disk with a data directory.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The broker whose it is.
    pub node: i32,
    pub path: String,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// `None` where it is not known.
    pub usable_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
}
