//! One fault of a file operation: which life of the broker, which operation, what it says.

use crate::rng::Rng;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The kinds of operation that the broker's `io::fault` knows, and how each is made to fail.
const KINDS: [(&str, &[(i32, How)]); 6] = [
    ("open", &[(EIO, Once), (ENOSPC, Once), (EMFILE, On)]),
    ("write", &WRITES),
    ("reserve", &[(EIO, Once), (ENOSPC, Once), (ENOSPC, On)]),
    ("sync", &[(EIO, Once), (ENOSPC, Once), (EIO, On)]),
    ("rename", &[(EIO, Once), (ENOSPC, Once), (EIO, On)]),
    ("remove", &[(EIO, Once), (EIO, On)]),
];
const WRITES: [(i32, How); 5] = [
    (EIO, Once),
    (ENOSPC, Once),
    (EIO, On),
    (0, Short),
    (ENOSPC, Short),
];
use How::{On, Once, Short};
use libc::{EIO, EMFILE, ENOSPC};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Once,
    /// All of the kind after it fail too.
    On,
    /// Half of a write is done; the rest fails, unless the error is 0.
    Short,
}

/// The first life of a broker begins with an empty directory and ends with SIGKILL; the second goes
/// on from there, and ends with a clean stop; the third begins after that, and ends with SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    First,
    Second,
    Third,
}

pub const LIVES: [Life; 3] = [Life::First, Life::Second, Life::Third];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub life: Life,
    pub op: &'static str,
    pub nth: usize,
    pub errno: i32,
    pub how: How,
}

impl Case {
    /// What the broker takes as `MILLSTREAM_FAULT`, with the file for its trace.
    pub fn variable(&self, trace: &Path) -> String {
        let Case { op, nth, errno, .. } = self;
        let (how, trace) = (self.how.name(), trace.display());
        format!("trace={trace},op={op},nth={nth},errno={errno},how={how}")
    }

    /// Whether everything must go on without a restart: nothing but the one request was touched.
    pub fn heals(&self) -> bool {
        let touched_nothing = matches!(self.op, "open" | "reserve");
        touched_nothing && self.how == Once || self.is_harmless()
    }

    /// A write that is short and goes on is no error at all.
    pub fn is_harmless(&self) -> bool {
        self.how == Short && self.errno == 0
    }

    /// Whether pages that were to be synced may be lost: after EIO the kernel may drop them.
    pub fn may_lose_pages(&self) -> bool {
        self.op == "sync" && self.errno == EIO
    }

    /// Whether reads may fail for as long as the broker lives.
    pub fn may_keep_from_reading(&self) -> bool {
        self.op == "open" && self.how == On
    }
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = match self.life {
            Life::First => 1,
            Life::Second => 2,
            Life::Third => 3,
        };
        let (op, nth, errno, how) = (self.op, self.nth, self.errno, self.how.name());
        write!(to, "{life}:{op}:{nth}:{errno}:{how}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let wrong = || format!("`{text}` is no case; they look like 2:sync:17:5:once");
        let parts: Vec<&str> = text.split(':').collect();
        let &[life, op, nth, errno, how] = parts.as_slice() else {
            return Err(wrong());
        };
        let life = match life {
            "1" => Life::First,
            "2" => Life::Second,
            "3" => Life::Third,
            _ => return Err(wrong()),
        };
        let kind = KINDS.iter().find(|(name, _)| *name == op);
        let how = [Once, On, Short].into_iter().find(|own| own.name() == how);
        Ok(Case {
            life,
            op: kind.ok_or_else(wrong)?.0,
            nth: nth.parse().map_err(|_| wrong())?,
            errno: errno.parse().map_err(|_| wrong())?,
            how: how.ok_or_else(wrong)?,
        })
    }
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Once => "once",
            On => "on",
            Short => "short",
        }
    }
}

/// How many operations of a kind a trace has.
pub fn count(trace: &str, op: &str) -> usize {
    let kinds = trace.lines().filter_map(|line| line.split(' ').next());
    kinds.filter(|kind| *kind == op).count()
}

/// Whether the trace says that the fault struck.
pub fn has_struck(trace: &str) -> bool {
    trace.lines().any(|line| line.ends_with(" struck"))
}

/// A case for every operation of the lives that the traces have, in an order that the seed says.
pub fn all(traces: &[String; 3], rng: &mut Rng) -> Vec<Case> {
    let mut cases = Vec::new();
    for (life, trace) in LIVES.into_iter().zip(traces) {
        for (op, ways) in KINDS {
            for nth in 0..count(trace, op) {
                let case = |&(errno, how)| Case {
                    life,
                    op,
                    nth,
                    errno,
                    how,
                };
                cases.extend(ways.iter().map(case));
            }
        }
    }
    for last in (1..cases.len()).rev() {
        cases.swap(last, rng.below(last + 1));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "open main\nsync worker-0\nsync shard-1 struck\nwrite shard-0\n";

    #[test]
    fn every_operation_of_a_trace_has_its_cases_and_each_can_be_named() {
        assert_eq!(count(TRACE, "sync"), 2);
        assert!(has_struck(TRACE));
        assert!(!has_struck("sync shard-0\n"));
        let traces = [TRACE, "rename main\n", "remove main\n"].map(str::to_owned);
        let cases = all(&traces, &mut Rng::new(1));
        assert_eq!(cases.len(), 3 + 2 * 3 + 5 + 3 + 2);
        for case in &cases {
            assert_eq!(case.to_string().parse(), Ok(case.clone()));
        }
        assert!("4:sync:1:5:once".parse::<Case>().is_err());
        assert!("1:fsync:1:5:once".parse::<Case>().is_err());
    }
}
