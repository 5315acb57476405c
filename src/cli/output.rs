//! Standard output: buffered, locked, and allowed to be closed by its reader.

use crate::cli::exit::{Exit, Failure};
use anstream::ColorChoice;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How headings look.
pub const BOLD: anstyle::Style = anstyle::Style::new().bold();
const BUFFER_BYTES: usize = 64 * 1024;

/// A line of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// Whether it is a heading.
    pub is_heading: bool,
}

impl Line {
    /// A heading.
    pub fn heading(text: impl Into<String>) -> Line {
        let text = text.into();
        Line {
            text,
            is_heading: true,
        }
    }
}

impl<T: Into<String>> From<T> for Line {
    fn from(text: T) -> Line {
        Line {
            text: text.into(),
            is_heading: false,
        }
    }
}

/// The reader of standard output has gone away (`millstream consume … | head`).
///
/// Not a failure: the command stops and the exit status is 0.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed by its reader")]
pub struct ReaderGone;

/// The command failed and has said why, on standard output: only the exit status is left to set.
#[derive(Debug, thiserror::Error)]
#[error("see standard output")]
pub struct AlreadyTold;

/// Standard output, locked for as long as this lives. What was written is flushed by
/// [`flush`](Output::flush) only: a command that fails half-way flushes what it has first.
pub struct Output {
    inner: BufWriter<StdoutLock<'static>>,
    styled: bool,
    terminal: bool,
}

impl Output {
    /// Locks standard output.
    pub fn new() -> Output {
        let stdout = io::stdout().lock();
        let styled = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
        let terminal = io::IsTerminal::is_terminal(&stdout);
        Output {
            inner: BufWriter::with_capacity(BUFFER_BYTES, stdout),
            styled,
            terminal,
        }
    }

    /// Whether escape codes for colours and weight are welcome (a terminal, and no `NO_COLOR`).
    pub fn is_styled(&self) -> bool {
        self.styled
    }

    /// Whether a person is looking at it, rather than a pipe or a file.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes `bytes`. Fails with [`ReaderGone`] if the reader has closed it.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.inner.write_all(bytes).map_err(stdout_error)
    }

    /// Writes `line` and a newline. Fails with [`ReaderGone`] if the reader has closed it.
    pub fn line(&mut self, line: &str) -> anyhow::Result<()> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes lines; headings in bold, where that is welcome.
    pub fn print(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        for line in lines {
            if line.is_heading && self.styled {
                self.line(&format!("{BOLD}{}{BOLD:#}", line.text))?;
            } else {
                self.line(&line.text)?;
            }
        }
        Ok(())
    }

    /// Writes `value` as JSON over several lines.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// Writes what was done: a line for each success as `line` says, or with `json` an array of all.
    /// Fails afterwards with everything that failed.
    pub fn done<T: Serialize>(
        &mut self,
        results: impl IntoIterator<Item = anyhow::Result<T>>,
        json: bool,
        line: impl Fn(&T) -> String,
    ) -> anyhow::Result<()> {
        let (done, failures) = sort_out(results);
        if json {
            self.json(&done)?;
        } else {
            done.iter().try_for_each(|one| self.line(&line(one)))?;
        }
        self.flush()?;
        all_or_nothing_failed(failures)
    }

    /// Hands everything written so far to the reader. Fails with [`ReaderGone`] if there is none.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.inner.flush().map_err(stdout_error)
    }
}

/// Writes `line` to standard error. That it cannot be written is not a failure.
pub fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Runs `job`; `tell` is called once while it runs, if it takes longer than `patience`.
pub fn tell_if_slow<T>(
    patience: Duration,
    tell: impl FnOnce() + Send + 'static,
    job: impl FnOnce() -> T,
) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tell();
        }
    });
    let result = job();
    drop(done);
    result
}

/// What succeeded, and why the rest did not.
pub fn sort_out<T>(
    results: impl IntoIterator<Item = anyhow::Result<T>>,
) -> (Vec<T>, Vec<anyhow::Error>) {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(error) => failures.push(error),
        }
    }
    (done, failures)
}

/// A bar on standard error that fills up to `length` as `template` says, if a person looks at it.
pub fn progress_bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Success if nothing failed; otherwise everything that did, in one error. Its exit status is theirs, if
/// they agree.
pub fn all_or_nothing_failed(failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
    let Some(first) = failures.first().map(Exit::of) else {
        return Ok(());
    };
    let agree = failures.iter().all(|error| Exit::of(error) == first);
    let exit = if agree { first } else { Exit::Failed };
    let lines: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
    Err(Failure::new(exit, lines.join("\n  and: ")).into())
}

fn stdout_error(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ReaderGone.into();
    }
    anyhow::Error::new(error).context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_job_is_told_of_while_it_runs_and_a_quick_one_is_not() {
        let (told, is_told) = mpsc::channel();
        let tell = move || told.send(()).expect("the job waits for it");
        tell_if_slow(Duration::ZERO, tell, || {
            is_told.recv().expect("it is told of")
        });
        let (told, is_told) = mpsc::channel();
        let tell = move || told.send(()).expect("the test waits for it");
        tell_if_slow(Duration::MAX, tell, || ());
        assert!(is_told.recv().is_err(), "dropped without having been used");
    }
}
