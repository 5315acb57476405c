//! What was counted and timed. One for each run; all its connections share it, on one thread.

use crate::kafka::error::ErrorCode;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Latencies beyond this are counted as this, in nanoseconds: five minutes.
const LATENCY_NS_MAX: u64 = 300_000_000_000;

/// Records and bytes that went one way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    pub requests: u64,
    pub records: u64,
    /// Produced: bytes of values. Fetched: bytes of batches.
    pub bytes: u64,
}

/// Counts of one run.
pub struct Tally {
    window: (Instant, Instant),
    pub written: Flow,
    pub read: Flow,
    /// Records written and read since the start, measured or not.
    pub so_far: (u64, u64),
    /// Batches and partitions of fetches that were refused, by code.
    pub failures: BTreeMap<ErrorCode, u64>,
    acknowledged: Histogram<u64>,
    fetched: Histogram<u64>,
    end_to_end: Histogram<u64>,
    /// Batches that only one side has reported: when each was due, or when it was read.
    half_known: HashMap<(i32, i64), Half>,
}

enum Half {
    Due(Instant),
    Read(Instant),
}

impl Tally {
    /// Measures nothing before [`measure_between`](Self::measure_between).
    pub fn new() -> Tally {
        let now = Instant::now();
        Tally {
            window: (now, now),
            written: Flow::default(),
            read: Flow::default(),
            so_far: (0, 0),
            failures: BTreeMap::new(),
            acknowledged: histogram(),
            fetched: histogram(),
            end_to_end: histogram(),
            half_known: HashMap::new(),
        }
    }

    /// Sets the time in which it counts.
    pub fn measure_between(&mut self, from: Instant, to: Instant) {
        self.window = (from, to);
    }

    pub fn end(&self) -> Instant {
        self.window.1
    }

    /// A batch was answered. Throughput counts what is answered in the window, latency what was due
    /// in it, however late the answer: else the worst would be left out.
    pub fn wrote(&mut self, due: Option<Instant>, records: u64, bytes: u64) {
        let now = Instant::now();
        self.so_far.0 += records;
        if self.is_measured(now) {
            self.written.add(records, bytes);
        }
        if let Some(due) = due.filter(|due| self.is_measured(*due)) {
            record(&mut self.acknowledged, now - due);
        }
    }

    /// A fetch was answered.
    pub fn fetched(&mut self, sent: Instant) {
        if self.is_measured(sent) {
            record(&mut self.fetched, sent.elapsed());
        }
    }

    /// Records were read.
    pub fn read(&mut self, records: u64, bytes: u64) {
        self.so_far.1 += records;
        if self.is_measured(Instant::now()) {
            self.read.add(records, bytes);
        }
    }

    /// The batch at this offset was due then. Its reader reports the other half, before or after.
    pub fn was_due(&mut self, partition: i32, offset: i64, due: Instant) {
        match self.half_known.remove(&(partition, offset)) {
            Some(Half::Read(read)) => self.end_to_end_took(due, read),
            _ => drop(self.half_known.insert((partition, offset), Half::Due(due))),
        }
    }

    /// The batch at this offset has been read.
    pub fn was_read(&mut self, partition: i32, offset: i64) {
        let now = Instant::now();
        match self.half_known.remove(&(partition, offset)) {
            Some(Half::Due(due)) => self.end_to_end_took(due, now),
            _ => drop(self.half_known.insert((partition, offset), Half::Read(now))),
        }
    }

    /// A batch or a partition of a fetch was refused with this code.
    pub fn failed(&mut self, code: ErrorCode) {
        *self.failures.entry(code).or_default() += 1;
    }

    /// The histograms that have anything in them, by name, in nanoseconds.
    pub fn histograms(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let mut histograms = vec![
            ("acknowledged", &self.acknowledged),
            ("end to end", &self.end_to_end),
            ("fetch", &self.fetched),
        ];
        histograms.retain(|(_, histogram)| !histogram.is_empty());
        histograms
    }

    fn end_to_end_took(&mut self, due: Instant, read: Instant) {
        if self.is_measured(due) {
            record(&mut self.end_to_end, read - due);
        }
    }

    fn is_measured(&self, at: Instant) -> bool {
        let (from, to) = self.window;
        from <= at && at < to
    }
}

impl Flow {
    fn add(&mut self, records: u64, bytes: u64) {
        self.requests += 1;
        self.records += records;
        self.bytes += bytes;
    }
}

/// Three digits of precision, from a nanosecond on.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds make sense")
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_nanos() as u64);
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use std::time::Duration;
    use tokio::time::Instant;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_window_counts() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.measure_between(now + MINUTE, now + 2 * MINUTE);
        tally.wrote(Some(now), 10, 100);
        assert_eq!((tally.written.records, tally.so_far.0), (0, 10));
        assert!(tally.histograms().is_empty());
        tally.measure_between(now - MINUTE, now + MINUTE);
        tally.wrote(Some(now), 10, 100);
        let written = tally.written;
        assert_eq!(
            (written.requests, written.records, written.bytes),
            (1, 10, 100)
        );
        assert_eq!(tally.histograms().len(), 1);
    }

    #[test]
    fn what_was_due_in_the_window_is_timed_even_if_answered_after_it() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.measure_between(now - 2 * MINUTE, now - MINUTE);
        tally.wrote(Some(now - 2 * MINUTE), 1, 1);
        assert_eq!(tally.written.records, 0);
        let (_, histogram) = tally.histograms().remove(0);
        assert!(histogram.max() >= MINUTE.as_nanos() as u64);
    }

    #[test]
    fn either_side_may_tell_of_a_batch_first() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.measure_between(now - MINUTE, now + MINUTE);
        tally.was_due(0, 5, now);
        tally.was_read(0, 5);
        tally.was_read(0, 6);
        tally.was_due(0, 6, now);
        tally.was_read(1, 5);
        let (name, histogram) = tally.histograms().remove(0);
        assert_eq!((name, histogram.len()), ("end to end", 2));
    }
}
