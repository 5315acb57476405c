//! Requests as an input of bytes has them: of a route of the table, its parts from a small dictionary or the bytes
//! themselves; or the bytes as they are.

use super::input::Input;
use super::machine::Machine;
use millstream::access::Caller;
use millstream::config::Config;
use millstream::engine::catalog::changes::{self, NewTopic};
use millstream::http::router::{PARAMETERS, ROUTES};
use millstream::http::{Activity, Services, serve_client};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// So many connections have one broker; what an earlier one left is there for the next ones.
const CONNECTIONS: usize = 200;
/// Requests of one connection.
const REQUESTS_MAX: usize = 8;
/// What passes between client and broker without waiting.
const PIPE_BYTES: usize = 1 << 20;
/// An input of some hundred bytes takes far less, on the slowest machine and in the slowest build.
const SECONDS_MAX: u64 = 60;

/// Parts of paths, values of parameters and lines of bodies that have a meaning somewhere.
const WORDS: &[&str] = &[
    "t",
    "k",
    "new",
    "g",
    "i",
    "0",
    "1",
    "-1",
    "7",
    "9223372036854775807",
    "a",
    "earliest",
    "latest",
    "-10",
    "true",
    "1s",
    "0:0",
    "0:0,1:1",
    "all",
    "json",
    "lines",
    "%00",
    "%2F",
    "%ff",
    "",
    "*",
    "__consumer_offsets",
    "-",
    "2026-01-01T00:00:00Z",
    "x:y",
    "millstream",
    "configs:alter",
    "records:batch",
    "next",
    "keys",
];
const HEADERS: &[&str] = &[
    "Accept: application/json",
    "Accept: application/x-ndjson",
    "Accept: text/event-stream",
    "Accept: application/octet-stream",
    "Accept: application/vnd.kafka.json.v2+json",
    "Accept: application/vnd.kafka.binary.v2+json, */*;q=0.1",
    "Content-Type: application/json",
    "Content-Type: application/x-ndjson",
    "Content-Type: application/cloudevents+json",
    "Content-Type: application/cloudevents-batch+json",
    "Content-Type: application/vnd.kafka.json.v2+json",
    "Content-Type: application/vnd.kafka.binary.v2+json",
    "Content-Encoding: gzip",
    "Content-Encoding: zstd",
    "Accept-Encoding: gzip, zstd",
    "If-Match: \"p:0\"",
    "If-Match: \"k:-1\"",
    "If-None-Match: \"k:0\"",
    "Idempotency-Key: a",
    "Producer-Id: 1",
    "Producer-Epoch: 0",
    "Sequence: 0",
    "Client-Id: c",
    "Kafka-Header-a: b",
    "ce-id: 1",
    "ce-specversion: 1.0",
    "ce-source: s",
    "ce-type: y",
    "Last-Event-ID: 0:0",
    "Expect: 100-continue",
    "Host: elsewhere.example",
    "Sec-Fetch-Site: cross-site",
    "Origin: http://elsewhere.example",
];
const BODIES: &[&str] = &[
    "{}",
    "[]",
    "one\ntwo\n",
    "{\"key\":\"a\",\"value\":{\"b\":1},\"headers\":{\"c\":\"d\"},\"partition\":0}\n",
    "{\"partitions\":2,\"configs\":{\"key.index\":\"true\"}}",
    "{\"records\":[{\"key\":\"YQ==\",\"value\":\"dGVh\",\"partition\":0}]}",
    "{\"value\":{\"type\":\"JSON\",\"data\":{\"a\":1}}}{\"value\":{\"type\":\"STRING\",\"data\":\"tea\"}}",
    "{\"entries\":[{\"id\":\"1\",\"value\":{\"type\":\"BINARY\",\"data\":\"dGVh\"}}]}",
    "{\"name\":\"i\",\"format\":\"json\",\"auto.offset.reset\":\"earliest\"}",
    "{\"topics\":[\"t\"]}",
    "{\"topic_pattern\":\"t.*\"}",
    "{\"partitions\":[{\"topic\":\"t\",\"partition\":0}]}",
    "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":0}]}",
    "{\"topic\":\"t\",\"to\":\"-1\",\"dry_run\":true}",
    "{\"topic_name\":\"new\",\"partitions_count\":1}",
    "{\"data\":[{\"name\":\"retention.ms\",\"value\":\"1\"},{\"name\":\"cleanup.policy\",\"operation\":\"DELETE\"}]}",
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"y\",\"data\":{}}",
    "{\"value\":\"1\"}",
];

/// A broker that is used for some inputs, and then for no more.
#[derive(Default)]
pub struct Driver {
    broker: Option<Broker>,
}

struct Broker {
    machine: Machine,
    services: Rc<Services>,
    connections: usize,
    _dir: tempfile::TempDir,
}

impl Driver {
    /// One connection: sends what the input says, and looks at what is answered.
    pub fn run(&mut self, input: &[u8]) {
        let broker = self.broker.get_or_insert_with(Broker::start);
        let sent = requests(input);
        let began = Instant::now();
        let answered = broker.exchange(sent.clone());
        assert!(began.elapsed().as_secs() < SECONDS_MAX, "it takes too long");
        check(&sent, &answered);
        if broker.connections == CONNECTIONS {
            self.broker = None;
        }
    }
}

impl Broker {
    fn start() -> Broker {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: dir.path().to_owned(),
            cores: 1,
            journal_bytes: 0,
            free_bytes_min: 0,
            offsets_topic_num_partitions: 1,
            ..Config::default()
        };
        let mut machine = Machine::start(config, 8, 1);
        let services = machine.shards[0].http();
        let engine = Rc::clone(&machine.shards[0].engine);
        machine.shards[0].spawn(async move {
            for (name, configs) in [
                ("t", vec![("dedup.window.ms", "60000")]),
                (
                    "k",
                    vec![("key.index", "true"), ("conditional.append", "true")],
                ),
            ] {
                let configs = configs.into_iter();
                let topic = NewTopic {
                    name: name.to_owned(),
                    partitions: 2,
                    configs: configs
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect::<BTreeMap<_, _>>(),
                };
                changes::create_topic(&engine, topic, false)
                    .await
                    .expect("it is created");
            }
        });
        machine.settle();
        Broker {
            machine,
            services,
            connections: 0,
            _dir: dir,
        }
    }

    fn exchange(&mut self, sent: Vec<u8>) -> Vec<u8> {
        self.connections += 1;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let shard = &self.machine.shards[0];
        let caller = Caller::new((Ipv4Addr::LOCALHOST, 1).into());
        let services = Rc::clone(&self.services);
        shard.spawn(serve_client(services, caller, Activity::now(), far));
        let received = Rc::new(RefCell::new(Some(Vec::new())));
        shard.spawn(converse(near, sent, Rc::clone(&received)));
        self.machine.settle();
        // What waits longer goes on without its client.
        let received = received.take().expect("nobody else takes it");
        self.machine.settle();
        received
    }
}

/// Sends all, and takes what comes back as long as somebody looks at it.
async fn converse(near: DuplexStream, sent: Vec<u8>, received: Rc<RefCell<Option<Vec<u8>>>>) {
    let (mut from, mut to) = tokio::io::split(near);
    let send = async {
        let _ = to.write_all(&sent).await;
        let _ = to.shutdown().await;
    };
    let receive = async {
        let mut some = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut some).await {
            let mut received = received.borrow_mut();
            let Some(received) = &mut *received else {
                return;
            };
            received.extend_from_slice(&some[..count]);
        }
    };
    tokio::join!(send, receive);
}

/// The bytes of a connection.
fn requests(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input(bytes);
    if input.below(8) == 0 {
        return input.0.to_vec();
    }
    let mut requests = Vec::new();
    for _ in 0..REQUESTS_MAX {
        if input.0.is_empty() {
            break;
        }
        requests.extend(request(&mut input));
    }
    requests
}

fn request(input: &mut Input<'_>) -> Vec<u8> {
    let route = &ROUTES[input.byte() % ROUTES.len()];
    let method = match input.below(16) {
        0 => "HEAD",
        1 => "OPTIONS",
        2 => "DELETE",
        _ => route.method.as_str(),
    };
    let mut path = String::new();
    for part in route.path.split('/').skip(1) {
        path.push('/');
        if part.starts_with('{') {
            path += &word(input);
        } else {
            path += part;
        }
    }
    let mut separator = '?';
    for _ in 0..input.below(4) {
        let known = route.parameters;
        let name = match input.below(8) {
            0 => PARAMETERS[input.byte() % PARAMETERS.len()].0.to_owned(),
            1 => word(input),
            _ if known.is_empty() => break,
            _ => known[input.byte() % known.len()].to_owned(),
        };
        path += &format!("{separator}{name}={}", word(input));
        separator = '&';
    }
    let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let mut has_host = false;
    for _ in 0..input.below(5) {
        let header = HEADERS[input.byte() % HEADERS.len()];
        has_host |= header.starts_with("Host");
        request.extend(header.as_bytes());
        request.extend(b"\r\n");
    }
    if !has_host {
        request.extend(b"Host: localhost\r\n");
    }
    let body = body(input);
    match input.below(4) {
        0 => {
            request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(1 + input.below(64)) {
                request.extend(format!("{:x}\r\n", piece.len()).as_bytes());
                request.extend(piece);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
        }
        _ => {
            request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            request.extend(body);
        }
    }
    request
}

/// One of the dictionary, or some bytes, percent-encoded.
fn word(input: &mut Input<'_>) -> String {
    if input.below(4) > 0 {
        return WORDS[input.byte() % WORDS.len()].to_owned();
    }
    let count = input.below(6);
    (0..count)
        .map(|_| format!("%{:02x}", input.byte()))
        .collect()
}

/// One of the known ones, perhaps with some bytes changed; or bytes.
fn body(input: &mut Input<'_>) -> Vec<u8> {
    match input.below(4) {
        0 => Vec::new(),
        1 => {
            let count = input.below(64);
            (0..count).map(|_| input.byte() as u8).collect()
        }
        changed => {
            let mut body = BODIES[input.byte() % BODIES.len()].as_bytes().to_vec();
            for _ in 0..input.below(3) * usize::from(changed == 2) {
                let at = input.byte() % body.len();
                body[at] = input.byte() as u8;
            }
            body
        }
    }
}

/// What is answered begins as an answer does, and blames no failure of the broker.
fn check(sent: &[u8], answered: &[u8]) {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if answered.is_empty() {
        return;
    }
    let is_http = answered.starts_with(b"HTTP/1.") || sent.starts_with(b"PRI * HTTP/2.0");
    assert!(is_http, "{} to {}", show(answered), show(sent));
    for line in answered.split(|byte| *byte == b'\n') {
        assert!(
            !line.starts_with(b"HTTP/1.1 500"),
            "{} to {}",
            show(answered),
            show(sent)
        );
    }
}
