//! Scrubbing a shard's partitions: reading what nobody reads, to find damage before somebody does.

use super::fetch;
use super::stats::{self, Stats};
use super::{Engine, SharedPartition};
use crate::io::clock;
use crate::io::worker::Worker;
use crate::log::compact::Throttle;
use crate::log::damage::is_of_medium;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A round does not begin before this long after the last one began.
const ROUND_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Reads all of this shard's sealed segments, round after round, at this shard's part of
    /// `scrub_bytes_per_second`, on a thread of its own. Returns at once when that is 0.
    pub async fn run_scrub(self: Rc<Self>) {
        let rate = self.config.scrub_bytes_per_second / self.mailboxes.shard_count() as u64;
        if self.config.scrub_bytes_per_second == 0 {
            return;
        }
        let worker = match Worker::start(&format!("scrub-{}", self.shard)) {
            Ok(worker) => worker,
            Err(error) => return tracing::error!(%error, "nothing is scrubbed"),
        };
        loop {
            let started = Instant::now();
            self.scrub(&worker, rate.max(1)).await;
            let stats = &self.stats;
            stats::add(&stats.scrub_rounds, 1);
            stats.scrub_last_round_ms.set(clock::now_ms() as u64);
            tokio::time::sleep(ROUND_EVERY.saturating_sub(started.elapsed())).await;
        }
    }

    async fn scrub(self: &Rc<Self>, worker: &Worker, rate: u64) {
        let mut throttle = Throttle::new(rate, Arc::default());
        for partition in self.partitions() {
            let bases = partition.borrow().log.scrubbable();
            for base in bases {
                let job = match partition.borrow() {
                    inner if inner.is_closed() || self.is_stopping() => None,
                    inner => inner.log.scrub_job(base),
                };
                let Some(job) = job else {
                    continue;
                };
                let bytes = job.size() as u64;
                let done = worker.run(move || {
                    let result = job.run(&mut throttle);
                    (throttle, result)
                });
                let Some((back, result)) = done.await else {
                    return tracing::error!("a scrub panicked");
                };
                throttle = back;
                stats::add(&self.stats.scrub_read_bytes, bytes);
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
    async fn survey(self: &Rc<Self>, partition: &SharedPartition, base: i64) {
        let before = partition.borrow().log.damage().clone();
        let job = partition.borrow_mut().log.survey_job(base);
        let Some(job) = job else {
            return;
        };
        let loaded = fetch::load(self, partition, job).await;
        let inner = partition.borrow();
        if *inner.log.damage() != before {
            note_finding(&self.stats);
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
