//! Compaction of a shard's partitions: chooses the next one, and drives its job to the end.
//!
//! There is one cleaner for the whole broker, so that its memory and its rate bound all of it. What
//! fails is logged, counted, and tried again, less and less often; nothing is given up.

use crate::engine::fetch;
use crate::engine::partition::{Cleaning, Partition};
use crate::engine::stats::{self, ShardReport};
use crate::engine::{Engine, SharedPartition};
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::io::worker::Worker;
use crate::log::compact::{
    CompactError, CompactJob, CompactLimits, CompactStep, Compaction, SwapJob,
};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// The longest pause after repeated failures of a partition's compaction.
const REST_MS_MAX: i64 = 3_600_000;

/// The thread that compacts, and the permit to use it.
#[derive(Clone)]
pub struct Cleaner {
    worker: Worker,
    permit: Arc<Semaphore>,
}

impl Cleaner {
    /// Starts the thread.
    ///
    /// # Errors
    /// EAGAIN when the system has no thread to give.
    pub fn start() -> io::Result<Cleaner> {
        Ok(Cleaner::on(Worker::start("cleaner")?))
    }

    /// Compacts on `worker`.
    pub fn on(worker: Worker) -> Cleaner {
        Cleaner {
            worker,
            permit: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns when the step that runs now, if any, has ended.
    pub async fn finish_step(&self) {
        self.worker.run(|| ()).await;
    }
}

impl Partition {
    /// Adds this partition's bytes that wait for compaction.
    pub fn report_compaction(&self, report: &mut ShardReport) {
        report.compaction_debt_bytes += self.log.compaction_debt().dirty_bytes;
        let has_failed = self.cleaning.failures > 0 || self.log.is_compaction_stuck();
        report.compaction_failed_partitions += u64::from(has_failed);
    }
}

/// Compacts one shard's partitions.
pub struct Compactor {
    engine: Rc<Engine>,
}

impl Compactor {
    pub fn new(engine: &Rc<Engine>) -> Compactor {
        Compactor {
            engine: Rc::clone(engine),
        }
    }

    /// Compacts what is due on this shard, the dirtiest partition first, until nothing is.
    pub async fn compact(&self) {
        for partition in self.partitions_by_dirt().await {
            if self.engine.is_stopping() {
                return;
            }
            // One job in the whole broker at a time, and the shards take turns.
            let Ok(_permit) = self.engine.cleaner.permit.acquire().await else {
                return;
            };
            if let Some(job) = self.compact_job(&partition).await {
                self.run_compaction(&partition, job).await;
            }
        }
    }

    async fn partitions_by_dirt(&self) -> Vec<SharedPartition> {
        let now_ms = clock::steady_ms();
        let mut found: Vec<(f64, SharedPartition)> = Vec::new();
        let mut slice = Slice::new();
        for partition in self.engine.partitions() {
            slice.rest().await;
            let inner = partition.borrow();
            let is_compacted = inner.log.config().compaction.is_some();
            if is_compacted && inner.cleaning.retry_at_ms <= now_ms {
                let ratio = inner.log.compaction_debt().ratio();
                drop(inner);
                found.push((ratio, partition));
            }
        }
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        found.into_iter().map(|(_, partition)| partition).collect()
    }

    async fn compact_job(&self, partition: &SharedPartition) -> Option<CompactJob> {
        let limits = CompactLimits {
            map_bytes: self.engine.config.log_cleaner_dedupe_buffer_bytes,
            io_bytes_per_second: self.engine.config.log_cleaner_io_bytes_per_second_max,
        };
        loop {
            let next = match partition.borrow_mut() {
                inner if inner.is_closed() => Compaction::Nothing,
                mut inner => inner.log.compaction(clock::now_ms(), limits),
            };
            match next {
                Compaction::Nothing => return None,
                Compaction::NeedsCheckpoint => {
                    self.engine.dirty.queue(partition);
                    return None;
                }
                Compaction::Load(job) => fetch::load(&self.engine, partition, job).await.ok()?,
                Compaction::Clean(mut job) => {
                    job.keep_producers(partition.borrow().producers_last_offsets());
                    return Some(*job);
                }
            }
        }
    }

    async fn run_compaction(&self, partition: &SharedPartition, mut job: CompactJob) {
        let started = Instant::now();
        let result = loop {
            let step = self.engine.cleaner.worker.run(move || {
                let step = job.step();
                (job, step)
            });
            let Some((back, step)) = step.await else {
                self.note_lost(partition);
                return;
            };
            job = back;
            match step {
                Ok(CompactStep::Done) => break Ok(()),
                Ok(CompactStep::Swap(swap)) => {
                    if let Err(error) = self.swap(partition, swap).await {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        partition.borrow_mut().log.compaction_done(&job, &result);
        self.note_result(partition, &job, started, &result);
    }

    /// Runs a swap among the log's other jobs, in their order.
    async fn swap(&self, partition: &SharedPartition, swap: SwapJob) -> Result<(), CompactError> {
        let done = {
            let mut inner = partition.borrow_mut();
            if inner.is_closed() || self.engine.is_stopping() {
                return Err(CompactError::Cancelled);
            }
            inner.log.swap_begin(&swap);
            self.engine.workers.run(move || {
                let result = swap.run();
                Ok((swap, result))
            })
        };
        let Ok((swap, result)) = done.await else {
            self.note_lost(partition);
            return Err(CompactError::Cancelled);
        };
        partition.borrow_mut().log.swap_done(&swap, &result);
        match result {
            Ok(old) => {
                // Their space is freed with the last use, which can take long.
                self.engine.janitor.start_job(move || drop(old));
                Ok(())
            }
            Err(failed) => Err(failed.error.into()),
        }
    }

    fn note_result(
        &self,
        partition: &SharedPartition,
        job: &CompactJob,
        started: Instant,
        result: &Result<(), CompactError>,
    ) {
        let report = job.report();
        let counters = &self.engine.stats;
        stats::add(&counters.compaction_read_bytes, report.read_bytes);
        stats::add(&counters.compaction_written_bytes, report.written_bytes);
        stats::add(&counters.compaction_dropped_records, report.dropped_records);
        stats::add(&counters.compaction_runs, u64::from(result.is_ok()));
        let duration_ms = started.elapsed().as_millis() as u64;
        counters.compaction_last_duration_ms.set(duration_ms);
        let now_ms = clock::now_ms() as u64;
        counters.compaction_last_run_ms.set(now_ms);
        let dir = partition.borrow().log.dir().to_owned();
        match result {
            Ok(()) => {
                partition.borrow_mut().cleaning = Cleaning::default();
                tracing::info!(
                    dir = %dir.display(), read_bytes = report.read_bytes,
                    written_bytes = report.written_bytes, dropped_records = report.dropped_records,
                    ms = started.elapsed().as_millis() as u64, "compacted"
                );
            }
            Err(CompactError::Cancelled) => {}
            Err(error) => {
                tracing::error!(dir = %dir.display(), %error,
                    "compaction failed; the log is whole, and it is tried again later");
                if let CompactError::Damaged { base, .. } = error {
                    // The next round checks all of it, and logs where.
                    partition.borrow_mut().log.doubt(*base);
                }
                self.note_failure(partition);
            }
        }
    }

    /// A panic is a mistake in the program; the log goes on without what was lost.
    fn note_lost(&self, partition: &SharedPartition) {
        let mut inner = partition.borrow_mut();
        tracing::error!(dir = %inner.log.dir().display(), "a compaction panicked");
        inner.log.compaction_lost();
        drop(inner);
        self.note_failure(partition);
    }

    fn note_failure(&self, partition: &SharedPartition) {
        stats::add(&self.engine.stats.compaction_errors, 1);
        let cleaning = &mut partition.borrow_mut().cleaning;
        let rest_ms = (self.engine.config.log_cleaner_backoff_ms as i64)
            .saturating_mul(1 << cleaning.failures.min(20))
            .min(REST_MS_MAX.max(self.engine.config.log_cleaner_backoff_ms as i64));
        cleaning.failures += 1;
        cleaning.retry_at_ms = clock::steady_ms().saturating_add(rest_ms);
    }
}
