//! What one shard's connections share: budgets, counts, and who is connected.

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::stats;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_uring::net::TcpStream;

/// Budgets count in these, for a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1024;
/// A frame that has begun must go on at least this often.
const STALLED_FRAME: Duration = Duration::from_secs(30);
/// At most one line a second about connections that were closed by us.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that may be in use at once; who wants more waits.
#[derive(Clone)]
pub struct Budget {
    permits: Arc<Semaphore>,
    most: u32,
    /// Held by the one share that may grow beyond the budget.
    overdraft: Arc<Mutex<()>>,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        let most = (bytes / PERMIT_BYTES).clamp(1, u32::MAX as usize / 2) as u32;
        Budget {
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
            overdraft: Arc::default(),
        }
    }

    /// Takes `bytes` out of the budget until the permit is dropped. What is larger than the whole
    /// budget takes all of it, and so is alone.
    pub async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.permits);
        permits
            .acquire_many_owned(self.permits_for(bytes))
            .await
            .ok()
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
    }
}

/// One connection, as the rest of its shard sees it.
pub struct Peer {
    pub address: SocketAddr,
    pub stream: TcpStream,
    pub last_active: Cell<Instant>,
    /// A frame has begun and is not whole yet.
    pub in_frame: Cell<bool>,
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
            stream,
            last_active: Cell::new(Instant::now()),
            in_frame: Cell::new(false),
            unanswered: Cell::new(0),
            writing_since: Cell::new(None),
            finished: Cell::new(false),
            finished_wake: Notify::new(),
        }
    }

    pub fn touch(&self) {
        self.last_active.set(Instant::now());
    }

    /// Ends the connection; reads and writes under way return. The socket may be gone already.
    pub fn hang_up(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }
}

/// What a shard's connections share.
pub struct Net {
    pub engine: Rc<Engine>,
    pub inflight: Budget,
    /// Connections of all shards together.
    total: Arc<AtomicUsize>,
    peers: RefCell<HashMap<u64, Rc<Peer>>>,
    next_id: Cell<u64>,
    none_left: Notify,
    complaints: RefCell<Complaints>,
}

struct Complaints {
    last: Option<Instant>,
    kept_back: u64,
}

impl Net {
    pub fn new(engine: Rc<Engine>, total: Arc<AtomicUsize>) -> Rc<Net> {
        let shards = engine.mailboxes.shard_count();
        Rc::new(Net {
            inflight: Budget::new(engine.config.inflight_bytes_max / shards),
            engine,
            total,
            peers: RefCell::default(),
            next_id: Cell::new(0),
            none_left: Notify::new(),
            complaints: RefCell::new(Complaints {
                last: None,
                kept_back: 0,
            }),
        })
    }

    pub fn config(&self) -> &Config {
        &self.engine.config
    }

    /// Takes a connection in, unless there are too many.
    pub fn admit(&self, peer: &Rc<Peer>) -> Option<u64> {
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        if before >= self.config().connections_max {
            self.total.fetch_sub(1, Ordering::Relaxed);
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
        self.peers.borrow_mut().remove(&id);
        self.total.fetch_sub(1, Ordering::Relaxed);
        stats::sub(&self.engine.stats.connections, 1);
        if self.peers.borrow().is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Counts a connection that we close, and says so in the log, though not too often.
    pub fn complain(&self, address: SocketAddr, label: &'static str, why: &str) {
        self.engine.stats.refuse(label);
        let mut complaints = self.complaints.borrow_mut();
        let now = Instant::now();
        if complaints
            .last
            .is_some_and(|last| now - last < COMPLAINT_INTERVAL)
        {
            complaints.kept_back += 1;
            return;
        }
        let kept_back = std::mem::take(&mut complaints.kept_back);
        complaints.last = Some(now);
        tracing::warn!(peer = %address, reason = label, kept_back, "closed a connection: {why}");
    }

    /// Ends connections that were silent for too long.
    pub fn sweep(&self) {
        let idle = Duration::from_millis(self.config().connection_idle_ms);
        let peers: Vec<_> = self.peers.borrow().values().cloned().collect();
        for peer in peers {
            let silent = peer.last_active.get().elapsed();
            if peer.in_frame.get() && silent > STALLED_FRAME {
                self.complain(peer.address, "stalled_frame", "a request stopped half way");
                peer.hang_up(Shutdown::Both);
            } else if peer
                .writing_since
                .get()
                .is_some_and(|since| since.elapsed() > idle)
            {
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
        let budget = Budget::new(10 * PERMIT_BYTES);
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
        let budget = Budget::new(10 * PERMIT_BYTES);
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
