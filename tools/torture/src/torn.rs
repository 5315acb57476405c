//! Images of a killed broker's files, as a crash of the machine may leave them: each is opened by a
//! broker of its own and held against all that was promised.

pub mod damage;
pub mod durable;
pub mod image;
#[cfg(test)]
mod tests;

use crate::broker::Broker;
use crate::checker;
use crate::ledger::Proof;
use crate::model::{Model, Topic, add, count, lock};
use crate::record::{self, Id};
use crate::requests::{self, FETCH, NONE, PRODUCE};
use crate::rng::Rng;
use crate::violation::{Kind, Violation, violated};
use crate::wire::Wire;
use damage::Damaged;
use image::Image;
use kafka_protocol::records::Compression;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Images that are opened side by side.
const JOBS: usize = 2;
/// One image in so many has bits flipped before its durable point.
const FLIP_IN: u64 = 5;
/// More than a topic's partitions.
const PARTITIONS_MAX: u32 = 100;
/// One image in so many is opened a second time.
const AGAIN_IN: u64 = 8;

/// The directory whose files are torn, and what was done to them.
pub struct Torn {
    pub data: PathBuf,
    /// Where images are put.
    scratch: PathBuf,
    /// How many images each kill is worth.
    per_kill: usize,
    pub images_max: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    images: AtomicU64,
    flipped: AtomicU64,
    /// Flipped images on which the broker refused to start, with a reason.
    refused: AtomicU64,
    /// Batches whose checksum told of the damage.
    unsound: AtomicU64,
    records: AtomicU64,
}

/// A kill, and what is needed to judge what it left.
pub struct Kill<'a> {
    pub binary: &'a Path,
    pub flags: &'a [String],
    pub model: &'a Model,
    /// The first cut since the last check.
    pub cut: u64,
}

impl Torn {
    pub fn new(data: PathBuf, scratch: PathBuf, per_kill: usize, images_max: u64) -> Torn {
        Torn {
            data,
            scratch,
            per_kill,
            images_max,
            counts: Counts::default(),
        }
    }

    pub fn images(&self) -> u64 {
        count(&self.counts.images)
    }

    /// What was done, for the summary.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("images", self.images()),
            ("images with flipped bits", count(&self.counts.flipped)),
            ("of them refused at start", count(&self.counts.refused)),
            ("unsound batches told", count(&self.counts.unsound)),
            ("records of images", count(&self.counts.records)),
        ]
    }

    /// The image that a violation was found in, before a broker opened it.
    pub fn untouched(&self) -> PathBuf {
        self.scratch.join("untouched")
    }

    /// Tries images of what a killed broker has left; one of them becomes the data directory.
    ///
    /// # Errors
    /// A [`Violation`], or what the harness could not do.
    pub fn strike(&self, kill: &Kill<'_>, rng: &mut Rng) -> anyhow::Result<()> {
        let image = Image::read(&self.data)?;
        let parts = durable::parts(&image, kill.model);
        let seed = rng.next();
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        let work = |worker: usize| loop {
            let number = next.fetch_add(1, Ordering::SeqCst) as u64;
            let over = number >= self.per_kill as u64 || self.images() >= self.images_max;
            if over || lock(&failed).is_some() || crate::interrupted() {
                return;
            }
            let rng = &mut Rng::fork(seed, number);
            let flipped = match rng.below(FLIP_IN as usize) {
                0 => damage::flip(&image, &parts, rng),
                _ => None,
            };
            let damaged = flipped.unwrap_or_else(|| damage::tear(&image, &parts, rng));
            let dir = self.scratch.join(format!("image-{worker}"));
            let again = rng.one_in(AGAIN_IN as usize);
            if let Err(error) = self.run(kill, &damaged, &dir, again) {
                let mut failed = lock(&failed);
                if failed.is_none() {
                    let _ = damaged.image.write(&self.untouched());
                    *failed = Some(explained(error, &damaged));
                }
                return;
            }
        };
        std::thread::scope(|scope| {
            for worker in 0..JOBS {
                scope.spawn(move || work(worker));
            }
        });
        if let Some(error) = failed.into_inner()? {
            return Err(error);
        }
        damage::tear(&image, &parts, rng).image.write(&self.data)?;
        Ok(())
    }

    fn run(
        &self,
        kill: &Kill<'_>,
        damaged: &Damaged,
        dir: &Path,
        again: bool,
    ) -> anyhow::Result<()> {
        damaged.image.write(dir)?;
        let log = dir.with_extension("log");
        let _ = std::fs::remove_file(&log);
        let model = kill.model.fork();
        let is_flipped = !damaged.partitions.is_empty();
        add(&self.counts.images, 1);
        add(&self.counts.flipped, u64::from(is_flipped));
        let spawn = || Broker::spawn_with(Command::new(kill.binary), dir, kill.flags, &log);
        let mut broker = spawn()?;
        let address = match broker.wait_until_ready() {
            Ok(address) => address,
            Err(violation) if is_flipped && refuses(&violation) => {
                add(&self.counts.refused, 1);
                return Ok(());
            }
            Err(violation) => return Err(violation.into()),
        };
        match is_flipped {
            true => {
                let found = check_damaged(&model, address, kill.cut, damaged);
                let unsound =
                    found.map_err(|violation| crate::cycle::or_died(violation, &mut broker))?;
                add(&self.counts.unsound, unsound);
            }
            false => {
                let checked = checker::check(&model, address, Some(kill.cut));
                checked.map_err(|violation| crate::cycle::or_died(violation, &mut broker))?;
                let worked = write_and_read(&model, address);
                worked.map_err(|violation| crate::cycle::or_died(violation, &mut broker))?;
            }
        }
        broker.check_running()?;
        broker.kill();
        if again && !is_flipped {
            let mut broker = spawn()?;
            let address = broker.wait_until_ready()?;
            checker::check(&model, address, Some(kill.cut))?;
            broker.kill();
        }
        add(&self.counts.records, count(&model.tally.checked));
        let log = std::fs::read_to_string(&log)?;
        match log.lines().find(|line| line.contains("panicked")) {
            Some(line) => Err(Violation::new(Kind::Broker, line).into()),
            None => Ok(()),
        }
    }
}

/// The violation, with what was done to the image.
fn explained(error: anyhow::Error, damaged: &Damaged) -> anyhow::Error {
    match error.downcast::<Violation>() {
        Ok(violation) => violation.at(format!("an image ({})", damaged.what)).into(),
        Err(error) => error,
    }
}

/// Whether a broker that did not start ended in order, with a reason.
fn refuses(violation: &Violation) -> bool {
    violation.text.contains("unix_wait_status(256)") && !violation.text.contains("panicked")
}

/// The log works: every partition takes a record, which can be read where it was told to be.
fn write_and_read(model: &Model, broker: SocketAddr) -> Result<(), Violation> {
    let written = || -> io::Result<Result<(), Violation>> {
        let wire = &mut Wire::connect(broker)?;
        let worker = model.new_worker();
        for (number, topic) in (0..).zip(model.topics()) {
            for (index, ledger) in (0..).zip(topic.ledgers()) {
                let number = number * PARTITIONS_MAX + index as u32;
                let id = Id { worker, number };
                let end = lock(&ledger).end();
                lock(&ledger).sent(&[id]);
                let place = (topic.name.as_str(), index);
                let batch = record::encode(place, topic.shape, &[id], None, Compression::None);
                let request = requests::produce(&topic.name, index, -1, batch);
                let (error, base) = requests::produced(&wire.call(&request, PRODUCE)?);
                let answered = take_answer(error, base, end, &topic, index, id);
                let read = answered.and_then(|()| read_back(wire, &topic, index, base));
                if let Err(violation) = read {
                    return Ok(Err(
                        violation.at(format!("a new record in {}-{index}", topic.name))
                    ));
                }
            }
        }
        Ok(Ok(()))
    };
    written().unwrap_or_else(|error| violated!(Broker, "no answer to a write: {error}"))
}

fn take_answer(
    error: i16,
    base: i64,
    end: i64,
    topic: &Topic,
    index: i32,
    id: Id,
) -> Result<(), Violation> {
    if error != NONE {
        violated!(Broker, "it is answered with error {error}");
    }
    if base < end {
        violated!(Doubled, "it is at offset {base}, and the log ends at {end}");
    }
    let ledger = topic.ledger(index);
    let noted = ledger.map(|ledger| lock(&ledger).acknowledged(&[id], base, Proof::AcksAll, 0));
    noted.unwrap_or(Ok(()))
}

fn read_back(wire: &mut Wire, topic: &Topic, index: i32, base: i64) -> Result<(), Violation> {
    let failed = |error: io::Error| Violation::new(Kind::Broker, format!("no answer: {error}"));
    let request = requests::fetch(&[(&topic.name, index, base)], 0);
    let response = wire.call(&request, FETCH).map_err(failed)?;
    let data = &response.responses[0].partitions[0];
    let records = data.records.clone().unwrap_or_default();
    let batches = record::decode((&topic.name, index), records);
    let batches = batches.or_else(|what| violated!(Changed, "{what}"))?;
    let Some(ledger) = topic.ledger(index) else {
        return Ok(());
    };
    lock(&ledger).seen(&batches, 0)?;
    match batches.first() {
        Some(batch) if batch.base == base => Ok(()),
        _ => violated!(
            Lost,
            "a fetch from its offset {base} brings error {} and {} batches",
            data.error_code,
            batches.len()
        ),
    }
}

/// A broker whose durable bytes were changed: all partitions but the damaged ones are as promised,
/// and of those no changed record is delivered as a sound one. Returns how many batches were
/// delivered whose checksum is wrong, or refused.
///
/// What it must do with the sound part of a damaged partition is not asked for here.
fn check_damaged(
    model: &Model,
    broker: SocketAddr,
    cut: u64,
    damaged: &Damaged,
) -> Result<u64, Violation> {
    let failed = |error: io::Error| Violation::new(Kind::Broker, format!("no answer: {error}"));
    let wire = &mut Wire::connect(broker).map_err(failed)?;
    let mut unsound = 0;
    for topic in model.topics() {
        for (index, ledger) in (0..).zip(topic.ledgers()) {
            let place = (topic.name.clone(), index);
            let at = format!("{}-{index} ({:?})", topic.name, topic.upkeep);
            if damaged.partitions.contains(&place) {
                let delivered = read_damaged(wire, &topic, index);
                unsound += delivered
                    .map_err(failed)?
                    .map_err(|violation| violation.at(&at))?;
                continue;
            }
            let found =
                checker::read(wire, &topic, index).map_err(|violation| violation.at(&at))?;
            let checked = lock(&ledger).check(&found, Some(cut));
            checked.map_err(|violation| violation.at(&at))?;
        }
    }
    Ok(unsound)
}

/// Fetches from every offset that is known, one after the other, whatever is answered.
fn read_damaged(wire: &mut Wire, topic: &Topic, index: i32) -> io::Result<Result<u64, Violation>> {
    let Some(ledger) = topic.ledger(index) else {
        return Ok(Ok(0));
    };
    let mut unsound = 0;
    let mut next = 0;
    let end = lock(&ledger).end();
    while next < end {
        let request = requests::fetch(&[(&topic.name, index, next)], 0);
        let response = wire.call(&request, FETCH)?;
        let data = &response.responses[0].partitions[0];
        let records = data.records.clone().unwrap_or_default();
        let decoded = record::decode_sound((&topic.name, index), records);
        let (batches, bad) = match decoded {
            Ok(decoded) => decoded,
            Err(what) => return Ok(Err(Violation::new(Kind::Changed, what))),
        };
        unsound += u64::from(bad) + u64::from(data.error_code != NONE);
        for batch in batches {
            let known = lock(&ledger).knows(&batch);
            if known.is_err() {
                return Ok(known.map(|()| 0));
            }
            next = next.max(batch.last + 1);
        }
        // Damage is in the way: behind it, perhaps, is something sound.
        next += 1;
    }
    Ok(Ok(unsound))
}
