//! What a shard counts. Plain cells: only the shard's own thread touches them, and whoever wants
//! them asks through the mailbox for a copy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Upper bounds of the latency buckets in microseconds; the last bucket has none.
pub const BUCKETS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600, 26_214_400,
];

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Counts by bucket, not cumulative; one more than there are bounds.
    pub buckets: [u64; BUCKETS_US.len() + 1],
    pub sum_us: u64,
}

impl Histogram {
    pub fn observe(&mut self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[BUCKETS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us += us;
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_us += other.sum_us;
    }
}

/// One shard's counters.
#[derive(Default)]
pub struct Stats {
    pub connections: Cell<u64>,
    pub connections_accepted: Cell<u64>,
    /// Connections that were closed by us, by reason.
    pub connections_refused: RefCell<BTreeMap<&'static str, u64>>,
    pub received_bytes: Cell<u64>,
    pub sent_bytes: Cell<u64>,
    pub parked_fetches: Cell<u64>,
    /// Requests that are not answered yet.
    pub inflight_requests: Cell<u64>,
    /// Shared with the budget that it shows.
    pub inflight_bytes: Rc<Cell<u64>>,
    pub flushes: Cell<u64>,
    pub flush_errors: Cell<u64>,
    pub flush_latency: RefCell<Histogram>,
    /// Groups written to the journal, and their bytes.
    pub journal_groups: Cell<u64>,
    pub journal_bytes: Cell<u64>,
    /// Partitions that were flushed on their own because the journal had no room.
    pub journal_full: Cell<u64>,
    pub journal_errors: Cell<u64>,
    /// By API name: from the frame's arrival to its reply being written.
    pub request_latency: RefCell<BTreeMap<&'static str, Histogram>>,
    /// Replies with an error code, by its name.
    pub errors: RefCell<BTreeMap<&'static str, u64>>,
    pub compaction: RefCell<CompactionStats>,
    pub scrub_read_bytes: Cell<u64>,
    /// Segments in which a scrub found damage.
    pub scrub_findings: Cell<u64>,
    pub scrub_rounds: Cell<u64>,
    /// When the last round ended (ms since the epoch); 0 before the first.
    pub scrub_last_round_ms: Cell<u64>,
}

/// Adds to a counter.
pub fn add(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().wrapping_add(by));
}

/// Takes from a gauge.
pub fn sub(gauge: &Cell<u64>, by: u64) {
    gauge.set(gauge.get().saturating_sub(by));
}

/// A copy of a shard's counters and of what it owns.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    pub shard: usize,
    pub connections: u64,
    pub connections_accepted: u64,
    pub connections_refused: BTreeMap<&'static str, u64>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub parked_fetches: u64,
    pub fetch_sessions: u64,
    pub fetch_session_partitions: u64,
    pub fetch_session_evictions: u64,
    pub inflight_requests: u64,
    pub inflight_bytes: u64,
    pub mailbox_depth: u64,
    pub flushes: u64,
    pub flush_errors: u64,
    pub flush_latency: Histogram,
    pub journal_groups: u64,
    pub journal_bytes: u64,
    pub journal_full: u64,
    pub journal_errors: u64,
    pub request_latency: BTreeMap<&'static str, Histogram>,
    pub errors: BTreeMap<&'static str, u64>,
    pub compaction: CompactionStats,
    pub scrub_read_bytes: u64,
    pub scrub_findings: u64,
    pub scrub_rounds: u64,
    pub scrub_last_round_ms: u64,
    /// By topic name.
    pub topics: BTreeMap<String, TopicReport>,
}

/// What compaction did on a shard, and what it has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Runs that came to their end.
    pub runs: u64,
    /// Runs that failed.
    pub errors: u64,
    /// When the last run ended, well or not (ms since the epoch); 0 before the first.
    pub last_run_ms: u64,
    pub last_duration_ms: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub dropped_records: u64,
    /// Bytes of sealed segments of compacted topics that were not compacted since they were written.
    pub debt_bytes: u64,
    /// Partitions of compacted topics whose last run failed.
    pub failed_partitions: u64,
}

/// What a shard's partitions of one topic add up to.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicReport {
    pub partitions: u64,
    pub poisoned_partitions: u64,
    /// Partitions that could not be opened.
    pub offline_partitions: u64,
    pub damaged_partitions: u64,
    /// Offsets that readers are refused.
    pub damaged_offsets: u64,
    pub appended_records: u64,
    pub appended_batches: u64,
    pub appended_bytes: u64,
    pub fetched_bytes: u64,
    pub log_bytes: u64,
    pub segments: u64,
    pub producers: u64,
}

impl TopicReport {
    pub fn add(&mut self, other: &TopicReport) {
        self.partitions += other.partitions;
        self.poisoned_partitions += other.poisoned_partitions;
        self.offline_partitions += other.offline_partitions;
        self.damaged_partitions += other.damaged_partitions;
        self.damaged_offsets += other.damaged_offsets;
        self.appended_records += other.appended_records;
        self.appended_batches += other.appended_batches;
        self.appended_bytes += other.appended_bytes;
        self.fetched_bytes += other.fetched_bytes;
        self.log_bytes += other.log_bytes;
        self.segments += other.segments;
        self.producers += other.producers;
    }
}

impl Stats {
    /// Counts a connection that was closed by us.
    pub fn refuse(&self, reason: &'static str) {
        *self
            .connections_refused
            .borrow_mut()
            .entry(reason)
            .or_default() += 1;
    }

    /// Counts a reply with an error.
    pub fn error(&self, name: &'static str) {
        *self.errors.borrow_mut().entry(name).or_default() += 1;
    }

    /// Counts a request of an API that was answered.
    pub fn request(&self, api: &'static str, latency: Duration) {
        self.request_latency
            .borrow_mut()
            .entry(api)
            .or_default()
            .observe(latency);
    }

    /// A copy of the counters.
    pub fn report(&self, shard: usize) -> ShardReport {
        ShardReport {
            shard,
            connections: self.connections.get(),
            connections_accepted: self.connections_accepted.get(),
            connections_refused: self.connections_refused.borrow().clone(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            parked_fetches: self.parked_fetches.get(),
            inflight_requests: self.inflight_requests.get(),
            inflight_bytes: self.inflight_bytes.get(),
            flushes: self.flushes.get(),
            flush_errors: self.flush_errors.get(),
            flush_latency: *self.flush_latency.borrow(),
            journal_groups: self.journal_groups.get(),
            journal_bytes: self.journal_bytes.get(),
            journal_full: self.journal_full.get(),
            journal_errors: self.journal_errors.get(),
            request_latency: self.request_latency.borrow().clone(),
            errors: self.errors.borrow().clone(),
            compaction: *self.compaction.borrow(),
            scrub_read_bytes: self.scrub_read_bytes.get(),
            scrub_findings: self.scrub_findings.get(),
            scrub_rounds: self.scrub_rounds.get(),
            scrub_last_round_ms: self.scrub_last_round_ms.get(),
            ..ShardReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        let mut histogram = Histogram::default();
        for us in [0, 50, 51, 1_000_000, 60_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        assert_eq!(histogram.buckets[0], 2);
        assert_eq!(histogram.buckets[1], 1);
        assert_eq!(histogram.buckets[BUCKETS_US.len()], 1);
        assert_eq!(histogram.count(), 5);
        let mut twice = histogram;
        twice.add(&histogram);
        assert_eq!(twice.count(), 10);
    }
}
