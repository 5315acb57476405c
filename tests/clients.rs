//! Real clients: librdkafka (the `rdkafka` crate builds it from source) and rskafka.

use crate::support::batch::split;
use crate::support::wire::*;
use crate::support::{Broker, HANG, Random};
use chrono::{DateTime, Utc};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A record as it goes in and must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: i64,
}

/// From 1 byte to 1 MB, with and without keys, headers and values.
fn samples() -> Vec<Sample> {
    let mut random = Random::new();
    let mut value = |length: usize| {
        // Half of it packs well.
        let mut value = random.bytes(length.div_ceil(2));
        value.resize(length, b'.');
        value
    };
    let plain = |value: Option<Vec<u8>>| Sample {
        key: None,
        value,
        headers: Vec::new(),
        timestamp: 1_600_000_000_000,
    };
    let mut samples: Vec<Sample> = [1, 2, 10, 100, 1000, 10_000, 100_000, 999_000]
        .map(|length| plain(Some(value(length))))
        .into();
    samples.push(plain(Some(Vec::new())));
    samples.push(Sample {
        key: Some(b"a key without a value".to_vec()),
        ..plain(None)
    });
    samples.push(Sample {
        key: Some(vec![0, 255, 10, 13]),
        headers: vec![
            ("trace".into(), Some(b"abc".to_vec())),
            ("trace".into(), Some(Vec::new())),
            ("nothing".into(), None),
        ],
        ..plain(Some(value(50)))
    });
    for (place, sample) in samples.iter_mut().enumerate() {
        sample.timestamp += place as i64 * 1000;
    }
    samples
}

fn client(broker: &Broker, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn consumer(broker: &Broker) -> BaseConsumer {
    let settings = [
        ("group.id", "unused"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
    ];
    client(broker, &settings).create().unwrap()
}

fn assign(consumer: &BaseConsumer, topic: &str, partitions: i32, offset: Offset) {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, offset).unwrap();
    }
    consumer.assign(&list).unwrap();
}

/// The next record; waits for it.
fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let until = Instant::now() + HANG;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => return message.unwrap(),
            None => assert!(Instant::now() < until, "no record comes"),
        }
    }
}

fn sample_of(message: &BorrowedMessage<'_>) -> Sample {
    let headers = message.headers().map(|headers| {
        let headers = headers.iter();
        headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
    });
    Sample {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.into_iter().flatten().collect(),
        timestamp: message.timestamp().to_millis().unwrap(),
    }
}

async fn send(producer: &FutureProducer, topic: &str, sample: &Sample) -> (i32, i64) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &sample.headers {
        let value = value.as_ref();
        headers = headers.insert(Header { key, value });
    }
    let mut record = FutureRecord::<Vec<u8>, Vec<u8>>::to(topic)
        .partition(0)
        .timestamp(sample.timestamp)
        .headers(headers);
    record.key = sample.key.as_ref();
    record.payload = sample.value.as_ref();
    let delivery = producer.send(record, HANG).await;
    let delivery = delivery.map_err(|(error, _)| error).unwrap();
    (delivery.partition, delivery.offset)
}

#[tokio::test]
async fn librdkafka_gets_back_what_it_sent_in_every_codec() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let samples = samples();
    for (code, codec) in CODECS.into_iter().enumerate() {
        let settings = [
            ("compression.type", codec),
            ("enable.idempotence", "true"),
            ("message.max.bytes", "1048588"),
        ];
        let producer: FutureProducer = client(&broker, &settings).create().unwrap();
        for (offset, sample) in samples.iter().enumerate() {
            // The topic is made by its first record.
            let place = send(&producer, codec, sample).await;
            assert_eq!(place, (0, offset as i64), "{codec}");
        }
        let consumer = consumer(&broker);
        assign(&consumer, codec, 1, Offset::Beginning);
        for (offset, sample) in samples.iter().enumerate() {
            let message = next(&consumer);
            assert_eq!(message.offset(), offset as i64);
            assert!(sample_of(&message) == *sample, "{codec}, offset {offset}");
        }
        // It was stored as it was packed: some clients turn packing off when a broker's versions
        // do not look right to them.
        let batches = Wire::connect(broker.kafka).read_from(codec, 0, 0);
        let packed = batches
            .iter()
            .any(|batch| batch.attributes & 7 == code as i16);
        assert!(packed, "{codec} was not used");
    }
}

#[tokio::test]
async fn an_idempotent_producer_keeps_the_order_of_fifty_partitions() {
    const PARTITIONS: i32 = 50;
    const RECORDS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    Wire::connect(broker.kafka).create_topic("fifty", PARTITIONS);
    let settings = [("enable.idempotence", "true"), ("linger.ms", "5")];
    let producer: FutureProducer = client(&broker, &settings).create().unwrap();
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        for partition in 0..PARTITIONS {
            let value = number.to_string();
            let record = FutureRecord::<(), String>::to("fifty")
                .partition(partition)
                .payload(&value);
            let sent = producer.send_result(record);
            let sent = sent.map_err(|(error, _)| error).unwrap();
            deliveries.push((partition, number, sent));
        }
    }
    for (partition, number, delivery) in deliveries {
        let delivery = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        assert_eq!(
            (delivery.partition, delivery.offset),
            (partition, number as i64)
        );
    }
    let consumer = consumer(&broker);
    assign(&consumer, "fifty", PARTITIONS, Offset::Beginning);
    let mut read = vec![0; PARTITIONS as usize];
    for _ in 0..PARTITIONS as usize * RECORDS {
        let message = next(&consumer);
        let expected = &mut read[message.partition() as usize];
        assert_eq!(message.payload().unwrap(), expected.to_string().as_bytes());
        *expected += 1;
    }
    assert_eq!(read, vec![RECORDS; PARTITIONS as usize]);
}

#[tokio::test]
async fn a_consumer_seeks_by_offset_and_by_time_and_waits_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let producer: FutureProducer = client(&broker, &[("batch.num.messages", "7")])
        .create()
        .unwrap();
    for number in 0..50_i64 {
        let sample = Sample {
            key: None,
            value: Some(number.to_string().into_bytes()),
            headers: Vec::new(),
            timestamp: 1_600_000_000_000 + number * 1000,
        };
        send(&producer, "seek", &sample).await;
    }
    let consumer = consumer(&broker);
    assign(&consumer, "seek", 1, Offset::Offset(20));
    assert_eq!(next(&consumer).offset(), 20);
    consumer.seek("seek", 0, Offset::Offset(3), HANG).unwrap();
    assert_eq!(next(&consumer).offset(), 3);

    let mut times = TopicPartitionList::new();
    let half_past = Offset::Offset(1_600_000_000_000 + 41_500);
    times.add_partition_offset("seek", 0, half_past).unwrap();
    let found = consumer.offsets_for_times(times, HANG).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::Offset(42));
    let mut late = TopicPartitionList::new();
    let never = Offset::Offset(1_600_000_000_000 + 50_000);
    late.add_partition_offset("seek", 0, never).unwrap();
    let found = consumer.offsets_for_times(late, HANG).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::End);
    assert_eq!(consumer.fetch_watermarks("seek", 0, HANG).unwrap(), (0, 50));

    // A client that waits for minutes has the record as soon as it is there.
    let settings = [
        ("group.id", "unused"),
        ("fetch.wait.max.ms", "300000"),
        ("socket.timeout.ms", "300000"),
        ("auto.offset.reset", "error"),
    ];
    let consumer: BaseConsumer = client(&broker, &settings).create().unwrap();
    assign(&consumer, "seek", 1, Offset::Offset(49));
    assert_eq!(next(&consumer).offset(), 49);
    crate::support::eventually("it waits for the next record", || {
        assert!(consumer.poll(Duration::ZERO).is_none());
        broker.metric("millstream_parked_fetches", "") >= 1.0
    });
    let sample = Sample {
        key: None,
        value: Some(b"fresh".to_vec()),
        headers: Vec::new(),
        timestamp: 1_700_000_000_000,
    };
    send(&producer, "seek", &sample).await;
    let message = next(&consumer);
    assert_eq!(
        (message.offset(), message.payload()),
        (50, Some(&b"fresh"[..]))
    );
    assert_eq!(
        message.timestamp(),
        Timestamp::CreateTime(1_700_000_000_000)
    );
}

#[tokio::test]
async fn librdkafka_produces_with_every_kind_of_acks() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    Wire::connect(broker.kafka).create_topic("acks", 1);
    for (round, acks) in ["0", "1", "all"].into_iter().enumerate() {
        let producer: FutureProducer = client(&broker, &[("acks", acks)]).create().unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..100 {
            let value = acks.to_owned();
            let record = FutureRecord::<(), String>::to("acks")
                .partition(0)
                .payload(&value);
            deliveries.push(
                producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap(),
            );
        }
        producer.flush(Timeout::After(HANG)).unwrap();
        for delivery in deliveries {
            delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
        // Without acks nobody says when it has arrived.
        let end = (round as i64 + 1) * 100;
        let mut wire = Wire::connect(broker.kafka);
        crate::support::eventually("all records are there", || {
            wire.offset("acks", 0, -1) == end
        });
    }
    let consumer = consumer(&broker);
    assign(&consumer, "acks", 1, Offset::Beginning);
    for place in 0..300 {
        let message = next(&consumer);
        let expected = ["0", "1", "all"][place / 100];
        assert_eq!(message.payload().unwrap(), expected.as_bytes());
    }
}

async fn rskafka(broker: &Broker) -> Client {
    ClientBuilder::new(vec![broker.bootstrap()])
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn rskafka_gets_back_what_it_sent_in_every_codec_and_librdkafka_reads_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let client = rskafka(&broker).await;
    let controller = client.controller_client().unwrap();
    let codecs = [
        Compression::NoCompression,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut random = Random::new();
    for (code, codec) in codecs.into_iter().enumerate() {
        let topic = format!("rskafka-{code}");
        controller.create_topic(&topic, 2, 1, 10_000).await.unwrap();
        let partition = client
            .partition_client(&topic, 1, UnknownTopicHandling::Error)
            .await
            .unwrap();
        let record = |place: usize| Record {
            key: Some(format!("key {place}").into_bytes()),
            value: Some(vec![place as u8; 1 + place * 500]),
            headers: BTreeMap::from([("place".to_owned(), vec![place as u8])]),
            timestamp: DateTime::<Utc>::from_timestamp_millis(1_650_000_000_000 + place as i64)
                .unwrap(),
        };
        let mut records: Vec<Record> = (0..20).map(record).collect();
        records[19].value = Some(random.bytes(900_000));
        let mut offsets = partition
            .produce(records[..10].to_vec(), codec)
            .await
            .unwrap();
        offsets.extend(
            partition
                .produce(records[10..].to_vec(), codec)
                .await
                .unwrap(),
        );
        assert_eq!(offsets, (0..20).collect::<Vec<i64>>());
        assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 20);
        assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 0);
        let (read, high_watermark) = partition
            .fetch_records(0, 1..50_000_000, 1000)
            .await
            .unwrap();
        assert_eq!(high_watermark, 20);
        let read: Vec<Record> = read.into_iter().map(|record| record.record).collect();
        assert!(read == records, "{codec:?}");

        let consumer = consumer(&broker);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 1, Offset::Beginning)
            .unwrap();
        consumer.assign(&list).unwrap();
        for record in &records {
            let message = next(&consumer);
            assert!(message.payload() == record.value.as_deref(), "{codec:?}");
            assert_eq!(message.key(), record.key.as_deref());
        }
    }
}

#[tokio::test]
async fn rskafka_deletes_records_and_topics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let client = rskafka(&broker).await;
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 1, 1, 10_000).await.unwrap();
    let partition = client
        .partition_client("t", 0, UnknownTopicHandling::Error)
        .await
        .unwrap();
    let record = Record {
        key: None,
        value: Some(b"x".to_vec()),
        headers: BTreeMap::new(),
        timestamp: DateTime::<Utc>::from_timestamp_millis(1_650_000_000_000).unwrap(),
    };
    for _ in 0..10 {
        let sent = partition.produce(vec![record.clone()], Compression::NoCompression);
        sent.await.unwrap();
    }
    partition.delete_records(6, 10_000).await.unwrap();
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 6);
    let (read, _) = partition
        .fetch_records(6, 1..1_000_000, 1000)
        .await
        .unwrap();
    assert_eq!(read.len(), 4);
    controller.delete_topic("t", 10_000).await.unwrap();
    assert!(client.list_topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn librdkafka_reads_batches_of_every_fetch_size() {
    // Small limits force partial reads: each fetch must hold a whole batch and go on after it.
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 3);
    let mut expected = vec![Vec::new(); 3];
    for round in 0..30_usize {
        for (index, expected) in expected.iter_mut().enumerate() {
            let value = vec![round as u8; 1 + round * round * 40];
            let batch = crate::support::batch::Batch::of([&value, &value]);
            wire.append("t", index as i32, &batch);
            expected.extend([value.clone(), value]);
        }
    }
    for limit in ["1000", "20000", "1000000"] {
        let settings = [
            ("group.id", "unused"),
            ("fetch.max.bytes", limit),
            ("message.max.bytes", "1000"),
            ("max.partition.fetch.bytes", limit),
            ("auto.offset.reset", "error"),
        ];
        let consumer: BaseConsumer = client(&broker, &settings).create().unwrap();
        assign(&consumer, "t", 3, Offset::Beginning);
        let mut read = vec![Vec::new(); 3];
        for _ in 0..180 {
            let message = next(&consumer);
            read[message.partition() as usize].push(message.payload().unwrap().to_vec());
        }
        assert!(read == expected, "at most {limit} bytes");
    }
    let first = split(&wire.fetch("t", 0, 0).records.unwrap());
    assert_eq!(first[0].record_count, 2);
}
