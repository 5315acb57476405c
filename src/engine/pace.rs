//! How fast cold pages are read while producers wait for flushes of the same disk.
//!
//! Where nothing is flushed, a reader that is far behind takes all that the disk gives, and the kernel reads
//! ahead for it. Beside flushes it reads piece by piece, so that a flush waits for one piece at most, and rests
//! after each for as long as flushes beside its pieces take notably longer than those between them.

use crate::io::clock;
use crate::io::map::MapReader;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 128 << 10;
/// Flushes that are further apart are not waited for.
const FLUSHES_WITHIN_US: u64 = 100_000;
/// The longest rest: a reader gets 64 MB/s or so, whatever flushes cost, or it might never catch up.
const REST_MAX_US: u64 = 2_000;
/// The first rest, and the one below which there is none.
const REST_MIN_US: u64 = 100;
/// A piece that took less was in memory already.
const READ_MIN_US: u64 = 60;
/// What a flush may take longer beside a piece: a share of what it takes alone, and this.
const SLACK_US: u64 = 50;
/// The share of a new measurement in an average is one in this many.
const SMOOTHING: u64 = 8;

/// What flushes cost, and what follows for cold reads. All shards share one, as they share the disk.
#[derive(Default)]
pub struct Pace {
    /// Averages in microseconds, 0 before the first: of flushes beside which nothing was read, and of others.
    alone_us: AtomicU64,
    beside_us: AtomicU64,
    last_flush_us: AtomicU64,
    /// Whether a piece is being read, and when the last one was there. With several shards' readers this is
    /// about any of them.
    is_reading: AtomicBool,
    last_read_us: AtomicU64,
    rest_us: AtomicU64,
}

impl Pace {
    /// A flush has ended, after `took`.
    pub fn flushed(&self, took: Duration) {
        self.flushed_at(clock::steady_us(), took.as_micros() as u64);
    }

    fn flushed_at(&self, now_us: u64, took_us: u64) {
        let was_beside =
            self.is_reading.load(Relaxed) || self.last_read_us.load(Relaxed) + took_us > now_us;
        let average = if was_beside {
            &self.beside_us
        } else {
            &self.alone_us
        };
        let before = average.load(Relaxed);
        let after = if before == 0 {
            took_us
        } else {
            before - before / SMOOTHING + took_us / SMOOTHING
        };
        average.store(after.max(1), Relaxed);
        self.last_flush_us.store(now_us.max(1), Relaxed);
    }

    /// Reads pages into memory that are not there, at this pace. Blocks: for a reader's thread.
    ///
    /// # Errors
    /// As [`MapReader::populate`].
    pub fn read(&self, reader: &MapReader, range: Range<usize>) -> io::Result<()> {
        for at in range.clone().step_by(PIECE_BYTES) {
            if !self.has_flushes(clock::steady_us()) {
                return reader.populate(at..range.end);
            }
            let begun_us = clock::steady_us();
            self.is_reading.store(true, Relaxed);
            let read = reader.populate_only(at..range.end.min(at + PIECE_BYTES));
            self.is_reading.store(false, Relaxed);
            let now_us = clock::steady_us();
            self.last_read_us.store(now_us, Relaxed);
            read?;
            if now_us - begun_us >= READ_MIN_US {
                thread::sleep(Duration::from_micros(self.rest()));
            }
        }
        Ok(())
    }

    /// Whether anything was flushed of late.
    fn has_flushes(&self, now_us: u64) -> bool {
        let last = self.last_flush_us.load(Relaxed);
        last != 0 && now_us.saturating_sub(last) < FLUSHES_WITHIN_US
    }

    /// Microseconds to rest after a piece: twice as many as last time while flushes beside pieces are slow, a
    /// little fewer while they are not.
    fn rest(&self) -> u64 {
        let (alone, beside) = (self.alone_us.load(Relaxed), self.beside_us.load(Relaxed));
        let rest = self.rest_us.load(Relaxed);
        let is_slow = alone != 0 && beside > alone + alone / 4 + SLACK_US;
        let next = if is_slow {
            (2 * rest).clamp(REST_MIN_US, REST_MAX_US)
        } else {
            let less = rest - rest / SMOOTHING;
            if less < REST_MIN_US { 0 } else { less }
        };
        self.rest_us.store(next, Relaxed);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{file, map};

    /// A flush in each millisecond from `from`, each taking this many microseconds.
    fn flushes(pace: &Pace, from_ms: u64, count: u64, took_us: u64) {
        for number in 0..count {
            pace.flushed_at((from_ms + number) * 1000, took_us);
        }
    }

    #[test]
    fn a_reader_rests_longer_while_flushes_beside_it_are_slow_and_less_when_they_are_not() {
        let pace = Pace::default();
        flushes(&pace, 1, 100, 500);
        assert_eq!(pace.rest(), 0, "nothing was read yet");
        pace.is_reading.store(true, Relaxed);
        flushes(&pace, 101, 100, 3000);
        let rests: Vec<u64> = (0..8).map(|_| pace.rest()).collect();
        assert_eq!(rests, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        flushes(&pace, 201, 100, 600);
        let rests: Vec<u64> = (0..40).map(|_| pace.rest()).collect();
        assert!(
            rests.is_sorted_by(|one, next| next <= one) && rests[39] == 0,
            "{rests:?}"
        );
    }

    #[test]
    fn a_flush_counts_as_beside_a_piece_that_ended_while_it_ran() {
        let pace = Pace::default();
        pace.last_read_us.store(1000, Relaxed);
        pace.flushed_at(1400, 500);
        assert_eq!(
            (pace.alone_us.load(Relaxed), pace.beside_us.load(Relaxed)),
            (0, 500)
        );
        pace.flushed_at(1600, 500);
        assert_eq!(pace.alone_us.load(Relaxed), 500);
    }

    #[test]
    fn without_flushes_nobody_is_waited_for() {
        let pace = Pace::default();
        assert!(!pace.has_flushes(5));
        pace.flushed_at(1_000_000, 300);
        assert!(pace.has_flushes(1_050_000));
        assert!(!pace.has_flushes(1_100_000));
    }

    #[test]
    fn all_of_a_range_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let file = file::open(&dir.path().join("cold"), true).unwrap();
        let bytes = 2 * PIECE_BYTES + 12_345;
        std::fs::write(dir.path().join("cold"), vec![7; bytes]).unwrap();
        let reader = map::map_for_reading(&file, bytes).unwrap();
        let pace = Pace::default();
        pace.flushed(Duration::from_micros(300));
        pace.read(&reader, 100..bytes).unwrap();
        assert!(reader.is_resident(100..bytes));
        assert_ne!(pace.last_read_us.load(Relaxed), 0, "it was read in pieces");
        assert!(!pace.is_reading.load(Relaxed));
    }
}
