//! One connection: a loop that reads frames and a task that writes replies.
//!
//! Requests are dispatched one after the other, in the order in which they came. A reply that must wait
//! (for the disk, for records) waits in the queue of replies, which leave in the order of the requests.

use super::answer::{Answer, Handled, REPLY_BYTES_FREE};
use super::api::ApiKey;
use super::dispatch;
use crate::access::Caller;
use crate::coordinator::Coordinators;
use crate::engine::Engine;
use crate::io::{limits, reactor};
use crate::net::budget::{Budget, Charge};
use crate::net::connections::Connections;
use crate::net::counters;
use crate::net::stream::{PARTS_MAX, Peer};
use crate::wire::SIZE_PREFIX_BYTES;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Buffer for the first read, so that idle connections cost little.
const READ_BYTES_MIN: usize = 4 << 10;
/// Buffer for a read while frames follow one another: small enough to stay in the cache. Each
/// connection may have this much beside the budgets. A larger buffer is taken from the budgets before it
/// is filled, and given back after the frame that needed it.
const READ_BYTES_BUSY: usize = 64 << 10;
/// Buffer that is reserved for a frame as soon as it has announced its size, while the budget is ample.
const READ_BYTES_TRUSTED: usize = 1 << 20;
/// The most bytes that are read at a time: while they are copied, nothing else goes on.
const READ_BYTES_MAX: usize = 1 << 20;
/// A buffer that must grow is reserved for this many times what it may hold now, and for all of its frame as soon as
/// [`READ_BYTES_TRUSTED`] have arrived: addresses that nothing was written to are not memory, and what has arrived
/// is copied while it is little, for nothing else goes on meanwhile.
const RESERVE_TIMES: usize = 16;
/// Memory that a request takes however small it is: its entry in the queue, and its future.
const REQUEST_BYTES: usize = 3 << 10;
/// A connection's only request may take this much beside the budget of all connections.
const REQUEST_BYTES_FREE: usize = 24 << 10;
/// Memory that a decoded request may take, in bytes for each byte of its frame. No decoder takes more,
/// nor does a fetch while it waits. Produce takes nothing: it holds slices of the frame.
const DECODED_BYTES_PER_FRAME_BYTE: usize = 4;
/// What a request holds beyond its reply's bytes is given back if it is this much.
const EXCESS_BYTES_MAX: usize = 64 << 10;
/// How long replies may still wait after the client has stopped sending, all together.
const GRACE: Duration = Duration::from_secs(1);

/// What a shard serves connections with.
#[derive(Clone)]
pub struct Services {
    pub engine: Rc<Engine>,
    pub coordinators: Rc<Coordinators>,
    pub connections: Rc<Connections>,
}

/// A connection that is being served.
struct Connection {
    engine: Rc<Engine>,
    coordinators: Rc<Coordinators>,
    /// All connections of its shard.
    all: Rc<Connections>,
    peer: Rc<Peer>,
    caller: Caller,
    /// For its own requests.
    memory: Budget,
}

/// A request in the queue of replies.
struct Queued {
    api: &'static str,
    received: Instant,
    answer: Handled,
    held: Held,
}

/// Counts a request, and holds its part of the budgets, until its reply has left or cannot leave.
struct Held {
    connection: Rc<Connection>,
    charge: Charge,
}

impl Held {
    fn new(connection: &Rc<Connection>, charge: Charge) -> Held {
        let peer = &connection.peer;
        peer.unanswered.set(peer.unanswered.get() + 1);
        counters::add(&connection.all.counters.inflight_requests, 1);
        Held {
            connection: Rc::clone(connection),
            charge,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let peer = &self.connection.peer;
        peer.unanswered.set(peer.unanswered.get().saturating_sub(1));
        counters::sub(&self.connection.all.counters.inflight_requests, 1);
    }
}

/// Serves a connection until either side ends it.
pub async fn serve(services: Services, peer: Rc<Peer>) {
    let Services {
        engine,
        coordinators,
        connections,
    } = services;
    let config = &engine.config;
    let bytes_max = config.connection_inflight_bytes_max;
    let (replies, queue) = mpsc::channel(config.connection_inflight_requests_max);
    let connection = Rc::new(Connection {
        caller: Caller::new(peer.address),
        memory: Budget::new(bytes_max, &limits::CONNECTION_INFLIGHT_BYTES),
        engine,
        coordinators,
        all: connections,
        peer,
    });
    let writer = reactor::spawn(write_replies(Rc::clone(&connection), queue));
    read_frames(&connection, replies).await;
    // Ten thousand may end at once, and others have requests.
    reactor::take_turn().await;
    connection.peer.finish();
    // The writer ends by itself, when all replies have left or cannot.
    let _ = writer.await;
    connection.peer.hang_up(Shutdown::Both);
}

async fn read_frames(connection: &Rc<Connection>, replies: mpsc::Sender<Queued>) {
    let Connection { all, peer, .. } = &**connection;
    let mut buffer = BytesMut::new();
    let mut read_bytes = READ_BYTES_MIN;
    // A socket that is shut for reading still delivers what a busy client goes on sending.
    while !all.stop.is_set() {
        let Ok(size) = connection.frame_size(&buffer) else {
            return;
        };
        let Some(size) = size else {
            if !buffer.is_empty() {
                peer.await_rest();
            }
            buffer = match peer.read(buffer, read_bytes).await {
                Some(buffer) => buffer,
                None => return,
            };
            continue;
        };
        peer.await_nothing();
        read_bytes = READ_BYTES_BUSY;
        let whole = SIZE_PREFIX_BYTES + size;
        // Before it takes memory that others wait for.
        if all.is_paced() {
            all.pace(peer).await;
        }
        let mut charge = Charge::new(&connection.memory, &all.memory);
        charge.add_own(size).await;
        if buffer.len() < whole {
            buffer = match connection.read_rest(buffer, whole, &mut charge).await {
                Some(buffer) => buffer,
                None => return,
            };
        }
        let mut frame = buffer.split_to(whole).freeze();
        frame.advance(SIZE_PREFIX_BYTES);
        if buffer.is_empty() && whole > READ_BYTES_BUSY {
            buffer = BytesMut::new();
        }
        if let Some(cost) = connection.cost(&frame) {
            charge.grow_shared(cost).await;
        }
        if !take_in(connection, &replies, frame, charge).await {
            return;
        }
    }
}

impl Connection {
    /// The size of the frame at the buffer's start, once its length field is there. A length that
    /// cannot be is the end of the connection.
    fn frame_size(&self, buffer: &BytesMut) -> Result<Option<usize>, ()> {
        let Some(prefix) = buffer.first_chunk::<SIZE_PREFIX_BYTES>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*prefix);
        let most = self.all.config.frame_bytes_max;
        match usize::try_from(size) {
            Ok(bytes) if bytes <= most => Ok(Some(bytes)),
            _ => {
                let why = format!("a frame of {size} bytes; frame_bytes_max is {most}");
                let limit = &limits::FRAME_BYTES;
                self.all
                    .refuse(self.peer.address, "frame_size", limit, &why);
                Err(())
            }
        }
    }

    /// Reads until the buffer has `whole` bytes. A buffer beyond what every connection may have is taken
    /// from the shared budget first. `None` at the end of the stream.
    async fn read_rest(
        &self,
        mut buffer: BytesMut,
        whole: usize,
        charge: &mut Charge,
    ) -> Option<BytesMut> {
        let mut taken = 0;
        while buffer.len() < whole {
            if buffer.len() >= taken {
                taken = self.take_room(&mut buffer, whole, charge).await;
            }
            self.peer.await_rest();
            let room = (taken - buffer.len()).min(READ_BYTES_MAX);
            buffer = self.peer.read(buffer, room).await?;
        }
        self.peer.await_nothing();
        Some(buffer)
    }

    /// Takes memory for more of a frame. Returns to how many bytes the buffer may be filled.
    async fn take_room(&self, buffer: &mut BytesMut, whole: usize, charge: &mut Charge) -> usize {
        // While the budget is ample, the announced size is trusted; else the buffer at most doubles
        // what has arrived.
        let trusted = if self.all.memory.is_ample() {
            READ_BYTES_TRUSTED
        } else {
            READ_BYTES_BUSY
        };
        let room = (whole - buffer.len()).min(buffer.len().max(trusted));
        let taken = buffer.len() + room;
        if taken > READ_BYTES_BUSY {
            let mut grown = pin!(charge.grow_shared(taken));
            if grown.as_mut().now_or_never().is_none() {
                // While the broker does not read, a client is not to blame for being slow.
                self.peer.await_nothing();
                grown.await;
                self.peer.touch();
            }
            self.peer.incoming_bytes.set(taken);
            reserve(buffer, whole, room);
        }
        taken
    }

    /// Bytes that a request takes from the budget of all connections. `None` for a small one that is its
    /// connection's only one: a client that waits for each reply goes on even when others have used up
    /// the budget.
    fn cost(&self, frame: &[u8]) -> Option<usize> {
        let times = match frame.first_chunk() {
            Some(key) if i16::from_be_bytes(*key) == ApiKey::Produce.code() => 0,
            _ => DECODED_BYTES_PER_FRAME_BYTE,
        };
        let bytes = frame.len() * (1 + times) + REQUEST_BYTES;
        // The previous reply may have left although it is still counted.
        let is_free = self.peer.unanswered.get() <= 1 && bytes <= REQUEST_BYTES_FREE;
        (!is_free).then_some(bytes)
    }

    fn complain(&self, label: &'static str, why: &str) {
        self.all.complain(self.peer.address, label, why);
    }
}

/// Makes a buffer large enough for `room` bytes more of a frame of `whole` bytes; see [`RESERVE_TIMES`].
fn reserve(buffer: &mut BytesMut, whole: usize, room: usize) {
    let arrived = buffer.len();
    let (needed, reserved) = if arrived < READ_BYTES_TRUSTED {
        (arrived + room, whole.min(arrived + room * RESERVE_TIMES))
    } else {
        (whole, whole)
    };
    if buffer.capacity() < needed {
        // `BytesMut::reserve` would have the allocator copy what was reserved, not only what has arrived.
        let mut larger = BytesMut::with_capacity(reserved);
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
}

/// Dispatches a frame and queues its reply. False ends the connection.
async fn take_in(
    connection: &Rc<Connection>,
    replies: &mpsc::Sender<Queued>,
    frame: Bytes,
    charge: Charge,
) -> bool {
    let received = Instant::now();
    let mut held = Held::new(connection, charge);
    let Connection {
        engine,
        coordinators,
        caller,
        ..
    } = &**connection;
    let charge = &mut held.charge;
    let dispatched = match dispatch::dispatch(engine, coordinators, caller, &frame, charge).await {
        Ok(dispatched) => dispatched,
        Err(reason) => {
            connection.complain(reason.label(), &reason.to_string());
            return false;
        }
    };
    if let Handled::Parked(_) = &dispatched.handled {
        // It waits with what is stored of it.
        drop(frame);
        held.charge.park(REQUEST_BYTES);
    } else if let Handled::Now(Answer::Reply(reply)) = &dispatched.handled {
        // The request is over: what is held from here on is the reply.
        drop(frame);
        let (bytes, charged) = (reply.len(), held.charge.bytes());
        if bytes > charged.max(REPLY_BYTES_FREE) {
            held.charge.add(bytes - charged).await;
        } else if charged > bytes + EXCESS_BYTES_MAX {
            held.charge.shrink_to(bytes);
        }
    }
    let queued = Queued {
        api: dispatched.api,
        received,
        answer: dispatched.handled,
        held,
    };
    if replies.capacity() == 0 {
        limits::CONNECTION_INFLIGHT_REQUESTS.waited_for(connection.peer.address);
    }
    replies.send(queued).await.is_ok()
}

/// Writes replies in order; those that are ready together leave together.
async fn write_replies(connection: Rc<Connection>, mut queue: mpsc::Receiver<Queued>) {
    let peer = &connection.peer;
    let mut waiting = None;
    loop {
        let first = match waiting.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let Some(answer) = wait_for(peer, first.answer).await else {
            peer.hang_up(Shutdown::Both);
            return;
        };
        let mut parts = Vec::new();
        let mut done = vec![(first.api, first.received, first.held)];
        let mut open = connection.gather(answer, &mut parts);
        while open && parts.len() < PARTS_MAX / 2 {
            let Ok(next) = queue.try_recv() else { break };
            match next.answer {
                Handled::Now(answer) => {
                    open = connection.gather(answer, &mut parts);
                    done.push((next.api, next.received, next.held));
                }
                Handled::Later(_) | Handled::Parked(_) => {
                    waiting = Some(next);
                    break;
                }
            }
        }
        let written = peer.write_all(parts).await;
        for (api, received, held) in done {
            drop(held);
            connection.engine.stats.request(api, received.elapsed());
        }
        if !(written && open) {
            peer.hang_up(Shutdown::Both);
            return;
        }
    }
}

/// Waits for a reply. After the client has stopped sending all replies wait for at most [`GRACE`]: a parked fetch
/// of a client that is gone would use up its part of the limits for nothing.
async fn wait_for(peer: &Peer, answer: Handled) -> Option<Answer> {
    let mut future = match answer {
        Handled::Now(answer) => return Some(answer),
        Handled::Later(future) | Handled::Parked(future) => future,
    };
    let finished = tokio::select! {
        biased;
        answer = &mut future => return Some(answer),
        finished = peer.finished() => finished,
    };
    let until = (finished + GRACE).into();
    tokio::time::timeout_at(until, future).await.ok()
}

impl Connection {
    /// Adds a reply's bytes to those to write. False when the connection is to be closed.
    fn gather(&self, answer: Answer, parts: &mut Vec<Bytes>) -> bool {
        match answer {
            Answer::Reply(reply) => {
                parts.extend(reply.parts);
                true
            }
            Answer::Nothing => true,
            Answer::Close(reason) => {
                self.complain(reason.label(), &reason.to_string());
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_is_copied_while_little_of_it_has_arrived() {
        let whole = 100 << 20;
        let mut buffer = BytesMut::from(&[7; READ_BYTES_MIN][..]);
        let mut moves = Vec::new();
        while buffer.len() < whole {
            let (from, arrived) = (buffer.as_ptr(), buffer.len());
            let room = (whole - arrived).min(arrived.max(READ_BYTES_BUSY));
            reserve(&mut buffer, whole, room);
            if buffer.as_ptr() != from {
                moves.push(arrived);
            }
            assert!(buffer.capacity() >= arrived + room);
            buffer.resize(arrived + room, 7);
        }
        assert!(moves.len() > 1, "{moves:?}");
        assert!(
            moves
                .iter()
                .all(|arrived| *arrived <= 2 * READ_BYTES_TRUSTED),
            "{moves:?}"
        );
        assert!(buffer.iter().all(|byte| *byte == 7));
    }
}
