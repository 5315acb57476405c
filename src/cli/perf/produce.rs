//! A connection that writes: one task sends, another takes the answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frames::{self, Load};
use super::plan::{Acks, Producers, Target};
use super::tally::Tally;

/// Requests that leave in one call.
const TOGETHER_MAX: usize = 32;
/// Timers tick in milliseconds: closer to the time than this it is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

/// A connection and what it sends.
pub struct Connection {
    reader: OwnedReadHalf,
    sender: Sender,
}

struct Sender {
    writer: OwnedWriteHalf,
    shared: Rc<Shared>,
    /// What stands before the batch, for each partition.
    heads: Vec<BytesMut>,
    partitions: Vec<i32>,
    how: Producers,
    pace: Pace,
}

struct Shared {
    load: Rc<Load>,
    tally: Rc<Tally>,
    /// Somebody reads what is written, and tells when.
    is_read: bool,
    in_flight: RefCell<VecDeque<Flight>>,
    /// An answer has come.
    room: Notify,
    /// Nothing more will be sent.
    finished: Cell<bool>,
    finished_wake: Notify,
}

/// A request that is not answered yet.
struct Flight {
    correlation_id: i32,
    partition: i32,
    due: Instant,
}

/// When requests are due.
#[derive(Clone, Copy)]
struct Pace {
    first: Instant,
    /// None: as soon as there is room.
    interval: Option<Duration>,
}

/// Opens all connections. The requests of a rate are spread evenly over time and connections.
pub async fn connections(
    target: &Target,
    how: &Producers,
    tally: &Rc<Tally>,
    start: Instant,
    is_read: bool,
) -> anyhow::Result<Vec<Connection>> {
    let load = Rc::new(Load::new(how.record_bytes, how.batch_bytes, how.codec)?);
    let shares = target.divide(how.connections);
    let count = shares.len() as u32;
    let interval = how
        .rate
        .map(|rate| Duration::from_secs_f64(load.records as f64 * f64::from(count) / rate));
    let mut connections = Vec::with_capacity(shares.len());
    for (number, (address, partitions)) in shares.into_iter().enumerate() {
        let stream = connect(&address).await?;
        let (reader, writer) = stream.into_split();
        let shared = Rc::new(Shared {
            load: Rc::clone(&load),
            tally: Rc::clone(tally),
            is_read,
            in_flight: RefCell::default(),
            room: Notify::new(),
            finished: Cell::new(false),
            finished_wake: Notify::new(),
        });
        let head = |partition: &i32| {
            frames::produce_head(&target.topic, *partition, how.acks, load.batch.len())
        };
        let pace = Pace {
            first: start + interval.unwrap_or_default() * number as u32 / count,
            interval,
        };
        let sender = Sender {
            writer,
            shared,
            heads: partitions.iter().map(head).collect(),
            partitions,
            how: how.clone(),
            pace,
        };
        connections.push(Connection { reader, sender });
    }
    Ok(connections)
}

/// A connection without delays for small requests.
pub async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// Sends until the time is over, and waits for the last answer.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shared = Rc::clone(&self.sender.shared);
        let answered = self.sender.how.acks != Acks::None;
        let take = async {
            match answered {
                true => take_answers(self.reader, &shared).await,
                false => Ok(()),
            }
        };
        // The sender outlives the last answer: if it went first, it would close its half of the connection,
        // and not every server answers then.
        tokio::try_join!(self.sender.send_all(), take)?;
        Ok(())
    }
}

impl Sender {
    async fn send_all(&mut self) -> anyhow::Result<()> {
        let end = self.shared.tally.end();
        let mut number = 0;
        loop {
            self.wait_for_room().await;
            let due = self.pace.due(number).unwrap_or_else(Instant::now);
            if due >= end {
                break;
            }
            sleep_until(due).await;
            number += self.send_what_is_due(number, end).await?;
        }
        self.shared.finished.set(true);
        self.shared.finished_wake.notify_one();
        Ok(())
    }

    async fn wait_for_room(&self) {
        while self.room() == 0 {
            self.shared.room.notified().await;
        }
    }

    fn room(&self) -> usize {
        match self.how.acks {
            Acks::None => 1,
            _ => self
                .how
                .in_flight
                .saturating_sub(self.shared.in_flight.borrow().len()),
        }
    }

    /// Sends as many requests as are due and may be under way, in one call. Returns how many.
    async fn send_what_is_due(&mut self, number: u64, end: Instant) -> anyhow::Result<u64> {
        let now = Instant::now();
        let most = self.room().min(TOGETHER_MAX) as u64;
        let is_due = |number: &u64| self.pace.due(*number).is_none_or(|due| due <= now.min(end));
        let numbers: Vec<u64> = (number..number + most).take_while(is_due).collect();
        let mut sent = Vec::with_capacity(numbers.len());
        for &number in &numbers {
            let place = (number % self.heads.len() as u64) as usize;
            let mut head = self.heads[place].clone();
            frames::set_correlation_id(&mut head, number as i32);
            let due = self.pace.due(number).unwrap_or(now);
            if self.how.acks != Acks::None {
                self.shared.in_flight.borrow_mut().push_back(Flight {
                    correlation_id: number as i32,
                    partition: self.partitions[place],
                    due,
                });
            }
            sent.push(head);
        }
        let load = Rc::clone(&self.shared.load);
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(2 * sent.len());
        for head in &sent {
            slices.push(IoSlice::new(head));
            slices.push(IoSlice::new(&load.batch));
        }
        write_all(&mut self.writer, &mut slices)
            .await
            .context("the broker closed a connection")?;
        if self.how.acks == Acks::None {
            for _ in &numbers {
                self.shared
                    .tally
                    .wrote(None, load.records, load.value_bytes);
            }
        }
        Ok(numbers.len() as u64)
    }
}

impl Pace {
    /// None: at once.
    fn due(&self, number: u64) -> Option<Instant> {
        Some(self.first + self.interval?.mul_f64(number as f64))
    }
}

async fn sleep_until(due: Instant) {
    if due > Instant::now() + AWAKE {
        tokio::time::sleep_until(due - AWAKE).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

async fn write_all(writer: &mut OwnedWriteHalf, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        let written = writer.write_vectored(slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

async fn take_answers(mut reader: OwnedReadHalf, shared: &Shared) -> anyhow::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        while let Some(answer) = next_frame(&mut buffer) {
            take(frames::produced(&answer)?, shared)?;
        }
        if shared.finished.get() && shared.in_flight.borrow().is_empty() {
            return Ok(());
        }
        tokio::select! {
            read = reader.read_buf(&mut buffer) => {
                if read.context("the broker closed a connection")? == 0 {
                    anyhow::bail!("the broker closed a connection");
                }
            }
            () = shared.finished_wake.notified() => {}
        }
    }
}

/// Takes a whole frame off the buffer's front, without its size.
pub fn next_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let size = i32::from_be_bytes(*buffer.first_chunk()?).max(0) as usize;
    if buffer.len() < 4 + size {
        return None;
    }
    buffer.advance(4);
    Some(buffer.split_to(size))
}

fn take(answer: frames::Produced, shared: &Shared) -> anyhow::Result<()> {
    let flight = shared.in_flight.borrow_mut().pop_front();
    let flight = flight.context("the broker answered what was not asked")?;
    if flight.correlation_id != answer.correlation_id {
        anyhow::bail!("the broker answered requests out of their order");
    }
    shared.room.notify_one();
    match answer.error {
        0 => {
            let load = &shared.load;
            shared
                .tally
                .wrote(Some(flight.due), load.records, load.value_bytes);
            if shared.is_read {
                shared
                    .tally
                    .was_due(flight.partition, answer.base_offset, flight.due);
            }
        }
        code => shared.tally.failed(code),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Tally, Target, connections};
    use crate::cli::perf::plan::{Acks, Producers};
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    /// How long it is watched for a connection that is closed too soon.
    const WATCHED: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_connection_stays_open_while_answers_are_due() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = Target {
            topic: "t".to_owned(),
            leaders: vec![(listener.local_addr().expect("bound").to_string(), vec![0])],
            bounds: Default::default(),
        };
        // One request, and room for another that is never due.
        let how = Producers {
            in_flight: 2,
            ..Producers::one_by_one(10, 1, Some(1.0), Acks::All)
        };
        let tally = Rc::new(Tally::new());
        let now = Instant::now();
        tally.measure_between(now, now + Duration::from_millis(50));
        let mut connections = connections(&target, &how, &tally, now, false)
            .await
            .expect("connected");
        let (mut peer, _) = listener.accept().await.expect("a client");
        let silent = async {
            let mut bytes = Vec::new();
            // Nothing is answered; long after the last request the client is still there.
            let end = tokio::time::timeout(WATCHED, peer.read_to_end(&mut bytes)).await;
            (bytes.len(), end.is_err())
        };
        tokio::select! {
            done = connections.remove(0).run() => panic!("it ended without an answer: {done:?}"),
            (sent, is_open) = silent => assert!(sent > 0 && is_open),
        }
    }
}
