//! What a shard does from time to time.

use crate::coordinator::Coordinators;
use crate::engine::Engine;
use crate::engine::catalog::changes;
use crate::engine::upkeep::compaction::Compactor;
use crate::engine::upkeep::retention;
use crate::engine::upkeep::scrub::Scrubber;
use crate::io::{clock, reactor};
use crate::net::connections::Connections;
use std::rc::Rc;
use std::time::Duration;

const SWEEP_EVERY: Duration = Duration::from_secs(2);
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(20);

/// Starts the shard's timers; they run until the shard ends.
pub fn start(engine: &Rc<Engine>, coordinators: &Coordinators, connections: &Rc<Connections>) {
    let sweeper = Rc::clone(connections);
    reactor::spawn(clock::every(SWEEP_EVERY, async move || {
        sweeper.sweep().await
    }));
    let closer = Rc::clone(engine);
    reactor::spawn(clock::every(CLOSE_IDLE_EVERY, async move || {
        retention::close_idle(&closer).await;
        changes::retry_purge(&closer).await;
    }));
    let keeper = Rc::clone(engine);
    let retention_every = Duration::from_millis(engine.config.retention_check_interval_ms);
    reactor::spawn(clock::every(retention_every, async move || {
        retention::round(&keeper).await;
    }));
    // Compaction has its own clock: a run can take long, and retention does not wait for it.
    let compactor = Compactor::new(engine);
    let compact_every = Duration::from_millis(engine.config.log_cleaner_backoff_ms);
    reactor::spawn(clock::every(compact_every, async move || {
        compactor.compact().await;
    }));
    match Scrubber::start(engine) {
        Ok(Some(scrubber)) => drop(reactor::spawn(scrubber.run())),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "nothing is scrubbed"),
    }
    coordinators.run_timers();
}
