//! What one shard's connections share: budgets, counts, and who is connected.

use super::addresses::Addresses;
use crate::access::Caller;
use crate::config::Config;
use crate::coordinator::Coordinators;
use crate::engine::Engine;
use crate::engine::limits::{self, Limit};
use crate::engine::stats;
use crate::io::seldom::Seldom;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_uring::net::TcpStream;

/// Budgets count in these, for a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1024;
/// While requests wait for memory, a reply must be taken at least this fast.
const REPLY_TIME_PRESSED: Duration = Duration::from_secs(5);
/// At most one line a second about connections that were closed by us, for each shard.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that may be in use at once; who wants more waits.
#[derive(Clone)]
pub struct Budget {
    permits: Arc<Semaphore>,
    most: u32,
    /// Held by the one share that may grow beyond the budget.
    overdraft: Arc<Mutex<()>>,
    /// Told when somebody has to wait.
    limit: &'static Limit,
    /// Shows how many bytes are taken by shares.
    used: Rc<Cell<u64>>,
    /// Wakes who could give something back.
    pressed: Rc<Notify>,
}

impl Budget {
    pub fn new(bytes: usize, limit: &'static Limit) -> Budget {
        let most = (bytes / PERMIT_BYTES).clamp(1, u32::MAX as usize / 2) as u32;
        Budget {
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
            overdraft: Arc::default(),
            limit,
            used: Rc::default(),
            pressed: Rc::default(),
        }
    }

    /// A budget whose use `used` shows, and that notifies `pressed` when somebody has to wait.
    pub fn with(self, used: &Rc<Cell<u64>>, pressed: &Rc<Notify>) -> Budget {
        Budget {
            used: Rc::clone(used),
            pressed: Rc::clone(pressed),
            ..self
        }
    }

    fn show(&self) {
        let used = (self.most as usize).saturating_sub(self.permits.available_permits());
        self.used.set((used * PERMIT_BYTES) as u64);
    }

    /// Whether less than half of it is taken.
    pub fn is_ample(&self) -> bool {
        self.permits.available_permits() > self.most as usize / 2
    }

    /// Takes `bytes` out of the budget until the permit is dropped. What is larger than the whole
    /// budget takes all of it, and so is alone.
    pub async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = self.permits_for(bytes);
        let permits = Arc::clone(&self.permits);
        if let Ok(taken) = Arc::clone(&permits).try_acquire_many_owned(wanted) {
            return Some(taken);
        }
        self.limit.waited_for("a connection");
        permits.acquire_many_owned(wanted).await.ok()
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            permit: None,
            overdraft: None,
        }
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        bytes.div_ceil(PERMIT_BYTES).min(self.most as usize).max(1) as u32
    }
}

/// A part of a budget that grows, for a request that arrives bit by bit: who announces much and
/// sends nothing holds nothing. Given back when dropped.
pub struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedMutexGuard<()>>,
}

impl Share {
    /// Grows to `bytes`, once there is so much. Of all shares that wait one at a time may go on
    /// without: else, with the budget full of halves of requests, none would ever become whole.
    pub async fn grow(&mut self, bytes: usize) {
        let held = self
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        let missing = self.budget.permits_for(bytes).saturating_sub(held as u32);
        if missing == 0 || self.overdraft.is_some() {
            return;
        }
        let permits = Arc::clone(&self.budget.permits);
        if self.budget.permits.available_permits() < missing as usize {
            self.budget.limit.waited_for("connections");
            self.budget.pressed.notify_waiters();
        }
        tokio::select! {
            biased;
            more = permits.acquire_many_owned(missing) => match (&mut self.permit, more) {
                (Some(permit), Ok(more)) => permit.merge(more),
                (permit, more) => *permit = more.ok(),
            },
            overdraft = Arc::clone(&self.budget.overdraft).lock_owned() => {
                self.overdraft = Some(overdraft);
            }
        }
        self.budget.show();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.budget.show();
    }
}

/// One connection, as the rest of its shard sees it.
pub struct Peer {
    pub address: SocketAddr,
    pub caller: Caller,
    pub stream: TcpStream,
    pub last_active: Cell<Instant>,
    /// Of a frame that has begun and is not whole yet: since when its bytes are counted, and how many
    /// have come. `None` too while it is not read.
    pub in_frame: Cell<Option<(Instant, usize)>>,
    /// Requests that are not answered yet.
    pub unanswered: Cell<usize>,
    /// Since when a write waits for the client to read.
    pub writing_since: Cell<Option<Instant>>,
    /// The client sends nothing more.
    pub finished: Cell<bool>,
    pub finished_wake: Notify,
}

impl Peer {
    pub fn new(address: SocketAddr, stream: TcpStream) -> Peer {
        Peer {
            address,
            caller: Caller::new(address),
            stream,
            last_active: Cell::new(Instant::now()),
            in_frame: Cell::new(None),
            unanswered: Cell::new(0),
            writing_since: Cell::new(None),
            finished: Cell::new(false),
            finished_wake: Notify::new(),
        }
    }

    pub fn touch(&self) {
        self.last_active.set(Instant::now());
    }

    /// The client is waited for in the middle of a frame.
    pub fn await_rest(&self) {
        if self.in_frame.get().is_none() {
            self.in_frame.set(Some((Instant::now(), 0)));
        }
    }

    /// Some of what was waited for has come.
    pub fn took(&self, bytes: usize) {
        self.touch();
        let count = |(since, before)| (since, before + bytes);
        self.in_frame.set(self.in_frame.get().map(count));
    }

    /// Whether the frame that has begun brought less than `bytes` in the last `time`. Each such time is
    /// looked at on its own.
    fn is_stalled(&self, time: Duration, bytes: usize) -> bool {
        let Some((since, came)) = self.in_frame.get() else {
            return false;
        };
        if since.elapsed() < time {
            return false;
        }
        self.in_frame.set(Some((Instant::now(), 0)));
        came < bytes.max(1)
    }

    /// Whether a write has waited for so long.
    fn is_not_reading(&self, time: Duration) -> bool {
        let since = self.writing_since.get();
        since.is_some_and(|since| since.elapsed() > time)
    }

    /// Ends the connection; reads and writes under way return. The socket may be gone already.
    pub fn hang_up(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }
}

/// What a shard's connections share.
pub struct Net {
    pub engine: Rc<Engine>,
    pub coordinators: Rc<Coordinators>,
    pub inflight: Budget,
    /// Connections of all shards together.
    addresses: Arc<Addresses>,
    peers: RefCell<HashMap<u64, Rc<Peer>>>,
    next_id: Cell<u64>,
    none_left: Notify,
    complaints: Seldom,
}

impl Net {
    pub fn new(
        engine: Rc<Engine>,
        coordinators: Rc<Coordinators>,
        addresses: Arc<Addresses>,
    ) -> Rc<Net> {
        let shards = engine.mailboxes.shard_count();
        let inflight_bytes = engine.config.inflight_bytes_max / shards;
        Rc::new(Net {
            inflight: Budget::new(inflight_bytes, &limits::INFLIGHT_BYTES)
                .with(&engine.stats.inflight_bytes, &engine.memory_pressed),
            engine,
            coordinators,
            addresses,
            peers: RefCell::default(),
            next_id: Cell::new(0),
            none_left: Notify::new(),
            complaints: Seldom::new(COMPLAINT_INTERVAL),
        })
    }

    pub fn config(&self) -> &Config {
        &self.engine.config
    }

    /// Takes a connection in, unless there are too many.
    pub fn admit(&self, peer: &Rc<Peer>) -> Option<u64> {
        let admitted = self.addresses.admit(peer.address.ip(), self.config());
        if let Err(limit) = admitted {
            limit.reached(format_args!("{} was not let in", peer.address));
            self.engine.stats.refuse("too_many");
            return None;
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.peers.borrow_mut().insert(id, Rc::clone(peer));
        stats::add(&self.engine.stats.connections, 1);
        stats::add(&self.engine.stats.connections_accepted, 1);
        Some(id)
    }

    /// A connection is over.
    pub fn release(&self, id: u64) {
        let peer = self.peers.borrow_mut().remove(&id);
        if let Some(peer) = peer {
            self.addresses.release(peer.address.ip());
        }
        stats::sub(&self.engine.stats.connections, 1);
        if self.peers.borrow().is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Counts a connection that we close, and says so in the log, though not too often.
    pub fn complain(&self, address: SocketAddr, label: &'static str, why: &str) {
        self.engine.stats.refuse(label);
        if let Some(kept_back) = self.complaints.turn() {
            tracing::warn!(peer = %address, reason = label, kept_back, "closed a connection: {why}");
        }
    }

    /// Counts a connection that we close because of a limit, in the same way.
    pub fn refuse(&self, address: SocketAddr, label: &'static str, limit: &Limit, why: &str) {
        self.engine.stats.refuse(label);
        limit.reached(format_args!("closed the connection of {address}: {why}"));
    }

    /// Waits until it is time for a request that begins to arrive, where the rate of requests is limited,
    /// or until the broker stops.
    pub async fn pace(&self, peer: &Peer) {
        let wait = self.addresses.pace(peer.address.ip(), self.config());
        if !wait.is_zero() {
            limits::ADDRESS_REQUEST_RATE.waited_for(peer.address.ip());
            tokio::select! {
                () = tokio::time::sleep(wait) => peer.touch(),
                () = self.engine.stopped() => {}
            }
        }
    }

    /// Ends connections that were silent for too long.
    pub fn sweep(&self) {
        let idle = Duration::from_millis(self.config().connection_idle_ms);
        let frame_time = Duration::from_millis(self.config().frame_timeout_ms);
        let frame_bytes = self.config().frame_bytes_min();
        // Who does not take replies keeps the memory of all requests behind them.
        let reply_time = match self.engine.memory_is_short() {
            true => idle.min(REPLY_TIME_PRESSED),
            false => idle,
        };
        let peers: Vec<_> = self.peers.borrow().values().cloned().collect();
        for peer in peers {
            let silent = peer.last_active.get().elapsed();
            if peer.is_stalled(frame_time, frame_bytes) {
                let why = "a request stopped half way, or came too slowly";
                let limit = &limits::FRAME_RATE;
                self.refuse(peer.address, "stalled_frame", limit, why);
                peer.hang_up(Shutdown::Both);
            } else if peer.is_not_reading(reply_time) {
                self.complain(peer.address, "stalled_reply", "a reply was not taken");
                peer.hang_up(Shutdown::Both);
            } else if silent > idle && peer.unanswered.get() == 0 {
                self.engine.stats.refuse("idle");
                peer.hang_up(Shutdown::Both);
            }
        }
    }

    /// Lets no more requests in, waits until all replies have left or the time is up.
    pub async fn drain(&self, limit: Duration) {
        for peer in self.peers.borrow().values() {
            peer.hang_up(Shutdown::Read);
        }
        let drained = async {
            while !self.peers.borrow().is_empty() {
                self.none_left.notified().await;
            }
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            let left = self.peers.borrow().len();
            tracing::warn!(
                connections = left,
                "cut off connections that took too long to end"
            );
            for peer in self.peers.borrow().values() {
                peer.hang_up(Shutdown::Both);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_larger_than_the_budget_is_admitted_alone() {
        let budget = Budget::new(10 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let all = budget.take(1 << 30).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(5), budget.take(1));
        assert!(waits.await.is_err());
        drop(all);
        let _some = budget.take(3 * PERMIT_BYTES).await.unwrap();
        let _more = budget.take(7 * PERMIT_BYTES).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(5), budget.take(1));
        assert!(waits.await.is_err());
    }

    #[tokio::test]
    async fn shares_hold_what_they_grew_to_and_one_that_waits_may_go_on_without() {
        let waits = |share: &mut Share, bytes| {
            let grow = share.grow(bytes);
            futures_util::future::FutureExt::now_or_never(grow).is_none()
        };
        let budget = Budget::new(10 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let mut shares: Vec<Share> = (0..4).map(|_| budget.share()).collect();
        for share in &mut shares {
            assert!(!waits(share, 2 * PERMIT_BYTES));
        }
        // 8 of 10 are held; all four want 5.
        assert!(
            !waits(&mut shares[0], 5 * PERMIT_BYTES),
            "beyond the budget"
        );
        assert!(!waits(&mut shares[0], 90 * PERMIT_BYTES), "to its end");
        assert!(waits(&mut shares[1], 5 * PERMIT_BYTES));
        assert!(
            !waits(&mut shares[1], 3 * PERMIT_BYTES),
            "there are two left"
        );
        shares.remove(0);
        assert!(!waits(&mut shares[1], 5 * PERMIT_BYTES), "given back");
    }
}
