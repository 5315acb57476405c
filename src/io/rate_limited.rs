//! Rate-limited log lines: some are written, the others counted.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a line is written that a full disk brings for each partition, or each request.
pub const WHILE_FULL: Duration = Duration::from_secs(10);

/// How often a line is written about a request that is refused.
pub const REFUSALS: Duration = Duration::from_secs(1);

/// One kind of line, in the whole process.
pub struct RateLimited {
    every: Duration,
    window: Mutex<Window>,
}

struct Window {
    last: Option<Instant>,
    kept_back: u64,
}

impl RateLimited {
    /// A line that is written at most once in `every`.
    pub const fn new(every: Duration) -> RateLimited {
        let window = Window {
            last: None,
            kept_back: 0,
        };
        RateLimited {
            every,
            window: Mutex::new(window),
        }
    }

    /// When a line may be written now: how many were kept back since the last.
    pub fn admit(&self) -> Option<u64> {
        self.turn_at(Instant::now())
    }

    fn turn_at(&self, now: Instant) -> Option<u64> {
        let mut window = self
            .window
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let soon = |last: Instant| now.saturating_duration_since(last) < self.every;
        if window.last.is_some_and(soon) {
            window.kept_back += 1;
            return None;
        }
        window.last = Some(now);
        Some(std::mem::take(&mut window.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_tells_how_many_were_kept_back() {
        let line = RateLimited::new(Duration::from_secs(10));
        let start = Instant::now();
        let after = |seconds| line.turn_at(start + Duration::from_secs(seconds));
        assert_eq!(after(0), Some(0));
        assert_eq!(after(1), None);
        assert_eq!(after(9), None);
        assert_eq!(after(10), Some(2));
        assert_eq!(after(19), None);
        assert_eq!(after(40), Some(1));
    }
}
