//! Holds compaction to a rate, so that it leaves the disk to others.

use super::CompactError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A request to end is noticed at least this often.
const NAP: Duration = Duration::from_millis(50);

/// Counts bytes read and written; sleeps where they come too fast. Blocks: on the cleaner's thread
/// only.
pub struct Throttle {
    bytes_per_second: u64,
    /// When all that was taken so far was due.
    due: Instant,
    cancelled: Arc<AtomicBool>,
}

impl Throttle {
    pub fn new(bytes_per_second: u64, cancelled: Arc<AtomicBool>) -> Throttle {
        Throttle {
            bytes_per_second: bytes_per_second.max(1),
            due: Instant::now(),
            cancelled,
        }
    }

    /// Takes `bytes` from the rate, waiting for them to be due.
    ///
    /// # Errors
    /// `Cancelled` when the job is to end.
    pub fn take(&mut self, bytes: usize) -> Result<(), CompactError> {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.due = self.due.max(Instant::now()) + cost;
        loop {
            self.check_cancelled()?;
            let early = self.due.saturating_duration_since(Instant::now());
            if early < NAP {
                // What is left is shorter than a nap: the next call waits for it.
                return Ok(());
            }
            thread::sleep(early.min(NAP));
        }
    }

    /// # Errors
    /// `Cancelled` when the job is to end.
    pub fn check_cancelled(&self) -> Result<(), CompactError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(CompactError::Cancelled);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_no_faster_than_the_rate_and_a_cancelled_job_ends_at_once() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut throttle = Throttle::new(1 << 20, Arc::clone(&cancelled));
        let started = Instant::now();
        for _ in 0..4 {
            throttle.take(64 << 10).unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(190));
        cancelled.store(true, Ordering::Relaxed);
        let refused = throttle.take(1 << 30);
        assert!(matches!(refused, Err(CompactError::Cancelled)));
    }
}
