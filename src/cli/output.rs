//! Standard output: buffered, locked, and allowed to be closed by its reader.

use std::io::{self, BufWriter, StdoutLock, Write};

use anstream::ColorChoice;

const BUFFER_BYTES: usize = 64 * 1024;

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

    /// Writes `bytes`. Fails with [`ReaderGone`] if nobody reads any more.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.inner.write_all(bytes).map_err(stdout_error)
    }

    /// Writes `line` and a newline. Fails with [`ReaderGone`] if nobody reads any more.
    pub fn line(&mut self, line: &str) -> anyhow::Result<()> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Hands everything written so far to the reader. Fails with [`ReaderGone`] if there is none.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.inner.flush().map_err(stdout_error)
    }
}

/// Says `line` on standard error. Nobody to hear it is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Success if nothing failed; otherwise everything that did, in one error.
pub fn all_or_nothing_failed(failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow::bail!("{}", lines.join("\n  and: "))
}

fn stdout_error(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    }
}
