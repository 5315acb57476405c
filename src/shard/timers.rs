//! What a shard does from time to time.

use crate::engine::Engine;
use crate::net::connections::Connections;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const SWEEP_EVERY: Duration = Duration::from_secs(5);
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(20);

/// Starts the shard's timers; they run until the shard ends.
pub fn start(engine: &Rc<Engine>, connections: &Rc<Connections>) {
    let sweeper = Rc::clone(connections);
    tokio_uring::spawn(async move {
        let mut ticks = ticks(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            sweeper.sweep();
        }
    });
    let closer = Rc::clone(engine);
    tokio_uring::spawn(async move {
        let mut ticks = ticks(CLOSE_IDLE_EVERY);
        loop {
            ticks.tick().await;
            closer.close_idle().await;
            closer.retry_purge().await;
        }
    });
    tokio_uring::spawn(Rc::clone(engine).run_group_timers());
    let expirer = Rc::clone(engine);
    tokio_uring::spawn(async move {
        let every = Duration::from_millis(expirer.config.offsets_retention_check_interval_ms);
        let mut ticks = ticks(every);
        loop {
            ticks.tick().await;
            expirer.expire_offsets().await;
        }
    });
    start_compaction(engine);
    start_lag(engine);
    tokio_uring::spawn(Rc::clone(engine).run_scrub());
    let keeper = Rc::clone(engine);
    tokio_uring::spawn(async move {
        let every = Duration::from_millis(keeper.config.retention_check_interval_ms);
        let mut ticks = ticks(every);
        loop {
            ticks.tick().await;
            keeper.upkeep().await;
        }
    });
}

/// Compaction has its own clock: a run can take long, and retention does not wait for it.
fn start_compaction(engine: &Rc<Engine>) {
    let engine = Rc::clone(engine);
    tokio_uring::spawn(async move {
        let mut ticks = ticks(Duration::from_millis(engine.config.log_cleaner_backoff_ms));
        loop {
            ticks.tick().await;
            engine.compact().await;
        }
    });
}

/// Lag is measured for monitors; 0 turns it off.
fn start_lag(engine: &Rc<Engine>) {
    let every = Duration::from_millis(engine.config.lag_interval_ms);
    if every.is_zero() {
        return;
    }
    let engine = Rc::clone(engine);
    tokio_uring::spawn(async move {
        let mut ticks = ticks(every);
        loop {
            ticks.tick().await;
            engine.measure_lag().await;
        }
    });
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
