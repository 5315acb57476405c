//! Clients that are silent, slow, or do not read.

use super::http;
use super::scene::Scene;
use crate::requests::{self, PRODUCE};
use crate::rng::Rng;
use crate::violation::{Kind, Violation};
use crate::wire;
use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const CONNECTIONS: usize = 10_000;
/// Files that the harness and the broker need beside connections.
const FILES_BESIDE: u64 = 200;

const SLOW_CLIENTS: usize = 20;
const ANNOUNCED_BYTES: i32 = 100 << 20;
const SENT_CHUNK: usize = 1 << 20;
const SENT_CHUNKS: usize = 60;
const TRICKLE_BYTES: usize = 2000;
const TRICKLE_EVERY: Duration = Duration::from_secs(1);

const HTTP_CLIENTS: usize = 64;
const PIPELINED: usize = 2000;
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// So that a long run does not use up the ports, which the kernel keeps for a minute.
const GARBAGE_PAUSE: Duration = Duration::from_millis(5);
const GARBAGE_BYTES: usize = 4000;

/// Opens as many connections as this process may have, each for one request, and keeps them.
pub fn idle_connections(scene: &Scene) -> anyhow::Result<String> {
    let count = CONNECTIONS.min(open_files_max().saturating_sub(FILES_BESIDE) as usize);
    let started = Instant::now();
    let mut connections = Vec::with_capacity(count);
    while scene.goes_on() && connections.len() < count {
        let mut wire = scene.wire()?;
        wire.call(&ApiVersionsRequest::default(), 0)?;
        connections.push(wire);
    }
    let (opened, took) = (connections.len(), started.elapsed());
    scene.wait();
    Ok(format!("{opened} opened in {:.1} s", took.as_secs_f32()))
}

/// What this process, and with it the broker, may have open.
fn open_files_max() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` outlives the call, which takes nothing else by reference.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

pub fn half_frames(scene: &Scene) -> anyhow::Result<String> {
    let ended = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..SLOW_CLIENTS)
            .map(|_| scope.spawn(|| half_frame(scene).is_err()))
            .collect();
        let ended = clients.into_iter().map(|client| client.join());
        ended.filter(|ended| matches!(ended, Ok(true))).count()
    });
    Ok(format!("{ended} of {SLOW_CLIENTS} were closed"))
}

/// Announces a large Produce, sends more than half of it, and then a little each second.
fn half_frame(scene: &Scene) -> std::io::Result<()> {
    let mut stream = scene.stream()?;
    let chunk = Bytes::from(vec![0; SENT_CHUNK]);
    let mut beginning = wire::frame(
        &requests::produce("probe", 0, -1, chunk.clone()),
        PRODUCE,
        1,
    );
    beginning[..4].copy_from_slice(&ANNOUNCED_BYTES.to_be_bytes());
    scene.push(&mut stream, &beginning)?;
    for _ in 1..SENT_CHUNKS {
        scene.push(&mut stream, &chunk)?;
    }
    while scene.push(&mut stream, &chunk[..TRICKLE_BYTES])? {
        scene.pause(TRICKLE_EVERY);
    }
    Ok(())
}

/// Asks for pages without reading any; the health check is answered all the same.
pub fn http_clients(scene: &Scene) -> anyhow::Result<String> {
    let clients: Vec<TcpStream> = (0..HTTP_CLIENTS)
        .map(|_| http_client(scene, scene.http))
        .collect::<Result<_, _>>()?;
    let (mut asked, mut longest) = (0, Duration::ZERO);
    while scene.goes_on() {
        let started = Instant::now();
        if let Err(error) = http::get(scene.http, "/healthz") {
            let text =
                format!("/healthz beside {HTTP_CLIENTS} clients that do not read: {error:#}");
            return Err(Violation::new(Kind::Broker, text).into());
        }
        longest = longest.max(started.elapsed());
        asked += 1;
        scene.pause(HEALTH_EVERY);
    }
    drop(clients);
    let longest_ms = longest.as_millis();
    Ok(format!(
        "/healthz answered {asked} times, in {longest_ms} ms or less"
    ))
}

fn http_client(scene: &Scene, address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = scene.unread_stream(address)?;
    stream.set_nonblocking(true)?;
    let asks = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(PIPELINED);
    match stream.write(asks.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(stream),
    }
}

/// Bad frames, as fast as ports allow.
pub fn garbage(scene: &Scene) -> anyhow::Result<String> {
    let (mut rng, mut sent) = (Rng::new(1), 0);
    while scene.goes_on() {
        let mut frame = (GARBAGE_BYTES as i32).to_be_bytes().to_vec();
        frame.extend((0..GARBAGE_BYTES).map(|_| rng.next() as u8));
        // The broker may close it before it has read all.
        let _ = scene.push(&mut scene.stream()?, &frame);
        sent += 1;
        scene.pause(GARBAGE_PAUSE);
    }
    Ok(format!("{sent} frames"))
}
