//! `millstream verify`: is every byte of a data directory, or of other logs, what it should be?

mod repair;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::output::{self, AlreadyTold, Output};
use crate::cli::words;
use crate::engine::data_dir::LOCK_FILE;
use crate::engine::verify::{Finding, PartitionJob, Plan, is_data_dir, plan};
use crate::io::file;
use crate::log::check::verify::{Severity, Totals};
use crate::log::segment;

/// `millstream verify …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads all that is there and changes nothing. No broker must run on it. Each finding is a line: an \
error, or a note on what a crash leaves behind and the next start repairs. The exit status is 1 when \
there are errors, 2 when the command line makes no sense, else 0.

With --repair, batches that cannot be read, and missing segments, are given up: empty batches stand for \
their offsets, and consumers move over them. Torn tails are cut, wrong indexes rebuilt, journals \
written back. Each file that is changed is first kept in `repaired.<time>` in the data directory. What was \
done is told, a line each; then all is verified again, and the exit status is 1 only if errors are left: \
a damaged catalog is not mended. Done again, it changes nothing.

Of a log that Kafka wrote, and of a single segment, every batch must be sound, and offsets and leader \
epochs must not go back; gaps between offsets are taken for a compaction's. Only the segments are \
read, none of Kafka's other files. Batches of magic 0 and 1 are not read: they are errors.")]
pub struct Args {
    /// The broker's data directory; or a partition's directory, a segment (*.log) or a log directory,
    /// Kafka's own too
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Decompress and read the records of every batch too
    #[arg(long)]
    records: bool,
    /// Mend what is damaged: give up what cannot be read, so that all else can; needs the broker's data
    /// directory
    #[arg(long)]
    repair: bool,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Print errors only: no notes, no summary, no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Checks what the paths name.
pub fn run(args: Args) -> anyhow::Result<()> {
    let started = Instant::now();
    args.paths.iter().try_for_each(|path| check_kind(path))?;
    if args.repair {
        repair::prepare(&args)?;
    }
    let _locks = lock_all(&args.paths)?;
    if args.repair {
        repair::run(&args)?;
    }
    let plan = plan(&args.paths);
    let bar = progress_bar(&plan, args.quiet);
    let mut printer = Printer {
        out: Output::new(),
        bar: bar.clone(),
        json: args.json,
        quiet: args.quiet,
        errors: 0,
        notes: 0,
    };
    let mut totals = Totals::default();
    let printed = printer.print_all(&plan.findings).and_then(|()| {
        check_all(&plan.jobs, args.records, &bar, |(found, findings)| {
            totals += found;
            printer.print_all(&findings)
        })
    });
    bar.finish_and_clear();
    printed?;
    if !args.quiet {
        let summary = printer.summary(&plan, &totals, started.elapsed().as_secs_f64());
        printer.out.line(&summary)?;
    }
    printer.out.flush()?;
    if printer.errors > 0 {
        return Err(AlreadyTold.into());
    }
    Ok(())
}

fn check_kind(path: &Path) -> anyhow::Result<()> {
    let is_segment = segment::base_of(path, "log").is_some();
    if path.is_dir() || (path.is_file() && is_segment) {
        return Ok(());
    }
    bail!(
        "{} is neither a directory nor a segment (20 digits and .log)",
        path.display()
    )
}

/// Takes the locks of the data directories that the paths are or lie in.
fn lock_all(paths: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    let data_dirs: BTreeSet<PathBuf> = paths.iter().filter_map(|path| data_dir_of(path)).collect();
    let locks = data_dirs.iter().filter_map(|dir| lock(dir).transpose());
    locks.collect()
}

/// A segment lies two levels below.
fn data_dir_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let mut dirs = path.ancestors().take(3);
    dirs.find(|dir| is_data_dir(dir)).map(Path::to_owned)
}

/// Takes the lock of a data directory that has one; it is given back when the file is closed.
fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let path = dir.join(LOCK_FILE);
    let shown = path.display();
    let file = match file::open_for_reading(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open {shown}"))?,
    };
    match file::lock(&file) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!(
            "a broker is running on {} (it holds {shown}); stop it first",
            dir.display()
        ),
        other => other.with_context(|| format!("cannot lock {shown}"))?,
    }
    Ok(Some(file))
}

fn progress_bar(plan: &Plan, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bytes = plan.jobs.iter().map(|job| job.bytes).sum();
    let template = "{bar:40} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta}";
    output::progress_bar(bytes, template)
}

/// Runs the jobs on all cores and hands on what they found, in the jobs' order.
fn check_all(
    jobs: &[PartitionJob],
    unpack: bool,
    bar: &ProgressBar,
    mut done: impl FnMut((Totals, Vec<Finding>)) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get());
    let (results, found): (Vec<_>, Vec<_>) = jobs.iter().map(|_| mpsc::channel()).unzip();
    let queue = Mutex::new(jobs.iter().zip(results).rev().collect::<Vec<_>>());
    let waiting = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let take = || waiting().pop();
        while let Some((job, result)) = take() {
            // After a failure it is not needed.
            let _ = result.send(job.run(unpack, &|bytes| bar.inc(bytes)));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(work);
        }
        let result = found.iter().try_for_each(|found| done(found.recv()?));
        waiting().clear();
        result
    })
}

/// Prints what was found.
struct Printer {
    out: Output,
    bar: ProgressBar,
    json: bool,
    quiet: bool,
    errors: u64,
    notes: u64,
}

impl Printer {
    fn print_all(&mut self, findings: &[Finding]) -> anyhow::Result<()> {
        for finding in findings {
            match finding.fault.severity() {
                Severity::Error => self.errors += 1,
                Severity::Note => self.notes += 1,
            }
            if self.quiet && finding.fault.severity() == Severity::Note {
                continue;
            }
            let line = if self.json {
                json_of(finding).to_string()
            } else {
                line_of(finding)
            };
            let out = &mut self.out;
            self.bar
                .suspend(|| out.line(&line).and_then(|()| out.flush()))?;
        }
        Ok(())
    }

    fn summary(&self, plan: &Plan, totals: &Totals, seconds: f64) -> String {
        let (errors, notes) = (self.errors, self.notes);
        if self.json {
            return json!({
                "type": "summary", "topics": plan.topics(), "partitions": plan.jobs.len(),
                "segments": totals.segments, "batches": totals.batches, "records": totals.records,
                "bytes": totals.bytes, "reserved_bytes": totals.reserved_bytes,
                "seconds": seconds, "errors": errors, "notes": notes,
            })
            .to_string();
        }
        let notes_text = words::count(notes, "note");
        let verdict = match (errors, notes) {
            (0, 0) => "sound".to_owned(),
            (0, _) => format!("sound, {notes_text}"),
            _ => format!("NOT SOUND: {}, {notes_text}", words::count(errors, "error")),
        };
        let counts = [
            words::count(plan.topics() as u64, "topic"),
            words::count(plan.jobs.len() as u64, "partition"),
            words::count(totals.segments, "segment"),
            words::count(totals.batches, "batch"),
            words::count(totals.records, "record"),
            words::size(totals.bytes),
        ];
        format!("{} in {seconds:.1} s: {verdict}", counts.join(", "))
    }
}

fn line_of(finding: &Finding) -> String {
    let fault = &finding.fault;
    let mut line = format!("{}: {}", word_of(finding), finding.path.display());
    if let Some(position) = finding.position {
        line += &format!(": byte {position}");
    }
    if let Some(offset) = finding.offset {
        line += &format!(": offset {offset}");
    }
    line += &format!(": {fault} ({})", fault.meaning());
    line.replace(|c: char| c.is_control(), " ")
}

fn json_of(finding: &Finding) -> Value {
    let fault = &finding.fault;
    json!({
        "type": word_of(finding), "finding": fault.name(), "path": finding.path.to_string_lossy(),
        "position": finding.position, "offset": finding.offset,
        "what": fault.to_string(), "meaning": fault.meaning(),
    })
}

fn word_of(finding: &Finding) -> &'static str {
    match finding.fault.severity() {
        Severity::Error => "error",
        Severity::Note => "note",
    }
}
