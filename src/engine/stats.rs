//! What a shard and its partitions count, and what they report. A line declares a counter ([`crate::io::counters`]):
//! field, kind, name, help.

pub use crate::io::counters::{BUCKETS_US, Histogram, add, sub};

use crate::io::counters::counters;
use crate::net::counters as net;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

counters! {
    /// One shard's counters. Plain cells: only the shard's own thread touches them, and others ask for a copy
    /// through the mailbox.
    Stats(Cell<u64>, Cell::get) {
        parked_fetches: Gauge "millstream_parked_fetches" "Fetches that wait for records.";
        group_bytes: Gauge "millstream_group_bytes" "Bytes of memory that groups take of groups_bytes_max.";
        flushes: Counter "millstream_flushes_total" "Flushes of a partition's log.";
        flush_errors: Counter "millstream_flush_errors_total" "Flushes that failed; each stops a log.";
        journal_groups: Counter "millstream_journal_groups_total" "Flushes that went to the journal, of several partitions each.";
        journal_bytes: Counter "millstream_journal_bytes_total" "Bytes written to the journal.";
        journal_full: Counter "millstream_journal_full_total" "Partitions flushed on their own because the journal had no room.";
        journal_errors: Counter "millstream_journal_errors_total" "Writes to the journal that failed; the first ends its use.";
        compaction_runs: Counter "millstream_compaction_runs_total" "Compactions of a partition that came to their end.";
        compaction_errors: Counter "millstream_compaction_errors_total" "Compactions of a partition that failed.";
        compaction_read_bytes: Counter "millstream_compaction_read_bytes_total" "Bytes that compaction read.";
        compaction_written_bytes: Counter "millstream_compaction_written_bytes_total" "Bytes that compaction wrote.";
        compaction_dropped_records: Counter "millstream_compaction_dropped_records_total" "Records that compaction took away.";
        compaction_last_run_ms: Millis "millstream_compaction_last_run_timestamp_seconds" "When the last compaction ended, well or not; 0 before the first.";
        compaction_last_duration_ms: Millis "millstream_compaction_last_duration_seconds" "How long the last compaction took.";
        scrub_read_bytes: Counter "millstream_scrub_read_bytes_total" "Bytes of segments that scrubs read.";
        scrub_findings: Counter "millstream_scrub_findings_total" "Segments in which scrubs found damage.";
        scrub_rounds: Counter "millstream_scrub_rounds_total" "Scrubs of all segments that came to their end.";
        scrub_last_round_ms: Millis "millstream_scrub_last_round_timestamp_seconds" "When the last scrub of all segments ended; 0 before the first.";
    } besides {
        /// Of the shard's connections.
        net: Rc<net::Counters>,
        flush_latency: RefCell<Histogram>,
        /// By API name: from the frame's arrival to its reply being written.
        request_latency: RefCell<BTreeMap<&'static str, Histogram>>,
        /// Replies with an error code, by its name.
        errors: RefCell<BTreeMap<&'static str, u64>>,
    }

    /// A copy of a shard's counters and of what it owns.
    ShardReport, SHARD_FAMILIES {
        inflight_bytes: Gauge "millstream_inflight_bytes" "Bytes that requests take of inflight_bytes_max.";
        fetch_sessions: Gauge "millstream_fetch_sessions" "Fetch sessions that are open.";
        fetch_session_partitions: Gauge "millstream_fetch_session_partitions" "Partitions in fetch sessions.";
        fetch_session_evictions: Counter "millstream_fetch_session_evictions_total" "Fetch sessions that were closed for lack of room.";
        dedup_bytes: Gauge "millstream_dedup_bytes" "Bytes that message ids take of dedup_bytes_max.";
        dedup_forgotten: Counter "millstream_dedup_forgotten_total" "Message ids that were forgotten before their time, for lack of room.";
        key_index_bytes: Gauge "millstream_key_index_bytes" "Bytes that keys take of key_index_bytes_max.";
        key_index_dropped: Counter "millstream_key_index_dropped_total" "Keys of indexes that were given up for lack of room.";
        mailbox_depth: Gauge "millstream_mailbox_depth" "Calls from other shards that wait.";
        compaction_debt_bytes: Gauge "millstream_compaction_debt_bytes" "Bytes of closed segments of compacted topics that are not compacted yet.";
        compaction_failed_partitions: Gauge "millstream_compaction_failed_partitions" "Partitions whose last compaction failed.";
    } besides {
        shard: usize,
        net: net::Report,
        flush_latency: Histogram,
        /// How long tasks kept the shard's thread at a time.
        turns: Histogram,
        request_latency: BTreeMap<&'static str, Histogram>,
        errors: BTreeMap<&'static str, u64>,
        /// By topic name.
        topics: BTreeMap<String, TopicReport>,
    }
}

counters! {
    /// Counters of one partition, since it was opened.
    Counters(u64, Clone::clone) {
        appended_records: Counter "millstream_topic_appended_records_total" "Records appended.";
        appended_batches: Counter "millstream_topic_appended_batches_total" "Record batches appended.";
        appended_bytes: Counter "millstream_topic_appended_bytes_total" "Bytes of batches appended.";
        duplicate_records: Counter "millstream_topic_duplicate_records_total" "Records that were not stored again, for their message id was there.";
        fetched_bytes: Counter "millstream_topic_fetched_bytes_total" "Bytes of batches fetched.";
    } besides {}

    /// The counters of one partition, or of a shard's partitions of one topic together.
    TopicReport, TOPIC_FAMILIES {
        partitions: Gauge "" "Partitions.";
        log_bytes: Gauge "millstream_topic_log_bytes" "Bytes of batches in the log.";
        segments: Gauge "millstream_topic_segments" "Segments in the log.";
        producers: Gauge "millstream_topic_producers" "Idempotent producers remembered.";
        poisoned_partitions: Gauge "millstream_topic_stopped_partitions" "Partitions that take no writes: a flush failed, or the log's end is lost.";
        offline_partitions: Gauge "millstream_topic_offline_partitions" "Partitions that could not be opened.";
        damaged_partitions: Gauge "millstream_topic_damaged_partitions" "Partitions in whose log damage was found.";
        damaged_offsets: Gauge "millstream_topic_damaged_offsets" "Offsets that cannot be read because of damage.";
    } besides {}
}

impl Stats {
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
            net: self.net.report(),
            flush_latency: *self.flush_latency.borrow(),
            request_latency: self.request_latency.borrow().clone(),
            errors: self.errors.borrow().clone(),
            ..ShardReport::from(self)
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
