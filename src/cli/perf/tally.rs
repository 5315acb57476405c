//! What was counted and timed. One for each run; all its connections share it, on one thread.

use crate::kafka::error::ErrorCode;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
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
    window: Cell<(Instant, Instant)>,
    written: Cell<Flow>,
    read: Cell<Flow>,
    so_far: Cell<(u64, u64)>,
    acknowledged: RefCell<Histogram<u64>>,
    fetched: RefCell<Histogram<u64>>,
    end_to_end: RefCell<Histogram<u64>>,
    /// Batches that only one side has reported: when each was due, or when it was read.
    half_known: RefCell<HashMap<(i32, i64), Half>>,
    failures: RefCell<BTreeMap<ErrorCode, u64>>,
}

enum Half {
    Due(Instant),
    Read(Instant),
}

impl Tally {
    pub fn new() -> Tally {
        let now = Instant::now();
        Tally {
            window: Cell::new((now, now)),
            written: Cell::default(),
            read: Cell::default(),
            so_far: Cell::default(),
            acknowledged: RefCell::new(histogram()),
            fetched: RefCell::new(histogram()),
            end_to_end: RefCell::new(histogram()),
            half_known: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Sets the time in which it counts.
    pub fn measure_between(&self, from: Instant, to: Instant) {
        self.window.set((from, to));
    }

    pub fn end(&self) -> Instant {
        self.window.get().1
    }

    /// A batch was answered. Throughput counts what is answered in the window, latency what was due
    /// in it, however late the answer: else the worst would be left out.
    pub fn wrote(&self, due: Option<Instant>, records: u64, bytes: u64) {
        let now = Instant::now();
        let (written, read) = self.so_far.get();
        self.so_far.set((written + records, read));
        if self.is_measured(now) {
            add(&self.written, records, bytes);
        }
        if let Some(due) = due.filter(|due| self.is_measured(*due)) {
            record(&self.acknowledged, now - due);
        }
    }

    /// A fetch was answered.
    pub fn fetched(&self, sent: Instant) {
        if self.is_measured(sent) {
            record(&self.fetched, sent.elapsed());
        }
    }

    /// Records were read.
    pub fn read(&self, records: u64, bytes: u64) {
        let (written, read) = self.so_far.get();
        self.so_far.set((written, read + records));
        if self.is_measured(Instant::now()) {
            add(&self.read, records, bytes);
        }
    }

    /// The batch at this offset was due then. Its reader reports the other half, before or after.
    pub fn was_due(&self, partition: i32, offset: i64, due: Instant) {
        let mut half_known = self.half_known.borrow_mut();
        match half_known.remove(&(partition, offset)) {
            Some(Half::Read(read)) => self.end_to_end_took(due, read),
            _ => drop(half_known.insert((partition, offset), Half::Due(due))),
        }
    }

    /// The batch at this offset has been read.
    pub fn was_read(&self, partition: i32, offset: i64) {
        let now = Instant::now();
        let mut half_known = self.half_known.borrow_mut();
        match half_known.remove(&(partition, offset)) {
            Some(Half::Due(due)) => self.end_to_end_took(due, now),
            _ => drop(half_known.insert((partition, offset), Half::Read(now))),
        }
    }

    /// A batch or a partition of a fetch was refused with this code.
    pub fn failed(&self, code: ErrorCode) {
        *self.failures.borrow_mut().entry(code).or_default() += 1;
    }

    pub fn failures(&self) -> u64 {
        self.failures.borrow().values().sum()
    }

    pub fn failures_by_code(&self) -> BTreeMap<ErrorCode, u64> {
        self.failures.borrow().clone()
    }

    /// Records written and read since the start, measured or not.
    pub fn so_far(&self) -> (u64, u64) {
        self.so_far.get()
    }

    pub fn written(&self) -> Flow {
        self.written.get()
    }

    pub fn all_read(&self) -> Flow {
        self.read.get()
    }

    /// The histograms that have anything in them, by name, in nanoseconds.
    pub fn histograms(&self) -> Vec<(&'static str, Histogram<u64>)> {
        [
            ("acknowledged", &self.acknowledged),
            ("end to end", &self.end_to_end),
            ("fetch", &self.fetched),
        ]
        .into_iter()
        .map(|(name, histogram)| (name, histogram.borrow().clone()))
        .filter(|(_, histogram)| !histogram.is_empty())
        .collect()
    }

    fn end_to_end_took(&self, due: Instant, read: Instant) {
        if self.is_measured(due) {
            record(&self.end_to_end, read - due);
        }
    }

    fn is_measured(&self, at: Instant) -> bool {
        let (from, to) = self.window.get();
        from <= at && at < to
    }
}

/// Three digits of precision, from a nanosecond on.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds make sense")
}

fn record(histogram: &RefCell<Histogram<u64>>, took: std::time::Duration) {
    histogram
        .borrow_mut()
        .saturating_record(took.as_nanos() as u64);
}

fn add(flow: &Cell<Flow>, records: u64, bytes: u64) {
    let before = flow.get();
    flow.set(Flow {
        requests: before.requests + 1,
        records: before.records + records,
        bytes: before.bytes + bytes,
    });
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use std::time::Duration;
    use tokio::time::Instant;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_window_counts() {
        let tally = Tally::new();
        let now = Instant::now();
        tally.measure_between(now + MINUTE, now + 2 * MINUTE);
        tally.wrote(Some(now), 10, 100);
        assert_eq!((tally.written().records, tally.so_far().0), (0, 10));
        assert!(tally.histograms().is_empty());
        tally.measure_between(now - MINUTE, now + MINUTE);
        tally.wrote(Some(now), 10, 100);
        let written = tally.written();
        assert_eq!(
            (written.requests, written.records, written.bytes),
            (1, 10, 100)
        );
        assert_eq!(tally.histograms().len(), 1);
    }

    #[test]
    fn what_was_due_in_the_window_is_timed_even_if_answered_after_it() {
        let tally = Tally::new();
        let now = Instant::now();
        tally.measure_between(now - 2 * MINUTE, now - MINUTE);
        tally.wrote(Some(now - 2 * MINUTE), 1, 1);
        assert_eq!(tally.written().records, 0);
        let (_, histogram) = tally.histograms().remove(0);
        assert!(histogram.max() >= MINUTE.as_nanos() as u64);
    }

    #[test]
    fn either_side_may_tell_of_a_batch_first() {
        let tally = Tally::new();
        let now = Instant::now();
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
