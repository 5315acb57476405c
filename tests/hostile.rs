//! Bad input: each gets the protocol's own error or a closed connection, and nobody else notices.

use crate::support::batch::{self, Batch, HEADER_BYTES};
use crate::support::wire::*;
use crate::support::{Broker, Random, eventually};
use kafka_protocol::messages::*;
use millstream::kafka::api::APIS;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const RECORD_LIST_TOO_LARGE: i16 = 18;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_TXN_STATE: i16 = 48;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// A client that was there before and goes on with its work meanwhile.
struct Bystander {
    wire: Wire,
    records: i64,
}

impl Bystander {
    fn at(broker: &Broker) -> Bystander {
        let mut wire = Wire::connect(broker.kafka);
        wire.create_topic("bystander", 2);
        Bystander { wire, records: 0 }
    }

    /// Produces to and reads from both partitions, on the connection it has had all along.
    fn works(&mut self) {
        for index in 0..2 {
            let value = self.records.to_string();
            let offset = self.wire.append("bystander", index, &Batch::of([&value]));
            assert_eq!(offset, self.records);
            let fetched = self.wire.fetch("bystander", index, offset);
            let batches = batch::split(&fetched.records.unwrap());
            assert_eq!(batches[0].values(), [value.as_bytes()]);
        }
        self.records += 1;
    }

    /// Nothing was lost or added.
    fn finds_everything(&mut self) {
        let expected: Vec<Vec<u8>> = (0..self.records)
            .map(|value| value.to_string().into_bytes())
            .collect();
        for index in 0..2 {
            assert!(self.wire.values("bystander", index) == expected);
        }
        // Groups, which garbage may happen to ask for, bring a topic of the broker's own.
        let topics = self.wire.topics();
        let clients = topics.iter().filter(|name| !name.starts_with("__"));
        assert_eq!(clients.collect::<Vec<_>>(), ["bystander"]);
    }
}

/// What the broker did with bytes that were sent on a connection of their own.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Closed,
    /// With this correlation id.
    Replied(i32),
}

fn send_alone(address: SocketAddr, bytes: &[u8]) -> Reaction {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::support::HANG)).unwrap();
    // The broker may have hung up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    if let Err(error) = &read {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    match reply.get(4..8) {
        Some(id) => Reaction::Replied(i32::from_be_bytes(id.try_into().unwrap())),
        None => Reaction::Closed,
    }
}

/// At most one line a second and shard tells of connections that were closed.
fn complaints_are_limited(broker: &Broker, since: Instant) {
    let lines = broker.log().matches("closed a connection").count();
    let seconds = since.elapsed().as_secs() as usize + 1;
    assert!(lines >= 1, "the operator was not told");
    assert!(
        lines <= 2 * (seconds + 1),
        "{lines} lines in {seconds} s:\n{}",
        broker.log()
    );
}

#[test]
fn random_bytes_impossible_lengths_and_truncated_frames_end_their_own_connection() {
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let started = Instant::now();
    let mut bystander = Bystander::at(&broker);
    bystander.works();
    let memory_before = broker.own_memory_bytes();

    for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream.set_read_timeout(Some(crate::support::HANG)).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        // Closed by the broker: this side sends nothing more, and keeps its own half open.
        let end = stream.read(&mut [0; 1]);
        assert!(
            matches!(&end, Ok(0))
                || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "a frame of {length} bytes"
        );
        bystander.works();
    }
    for size in 0..8 {
        // A frame that is too small for any header.
        let reaction = send_alone(broker.kafka, &sized(&vec![0; size]));
        assert_eq!(reaction, Reaction::Closed, "{size} bytes");
    }
    let whole = frame(&MetadataRequest::default().with_topics(None), METADATA, 77);
    assert_eq!(send_alone(broker.kafka, &whole), Reaction::Replied(77));
    for length in 0..whole.len() {
        let reaction = send_alone(broker.kafka, &whole[..length]);
        assert_eq!(reaction, Reaction::Closed, "cut after {length} bytes");
        if length % 10 == 0 {
            bystander.works();
        }
    }
    for _ in 0..300 {
        let length = 1 + random.below(2000);
        let garbage = random.bytes(length);
        assert_eq!(send_alone(broker.kafka, &garbage), Reaction::Closed);
        // A frame of the right length full of them.
        send_alone(broker.kafka, &sized(&garbage));
    }
    bystander.works();
    bystander.finds_everything();
    complaints_are_limited(&broker, started);
    let grown = broker.own_memory_bytes().saturating_sub(memory_before);
    assert!(grown < 64 << 20, "it holds {grown} bytes more");
    let refused = broker.metric("millstream_connections_closed_total", "frame_size");
    assert!(refused >= 4.0);
}

#[test]
fn every_api_in_every_version_with_a_body_of_garbage_is_answered_or_closed() {
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let started = Instant::now();
    let mut bystander = Bystander::at(&broker);
    bystander.works();
    let memory_before = broker.own_memory_bytes();

    let mut keys: Vec<i16> = (-1..=100).collect();
    keys.extend([i16::MIN, i16::MAX]);
    let mut connections: i32 = 0;
    for key in keys {
        let api = APIS.iter().find(|api| api.key.code() == key);
        let versions: Vec<i16> = match api {
            Some(api) => (-1..=api.max_version + 1).collect(),
            None => vec![-1, 0, 1, 7, i16::MAX],
        };
        for version in versions {
            for body in bodies(&mut random) {
                let id = connections;
                connections += 1;
                let mut request = Vec::new();
                request.extend(key.to_be_bytes());
                request.extend(version.to_be_bytes());
                request.extend(id.to_be_bytes());
                // No client id, and no tagged fields where there may be some.
                request.extend([0xff, 0xff]);
                if api.is_some_and(|api| api.is_flexible(version)) {
                    request.push(0);
                }
                request.extend(body);
                let reaction = send_alone(broker.kafka, &sized(&request));
                let may_reply = api.is_some_and(|api| version >= api.min_version);
                match reaction {
                    Reaction::Replied(to) => {
                        assert!(may_reply, "key {key} version {version}");
                        assert_eq!(to, id, "key {key} version {version}");
                    }
                    _ => assert!(
                        key != 18 || api.is_some_and(|api| version <= api.max_version),
                        "ApiVersions of a version that is too new must be answered"
                    ),
                }
            }
        }
        bystander.works();
    }
    bystander.finds_everything();
    complaints_are_limited(&broker, started);
    let grown = broker.own_memory_bytes().saturating_sub(memory_before);
    assert!(grown < 64 << 20, "it holds {grown} bytes more");
    assert!(
        broker.metric("millstream_connections_accepted_total", "") >= f64::from(connections),
        "every one of them was taken in"
    );
}

/// Bodies that no client would send. Some claim strings and arrays of 2^31 elements.
fn bodies(random: &mut Random) -> Vec<Vec<u8>> {
    let length = random.below(300);
    let mut null_then_huge = vec![0xff, 0xff];
    null_then_huge.extend([0x7f, 0xff, 0xff, 0xff].repeat(20));
    let mut numbers_then_huge = vec![0; 14];
    numbers_then_huge.extend([0x7f, 0xff, 0xff, 0xff].repeat(20));
    vec![
        Vec::new(),
        vec![0x7f; 64],
        vec![0xff; 64],
        // 2^31 and 2^63 as varints: compact lengths.
        [0xff, 0xff, 0xff, 0xff, 0x07].repeat(20),
        null_then_huge,
        numbers_then_huge,
        random.bytes(length),
    ]
}

#[test]
fn a_batch_that_must_be_refused_gets_its_error_code_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let small_segments = [
        ("segment.bytes", "1048576"),
        ("max.message.bytes", "4194304"),
    ];
    wire.try_create_topic("small-segments", 1, &small_segments);
    let good = Batch::of(["a", "b"]);
    let changed = |at: usize, to: &[u8]| {
        let mut batch = good.encode();
        batch[at..at + to.len()].copy_from_slice(to);
        batch::seal(&mut batch);
        batch
    };
    let with_attributes = |attributes: i16| {
        let mut batch = good.clone();
        batch.attributes = attributes;
        batch.encode()
    };
    let mut wrong_crc = good.encode();
    *wrong_crc.last_mut().unwrap() ^= 1;
    let whole = good.encode();
    let mut future = good.clone();
    future.base_timestamp = 32_503_680_000_000;
    let cases: Vec<(&str, Vec<u8>, i16)> = vec![
        ("a wrong CRC", wrong_crc, CORRUPT_MESSAGE),
        (
            "a cut batch",
            whole[..whole.len() - 1].to_vec(),
            CORRUPT_MESSAGE,
        ),
        ("half a header", whole[..30].to_vec(), CORRUPT_MESSAGE),
        ("a length of -1", changed(8, &[0xff; 4]), CORRUPT_MESSAGE),
        (
            "a length of 2^31 - 1",
            changed(8, &[0x7f, 0xff, 0xff, 0xff]),
            CORRUPT_MESSAGE,
        ),
        ("no batch at all", Vec::new(), INVALID_RECORD),
        (
            "two batches",
            [whole.clone(), whole].concat(),
            INVALID_RECORD,
        ),
        ("format 1", changed(batch::MAGIC, &[1]), INVALID_RECORD),
        ("a base offset", changed(7, &[5]), INVALID_RECORD),
        ("no records", Batch::of([""; 0]).encode(), INVALID_RECORD),
        (
            "a count that disagrees",
            changed(57, &9_i32.to_be_bytes()),
            INVALID_RECORD,
        ),
        ("a control batch", with_attributes(0x20), INVALID_RECORD),
        (
            "a transaction's batch",
            with_attributes(0x10),
            INVALID_TXN_STATE,
        ),
        (
            "a producer without sequence",
            good.clone().by(5, 0, -1).encode(),
            INVALID_RECORD,
        ),
        (
            "a time in the year 3000",
            future.encode(),
            INVALID_TIMESTAMP,
        ),
        (
            "more than max.message.bytes",
            Batch::of([vec![b'x'; 1_048_588]]).encode(),
            MESSAGE_TOO_LARGE,
        ),
    ];
    for (what, batch, code) in cases {
        let response = wire.produce("t", 0, batch);
        assert_eq!(response.error_code, code, "{what}: {response:?}");
        assert_eq!(response.base_offset, -1, "{what}");
    }
    let large = Batch::of([vec![b'x'; 2 << 20]]).encode();
    assert_eq!(
        wire.produce("small-segments", 0, large).error_code,
        RECORD_LIST_TOO_LARGE
    );
    let mut code = |topic: &str, index: i32, acks: i16, version: i16, batch: Vec<u8>| {
        let request = produce(topic, index, acks, batch);
        partition_of(wire.call(&request, version)).error_code
    };
    assert_eq!(code("t", 0, 2, 9, good.encode()), INVALID_REQUIRED_ACKS);
    assert_eq!(
        code("t", 1, -1, 9, good.encode()),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        code("t", -1, -1, 9, good.encode()),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    for name in ["a/b", &"x".repeat(300), "../../etc/passwd", ""] {
        assert_eq!(
            code(name, 0, -1, 9, good.encode()),
            UNKNOWN_TOPIC_OR_PARTITION
        );
    }
    let zstd = with_attributes(4);
    assert_eq!(code("t", 0, -1, 6, zstd), UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(wire.offset("t", 0, -1), 0, "nothing was appended");
    assert_eq!(wire.append("t", 0, &good), 0);
}

#[test]
fn topic_names_that_are_none_are_refused_wherever_a_topic_could_be_made() {
    let above = tempfile::tempdir().unwrap();
    let broker = Broker::start(&above.path().join("data"));
    let mut wire = Wire::connect(broker.kafka);
    let long = "x".repeat(300);
    for name in ["a/b", "../up", ".", "..", "a b", "ä", "a\0b", &long] {
        let created = wire.try_create_topic(name, 1, &[]);
        assert_eq!(created.error_code, INVALID_TOPIC, "{name:?}");
        let topic = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
            .with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true);
        let asked = wire.call(&request, METADATA);
        assert_eq!(asked.topics[0].error_code, INVALID_TOPIC, "{name:?}");
    }
    assert!(wire.topics().is_empty());
    let beside = std::fs::read_dir(above.path()).unwrap();
    let beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["data"]);
}

#[test]
fn a_batch_that_unpacks_to_gigabytes_takes_no_more_memory_than_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut bystander = Bystander::at(&broker);
    let mut wire = Wire::connect(broker.kafka);
    let memory_before = broker.own_memory_bytes();
    // The second record's time lies inside the batch, so that looking for it means to unpack.
    let times = [1_000_000, 2_000_000];
    for (index, (codec, packed)) in bombs().into_iter().enumerate() {
        let mut bomb = Batch::at_times(&times);
        bomb.attributes = codec;
        let response = wire.produce("bystander", 1, bomb.encode_with(&packed));
        assert_eq!(response.error_code, 0);
        for _ in 0..3 {
            let found = wire.list_offset("bystander", 1, 1_500_000, LIST_OFFSETS);
            assert_eq!(found.error_code, 0);
            assert!(found.offset >= 0);
        }
        let fetched = wire.fetch("bystander", 1, response.base_offset);
        assert_eq!(
            batch::split(&fetched.records.unwrap()).len(),
            1,
            "bomb {index}"
        );
    }
    let grown = peak_memory_bytes(&broker).saturating_sub(memory_before);
    assert!(grown < 300 << 20, "it needed {grown} bytes");
    bystander.wire.append("bystander", 0, &Batch::of(["fine"]));
}

/// For gzip and zstd: records that begin well and then are 2 GiB of zeros.
fn bombs() -> Vec<(i16, Vec<u8>)> {
    const ZEROS: u64 = 2 << 30;
    // One record whose length says that it is the 2 GiB, and a little of it.
    let start: Vec<u8> = vec![0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let bomb = || std::io::Read::chain(&start[..], std::io::repeat(0).take(ZEROS));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Deflate packs no better than 1:1000, and slowly: this much must do.
    std::io::copy(&mut bomb().take(64 << 20), &mut gzip).unwrap();
    let zstd = zstd::encode_all(bomb(), 1).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(gzip.len() + HEADER_BYTES < 1_048_588);
    vec![(1, gzip), (4, zstd)]
}

/// The most that was resident at any time, mapped files included.
fn peak_memory_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn clients_that_announce_large_requests_and_send_nothing_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut bystander = Bystander::at(&broker);
    bystander.works();
    let memory_before = broker.own_memory_bytes();
    // Together they announce more than four times what inflight_bytes_max allows.
    let announce = || {
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream.write_all(&(100_i32 << 20).to_be_bytes()).unwrap();
        stream.write_all(&[0; 100]).unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..45).map(|_| announce()).collect();
    eventually("all announcements have been read", || {
        broker.metric("millstream_received_bytes_total", "") >= 45.0 * 104.0
    });
    for _ in 0..10 {
        bystander.works();
    }
    let mut newcomer = Wire::connect(broker.kafka);
    assert_eq!(newcomer.topics(), ["bystander"]);
    bystander.finds_everything();
    // None of this had to wait until the silent ones were cut off.
    let cut_off = broker.metric("millstream_connections_closed_total", "stalled_frame");
    assert_eq!(cut_off, 0.0);
    let grown = broker.own_memory_bytes().saturating_sub(memory_before);
    assert!(grown < 64 << 20, "it holds {grown} bytes more");
    drop(held);
}

#[test]
fn one_connection_too_many_is_closed_and_those_that_are_there_stay() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--connections-max", "5"]);
    let mut wires: Vec<Wire> = (0..5).map(|_| Wire::connect(broker.kafka)).collect();
    for wire in &mut wires {
        wire.topics();
    }
    let mut more = Wire::connect(broker.kafka);
    assert!(more.is_closed_by_broker());
    for wire in &mut wires {
        wire.topics();
    }
    wires.pop();
    eventually("there is room again", || {
        let mut wire = Wire::connect(broker.kafka);
        wire.send(&MetadataRequest::default().with_topics(None), METADATA);
        wire.try_receive::<MetadataRequest>(METADATA).is_some()
    });
}

/// A client that sends no more gets the replies that come soon: all of them together, not each, have a second.
#[test]
fn fetches_that_wait_do_not_each_hold_a_half_closed_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    Wire::connect(broker.kafka).create_topic("t", 1);
    let until_closed = |count: usize| {
        let waits = fetch("t", &[(0, 0)]).with_max_wait_ms(600_000);
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream
            .write_all(&frame(&waits, FETCH, 1).repeat(count))
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let sent = Instant::now();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
        sent.elapsed()
    };
    let (one, many) = (until_closed(1), until_closed(40));
    assert!(many < one * 10, "one took {one:?}, and 40 took {many:?}");
}
