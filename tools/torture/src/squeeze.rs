//! A disk that is full for a while: what must go on meanwhile, and what afterwards.

use crate::history::History;
use crate::ledger::Proof;
use crate::load::WHEN_FULL;
use crate::model::{CommitKey, Model, Topic, lock};
use crate::record::{self, Id};
use crate::requests::{self, Configs, NONE, OFFSET_COMMIT, PRODUCE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use kafka_protocol::records::Compression;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long writing may take to go on by itself once there is space.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
const PROBE: &str = "probe";

/// Waits until every kind of write succeeds again, as it must once there is space.
pub fn wait_until_writable(model: &Model, broker: SocketAddr) -> Result<(), Violation> {
    let probe = || -> io::Result<Result<(), Violation>> {
        let wire = &mut Wire::connect(broker)?;
        let worker = model.new_worker();
        let mut number = 0;
        for topic in model.topics() {
            for index in 0..topic.ledgers().len() as i32 {
                let what = format!("a record to {}-{index}", topic.name);
                let written = eventually(&what, || {
                    number += 1;
                    produce(model, wire, &topic, index, Id { worker, number })
                })?;
                if written.is_err() {
                    return Ok(written);
                }
            }
        }
        let created = eventually("a new topic", || {
            requests::create_topic(wire, PROBE, 1, &Configs::new())
        })?;
        let deleted = eventually("the deletion of a topic", || {
            requests::delete_topic(wire, PROBE)
        })?;
        let committed = eventually("a committed offset", || commit(model, wire))?;
        Ok(created.and(deleted).and(committed))
    };
    probe().unwrap_or_else(|error| violated!(Broker, "no answer to a write: {error}"))
}

/// Writes until it is not refused any more.
fn eventually(
    what: &str,
    mut write: impl FnMut() -> io::Result<i16>,
) -> io::Result<Result<(), Violation>> {
    let until = Instant::now() + RECOVERY_MAX;
    loop {
        match write()? {
            NONE => return Ok(Ok(())),
            error if WHEN_FULL.contains(&error) && Instant::now() < until => {}
            error => return Ok(refused(what, error)),
        }
        std::thread::sleep(PAUSE);
    }
}

fn refused(what: &str, error: i16) -> Result<(), Violation> {
    violated!(
        Broker,
        "nothing is in the way any more, and {what} is refused with error {error}"
    )
}

/// The error code.
fn produce(model: &Model, wire: &mut Wire, topic: &Topic, index: i32, id: Id) -> io::Result<i16> {
    let Some(ledger) = topic.ledger(index) else {
        return Ok(NONE);
    };
    let place = (topic.name.as_str(), index);
    let batch = record::encode(place, topic.shape, &[id], None, Compression::None);
    lock(&ledger).sent(&[id]);
    let response = wire.call(&requests::produce(&topic.name, index, -1, batch), PRODUCE)?;
    let (error, base) = requests::produced(&response);
    if error == NONE {
        let noted = lock(&ledger).acknowledged(&[id], base, Proof::AcksAll, model.cuts());
        noted.unwrap_or_else(|violation| model.report(violation.at(&topic.name)));
    }
    Ok(unless_gone(topic, error))
}

/// The error code of a commit to a group without members.
fn commit(model: &Model, wire: &mut Wire) -> io::Result<i16> {
    let Some(topic) = model.topics().into_iter().next() else {
        return Ok(NONE);
    };
    let key: CommitKey = (PROBE.to_owned(), topic.name.clone(), 0);
    let asked = |offset: i64| {
        let mut commits = lock(&model.commits);
        let history = commits
            .entry(key.clone())
            .or_insert_with(|| History::new(-1));
        history.asked(offset);
    };
    asked(0);
    let request = requests::commit(PROBE, ("", -1), &[(topic.name.clone(), 0, 0)]);
    let response = wire.call(&request, OFFSET_COMMIT)?;
    let error = unless_gone(&topic, response.topics[0].partitions[0].error_code);
    if error == NONE
        && let Some(history) = lock(&model.commits).get_mut(&key)
    {
        history.answered(&0, model.cuts());
    }
    Ok(error)
}

/// The error code, or none where it says that a topic is gone whose deletion was asked for.
fn unless_gone(topic: &Topic, error: i16) -> i16 {
    let doomed = topic.doomed.load(Ordering::SeqCst);
    match error {
        UNKNOWN_TOPIC_OR_PARTITION if doomed => NONE,
        error => error,
    }
}
