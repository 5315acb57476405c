//! The clocks. Nothing else in the broker asks what time it is.
//!
//! The wall clock jumps: an operator sets it, or a machine that started without one finds a time
//! server. Timestamps are its business, and what is held against them; whatever waits, or is idle,
//! counts on the steady clock.

use super::sabotage::{self, Sabotage};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::{MissedTickBehavior, interval};

/// Milliseconds on a clock that never goes back: the wall clock when it was first asked, and the
/// time that has passed since. For timers that must not jump with the wall clock.
pub fn steady_ms() -> i64 {
    if sabotage::is_done(Sabotage::WallTimers) {
        return now_ms();
    }
    static START: OnceLock<(Instant, i64)> = OnceLock::new();
    let (start, start_ms) = START.get_or_init(|| (Instant::now(), now_ms()));
    start_ms + start.elapsed().as_millis() as i64
}

/// Microseconds since this was first asked, for measuring.
pub fn steady_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// How long the processor has worked for the calling thread.
#[cfg(debug_assertions)]
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the timespec that it is given (clock_gettime(2)); every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The later of the two clocks, for the date of what is kept and goes when it is old: after the next
/// start it must not look older than it is, whichever of them was wrong.
pub fn stamp_ms() -> i64 {
    steady_ms().max(now_ms())
}

/// The earlier of the two clocks, to be held against such a date: what only one of them says is old
/// may be new.
pub fn cautious_ms() -> i64 {
    steady_ms().min(now_ms())
}

/// Milliseconds since the Unix epoch, as Kafka's timestamps count them. A clock before 1970 reads 0.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let real_ms = since.map_or(0, |since| since.as_millis() as i64);
    real_ms.saturating_add(offset_ms()).max(0)
}

/// Whether the clock of the machine stands before the Unix epoch, where some libraries panic.
pub fn is_before_1970() -> bool {
    SystemTime::now() < UNIX_EPOCH
}

/// Calls `act` at once and then again every `period`, for ever. Calls do not overlap: a long one delays
/// those after it.
///
/// # Panics
/// When `period` is 0.
pub async fn every(period: Duration, act: impl AsyncFn()) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        act().await;
    }
}

/// How far a test makes the wall clock be off: the milliseconds in the file that the variable
/// `MILLSTREAM_CLOCK_OFFSET` names, read each time, so that the clock can be made to jump.
///
/// # Panics
/// When there is no number in the file: a clock that does not jump would prove nothing.
#[cfg(any(feature = "faults", feature = "sabotage"))]
fn offset_ms() -> i64 {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("MILLSTREAM_CLOCK_OFFSET")) else {
        return 0;
    };
    let text = std::fs::read_to_string(file).expect("the clock's offset can be read");
    text.trim().parse().expect("the clock's offset is a number")
}

#[cfg(not(any(feature = "faults", feature = "sabotage")))]
const fn offset_ms() -> i64 {
    0
}
