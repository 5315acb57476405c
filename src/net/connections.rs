//! The connections of one shard: which are open, and the limits that they share.

use super::addresses::{self, Addresses};
use super::budget::Budget;
use super::counters::{self, Counters};
use super::stream::Peer;
use crate::config::Config;
use crate::io::limits::{self, Limit};
use crate::io::rate_limited::RateLimited;
use crate::io::reactor::Slice;
use crate::io::stop::Stop;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// While requests wait for memory, a client must read a reply within this time.
const REPLY_TIME_PRESSED: Duration = Duration::from_secs(5);
/// And a request that holds memory may be the slowest of all for this time.
const FRAME_TIME_PRESSED: Duration = Duration::from_secs(5);
/// Bytes a second of a request that comes fast enough even then.
const FRAME_RATE_FINE: u64 = 1 << 20;
/// At most one line a second about connections that the broker closed, for each shard.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// What a shard's connections need from the shard.
pub struct Parts {
    pub config: Arc<Config>,
    /// Connections of all shards together.
    pub addresses: Arc<Addresses>,
    /// Memory for the requests of all connections of the shard.
    pub memory: Budget,
    pub counters: Rc<Counters>,
    pub stop: Rc<Stop>,
}

/// A shard's connections.
pub struct Connections {
    pub config: Arc<Config>,
    pub memory: Budget,
    pub counters: Rc<Counters>,
    pub stop: Rc<Stop>,
    addresses: Arc<Addresses>,
    peers: RefCell<HashMap<u64, Rc<Peer>>>,
    next_id: Cell<u64>,
    none_left: Notify,
    complaints: RateLimited,
}

impl Connections {
    pub fn new(parts: Parts) -> Rc<Connections> {
        Rc::new(Connections {
            config: parts.config,
            memory: parts.memory,
            counters: parts.counters,
            stop: parts.stop,
            addresses: parts.addresses,
            peers: RefCell::default(),
            next_id: Cell::new(0),
            none_left: Notify::new(),
            complaints: RateLimited::new(COMPLAINT_INTERVAL),
        })
    }

    /// Admits a connection, unless there are too many.
    pub fn admit(&self, peer: &Rc<Peer>) -> Option<u64> {
        let admitted = self.addresses.admit(peer.address.ip(), &self.config);
        if let Err(limit) = admitted {
            limit.reached(format_args!("{} was not let in", peer.address));
            self.counters.refuse("too_many");
            return None;
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.peers.borrow_mut().insert(id, Rc::clone(peer));
        counters::add(&self.counters.connections, 1);
        counters::add(&self.counters.accepted, 1);
        Some(id)
    }

    /// Removes a connection that has ended.
    pub fn release(&self, id: u64) {
        let peer = self.peers.borrow_mut().remove(&id);
        if let Some(peer) = peer {
            self.addresses.release(peer.address.ip());
        }
        counters::sub(&self.counters.connections, 1);
        if self.peers.borrow().is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Counts a connection that the broker closes, and logs it at a limited rate.
    pub fn complain(&self, address: SocketAddr, label: &'static str, why: &str) {
        self.counters.refuse(label);
        if let Some(kept_back) = self.complaints.admit() {
            tracing::warn!(peer = %address, reason = label, kept_back, "closed a connection: {why}");
        }
    }

    /// Counts a connection that the broker closes because of a limit, in the same way.
    pub fn refuse(&self, address: SocketAddr, label: &'static str, limit: &Limit, why: &str) {
        self.counters.refuse(label);
        limit.reached(format_args!("closed the connection of {address}: {why}"));
    }

    /// Whether the rate of requests is limited.
    pub fn is_paced(&self) -> bool {
        addresses::is_paced(&self.config)
    }

    /// Waits until it is time for a request that begins to arrive, or until the broker stops.
    pub async fn pace(&self, peer: &Peer) {
        let wait = self.addresses.pace(peer.address.ip(), &self.config);
        if !wait.is_zero() {
            limits::ADDRESS_REQUEST_RATE.waited_for(peer.address.ip());
            tokio::select! {
                () = tokio::time::sleep(wait) => peer.touch(),
                () = self.stop.wait() => {}
            }
        }
    }

    /// Ends connections that are idle, or stalled in a request or a reply, for too long.
    pub async fn sweep(&self) {
        let idle = Duration::from_millis(self.config.connection_idle_ms);
        let frame_time = Duration::from_millis(self.config.frame_timeout_ms);
        let frame_bytes = self.config.frame_bytes_min();
        // A client that does not read its replies holds the memory of all requests behind them.
        let reply_time = if self.memory.is_short() {
            idle.min(REPLY_TIME_PRESSED)
        } else {
            idle
        };
        let peers: Vec<_> = self.peers.borrow().values().cloned().collect();
        self.make_room(&peers);
        let mut slice = Slice::new();
        for peer in peers {
            slice.rest().await;
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
                self.counters.refuse("idle");
                peer.hang_up(Shutdown::Both);
            }
        }
    }

    /// While memory is short, ends the connections whose requests come the slowest, until enough is given
    /// back. A request that the broker itself does not read for lack of memory does not count as slow.
    fn make_room(&self, peers: &[Rc<Peer>]) {
        let mut wanted = self.memory.excess();
        if wanted == 0 {
            return;
        }
        let with_rate =
            |peer: &Rc<Peer>| Some((peer.trickle(FRAME_TIME_PRESSED)?, Rc::clone(peer)));
        let mut slow: Vec<_> = peers.iter().filter_map(with_rate).collect();
        slow.sort_unstable_by_key(|(rate, _)| *rate);
        for (rate, peer) in slow {
            if rate >= FRAME_RATE_FINE {
                return;
            }
            let bytes = peer.incoming_bytes.get();
            let why = format!(
                "memory is short, and a request that holds {bytes} bytes comes with {rate} bytes/s"
            );
            self.refuse(peer.address, "slow_frame", &limits::INFLIGHT_BYTES, &why);
            peer.hang_up(Shutdown::Both);
            wanted = wanted.saturating_sub(bytes);
            if wanted == 0 {
                return;
            }
        }
    }

    /// Takes no more requests, and waits until all replies have left or the time is up.
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
