//! Cycles of start, check, load and fault, on one data directory.

use crate::broker::Broker;
use crate::checker;
use crate::clock::Clock;
use crate::disk::{self, Disk};
use crate::hostile::Hostile;
use crate::jumps;
use crate::load::{self, Context, Load, Running, Scale};
use crate::model::{Model, count};
use crate::moment::{KillAt, Moment};
use crate::once::{Addresses, Once};
use crate::pairs;
use crate::plan::{self, Ending, Means, Plan, Strike};
use crate::rng::Rng;
use crate::soak::Soak;
use crate::squeeze;
use crate::story::Story;
use crate::torn::Kill;
use crate::violation::{Kind, Violation, violated};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How long clients misbehave in a cycle.
const SIEGE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// `--inflight-bytes-max`.
const INFLIGHT_BYTES_MAX: u64 = 256 << 20;
/// `--log-cleaner-dedupe-buffer-bytes`.
const DEDUPE_BYTES: u64 = 16 << 20;
const CONNECTION_BYTES_MAX: u64 = 200 << 10;
const OWN_BYTES: u64 = 128 << 20;
/// The log of a broker is begun anew with each cycle in so many.
const LOG_CYCLES: u64 = 2;

/// Everything that goes on from cycle to cycle.
pub struct Cycles {
    pub binary: PathBuf,
    pub seed: u64,
    pub disk: Disk,
    pub log: PathBuf,
    pub story: Story,
    pub model: Arc<Model>,
    pub counts: Counts,
    /// The load of message ids and conditions, in place of the other one.
    pub once: Option<Once>,
    /// How many clients misbehave while load runs.
    pub hostile: usize,
    pub hostile_met: Arc<AtomicU64>,
    /// Of the broker's own memory, while they did.
    pub memory_bytes_max: u64,
    /// What a soak measured before the first cycle.
    pub soak: Soak,
    /// The longest that load runs.
    pub load_max: Duration,
    load: Option<Load>,
    /// The first cut since the last check.
    cut: Option<u64>,
    /// The first cut since load ran.
    cut_of_load: Option<u64>,
}

/// How often what was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub cycles: u64,
    /// Cuts of the power; all other faults leave what was written.
    pub cuts: u64,
    /// Brokers that ended by themselves, at one of their file operations.
    pub kills_at_operations: u64,
    /// Cycles that began with an empty disk.
    pub young: u64,
    /// Writes that the medium refused.
    pub writes_refused: u64,
    pub faults_at_start: u64,
    pub faults_under_load: u64,
    pub faults_in_stop: u64,
    pub clean_stops: u64,
    pub times_full: u64,
    pub starts_full: u64,
    /// Loads that ended while the disk was full.
    pub rests_full: u64,
    pub jumps: u64,
    /// Segments that were written over an older one, as faults found them.
    pub recycled: u64,
}

impl Cycles {
    pub fn new(binary: PathBuf, seed: u64, disk: Disk, log: PathBuf, clock: Clock) -> Cycles {
        let model = Arc::new(Model::new(clock));
        Cycles {
            binary,
            seed,
            disk,
            story: Story::beside(&log),
            log,
            load: Some(Load::new(&model)),
            model,
            counts: Counts::default(),
            once: None,
            hostile: 0,
            hostile_met: Arc::default(),
            memory_bytes_max: 0,
            soak: Soak::default(),
            load_max: plan::LOAD_MAX,
            cut: None,
            cut_of_load: None,
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
        let mut plan = Plan::draw(&mut rng, number, self.means());
        if let Disk::Torn(_) = &self.disk {
            // What is written many times should be small.
            plan.flags.push("--journal-bytes=4MiB".to_owned());
            plan.load = Moment::draw(&mut rng, plan::SHORT_LOAD_MAX);
        }
        if let Disk::Small(_) = &self.disk {
            // Each flush wants a checkpoint, which fails where there is no space. A round of retention
            // flushes what waits; sometimes nothing but the commit loop is to do that.
            let often = *rng.pick(&["20", "300000"]);
            plan::set(&mut plan.flags, "--retention-check-interval-ms", often);
            plan::set(&mut plan.flags, "--checkpoint-bytes", "4KiB");
        }
        if self.once.is_some() {
            plan::set(&mut plan.flags, "--http", "127.0.0.1:0");
        }
        if number.is_multiple_of(LOG_CYCLES) {
            let _ = std::fs::rename(&self.log, self.log.with_extension("before"));
        }
        if self.model.clock.jumps() {
            jumps::before_start(&self.model.clock, &mut rng)?;
        }
        self.story.tell(format_args!("cycle {number}: {plan:?}"));
        if plan.young {
            self.begin_again()?;
        }
        self.start_on_full_disk(&plan)?;
        for strike in &plan.at_start {
            self.strike_at_start(*strike, &plan)?;
        }
        let mut broker = self.spawn(&plan, plan.kill_at)?;
        match self.come_up(&plan, &mut broker, &mut rng) {
            Ok(address) => self.load_until_fault(&plan, broker, address, &mut rng),
            Err(violation) if violation.kind == Kind::Broker && broker.strikes_soon() => {
                self.counts.faults_at_start += 1;
                self.strike(broker, plan.cuts, &plan)
            }
            Err(violation) => Err(or_died(violation, &mut broker).into()),
        }
    }

    /// What can be done to this broker, on this disk.
    fn means(&self) -> Means {
        let (cuts, fails) = match &self.disk {
            Disk::Image(image) => (image.loses_power, image.fails()),
            _ => (false, false),
        };
        let is_left_alone = self.hostile == 0 && !self.model.clock.jumps();
        let kills = matches!(self.disk, Disk::Directory(_) | Disk::Image(_));
        Means {
            load_max: self.load_max,
            cuts,
            kills_at_operations: kills && is_left_alone,
            fails,
        }
    }

    /// An empty disk, and nothing promised.
    fn begin_again(&mut self) -> anyhow::Result<()> {
        if let Disk::Image(image) = &mut self.disk {
            image.renew()?;
            self.model.forget_all();
            self.once.iter().for_each(Once::forget_all);
            self.load = Some(Load::new(&self.model));
            (self.cut, self.cut_of_load) = (None, None);
            self.counts.young += 1;
        }
        Ok(())
    }

    /// Waits until the broker serves, holds what it has against what was promised, and has it create
    /// the topics of the load.
    fn come_up(
        &mut self,
        plan: &Plan,
        broker: &mut Broker,
        rng: &mut Rng,
    ) -> Result<SocketAddr, Violation> {
        let address = broker.wait_until_ready()?;
        self.model.medium_failed(false);
        // A broker that is to end by itself may do so from now on.
        self.model.strike(plan.kill_at.is_some());
        let cut = self.cut;
        self.story.tell(format_args!("serves; check after {cut:?}"));
        if let Some(once) = &self.once {
            let addresses = addresses(broker, address)?;
            once.check(&self.model, addresses, cut)?;
            self.cut = None;
            if !plan.calm {
                once.prepare(&self.model, addresses, rng)?;
            }
            return Ok(address);
        }
        checker::check(&self.model, address, cut)?;
        self.cut = None;
        if !plan.calm {
            load::prepare(&self.model, address, self.scale(), rng)?;
        }
        Ok(address)
    }

    /// The load, for who runs it outside of a cycle and gives it back.
    pub fn take_load(&mut self) -> Load {
        self.load.take().expect("the load of the cycle before")
    }

    pub fn give_load(&mut self, load: Load) {
        self.load = Some(load);
    }

    fn scale(&self) -> Scale {
        match &self.disk {
            Disk::Torn(_) => load::SMALL,
            Disk::Small(_) => load::FULL,
            _ => load::LARGE,
        }
    }

    /// How far it has come, in a few words.
    pub fn progress(&self) -> String {
        let acknowledged = count(&self.model.tally.acknowledged);
        let cycles = self.counts.cycles;
        match &self.disk {
            Disk::Torn(torn) => format!("{cycles} cycles, {} images", torn.images()),
            _ => format!("{cycles} cycles, {acknowledged} acknowledged"),
        }
    }

    /// What was done, for the summary.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let (counts, tally) = (&self.counts, &self.model.tally);
        let mut rows = vec![
            ("cycles", counts.cycles),
            ("cuts of the power", counts.cuts),
            ("kills at an operation", counts.kills_at_operations),
            ("empty disks", counts.young),
            ("writes refused", counts.writes_refused),
            ("faults under load", counts.faults_under_load),
            ("faults at start", counts.faults_at_start),
            ("faults in a clean stop", counts.faults_in_stop),
            ("clean stops", counts.clean_stops),
            ("jumps of the clock", counts.jumps),
            ("times full", counts.times_full),
            ("starts on a full disk", counts.starts_full),
            ("rests on a full disk", counts.rests_full),
            ("recycled segments", counts.recycled),
            ("records sent", count(&tally.sent)),
            ("records acknowledged", count(&tally.acknowledged)),
            ("records read", count(&tally.seen)),
            ("records checked", count(&tally.checked)),
            ("offsets committed", count(&tally.commits)),
            ("catalog changes", count(&tally.catalog_changes)),
        ];
        if let Disk::Torn(torn) = &self.disk {
            rows.extend(torn.rows());
        }
        if let Some(once) = &self.once {
            rows.extend(once.rows());
        }
        if self.hostile > 0 {
            rows.push(("hostile connections", count(&self.hostile_met)));
            rows.push(("memory at most, KiB", self.memory_bytes_max / 1024));
        }
        rows
    }

    fn spawn(&self, plan: &Plan, kill_at: Option<KillAt>) -> anyhow::Result<Broker> {
        let data_dir = self.disk.data_dir();
        Ok(Broker::spawn(
            &self.binary,
            &data_dir,
            &plan.flags,
            &self.log,
            self.model.clock.file(),
            kill_at,
        )?)
    }

    fn load_until_fault(
        &mut self,
        plan: &Plan,
        mut broker: Broker,
        address: SocketAddr,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        if self.once.is_some() {
            return self.send_once_until_fault(plan, broker, address, rng);
        }
        let context = Context {
            model: Arc::clone(&self.model),
            broker: address,
        };
        self.story.tell(format_args!("load"));
        let cut = self.cut_of_load.take();
        let running = self.take_load().start(&context, rng, cut, plan.calm);
        let squeezed = self.squeeze(plan, address, &running, rng);
        let besieged = self.besiege(&broker, address, rng);
        let jumped = self.jump(address, rng);
        self.let_medium_fail(plan)?;
        let lived = self.wait_for_fault(plan, &mut broker);
        let ended = match (lived, self.model.violation()) {
            (Err(died), _) => Err(died),
            _ if squeezed.is_err() => squeezed,
            (_, None) if jumped.is_err() => jumped,
            (_, None) if besieged.is_err() => besieged.map_err(Into::into),
            (_, Some(violation)) => Err(violation.into()),
            _ => self.end(plan, broker),
        };
        self.model.strike(true);
        if ended.is_ok() {
            self.give_load(running.join());
        }
        self.or_violation(ended)
    }

    /// Lets the load run until the moment that is planned, a violation, or a fault that strikes by itself. An error when the
    /// broker has died of something else.
    fn wait_for_fault(&self, plan: &Plan, broker: &mut Broker) -> anyhow::Result<()> {
        plan.load.wait(&self.disk.data_dir(), || {
            self.model.violation().is_some() || broker.has_struck()
        });
        if !broker.has_struck() {
            broker.check_running()?;
        }
        Ok(())
    }

    /// What was found meanwhile, where all else went well.
    fn or_violation(&self, ended: anyhow::Result<()>) -> anyhow::Result<()> {
        match self.model.violation() {
            Some(violation) if ended.is_ok() => Err(violation.into()),
            _ => ended,
        }
    }

    /// The same with the load of message ids and conditions.
    fn send_once_until_fault(
        &mut self,
        plan: &Plan,
        mut broker: Broker,
        address: SocketAddr,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        let Some(mut once) = self.once.take() else {
            return Ok(());
        };
        self.story.tell(format_args!("load"));
        let addresses = addresses(&broker, address)?;
        let running = once.start(&self.model, addresses, rng);
        let lived = self.wait_for_fault(plan, &mut broker);
        let ended = match (lived, self.model.violation()) {
            (Err(died), _) => Err(died),
            (_, Some(violation)) => Err(violation.into()),
            _ => self.end(plan, broker),
        };
        self.model.strike(true);
        if ended.is_ok() {
            once.join(running);
        }
        self.once = Some(once);
        // What came of the last cut is known to who was answered after it.
        self.cut_of_load = None;
        self.or_violation(ended)
    }

    /// A last start and a check, after the last cycle's fault.
    ///
    /// # Errors
    /// As [`Cycles::run`].
    pub fn check_at_the_end(&mut self) -> anyhow::Result<()> {
        let mut rng = Rng::fork(self.seed, u64::MAX);
        let mut plan = Plan::draw(&mut rng, u64::MAX, self.means());
        plan::set(&mut plan.flags, "--http", "127.0.0.1:0");
        plan.calm = true;
        plan.kill_at = None;
        self.story.tell(format_args!("the last check"));
        let mut broker = self.spawn(&plan, None)?;
        let checked = self.come_up(&plan, &mut broker, &mut rng);
        checked.map_err(|violation| or_died(violation, &mut broker))?;
        Ok(())
    }

    /// Lets clients misbehave for a while, and looks at the broker's memory meanwhile.
    fn besiege(
        &mut self,
        broker: &Broker,
        address: SocketAddr,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        if self.hostile == 0 {
            return Ok(());
        }
        let met = &self.hostile_met;
        let hostile = Hostile::start(&self.model, address, self.hostile, rng, met);
        let until = Instant::now() + SIEGE;
        while Instant::now() < until && self.model.violation().is_none() {
            std::thread::sleep(LOOK_EVERY);
            let bytes = broker.own_memory_bytes();
            self.memory_bytes_max = self.memory_bytes_max.max(bytes);
            if bytes > memory_limit(self.hostile) {
                let limit = memory_limit(self.hostile);
                violated!(Broker, "it uses {bytes} bytes of memory, more than {limit}");
            }
        }
        drop(hostile);
        Ok(())
    }

    /// Lets the broker's clock jump, if it can.
    fn jump(&mut self, address: SocketAddr, rng: &mut Rng) -> anyhow::Result<()> {
        if self.model.clock.jumps() {
            self.counts.jumps += jumps::run(&self.model, address, rng)?;
        }
        Ok(())
    }

    /// On a full disk a broker starts, whatever it was before, and all can be read.
    fn start_on_full_disk(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let (Disk::Small(small), Some(left)) = (&self.disk, plan.start_full) else {
            return Ok(());
        };
        // A first start needs some space.
        if !self.disk.data_dir().exists() {
            return Ok(());
        }
        small.fill(left)?;
        self.story.tell(format_args!("the disk is full: a start"));
        let mut broker = self.spawn(plan, None)?;
        let address = broker.wait_until_ready()?;
        // Against a copy: a log start that retention has just moved may not be durable yet.
        let checked = checker::check(&self.model.fork(), address, None);
        checked.map_err(|violation| or_died(violation, &mut broker))?;
        match plan.ending {
            Ending::CleanStop => {
                broker.terminate();
                broker.wait_stopped()?;
            }
            _ => broker.kill(),
        }
        small.free()?;
        self.counts.starts_full += 1;
        Ok(())
    }

    /// Fills a small disk up and frees it again, a few times. Then writing must go on by itself.
    fn squeeze(
        &mut self,
        plan: &Plan,
        address: SocketAddr,
        running: &Running,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        let Disk::Small(small) = &self.disk else {
            return Ok(());
        };
        let apart = pairs::warm_up(&self.model, address)?;
        for (left, squeeze) in (0..plan.squeezes.len()).rev().zip(&plan.squeezes) {
            std::thread::sleep(squeeze.after);
            self.model.allow_refusals(true);
            small.fill(squeeze.left_bytes)?;
            self.story.tell(format_args!("the disk is full"));
            std::thread::sleep(squeeze.lasts);
            let model = &self.model;
            small.keep_full(|| {
                pairs::send(model, address, apart, rng)?;
                if left == 0 && plan.rests_when_full {
                    rest(model, running);
                }
                Ok(())
            })?;
            self.counts.rests_full += u64::from(left == 0 && plan.rests_when_full);
            small.free()?;
            self.story.tell(format_args!("the disk has space"));
            self.counts.times_full += 1;
        }
        squeeze::wait_until_writable(&self.model, address)?;
        // What was refused before may be on its way still.
        std::thread::sleep(Duration::from_millis(200));
        self.model.allow_refusals(false);
        Ok(())
    }

    /// Lets the medium refuse writes for a while, or until the broker has ended.
    fn let_medium_fail(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let (Disk::Image(image), Some(failing)) = (&mut self.disk, plan.failing) else {
            return Ok(());
        };
        std::thread::sleep(failing.after);
        self.model.medium_failed(true);
        image.fail(|path| failing.what.has(path))?;
        self.story.tell(format_args!("the medium fails"));
        std::thread::sleep(failing.lasts);
        if !failing.to_the_end {
            let refused = image.heal()?;
            self.counts.writes_refused += refused;
            self.story
                .tell(format_args!("the medium is well; it refused {refused}"));
        }
        Ok(())
    }

    fn end(&mut self, plan: &Plan, mut broker: Broker) -> anyhow::Result<()> {
        self.model.strike(true);
        match plan.ending {
            Ending::CleanStop => {
                self.counts.clean_stops += 1;
                let cut = self.model.medium_has_failed().then(|| self.model.cut());
                broker.terminate();
                broker.wait_stopped()?;
                self.lose(cut, false)
            }
            Ending::FaultInStop(delay) if !broker.has_struck() => {
                self.counts.faults_in_stop += 1;
                broker.terminate();
                std::thread::sleep(delay);
                self.strike(broker, plan.cuts, plan)
            }
            _ => {
                self.counts.faults_under_load += 1;
                self.strike(broker, plan.cuts, plan)
            }
        }
    }

    /// Starts a broker, and strikes before it is ready or soon after.
    fn strike_at_start(&mut self, strike: Strike, plan: &Plan) -> anyhow::Result<()> {
        let mut broker = self.spawn(plan, strike.kill_at)?;
        let data_dir = self.disk.data_dir();
        strike
            .moment
            .wait(&data_dir, || broker.check_running().is_err());
        self.counts.faults_at_start += 1;
        self.strike(broker, strike.cuts, plan)
    }

    /// The fault itself: SIGKILL, or a cut of the power where there can be one.
    fn strike(&mut self, mut broker: Broker, cuts: bool, plan: &Plan) -> anyhow::Result<()> {
        self.model.strike(true);
        let by_itself = broker.has_struck();
        self.story
            .tell(format_args!("strike; it ended by itself: {by_itself}"));
        self.counts.kills_at_operations += u64::from(broker.has_struck());
        match &mut self.disk {
            Disk::Image(image) => {
                let cuts = cuts && image.loses_power;
                let loses = cuts || self.model.medium_has_failed();
                let cut = loses.then(|| self.model.cut());
                if cuts {
                    image.cut()?;
                }
                broker.kill();
                self.lose(cut, cuts)?;
            }
            Disk::Directory(_) | Disk::Small(_) => broker.kill(),
            Disk::Torn(torn) => {
                let cut = self.model.cut();
                broker.kill();
                self.counts.recycled += disk::recycled(&torn.data);
                self.cut_of_load.get_or_insert(cut);
                let kill = Kill {
                    binary: &self.binary,
                    flags: &flags_for_images(&plan.flags),
                    model: &self.model,
                    cut: *self.cut.get_or_insert(cut),
                };
                // Of every kill another one.
                return torn.strike(&kill, &mut Rng::fork(self.seed, u64::MAX - cut));
            }
        }
        self.counts.recycled += disk::recycled(&self.disk.data_dir());
        Ok(())
    }

    /// After the broker's end: the medium takes writes again, and the power is off for a moment if it
    /// was cut. From `cut` on nothing is promised but what was durable: what acks=1 has answered may go
    /// when a sync fails, as in a cut.
    fn lose(&mut self, cut: Option<u64>, power: bool) -> anyhow::Result<()> {
        let Disk::Image(image) = &mut self.disk else {
            return Ok(());
        };
        let refused = image.heal()?;
        self.counts.writes_refused += refused;
        let is_dead = cut.is_some() && image.is_dead();
        self.story.tell(format_args!(
            "ended; power cut: {power}, number {cut:?}, the medium refused {refused}, \
             the file system is dead: {is_dead}"
        ));
        if is_dead && !power {
            image.cut()?;
        }
        if power || is_dead {
            image.go_on_with_clone()?;
            self.counts.cuts += 1;
        }
        if let Some(cut) = cut {
            self.cut.get_or_insert(cut);
            self.cut_of_load.get_or_insert(cut);
        }
        Ok(())
    }
}

/// Lets the load come to rest: whatever is under way is answered, or the worker that waits for it says
/// that it is not.
fn rest(model: &Model, running: &Running) {
    model.rest(true);
    while !running.is_over() && model.violation().is_none() {
        std::thread::sleep(LOOK_EVERY);
    }
    model.rest(false);
}

fn addresses(broker: &Broker, kafka: SocketAddr) -> Result<Addresses, Violation> {
    let Some(http) = broker.http() else {
        violated!(Broker, "it does not say where it serves HTTP");
    };
    Ok(Addresses { kafka, http })
}

/// What the broker may use of memory of its own (docs/operating.md, Memory): requests, compaction,
/// each connection, and something for itself.
fn memory_limit(connections: usize) -> u64 {
    INFLIGHT_BYTES_MAX + DEDUPE_BYTES + connections as u64 * CONNECTION_BYTES_MAX + OWN_BYTES
}

/// One shard and no journal: an image is opened for a moment only.
fn flags_for_images(flags: &[String]) -> Vec<String> {
    let stays = |flag: &&String| !flag.starts_with("--cores") && !flag.starts_with("--journal");
    let own = ["--cores=1", "--journal-bytes=0"].map(str::to_owned);
    flags.iter().filter(stays).cloned().chain(own).collect()
}

/// A check that gets no answer because the broker is gone is better told by its last words.
pub fn or_died(violation: Violation, broker: &mut Broker) -> Violation {
    if violation.kind != Kind::Broker {
        return violation;
    }
    std::thread::sleep(Duration::from_millis(100));
    match broker.check_running() {
        Ok(()) => violation,
        Err(died) => died,
    }
}
