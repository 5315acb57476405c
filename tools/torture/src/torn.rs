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
use crate::requests::{self, CORRUPT_MESSAGE, FETCH, NONE, OFFSET_OUT_OF_RANGE, PRODUCE};
use crate::rng::Rng;
use crate::violation::{Kind, Violation, violated};
use crate::wire::Wire;
use damage::{Damaged, Flipped};
use image::Image;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::records::Compression;
use std::collections::HashSet;
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
/// One image in so many is opened a second time.
const AGAIN_IN: u64 = 8;

/// What a broker tells of damage, which no crash leaves.
const FALSE_ALARMS: [&str; 2] = ["the log is damaged", "this partition takes no writes"];

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
    /// Batches whose checksum told of the damage, or that were refused.
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
        add(&self.counts.images, 1);
        add(&self.counts.flipped, u64::from(damaged.flipped.is_some()));
        for _ in 0..1 + usize::from(again) {
            let command = Command::new(kill.binary);
            let mut broker = Broker::spawn_with(command, dir, kill.flags, &log)?;
            let address = broker.wait_until_ready()?;
            let judged = self.judge(kill, &model, address, damaged);
            judged.map_err(|violation| crate::cycle::or_died(violation, &mut broker))?;
            broker.check_running()?;
            broker.kill();
        }
        add(&self.counts.records, count(&model.tally.checked));
        let log = std::fs::read_to_string(&log)?;
        match log.lines().find(|line| is_wrong(line, damaged)) {
            Some(line) => Err(Violation::new(Kind::Broker, line).into()),
            None => Ok(()),
        }
    }

    fn judge(
        &self,
        kill: &Kill<'_>,
        model: &Model,
        broker: SocketAddr,
        damaged: &Damaged,
    ) -> Result<(), Violation> {
        if let Some(flipped) = &damaged.flipped {
            let unsound = check_damaged(model, broker, kill.cut, flipped)?;
            add(&self.counts.unsound, unsound);
            return Ok(());
        }
        checker::check(model, broker, Some(kill.cut))?;
        write_and_read(model, broker)
    }
}

/// Whether the broker must not log this: a torn tail is no damage.
fn is_wrong(line: &str, damaged: &Damaged) -> bool {
    let told = FALSE_ALARMS.iter().any(|alarm| line.contains(alarm));
    line.contains("panicked") || told && damaged.flipped.is_none()
}

/// The violation, with what was done to the image.
fn explained(error: anyhow::Error, damaged: &Damaged) -> anyhow::Error {
    match error.downcast::<Violation>() {
        Ok(violation) => violation.at(format!("an image ({})", damaged.what)).into(),
        Err(error) => error,
    }
}

/// The log works: every partition takes a record, which can be read where it was told to be.
fn write_and_read(model: &Model, broker: SocketAddr) -> Result<(), Violation> {
    let wire = &mut Wire::connect(broker).map_err(failed)?;
    for topic in model.topics() {
        for (index, ledger) in (0..).zip(topic.ledgers()) {
            let mut written = || {
                let end = lock(&ledger).end();
                let (id, base) = write(wire, model, &topic, index)?;
                check_new(base, end)?;
                read_back(wire, &topic, index, (id, base))?;
                lock(&ledger).acknowledged(&[id], base, Proof::AcksAll, 0)
            };
            let at = format!("a new record in {}-{index}", topic.name);
            written().map_err(|violation| violation.at(at))?;
        }
    }
    Ok(())
}

/// Writes a record, which must succeed; returns where it is.
fn write(
    wire: &mut Wire,
    model: &Model,
    topic: &Topic,
    index: i32,
) -> Result<(Id, i64), Violation> {
    let id = Id {
        worker: model.new_worker(),
        number: 0,
    };
    if let Some(ledger) = topic.ledger(index) {
        lock(&ledger).sent(&[id]);
    }
    let place = (topic.name.as_str(), index);
    let batch = record::encode(place, topic.shape, &[id], None, Compression::None);
    let request = requests::produce(&topic.name, index, -1, batch);
    match requests::produced(&wire.call(&request, PRODUCE).map_err(failed)?) {
        (NONE, base) => Ok((id, base)),
        (error, _) => violated!(Broker, "it is answered with error {error}"),
    }
}

/// No offset is given away twice.
fn check_new(base: i64, end: i64) -> Result<(), Violation> {
    if base < end {
        violated!(Doubled, "it is at offset {base}, and the log ends at {end}");
    }
    Ok(())
}

fn read_back(
    wire: &mut Wire,
    topic: &Topic,
    index: i32,
    (id, base): (Id, i64),
) -> Result<(), Violation> {
    let data = fetch(wire, topic, index, base)?;
    let records = data.records.unwrap_or_default();
    let batches = record::decode((&topic.name, index), records);
    let batches = batches.or_else(|what| violated!(Changed, "{what}"))?;
    let found = batches.first().map(|batch| batch.records.as_slice());
    let has_expired = data.error_code == OFFSET_OUT_OF_RANGE && topic.upkeep.expires_ms().is_some();
    if found != Some([(base, id)].as_slice()) && !has_expired {
        violated!(
            Lost,
            "a fetch from its offset {base} brings error {} and {found:?}",
            data.error_code
        );
    }
    Ok(())
}

fn fetch(
    wire: &mut Wire,
    topic: &Topic,
    index: i32,
    offset: i64,
) -> Result<PartitionData, Violation> {
    let request = requests::fetch(&[(&topic.name, index, offset)], 0);
    let mut response = wire.call(&request, FETCH).map_err(failed)?;
    Ok(response.responses.swap_remove(0).partitions.swap_remove(0))
}

fn failed(error: io::Error) -> Violation {
    Violation::new(Kind::Broker, format!("no answer: {error}"))
}

/// A broker whose durable bytes were changed: all is as promised but for the damaged partition. Of that
/// one no changed record is delivered as a sound one, what is not damaged is served, and it takes
/// records. Returns how many batches were delivered whose checksum is wrong, or refused.
fn check_damaged(
    model: &Model,
    broker: SocketAddr,
    cut: u64,
    flipped: &Flipped,
) -> Result<u64, Violation> {
    let wire = &mut Wire::connect(broker).map_err(failed)?;
    checker::check_catalog(model, wire, Some(cut))?;
    let mut unsound = 0;
    for topic in model.topics() {
        for index in 0..topic.ledgers().len() as i32 {
            let checked =
                match (topic.name.as_str(), index) == (flipped.topic.as_str(), flipped.index) {
                    true => check_flipped(wire, model, &topic, cut, flipped),
                    false => {
                        checker::check_partition(model, wire, &topic, index, Some(cut)).map(|()| 0)
                    }
                };
            let at = format!("{}-{index} ({:?})", topic.name, topic.upkeep);
            unsound += checked.map_err(|violation| violation.at(at))?;
        }
    }
    model.clock.forget_latest();
    checker::check_commits(model, wire, Some(cut))?;
    Ok(unsound)
}

fn check_flipped(
    wire: &mut Wire,
    model: &Model,
    topic: &Topic,
    cut: u64,
    flipped: &Flipped,
) -> Result<u64, Violation> {
    let index = flipped.index;
    let Some(ledger) = topic.ledger(index) else {
        return Ok(0);
    };
    let delivered = read_damaged(wire, topic, index)?;
    // Retention may go on meanwhile.
    let start = checker::offset(wire, topic, index, false)?;
    let is_lost = |offset: i64| flipped.lost.iter().any(|lost| lost.contains(&offset));
    let is_served = |offset, id| is_lost(offset) || delivered.records.contains(&(offset, id));
    lock(&ledger).check_served(start, Some(cut), is_served)?;
    let new = write(wire, model, topic, index)?;
    let durable = lock(&ledger).durable_end();
    if let Some(end) = durable.filter(|end| !is_lost(*end)) {
        check_new(new.1, end)?;
    }
    read_back(wire, topic, index, new)?;
    Ok(delivered.unsound)
}

/// What a damaged partition has brought.
#[derive(Default)]
struct Delivered {
    records: HashSet<(i64, Id)>,
    unsound: u64,
}

/// Fetches from every offset that is known, one after the other: each is answered, or refused as
/// damaged.
fn read_damaged(wire: &mut Wire, topic: &Topic, index: i32) -> Result<Delivered, Violation> {
    let mut delivered = Delivered::default();
    let Some(ledger) = topic.ledger(index) else {
        return Ok(delivered);
    };
    let start = checker::offset(wire, topic, index, false)?;
    let (mut next, end) = (start, lock(&ledger).end());
    while next < end {
        let asked = next;
        let data = fetch(wire, topic, index, asked)?;
        match data.error_code {
            NONE | CORRUPT_MESSAGE => {}
            OFFSET_OUT_OF_RANGE => check_out_of_range(wire, topic, index, asked)?,
            error => violated!(
                Broker,
                "a fetch from {asked} is answered with error {error}"
            ),
        }
        let records = data.records.unwrap_or_default();
        let decoded = record::decode_sound((&topic.name, index), records);
        let (batches, bad) = decoded.or_else(|what| violated!(Changed, "{what}"))?;
        delivered.unsound += u64::from(bad) + u64::from(data.error_code == CORRUPT_MESSAGE);
        for batch in batches {
            lock(&ledger).knows(&batch)?;
            // No checksum covers the base offset.
            if (batch.base..=batch.last).contains(&next) {
                next = batch.last + 1;
            }
            delivered.records.extend(batch.records);
        }
        if next == asked {
            // Damage is in the way: behind it, perhaps, is something sound.
            next += 1;
        }
    }
    Ok(delivered)
}

fn check_out_of_range(
    wire: &mut Wire,
    topic: &Topic,
    index: i32,
    asked: i64,
) -> Result<(), Violation> {
    let end = checker::offset(wire, topic, index, true)?;
    let start = checker::offset(wire, topic, index, false)?;
    if (start..end).contains(&asked) {
        violated!(
            Broker,
            "{asked} is out of range; the log has {start} to {end}"
        );
    }
    Ok(())
}
