//! Limits that are counted and logged when they are reached. What happens then is up to the code that holds
//! them.

use super::rate_limited::RateLimited;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One limit is logged at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A limit of the whole broker, under the name of its knob.
pub struct Limit {
    pub knob: &'static str,
    reached: AtomicU64,
    line: RateLimited,
}

impl Limit {
    const fn new(knob: &'static str) -> Limit {
        Limit {
            knob,
            reached: AtomicU64::new(0),
            line: RateLimited::new(LINE_EVERY),
        }
    }

    /// Counts something that did not fit; `what` names it.
    pub fn reached(&self, what: impl Display) {
        self.reached.fetch_add(1, Ordering::Relaxed);
        if let Some(kept_back) = self.line.admit() {
            tracing::warn!(limit = self.knob, kept_back, "a limit was reached: {what}");
        }
    }

    /// As [`reached`](Self::reached), where a request waits instead of being refused.
    pub fn waited_for(&self, who: impl Display) {
        self.reached.fetch_add(1, Ordering::Relaxed);
        if let Some(kept_back) = self.line.admit() {
            tracing::info!(limit = self.knob, kept_back, "a limit holds back {who}");
        }
    }

    /// How often it was reached since the start.
    pub fn count(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }
}

macro_rules! limits {
    ($($name:ident = $knob:literal;)*) => {
        $(pub static $name: Limit = Limit::new($knob);)*
        /// All of them.
        pub static LIMITS: &[&Limit] = &[$(&$name),*];
    };
}

limits! {
    CONNECTIONS = "connections_max";
    ADDRESS_CONNECTIONS = "connections_per_address_max";
    ADDRESS_CONNECTION_RATE = "connection_rate_per_address_max";
    ADDRESS_REQUEST_RATE = "request_rate_per_address_max";
    FRAME_BYTES = "frame_bytes_max";
    FRAME_RATE = "frame_bytes_per_second_min";
    INFLIGHT_BYTES = "inflight_bytes_max";
    CONNECTION_INFLIGHT_BYTES = "connection_inflight_bytes_max";
    CONNECTION_INFLIGHT_REQUESTS = "connection_inflight_requests_max";
    PARKED_FETCHES = "parked_fetches_max";
    TOPICS = "topics_max";
    PARTITIONS = "partitions_max";
    FREE_BYTES = "free_bytes_min";
    MAPS = "maps_max";
    GROUPS = "groups_max";
    GROUP_SIZE = "group_max_size";
    GROUP_METADATA_BYTES = "group_metadata_bytes_max";
    GROUP_PROTOCOLS = "group_protocols_max";
    GROUP_RECORD_BYTES = "group_record_bytes_max";
    GROUPS_BYTES = "groups_bytes_max";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Knob};

    #[test]
    fn every_limit_has_the_name_of_a_knob() {
        for limit in LIMITS {
            let is_this = |knob: &&Knob| knob.field == limit.knob;
            assert!(
                Config::KNOBS.iter().any(|knob| is_this(&knob)),
                "{}",
                limit.knob
            );
        }
    }
}
