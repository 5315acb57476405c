//! The topics that records are sent to: a few kinds, kept small by deleting the oldest.

use super::End;
use super::admin::change;
use crate::ledger::Upkeep;
use crate::model::{Model, Topic, TopicState, lock};
use crate::pairs;
use crate::record::Shape;
use crate::requests::{self, Configs};
use crate::rng::Rng;
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    topics: usize,
    /// Known records from which on a topic is deleted.
    records_max: usize,
    /// One topic at least has segments that fill up and go.
    fills: bool,
    /// There is the topic of `pairs`.
    pairs: bool,
}

pub const LARGE: Scale = Scale {
    topics: 8,
    records_max: 12_000,
    fills: true,
    pairs: false,
};
/// Where disks are full.
pub const FULL: Scale = Scale {
    pairs: true,
    ..LARGE
};
/// Where every byte is looked at a hundred times.
pub const SMALL: Scale = Scale {
    topics: 4,
    records_max: 300,
    fills: false,
    pairs: false,
};
const PARTITIONS_MAX: usize = 4;
const SEGMENT_BYTES: &str = "1048576";
/// A few batches of such values fill a segment.
const FILLING_VALUE_BYTES: u32 = 45_000;
const DAY_MS: i64 = 86_400_000;

/// Before the load of a cycle: deletes topics that have grown large, creates new ones in their
/// place, often by the same name.
pub fn prepare(
    model: &Model,
    broker: SocketAddr,
    scale: Scale,
    rng: &mut Rng,
) -> Result<(), Violation> {
    let mut change = || -> io::Result<Result<(), Violation>> {
        let mut wire = Wire::connect(broker)?;
        for topic in model.topics() {
            let ledgers = topic.ledgers();
            let known: usize = ledgers.iter().map(|ledger| lock(ledger).known()).sum();
            if known > scale.records_max
                && let Err(violation) = delete(model, &mut wire, &topic)?
            {
                return Ok(Err(violation));
            }
        }
        if scale.pairs && !lock(&model.topics).contains_key(pairs::TOPIC) {
            let topic = pairs::topic();
            if let Err(violation) = create(model, &mut wire, topic, Configs::new())? {
                return Ok(Err(violation));
            }
        }
        while lock(&model.topics).len() < scale.topics {
            let (topic, configs) = draw_next(model, scale, rng);
            if let Err(violation) = create(model, &mut wire, topic, configs)? {
                return Ok(Err(violation));
            }
        }
        Ok(Ok(()))
    };
    change().unwrap_or_else(|error| violated!(Broker, "no answer to a change of topics: {error}"))
}

/// Deletes the topics that have been there for longest, as many as that.
pub fn replace(model: &Model, broker: SocketAddr, count: usize) -> Result<(), Violation> {
    let mut topics = model.topics();
    topics.sort_by_key(|topic| topic.created);
    let deleted = || -> io::Result<Result<(), Violation>> {
        let mut wire = Wire::connect(broker)?;
        for topic in topics.iter().take(count) {
            if let Err(violation) = delete(model, &mut wire, topic)? {
                return Ok(Err(violation));
            }
        }
        Ok(Ok(()))
    };
    deleted().unwrap_or_else(|error| violated!(Broker, "no answer to a deletion: {error}"))
}

fn delete(model: &Model, wire: &mut Wire, topic: &Topic) -> io::Result<Result<(), Violation>> {
    topic.doomed.store(true, Ordering::SeqCst);
    let answer = change(model, &topic.name, None, "DeleteTopics", || {
        requests::delete_topic(wire, &topic.name)
    });
    if answer.is_ok() {
        model.forget(&topic.name);
    }
    answered(answer)
}

/// A topic of a name that is free.
fn draw_next(model: &Model, scale: Scale, rng: &mut Rng) -> (Topic, Configs) {
    let free = |number: &usize| !lock(&model.topics).contains_key(&name(*number));
    let number = (0..).find(free).unwrap_or_default();
    let fills = |topic: &Arc<Topic>| topic.shape.value_bytes_max == FILLING_VALUE_BYTES;
    let must_fill = scale.fills && !model.topics().iter().any(fills);
    draw(&name(number), rng, must_fill, model.clock.jumps())
}

fn create(
    model: &Model,
    wire: &mut Wire,
    topic: Topic,
    configs: Configs,
) -> io::Result<Result<(), Violation>> {
    let partitions = topic.ledgers().len() as i32;
    let topic = Arc::new(topic);
    let state = TopicState {
        partitions,
        configs: configs.clone(),
    };
    // Before there is an answer: a broker that ends meanwhile may have created it.
    lock(&model.topics).insert(topic.name.clone(), Arc::clone(&topic));
    answered(change(
        model,
        &topic.name,
        Some(state),
        "CreateTopics",
        || requests::create_topic(wire, &topic.name, partitions, &configs),
    ))
}

/// A change that was asked for while nothing is in its way.
fn answered(answer: Result<(), End>) -> io::Result<Result<(), Violation>> {
    match answer {
        Ok(()) => Ok(Ok(())),
        Err(End::Connection(error)) => Err(error),
        Err(End::Violated(violation)) => Ok(Err(violation)),
        Err(End::Refused(error, what)) => Ok(refused(error, &what)),
    }
}

fn name(number: usize) -> String {
    format!("load-{number}")
}

fn refused(error: i16, what: &str) -> Result<(), Violation> {
    violated!(Catalog, "{what} is answered with error {error}")
}

/// A topic of some kind, with configs that make rolls, retention and compaction frequent.
fn draw(name: &str, rng: &mut Rng, must_fill: bool, jumps: bool) -> (Topic, Configs) {
    let segment_ms = rng.pick(&[40, 150, 600, 10_000]).to_string();
    let mut configs = vec![
        ("segment.bytes", SEGMENT_BYTES.to_owned()),
        ("segment.ms", segment_ms),
        (
            "index.interval.bytes",
            rng.pick(&[0, 512, 4096]).to_string(),
        ),
    ];
    // Old soon, after a jump of the clock at most, or never in a run.
    let ages_ms: &[i64] = &[300, 2_000, DAY_MS / 24, 10 * DAY_MS];
    if jumps {
        // The producers' clocks are right: their records are of the future when the broker's is slow.
        let any = i64::MAX.to_string();
        configs.push(("message.timestamp.after.max.ms", any));
    }
    let mut keys = None;
    let mut partitions = 1 + rng.below(PARTITIONS_MAX) as i32;
    let mut value_bytes_max = *rng.pick(&[60, 60, 400, 8000]);
    let kind = if must_fill { 1 } else { rng.below(8) };
    let upkeep = match kind {
        0 => Upkeep::Trim,
        1 => {
            let bytes = *rng.pick(&[20_000, 100_000]);
            configs.push(("retention.bytes", bytes.to_string()));
            if must_fill || rng.below(3) > 0 {
                // Segments fill up, so that the next is written over what retention has taken.
                configs.push(("segment.ms", "10000".to_owned()));
                value_bytes_max = FILLING_VALUE_BYTES;
                partitions = 1;
            }
            Upkeep::Retain { bytes }
        }
        2 | 3 => {
            let tombstones_go = rng.one_in(2);
            // Longer than any jump of the clock.
            let kept_ms = if tombstones_go { 0 } else { 30 * DAY_MS };
            let expires_ms = rng.one_in(3).then(|| *rng.pick(ages_ms));
            let policy = match expires_ms {
                Some(_) => "compact,delete",
                None => "compact",
            };
            configs.extend(expires_ms.map(|ms| ("retention.ms", ms.to_string())));
            configs.push(("cleanup.policy", policy.to_owned()));
            configs.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
            configs.push(("delete.retention.ms", kept_ms.to_string()));
            let keys = *keys.insert(*rng.pick(&[10, 200]));
            Upkeep::Compact {
                keys,
                tombstones_go,
                expires_ms,
            }
        }
        4 | 5 => {
            let ms = *rng.pick(ages_ms);
            configs.push(("retention.ms", ms.to_string()));
            Upkeep::Expire { ms }
        }
        _ => Upkeep::Keep,
    };
    if rng.one_in(4) {
        let by_append = "LogAppendTime".to_owned();
        configs.push(("message.timestamp.type", by_append));
    }
    let shape = Shape {
        keys,
        value_bytes_max,
    };
    let configs = configs.into_iter();
    let configs = configs.map(|(name, value)| (name.to_owned(), value));
    (
        Topic::new(name, upkeep, shape, partitions),
        configs.collect(),
    )
}
