//! The floor as a client sees it, over loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

const PRODUCE_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 11;
const CORRUPT_MESSAGE: i16 = 2;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_produced_batch_is_acknowledged_and_in_the_file() {
    for extra in [
        &[][..],
        &["--copy", "pwrite"],
        &["--copy", "map"],
        &["--copy", "map-random"],
        &["--fsync"],
    ] {
        let (floor, mut client) = ingest(extra);
        // Larger than the receive buffer.
        for (bytes, offset) in [(100, 0), (600_000, 2), (100, 4)] {
            assert_eq!(client.produce(&batch(bytes)), (0, offset), "{extra:?}");
        }
        let file = fs::read(floor.dir.path().join("millstream-floor-0-0.log")).expect("the file");
        let mut at = 0;
        for (bytes, offset) in [(100, 0i64), (600_000, 2), (100, 4)] {
            let wanted = batch(bytes);
            assert_eq!(file[at..at + 8], offset.to_be_bytes(), "{extra:?}");
            assert!(file[at + 8..at + wanted.len()] == wanted[8..], "{extra:?}");
            at += wanted.len();
        }
    }
}

#[test]
fn a_batch_with_a_flipped_bit_is_refused_and_the_next_one_taken() {
    let (_floor, mut client) = ingest(&[]);
    let mut bad = batch(100_000).to_vec();
    bad[50_000] ^= 1;
    assert_eq!(client.produce(&bad.into()), (CORRUPT_MESSAGE, -1));
    assert_eq!(client.produce(&batch(100_000)), (0, 0));
}

#[test]
fn what_was_produced_is_read_and_a_fetch_at_the_end_waits_for_more() {
    for extra in [&[][..], &["--fsync"]] {
        let (floor, mut client) = ingest(extra);
        client.produce(&batch(1000));
        client.produce(&batch(2000));
        let records = client.fetch(2, 1 << 20);
        assert_eq!(records[8..], batch(2000)[8..]);
        client.send(&fetch_request(4, 1 << 20), FETCH_VERSION);
        floor.connect().produce(&batch(3000));
        assert_eq!(client.fetched()[8..], batch(3000)[8..]);
    }
}

#[test]
fn a_client_that_has_sent_its_last_request_still_gets_its_replies() {
    let (_floor, mut client) = ingest(&["--fsync"]);
    for _ in 0..5 {
        client.send(&produce_request(&batch(100_000)), PRODUCE_VERSION);
    }
    client.0.shutdown(Shutdown::Write).expect("a socket");
    for number in 0..5 {
        assert_eq!(client.produced(), (0, 2 * number));
    }
    assert_eq!(client.0.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn old_batches_are_written_over_and_the_last_ones_can_be_read() {
    let (_floor, mut client) =
        start(&["ingest", "--segment-bytes", "8KiB", "--wrap-bytes", "16KiB"]);
    for number in 0..40 {
        assert_eq!(client.produce(&batch(3000)), (0, 2 * number));
        assert_eq!(client.fetch(2 * number, 1 << 20)[8..], batch(3000)[8..]);
    }
    // Two batches fit in a segment.
    assert_eq!(client.fetch(72, 1 << 20).len(), 4 * batch(3000).len());
    assert_eq!(client.error_at(70), 1, "offset out of range");
    let (error, _) = client.produce(&batch(20_000));
    assert_eq!(error, 10, "message too large");
}

#[test]
fn a_fetch_returns_whole_batches_from_the_one_with_the_offset() {
    for copy in ["map", "sendfile"] {
        let (_floor, mut client) = start(&["send", "--bytes", "2MiB", "--copy", copy]);
        let first = client.fetch(0, 1);
        let records = i64::from((&first[23..]).get_i32()) + 1;
        assert_eq!(
            (&first[8..]).get_i32() as usize + 12,
            first.len(),
            "one batch"
        );
        let found = client.fetch(3 * records + 1, 3 * first.len() as i32 + 10);
        assert_eq!(found.len(), 3 * first.len());
        for (number, batch) in found.chunks(first.len()).enumerate() {
            assert_eq!(batch[..8], ((3 + number as i64) * records).to_be_bytes());
            assert!(batch[8..] == first[8..]);
            assert_eq!(
                (&batch[17..]).get_u32(),
                crc_fast::crc32_iscsi(&batch[21..])
            );
        }
    }
}

#[test]
fn a_signal_ends_it_and_its_files_are_gone() {
    let (mut floor, mut client) = ingest(&[]);
    client.produce(&batch(100));
    let pid = floor.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    assert!(floor.child.wait().expect("it ends").success());
    assert_eq!(
        fs::read_dir(floor.dir.path())
            .expect("the directory")
            .count(),
        0
    );
}

#[test]
fn the_disk_and_the_network_are_timed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("plain");
    for args in [
        &["sync", "--dir", dir, "--seconds", "0.1", "--bytes", "100"][..],
        &["round-trip", "--seconds", "0.1"],
    ] {
        let output = Command::new(program())
            .args(args)
            .output()
            .expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        for key in ["p50_us", "p90_us", "p99_us", "p999_us", "max_us", "count"] {
            assert!(text.contains(&format!("\"{key}\":")), "{text}");
        }
        assert!(!text.contains("\"count\":0"), "{text}");
    }
}

#[test]
fn requests_over_http_are_answered_and_timed() {
    let mut server = Command::new(program())
        .args(["http", "--answer-bytes", "100000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("http ").expect("an address");
    let args = ["http-load", "--address", address, "--connections", "3"];
    let lines = ["--body-bytes", "10000", "--line-bytes", "100"];
    let time = ["--seconds", "0.2", "--warmup-seconds", "0"];
    let output = Command::new(program())
        .args([&args[..], &lines, &time].concat())
        .output();
    server.kill().expect("it ran");
    server.wait().expect("it ends");
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    for key in [
        "requests",
        "requests_per_second",
        "bytes_per_second",
        "p50_us",
        "p99_us",
    ] {
        assert!(text.contains(&format!("\"{key}\":")), "{text}");
    }
    assert!(!text.contains("\"requests\":0,"), "{text}");
}

/// A running floor, killed at the end.
struct Floor {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Floor {
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        Client(stream)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ingest(extra: &[&str]) -> (Floor, Client) {
    start(
        &[
            &["ingest", "--segment-bytes", "4MiB", "--wrap-bytes", "8MiB"],
            extra,
        ]
        .concat(),
    )
}

/// Starts one, and creates a topic of one partition.
fn start(args: &[&str]) -> (Floor, Client) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(program())
        .args(args)
        .arg("--dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line
        .trim()
        .strip_prefix("floor ")
        .expect("the address")
        .to_owned();
    let floor = Floor {
        child,
        address,
        dir,
    };
    let mut client = floor.connect();
    let topic = CreatableTopic::default()
        .with_name(name())
        .with_num_partitions(1);
    let created = client.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 6);
    assert_eq!(created.topics[0].error_code, 0);
    (floor, client)
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_millstream-floor"))
}

struct Client(TcpStream);

impl Client {
    /// Error code and base offset.
    fn produce(&mut self, batch: &Bytes) -> (i16, i64) {
        self.send(&produce_request(batch), PRODUCE_VERSION);
        self.produced()
    }

    fn produced(&mut self) -> (i16, i64) {
        let reply: ProduceResponse = self.receive(PRODUCE_VERSION);
        let partition = &reply.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    fn fetch(&mut self, offset: i64, bytes_max: i32) -> Bytes {
        self.send(&fetch_request(offset, bytes_max), FETCH_VERSION);
        self.fetched()
    }

    fn fetched(&mut self) -> Bytes {
        let reply: FetchResponse = self.receive(FETCH_VERSION);
        let partition = &reply.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.records.clone().expect("records")
    }

    fn error_at(&mut self, offset: i64) -> i16 {
        let reply = self.call(&fetch_request(offset, 1 << 20), FETCH_VERSION);
        reply.responses[0].partitions[0].error_code
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.receive(version)
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        header
            .encode(&mut frame, R::header_version(version))
            .expect("a header");
        request.encode(&mut frame, version).expect("a request");
        let size = (frame.len() as i32).to_be_bytes();
        self.0.write_all(&size).expect("it reads");
        self.0.write_all(&frame).expect("it reads");
    }

    fn receive<R: Decodable + HeaderVersion>(&mut self, version: i16) -> R {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).expect("it answers");
        let mut reply = vec![0; i32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut reply).expect("a whole reply");
        let mut reply = Bytes::from(reply);
        ResponseHeader::decode(&mut reply, R::header_version(version)).expect("a header");
        R::decode(&mut reply, version).expect("a reply")
    }
}

fn produce_request(batch: &Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(name())
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic])
}

fn fetch_request(offset: i64, bytes_max: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default()
        .with_topic(name())
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(SOON.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A batch that claims two records, with so many bytes behind its header.
fn batch(bytes: usize) -> Bytes {
    let mut checked = BytesMut::new();
    checked.put_i16(0);
    checked.put_i32(1); // last offset delta
    checked.put_bytes(0, 30);
    checked.put_i32(2);
    checked.extend((0..bytes).map(|at| (at * 31 % 251) as u8));
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(9 + checked.len() as i32);
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(crc_fast::crc32_iscsi(&checked));
    batch.extend_from_slice(&checked);
    batch.freeze()
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}
