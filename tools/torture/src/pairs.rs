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
use std::time::Duration;

/// The topic that nothing else of the load sends to.
pub const TOPIC: &str = "pairs";
pub const PARTITIONS: i32 = 8;
/// An append with acks=all takes milliseconds, on a full disk too.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The second batch is sent this much after the first, while that one is flushed.
const APART_MAX: Duration = Duration::from_micros(1500);
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 2_000,
};
/// So many records are more than the smallest `checkpoint_bytes`: a flush some time later makes a
/// checkpoint.
const WARM_UP_RECORDS: u32 = 10;

/// The topic.
pub fn topic() -> Topic {
    Topic {
        apart: true,
        ..Topic::new(TOPIC, Upkeep::Keep, SHAPE, PARTITIONS)
    }
}

/// Sends some records to each partition of the topic, so that there is room for more of them and a
/// checkpoint is due with the next.
pub fn warm_up(model: &Model, broker: SocketAddr) -> Result<(), Violation> {
    let Some(topic) = lock(&model.topics).get(TOPIC).cloned() else {
        return Ok(());
    };
    let write = || -> io::Result<Result<(), Violation>> {
        let mut wire = Wire::connect(broker)?;
        let mut taken = Ok(());
        for index in 0..topic.ledgers().len() as i32 {
            let (ids, batch) = batch(model, &topic, index, WARM_UP_RECORDS);
            let response = wire.call(&requests::produce(TOPIC, index, -1, batch), PRODUCE)?;
            let answer = requests::produced(&response);
            taken = taken.and_then(|()| take(model, &topic, index, &ids, answer));
        }
        Ok(taken)
    };
    write().unwrap_or_else(|error| violated!(Broker, "no answer to a record: {error}"))
}

/// Sends two batches to each partition of the topic, so that the second arrives while the first is
/// flushed, and takes both answers.
pub fn send(model: &Model, broker: SocketAddr, rng: &mut Rng) -> Result<(), Violation> {
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
        let sent = send_two(model, &mut wires, &topic, index, rng);
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
    rng: &mut Rng,
) -> io::Result<Result<(), Violation>> {
    let mut sent = Vec::new();
    for wire in wires.iter_mut() {
        let (ids, batch) = batch(model, topic, index, 1);
        wire.send(&requests::produce(TOPIC, index, -1, batch), PRODUCE)?;
        sent.push(ids);
        std::thread::sleep(rng.time(APART_MAX));
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
