//! Incremental fetch sessions (KIP-227): what a consumer sends and gets when it has named its
//! partitions once.

use crate::support::batch::{Batch, split};
use crate::support::group::VERY_LONG_MS;
use crate::support::wire::*;
use crate::support::{Broker, broker_with, eventually};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tempfile::TempDir;
use uuid::Uuid;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;
const INCONSISTENT_TOPIC_ID: i16 = 103;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

const NOTHING: [i32; 0] = [];

/// The newest version.
const BY_ID: i16 = 18;

/// One shard, so that every connection finds every session.
fn broker(flags: &[&str]) -> (TempDir, Broker, Wire) {
    broker_with(&[&["--cores", "1"], flags].concat())
}

fn opening(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    fetch(topic, partitions).with_session_epoch(0)
}

/// A fetch of what the session holds, without a change.
fn next(id: i32, epoch: i32) -> FetchRequest {
    changed(id, epoch, "", &[])
}

/// A fetch that adds or updates partitions.
fn changed(id: i32, epoch: i32, topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let mut request = fetch(topic, partitions)
        .with_session_id(id)
        .with_session_epoch(epoch);
    request.topics.retain(|topic| !topic.partitions.is_empty());
    request
}

fn forgetting(id: i32, epoch: i32, topic: &str, partitions: &[i32]) -> FetchRequest {
    let topic = ForgottenTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(partitions.to_vec());
    next(id, epoch).with_forgotten_topics_data(vec![topic])
}

/// The same, of the topic with this id.
fn by_id(mut request: FetchRequest, id: Uuid) -> FetchRequest {
    for topic in &mut request.topics {
        *topic = std::mem::take(topic)
            .with_topic(topic_name(""))
            .with_topic_id(id);
    }
    request
}

/// Opens a session; its id.
fn open(wire: &mut Wire, topic: &str, partitions: &[(i32, i64)]) -> i32 {
    let response = wire.call(&opening(topic, partitions), FETCH);
    assert_eq!(told(&response).len(), partitions.len(), "a full reply");
    assert!(response.session_id > 0, "{response:?}");
    response.session_id
}

/// The partitions of a reply: topic, index and whether there are records.
fn told(response: &FetchResponse) -> Vec<(String, i32, bool)> {
    assert_eq!(response.error_code, 0, "{response:?}");
    let topics = response.responses.iter();
    let all = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|p| (topic.topic.to_string(), p.partition_index, has_records(p)))
    });
    all.collect()
}

fn has_records(partition: &PartitionData) -> bool {
    partition.records.as_ref().is_some_and(|r| !r.is_empty())
}

/// The indexes alone.
fn indexes(response: &FetchResponse) -> Vec<i32> {
    told(response).iter().map(|told| told.1).collect()
}

/// The error of a reply that has nothing else.
fn refused(response: &FetchResponse) -> i16 {
    assert_eq!(response.session_id, 0);
    assert!(response.responses.is_empty());
    response.error_code
}

#[test]
fn a_consumer_of_1000_partitions_names_them_once() {
    const PARTITIONS: i32 = 1000;
    for cores in ["1", "3"] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::with(dir.path(), &["--cores", cores]);
        let mut producer = Wire::connect(broker.kafka);
        producer.create_topic("wide", PARTITIONS);
        let mut wire = Wire::connect(broker.kafka);
        let all: Vec<_> = (0..PARTITIONS).map(|index| (index, 0)).collect();
        let response = wire.call(&opening("wide", &all), FETCH);
        assert_eq!(indexes(&response), Vec::from_iter(0..PARTITIONS));
        let id = response.session_id;

        wire.send_unanswered(&next(id, 1), FETCH);
        let request_bytes = frame(&next(id, 1), FETCH, 1).len();
        let reply_bytes = wire.receive_frame().unwrap().len();
        assert!(request_bytes < 80, "{request_bytes} bytes");
        assert!(reply_bytes < 40, "{reply_bytes} bytes");

        producer.append("wide", 700, &Batch::of(["new"]));
        let response = wire.call(&next(id, 2), FETCH);
        assert_eq!(told(&response), [("wide".to_owned(), 700, true)]);
        let records = response.responses[0].partitions[0].records.clone();
        assert_eq!(split(&records.unwrap())[0].values(), [b"new"]);
        // What was fetched is not fetched again, for the offset is all that changed.
        let response = wire.call(&changed(id, 3, "wide", &[(700, 1)]), FETCH);
        assert_eq!((told(&response), response.session_id), (vec![], id));
        assert_eq!(broker.metric("millstream_fetch_sessions", ""), 1.0);
        let held = broker.metric("millstream_fetch_session_partitions", "");
        assert_eq!(held, f64::from(PARTITIONS));
    }
}

#[test]
fn sessions_work_in_every_version_that_has_them() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 2);
    let topic_id = wire.describe_topic("t").topic_id;
    for version in 7..=18 {
        let named = |request| match version {
            13.. => by_id(request, topic_id),
            _ => request,
        };
        let end = i64::from(version - 7);
        let request = named(opening("t", &[(0, end), (1, 0)]));
        let response = wire.call(&request, version);
        assert_eq!(indexes(&response), [0, 1], "version {version}");
        let id = response.session_id;
        assert!(id > 0);
        assert_eq!(indexes(&wire.call(&next(id, 1), version)), NOTHING);
        wire.append("t", 0, &Batch::of(["x"]));
        let response = wire.call(&next(id, 2), version);
        assert_eq!(indexes(&response), [0]);
        assert!(has_records(&response.responses[0].partitions[0]));
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, topic_id);
        }
    }
    for version in 4..7 {
        let response = wire.call(&fetch("t", &[(0, 0)]), version);
        assert_eq!(indexes(&response), [0], "version {version}");
    }
}

#[test]
fn a_partition_is_told_of_when_only_its_offsets_have_moved() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 3);
    let id = open(&mut wire, "t", &[(0, 0), (1, 0), (2, 0)]);
    wire.append("t", 1, &Batch::of(["a", "b"]));
    // The consumer does not want these records.
    let response = wire.call(&changed(id, 1, "t", &[(1, 2)]), FETCH);
    assert_eq!(told(&response), [("t".to_owned(), 1, false)]);
    assert_eq!(response.responses[0].partitions[0].high_watermark, 2);
    assert_eq!(indexes(&wire.call(&next(id, 2), FETCH)), NOTHING);
    wire.delete_records("t", 1, 1);
    let response = wire.call(&next(id, 3), FETCH);
    assert_eq!(told(&response), [("t".to_owned(), 1, false)]);
    assert_eq!(response.responses[0].partitions[0].log_start_offset, 1);
    assert_eq!(indexes(&wire.call(&next(id, 4), FETCH)), NOTHING);
}

#[test]
fn partitions_are_added_and_forgotten() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 3);
    wire.create_topic("u", 1);
    let id = open(&mut wire, "t", &[(0, 0), (1, 0)]);
    let added = wire.call(&changed(id, 1, "u", &[(0, 0)]), FETCH);
    assert_eq!(told(&added), [("u".to_owned(), 0, false)], "it is new");
    let forgotten = wire.call(&forgetting(id, 2, "t", &[0, 7]), FETCH);
    assert_eq!(indexes(&forgotten), NOTHING);
    for (topic, index) in [("t", 0), ("t", 1), ("t", 2), ("u", 0)] {
        wire.append(topic, index, &Batch::of(["x"]));
    }
    let response = wire.call(&next(id, 3), FETCH);
    let expected = [("t".to_owned(), 1, true), ("u".to_owned(), 0, true)];
    assert_eq!(told(&response), expected);
    // With the last partition the session goes too.
    wire.call(&forgetting(id, 4, "t", &[1]), FETCH);
    let last = wire.call(&forgetting(id, 5, "u", &[0]), FETCH);
    assert_eq!((told(&last), last.session_id), (vec![], 0));
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 0.0);
    assert_eq!(
        broker.metric("millstream_fetch_session_partitions", ""),
        0.0
    );
    let gone = refused(&wire.call(&next(id, 6), FETCH));
    assert_eq!(gone, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_wrong_epoch_or_id_is_refused_and_harms_no_session() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 2);
    let id = open(&mut wire, "t", &[(0, 0), (1, 0)]);
    for epoch in [-2, 2, i32::MAX] {
        let response = wire.call(&changed(id, epoch, "t", &[(0, 5)]), FETCH);
        assert_eq!(refused(&response), INVALID_FETCH_SESSION_EPOCH);
    }
    for (id, epoch) in [(id ^ 1, 1), (-id, 1), (0, 1), (0, -2)] {
        let response = wire.call(&next(id, epoch), FETCH);
        assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
    }
    wire.append("t", 0, &Batch::of(["x"]));
    assert_eq!(indexes(&wire.call(&next(id, 1), FETCH)), [0]);
    let repeated = wire.call(&next(id, 1), FETCH);
    assert_eq!(refused(&repeated), INVALID_FETCH_SESSION_EPOCH);
}

#[test]
fn a_session_is_closed_or_replaced_by_a_full_fetch() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 2);
    let first = open(&mut wire, "t", &[(0, 0), (1, 0)]);
    let request = opening("t", &[(1, 0)]).with_session_id(first);
    let response = wire.call(&request, FETCH);
    let second = response.session_id;
    assert_eq!(indexes(&response), [1]);
    assert!(second > 0 && second != first);
    let response = wire.call(&next(first, 1), FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(indexes(&wire.call(&next(second, 1), FETCH)), NOTHING);
    let response = wire.call(&changed(second, -1, "t", &[(0, 0)]), FETCH);
    assert_eq!((indexes(&response), response.session_id), (vec![0], 0));
    let response = wire.call(&next(second, 2), FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
    // Consumers close with nothing else to ask; nor does an empty fetch open a session.
    for epoch in [-1, 0] {
        let response = wire.call(&next(second, epoch), FETCH);
        assert_eq!(
            (indexes(&response), response.session_id),
            (NOTHING.to_vec(), 0)
        );
    }
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 0.0);
}

#[test]
fn a_partition_named_twice_is_answered_once() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 2);
    wire.append("t", 0, &Batch::of(["x"]));
    let request = opening("t", &[(0, 0), (1, 0), (0, 1)]);
    let response = wire.call(&request, FETCH);
    let mut answered = told(&response);
    answered.sort();
    let expected = [("t".to_owned(), 0, false), ("t".to_owned(), 1, false)];
    assert_eq!(answered, expected, "the last word counts");
    assert_eq!(
        broker.metric("millstream_fetch_session_partitions", ""),
        2.0
    );
}

#[test]
fn a_limit_on_bytes_starves_no_partition() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 3);
    let id = open(&mut wire, "t", &[(0, 0), (1, 0), (2, 0)]);
    for index in 0..3 {
        wire.append("t", index, &Batch::of(["x"]));
    }
    let mut with_records = Vec::new();
    for epoch in 1..=6 {
        // One batch comes whatever the limit; the consumer does not go on.
        let response = wire.call(&next(id, epoch).with_max_bytes(1), FETCH);
        let partitions = told(&response).into_iter();
        let brought = partitions.filter_map(|told| told.2.then_some(told.1));
        with_records.extend(brought);
    }
    assert_eq!(with_records, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn errors_are_told_until_they_are_gone() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let mut request = opening("t", &[(0, 0), (1, 0)]);
    let missing = fetch("missing", &[(0, 0)]).topics.remove(0);
    request.topics.push(missing);
    let response = wire.call(&request, FETCH);
    assert_eq!(told(&response).len(), 3);
    let id = response.session_id;
    let waiting = |epoch| next(id, epoch).with_max_wait_ms(VERY_LONG_MS);
    for epoch in 1..3 {
        // An error is not waited with.
        let response = wire.call(&waiting(epoch), FETCH);
        let expected = [("t".to_owned(), 1, false), ("missing".to_owned(), 0, false)];
        assert_eq!(told(&response), expected);
        for topic in &response.responses {
            let code = topic.partitions[0].error_code;
            assert_eq!(code, UNKNOWN_TOPIC_OR_PARTITION);
        }
    }
    wire.create_topic("missing", 1);
    assert_eq!(wire.set_partitions("t", 2, false), 0);
    let response = wire.call(&next(id, 3), FETCH);
    assert_eq!(told(&response).len(), 2, "no error is news too");
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert_eq!(indexes(&wire.call(&next(id, 4), FETCH)), NOTHING);
}

#[test]
fn the_leader_epoch_is_part_of_the_session() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let mut request = opening("t", &[(0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = 1;
    let id = wire.call(&request, FETCH).session_id;
    let response = wire.call(&next(id, 1), FETCH);
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, UNKNOWN_LEADER_EPOCH);
    let response = wire.call(&changed(id, 2, "t", &[(0, 0)]), FETCH);
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
}

#[test]
fn names_and_ids_do_not_mix() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let topic_id = wire.describe_topic("t").topic_id;
    let by_name = open(&mut wire, "t", &[(0, 0)]);
    let response = wire.call(&next(by_name, 1), BY_ID);
    assert_eq!(refused(&response), FETCH_SESSION_TOPIC_ID_ERROR);
    let request = by_id(opening("t", &[(0, 0)]), topic_id);
    let with_id = wire.call(&request, BY_ID).session_id;
    let response = wire.call(&next(with_id, 1), FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_TOPIC_ID_ERROR);
    assert_eq!(indexes(&wire.call(&next(by_name, 1), FETCH)), NOTHING);
    assert_eq!(indexes(&wire.call(&next(with_id, 1), BY_ID)), NOTHING);
}

#[test]
fn a_topic_created_again_is_the_same_by_name_and_another_by_id() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let old_id = wire.describe_topic("t").topic_id;
    wire.append("t", 0, &Batch::of(["old"]));
    let by_name = open(&mut wire, "t", &[(0, 1)]);
    let request = by_id(opening("t", &[(0, 1)]), old_id);
    let with_id = wire.call(&request, BY_ID).session_id;
    let code = |response: FetchResponse| response.responses[0].partitions[0].error_code;
    assert_eq!(wire.delete_topic("t"), 0);
    let deleted = code(wire.call(&next(by_name, 1), FETCH));
    assert_eq!(deleted, UNKNOWN_TOPIC_OR_PARTITION);
    // The session remembers the name that the id had; without a session there is only the id.
    let deleted = code(wire.call(&next(with_id, 1), BY_ID));
    assert_eq!(deleted, UNKNOWN_TOPIC_OR_PARTITION);
    let without_session = by_id(fetch("t", &[(0, 1)]), old_id);
    assert_eq!(code(wire.call(&without_session, BY_ID)), UNKNOWN_TOPIC_ID);
    eventually("the name is free again", || {
        wire.try_create_topic("t", 1, &[]).error_code == 0
    });
    let new_id = wire.describe_topic("t").topic_id;
    let response = wire.call(&changed(by_name, 2, "t", &[(0, 0)]), FETCH);
    assert_eq!(response.responses[0].partitions[0].high_watermark, 0);
    assert_eq!(
        code(wire.call(&next(with_id, 2), BY_ID)),
        INCONSISTENT_TOPIC_ID
    );
    assert_eq!(code(wire.call(&without_session, BY_ID)), UNKNOWN_TOPIC_ID);
    // As a consumer does that has learnt of the new id.
    let forgotten = ForgottenTopic::default()
        .with_topic_id(old_id)
        .with_partitions(vec![0]);
    let request = by_id(changed(with_id, 3, "t", &[(0, 0)]), new_id)
        .with_forgotten_topics_data(vec![forgotten]);
    let response = wire.call(&request, BY_ID);
    assert_eq!(indexes(&response), [0]);
    assert_eq!(response.responses[0].topic_id, new_id);
    assert_eq!(code(response), 0);
}

#[test]
fn a_topic_that_joins_a_session_by_its_id_is_told_apart_too_and_an_id_that_never_was_stays_unknown()
{
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("first", 1);
    wire.create_topic("t", 1);
    let ids = ["first", "t"].map(|name| wire.describe_topic(name).topic_id);
    let request = by_id(opening("first", &[(0, 0)]), ids[0]);
    let session = wire.call(&request, BY_ID).session_id;
    let never = Uuid::from_u128(77);
    let code = |response: FetchResponse| response.responses[0].partitions[0].error_code;
    let joins = by_id(changed(session, 1, "t", &[(0, 0)]), ids[1]);
    assert_eq!(code(wire.call(&joins, BY_ID)), 0);
    assert_eq!(wire.delete_topic("t"), 0);
    let gone = code(wire.call(&next(session, 2), BY_ID));
    assert_eq!(gone, UNKNOWN_TOPIC_OR_PARTITION);
    let forgotten = ForgottenTopic::default()
        .with_topic_id(ids[1])
        .with_partitions(vec![0]);
    let other = by_id(changed(session, 3, "t", &[(0, 0)]), never)
        .with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(code(wire.call(&other, BY_ID)), UNKNOWN_TOPIC_ID);
    // It was forgotten, and joins again when there is no such id any more.
    let joins = by_id(changed(session, 4, "t", &[(0, 0)]), ids[1]);
    let response = wire.call(&joins, BY_ID);
    let codes: Vec<i16> = response
        .responses
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    assert_eq!(codes, [UNKNOWN_TOPIC_ID; 2]);
}

#[test]
fn a_nil_id_names_no_topic() {
    let (_dir, _broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let response = wire.call(&by_id(fetch("t", &[(0, 0)]), Uuid::nil()), BY_ID);
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, UNKNOWN_TOPIC_ID);
}

#[test]
fn a_fetch_of_a_session_waits_for_records_of_any_of_its_partitions() {
    for cores in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::with(dir.path(), &["--cores", cores]);
        let mut producer = Wire::connect(broker.kafka);
        producer.create_topic("quiet", 8);
        let mut wire = Wire::connect(broker.kafka);
        let all: Vec<_> = (0..8).map(|index| (index, 0)).collect();
        let id = open(&mut wire, "quiet", &all);
        for index in 0..8 {
            let epoch = 1 + index;
            // The last partition's records are fetched, which the request says along the way.
            let fetched = [(index - 1, 1)];
            let update = if index > 0 { &fetched[..] } else { &[] };
            let request = changed(id, epoch, "quiet", update);
            wire.send(&request.with_max_wait_ms(VERY_LONG_MS), FETCH);
            eventually("the fetch is parked", || {
                broker.metric("millstream_parked_fetches", "") == 1.0
            });
            producer.append("quiet", index, &Batch::of(["wake up"]));
            let response = wire.receive::<FetchRequest>(FETCH);
            assert_eq!(told(&response), [("quiet".to_owned(), index, true)]);
        }
    }
}

#[test]
fn fetches_of_a_session_that_are_sent_ahead_are_answered_in_turn() {
    let (_dir, broker, mut producer) = broker(&[]);
    producer.create_topic("t", 2);
    let mut wire = Wire::connect(broker.kafka);
    let id = open(&mut wire, "t", &[(0, 0)]);
    let parked = next(id, 1).with_max_wait_ms(VERY_LONG_MS);
    wire.send(&parked, FETCH);
    wire.send(&changed(id, 2, "t", &[(0, 1), (1, 0)]), FETCH);
    wire.send(&forgetting(id, 3, "t", &[0]), FETCH);
    wire.send(&changed(id, -1, "t", &[(1, 0)]), FETCH);
    wire.send(&next(id, 4), FETCH);
    eventually("the first fetch is parked", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    producer.append("t", 0, &Batch::of(["x"]));
    let expected = [
        (vec![("t".to_owned(), 0, true)], id),
        (vec![("t".to_owned(), 1, false)], id),
        (vec![], id),
        (vec![("t".to_owned(), 1, false)], 0),
    ];
    for expected in expected {
        let response = wire.receive::<FetchRequest>(FETCH);
        assert_eq!((told(&response), response.session_id), expected);
    }
    let response = wire.receive::<FetchRequest>(FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_waiting_fetch_ends_when_its_session_goes_on_over_another_connection() {
    let (_dir, broker, mut producer) = broker(&[]);
    producer.create_topic("t", 1);
    let mut old = Wire::connect(broker.kafka);
    let id = open(&mut old, "t", &[(0, 0)]);
    let mut new = Wire::connect(broker.kafka);
    let parked = |epoch| next(id, epoch).with_max_wait_ms(VERY_LONG_MS);
    old.send(&parked(1), FETCH);
    eventually("the first fetch is parked", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    new.send(&parked(2), FETCH);
    let response = old.receive::<FetchRequest>(FETCH);
    assert_eq!(refused(&response), INVALID_FETCH_SESSION_EPOCH);
    producer.append("t", 0, &Batch::of(["x"]));
    let response = new.receive::<FetchRequest>(FETCH);
    assert_eq!(told(&response), [("t".to_owned(), 0, true)]);
    // So it does when the session is closed.
    new.send(&parked(3).with_min_bytes(1 << 20), FETCH);
    eventually("the third fetch is parked", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    old.call(&next(id, -1), FETCH);
    let response = new.receive::<FetchRequest>(FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_session_outlives_its_connection() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    let id = open(&mut wire, "t", &[(0, 0)]);
    drop(wire);
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(indexes(&wire.call(&next(id, 1), FETCH)), NOTHING);
}

#[test]
fn on_another_shard_a_session_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--cores", "2"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let id = open(&mut wire, "t", &[(0, 0)]);
    let mut epoch = 1;
    eventually("a connection to the other shard", || {
        let response = Wire::connect(broker.kafka).call(&next(id, epoch), FETCH);
        let is_unknown = response.error_code == FETCH_SESSION_ID_NOT_FOUND;
        epoch += i32::from(!is_unknown);
        is_unknown
    });
    assert_eq!(indexes(&wire.call(&next(id, epoch), FETCH)), NOTHING);
}

#[test]
fn over_the_limit_there_are_no_new_sessions_but_all_fetches_are_served() {
    let flags = ["--fetch-sessions-max=3", "--fetch-session-partitions-max=5"];
    let (_dir, broker, mut wire) = broker(&flags);
    wire.create_topic("t", 9);
    let first = open(&mut wire, "t", &[(0, 0)]);
    let second = open(&mut wire, "t", &[(0, 0), (1, 0)]);
    let sessionless = |wire: &mut Wire, count: i32| {
        let all: Vec<_> = (0..count).map(|index| (index, 0)).collect();
        let response = wire.call(&opening("t", &all), FETCH);
        assert_eq!(indexes(&response).len() as i32, count);
        assert_eq!(response.session_id, 0);
    };
    sessionless(&mut wire, 3);
    let third = open(&mut wire, "t", &[(0, 0), (1, 0)]);
    sessionless(&mut wire, 1);
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 3.0);
    // None was closed for another, and a full house closes the one that wants more.
    assert_eq!(indexes(&wire.call(&next(first, 1), FETCH)), NOTHING);
    assert_eq!(indexes(&wire.call(&next(second, 1), FETCH)), NOTHING);
    let grown = wire.call(&changed(third, 1, "t", &[(5, 0)]), FETCH);
    assert_eq!(refused(&grown), FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 2.0);
    let evicted = broker.metric("millstream_fetch_session_evictions_total", "");
    assert_eq!(evicted, 1.0);
}

#[test]
fn an_unused_session_gives_way_to_a_new_one() {
    let flags = ["--fetch-sessions-max=1", "--fetch-session-eviction-ms=0"];
    let (_dir, broker, mut wire) = broker(&flags);
    wire.create_topic("t", 1);
    let old = open(&mut wire, "t", &[(0, 0)]);
    // As soon as a millisecond has passed.
    eventually("a new session", || {
        wire.call(&opening("t", &[(0, 0)]), FETCH).session_id > 0
    });
    let response = wire.call(&next(old, 1), FETCH);
    assert_eq!(refused(&response), FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 1.0);
    let evicted = broker.metric("millstream_fetch_session_evictions_total", "");
    assert_eq!(evicted, 1.0);
}

#[test]
fn sessions_can_be_turned_off() {
    let (_dir, _broker, mut wire) = broker(&["--fetch-sessions-max=0"]);
    wire.create_topic("t", 1);
    let response = wire.call(&opening("t", &[(0, 0)]), FETCH);
    assert_eq!((indexes(&response), response.session_id), (vec![0], 0));
}

#[test]
fn names_of_any_length_are_answered_but_not_kept() {
    let (_dir, broker, mut wire) = broker(&[]);
    let topics = (0..100).map(|n| {
        let name = format!("{n:0>30000}");
        FetchTopic::default()
            .with_topic(topic_name(&name))
            .with_partitions(vec![FetchPartition::default()])
    });
    let request = opening("", &[]).with_topics(topics.collect());
    let response = wire.call(&request, FETCH);
    assert_eq!((response.responses.len(), response.session_id), (100, 0));
    assert_eq!(broker.metric("millstream_fetch_sessions", ""), 0.0);
}
