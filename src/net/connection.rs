//! One connection: a loop that reads frames and a task that writes replies.
//!
//! Requests are dispatched one after the other, as they came. What must wait (for the disk, for
//! records) waits in the queue of replies, which leave in the order of the requests.

use super::limits::{Budget, Net, Peer, Share};
use crate::engine::{limits, stats};
use crate::kafka::api::ApiKey;
use crate::kafka::dispatch::{self, Answer, LaterAnswer, Outcome};
use bytes::{Buf, Bytes, BytesMut};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_uring::buf::BoundedBuf;

/// Bytes of a frame's length field.
const PREFIX_BYTES: usize = 4;
/// The room for the first read, so that idle connections cost little.
const READ_BYTES_MIN: usize = 4 << 10;
/// The room for a read while frames follow one another: small enough to stay in the cache. So much each
/// connection may have beside the budgets; a larger buffer is paid for before it is filled, and given
/// back after the frame that needed it.
const READ_BYTES_BUSY: usize = 64 << 10;
/// The room that is made for a request on the strength of its announcement alone, while there is plenty.
const ROOM_BYTES_TRUSTED: usize = 1 << 20;
/// What the bookkeeping of a request takes, however small it is: its place in the queue, and what
/// remembers where it waits.
const REQUEST_BYTES: usize = 3 << 10;
/// So much a connection's only request may take beside the budget of all connections.
const REQUEST_BYTES_FREE: usize = 24 << 10;
/// What a request that is no Produce may unfold to, beside its frame: no decoder takes more, and what a
/// fetch remembers while it waits is as much.
const UNFOLDED_TIMES: usize = 4;
/// The most parts that one write gathers (IOV_MAX).
const PARTS_MAX: usize = 1024;
/// A reply of up to this many bytes is covered by its request's share of the budgets.
const REPLY_BYTES_FREE: usize = 16 << 10;
/// How long a reply may still wait after the client has stopped sending.
const GRACE: Duration = Duration::from_secs(1);

/// A reply in its place in the queue.
struct Slot {
    api: &'static str,
    received: Instant,
    answer: Pending,
    held: Held,
}

/// What a request takes of the limits until its reply has left, or cannot.
struct Held {
    net: Rc<Net>,
    peer: Rc<Peer>,
    bytes: usize,
    _shares: Shares,
}

impl Held {
    fn new(net: &Rc<Net>, peer: &Rc<Peer>, bytes: usize, shares: Shares) -> Held {
        peer.unanswered.set(peer.unanswered.get() + 1);
        stats::add(&net.engine.stats.inflight_requests, 1);
        Held {
            net: Rc::clone(net),
            peer: Rc::clone(peer),
            bytes,
            _shares: shares,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let peer = &self.peer;
        peer.unanswered.set(peer.unanswered.get().saturating_sub(1));
        stats::sub(&self.net.engine.stats.inflight_requests, 1);
    }
}

/// Of the connection's own budget and of all connections' together.
type Shares = (Option<OwnedSemaphorePermit>, Share);

enum Pending {
    Now(Answer),
    Later(LaterAnswer),
}

/// Serves a connection until either side ends it.
pub async fn serve(net: &Rc<Net>, peer: &Rc<Peer>) {
    let (slots, queue) = mpsc::channel(net.config().connection_inflight_requests_max);
    let writer = tokio_uring::spawn(write_replies(Rc::clone(net), Rc::clone(peer), queue));
    read_frames(net, peer, slots).await;
    peer.finished.set(true);
    peer.finished_wake.notify_one();
    // The writer ends by itself, when all replies have left or cannot.
    let _ = writer.await;
    peer.hang_up(Shutdown::Both);
}

async fn read_frames(net: &Rc<Net>, peer: &Rc<Peer>, slots: mpsc::Sender<Slot>) {
    let bytes_max = net.config().connection_inflight_bytes_max;
    let budget = Budget::new(bytes_max, &limits::CONNECTION_INFLIGHT_BYTES);
    let mut buffer = BytesMut::new();
    let mut room = READ_BYTES_MIN;
    // A socket that is shut for reading still brings what a busy client goes on sending.
    while !net.engine.is_stopping() {
        let size = match frame_size(net, peer, &buffer) {
            Ok(size) => size,
            Err(()) => return,
        };
        let Some(size) = size else {
            if !buffer.is_empty() {
                peer.await_rest();
            }
            buffer = match fill(net, peer, buffer, room).await {
                Some(buffer) => buffer,
                None => return,
            };
            continue;
        };
        peer.in_frame.set(None);
        let whole = PREFIX_BYTES + size;
        // Before it takes memory that others wait for.
        net.pace(peer).await;
        let own = budget.take(size).await;
        let mut shared = net.inflight.share();
        while buffer.len() < whole {
            let room = room_for(net, whole, buffer.len());
            let paid_bytes = if room > READ_BYTES_BUSY {
                buffer.len() + room
            } else {
                buffer.len()
            };
            pay(peer, &mut shared, paid_bytes).await;
            peer.await_rest();
            buffer = match fill(net, peer, buffer, room).await {
                Some(buffer) => buffer,
                None => return,
            };
        }
        peer.in_frame.set(None);
        room = READ_BYTES_BUSY;
        let mut frame = buffer.split_to(whole).freeze();
        frame.advance(PREFIX_BYTES);
        if let Some(cost) = cost(peer, &frame) {
            shared.grow(cost).await;
        }
        if buffer.is_empty() && whole > READ_BYTES_BUSY {
            buffer = BytesMut::new();
        }
        if !take_in(net, peer, &slots, frame, &budget, (own, shared)).await {
            return;
        }
    }
}

/// Bytes to make room for in the next read of a frame. While there is plenty, its announcement is
/// trusted; else no more than what has arrived gives reason for.
fn room_for(net: &Net, whole: usize, arrived: usize) -> usize {
    let trusted = match net.inflight.is_ample() {
        true => ROOM_BYTES_TRUSTED,
        false => READ_BYTES_BUSY,
    };
    (whole - arrived).min(arrived.max(trusted))
}

/// Grows a share. The client is not to blame for the time that it takes.
async fn pay(peer: &Peer, shared: &mut Share, bytes: usize) {
    let started = Instant::now();
    shared.grow(bytes).await;
    let waited = started.elapsed();
    peer.touch();
    let later = |(since, bytes)| (since + waited, bytes);
    peer.in_frame.set(peer.in_frame.get().map(later));
}

/// Bytes that a request takes of the budget of all connections. `None` for a small one that is its
/// connection's only one: who waits for each reply goes on even when others have taken all there is.
fn cost(peer: &Peer, frame: &[u8]) -> Option<usize> {
    let times = match frame.first_chunk() {
        Some(key) if i16::from_be_bytes(*key) == ApiKey::Produce.code() => 0,
        _ => UNFOLDED_TIMES,
    };
    let bytes = frame.len() * (1 + times) + REQUEST_BYTES;
    // The reply to the one before may have left without our having noticed.
    let is_free = peer.unanswered.get() <= 1 && bytes <= REQUEST_BYTES_FREE;
    (!is_free).then_some(bytes)
}

/// The size of the frame at the buffer's start, once its length field is there. A length that
/// cannot be is the end of the connection.
fn frame_size(net: &Net, peer: &Peer, buffer: &BytesMut) -> Result<Option<usize>, ()> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let size = i32::from_be_bytes(*prefix);
    let most = net.config().frame_bytes_max;
    match usize::try_from(size) {
        Ok(bytes) if bytes <= most => Ok(Some(bytes)),
        _ => {
            let why = format!("a frame of {size} bytes; frame_bytes_max is {most}");
            net.refuse(peer.address, "frame_size", &limits::FRAME_BYTES, &why);
            Err(())
        }
    }
}

/// Reads what there is, at most `room` bytes. `None` at the end of the stream.
async fn fill(net: &Net, peer: &Peer, mut buffer: BytesMut, room: usize) -> Option<BytesMut> {
    buffer.reserve(room);
    let from = buffer.len();
    let (result, slice) = peer.stream.read(buffer.slice(from..)).await;
    let buffer = slice.into_inner();
    match result {
        Ok(read) if read > 0 => {
            peer.took(read);
            stats::add(&net.engine.stats.received_bytes, read as u64);
            Some(buffer)
        }
        _ => None,
    }
}

/// Dispatches a frame and queues its reply. False ends the connection.
async fn take_in(
    net: &Rc<Net>,
    peer: &Rc<Peer>,
    slots: &mpsc::Sender<Slot>,
    frame: Bytes,
    budget: &Budget,
    shares: Shares,
) -> bool {
    let received = Instant::now();
    let mut held = Held::new(net, peer, frame.len(), shares);
    let dispatched =
        match dispatch::dispatch(&net.engine, &net.coordinators, &peer.caller, &frame).await {
            Ok(dispatched) => dispatched,
            Err(reason) => {
                net.complain(peer.address, reason.label(), &reason.to_string());
                return false;
            }
        };
    let answer = match dispatched.outcome {
        Outcome::Now(answer) => Pending::Now(answer),
        Outcome::Later(future) => Pending::Later(future),
    };
    if let Pending::Now(Answer::Reply(reply)) = &answer
        && reply.len() > held.bytes.max(REPLY_BYTES_FREE)
    {
        // A list of all topics is far larger than the request for it. The request's share goes back
        // first: who holds one and waits for another could wait for itself.
        let bytes = reply.len();
        drop(held);
        drop(frame);
        let own = budget.take(bytes).await;
        let mut shared = net.inflight.share();
        shared.grow(bytes).await;
        held = Held::new(net, peer, bytes, (own, shared));
    }
    let slot = Slot {
        api: dispatched.api,
        received,
        answer,
        held,
    };
    if slots.capacity() == 0 {
        limits::CONNECTION_INFLIGHT_REQUESTS.waited_for(peer.address);
    }
    slots.send(slot).await.is_ok()
}

/// Writes replies in order; those that are ready together leave together.
async fn write_replies(net: Rc<Net>, peer: Rc<Peer>, mut queue: mpsc::Receiver<Slot>) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(slot) => slot,
            None => match queue.recv().await {
                Some(slot) => slot,
                None => return,
            },
        };
        let Some(answer) = wait_for(&peer, first.answer).await else {
            peer.hang_up(Shutdown::Both);
            return;
        };
        let mut parts = Vec::new();
        let mut done = vec![(first.api, first.received, first.held)];
        let mut open = gather(&net, &peer, answer, &mut parts);
        while open && parts.len() < PARTS_MAX / 2 {
            let Ok(next) = queue.try_recv() else { break };
            match next.answer {
                Pending::Now(answer) => {
                    open = gather(&net, &peer, answer, &mut parts);
                    done.push((next.api, next.received, next.held));
                }
                Pending::Later(_) => {
                    held = Some(next);
                    break;
                }
            }
        }
        let written = write_all(&net, &peer, parts).await;
        for (api, received, held) in done {
            drop(held);
            net.engine.stats.request(api, received.elapsed());
        }
        if !(written && open) {
            peer.hang_up(Shutdown::Both);
            return;
        }
    }
}

/// Waits for a reply. A client that has stopped sending is not waited for long: a parked fetch of
/// one that is gone would hold its place for nothing.
async fn wait_for(peer: &Peer, answer: Pending) -> Option<Answer> {
    let mut future = match answer {
        Pending::Now(answer) => return Some(answer),
        Pending::Later(future) => future,
    };
    if !peer.finished.get() {
        tokio::select! {
            biased;
            answer = &mut future => return Some(answer),
            () = peer.finished_wake.notified() => {}
        }
    }
    tokio::time::timeout(GRACE, future).await.ok()
}

/// Adds a reply's bytes to those to write. False when the connection is to be closed.
fn gather(net: &Net, peer: &Peer, answer: Answer, parts: &mut Vec<Bytes>) -> bool {
    match answer {
        Answer::Reply(reply) => {
            parts.extend(reply.parts);
            true
        }
        Answer::Nothing => true,
        Answer::Close(reason) => {
            net.complain(peer.address, reason.label(), &reason.to_string());
            false
        }
    }
}

/// Writes all parts, in as few calls as the kernel allows. False when the peer is gone.
async fn write_all(net: &Net, peer: &Peer, parts: Vec<Bytes>) -> bool {
    let mut left: std::collections::VecDeque<Bytes> = parts.into();
    while !left.is_empty() {
        let batch: Vec<Bytes> = left.drain(..left.len().min(PARTS_MAX)).collect();
        peer.writing_since.set(Some(Instant::now()));
        let (result, mut batch) = peer.stream.writev(batch).await;
        peer.writing_since.set(None);
        let Ok(mut written) = result else {
            return false;
        };
        if written == 0 {
            return false;
        }
        peer.touch();
        stats::add(&net.engine.stats.sent_bytes, written as u64);
        let whole = batch.iter().take_while(|part| {
            let fits = part.len() <= written;
            written -= if fits { part.len() } else { 0 };
            fits
        });
        let whole = whole.count();
        for (place, mut part) in batch
            .drain(whole..)
            .enumerate()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            if place == 0 {
                part.advance(written);
            }
            left.push_front(part);
        }
    }
    true
}
