//! What one cycle does. The seed and the cycle's number determine it.

use crate::moment::{KillAt, Moment};
use crate::rng::{Rng, mix};
use std::path::Path;
use std::time::Duration;

const START_MAX: Duration = Duration::from_millis(60);
/// The longest load of most cycles.
pub const LOAD_MAX: Duration = Duration::from_millis(450);
/// One load in twelve: long enough for segments that are written over older ones.
const LONG_LOAD_MAX: Duration = Duration::from_secs(3);
pub const SHORT_LOAD_MAX: Duration = Duration::from_millis(100);
const SQUEEZE_MAX: Duration = Duration::from_millis(250);
const FAILING_MAX: Duration = Duration::from_millis(120);
const STOP_MAX: Duration = Duration::from_millis(40);
/// Of so many cycles on a disk that can lose its power the first begins with an empty one.
const YOUNG_CYCLES: u64 = 8;
/// Among the first so many syncs of an empty broker are those of its first topics.
const YOUNG_SYNCS: usize = 32;

/// What one cycle does.
#[derive(Debug)]
pub struct Plan {
    pub flags: Vec<String>,
    /// Begins with an empty disk.
    pub young: bool,
    /// Changes nothing in the catalog: what an earlier process left in it stays as it was left.
    pub calm: bool,
    /// Faults that strike before the broker is ready.
    pub at_start: Vec<Strike>,
    pub load: Moment,
    /// With the disk full but for so many bytes, if it can be: a start before all others.
    pub start_full: Option<u64>,
    /// How often the disk is full meanwhile, if it can be.
    pub squeezes: Vec<Squeeze>,
    /// The load comes to rest on a full disk: all that is under way is answered then.
    pub rests_when_full: bool,
    /// A while in which the medium refuses writes, if it can.
    pub failing: Option<Failing>,
    /// The file operation at which the broker ends by itself, perhaps before all else is done.
    pub kill_at: Option<KillAt>,
    pub ending: Ending,
    /// Whether the fault that ends the cycle cuts the power, where it can.
    pub cuts: bool,
}

/// A fault during a start.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    pub moment: Moment,
    pub kill_at: Option<KillAt>,
    pub cuts: bool,
}

/// A while in which the disk is full.
#[derive(Clone, Copy, Debug)]
pub struct Squeeze {
    pub after: Duration,
    pub lasts: Duration,
    pub left_bytes: u64,
}

/// A while in which the medium refuses writes.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    pub after: Duration,
    pub what: Refused,
    pub lasts: Duration,
    /// Whether it goes on until the broker has ended.
    pub to_the_end: bool,
}

/// The files whose writes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    All,
    Segments,
    /// Those of about one partition in three.
    SomePartitions(u64),
    Catalog,
    Journals,
}

impl Refused {
    /// Whether a file of the data directory is among them.
    pub fn has(self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let in_journal = path
            .parent()
            .is_some_and(|parent| parent.ends_with("journal"));
        match self {
            Refused::All => true,
            Refused::Catalog => name == "catalog.log",
            Refused::Journals => in_journal,
            Refused::Segments => name.ends_with(".log") && name != "catalog.log",
            Refused::SomePartitions(salt) => {
                let dir = path.parent().unwrap_or(path).as_os_str().as_encoded_bytes();
                let hash = dir
                    .iter()
                    .fold(salt, |hash, byte| mix(hash ^ u64::from(*byte)));
                name != "catalog.log" && !in_journal && hash.is_multiple_of(3)
            }
        }
    }
}

impl Failing {
    fn draw(rng: &mut Rng) -> Failing {
        let some = Refused::SomePartitions(rng.next());
        let what = [
            Refused::All,
            Refused::Segments,
            Refused::Segments,
            some,
            some,
            Refused::Catalog,
            Refused::Journals,
        ];
        Failing {
            after: rng.time(FAILING_MAX),
            what: *rng.pick(&what),
            lasts: rng.time(FAILING_MAX),
            to_the_end: rng.one_in(2),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Ending {
    Fault,
    /// A fault, so long after a clean stop has begun.
    FaultInStop(Duration),
    CleanStop,
}

/// What can be done to a broker here.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub load_max: Duration,
    /// The power can be cut.
    pub cuts: bool,
    /// The broker may end at any file operation.
    pub kills_at_operations: bool,
    /// The medium can refuse writes.
    pub fails: bool,
}

impl Plan {
    pub fn draw(rng: &mut Rng, number: u64, means: Means) -> Plan {
        let mut plan = Plan::draw_any(rng, means);
        if means.cuts {
            plan.draw_order(rng, number);
        } else {
            plan.calm = false;
        }
        if means.fails && !plan.calm && !number.is_multiple_of(YOUNG_CYCLES) && rng.below(3) > 0 {
            plan.failing = Some(Failing::draw(rng));
            // After it a start finds what is in the page cache only, unless the power goes at once.
            plan.cuts &= rng.one_in(2);
            plan.kill_at = None;
        }
        if !means.kills_at_operations {
            plan.kill_at = None;
            plan.at_start
                .iter_mut()
                .for_each(|strike| strike.kill_at = None);
        }
        if plan.kill_at.is_some() && matches!(plan.ending, Ending::CleanStop) {
            plan.ending = Ending::FaultInStop(rng.time(STOP_MAX));
        }
        plan
    }

    fn draw_any(rng: &mut Rng, means: Means) -> Plan {
        let at_start = [0, 0, 0, 1, 1, 2][rng.below(6)];
        let at_start = (0..at_start).map(|_| Strike::draw(rng)).collect();
        let flags = draw_flags(rng);
        let load_max = match rng.below(12) {
            0 => means.load_max.max(LONG_LOAD_MAX),
            1..4 => means.load_max.min(SHORT_LOAD_MAX),
            _ => means.load_max,
        };
        let load = Moment::draw(rng, load_max);
        let ending = match rng.below(10) {
            0 | 1 => Ending::CleanStop,
            2 | 3 => Ending::FaultInStop(rng.time(STOP_MAX)),
            _ => Ending::Fault,
        };
        let start_full = rng.one_in(3).then(|| draw_left(rng));
        let squeezes = (0..1 + rng.below(3)).map(|_| Squeeze::draw(rng)).collect();
        Plan {
            flags,
            young: false,
            calm: rng.one_in(4),
            at_start,
            load,
            start_full,
            squeezes,
            rests_when_full: rng.one_in(2),
            failing: None,
            kill_at: rng.one_in(3).then(|| KillAt::draw(rng)),
            ending,
            cuts: rng.one_in(2),
        }
    }

    /// The order of kills and cuts from cycle to cycle. A start may take for durable what the process
    /// before it had only written; so kills come before cuts, and a first catalog in particular is
    /// left half done, used, and cut.
    fn draw_order(&mut self, rng: &mut Rng, number: u64) {
        match number % YOUNG_CYCLES {
            0 => {
                self.young = number > 0;
                self.calm = false;
                self.kill_at = Some(KillAt::draw_sync(rng, YOUNG_SYNCS));
                self.cuts = rng.one_in(4);
            }
            1 => {
                self.at_start.clear();
                self.calm = true;
                self.kill_at = None;
                self.cuts = true;
                self.ending = Ending::Fault;
            }
            _ => {}
        }
    }
}

impl Strike {
    fn draw(rng: &mut Rng) -> Strike {
        Strike {
            moment: Moment::draw(rng, START_MAX),
            kill_at: rng.one_in(2).then(|| KillAt::draw(rng)),
            cuts: rng.one_in(2),
        }
    }
}

impl Squeeze {
    fn draw(rng: &mut Rng) -> Squeeze {
        Squeeze {
            after: rng.time(SQUEEZE_MAX),
            lasts: rng.time(SQUEEZE_MAX),
            left_bytes: draw_left(rng),
        }
    }
}

fn draw_left(rng: &mut Rng) -> u64 {
    *rng.pick(&[0, 0, 20_000, 300_000])
}

/// Gives a setting another value than was drawn.
pub fn set(flags: &mut Vec<String>, name: &str, value: &str) {
    flags.retain(|flag| !flag.starts_with(&format!("{name}=")));
    flags.push(format!("{name}={value}"));
}

/// Settings that make everything happen often, and that differ from start to start.
pub fn draw_flags(rng: &mut Rng) -> Vec<String> {
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
        ("--inflight-bytes-max", "256MiB"),
        ("--log-cleaner-dedupe-buffer-bytes", "16MiB"),
    ];
    let flags = flags.into_iter();
    flags
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
