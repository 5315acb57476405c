//! Breaks a Millstream broker on purpose, and checks that it keeps its promises.

mod broker;
mod checker;
mod clock;
mod cycle;
mod disk;
mod history;
mod hostile;
mod jumps;
mod ledger;
mod load;
mod model;
mod moment;
mod record;
mod report;
mod requests;
mod rng;
mod soak;
mod squeeze;
mod violation;
mod wire;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use clock::Clock;
use cycle::Cycles;
use disk::{Disk, FileSystem, Image, Small};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use violation::Violation;

/// Breaks a Millstream broker on purpose while load runs, and checks that it keeps its promises.
///
/// Ends with status 1 at the first promise that was not kept, and says how to see it again; with
/// status 2 when it could not do its work.
#[derive(Parser)]
#[command(name = "millstream-torture")]
struct Cli {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Subcommand)]
enum Fault {
    /// SIGKILL at random moments: under load, during start and recovery, during a clean stop
    Kill(Options),
    /// A power cut at random moments: the disk keeps what had reached it. Needs root
    Power {
        /// The file system that the data directory lies on
        #[arg(long, value_enum, default_value = "ext4")]
        filesystem: FileSystem,
        #[command(flatten)]
        options: Options,
    },
    /// A wall clock that jumps back and forth. Needs a broker with the feature `sabotage`
    Clock(Options),
    /// One broker under load for long, whose memory, files, maps and threads must not grow; SIGKILL
    /// every few seconds near the end
    Soak(Options),
    /// Clients that stall, read slowly or never, send garbage, claim huge sizes and vanish
    Clients {
        /// How many at once
        #[arg(long, value_name = "N", default_value = "2000")]
        connections: usize,
        #[command(flatten)]
        options: Options,
    },
    /// A file system that is full for a while, again and again, and SIGKILL. Needs root
    Full {
        /// The file system that the data directory lies on
        #[arg(long, value_enum, default_value = "ext4")]
        filesystem: FileSystem,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args, Clone)]
struct Options {
    /// The broker
    #[arg(long, value_name = "PATH", default_value = "target/release/millstream")]
    millstream: PathBuf,
    /// Determines what is done when; drawn at random without it
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    seconds: u64,
    /// How many cycles to run at most
    #[arg(long, value_name = "N")]
    cycles: Option<u64>,
    /// Where the broker's data is put meanwhile (a directory of its own in there)
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Where what a violation leaves is kept
    #[arg(long, value_name = "DIR", default_value = "torture-failures")]
    keep: PathBuf,
    /// The summary as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// A kill comes every few seconds in a soak.
const SOAK_LOAD_MAX: Duration = Duration::from_secs(6);

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        end_on_signals();
        match self.fault {
            Fault::Kill(options) => {
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles("kill", options, scratch.path(), disk, 0)
            }
            Fault::Clock(options) => {
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles("clock", options, scratch.path(), disk, 0)
            }
            Fault::Soak(options) => {
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles("soak", options, scratch.path(), disk, 0)
            }
            Fault::Clients {
                connections,
                options,
            } => {
                raise_open_files()?;
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles("clients", options, scratch.path(), disk, connections)
            }
            Fault::Power {
                filesystem,
                options,
            } => {
                disk::own_mounts()?;
                let scratch = scratch(&options)?;
                let disk = Disk::Image(Image::new(scratch.path(), filesystem)?);
                cycles(&name("power", filesystem), options, scratch.path(), disk, 0)
            }
            Fault::Full {
                filesystem,
                options,
            } => {
                disk::own_mounts()?;
                let scratch = scratch(&options)?;
                let disk = Disk::Small(Small::new(scratch.path(), filesystem)?);
                cycles(&name("full", filesystem), options, scratch.path(), disk, 0)
            }
        }
    }
}

fn name(fault: &str, filesystem: FileSystem) -> String {
    match filesystem {
        FileSystem::Ext4 => format!("{fault} --filesystem ext4"),
        FileSystem::Xfs => format!("{fault} --filesystem xfs"),
    }
}

fn scratch(options: &Options) -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new()
        .prefix("millstream-torture-")
        .tempdir_in(&options.scratch);
    made.with_context(|| format!("a directory in {}", options.scratch.display()))
}

fn cycles(
    fault: &str,
    options: Options,
    scratch: &Path,
    disk: Disk,
    hostile: usize,
) -> anyhow::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(random_seed);
    let binary = options.millstream.canonicalize();
    let binary = binary.with_context(|| format!("{}", options.millstream.display()))?;
    let clock = match fault {
        "clock" => Clock::jumping(scratch.join("clock"))?,
        _ => Clock::default(),
    };
    let mut cycles = Cycles::new(binary, seed, disk, scratch.join("broker.log"), clock);
    cycles.hostile = hostile;
    let mut report = Report::new(fault, seed, Duration::from_secs(options.seconds));
    let limit = options.cycles.unwrap_or(u64::MAX);
    let mut result = Ok(());
    if fault == "soak" {
        cycles.load_max = SOAK_LOAD_MAX;
        result = soak::run(&mut cycles, &mut report);
    }
    while result.is_ok() && cycles.counts.cycles < limit && !report.is_over() && !interrupted() {
        result = cycles.run();
        report.progress(&cycles);
    }
    let violation = match result {
        Ok(()) => None,
        Err(error) => Some(error.downcast::<Violation>()?),
    };
    report.finish(&cycles, violation.as_ref(), options.json);
    let Some(_) = violation else {
        return Ok(ExitCode::SUCCESS);
    };
    let kept = keep(&cycles, &options.keep, seed)?;
    eprintln!("kept: {}", kept.display());
    Ok(ExitCode::FAILURE)
}

/// Copies what there is to look at.
fn keep(cycles: &Cycles, to: &Path, seed: u64) -> anyhow::Result<PathBuf> {
    let to = to.join(format!(
        "seed-{seed}-cycle-{}",
        cycles.counts.cycles.saturating_sub(1)
    ));
    std::fs::create_dir_all(&to)?;
    for log in [cycles.log.clone(), cycles.log.with_extension("before")] {
        if let Some(name) = log.file_name() {
            let _ = std::fs::copy(&log, to.join(name));
        }
    }
    cycles.disk.keep(&to)?;
    Ok(to.canonicalize()?)
}

/// Up to what this process may have.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` outlives both calls, which take nothing else by reference.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    anyhow::ensure!(result == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

fn random_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.expect("a clock after 1970").as_nanos() as u64;
    rng::mix(nanos) % 1_000_000_000
}

fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

fn end_on_signals() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::SeqCst);
    }
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler does nothing but store to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}
