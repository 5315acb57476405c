//! A fault of the whole process, so that the harness in `tools/torture` can make one file operation
//! of a broker fail, whichever thread it is on.
//!
//! Only with the feature `sabotage`, which no release build can have. The variable
//! `MILLSTREAM_FAULT` has words with values, separated by commas:
//!
//! | Word | Value |
//! |---|---|
//! | `trace` | a file that gets a line for each operation: its kind, its thread, and ` struck` if it failed |
//! | `op` | the kind that fails, by the name of [`Op`] in lower case |
//! | `nth` | which of them, from 0 |
//! | `errno` | the error, as a number |
//! | `how` | `once`; `on`: all of the kind after it fail too; `short`: the write takes half of its bytes, and the rest of it fails unless `errno` is 0; `kill`: the process ends by SIGKILL instead, before the operation is done |

use super::Op;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    op: Op,
    nth: usize,
    errno: i32,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Once,
    On,
    Short,
    Kill,
}

/// What an operation is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails(i32),
    /// The write takes half of its bytes.
    Halves,
    /// The process ends before the operation.
    Kills,
}

struct Faults {
    plan: Option<Plan>,
    trace: Option<File>,
    /// Operations of the plan's kind so far.
    met: usize,
}

/// Fails when this operation is the one that the variable names.
pub fn check(op: Op) -> io::Result<()> {
    match verdict(op) {
        Verdict::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        Verdict::Passes | Verdict::Halves => Ok(()),
        Verdict::Kills => die(),
    }
}

/// How many of `bytes` the next write(2) takes.
pub fn check_write(bytes: usize) -> io::Result<usize> {
    match verdict(Op::Write) {
        Verdict::Passes => Ok(bytes),
        Verdict::Halves => Ok((bytes / 2).max(1)),
        Verdict::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        Verdict::Kills => die(),
    }
}

fn verdict(op: Op) -> Verdict {
    let Some(faults) = faults() else {
        return Verdict::Passes;
    };
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let verdict = faults.judge(op);
    write_line(&mut faults, op, verdict);
    verdict
}

/// Ends the process as `kill -9` does: nothing is cleaned up or written any more.
fn die() -> ! {
    // SAFETY: both calls take numbers only.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("nothing runs after SIGKILL")
}

impl Faults {
    fn judge(&mut self, op: Op) -> Verdict {
        let Some(plan) = self.plan.filter(|plan| plan.op == op) else {
            return Verdict::Passes;
        };
        self.met += 1;
        match (self.met - 1).checked_sub(plan.nth) {
            None => Verdict::Passes,
            Some(0) if plan.how == How::Short => Verdict::Halves,
            Some(_) if plan.how == How::Kill => Verdict::Kills,
            // The rest of the write that was short.
            Some(1) if plan.how == How::Short && plan.errno != 0 => Verdict::Fails(plan.errno),
            Some(0) => Verdict::Fails(plan.errno),
            Some(_) if plan.how == How::On => Verdict::Fails(plan.errno),
            Some(_) => Verdict::Passes,
        }
    }
}

fn write_line(faults: &mut MutexGuard<'_, Faults>, op: Op, verdict: Verdict) {
    let struck = verdict != Verdict::Passes;
    if struck {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::warn!(?op, ?verdict, %backtrace, "a fault was asked for");
    }
    if let Some(trace) = &mut faults.trace {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?").to_owned();
        let op = format!("{op:?}").to_lowercase();
        let line = format!("{op} {name}{}\n", if struck { " struck" } else { "" });
        // In one write(2), so that a kill leaves no half of a line.
        let _ = trace.write_all(line.as_bytes());
    }
}

/// What the variable says, read once.
///
/// # Panics
/// On words that make no sense: a run without its fault would prove nothing.
fn faults() -> Option<&'static Mutex<Faults>> {
    static FAULTS: OnceLock<Option<Mutex<Faults>>> = OnceLock::new();
    let read = || {
        let words = std::env::var("MILLSTREAM_FAULT").ok()?;
        let faults =
            parse(&words).unwrap_or_else(|| panic!("MILLSTREAM_FAULT={words} is no fault"));
        Some(Mutex::new(faults))
    };
    FAULTS.get_or_init(read).as_ref()
}

fn parse(words: &str) -> Option<Faults> {
    let (mut trace, mut op, mut nth, mut errno, mut how) = (None, None, 0, 0, How::Once);
    for word in words.split(',') {
        match word.split_once('=')? {
            ("trace", path) => trace = Some(File::create(path).ok()?),
            ("op", name) => op = Some(parse_op(name)?),
            ("nth", number) => nth = number.parse().ok()?,
            ("errno", number) => errno = number.parse().ok()?,
            ("how", "once") => how = How::Once,
            ("how", "on") => how = How::On,
            ("how", "short") => how = How::Short,
            ("how", "kill") => how = How::Kill,
            _ => return None,
        }
    }
    let plan = op.map(|op| Plan {
        op,
        nth,
        errno,
        how,
    });
    let met = 0;
    Some(Faults { plan, trace, met })
}

fn parse_op(name: &str) -> Option<Op> {
    Some(match name {
        "open" => Op::Open,
        "write" => Op::Write,
        "reserve" => Op::Reserve,
        "sync" => Op::Sync,
        "rename" => Op::Rename,
        "remove" => Op::Remove,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(words: &str, op: Op) -> Vec<Verdict> {
        let mut faults = parse(words).unwrap();
        (0..4).map(|_| faults.judge(op)).collect()
    }

    #[test]
    fn the_nth_operation_of_the_kind_fails_and_perhaps_all_after_it() {
        use Verdict::{Fails, Passes};
        let once = "op=sync,nth=1,errno=5";
        assert_eq!(verdicts(once, Op::Sync), [Passes, Fails(5), Passes, Passes]);
        assert_eq!(verdicts(once, Op::Write), [Passes; 4]);
        let on = "op=sync,nth=2,errno=28,how=on";
        let expected = [Passes, Passes, Fails(28), Fails(28)];
        assert_eq!(verdicts(on, Op::Sync), expected);
    }

    #[test]
    fn a_short_write_goes_on_or_fails_at_its_rest() {
        use Verdict::{Fails, Halves, Passes};
        let goes_on = "op=write,nth=1,errno=0,how=short";
        assert_eq!(
            verdicts(goes_on, Op::Write),
            [Passes, Halves, Passes, Passes]
        );
        let fails = "op=write,nth=1,errno=28,how=short";
        assert_eq!(
            verdicts(fails, Op::Write),
            [Passes, Halves, Fails(28), Passes]
        );
    }

    #[test]
    fn the_process_ends_at_the_nth_operation_of_the_kind() {
        use Verdict::{Kills, Passes};
        let kill = "op=rename,nth=2,how=kill";
        let expected = [Passes, Passes, Kills, Kills];
        assert_eq!(verdicts(kill, Op::Rename), expected);
        assert_eq!(verdicts(kill, Op::Sync), [Passes; 4]);
    }

    #[test]
    fn words_that_make_no_sense_are_no_fault() {
        for words in ["", "op=fsync", "nth=x", "how=often", "seed=4"] {
            assert!(parse(words).is_none(), "{words}");
        }
    }
}
