//! The latency of a client that does nothing wrong, beside loads that could hold it up.

mod groups;
mod http;
mod loads;
mod partitions;
mod probe;
mod row;
mod scene;
mod slow;

use crate::Options;
use crate::broker::Broker;
use crate::report::{Found, Report};
use crate::violation::{Kind, Violation};
use anyhow::Context;
use clap::Args;
use http::Turns;
use loads::Round;
use probe::Latency;
use row::{Memory, Row};
use scene::Scene;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long all rounds take together, without an option.
const SECONDS: u64 = 240;
/// How much of a round's time is load; in the rest memory is given back.
const LOAD_SHARE: f64 = 0.7;
/// Room for partitions that loads have besides those that are asked for.
const PARTITIONS_BESIDE: i32 = 20_000;
/// Less says nothing.
const LOAD_MIN: Duration = Duration::from_secs(3);
const REST_MIN: Duration = Duration::from_secs(2);
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The probe begins before the load and ends after it.
const PROBE_ALONE: Duration = Duration::from_millis(300);

/// What the loads and their judgement may be told.
#[derive(Args)]
pub struct Steady {
    /// These loads alone
    #[arg(value_name = "LOAD")]
    names: Vec<String>,
    /// How many partitions there are in the loads that need many; 90,000 take their time
    #[arg(long, value_name = "N", default_value = "10000")]
    partitions: i32,
    /// The most memory of its own that the broker may take, in MiB
    #[arg(long, value_name = "MIB", default_value = "2048")]
    memory_max: u64,
    /// The longest that the probe may wait for an answer: so long that a busy machine does not reach it
    #[arg(long, value_name = "MS", default_value = "1000")]
    stall_ms: u64,
    #[command(flatten)]
    options: Options,
}

/// What a run has beside its settings.
struct Run<'a> {
    steady: &'a Steady,
    binary: PathBuf,
    scratch: &'a Path,
}

/// Runs the loads one after the other, each beside a broker of its own. Status 1 if one of them finds
/// something; those behind it run all the same.
///
/// # Errors
/// What the harness could not do.
pub fn run(steady: &Steady) -> anyhow::Result<ExitCode> {
    let options = &steady.options;
    let mut rounds = loads::chosen(&steady.names)?;
    rounds.truncate(options.cycles.unwrap_or(u64::MAX) as usize);
    let scratch = crate::scratch(options)?;
    let run = Run {
        steady,
        binary: options.binary()?,
        scratch: scratch.path(),
    };
    let mut report = Report::new("steady", options.seed.unwrap_or(0), options.limit(SECONDS));
    let mut rows = Vec::new();
    let mut found = None;
    let ends = Instant::now() + options.limit(SECONDS);
    for (at, round) in rounds.iter().enumerate() {
        if crate::interrupted() {
            break;
        }
        let left = ends.saturating_duration_since(Instant::now());
        let share = left / (rounds.len() - at) as u32;
        match run.round(round, share) {
            Ok((row, violation)) => {
                report.line(&row.to_string());
                rows.push(row);
                found = found.or(violation.map(|violation| (round.name, violation)));
            }
            Err(error) => {
                let violation = error.downcast::<Violation>()?;
                report.line(&format!("{}: VIOLATION: {violation}", round.name));
                found = found.or(Some((round.name, violation)));
            }
        }
    }
    let failed = found.is_some();
    let found = found.map(|(name, violation)| Found {
        violation,
        place: name.to_owned(),
        again: format!("steady {name} --partitions {}", steady.partitions),
    });
    report.attach("loads", rows.iter().map(Row::json).collect());
    if failed {
        run.keep_log()?;
    }
    report.finish(row::totals(&rows), found.as_ref(), options.json);
    if !options.json {
        print!("{}", row::table(&rows));
    }
    Ok(ExitCode::from(u8::from(failed)))
}

impl Run<'_> {
    /// One round on a new broker. A violation comes beside what was measured, or alone when there is
    /// nothing more to measure.
    fn round(&self, round: &Round, share: Duration) -> anyhow::Result<(Row, Option<Violation>)> {
        let started = Instant::now();
        let (mut broker, scene) = self.start()?;
        let prepared = probe::prepare(scene.kafka).and_then(|()| round.prepare(&scene));
        prepared.map_err(refused)?;
        let time = share.saturating_sub(started.elapsed());
        let load_time = time.mul_f64(LOAD_SHARE).max(LOAD_MIN);
        let before = Turns::read(scene.http)?;
        let mut memory = Memory::new(broker.own_memory_bytes());
        let (latency, notes) = beside(round, &scene, load_time, || {
            memory.saw(broker.own_memory_bytes());
        });
        broker.check_running()?;
        let after = Turns::read(scene.http);
        let rest = time.mul_f64(1.0 - LOAD_SHARE).max(REST_MIN);
        std::thread::sleep(rest);
        memory.after = broker.own_memory_bytes();
        let (notes, said) = match notes.into_iter().collect::<anyhow::Result<Vec<String>>>() {
            Ok(notes) => (notes, None),
            Err(error) => (Vec::new(), Some(refused(error))),
        };
        let turn = after.ok().and_then(|after| after.longest_since(&before));
        let row = Row::new(round, &latency, turn, memory, notes);
        // That the probe is not answered is worse than what a load says.
        let violation = self.judge(&row, latency.error).or(said);
        Ok((row, violation))
    }

    fn start(&self) -> anyhow::Result<(Broker, Scene)> {
        let data = self.scratch.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        // The disk is no part of what is measured; nor is the time for which a new group waits.
        let flags = [
            "--http=127.0.0.1:0".to_owned(),
            "--cores=1".to_owned(),
            "--durability=os".to_owned(),
            "--group-initial-rebalance-delay-ms=0".to_owned(),
            format!("--connections-max={}", slow::CONNECTIONS + 100),
            format!(
                "--partitions-max={}",
                self.steady.partitions + PARTITIONS_BESIDE
            ),
        ];
        let mut broker = Broker::spawn(&self.binary, &data, &flags, &self.log(), None, None)?;
        let kafka = broker.wait_until_ready()?;
        let http = broker
            .http()
            .context("the broker does not say where its pages are")?;
        Ok((broker, Scene::new(kafka, http, self.steady.partitions)))
    }

    fn judge(&self, row: &Row, error: Option<String>) -> Option<Violation> {
        let (stall, memory_max) = (self.steady.stall_ms, self.steady.memory_max);
        let text = if let Some(error) = error {
            format!("the probe: {error}")
        } else if row.worst > Duration::from_millis(stall) {
            let worst = row.worst.as_millis();
            format!("the probe waited {worst} ms for an answer, longer than {stall} ms")
        } else if row.memory.peak >> 20 > memory_max {
            let peak = row.memory.peak >> 20;
            format!("{peak} MiB of memory, more than {memory_max} MiB")
        } else {
            return None;
        };
        Some(Violation::new(Kind::Broker, text))
    }

    fn log(&self) -> PathBuf {
        self.scratch.join("broker.log")
    }

    fn keep_log(&self) -> anyhow::Result<()> {
        let to = self.steady.options.keep.join("steady");
        std::fs::create_dir_all(&to)?;
        std::fs::copy(self.log(), to.join("broker.log"))?;
        eprintln!("kept: {}", to.canonicalize()?.display());
        Ok(())
    }
}

/// The probe's latency beside the loads, and what each of them says. `look` is called all the time.
fn beside(
    round: &Round,
    scene: &Scene,
    time: Duration,
    mut look: impl FnMut(),
) -> (Latency, Vec<anyhow::Result<String>>) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe::measure(scene.kafka, &end));
        std::thread::sleep(PROBE_ALONE);
        let loads: Vec<_> = round
            .loads
            .iter()
            .map(|load| scope.spawn(|| load.run(scene)))
            .collect();
        let until = Instant::now() + time;
        while Instant::now() < until && !probe.is_finished() && !crate::interrupted() {
            look();
            std::thread::sleep(LOOK_EVERY);
        }
        scene.stop();
        while !loads.iter().all(|load| load.is_finished()) {
            look();
            std::thread::sleep(LOOK_EVERY);
        }
        let notes = loads.into_iter().map(|load| load.join().expect("no panic"));
        let notes = notes.collect();
        std::thread::sleep(PROBE_ALONE);
        end.store(true, Ordering::SeqCst);
        (probe.join().expect("no panic"), notes)
    })
}

/// A broker that refuses what a load needs is broken: what a load expects to be refused is no error of its.
fn refused(error: anyhow::Error) -> Violation {
    let text = |error| Violation::new(Kind::Broker, format!("the load: {error:#}"));
    error.downcast::<Violation>().unwrap_or_else(text)
}
