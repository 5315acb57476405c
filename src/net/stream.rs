//! One connection's stream of bytes, and when it last moved.

use super::counters::{self, Counters};
use crate::io::socket::Socket;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most parts that one write gathers (IOV_MAX).
pub const PARTS_MAX: usize = 1024;

/// The other end of a connection.
pub struct Peer {
    pub address: SocketAddr,
    socket: Socket,
    counters: Rc<Counters>,
    pub last_active: Cell<Instant>,
    /// For a request that has begun and is not complete: since when its bytes are counted, and how many
    /// have come. `None` also while the connection is not read.
    incoming: Cell<Option<(Instant, usize)>>,
    /// Memory that a request takes which is not complete, in bytes.
    pub incoming_bytes: Cell<usize>,
    /// Requests that are not answered yet.
    pub unanswered: Cell<usize>,
    /// Since when a write waits for the client to read.
    writing_since: Cell<Option<Instant>>,
    /// Since when the client sends nothing more.
    finished: Cell<Option<Instant>>,
    finished_wake: Notify,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, socket: Socket, counters: Rc<Counters>) -> Peer {
        Peer {
            address,
            socket,
            counters,
            last_active: Cell::new(Instant::now()),
            incoming: Cell::new(None),
            incoming_bytes: Cell::new(0),
            unanswered: Cell::new(0),
            writing_since: Cell::new(None),
            finished: Cell::new(None),
            finished_wake: Notify::new(),
        }
    }

    /// Reads what there is, at most `room` bytes, behind what is in `buffer`. `None` at the end of the
    /// stream.
    pub async fn read(&self, buffer: BytesMut, room: usize) -> Option<BytesMut> {
        let (result, buffer) = self.socket.read(buffer, room).await;
        match result {
            Ok(read) if read > 0 => {
                self.touch();
                let count = |(since, before)| (since, before + read);
                self.incoming.set(self.incoming.get().map(count));
                counters::add(&self.counters.received_bytes, read as u64);
                Some(buffer)
            }
            _ => None,
        }
    }

    /// Writes all parts, in as few calls as the kernel allows. False when the client is gone.
    pub async fn write_all(&self, mut parts: Vec<Bytes>) -> bool {
        let mut rest = parts.split_off(parts.len().min(PARTS_MAX)).into_iter();
        while !parts.is_empty() {
            self.writing_since.set(Some(Instant::now()));
            let (result, back) = self.socket.write(parts).await;
            self.writing_since.set(None);
            parts = back;
            let Ok(written @ 1..) = result else {
                return false;
            };
            self.touch();
            counters::add(&self.counters.sent_bytes, written as u64);
            let mut left = written;
            let is_whole = |part: &&Bytes| {
                let fits = part.len() <= left;
                left -= if fits { part.len() } else { 0 };
                fits
            };
            let whole = parts.iter().take_while(is_whole).count();
            parts.drain(..whole);
            if let Some(first) = parts.first_mut() {
                first.advance(left);
            }
            parts.extend(rest.by_ref().take(PARTS_MAX - parts.len()));
        }
        true
    }

    pub fn touch(&self) {
        self.last_active.set(Instant::now());
    }

    /// Starts to count the bytes of a request that is not complete.
    pub fn await_rest(&self) {
        if self.incoming.get().is_none() {
            self.incoming.set(Some((Instant::now(), 0)));
        }
    }

    /// A request is complete, or is not read for now.
    pub fn await_nothing(&self) {
        self.incoming.set(None);
        self.incoming_bytes.set(0);
    }

    /// Whether fewer than `bytes` of a request that has begun came in the last `time`. Every such period is
    /// counted on its own.
    pub(super) fn is_stalled(&self, time: Duration, bytes: usize) -> bool {
        let Some((since, came)) = self.incoming.get() else {
            return false;
        };
        if since.elapsed() < time {
            return false;
        }
        self.incoming.set(Some((Instant::now(), 0)));
        came < bytes.max(1)
    }

    /// How slowly a request that holds memory comes: bytes a second, after at least `time`. `None` for a
    /// connection without one.
    pub(super) fn trickle(&self, time: Duration) -> Option<u64> {
        let (since, came) = self.incoming.get()?;
        let elapsed = since.elapsed();
        let is_one = self.incoming_bytes.get() > 0 && elapsed >= time;
        is_one.then(|| (came as f64 / elapsed.as_secs_f64()) as u64)
    }

    /// Whether a write has waited for longer than `time`.
    pub(super) fn is_not_reading(&self, time: Duration) -> bool {
        let since = self.writing_since.get();
        since.is_some_and(|since| since.elapsed() > time)
    }

    /// Notes that the client sends nothing more.
    pub fn finish(&self) {
        self.finished.set(Some(Instant::now()));
        self.finished_wake.notify_one();
    }

    /// Returns once the client sends nothing more, with the moment when it ended.
    pub async fn finished(&self) -> Instant {
        loop {
            if let Some(finished) = self.finished.get() {
                return finished;
            }
            self.finished_wake.notified().await;
        }
    }

    /// Ends the connection; reads and writes under way return.
    pub fn hang_up(&self, how: Shutdown) {
        self.socket.shut_down(how);
    }
}
