//! Compacted topics over the wire: what a real client reads while the cleaner is at work and the
//! broker is killed, and what is left afterwards.

use crate::support::wire::Wire;
use crate::support::{Broker, HANG, eventually};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;
const KEYS: usize = 60;
const ROUNDS: usize = 150;
/// Keys that are written at the end, and how often: several segments of them.
const OTHERS: usize = 40;
const OTHERS_ROUNDS: usize = 2;
const KILLS: usize = 3;
/// The smallest that a topic may have.
const SEGMENT_BYTES: &str = "1048576";
const COMPACTS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", SEGMENT_BYTES),
    ("min.cleanable.dirty.ratio", "0"),
];

/// The last thing that a producer was told is stored of a key: its number, and whether it deletes.
type Stored = BTreeMap<String, (u64, bool)>;

fn client(broker: SocketAddr) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.to_string())
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100");
    config
}

/// Sends a record for each key and waits until all are stored. Each carries its number.
async fn send_round(
    producer: &FutureProducer,
    topic: &str,
    keys: impl IntoIterator<Item = String>,
    value: Option<&[u8]>,
    number: &mut u64,
    stored: &Mutex<Stored>,
) {
    let mut sent = Vec::new();
    for key in keys {
        *number += 1;
        let count = number.to_string();
        let header = Header {
            key: "number",
            value: Some(&count),
        };
        let mut record = FutureRecord::<str, [u8]>::to(topic)
            .key(&key)
            .headers(OwnedHeaders::new().insert(header));
        record.payload = value;
        let delivery = producer.send_result(record).unwrap();
        sent.push((key.clone(), *number, delivery));
    }
    for (key, number, delivery) in sent {
        delivery.await.unwrap().unwrap();
        let mut stored = stored.lock().unwrap();
        stored.insert(key, (number, value.is_none()));
    }
}

fn key(number: usize) -> String {
    format!("key-{number}")
}

/// Writes every key over and over, deletes every third one at the end, and buries that under the
/// records of other keys, for the segment that is being written to is not compacted.
fn produce_all(broker: SocketAddr, topic: &str, stored: &Mutex<Stored>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let producer: FutureProducer = client(broker)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        .create()
        .unwrap();
    let mut number = 0;
    runtime.block_on(async {
        for round in 0..ROUNDS {
            let value = incompressible(800, round as u64);
            let keys = (0..KEYS).map(key);
            send_round(&producer, topic, keys, Some(&value), &mut number, stored).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let deleted = (0..KEYS).filter(|number| number % 3 == 0).map(key);
        send_round(&producer, topic, deleted, None, &mut number, stored).await;
        for round in 0..OTHERS_ROUNDS {
            let value = incompressible(100_000, round as u64);
            let others = (0..OTHERS).map(|number| format!("other-{number}"));
            send_round(&producer, topic, others, Some(&value), &mut number, stored).await;
        }
    });
}

fn incompressible(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What one reading of a whole topic found: the newest record of each key, and how many there were.
struct Reading {
    newest: Stored,
    records: usize,
}

/// Reads a topic from its beginning to its end as it was when the reader came there. Offsets must
/// rise, and a key's records must be in the order in which they were written.
fn read_all(broker: SocketAddr, topic: &str) -> Reading {
    let consumer: BaseConsumer = client(broker)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let from = Offset::Beginning;
        list.add_partition_offset(topic, partition, from).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut last_offsets = BTreeMap::new();
    let mut at_end = BTreeSet::new();
    let mut reading = Reading {
        newest: Stored::new(),
        records: 0,
    };
    let until = Instant::now() + HANG;
    while at_end.len() < PARTITIONS as usize {
        assert!(Instant::now() < until, "{topic}: no end of it");
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let last = last_offsets.insert(message.partition(), message.offset());
                assert!(last < Some(message.offset()), "{last:?} before {message:?}");
                reading.take(&message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            Some(Err(error)) => assert!(is_about_connections(&error), "{topic}: {error}"),
            None => {}
        }
    }
    reading
}

impl Reading {
    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let key = std::str::from_utf8(message.key().unwrap()).unwrap();
        let number = message.headers().unwrap().get_as::<str>(0).unwrap();
        let number: u64 = number.value.unwrap().parse().unwrap();
        let new = (number, message.payload().is_none());
        let earlier = self.newest.insert(key.to_owned(), new);
        assert!(earlier < Some(new), "{key}: {earlier:?} before {new:?}");
        self.records += 1;
    }

    /// Everything that was stored before the reading began was found, or something newer.
    fn assert_covers(&self, stored: &Stored) {
        for (key, expected) in stored {
            let found = self.newest.get(key);
            assert!(
                found >= Some(expected),
                "{key}: {found:?}, not {expected:?}"
            );
        }
    }
}

/// The broker is killed again and again; a client retries.
fn is_about_connections(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    [
        AllBrokersDown,
        BrokerTransportFailure,
        OperationTimedOut,
        Resolve,
    ]
    .iter()
    .any(|transient| code == Some(*transient))
}

/// Whether a compaction of the topic is writing new segments at this moment.
fn is_being_rewritten(data_dir: &Path, topic: &str) -> bool {
    (0..PARTITIONS).any(|partition| {
        let dir = data_dir.join(format!("{topic}-{partition}"));
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names = files.map(|file| file.file_name());
        names.any(|name| name.to_string_lossy().ends_with(".cleaned"))
    })
}

fn assert_no_failure(broker: &Broker) {
    let metric = |name| broker.metric(name, "");
    assert!(metric("millstream_compaction_runs_total") > 0.0);
    assert_eq!(metric("millstream_compaction_errors_total"), 0.0);
    assert_eq!(metric("millstream_compaction_failed_partitions"), 0.0);
}

fn assert_sound(data_dir: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["verify", "--records"])
        .arg(data_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.ends_with(": sound\n"),
        "{text}"
    );
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_compacted_topic_keeps_the_newest_of_each_key_while_it_is_read_and_its_broker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let often = [
        "--log-cleaner-backoff-ms",
        "20",
        "--checkpoint-bytes",
        "65536",
    ];
    // So slow that a kill meets it at work.
    let slowly = ["--log-cleaner-io-bytes-per-second-max", "1048576"];
    let slow = [&often[..], &slowly].concat();
    let broker = Broker::with(dir.path(), &slow);
    let address = broker.kafka;
    let mut wire = Wire::connect(address);
    for (topic, retention_ms) in [("kept", "86400000"), ("brief", "1")] {
        let retention = ("delete.retention.ms", retention_ms);
        let configs = [&COMPACTS[..], &[retention]].concat();
        assert_eq!(
            wire.try_create_topic(topic, PARTITIONS, &configs)
                .error_code,
            0
        );
    }
    let stored = ["kept", "brief"].map(|topic| (topic, Mutex::new(Stored::new())));
    let done = AtomicBool::new(false);
    let broker = std::thread::scope(|scope| {
        // The readers end even if something below fails.
        let reading = SetAtEnd(&done);
        for (topic, stored) in &stored {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let before = stored.lock().unwrap().clone();
                    let reading = read_all(address, topic);
                    if *topic == "kept" {
                        reading.assert_covers(&before);
                    }
                }
            });
        }
        let producers = stored
            .each_ref()
            .map(|(topic, stored)| scope.spawn(|| produce_all(address, topic, stored)));
        let mut broker = broker;
        for _ in 0..KILLS {
            eventually("a compaction is at work", || {
                stored
                    .iter()
                    .any(|(topic, _)| is_being_rewritten(dir.path(), topic))
            });
            broker.kill_9();
            broker = Broker::at(address, dir.path(), &slow);
        }
        broker.kill_9();
        broker = Broker::at(address, dir.path(), &often);
        for producer in producers {
            producer.join().unwrap();
        }
        // What was written over is gone; the other keys may still lie in a segment that is not closed.
        eventually("only the newest is left", || {
            read_all(address, "kept").records <= KEYS + OTHERS * OTHERS_ROUNDS
        });
        drop(reading);
        broker
    });

    let [(_, kept), (_, brief)] =
        stored.map(|(topic, stored)| (topic, stored.into_inner().unwrap()));
    let reading = read_all(address, "kept");
    assert_eq!(reading.newest, kept, "tombstones too");
    let values: Stored = brief
        .into_iter()
        .filter(|(_, (_, deletes))| !deletes)
        .collect();
    eventually("the tombstones are gone", || {
        read_all(address, "brief").newest == values
    });
    assert_no_failure(&broker);
    broker.stop();
    assert_sound(dir.path());
}
