//! Clients that behave badly, thousands at once: while they do, nobody else may notice.

use crate::model::{Model, lock};
use crate::requests::{self, FETCH, PRODUCE};
use crate::rng::Rng;
use crate::wire;
use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const THREADS: usize = 2;
/// Each thread opens a connection, and pokes as many as there are here, once in such a time. Not
/// faster: the kernel keeps a closed connection's port for a minute.
const PAUSE: Duration = Duration::from_millis(4);
const POKES: usize = 8;
const HALF_OF_BYTES: usize = 1 << 20;
/// Below the limit on frames, so that it is waited for.
const CLAIMED_BYTES: i32 = 90 << 20;
const PARKED_MS: i32 = 60_000;

/// How a client misbehaves.
#[derive(Clone, Copy, Debug)]
enum Vice {
    /// Sends half of a request, and nothing more.
    Stalls,
    /// Announces a large request, and sends little of it at a time.
    Claims,
    /// Announces more than is allowed.
    ClaimsTooMuch,
    /// Says that an array has two billion elements.
    HugeArray,
    Garbage,
    /// Asks for all there is, again and again, and reads nothing.
    NeverReads,
    /// The same, and reads a few bytes at a time.
    ReadsSlowly,
    /// Waits for records that do not come, and goes without a word.
    Parks,
}

const VICES: [Vice; 8] = [
    Vice::Stalls,
    Vice::Claims,
    Vice::ClaimsTooMuch,
    Vice::HugeArray,
    Vice::Garbage,
    Vice::NeverReads,
    Vice::ReadsSlowly,
    Vice::Parks,
];

/// Bad clients at work. Dropping it sends them away.
pub struct Hostile {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Client {
    stream: TcpStream,
    vice: Vice,
}

impl Hostile {
    /// Lets so many loose, some at a time; those that go are replaced. Counts all in `met`.
    pub fn start(
        model: &Arc<Model>,
        broker: SocketAddr,
        connections: usize,
        rng: &mut Rng,
        met: &Arc<AtomicU64>,
    ) -> Hostile {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (model, stop, met) = (Arc::clone(model), Arc::clone(&stop), Arc::clone(met));
            let mut rng = Rng::new(rng.next());
            std::thread::spawn(move || {
                let mut clients = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    if let Some(client) = Client::open(&model, broker, &mut rng) {
                        met.fetch_add(1, Ordering::Relaxed);
                        clients.push(client);
                    }
                    poke(&mut clients, &model, &mut rng);
                    while clients.len() > connections / THREADS {
                        clients.swap_remove(rng.below(clients.len()));
                    }
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..THREADS).map(thread).collect();
        Hostile { stop, threads }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Some of them do a little more; those that the broker closed are dropped.
fn poke(clients: &mut Vec<Client>, model: &Model, rng: &mut Rng) {
    for _ in 0..POKES.min(clients.len()) {
        let at = rng.below(clients.len());
        if !clients[at].go_on(model, rng) {
            clients.swap_remove(at);
        }
        if clients.is_empty() {
            return;
        }
    }
}

impl Client {
    fn open(model: &Model, broker: SocketAddr, rng: &mut Rng) -> Option<Client> {
        let stream = TcpStream::connect_timeout(&broker, Duration::from_secs(1)).ok()?;
        stream.set_nonblocking(true).ok()?;
        let vice = *rng.pick(&VICES);
        let mut client = Client { stream, vice };
        let begins = client.beginning(model, rng);
        // What does not fit is left out: half a request more is only one more kind of evil.
        let _ = client.stream.write(&begins);
        Some(client)
    }

    fn beginning(&self, model: &Model, rng: &mut Rng) -> Vec<u8> {
        match self.vice {
            Vice::Stalls => {
                let batch = Bytes::from(vec![7; HALF_OF_BYTES]);
                let mut frame = wire::frame(&requests::produce("load-0", 0, -1, batch), PRODUCE, 1);
                frame.truncate(1 + rng.below(frame.len() - 1));
                frame.to_vec()
            }
            Vice::Claims => claim(CLAIMED_BYTES, &noise(rng, 20_000)),
            Vice::ClaimsTooMuch => claim(i32::MAX, &noise(rng, 2_000)),
            Vice::HugeArray => huge_array(),
            Vice::Garbage => noise(rng, 5_000),
            Vice::NeverReads | Vice::ReadsSlowly => fetch_all(model),
            Vice::Parks => fetch_end(model),
        }
    }

    /// False when there is nothing more to do with it.
    fn go_on(&mut self, model: &Model, rng: &mut Rng) -> bool {
        let mut few = [0; 100];
        let (sends, reads) = match self.vice {
            Vice::Stalls | Vice::HugeArray | Vice::ClaimsTooMuch => (Vec::new(), true),
            Vice::Claims | Vice::Garbage => (noise(rng, 1_000), true),
            Vice::NeverReads => (fetch_all(model), false),
            Vice::ReadsSlowly => (fetch_all(model), true),
            Vice::Parks => return rng.below(20) > 0,
        };
        let sent = self.stream.write(&sends);
        let read = match reads {
            true => self.stream.read(&mut few),
            false => Ok(1),
        };
        let is_open = |result: std::io::Result<usize>, end_at_0: bool| match result {
            Ok(count) => count > 0 || !end_at_0,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        is_open(sent, false) && is_open(read, true)
    }
}

fn claim(size: i32, rest: &[u8]) -> Vec<u8> {
    let mut frame = size.to_be_bytes().to_vec();
    frame.extend(rest);
    frame
}

/// A Metadata request of version 1 whose list of topics is as long as can be said.
fn huge_array() -> Vec<u8> {
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let mut frame = wire::frame(&request, 1, 1).to_vec();
    let count = frame.len() - 4;
    frame[count..].copy_from_slice(&i32::MAX.to_be_bytes());
    frame
}

/// All that is in every partition.
fn fetch_all(model: &Model) -> Vec<u8> {
    fetch(model, |_| 0, 0)
}

/// What comes next in every partition, for which it waits.
fn fetch_end(model: &Model) -> Vec<u8> {
    fetch(model, |end| end, PARKED_MS)
}

fn fetch(model: &Model, from: impl Fn(i64) -> i64, max_wait_ms: i32) -> Vec<u8> {
    let topics = model.topics();
    let mut positions = Vec::new();
    for topic in &topics {
        for (index, ledger) in (0..).zip(topic.ledgers()) {
            positions.push((topic.name.as_str(), index, from(lock(&ledger).seen_end())));
        }
    }
    wire::frame(&requests::fetch(&positions, max_wait_ms), FETCH, 1).to_vec()
}

fn noise(rng: &mut Rng, bytes_max: usize) -> Vec<u8> {
    let length = 1 + rng.below(bytes_max);
    (0..length).map(|_| rng.next() as u8).collect()
}
