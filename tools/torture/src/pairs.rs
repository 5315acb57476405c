//! Two producers that append to the same partition at the same time, after which nobody else does: what
//! the second one sent must not wait for a third.

use crate::ledger::{Proof, Upkeep};
use crate::load::WHEN_FULL;
use crate::model::{Model, Topic, add, lock};
use crate::record::{self, Id, Shape};
use crate::requests::{self, NONE, PRODUCE};
use crate::rng::Rng;
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Compression;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The topic that nothing else of the load sends to.
pub const TOPIC: &str = "pairs";
pub const PARTITIONS: i32 = 8;
/// An append with acks=all takes milliseconds, on a full disk too.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 2_000,
};
/// So many records are more than the journal takes of a partition: its files are synced, beside everything
/// else. They are also more than the smallest `checkpoint_bytes`: a flush some time later makes a checkpoint.
const LARGE_BATCH_RECORDS: u32 = 200;

/// The topic.
pub fn topic() -> Topic {
    Topic {
        apart: true,
        ..Topic::new(TOPIC, Upkeep::Keep, SHAPE, PARTITIONS)
    }
}

/// Sends some records to each partition of the topic, so that there is room for more of them and a
/// checkpoint is due with the next. Returns the shortest time until an answer, most of which is the flush.
pub fn warm_up(model: &Model, broker: SocketAddr) -> Result<Duration, Violation> {
    let mut shortest = ANSWER_MAX;
    let Some(topic) = lock(&model.topics).get(TOPIC).cloned() else {
        return Ok(shortest);
    };
    let mut write = || -> io::Result<Result<Duration, Violation>> {
        let mut wire = Wire::connect(broker)?;
        let mut taken = Ok(());
        for index in 0..topic.ledgers().len() as i32 {
            let (ids, batch) = batch(model, &topic, index, LARGE_BATCH_RECORDS);
            let sent = Instant::now();
            let response = wire.call(&requests::produce(TOPIC, index, -1, batch), PRODUCE)?;
            shortest = shortest.min(sent.elapsed());
            let answer = requests::produced(&response);
            taken = taken.and_then(|()| take(model, &topic, index, &ids, answer));
        }
        Ok(taken.map(|()| shortest))
    };
    write().unwrap_or_else(|error| violated!(Broker, "no answer to a record: {error}"))
}

/// Sends two batches to each partition of the topic, the second at most `apart` after the first, so that it
/// arrives while that one is flushed, and takes both answers.
pub fn send(
    model: &Model,
    broker: SocketAddr,
    apart: Duration,
    rng: &mut Rng,
) -> Result<(), Violation> {
    let Some(topic) = lock(&model.topics).get(TOPIC).cloned() else {
        return Ok(());
    };
    let pair = || -> io::Result<[Wire; 2]> {
        Ok([
            Wire::connect_within(broker, ANSWER_MAX)?,
            Wire::connect_within(broker, ANSWER_MAX)?,
        ])
    };
    let mut wires = pair().or_else(|error| violated!(Broker, "no connection: {error}"))?;
    for index in 0..topic.ledgers().len() as i32 {
        let sent = send_two(model, &mut wires, &topic, index, rng.time(apart));
        let answered = sent.unwrap_or_else(|error| match error.kind() {
            ErrorKind::TimedOut => violated!(
                Broker,
                "of two batches sent at once with acks=all one is not answered in {} s",
                ANSWER_MAX.as_secs()
            ),
            _ => violated!(Broker, "no answer to two batches: {error}"),
        });
        answered.map_err(|violation| violation.at(format!("{TOPIC}-{index}")))?;
    }
    Ok(())
}

fn send_two(
    model: &Model,
    wires: &mut [Wire; 2],
    topic: &Topic,
    index: i32,
    apart: Duration,
) -> io::Result<Result<(), Violation>> {
    let mut sent = Vec::new();
    // Half of the partitions are flushed by the journal, the others by syncs of their own.
    let first = if index % 2 == 0 {
        LARGE_BATCH_RECORDS
    } else {
        1
    };
    for (wire, count) in wires.iter_mut().zip([first, 1]) {
        let (ids, batch) = batch(model, topic, index, count);
        wire.send(&requests::produce(TOPIC, index, -1, batch), PRODUCE)?;
        sent.push(ids);
        std::thread::sleep(apart);
    }
    let mut taken = Ok(());
    for (wire, ids) in wires.iter_mut().zip(sent) {
        let response = wire.receive::<ProduceRequest>(PRODUCE)?;
        let answer = requests::produced(&response);
        taken = taken.and_then(|()| take(model, topic, index, &ids, answer));
    }
    Ok(taken)
}

fn batch(model: &Model, topic: &Topic, index: i32, count: u32) -> (Vec<Id>, Bytes) {
    let worker = model.new_worker();
    let ids: Vec<Id> = (0..count).map(|number| Id { worker, number }).collect();
    let place = (TOPIC, index);
    let batch = record::encode(place, topic.shape, &ids, None, Compression::None);
    if let Some(ledger) = topic.ledger(index) {
        lock(&ledger).sent(&ids);
    }
    add(&model.tally.sent, u64::from(count));
    (ids, batch)
}

fn take(
    model: &Model,
    topic: &Topic,
    index: i32,
    ids: &[Id],
    (error, base): (i16, i64),
) -> Result<(), Violation> {
    match error {
        NONE => {}
        error if model.may_refuse() && WHEN_FULL.contains(&error) => return Ok(()),
        error => violated!(Broker, "a batch is answered with error {error}"),
    }
    add(&model.tally.acknowledged, ids.len() as u64);
    match topic.ledger(index) {
        Some(ledger) => lock(&ledger).acknowledged(ids, base, Proof::AcksAll, model.cuts()),
        None => Ok(()),
    }
}
