//! A broker over loopback: one connection, a topic of one partition, every record durable.

use crate::codec::{fetch_frame, frame, name, produce_frame};
use crate::log::{batch_of, both};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, FetchResponse, ResponseHeader};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::records::RecordBatchDecoder;
use millstream::config::Config;
use millstream::kafka::api::ApiKey;
use millstream::server;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Requests that are under way at a time, as a producer has them.
const IN_FLIGHT: usize = 5;
/// Requests in one measured round.
const REQUESTS: usize = 64;
const FETCH_BYTES: i32 = 1 << 20;

pub fn produce_and_fetch(c: &mut Criterion) {
    let broker = Broker::start();
    let mut group = c.benchmark_group("loopback");
    for bytes in [1 << 10, 16 << 10, 256 << 10] {
        let topic = format!("batches-of-{bytes}");
        let mut client = broker.connect();
        client.create(&topic);
        let (batch, records) = batch_of(bytes);
        let request = produce_frame(&topic, 1, &Bytes::from(batch.clone()));
        // A refused request is fast too: check that records are written. And the fetch below needs them,
        // also where only that is asked for.
        client.produce(&request);
        client.measure_fetch(&topic);
        group.throughput(both(records * REQUESTS, batch.len() * REQUESTS));
        group.bench_function(BenchmarkId::new("produce", bytes), |b| {
            b.iter(|| client.produce(&request));
        });
    }
    let topic = format!("batches-of-{}", 256 << 10);
    let mut client = broker.connect();
    let (records, bytes) = client.measure_fetch(&topic);
    group.throughput(both(records, bytes));
    group.bench_function(BenchmarkId::new("fetch", FETCH_BYTES), |b| {
        let request = fetch_frame(&topic, 0, FETCH_BYTES);
        b.iter(|| assert!(client.call(&request).len() >= bytes));
    });
    group.finish();
}

/// This program as a broker, with the flags of `millstream serve`, until it is killed.
pub fn serve() {
    let command = Config::flags(clap::Command::new("walks serve").no_binary_name(true));
    let matches = command.get_matches_from(env::args().skip(2));
    let config = Config::load(&matches).expect("the flags are right");
    server::serve(config, |line| println!("{line}"), || {}).expect("the broker starts");
}

/// A broker of its own, killed at the end.
struct Broker {
    child: Child,
    address: String,
    /// Lives as long as the broker.
    _data: TempDir,
}

impl Broker {
    fn start() -> Broker {
        let data = tempfile::tempdir().expect("a directory");
        // This program is also the broker: see `main`.
        let mut child = Command::new(env::current_exe().expect("its path"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "off",
                "--cores",
                "1",
            ])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("the ready line");
        let mut words = ready.split([' ', ',']);
        words
            .find(|word| *word == "kafka")
            .expect("the ready line has the address");
        let address = words.next().expect("the address").to_owned();
        Broker {
            child,
            address,
            _data: data,
        }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Client {
            stream,
            reply: Vec::new(),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    /// The last reply, without its size prefix; kept for its memory.
    reply: Vec<u8>,
}

impl Client {
    fn create(&mut self, topic: &str) {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![topic]);
        self.call(&frame(ApiKey::CreateTopics, 5, &request));
    }

    fn produce(&mut self, request: &[u8]) {
        for sent in 0..REQUESTS + IN_FLIGHT {
            if sent >= IN_FLIGHT {
                self.receive();
            }
            if sent < REQUESTS {
                self.send(request);
            }
        }
    }

    /// What one fetch from the topic's start brings: records and bytes. An error anywhere would make
    /// it nothing.
    fn measure_fetch(&mut self, topic: &str) -> (usize, usize) {
        self.call(&fetch_frame(topic, 0, FETCH_BYTES));
        let mut reply = Bytes::copy_from_slice(&self.reply);
        ResponseHeader::decode(&mut reply, 1).expect("a header");
        let response = FetchResponse::decode(&mut reply, 12).expect("a fetch reply");
        let partition = &response.responses[0].partitions[0];
        let records = partition.records.clone().expect("records");
        let bytes = records.len();
        let sets = RecordBatchDecoder::decode_all(&mut records.clone()).expect("sound records");
        let count = sets.iter().map(|set| set.records.len()).sum();
        assert!(count > 0, "nothing was produced");
        (count, bytes)
    }

    fn call(&mut self, request: &[u8]) -> &[u8] {
        self.send(request);
        self.receive()
    }

    fn send(&mut self, request: &[u8]) {
        let size = (request.len() as u32).to_be_bytes();
        let frame = [&size, request].concat();
        self.stream.write_all(&frame).expect("the broker reads");
    }

    fn receive(&mut self) -> &[u8] {
        let mut size = [0; 4];
        self.stream
            .read_exact(&mut size)
            .expect("the broker answers");
        self.reply.resize(u32::from_be_bytes(size) as usize, 0);
        self.stream
            .read_exact(&mut self.reply)
            .expect("a whole reply");
        &self.reply
    }
}
