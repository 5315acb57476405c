//! Breaks a Millstream broker on purpose, and checks that it keeps its promises.

mod broker;
mod checker;
mod clock;
mod corners;
mod cycle;
mod disk;
mod extents;
mod history;
mod hostile;
mod ioerror;
mod jumps;
mod ledger;
mod load;
mod medium;
mod model;
mod moment;
mod once;
mod pairs;
mod plan;
mod record;
mod report;
mod requests;
mod rng;
mod soak;
mod squeeze;
mod steady;
mod story;
mod torn;
mod violation;
mod wire;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use clock::Clock;
use cycle::Cycles;
use disk::{Disk, FileSystem, Image, Small};
use ioerror::IoErrors;
use ioerror::case::Case;
use once::Once;
use report::{Found, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use steady::Steady;
use torn::Torn;
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
    Kill {
        /// A file system of its own for the data directory. Needs root
        #[arg(long, value_enum)]
        filesystem: Option<FileSystem>,
        #[command(flatten)]
        options: Options,
    },
    /// SIGKILL and power cuts at random moments: after a cut the disk has what had reached it. Needs root
    Power {
        /// The file system that the data directory lies on
        #[arg(long, value_enum, default_value = "ext4")]
        filesystem: FileSystem,
        /// The medium refuses writes for a while, so that syncs fail; needs FUSE
        #[arg(long)]
        failed_syncs: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Message ids and conditions, over SIGKILL and, with a file system of its own, power cuts
    Once {
        /// Cuts the power too, of this file system. Needs root
        #[arg(long, value_enum)]
        filesystem: Option<FileSystem>,
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
    /// The latency of a client that does nothing wrong, beside loads that could hold it up
    Steady(Steady),
    /// Images of a killed broker's files: blocks behind the last durable points cut, zeroed, repeated
    /// and swapped, and bits flipped before them
    Torn {
        /// How many images to try of what each kill leaves
        #[arg(long, value_name = "N", default_value = "100")]
        per_kill: usize,
        /// How many images to try at most
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        images: u64,
        /// Where images are put: in memory they are opened faster
        #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
        images_at: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Every file operation that a small load reaches fails, one in each run. Needs a broker that is
    /// built with the feature `sabotage`
    Ioerror {
        /// This case alone, as a violation names it
        #[arg(long, value_name = "CASE")]
        only: Option<Case>,
        /// How many cases to run side by side
        #[arg(long, value_name = "N", default_value = "4")]
        jobs: usize,
        #[command(flatten)]
        options: Options,
    },
    /// Scripted corners of storage, in one order each. Most need root
    Corners {
        /// These alone
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Serves a medium that refuses writes; `power --failed-syncs` starts this by itself
    #[command(name = medium::SUBCOMMAND, hide = true)]
    Medium { at: PathBuf, file: PathBuf },
    /// A file system that is full for a while, again and again, and SIGKILL. Needs root
    Full {
        /// The file system that the data directory lies on
        #[arg(long, value_enum, default_value = "ext4")]
        filesystem: FileSystem,
        #[command(flatten)]
        options: Options,
    },
}

/// What all faults have in common.
#[derive(Args, Clone)]
pub struct Options {
    /// The broker
    #[arg(long, value_name = "PATH", default_value = "target/release/millstream")]
    millstream: PathBuf,
    /// Determines what is done when; drawn at random without it
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on at most; 60 without it, and `ioerror` to its end
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// How many cycles (or cases) to run at most
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

impl Options {
    fn binary(&self) -> anyhow::Result<PathBuf> {
        let binary = self.millstream.canonicalize();
        binary.with_context(|| format!("{}", self.millstream.display()))
    }

    fn limit(&self, seconds: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(seconds))
    }
}

/// How long cycles go on.
const SECONDS: u64 = 60;
/// A kill comes every few seconds in a soak.
const SOAK_LOAD_MAX: Duration = Duration::from_secs(6);
/// How often the progress of workers is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The fault with a load of its own.
const ONCE: &str = "once";

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
        if !matches!(self.fault, Fault::Medium { .. }) {
            end_on_signals();
        }
        match self.fault {
            Fault::Kill {
                filesystem: None,
                options,
            } => {
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles("kill", options, scratch.path(), disk, 0)
            }
            Fault::Kill {
                filesystem: Some(filesystem),
                options,
            } => {
                disk::own_mounts()?;
                let scratch = scratch(&options)?;
                let mut image = Image::new(scratch.path(), filesystem, false)?;
                image.loses_power = false;
                let disk = Disk::Image(image);
                cycles(&name("kill", filesystem), options, scratch.path(), disk, 0)
            }
            Fault::Once {
                filesystem: None,
                options,
            } => {
                let scratch = scratch(&options)?;
                let disk = Disk::Directory(scratch.path().join("data"));
                cycles(ONCE, options, scratch.path(), disk, 0)
            }
            Fault::Once {
                filesystem: Some(filesystem),
                options,
            } => {
                disk::own_mounts()?;
                let scratch = scratch(&options)?;
                let disk = Disk::Image(Image::new(scratch.path(), filesystem, false)?);
                cycles(&name(ONCE, filesystem), options, scratch.path(), disk, 0)
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
                failed_syncs,
                options,
            } => {
                disk::own_mounts()?;
                let scratch = scratch(&options)?;
                let disk = Disk::Image(Image::new(scratch.path(), filesystem, failed_syncs)?);
                let mut name = name("power", filesystem);
                if failed_syncs {
                    name += " --failed-syncs";
                }
                cycles(&name, options, scratch.path(), disk, 0)
            }
            Fault::Corners { names, options } => corners::run(&options, &names),
            Fault::Medium { at, file } => {
                medium::run(&at, &file)?;
                Ok(ExitCode::SUCCESS)
            }
            Fault::Steady(steady) => {
                raise_open_files()?;
                steady::run(&steady)
            }
            Fault::Torn {
                per_kill,
                images,
                images_at,
                options,
            } => {
                let scratch = scratch(&options)?;
                let images_at = scratch_in(&images_at)?;
                let (data, at) = (scratch.path().join("data"), images_at.path().to_owned());
                let disk = Disk::Torn(Torn::new(data, at, per_kill, images));
                cycles("torn", options, scratch.path(), disk, 0)
            }
            Fault::Ioerror {
                only,
                jobs,
                options,
            } => {
                let scratch = scratch(&options)?;
                ioerrors(options, scratch.path(), only, jobs)
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
    let filesystem = match filesystem {
        FileSystem::Ext4 => "ext4",
        FileSystem::Xfs => "xfs",
        FileSystem::Overlay => "overlay",
    };
    format!("{fault} --filesystem {filesystem}")
}

fn scratch(options: &Options) -> anyhow::Result<tempfile::TempDir> {
    scratch_in(&options.scratch)
}

fn scratch_in(dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new()
        .prefix("millstream-torture-")
        .tempdir_in(dir);
    made.with_context(|| format!("a directory in {}", dir.display()))
}

fn cycles(
    fault: &str,
    options: Options,
    scratch: &Path,
    disk: Disk,
    hostile: usize,
) -> anyhow::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(random_seed);
    let clock = match fault {
        "clock" => Clock::jumping(scratch.join("clock"))?,
        _ => Clock::default(),
    };
    let log = scratch.join("broker.log");
    let mut cycles = Cycles::new(options.binary()?, seed, disk, log, clock);
    cycles.hostile = hostile;
    if fault.starts_with(ONCE) {
        cycles.once = Some(Once::new());
    }
    let mut report = Report::new(fault, seed, options.limit(SECONDS));
    let limit = options.cycles.unwrap_or(u64::MAX);
    let mut result = Ok(());
    let is_done = |cycles: &Cycles| match &cycles.disk {
        Disk::Torn(torn) => torn.images() >= torn.images_max,
        _ => false,
    };
    if fault == "soak" {
        cycles.load_max = SOAK_LOAD_MAX;
        result = soak::run(&mut cycles, &mut report);
    }
    while result.is_ok()
        && cycles.counts.cycles < limit
        && !is_done(&cycles)
        && !report.is_over()
        && !interrupted()
    {
        result = cycles.run();
        report.progress(&cycles.progress());
    }
    if result.is_ok() && cycles.once.is_some() {
        result = cycles.check_at_the_end();
    }
    let cycle = cycles.counts.cycles.saturating_sub(1);
    let violation = match result {
        Ok(()) => None,
        Err(error) => Some(Found {
            violation: error.downcast::<Violation>()?,
            place: format!("cycle {cycle}"),
            again: format!("{fault} --seed {seed} --cycles {}", cycle + 1),
        }),
    };
    report.finish(cycles.rows(), violation.as_ref(), options.json);
    if !options.json {
        print!("{}", cycles.soak.table());
    }
    let Some(_) = violation else {
        return Ok(ExitCode::SUCCESS);
    };
    let kept = keep(&cycles, &options.keep, seed)?;
    eprintln!("kept: {}", kept.display());
    Ok(ExitCode::FAILURE)
}

fn ioerrors(
    options: Options,
    scratch: &Path,
    only: Option<Case>,
    jobs: usize,
) -> anyhow::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(random_seed);
    let mut report = Report::new("ioerror", seed, options.limit(u64::MAX));
    let mut errors = match IoErrors::new(options.binary()?, scratch, seed) {
        Ok(errors) => errors,
        Err(error) => {
            let found = Found {
                violation: error.downcast::<Violation>()?,
                place: "the runs without a fault".to_owned(),
                again: "ioerror --cycles 0".to_owned(),
            };
            report.finish(Vec::new(), Some(&found), options.json);
            return Ok(ExitCode::FAILURE);
        }
    };
    match only {
        Some(case) => errors.cases = vec![case],
        None => errors
            .cases
            .truncate(options.cycles.unwrap_or(u64::MAX) as usize),
    }
    let deadline = report.deadline();
    let stop = || interrupted() || deadline.is_some_and(|deadline| Instant::now() > deadline);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| scope.spawn(|| errors.work(stop)))
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(LOOK_EVERY);
            report.progress(&errors.progress());
        }
    });
    let failed = errors.take_failed();
    let kept = failed.as_ref().map(|(case, _)| errors.dir(case));
    let found = match failed {
        None => None,
        Some((case, error)) => Some(Found {
            violation: error.downcast::<Violation>()?,
            again: format!("ioerror --only {case}"),
            place: format!("case {case}"),
        }),
    };
    report.finish(errors.rows(), found.as_ref(), options.json);
    let Some(kept) = kept else {
        return Ok(ExitCode::SUCCESS);
    };
    let to = options.keep.join(kept.file_name().unwrap_or_default());
    disk::copy(&kept, &to)?;
    eprintln!("kept: {}", to.canonicalize()?.display());
    Ok(ExitCode::FAILURE)
}

/// Copies what there is to look at.
fn keep(cycles: &Cycles, to: &Path, seed: u64) -> anyhow::Result<PathBuf> {
    let to = to.join(format!(
        "seed-{seed}-cycle-{}",
        cycles.counts.cycles.saturating_sub(1)
    ));
    std::fs::create_dir_all(&to)?;
    let story = cycles.story.path.clone();
    for log in [
        cycles.log.clone(),
        cycles.log.with_extension("before"),
        story,
    ] {
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
