//! Holds a broker that has come back against what its clients know.

use super::book::Found;
use super::http::{Http, Reply, Request};
use super::{Counts, Shared, Topic};
use crate::model::{Model, add, lock};
use crate::record::now_ms;
use crate::requests::{self, NONE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::violation::{Kind, Violation, violated};
use crate::wire::Wire;
use bytes::{Buf, Bytes};
use kafka_protocol::records::RecordBatchDecoder;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After a start the keys are known within this time.
const INDEX_MAX: Duration = Duration::from_secs(20);
const RETRY_EVERY: Duration = Duration::from_millis(2);
/// A key that no record has.
const NOBODY: &str = "nobody";

/// Where the broker is.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub kafka: SocketAddr,
    pub http: SocketAddr,
}

/// Checks everything, after the cut of the power of this number or, without one, after anything else.
pub fn check(
    model: &Model,
    shared: &Shared,
    broker: Addresses,
    cut: Option<u64>,
) -> Result<(), Violation> {
    let wire = &mut Wire::connect(broker.kafka).map_err(failed)?;
    let http = &mut Http::connect(broker.http).map_err(failed)?;
    for topic in shared.topics() {
        for partition in 0..topic.books.len() as i32 {
            let connections = (&mut *wire, &mut *http);
            let checked =
                check_partition((model, &shared.counts), &topic, partition, connections, cut);
            checked.map_err(|violation| violation.at(format!("{}-{partition}", topic.name)))?;
        }
    }
    Ok(())
}

fn check_partition(
    (model, counts): (&Model, &Counts),
    topic: &Topic,
    partition: i32,
    (wire, http): (&mut Wire, &mut Http),
    cut: Option<u64>,
) -> Result<(), Violation> {
    let keys: Vec<String> = match topic.kind.has_keys() {
        true => super::keys().chain([NOBODY.to_owned()]).collect(),
        false => Vec::new(),
    };
    // At once: the index is not there yet, and must say so.
    let mut early = Vec::new();
    for key in &keys {
        let reply = http.call(&of_key(topic, partition, key)).map_err(failed)?;
        let is_unknown = reply.is(503, "no-key-index");
        add(&counts.keys_unknown, u64::from(is_unknown));
        early.push(reply);
    }
    let found = read(wire, topic, partition)?;
    let exists = found.is_some();
    if !exists && lock(&topic.created).is_some_and(|created| cut.is_none_or(|cut| created < cut)) {
        violated!(
            Catalog,
            "the topic is not there; its creation was acknowledged"
        );
    }
    let found = found.unwrap_or_default();
    let checked = lock(&topic.books[partition as usize]).check(&found, cut, now_ms(), model.cuts());
    checked?;
    add(&model.tally.checked, found.len() as u64);
    if !exists {
        *lock(&topic.created) = None;
        return Ok(());
    }
    for (key, reply) in keys.iter().zip(early) {
        check_key(&found, key, &reply)?;
    }
    for key in &keys {
        let reply = when_there(http, &of_key(topic, partition, key))?;
        check_key(&found, key, &reply)?;
    }
    if !keys.is_empty() {
        check_list(&found, http, topic, partition)?;
    }
    Ok(())
}

pub fn of_key(topic: &Topic, partition: i32, key: &str) -> Request {
    Request::get(format!(
        "/t/{}/keys/{key}?partition={partition}",
        topic.name
    ))
}

/// Asks until the keys are known.
fn when_there(http: &mut Http, request: &Request) -> Result<Reply, Violation> {
    let until = Instant::now() + INDEX_MAX;
    loop {
        let reply = http.call(request).map_err(failed)?;
        if !reply.is(503, "no-key-index") {
            return Ok(reply);
        }
        if Instant::now() > until {
            violated!(
                Key,
                "the keys are not known after {} s",
                INDEX_MAX.as_secs()
            );
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// What is shown of a key is its newest record, while nothing is appended.
fn check_key(found: &[Found], key: &str, reply: &Reply) -> Result<(), Violation> {
    if reply.is(503, "no-key-index") {
        return Ok(());
    }
    let newest = found
        .iter()
        .rev()
        .find(|record| record.key.as_deref() == Some(key));
    let newest = newest.filter(|record| record.value.is_some());
    match (newest, reply.status) {
        (None, 404) => Ok(()),
        (Some(newest), 200)
            if reply.tag("k") == Some(newest.offset)
                && Some(reply.text()) == newest.value
                && number(reply) == Some(newest.number) =>
        {
            Ok(())
        }
        _ => violated!(
            Key,
            "{key} is shown as {} {:?} {:?}; its newest record is {newest:?}",
            reply.status,
            reply.tag("k"),
            shortened(&reply.text())
        ),
    }
}

/// The list of keys has those that are there.
fn check_list(
    found: &[Found],
    http: &mut Http,
    topic: &Topic,
    partition: i32,
) -> Result<(), Violation> {
    let mut request = Request::get(format!(
        "/t/{}/keys?max=10000&partition={partition}",
        topic.name
    ));
    request
        .headers
        .push(("Accept", "application/x-ndjson".to_owned()));
    let reply = when_there(http, &request)?;
    let mut newest: BTreeMap<&str, &Found> = BTreeMap::new();
    for record in found {
        if let Some(key) = &record.key {
            newest.insert(key, record);
        }
    }
    let there = newest.values().filter(|record| record.value.is_some());
    let expected: BTreeSet<i64> = there.map(|record| record.offset).collect();
    let text = reply.text();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    let listed: Vec<i64> = lines
        .map(|line| line["offset"].as_i64().unwrap_or(-1))
        .collect();
    if listed.len() != expected.len() || !listed.iter().all(|offset| expected.contains(offset)) {
        violated!(
            Key,
            "the list of keys ({}) has the records {listed:?}; the newest are {expected:?}",
            reply.status
        );
    }
    Ok(())
}

/// The number that a record has in its header.
pub fn number(reply: &Reply) -> Option<u64> {
    reply.header("kafka-header-number")?.parse().ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Reads a whole partition; `None` if there is no such topic.
fn read(wire: &mut Wire, topic: &Topic, partition: i32) -> Result<Option<Vec<Found>>, Violation> {
    let mut ends = [0; 2];
    for (end, is_end) in ends.iter_mut().zip([false, true]) {
        match requests::list_offset(wire, &topic.name, partition, is_end).map_err(failed)? {
            Ok(offset) => *end = offset,
            Err(UNKNOWN_TOPIC_OR_PARTITION) => return Ok(None),
            Err(error) => violated!(Broker, "ListOffsets is answered with error {error}"),
        }
    }
    let [mut next, end] = ends;
    if next != 0 {
        violated!(Start, "the log starts at {next}; nothing was to be deleted");
    }
    let mut found = Vec::new();
    while next < end {
        let request = requests::fetch(&[(&topic.name, partition, next)], 0);
        let response = wire.call(&request, requests::FETCH).map_err(failed)?;
        let data = &response.responses[0].partitions[0];
        if data.error_code != NONE {
            let error = data.error_code;
            violated!(
                Broker,
                "a fetch from offset {next} (of {end}) is answered with error {error}"
            );
        }
        let mut records = data.records.clone().unwrap_or_default();
        let before = next;
        while records.len() > 12 {
            let length = (&records[8..12]).get_i32() as usize + 12;
            if length > records.len() {
                break;
            }
            next = read_batch(records.split_to(length), &mut found)?;
        }
        if next <= before {
            violated!(
                Gap,
                "a fetch from offset {before} brings nothing; the log ends at {end}"
            );
        }
    }
    Ok(Some(found))
}

/// The offset behind it.
fn read_batch(batch: Bytes, found: &mut Vec<Found>) -> Result<i64, Violation> {
    let base = (&batch[..8]).get_i64();
    let next = base + i64::from((&batch[23..27]).get_i32()) + 1;
    let set = RecordBatchDecoder::decode(&mut batch.clone());
    let set = set.or_else(|error| violated!(Changed, "the batch at offset {base}: {error}"))?;
    for record in set.records {
        let text =
            |bytes: Option<Bytes>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let header = |name: &str| {
            let mut headers = record.headers.iter();
            let value = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
            text(value.and_then(|(_, value)| value.clone()))
        };
        let Some(number) = header("number").and_then(|number| number.parse().ok()) else {
            violated!(
                Stranger,
                "nobody sent the record at offset {}",
                record.offset
            );
        };
        found.push(Found {
            offset: record.offset,
            number,
            id: header("idempotency-key"),
            key: text(record.key.clone()),
            value: text(record.value.clone()),
        });
    }
    Ok(next)
}

fn failed(error: io::Error) -> Violation {
    Violation::new(Kind::Broker, format!("no answer to a check: {error}"))
}
