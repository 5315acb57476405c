//! Cycles of start, check, load and fault, on one data directory.

use crate::broker::Broker;
use crate::checker;
use crate::disk::Disk;
use crate::load::{self, Context, Load};
use crate::model::Model;
use crate::moment::Moment;
use crate::rng::Rng;
use crate::violation::{Kind, Violation};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const START_MAX: Duration = Duration::from_millis(60);
const LOAD_MAX: Duration = Duration::from_millis(450);
const STOP_MAX: Duration = Duration::from_millis(40);
/// The log of a broker is begun anew with each cycle in so many.
const LOG_CYCLES: u64 = 2;

/// Everything that goes on from cycle to cycle.
pub struct Cycles {
    pub binary: PathBuf,
    pub seed: u64,
    pub disk: Disk,
    pub log: PathBuf,
    pub model: Arc<Model>,
    pub counts: Counts,
    load: Option<Load>,
    /// The first cut since the last check.
    cut: Option<u64>,
}

/// How often what was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub cycles: u64,
    pub faults_at_start: u64,
    pub faults_under_load: u64,
    pub faults_in_stop: u64,
    pub clean_stops: u64,
}

/// What one cycle does; the seed and the cycle's number determine it.
#[derive(Debug)]
struct Plan {
    flags: Vec<String>,
    /// Faults that strike before the broker is ready.
    at_start: Vec<Moment>,
    load: Moment,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Fault,
    /// A fault, so long after a clean stop has begun.
    FaultInStop(Duration),
    CleanStop,
}

impl Cycles {
    pub fn new(binary: PathBuf, seed: u64, disk: Disk, log: PathBuf) -> Cycles {
        let model = Arc::new(Model::default());
        Cycles {
            binary,
            seed,
            disk,
            log,
            load: Some(Load::new(&model)),
            model,
            counts: Counts::default(),
            cut: None,
        }
    }

    /// Runs the next cycle.
    ///
    /// # Errors
    /// A [`Violation`], or what the harness could not do.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let number = self.counts.cycles;
        self.counts.cycles += 1;
        let mut rng = Rng::fork(self.seed, number);
        let plan = Plan::draw(&mut rng);
        if number.is_multiple_of(LOG_CYCLES) {
            let _ = std::fs::rename(&self.log, self.log.with_extension("before"));
        }
        for moment in &plan.at_start {
            let mut broker = self.spawn(&plan)?;
            moment.wait(&self.disk.data_dir(), || broker.check_running().is_err());
            self.strike(broker)?;
            self.counts.faults_at_start += 1;
        }
        let mut broker = self.spawn(&plan)?;
        let address = broker.wait_until_ready()?;
        self.model.strike(false);
        let checked = checker::check(&self.model, address, self.cut);
        checked.map_err(|violation| or_died(violation, &mut broker))?;
        let prepared = load::prepare(&self.model, address, &mut rng);
        prepared.map_err(|violation| or_died(violation, &mut broker))?;
        self.load_until_fault(&plan, broker, address, &mut rng)
    }

    fn spawn(&self, plan: &Plan) -> anyhow::Result<Broker> {
        let data_dir = self.disk.data_dir();
        Ok(Broker::spawn(
            &self.binary,
            &data_dir,
            &plan.flags,
            &self.log,
        )?)
    }

    fn load_until_fault(
        &mut self,
        plan: &Plan,
        mut broker: Broker,
        address: SocketAddr,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        let context = Context {
            model: Arc::clone(&self.model),
            broker: address,
        };
        let load = self.load.take().expect("the load of the cycle before");
        let running = load.start(&context, rng, self.cut.take());
        let data_dir = self.disk.data_dir();
        plan.load
            .wait(&data_dir, || self.model.violation().is_some());
        let died = broker.check_running();
        let ended = match (died, self.model.violation()) {
            (Err(died), _) => Err(died.into()),
            (_, Some(violation)) => Err(violation.into()),
            _ => self.end(plan.ending, broker),
        };
        self.model.strike(true);
        if ended.is_ok() {
            self.load = Some(running.join());
        }
        match self.model.violation() {
            Some(violation) if ended.is_ok() => Err(violation.into()),
            _ => ended,
        }
    }

    fn end(&mut self, ending: Ending, broker: Broker) -> anyhow::Result<()> {
        self.model.strike(true);
        match ending {
            Ending::Fault => {
                self.counts.faults_under_load += 1;
                self.strike(broker)
            }
            Ending::FaultInStop(delay) => {
                self.counts.faults_in_stop += 1;
                broker.terminate();
                std::thread::sleep(delay);
                self.strike(broker)
            }
            Ending::CleanStop => {
                self.counts.clean_stops += 1;
                broker.terminate();
                Ok(broker.wait_stopped()?)
            }
        }
    }

    /// The fault itself: SIGKILL, or a cut of the power.
    fn strike(&mut self, broker: Broker) -> anyhow::Result<()> {
        self.model.strike(true);
        match &mut self.disk {
            Disk::Directory(_) => broker.kill(),
            Disk::Image(image) => {
                let cut = self.model.cut();
                image.cut()?;
                broker.kill();
                image.go_on_with_clone()?;
                self.cut.get_or_insert(cut);
            }
        }
        Ok(())
    }
}

impl Plan {
    fn draw(rng: &mut Rng) -> Plan {
        let at_start = [0, 0, 0, 1, 1, 2][rng.below(6)];
        let at_start = (0..at_start)
            .map(|_| Moment::draw(rng, START_MAX))
            .collect();
        let flags = draw_flags(rng);
        let load = Moment::draw(rng, LOAD_MAX);
        let ending = match rng.below(10) {
            0 => Ending::CleanStop,
            1 | 2 => Ending::FaultInStop(rng.time(STOP_MAX)),
            _ => Ending::Fault,
        };
        Plan {
            flags,
            at_start,
            load,
            ending,
        }
    }
}

/// Settings that make everything happen often, and that differ from start to start.
fn draw_flags(rng: &mut Rng) -> Vec<String> {
    let flags = [
        ("--cores", *rng.pick(&["1", "2", "2", "3"])),
        ("--checkpoint-bytes", *rng.pick(&["4KiB", "64KiB", "1MiB"])),
        ("--segment-grow-bytes-max", *rng.pick(&["64KiB", "1MiB"])),
        ("--retention-check-interval-ms", *rng.pick(&["20", "200"])),
        ("--log-cleaner-backoff-ms", *rng.pick(&["10", "100"])),
        ("--group-initial-rebalance-delay-ms", "0"),
        ("--group-min-session-timeout-ms", "0"),
        ("--offsets-topic-num-partitions", "5"),
        ("--shutdown-timeout-ms", *rng.pick(&["50", "500"])),
        ("--auto-create-topics", "false"),
        ("--http", "off"),
    ];
    let flags = flags.into_iter();
    flags
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// A check that gets no answer because the broker is gone is better told by its last words.
fn or_died(violation: Violation, broker: &mut Broker) -> Violation {
    if violation.kind != Kind::Broker {
        return violation;
    }
    std::thread::sleep(Duration::from_millis(100));
    match broker.check_running() {
        Ok(()) => violation,
        Err(died) => died,
    }
}
