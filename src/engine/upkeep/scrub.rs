//! Scrubbing a shard's partitions: reading what no client reads, to find damage before a client does.

use crate::engine::fetch;
use crate::engine::stats::{self, Stats};
use crate::engine::{Engine, SharedPartition};
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::io::worker::Worker;
use crate::log::check::damage::is_of_medium;
use crate::log::compact::Throttle;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A round does not begin before this long after the last one began.
const ROUND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Scrubs one shard's partitions, on a thread of its own.
pub struct Scrubber {
    engine: Rc<Engine>,
    worker: Worker,
    /// Bytes per second: this shard's part of `scrub_bytes_per_second`.
    rate: u64,
}

impl Scrubber {
    /// Starts the thread. `None` when `scrub_bytes_per_second` is 0.
    ///
    /// # Errors
    /// EAGAIN when the system has no thread to give.
    pub fn start(engine: &Rc<Engine>) -> io::Result<Option<Scrubber>> {
        let rate = engine.config.scrub_bytes_per_second;
        if rate == 0 {
            return Ok(None);
        }
        Ok(Some(Scrubber {
            engine: Rc::clone(engine),
            worker: Worker::start(&format!("scrub-{}", engine.shard))?,
            rate: (rate / engine.mailboxes.shard_count() as u64).max(1),
        }))
    }

    /// Reads all sealed segments, round after round.
    pub async fn run(self) {
        loop {
            let started = Instant::now();
            self.round().await;
            let stats = &self.engine.stats;
            stats::add(&stats.scrub_rounds, 1);
            stats.scrub_last_round_ms.set(clock::now_ms() as u64);
            tokio::time::sleep(ROUND_EVERY.saturating_sub(started.elapsed())).await;
        }
    }

    async fn round(&self) {
        let mut throttle = Throttle::new(self.rate, Arc::default());
        let mut slice = Slice::new();
        for partition in self.engine.partitions() {
            slice.rest().await;
            let bases = partition.borrow().log.scrubbable();
            for base in bases {
                let job = match partition.borrow() {
                    inner if inner.is_closed() || self.engine.is_stopping() => None,
                    inner => inner.log.scrub_job(base),
                };
                let Some(job) = job else {
                    continue;
                };
                let bytes = job.size() as u64;
                let done = self.worker.run(move || {
                    let result = job.run(&mut throttle);
                    (throttle, result)
                });
                let Some((back, result)) = done.await else {
                    return tracing::error!("a scrub panicked");
                };
                throttle = back;
                stats::add(&self.engine.stats.scrub_read_bytes, bytes);
                let is_sound = match &result {
                    Ok(is_sound) => *is_sound,
                    Err(error) => !is_of_medium(error),
                };
                if !is_sound {
                    self.survey(&partition, base).await;
                }
            }
        }
    }

    /// Finds out what is wrong with a segment.
    async fn survey(&self, partition: &SharedPartition, base: i64) {
        let before = partition.borrow().log.damage().clone();
        let job = partition.borrow_mut().log.survey_job(base);
        let Some(job) = job else {
            return;
        };
        let loaded = fetch::load(&self.engine, partition, job).await;
        let inner = partition.borrow();
        if *inner.log.damage() != before {
            note_finding(&self.engine.stats);
        } else if loaded.is_ok() && inner.log.has_sealed(base) && !inner.is_closed() {
            tracing::warn!(
                dir = %inner.log.dir().display(), base,
                "a segment is not sound on the disk, but what is in memory of it is, or it has just been replaced; \
                 if this comes again, copy the file while the broker runs"
            );
        }
    }
}

fn note_finding(stats: &Stats) {
    stats::add(&stats.scrub_findings, 1);
}
