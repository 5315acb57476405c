//! A connection that writes: one task sends, another takes the answers.

use super::frames::{self, Frames, Load, ProduceFrame};
use super::plan::{Producers, Target};
use super::tally::Tally;
use crate::client::producer::Acks;
use anyhow::Context;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests that leave in one call.
const TOGETHER_MAX: usize = 32;
/// Timers tick in milliseconds: the last part of a wait is spent awake.
const AWAKE: Duration = Duration::from_millis(2);

/// A connection and what it sends.
pub struct Connection {
    reader: Frames<OwnedReadHalf>,
    sender: Sender,
}

struct Sender {
    writer: OwnedWriteHalf,
    shared: Rc<Shared>,
    /// A request for each partition.
    requests: Vec<(i32, ProduceFrame)>,
    how: Producers,
    pace: Pace,
}

struct Shared {
    load: Rc<Load>,
    tally: Rc<RefCell<Tally>>,
    /// Other connections read what is written, and report when.
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
    tally: &Rc<RefCell<Tally>>,
    start: Instant,
    is_read: bool,
) -> anyhow::Result<Vec<Connection>> {
    let (record_bytes, batch_bytes) = (how.record_bytes as usize, how.batch_bytes as usize);
    let load = Rc::new(Load::new(record_bytes, batch_bytes, how.codec)?);
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
        let request = |index: i32| {
            let frame = ProduceFrame::new(&target.topic, index, how.acks, &load.batch)?;
            anyhow::Ok((index, frame))
        };
        let pace = Pace {
            first: start + interval.unwrap_or_default() * number as u32 / count,
            interval,
        };
        let sender = Sender {
            writer,
            shared,
            requests: partitions
                .into_iter()
                .map(request)
                .collect::<Result<_, _>>()?,
            how: how.clone(),
            pace,
        };
        let reader = Frames::new(reader);
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
            if answered {
                return take_answers(self.reader, &shared).await;
            }
            Ok(())
        };
        // The sender outlives the last answer: if it went first, it would close its half of the connection,
        // and not every server answers then.
        tokio::try_join!(self.sender.send_all(), take)?;
        Ok(())
    }
}

impl Sender {
    async fn send_all(&mut self) -> anyhow::Result<()> {
        let end = self.shared.tally.borrow().end();
        let mut number = 0;
        loop {
            self.wait_for_room().await;
            let due = self.pace.due(number);
            // One request goes out at least, however late it has become meanwhile.
            let is_owed = number == 0 && due.is_none();
            let due = due.unwrap_or_else(Instant::now);
            if due >= end && !is_owed {
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
        if self.how.acks == Acks::None {
            return 1;
        }
        let in_flight = self.shared.in_flight.borrow().len();
        (self.how.in_flight as usize).saturating_sub(in_flight)
    }

    /// Sends as many requests as are due and may be under way, in one call. Returns how many.
    async fn send_what_is_due(&mut self, number: u64, end: Instant) -> anyhow::Result<u64> {
        let now = Instant::now();
        let most = self.room().min(TOGETHER_MAX) as u64;
        let is_due = |number: &u64| self.pace.due(*number).is_none_or(|due| due <= now.min(end));
        let numbers: Vec<u64> = (number..number + most).take_while(is_due).collect();
        let mut sent = Vec::with_capacity(numbers.len());
        for &number in &numbers {
            let (partition, request) = &self.requests[number as usize % self.requests.len()];
            let due = self.pace.due(number).unwrap_or(now);
            if self.how.acks != Acks::None {
                self.shared.in_flight.borrow_mut().push_back(Flight {
                    correlation_id: number as i32,
                    partition: *partition,
                    due,
                });
            }
            sent.push(request.with_id(number as i32));
        }
        let load = Rc::clone(&self.shared.load);
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(2 * sent.len());
        for (head, batch) in &sent {
            slices.push(IoSlice::new(head));
            slices.extend(batch.iter().map(|batch| IoSlice::new(batch)));
        }
        write_all(&mut self.writer, &mut slices)
            .await
            .context("the broker closed a connection")?;
        if self.how.acks == Acks::None {
            let mut tally = self.shared.tally.borrow_mut();
            let wrote = |_| tally.wrote(None, load.records, load.value_bytes);
            numbers.iter().for_each(wrote);
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

async fn take_answers(mut answers: Frames<OwnedReadHalf>, shared: &Shared) -> anyhow::Result<()> {
    while !(shared.finished.get() && shared.in_flight.borrow().is_empty()) {
        tokio::select! {
            answer = answers.next() => {
                let (correlation_id, answer) = answer?;
                take(correlation_id, &answer, shared)?;
            }
            () = shared.finished_wake.notified() => {}
        }
    }
    Ok(())
}

fn take(correlation_id: i32, answer: &Bytes, shared: &Shared) -> anyhow::Result<()> {
    let flight = shared.in_flight.borrow_mut().pop_front();
    let flight = flight.context("the broker answered what was not asked")?;
    if flight.correlation_id != correlation_id {
        anyhow::bail!("the broker answered requests out of their order");
    }
    shared.room.notify_one();
    let (load, mut tally) = (&shared.load, shared.tally.borrow_mut());
    let answer = frames::produced(answer)?;
    if answer.error_code.is_error() {
        tally.failed(answer.error_code);
        return Ok(());
    }
    tally.wrote(Some(flight.due), load.records, load.value_bytes);
    if shared.is_read {
        tally.was_due(flight.partition, answer.base_offset, flight.due);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Topic;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    /// How long it is watched for a connection that is closed too soon.
    const WATCHED: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_connection_stays_open_while_answers_are_due() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = Target {
            topic: Topic {
                name: "t".to_owned(),
                ..Topic::default()
            },
            leaders: vec![(listener.local_addr().expect("bound").to_string(), vec![0])],
            bounds: Default::default(),
        };
        // One request, and room for another that is never due.
        let how = Producers {
            in_flight: 2,
            ..Producers::one_by_one(10, 1, Some(1.0), Acks::All)
        };
        let mut tally = Tally::new();
        let now = Instant::now();
        tally.measure_between(now, now + Duration::from_millis(50));
        let tally = Rc::new(RefCell::new(tally));
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
