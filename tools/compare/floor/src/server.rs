//! The servers: one thread, one epoll loop, one receive buffer that stays in the cache.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::connection::Connection;
use crate::control::{Control, MakePartitions};
use crate::fetch::{self, Parked};
use crate::flush::Flusher;
use crate::log::{Fixed, Partition, Space, Topics};
use crate::produce::{Appended, Body};
use crate::segment::Copy;
use crate::sys::{self, Event, Poll};
use crate::wire::{FETCH, FETCH_VERSION, Fetch, PRODUCE, PRODUCE_VERSION, ProduceHead, Start};

const LISTENER: u64 = u64::MAX;
const FLUSHED: u64 = u64::MAX - 1;
/// How soon a signal is noticed at the latest.
const TICK_MS: i32 = 100;
/// Receives from one connection before the others get their turn.
const TURN: usize = 16;
/// From this size on a batch may be received to where it belongs.
const DIRECT_BYTES_MIN: usize = 32 << 10;

#[derive(Debug, clap::Args)]
pub struct IngestArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Answer when the batch is durable
    #[arg(long)]
    fsync: bool,
    /// Size of a file, such as 1GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    segment_bytes: u64,
    /// All files of a topic; its partitions then write over what they wrote first
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    wrap_bytes: u64,
    /// How bytes get from the socket into the file
    #[arg(long, value_enum, default_value_t = Copy::Pwrite)]
    copy: Copy,
    /// The most that one receive takes
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = size)]
    receive_bytes: u64,
}

#[derive(Debug, clap::Args)]
pub struct SendArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How much there is to read
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bytes: u64,
    /// How bytes get from the file into the socket
    #[arg(long, value_enum, default_value_t = SendCopy::Sendfile)]
    copy: SendCopy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SendCopy {
    /// writev of the mapping
    Map,
    /// sendfile
    Sendfile,
}

#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Where files are made; removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The port on 127.0.0.1; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Run on this core only
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

/// Serves producers until a signal comes.
pub fn ingest(args: IngestArgs) -> anyhow::Result<()> {
    let IngestArgs {
        segment_bytes,
        wrap_bytes,
        copy,
        ..
    } = args;
    let listener = start(&args.common)?;
    let dir = args.common.dir;
    let mut made = 0;
    let make: MakePartitions = Box::new(move |count| {
        let partition_bytes = wrap_bytes / count as u64;
        let space = Space {
            dir: dir.clone(),
            segment_bytes,
            partition_bytes,
            copy,
        };
        let partitions = (made..made + count as u64).map(|id| Partition::new(id, &space));
        made += count as u64;
        partitions.collect()
    });
    let flusher = args.fsync.then(Flusher::start).transpose()?;
    let how = How {
        copy,
        sendfile: false,
        receive_bytes: args.receive_bytes as usize,
    };
    Server::new(listener, how, make, flusher)?.run()
}

/// Serves consumers until a signal comes.
pub fn send(args: SendArgs) -> anyhow::Result<()> {
    let listener = start(&args.common)?;
    let fixed = Rc::new(Fixed::create(&args.common.dir, args.bytes)?);
    let make: MakePartitions =
        Box::new(move |count| Ok((0..count).map(|_| Partition::of(&fixed)).collect()));
    let sendfile = args.copy == SendCopy::Sendfile;
    let how = How {
        copy: Copy::Map,
        sendfile,
        receive_bytes: 256 << 10,
    };
    Server::new(listener, how, make, None)?.run()
}

fn start(args: &CommonArgs) -> anyhow::Result<TcpListener> {
    sys::stop_on_signals();
    sys::pin(args.core)?;
    make_dir(&args.dir)?;
    let listener = TcpListener::bind(("127.0.0.1", args.port)).with_context(|| {
        format!(
            "cannot listen on 127.0.0.1:{}: choose another --port",
            args.port
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}: choose another --dir", dir.display()))
}

/// Ways of doing it.
#[derive(Clone, Copy, Debug)]
struct How {
    copy: Copy,
    sendfile: bool,
    receive_bytes: usize,
}

struct Server {
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
    fn new(
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

    fn run(mut self) -> anyhow::Result<()> {
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
        let served = match connection.is_full {
            true => Ok(true),
            false => self.read(place, &mut connection, &mut buffer),
        };
        self.buffer = buffer;
        match served {
            Ok(true) => self.put_back(place, connection),
            Ok(false) => {}
            Err(error) => eprintln!("millstream-floor: a connection ends: {error:#}"),
        }
    }

    /// Flushes the connection's replies, and keeps it if that works.
    fn put_back(&mut self, place: usize, mut connection: Connection) {
        match self.flush(place, &mut connection) {
            Ok(()) => self.connections[place] = Some(connection),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => eprintln!("millstream-floor: a connection ends: {error}"),
        }
    }

    fn flush(&self, place: usize, connection: &mut Connection) -> io::Result<()> {
        connection.flush(self.how.sendfile)?;
        if connection.has_out() != connection.is_full {
            connection.is_full = connection.has_out();
            self.poll
                .wait_for_room(connection.fd(), place as u64, connection.is_full)?;
        }
        Ok(())
    }

    /// Receives and does what is asked. False: the client has hung up.
    fn read(
        &mut self,
        place: usize,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> anyhow::Result<bool> {
        for _ in 0..TURN {
            let (wanted, received) = match self.receive(place, connection, buffer) {
                Ok(done) => done,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let Some(bytes) = received else {
                return Ok(false);
            };
            if bytes.in_buffer > 0 {
                self.take(place, connection, &mut buffer[..bytes.in_buffer])?;
            }
            if bytes.received < wanted {
                break;
            }
        }
        Ok(true)
    }

    /// One receive: what was wanted, and what came (None: the end).
    fn receive(
        &mut self,
        place: usize,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<Received>)> {
        let socket = connection.fd();
        if self.how.copy == Copy::Recv
            && let Some(body) = &mut connection.body
            && body.bytes() >= DIRECT_BYTES_MIN
        {
            let wanted = body.left().min(self.how.receive_bytes);
            if let Some(received) = body.receive(socket, wanted) {
                let received = received?;
                if body.left() == 0 {
                    self.finish(place, connection)?;
                }
                let some = Received {
                    received,
                    in_buffer: 0,
                };
                return Ok((wanted, (received > 0).then_some(some)));
            }
        }
        let kept = connection.pending.len();
        let wanted = self.wanted(connection, buffer.len() - kept);
        let room = &mut buffer[kept..kept + wanted];
        // SAFETY: `room` is as long as that, and ours.
        let received = unsafe { sys::recv(socket, room.as_mut_ptr(), room.len()) }?;
        buffer[..kept].copy_from_slice(&connection.pending);
        connection.pending.clear();
        let some = Received {
            received,
            in_buffer: kept + received,
        };
        Ok((wanted, (received > 0).then_some(some)))
    }

    /// How much to receive into the buffer: no more than the next head, if the rest has a better place.
    fn wanted(&self, connection: &Connection, room: usize) -> usize {
        let is_direct =
            self.how.copy == Copy::Recv && connection.last_batch_bytes >= DIRECT_BYTES_MIN;
        match is_direct {
            true => connection
                .last_head_bytes
                .saturating_sub(connection.pending.len())
                .clamp(1, room),
            false => room,
        }
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
            connection.last_head_bytes = head.batch_at + crate::wire::BATCH_HEADER_BYTES;
            connection.last_batch_bytes = head.batch_bytes;
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
        while let Some(waiting) = self
            .waiting
            .pop_front_if(|waiting| waiting.number <= durable)
        {
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
        if let Some(connection) = self.connections[place].take() {
            self.put_back(place, connection);
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

/// What a receive brought.
struct Received {
    received: usize,
    /// With what was kept from before.
    in_buffer: usize,
}

/// A number of bytes, or one with KiB, MiB or GiB behind it.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("it is not a size such as 512MiB or 1GiB".to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    let bytes = bytes.ok_or("it is not a size such as 512MiB or 1GiB")?;
    match (4096..=1 << 40).contains(&bytes) {
        true => Ok(bytes),
        false => Err("it is not between 4 KiB and 1 TiB".to_owned()),
    }
}
