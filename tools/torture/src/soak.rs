//! One broker under mixed load for long: what it takes of the machine must not grow.

use crate::broker::Broker;
use crate::checker;
use crate::cycle::Cycles;
use crate::load::{self, Context};
use crate::plan::draw_flags;
use crate::report::Report;
use crate::rng::Rng;
use crate::squeeze;
use crate::violation::{Violation, violated};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long load runs before everything is checked and measured.
const ROUND: Duration = Duration::from_secs(3);
/// How many topics are replaced before each round, so that all are young after a few and the broker
/// has come to rest.
const TOPICS_REPLACED: usize = 2;
/// The share of the time after which the broker is killed again and again.
const KILLS_FROM: f64 = 0.8;
/// Fewer rounds say nothing about growth.
const ROUNDS_MIN: usize = 12;
/// So the names begin of threads that the kernel lends to a ring for a while.
const KERNEL_THREAD: &str = "iou-";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Memory,
    Descriptors,
    Maps,
    Threads,
}

const FIGURES: [Figure; 4] = [
    Figure::Memory,
    Figure::Descriptors,
    Figure::Maps,
    Figure::Threads,
];

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Figure::Memory => "memory of its own, KiB",
            Figure::Descriptors => "file descriptors",
            Figure::Maps => "maps",
            Figure::Threads => "threads",
        }
    }

    /// How much more of it the later half of the rounds may have than the earlier one: a share, and
    /// what topics that come and go make of difference.
    fn tolerance(self, earlier: u64) -> u64 {
        match self {
            Figure::Memory => earlier / 10 + (8 << 10),
            Figure::Descriptors => earlier / 4 + 24,
            Figure::Maps => earlier / 4 + 128,
            Figure::Threads => 1,
        }
    }

    /// Of the process, from /proc.
    fn measure(self, broker: &Broker) -> u64 {
        let process = format!("/proc/{}", broker.pid());
        let entries = |dir: &str| std::fs::read_dir(format!("{process}/{dir}"));
        match self {
            Figure::Memory => broker.own_memory_bytes() / 1024,
            Figure::Maps => {
                let maps = std::fs::read_to_string(format!("{process}/maps"));
                maps.map_or(0, |maps| maps.lines().count() as u64)
            }
            Figure::Descriptors => entries("fd").map_or(0, |entries| entries.count() as u64),
            Figure::Threads => {
                let names = entries("task").into_iter().flatten().flatten();
                let names = names.filter_map(|task| read_name(&task.path()));
                names
                    .filter(|name| !name.starts_with(KERNEL_THREAD))
                    .count() as u64
            }
        }
    }
}

fn read_name(task: &std::path::Path) -> Option<String> {
    std::fs::read_to_string(task.join("comm")).ok()
}

/// The figures after each round.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    samples: Vec<[u64; FIGURES.len()]>,
}

/// One figure over the whole run.
struct Growth {
    figure: Figure,
    first: u64,
    /// The least in each half of the rounds after the warm-up, which is a third of them: topics come
    /// and go, and what leaks never goes.
    earlier: u64,
    later: u64,
    most: u64,
}

/// Lets one broker work until it is time for kills.
///
/// # Errors
/// A [`Violation`], growth among them, or what the harness could not do.
pub fn run(cycles: &mut Cycles, report: &mut Report) -> anyhow::Result<()> {
    let mut rng = Rng::fork(cycles.seed, u64::MAX);
    let (dir, flags) = (cycles.disk.data_dir(), draw_flags(&mut rng));
    let mut broker = Broker::spawn(&cycles.binary, &dir, &flags, &cycles.log, None, None)?;
    let address = broker.wait_until_ready()?;
    cycles.model.strike(false);
    while report.share() < KILLS_FROM && !crate::interrupted() {
        round(cycles, &mut broker, address, &mut rng)?;
        let sample = FIGURES.map(|figure| figure.measure(&broker));
        cycles.soak.samples.push(sample);
        report.progress(&cycles.progress());
    }
    cycles.model.strike(true);
    broker.kill();
    Ok(cycles.soak.check()?)
}

fn round(
    cycles: &mut Cycles,
    broker: &mut Broker,
    address: SocketAddr,
    rng: &mut Rng,
) -> anyhow::Result<()> {
    let model = Arc::clone(&cycles.model);
    load::replace(&model, address, TOPICS_REPLACED)?;
    load::prepare(&model, address, load::LARGE, rng)?;
    let context = Context {
        model: Arc::clone(&model),
        broker: address,
    };
    let running = cycles.take_load().start(&context, rng, None, false);
    let until = std::time::Instant::now() + ROUND;
    while std::time::Instant::now() < until && model.violation().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let alive = broker.check_running();
    model.rest(true);
    cycles.give_load(running.join());
    model.rest(false);
    alive?;
    model.violation().map_or(Ok(()), Err)?;
    // What was acknowledged when it was appended is durable, and there to be read, with what follows.
    squeeze::wait_until_writable(&model, address)?;
    Ok(checker::check(&model, address, None)?)
}

impl Soak {
    fn growths(&self) -> Vec<Growth> {
        let steady = &self.samples[self.samples.len() / 3..];
        let (earlier, later) = steady.split_at(steady.len() / 2);
        let growth = |(at, figure): (usize, Figure)| {
            let of = |samples: &[[u64; FIGURES.len()]]| samples.iter().map(|all| all[at]).collect();
            let all: Vec<u64> = of(&self.samples);
            Growth {
                figure,
                first: all.first().copied().unwrap_or(0),
                earlier: least(of(earlier)),
                later: least(of(later)),
                most: all.into_iter().max().unwrap_or(0),
            }
        };
        FIGURES.into_iter().enumerate().map(growth).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        if self.samples.len() < ROUNDS_MIN {
            return Ok(());
        }
        for growth in self.growths() {
            let (name, earlier, later) = (growth.figure.name(), growth.earlier, growth.later);
            let tolerance = growth.figure.tolerance(earlier);
            if later > earlier + tolerance {
                violated!(
                    Broker,
                    "{name}: {later} or more in all later rounds, {earlier} in one of the earlier ones, \
                     which is more than {tolerance} of growth"
                );
            }
        }
        Ok(())
    }

    /// A table for docs/testing.md; nothing without rounds.
    pub fn table(&self) -> String {
        if self.samples.is_empty() {
            return String::new();
        }
        let rounds = self.samples.len();
        let mut table = format!(
            "| After {rounds} rounds | first | least, earlier | least, later | most | may grow by |\n\
             |---|---|---|---|---|---|\n"
        );
        for growth in self.growths() {
            let (first, earlier, later) = (growth.first, growth.earlier, growth.later);
            let (name, most) = (growth.figure.name(), growth.most);
            let tolerance = growth.figure.tolerance(earlier);
            table +=
                &format!("| {name} | {first} | {earlier} | {later} | {most} | {tolerance} |\n");
        }
        table
    }
}

fn least(values: Vec<u64>) -> u64 {
    values.into_iter().min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soak(memory: impl IntoIterator<Item = u64>) -> Soak {
        let samples = memory.into_iter().map(|kib| [kib, 100, 200, 4]);
        Soak {
            samples: samples.collect(),
        }
    }

    #[test]
    fn what_grows_all_the_time_is_found_and_what_comes_and_goes_is_not() {
        let leaks = soak((0..30).map(|round| 50_000 + round * 2_000));
        assert!(leaks.check().is_err());
        let wavers = soak((0..30).map(|round| 50_000 + round % 3 * 9_000));
        assert_eq!(wavers.check(), Ok(()));
    }

    #[test]
    fn growth_in_the_warm_up_counts_as_little_as_one_peak() {
        let warms = (0..30).map(|round| if round < 10 { round * 10_000 } else { 100_000 });
        assert_eq!(soak(warms).check(), Ok(()));
        let peaks = (0..30).map(|round| if round == 25 { 900_000 } else { 50_000 });
        assert_eq!(soak(peaks).check(), Ok(()));
    }

    #[test]
    fn a_figure_is_a_row() {
        let table = soak((0..30).map(|_| 50_000)).table();
        assert!(
            table.contains("| memory of its own, KiB | 50000 | 50000 | 50000 | 50000 | 13192 |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 2 + FIGURES.len());
        assert!(soak([]).table().is_empty());
    }
}
