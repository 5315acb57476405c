//! The servers: one thread, one epoll loop, one receive buffer that stays in the cache.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::connection::Connection;
use crate::control::{Control, MakePartitions};
use crate::fetch::{self, Parked};
use crate::flush::Flusher;
use crate::log::Topics;
use crate::produce::{Appended, Body};
use crate::segment::Copy;
use crate::sys::{self, Event, Interest, Poll};
use crate::wire::{FETCH, FETCH_VERSION, Fetch, PRODUCE, PRODUCE_VERSION, ProduceHead, Start};

const LISTENER: u64 = u64::MAX;
const FLUSHED: u64 = u64::MAX - 1;
/// How soon a signal is noticed at the latest.
const TICK_MS: i32 = 100;
/// Receives from one connection before the others get their turn.
const TURN: usize = 16;

/// Ways of doing it.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub copy: Copy,
    /// Files' bytes leave by sendfile instead of by writev of the mapping.
    pub sendfile: bool,
    /// The most that one receive takes.
    pub receive_bytes: usize,
}

/// What serves, and all that it knows.
pub struct Server {
    poll: Poll,
    listener: TcpListener,
    port: u16,
    connections: Vec<Option<Connection>>,
    connected: u64,
    how: How,
    buffer: Vec<u8>,
    topics: Topics,
    make: MakePartitions,
    flusher: Option<Flusher>,
    waiting: VecDeque<Waiting>,
    parked: Vec<Parked>,
    /// There is more to read than when the parked fetches were last looked at.
    has_news: bool,
}

/// A reply that waits for the disk.
struct Waiting {
    number: u64,
    place: usize,
    serial: u64,
    reply: Vec<u8>,
    appended: Option<Appended>,
}

impl Server {
    /// One that will serve who comes to `listener`, which must not block.
    pub fn new(
        listener: TcpListener,
        how: How,
        make: MakePartitions,
        flusher: Option<Flusher>,
    ) -> anyhow::Result<Server> {
        let poll = Poll::new()?;
        poll.add(listener.as_raw_fd(), LISTENER)?;
        if let Some(flusher) = &flusher {
            poll.add(flusher.waker().fd(), FLUSHED)?;
        }
        Ok(Server {
            poll,
            port: listener.local_addr()?.port(),
            listener,
            connections: Vec::new(),
            connected: 0,
            how,
            buffer: vec![0; how.receive_bytes.max(8 << 10)],
            topics: Topics::default(),
            make,
            flusher,
            waiting: VecDeque::new(),
            parked: Vec::new(),
            has_news: false,
        })
    }

    /// Says where it serves, and does so until a signal comes.
    pub fn run(mut self) -> anyhow::Result<()> {
        println!("floor 127.0.0.1:{}", self.port);
        let mut events = [Event { events: 0, u64: 0 }; 64];
        while !sys::is_stopped() {
            let timeout_ms = self.timeout_ms();
            let ready = self
                .poll
                .wait(&mut events, timeout_ms)
                .context("cannot wait for events")?;
            for event in ready {
                match event.u64 {
                    LISTENER => self.accept()?,
                    FLUSHED => self.flushed(),
                    place => self.serve(place as usize),
                }
            }
            if let Some(flusher) = &mut self.flusher {
                flusher.submit();
            }
            self.answer_parked();
        }
        Ok(())
    }

    fn timeout_ms(&self) -> i32 {
        let now = Instant::now();
        let left = self
            .parked
            .iter()
            .map(|parked| parked.deadline.saturating_duration_since(now));
        left.min()
            .map_or(TICK_MS, |left| TICK_MS.min(left.as_millis() as i32 + 1))
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot accept a connection"),
        };
        self.connected += 1;
        let connection = Connection::new(stream, self.connected)?;
        let free = self.connections.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.poll.add(connection.fd(), place as u64)?;
        self.connections[place] = Some(connection);
        Ok(())
    }

    fn serve(&mut self, place: usize) {
        let Some(mut connection) = self.connections[place].take() else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = match connection.watched {
            Interest::Bytes => self.read(place, &mut connection, &mut buffer),
            Interest::Room => Ok(()),
            // It is gone altogether.
            Interest::Nothing => Err(io::Error::from(ErrorKind::ConnectionReset).into()),
        };
        self.buffer = buffer;
        let kept = read.and_then(|()| Ok(self.flush(place, &mut connection)?));
        self.keep(place, connection, kept);
    }

    /// Keeps the connection if `done` is well and the client still wants something.
    fn keep(&mut self, place: usize, connection: Connection, done: anyhow::Result<()>) {
        match done {
            Ok(()) if connection.is_over() => {}
            Ok(()) => self.connections[place] = Some(connection),
            Err(error) if is_gone(&error) => {}
            Err(error) => eprintln!("millstream-floor: a connection ends: {error:#}"),
        }
    }

    /// Sends what there is to send.
    fn flush(&self, place: usize, connection: &mut Connection) -> io::Result<()> {
        connection.flush(self.how.sendfile)?;
        let interest = connection.interest();
        if interest != connection.watched {
            connection.watched = interest;
            self.poll.change(connection.fd(), place as u64, interest)?;
        }
        Ok(())
    }

    /// Receives and does what is asked.
    fn read(
        &mut self,
        place: usize,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> anyhow::Result<()> {
        for _ in 0..TURN {
            let (wanted, received) = match Server::receive(connection, buffer) {
                Ok(done) => done,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if received == 0 {
                connection.is_half_closed = true;
                break;
            }
            let kept = std::mem::take(&mut connection.pending);
            buffer[..kept.len()].copy_from_slice(&kept);
            self.take(place, connection, &mut buffer[..kept.len() + received])?;
            if received < wanted {
                break;
            }
        }
        Ok(())
    }

    /// One receive, behind what was kept. Returns how much was wanted and how much came.
    fn receive(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let room = &mut buffer[connection.pending.len()..];
        let received = sys::recv(connection.fd(), room)?;
        Ok((room.len(), received))
    }

    fn take(
        &mut self,
        place: usize,
        connection: &mut Connection,
        bytes: &mut [u8],
    ) -> anyhow::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            if let Some(body) = &mut connection.body {
                let count = body.left().min(bytes.len() - at);
                body.take(&mut bytes[at..at + count], self.how.copy)?;
                at += count;
                if body.left() == 0 {
                    self.finish(place, connection)?;
                }
                continue;
            }
            match self.begin(place, connection, &bytes[at..])? {
                0 => break,
                count => at += count,
            }
        }
        connection.pending.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// Begins a Produce request, or does another one as a whole. Returns how many bytes that took; 0:
    /// there are too few.
    fn begin(
        &mut self,
        place: usize,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> anyhow::Result<usize> {
        if bytes.len() < Start::BYTES {
            return Ok(0);
        }
        let start = Start::read(bytes);
        if (start.api_key, start.version) == (PRODUCE, PRODUCE_VERSION) {
            let Some(head) = ProduceHead::read(bytes)? else {
                return Ok(0);
            };
            connection.body = Some(Body::begin(&head, &self.topics));
            return Ok(head.batch_at);
        }
        if start.bytes > self.how.receive_bytes {
            bail!(
                "a request of {} bytes: ask for fewer partitions",
                start.bytes
            );
        }
        let Some(frame) = bytes.get(..start.bytes) else {
            return Ok(0);
        };
        match (start.api_key, start.version) {
            (FETCH, FETCH_VERSION) => self.fetch(place, connection, frame)?,
            _ => self.control(place, connection, frame)?,
        }
        Ok(frame.len())
    }

    fn fetch(
        &mut self,
        place: usize,
        connection: &mut Connection,
        frame: &[u8],
    ) -> anyhow::Result<()> {
        let fetch = Fetch::read(frame).context("a fetch request that makes no sense")?;
        if !fetch::answer(&fetch, &self.topics, connection, fetch.max_wait_ms <= 0) {
            self.parked
                .push(Parked::new(place, connection.serial, fetch));
        }
        Ok(())
    }

    fn control(
        &mut self,
        place: usize,
        connection: &mut Connection,
        frame: &[u8],
    ) -> anyhow::Result<()> {
        let mut control = Control {
            topics: &mut self.topics,
            make: &mut self.make,
            port: self.port,
        };
        let reply = control.answer(frame)?;
        self.reply(place, connection, reply.into(), None);
        Ok(())
    }

    /// The connection's batch is whole.
    fn finish(&mut self, place: usize, connection: &mut Connection) -> io::Result<()> {
        let Some(body) = connection.body.take() else {
            return Ok(());
        };
        let done = body.finish()?;
        self.reply(place, connection, done.reply, done.appended);
        Ok(())
    }

    /// Answers now, or when what was appended is durable and all replies before have left.
    fn reply(
        &mut self,
        place: usize,
        connection: &mut Connection,
        reply: Vec<u8>,
        appended: Option<Appended>,
    ) {
        let number = match (&mut self.flusher, &appended) {
            (Some(flusher), Some(appended)) => Some(flusher.appended(&appended.segment)),
            (Some(flusher), None) if connection.waiting > 0 => Some(flusher.last()),
            _ => None,
        };
        if let Some(number) = number {
            connection.waiting += 1;
            let serial = connection.serial;
            self.waiting.push_back(Waiting {
                number,
                place,
                serial,
                reply,
                appended,
            });
            return;
        }
        self.publish(appended);
        connection.out().extend_from_slice(&reply);
    }

    fn publish(&mut self, appended: Option<Appended>) {
        if let Some(Appended { partition, end, .. }) = appended {
            partition.borrow_mut().high_watermark = end;
            self.has_news = true;
        }
    }

    /// The disk has got further: replies leave.
    fn flushed(&mut self) {
        let Some(flusher) = &self.flusher else { return };
        flusher.waker().reset();
        let durable = flusher.durable();
        let mut answered = Vec::new();
        let is_due = |waiting: &Waiting| waiting.number <= durable;
        while self.waiting.front().is_some_and(is_due) {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            self.publish(waiting.appended);
            let connection = self.connections[waiting.place].as_mut();
            if let Some(connection) =
                connection.filter(|connection| connection.serial == waiting.serial)
            {
                connection.waiting -= 1;
                connection.out().extend_from_slice(&waiting.reply);
                if answered.last() != Some(&waiting.place) {
                    answered.push(waiting.place);
                }
            }
        }
        for place in answered {
            self.flush_at(place);
        }
    }

    fn flush_at(&mut self, place: usize) {
        if let Some(mut connection) = self.connections[place].take() {
            let flushed = self.flush(place, &mut connection);
            self.keep(place, connection, flushed.map_err(Into::into));
        }
    }

    /// Answers the fetches that have waited long enough, or for which there is something now.
    fn answer_parked(&mut self) {
        if self.parked.is_empty() || !(self.has_news || self.is_late()) {
            return;
        }
        self.has_news = false;
        let now = Instant::now();
        for parked in std::mem::take(&mut self.parked) {
            let connection = self.connections[parked.place].as_mut();
            let Some(connection) =
                connection.filter(|connection| connection.serial == parked.serial)
            else {
                continue;
            };
            match fetch::answer(
                &parked.fetch,
                &self.topics,
                connection,
                parked.deadline <= now,
            ) {
                true => self.flush_at(parked.place),
                false => self.parked.push(parked),
            }
        }
    }

    fn is_late(&self) -> bool {
        let now = Instant::now();
        self.parked.iter().any(|parked| parked.deadline <= now)
    }
}

/// Whether only the client has left.
fn is_gone(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
    )
}
