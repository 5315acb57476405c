//! What the end-to-end tests share: a broker in a process of its own, and a client that speaks the
//! protocol frame by frame.

pub mod batch;
pub mod configs;
pub mod group;
pub mod registry;
pub mod terminal;
pub mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Only there so that a hang becomes a failure; no test passes or fails by it otherwise.
pub const HANG: Duration = Duration::from_secs(90);
const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");

/// A running broker. Dropping it kills and reaps the process.
pub struct Broker {
    child: Child,
    pub kafka: SocketAddr,
    pub http: SocketAddr,
    /// The line by which it said that it is ready.
    pub ready: String,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Broker {
    pub fn start(data_dir: &Path) -> Broker {
        Broker::with(data_dir, &[])
    }

    /// With more flags. Without `--cores` among them it runs two shards.
    pub fn with(data_dir: &Path, flags: &[&str]) -> Broker {
        Broker::at(own_address(), data_dir, flags)
    }

    /// At an address known before, as after a restart.
    pub fn at(listen: SocketAddr, data_dir: &Path, flags: &[&str]) -> Broker {
        Broker::from_command(command(listen, data_dir, flags))
    }

    /// Runs a command that becomes a broker, and waits until it is ready.
    pub fn from_command(mut command: Command) -> Broker {
        let mut child = command.spawn().expect("the broker's binary can be run");
        let log = Arc::new(Mutex::new(String::new()));
        let log_reader = Some(copy_lines(
            child.stderr.take().expect("piped"),
            Arc::clone(&log),
        ));
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = String::new();
        stdout
            .read_line(&mut ready)
            .expect("standard output is text");
        let mut broker = Broker {
            child,
            kafka: "0.0.0.0:0".parse().unwrap(),
            http: "0.0.0.0:0".parse().unwrap(),
            ready: ready.trim_end().to_owned(),
            log,
            log_reader,
        };
        match (address(&ready, "kafka "), address(&ready, "http ")) {
            (Some(kafka), Some(http)) => (broker.kafka, broker.http) = (kafka, http),
            _ => {
                broker.end();
                panic!("the broker did not start: {ready:?}\n{}", broker.log());
            }
        }
        broker
    }

    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL: nothing of it runs on.
    pub fn kill_9(mut self) {
        self.end();
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + HANG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "the broker does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        self.end();
        (status, self.log())
    }

    /// A clean stop.
    pub fn stop(self) {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Bytes of memory that are its own: mapped files are not counted.
    pub fn own_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        http_request(self.http, "GET", path)
    }

    /// The sum over all samples of a metric whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (status, page) = self.get("/metrics");
        assert_eq!(status, 200);
        let samples = page.lines().filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let (found, found_labels) = sample.split_once('{').unwrap_or((sample, ""));
            (found == name && found_labels.contains(labels)).then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    }

    /// Runs a subcommand against this broker.
    pub fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        run_with_input(
            Command::new(MILLSTREAM)
                .args(args)
                .env("MILLSTREAM_BOOTSTRAP", self.bootstrap())
                .env("MILLSTREAM_HTTP", self.http.to_string()),
            stdin,
        )
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.log_reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("---- the broker's log ----\n{}", self.log());
        }
    }
}

/// A broker on a directory of its own, and a connection to it.
pub fn broker() -> (tempfile::TempDir, Broker, wire::Wire) {
    broker_with(&[])
}

pub fn broker_with(flags: &[&str]) -> (tempfile::TempDir, Broker, wire::Wire) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), flags);
    let wire = wire::Wire::connect(broker.kafka);
    (dir, broker, wire)
}

/// The command line of a broker.
pub fn command(listen: SocketAddr, data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(MILLSTREAM);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--listen")
        .arg(listen.to_string())
        // Records of tests are as old as a test likes.
        .arg("--log-retention-ms=-1")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !flags.contains(&"--http") {
        command.args(["--http", "127.0.0.1:0"]);
    }
    if !flags.contains(&"--cores") {
        command.args(["--cores", "2"]);
    }
    command
}

/// Runs a broker that is expected to refuse to start; returns what it said.
pub fn refused_start(data_dir: &Path, flags: &[&str]) -> String {
    refused_start_at(own_address(), data_dir, flags)
}

pub fn refused_start_at(listen: SocketAddr, data_dir: &Path, flags: &[&str]) -> String {
    let output = run_with_input(&mut command(listen, data_dir, flags), b"");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "it said that it is ready");
    String::from_utf8(output.stderr).unwrap()
}

/// A loopback address that no other broker of this run uses and no outgoing connection starts from,
/// so that a broker can come back at the port it had.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let run = (std::process::id() % 200) as u8 + 1;
    SocketAddr::from(([127, run, high, low], 0))
}

/// Waits for something that is bound to happen.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + HANG;
    while !happened() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A small generator of random numbers (splitmix64) whose seed is printed when a test fails.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = std::env::var("TEST_SEED").ok().map_or_else(
            || {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
                since.as_nanos() as u64
            },
            |seed| seed.parse().unwrap(),
        );
        println!("TEST_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// One HTTP request; the status and the body.
pub fn http_request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let reply = http_exchange(address, method, path, &[], b"");
    (reply.status, reply.text())
}

/// A reply over HTTP.
#[derive(Debug)]
pub struct HttpReply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpReply {
    /// All that came until the connection ended.
    pub fn parse(reply: &[u8]) -> HttpReply {
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("a whole HTTP reply");
        let head = std::str::from_utf8(&reply[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let headers: Vec<(String, String)> = headers.collect();
        let is_chunked = headers.contains(&("transfer-encoding".into(), "chunked".into()));
        let body = &reply[end + 4..];
        HttpReply {
            status: status.parse().unwrap(),
            headers,
            body: if is_chunked {
                dechunked(body)
            } else {
                body.to_vec()
            },
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header by its name in small letters; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A body without the sizes of its chunks.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// One HTTP request with these headers besides `Host`, which they may have too, and this body.
pub fn http_exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> HttpReply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += "Host: localhost\r\n";
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // A refusal may come before all of it was taken.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    // A reset may follow a reply whose request was not read to its end.
    let _ = stream.read_to_end(&mut reply);
    HttpReply::parse(&reply)
}

pub fn run_with_input(command: &mut Command, stdin: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It may have ended without reading everything.
            let _ = input.write_all(stdin);
        });
        child.wait_with_output().unwrap()
    })
}

fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let rest = &line[line.find(name)? + name.len()..];
    rest.split([',', '\n']).next()?.parse().ok()
}

fn copy_lines(from: impl Read + Send + 'static, to: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut to = to.lock().unwrap();
            to.push_str(&line);
            to.push('\n');
        }
    })
}
