//! Damage of one partition: the broker starts, says exactly where it is, serves what is sound, refuses the
//! rest with an error that consumers do not pass over, and changes nothing on the disk.

use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, HANG, eventually};
use kafka_protocol::messages::fetch_response::PartitionData;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const CORRUPT_MESSAGE: i16 = 2;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const KAFKA_STORAGE_ERROR: i16 = 56;
const BATCHES: i64 = 30;
/// Of one batch: segments have ten.
const VALUE_BYTES: usize = 100 << 10;

fn value(number: i64) -> Vec<u8> {
    vec![b'a' + (number % 26) as u8; VALUE_BYTES]
}

/// A stopped data directory with a topic of several segments, and another one.
fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    let created = wire.try_create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    assert_eq!(created.error_code, 0);
    for number in 0..BATCHES {
        wire.append("orders", 0, &Batch::of([value(number)]));
    }
    wire.create_topic("other", 1);
    wire.append("other", 0, &Batch::of(["sound"]));
    broker.stop();
    dir
}

fn segments(dir: &Path, partition: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(partition)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

fn base_of(segment: &Path) -> i64 {
    segment
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn evidence(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (path.clone(), fs::read(&path).unwrap());
    segments(dir, "orders-0").into_iter().map(read).collect()
}

/// Fetches the batch with an offset alone.
fn fetch_one(wire: &mut Wire, topic: &str, offset: i64) -> PartitionData {
    let mut request = fetch(topic, &[(0, offset)]);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    fetched_partition(wire.call(&request, FETCH))
}

/// Reads every offset of a partition on its own: those that are refused, with the error.
fn refused(wire: &mut Wire, topic: &str, end: i64) -> Vec<(i64, i16)> {
    let mut refused = Vec::new();
    for offset in 0..end {
        let data = fetch_one(wire, topic, offset);
        match data.error_code {
            0 => {
                let batches = crate::support::batch::split(&data.records.unwrap());
                assert_eq!(batches[0].base_offset, offset);
                assert_eq!(batches[0].values(), [value(offset)]);
            }
            error => refused.push((offset, error)),
        }
    }
    refused
}

#[test]
fn a_damaged_batch_is_told_once_refused_and_everything_else_is_served() {
    let dir = stopped();
    let second = segments(dir.path(), "orders-0")[1].clone();
    let mut bytes = fs::read(&second).unwrap();
    let size = bytes.len() / 10;
    // The length of its third batch, so that no header can be believed behind it.
    bytes[2 * size + 8] = 0x7f;
    fs::write(&second, &bytes).unwrap();
    let before = evidence(dir.path());
    let lost = base_of(&second) + 2;
    for round in 0..2 {
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(wire.values("other", 0), [b"sound"]);
        assert_eq!(
            refused(&mut wire, "orders", BATCHES),
            [(lost, CORRUPT_MESSAGE)],
            "round {round}"
        );
        let log = broker.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("the log is damaged"))
            .collect();
        if round == 0 {
            let [line] = lines[..] else {
                panic!("{log}");
            };
            for part in [
                "topic=\"orders\"".to_owned(),
                "partition=0".to_owned(),
                second.display().to_string(),
                format!("position={}", 2 * size),
                format!("bytes={size}"),
                format!("first_offset={lost}"),
                format!("last_offset={lost}"),
            ] {
                assert!(line.contains(&part), "{part} in {line}");
            }
        }
        let metric = |name: &str| broker.metric(name, "topic=\"orders\"");
        assert_eq!(metric("millstream_topic_damaged_partitions"), 1.0);
        assert_eq!(metric("millstream_topic_damaged_offsets"), 1.0);
        assert_eq!(metric("millstream_topic_offline_partitions"), 0.0);
        // Writing goes on.
        wire.append("orders", 0, &Batch::of([value(BATCHES + round)]));
        broker.stop();
    }
    let after = evidence(dir.path());
    for (path, bytes) in &before {
        assert!(
            after[path].starts_with(bytes),
            "{} was changed",
            path.display()
        );
    }
}

#[test]
fn a_consumer_is_told_of_damage_and_stays_before_it() {
    let dir = stopped();
    let second = segments(dir.path(), "orders-0")[1].clone();
    let mut bytes = fs::read(&second).unwrap();
    let size = bytes.len() / 10;
    bytes[2 * size + 16] = 9;
    fs::write(&second, &bytes).unwrap();
    let lost = base_of(&second) + 2;
    let broker = Broker::start(dir.path());
    let found = fetch_one(&mut Wire::connect(broker.kafka), "orders", lost);
    assert_eq!(found.error_code, CORRUPT_MESSAGE);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "readers")
        .set("auto.offset.reset", "latest")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("orders", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&from).unwrap();
    let until = Instant::now() + HANG;
    let mut seen = Vec::new();
    let mut errors = 0;
    while errors < 2 {
        assert!(Instant::now() < until, "{seen:?}");
        match consumer.poll(HANG) {
            Some(Ok(message)) => seen.push(message.offset()),
            Some(Err(error)) => {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::InvalidMessage)
                );
                errors += 1;
            }
            None => {}
        }
    }
    assert_eq!(seen, (0..lost).collect::<Vec<_>>());
    // What lies behind can be read by who says so.
    from.set_partition_offset("orders", 0, Offset::Offset(lost + 1))
        .unwrap();
    consumer.assign(&from).unwrap();
    let mut next = lost + 1;
    while next < BATCHES {
        assert!(Instant::now() < until);
        if let Some(Ok(message)) = consumer.poll(HANG) {
            assert_eq!(message.offset(), next);
            next += 1;
        }
    }
}

#[test]
fn a_missing_or_short_last_segment_stops_only_its_partition() {
    for is_missing in [true, false] {
        let dir = stopped();
        let last = segments(dir.path(), "orders-0").pop().unwrap();
        let lost = match is_missing {
            true => {
                fs::remove_file(&last).unwrap();
                base_of(&last)
            }
            false => {
                let bytes = fs::read(&last).unwrap();
                fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
                BATCHES - 1
            }
        };
        let before = evidence(dir.path());
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        wire.append("other", 0, &Batch::of(["more"]));
        let expected: Vec<_> = (lost..BATCHES)
            .map(|offset| (offset, CORRUPT_MESSAGE))
            .collect();
        assert_eq!(refused(&mut wire, "orders", BATCHES), expected);
        // Not "out of range": a consumer would go elsewhere and skip what was there.
        assert_eq!(
            wire.fetch("orders", 0, BATCHES + 5).error_code,
            CORRUPT_MESSAGE
        );
        let produced = wire.produce("orders", 0, Batch::of(["x"]).encode());
        assert_eq!(produced.error_code, KAFKA_STORAGE_ERROR);
        let log = broker.log();
        assert!(log.contains("this partition takes no writes"), "{log}");
        assert!(log.contains("the log is damaged"), "{log}");
        let stopped = broker.metric("millstream_topic_stopped_partitions", "topic=\"orders\"");
        assert_eq!(stopped, 1.0);
        broker.stop();
        assert_eq!(evidence(dir.path()), before);
    }
}

#[test]
fn a_segment_missing_in_the_middle_is_refused_and_writing_goes_on() {
    let dir = stopped();
    let second = segments(dir.path(), "orders-0")[1].clone();
    fs::remove_file(&second).unwrap();
    let lost = base_of(&second)..base_of(&segments(dir.path(), "orders-0")[1]);
    let expected: Vec<_> = lost.map(|offset| (offset, CORRUPT_MESSAGE)).collect();
    for _ in 0..2 {
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(refused(&mut wire, "orders", BATCHES), expected);
        wire.append("orders", 0, &Batch::of(["more"]));
        broker.stop();
    }
}

#[test]
fn a_partition_that_cannot_be_opened_is_offline_and_the_others_are_served() {
    let dir = stopped();
    let checkpoint = dir.path().join("orders-0/checkpoint");
    let content = fs::read(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    fs::create_dir(&checkpoint).unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.values("other", 0), [b"sound"]);
    assert_eq!(wire.fetch("orders", 0, 0).error_code, KAFKA_STORAGE_ERROR);
    let listed = wire.list_offset("orders", 0, -1, LIST_OFFSETS);
    assert_eq!(listed.error_code, KAFKA_STORAGE_ERROR);
    let produced = wire.produce("orders", 0, Batch::of(["x"]).encode());
    assert_eq!(produced.error_code, KAFKA_STORAGE_ERROR);
    let offline = broker.metric("millstream_topic_offline_partitions", "topic=\"orders\"");
    assert_eq!(offline, 1.0);
    assert!(broker.log().contains("is offline"), "{}", broker.log());
    broker.stop();
    fs::remove_dir(&checkpoint).unwrap();
    fs::write(&checkpoint, content).unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(refused(&mut wire, "orders", BATCHES), []);
    assert_eq!(
        wire.fetch("orders", 0, BATCHES + 5).error_code,
        OFFSET_OUT_OF_RANGE
    );
}

#[test]
fn a_torn_tail_with_sound_batches_in_it_is_cut_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    // A start would write back over the damage what the journal has.
    let broker = Broker::with(dir.path(), &["--journal-bytes", "0"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("tail", 1);
    for number in 0..5 {
        wire.append("tail", 0, &Batch::of([format!("value {number}")]));
    }
    broker.kill_9();
    let segment = segments(dir.path(), "tail-0")[0].clone();
    let whole = fs::read(&segment).unwrap();
    let second = whole
        .windows(7)
        .position(|bytes| bytes == b"value 1")
        .unwrap();
    let mut damaged = whole.clone();
    damaged[second] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.values("tail", 0), [b"value 0"]);
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let kept = fs::read_dir(dir.path().join("tail-0")).unwrap();
    let mut kept = kept.map(|entry| entry.unwrap().path());
    let kept = kept
        .find(|path| name(path.clone()).contains(".log.cut-"))
        .unwrap();
    assert!(
        broker.log().contains(kept.to_str().unwrap()),
        "{}",
        broker.log()
    );
    let kept = fs::read(kept).unwrap();
    assert!(kept.windows(7).any(|bytes| bytes == b"value 4"));
}

#[test]
fn the_groups_of_a_damaged_partition_are_not_served_with_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--offsets-topic-num-partitions", "1"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let committed = wire.call(&commit("readers", "t", &[(0, 7)]), OFFSET_COMMIT);
    assert_eq!(commit_error(&committed), 0);
    broker.stop();
    let segment = segments(dir.path(), "__consumer_offsets-0")[0].clone();
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let broker = Broker::with(dir.path(), &flags);
    eventually("the damage is told", || {
        broker.log().contains("the groups in it are not served")
    });
    let output = broker.run(&["group", "describe", "readers"], b"");
    assert!(!output.status.success(), "{output:?}");
    let mut wire = Wire::connect(broker.kafka);
    wire.append("t", 0, &Batch::of(["x"]));
}

#[test]
fn after_a_repair_consumers_pass_over_what_was_given_up_and_writing_goes_on() {
    let dir = stopped();
    let paths = segments(dir.path(), "orders-0");
    // A batch of the first, the whole second, and the end of the last.
    let mut first = fs::read(&paths[0]).unwrap();
    let size = first.len() / 10;
    first[3 * size + 500] ^= 1;
    fs::write(&paths[0], &first).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let last = fs::read(paths.last().unwrap()).unwrap();
    fs::write(paths.last().unwrap(), &last[..last.len() - 1]).unwrap();
    let missing = base_of(&paths[1])..base_of(&paths[2]);
    let is_left =
        |offset: &i64| *offset != 3 && !missing.contains(offset) && *offset != BATCHES - 1;

    let repaired = crate::support::run_with_input(
        std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["verify", "--repair"])
            .arg(dir.path()),
        b"",
    );
    assert!(repaired.status.success(), "{repaired:?}");
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    let appended = wire.append("orders", 0, &Batch::of([value(BATCHES)]));
    assert_eq!(appended, BATCHES);
    let mut expected: Vec<i64> = (0..BATCHES).filter(is_left).collect();
    expected.push(BATCHES);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "readers")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("orders", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&from).unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&BATCHES) {
        let message = consumer.poll(HANG).expect("a message").unwrap();
        assert_eq!(message.payload(), Some(&value(message.offset())[..]));
        seen.push(message.offset());
    }
    assert_eq!(seen, expected);
    assert_eq!(broker.metric("millstream_topic_damaged_offsets", ""), 0.0);
}

#[test]
fn a_scrub_finds_damage_that_nobody_has_read() {
    let dir = stopped();
    let second = segments(dir.path(), "orders-0")[1].clone();
    let mut bytes = fs::read(&second).unwrap();
    let size = bytes.len() / 10;
    // A record's value: a consumer that compares no checksums would not notice.
    bytes[4 * size + 5000] ^= 1;
    fs::write(&second, &bytes).unwrap();
    let lost = base_of(&second) + 4;
    let broker = Broker::with(dir.path(), &["--scrub-bytes-per-second", "1GiB"]);
    eventually("both shards have read all", || {
        broker.metric("millstream_scrub_rounds_total", "shard") == 2.0
    });
    assert_eq!(
        broker.metric("millstream_scrub_findings_total", "shard"),
        1.0
    );
    assert!(broker.metric("millstream_scrub_read_bytes_total", "shard") >= 2.0 * (1 << 20) as f64);
    assert!(
        broker.log().contains(&format!("position={}", 4 * size)),
        "{}",
        broker.log()
    );
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(
        refused(&mut wire, "orders", BATCHES),
        [(lost, CORRUPT_MESSAGE)]
    );
    broker.stop();
    // Without a scrub the next start knows it too.
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(
        refused(&mut wire, "orders", BATCHES),
        [(lost, CORRUPT_MESSAGE)]
    );
    assert_eq!(
        broker.metric("millstream_scrub_read_bytes_total", "shard"),
        0.0
    );
}
