//! What a shard's connections count. Plain cells: only the shard's own thread touches them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// One shard's connections, in numbers.
#[derive(Default)]
pub struct Counters {
    pub connections: Cell<u64>,
    pub accepted: Cell<u64>,
    /// Connections that the broker closed, by reason.
    pub refused: RefCell<BTreeMap<&'static str, u64>>,
    pub received_bytes: Cell<u64>,
    pub sent_bytes: Cell<u64>,
    /// Requests that are not answered yet.
    pub inflight_requests: Cell<u64>,
}

impl Counters {
    /// Counts a connection that the broker closed.
    pub fn refuse(&self, reason: &'static str) {
        *self.refused.borrow_mut().entry(reason).or_default() += 1;
    }
}

/// Adds to a counter.
pub fn add(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().wrapping_add(by));
}

/// Takes from a gauge.
pub fn sub(gauge: &Cell<u64>, by: u64) {
    gauge.set(gauge.get().saturating_sub(by));
}
