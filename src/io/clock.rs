//! The wall clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on a clock that never goes back: the wall clock when it was first asked, and the
/// time that has passed since. For timers that must not jump with the wall clock.
pub fn steady_ms() -> i64 {
    static START: OnceLock<(Instant, i64)> = OnceLock::new();
    let (start, start_ms) = START.get_or_init(|| (Instant::now(), now_ms()));
    start_ms + start.elapsed().as_millis() as i64
}

/// Milliseconds since the Unix epoch, as Kafka's timestamps count them. A clock before 1970 reads 0.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
