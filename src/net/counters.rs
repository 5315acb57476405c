//! What a shard's connections count ([`crate::io::counters`]).

pub use crate::io::counters::{add, sub};

use crate::io::counters::counters;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

counters! {
    /// One shard's connections, in numbers. Plain cells: only the shard's own thread touches them.
    Counters(Cell<u64>, Cell::get) {
        connections: Gauge "millstream_connections" "Open client connections.";
        accepted: Counter "millstream_connections_accepted_total" "Connections taken in.";
        received_bytes: Counter "millstream_received_bytes_total" "Bytes read from clients.";
        sent_bytes: Counter "millstream_sent_bytes_total" "Bytes written to clients.";
        inflight_requests: Gauge "millstream_inflight_requests" "Requests that are not answered yet.";
    } besides {
        /// Connections that the broker closed, by reason.
        refused: RefCell<BTreeMap<&'static str, u64>>,
    }

    /// A copy of the counters.
    Report, FAMILIES {} besides {
        refused: BTreeMap<&'static str, u64>,
    }
}

impl Counters {
    /// Counts a connection that the broker closed.
    pub fn refuse(&self, reason: &'static str) {
        *self.refused.borrow_mut().entry(reason).or_default() += 1;
    }

    /// A copy of the counters.
    pub fn report(&self) -> Report {
        Report {
            refused: self.refused.borrow().clone(),
            ..Report::from(self)
        }
    }
}
