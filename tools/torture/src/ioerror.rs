//! Every file operation that a load reaches fails once, one after the other: a broker, an operation,
//! an error, and what must be there afterwards.

pub mod case;
mod script;

use crate::broker::Broker;
use crate::checker;
use crate::clock::Clock;
use crate::disk;
use crate::load::{Context, judge};
use crate::model::{Model, add, count};
use crate::rng::Rng;
use crate::squeeze;
use crate::torn::image::Image;
use crate::torn::{damage, durable};
use crate::violation::{Violation, violated};
use anyhow::ensure;
use case::{Case, LIVES, Life};
use script::{Extent, Leave, Script};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Settings that make everything happen often.
const FLAGS: [&str; 10] = [
    "--checkpoint-bytes=4KiB",
    "--journal-bytes=4MiB",
    "--segment-grow-bytes-max=64KiB",
    "--log-cleaner-backoff-ms=10",
    "--log-cleaner-dedupe-buffer-bytes=16MiB",
    "--group-initial-rebalance-delay-ms=0",
    "--offsets-topic-num-partitions=2",
    "--shutdown-timeout-ms=50",
    "--auto-create-topics=false",
    "--http=off",
];
/// One case in so many goes on with the whole load, and another start.
const MORE_IN: usize = 8;
/// The loss of pages is like the first cut of the power.
const CUT: u64 = 1;
const WITHOUT_FAULTS: Leave<'static> = Leave {
    to_refuse: false,
    to_refuse_reads: &|| false,
};
/// So a broker tells of what it contains until the next start: a partition that it could not open or
/// read, and serves all others.
const CONTAINED: [&str; 4] = [
    "this partition cannot be opened and is offline",
    "this partition takes no writes",
    "this partition cannot be read",
    "the log is damaged",
];

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counts {
    pub cases: AtomicU64,
    /// Faults that were reached.
    pub struck: AtomicU64,
    /// Brokers that did not start because of one, and said so.
    pub refused_to_start: AtomicU64,
    pub records_acknowledged: AtomicU64,
    pub records_checked: AtomicU64,
}

/// All cases, and where they run.
pub struct IoErrors {
    binary: PathBuf,
    scratch: PathBuf,
    pub cases: Vec<Case>,
    /// What the second and the third life go on from.
    left: Vec<Left>,
    /// Operations of all lives.
    operations: u64,
    next: AtomicUsize,
    pub counts: Counts,
    failed: Mutex<Option<(Case, anyhow::Error)>>,
}

/// What a life without a fault has left.
struct Left {
    data: PathBuf,
    model: Arc<Model>,
    script: Script,
}

/// One broker's directory and all that is known of it.
struct Run<'a> {
    errors: &'a IoErrors,
    dir: &'a Path,
    model: Arc<Model>,
    script: Script,
}

/// How a life that may meet a fault ended.
enum Ended {
    Served,
    RefusedToStart,
}

impl IoErrors {
    /// Counts what there is to fail, by three lives without a fault.
    ///
    /// # Errors
    /// A [`Violation`], or what the harness could not do.
    pub fn new(binary: PathBuf, scratch: &Path, seed: u64) -> anyhow::Result<IoErrors> {
        let mut errors = IoErrors {
            binary,
            scratch: scratch.to_owned(),
            cases: Vec::new(),
            left: Vec::new(),
            operations: 0,
            next: AtomicUsize::new(0),
            counts: Counts::default(),
            failed: Mutex::default(),
        };
        let dir = scratch.join("without-fault");
        let (left, traces) = Run::new(&errors, &dir).trace_lives()?;
        ensure!(
            case::count(&traces[0], "write") > 0 && case::count(&traces[1], "sync") > 0,
            "the broker writes no trace of its file operations: build it with the feature `sabotage`"
        );
        let operations = traces.iter().map(|trace| trace.lines().count() as u64);
        errors.operations = operations.sum();
        errors.cases = case::all(&traces, &mut Rng::new(seed));
        errors.left = left;
        Ok(errors)
    }

    /// Runs cases until there are no more, one fails, or `stop` says so. May run on several threads.
    pub fn work(&self, stop: impl Fn() -> bool) {
        while !stop() && self.failed().is_none() {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(case) = self.cases.get(number) else {
                return;
            };
            if let Err(error) = self.run(case, number.is_multiple_of(MORE_IN)) {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert((case.clone(), error));
                return;
            }
        }
    }

    fn failed(&self) -> Option<Case> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(|(case, _)| case.clone())
    }

    /// The case that failed, if one did, and why.
    pub fn take_failed(&self) -> Option<(Case, anyhow::Error)> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How far it has come, in a few words.
    pub fn progress(&self) -> String {
        format!(
            "{} of {} cases",
            count(&self.counts.cases),
            self.cases.len()
        )
    }

    /// What was done, for the summary.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counts;
        vec![
            ("operations of the load", self.operations),
            ("cases there are", self.cases.len() as u64),
            ("cases", count(&counts.cases)),
            ("faults that struck", count(&counts.struck)),
            ("refused to start", count(&counts.refused_to_start)),
            ("records acknowledged", count(&counts.records_acknowledged)),
            ("records checked", count(&counts.records_checked)),
        ]
    }

    /// Where the data and the log of a case are.
    pub fn dir(&self, case: &Case) -> PathBuf {
        self.scratch.join(case.to_string().replace(':', "-"))
    }

    /// Runs one case. Its directory is removed if nothing was found.
    fn run(&self, case: &Case, more: bool) -> anyhow::Result<()> {
        let dir = self.dir(case);
        let mut run = Run::new(self, &dir);
        run.case(case, more)?;
        add(&self.counts.cases, 1);
        let tally = &run.model.tally;
        add(
            &self.counts.records_acknowledged,
            count(&tally.acknowledged),
        );
        add(&self.counts.records_checked, count(&tally.checked));
        Ok(std::fs::remove_dir_all(dir)?)
    }
}

impl<'a> Run<'a> {
    fn new(errors: &'a IoErrors, dir: &'a Path) -> Run<'a> {
        let model = Arc::new(Model::new(Clock::default()));
        Run {
            errors,
            dir,
            script: Script::new(&model),
            model,
        }
    }

    /// The lives without a fault: what those before the last leave, and the operations of each.
    fn trace_lives(mut self) -> anyhow::Result<(Vec<Left>, [String; 3])> {
        std::fs::create_dir_all(self.dir)?;
        let mut traces = <[String; 3]>::default();
        let mut left = Vec::new();
        for (life, trace) in LIVES.into_iter().zip(&mut traces) {
            let fault = format!("trace={}", self.trace().display());
            let (broker, address) = self.start(life, Some(&fault))?;
            checker::check(&self.model, address, None)?;
            self.serve(address, extent(life), WITHOUT_FAULTS)?;
            end(life, broker)?;
            *trace = std::fs::read_to_string(self.trace())?;
            left.push(self.leave(life)?);
        }
        Ok((left, traces))
    }

    fn leave(&self, life: Life) -> anyhow::Result<Left> {
        let model = Arc::new(self.model.fork());
        let data = self.dir.join(format!("left-by-{life:?}"));
        disk::copy(&self.data(), &data)?;
        Ok(Left {
            data,
            script: self.script.fork(&model),
            model,
        })
    }

    fn go_on_from(&mut self, left: &Left) -> anyhow::Result<()> {
        self.model = Arc::new(left.model.fork());
        self.script = left.script.fork(&self.model);
        disk::copy(&left.data, &self.data())
    }

    fn case(&mut self, case: &Case, more: bool) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.dir)?;
        let before = match case.life {
            Life::First => None,
            Life::Second => self.errors.left.first(),
            Life::Third => self.errors.left.get(1),
        };
        if let Some(left) = before {
            self.go_on_from(left)?;
        }
        let ended = self.life_with_fault(case)?;
        self.check_log()?;
        let struck = case::has_struck(&std::fs::read_to_string(self.trace())?);
        add(&self.errors.counts.struck, u64::from(struck));
        if let Ended::RefusedToStart = ended {
            add(&self.errors.counts.refused_to_start, 1);
        }
        let cut = struck && case.may_lose_pages() && self.lose_pages(case)?;
        self.check_afterwards(cut.then_some(CUT), more)
    }

    /// After a sync that failed, what was not durable may never reach the disk. Whether any of it
    /// does not.
    fn lose_pages(&self, case: &Case) -> anyhow::Result<bool> {
        let image = Image::read(&self.data())?;
        let parts = durable::parts(&image, &self.model);
        let torn = damage::tear(&image, &parts, &mut Rng::new(case.nth as u64));
        std::fs::write(self.dir.join("lost"), &torn.what)?;
        torn.image.write(&self.data())?;
        Ok(!torn.what.is_empty())
    }

    /// The life whose operation fails. It may refuse to start, and must serve if it does.
    fn life_with_fault(&mut self, case: &Case) -> anyhow::Result<Ended> {
        let mut broker = self.spawn(case.life, Some(&case.variable(&self.trace())))?;
        let address = match broker.wait_until_ready() {
            Ok(address) => address,
            Err(violation) if says_why(&violation, case) => return Ok(Ended::RefusedToStart),
            Err(violation) => return Err(violation.into()),
        };
        let log = self.log();
        let contains = || contains_something(&log);
        let leave = Leave {
            to_refuse: !case.is_harmless(),
            to_refuse_reads: &|| case.may_keep_from_reading() || contains(),
        };
        self.serve(address, extent(case.life), leave)?;
        if case.heals() && !contains() {
            squeeze::wait_until_writable(&self.model, address)?;
        }
        broker.check_running()?;
        end(case.life, broker)?;
        Ok(Ended::Served)
    }

    /// A start without the fault has everything, and takes writes; with `more`, the whole load again.
    fn check_afterwards(&mut self, cut: Option<u64>, more: bool) -> anyhow::Result<()> {
        let (broker, address) = self.start(Life::First, None)?;
        checker::check(&self.model, address, cut)?;
        squeeze::wait_until_writable(&self.model, address)?;
        if !more {
            broker.kill();
            return Ok(());
        }
        self.serve(address, script::WHOLE, WITHOUT_FAULTS)?;
        broker.kill();
        let (broker, address) = self.start(Life::Second, None)?;
        checker::check(&self.model, address, cut)?;
        broker.terminate();
        Ok(broker.wait_stopped()?)
    }

    fn serve(
        &mut self,
        broker: SocketAddr,
        extent: Extent,
        leave: Leave<'_>,
    ) -> Result<(), Violation> {
        let model = Arc::clone(&self.model);
        let ended = self.script.run(&Context { model, broker }, extent, leave);
        let found = ended.err().and_then(|end| judge(end, &self.model));
        found.map_or(Ok(()), Err)
    }

    fn start(&self, life: Life, fault: Option<&str>) -> anyhow::Result<(Broker, SocketAddr)> {
        let mut broker = self.spawn(life, fault)?;
        let address = broker.wait_until_ready()?;
        Ok((broker, address))
    }

    fn spawn(&self, life: Life, fault: Option<&str>) -> anyhow::Result<Broker> {
        let mut command = Command::new(&self.errors.binary);
        // Of every strike it would cost more than the rest of the run.
        command.env_remove("RUST_BACKTRACE");
        command.envs(fault.map(|fault| ("MILLSTREAM_FAULT", fault)));
        let own = flags_of(life);
        let flags: Vec<String> = FLAGS
            .iter()
            .chain(&own)
            .map(|flag| flag.to_string())
            .collect();
        let spawned = Broker::spawn_with(command, &self.data(), &flags, &self.log());
        Ok(spawned?)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }

    fn trace(&self) -> PathBuf {
        self.dir.join("trace")
    }

    /// Nothing panicked, on whatever thread.
    fn check_log(&self) -> anyhow::Result<()> {
        let log = std::fs::read_to_string(self.log())?;
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            let panicked = || violated!(Broker, "{line}");
            return Ok(panicked()?);
        }
        Ok(())
    }
}

/// What a life meets.
fn extent(life: Life) -> Extent {
    match life {
        Life::First => script::WHOLE,
        Life::Second => script::JOURNALED,
        Life::Third => script::SHORT,
    }
}

/// With one shard several partitions share a journal; the number may change from life to life. A round
/// of retention flushes what waits, too: in the other lives nothing but the commit loop does.
fn flags_of(life: Life) -> [&'static str; 2] {
    match life {
        Life::Second => ["--cores=1", "--retention-check-interval-ms=20"],
        Life::First | Life::Third => ["--cores=2", "--retention-check-interval-ms=300000"],
    }
}

fn end(life: Life, broker: Broker) -> Result<(), Violation> {
    match life {
        Life::First | Life::Third => {
            broker.kill();
            Ok(())
        }
        Life::Second => {
            broker.terminate();
            broker.wait_stopped()
        }
    }
}

fn contains_something(log: &Path) -> bool {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    CONTAINED.iter().any(|line| log.contains(line))
}

/// Whether a broker that did not start named the error that it met.
fn says_why(violation: &Violation, case: &Case) -> bool {
    let error = format!("(os error {})", case.errno);
    violation
        .text
        .starts_with("it does not start (Ok(ExitStatus(unix_wait_status(256))))")
        && violation.text.contains(&error)
}
