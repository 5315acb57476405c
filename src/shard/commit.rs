//! The commit loop: makes what was appended durable, many appends with one flush.
//!
//! While one round of flushes runs, appends gather for the next. Each partition's files are synced
//! through the shard's ring, side by side; when they are done, whoever waited for them is answered.

use crate::config::Durability;
use crate::engine::stats;
use crate::engine::{Engine, SharedPartition};
use crate::io::ring;
use crate::log::Flush;
use crate::log::jobs::CheckpointJob;
use futures_util::future::join_all;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Files that are synced side by side.
const SYNCS_AT_ONCE: usize = 128;
/// How often a stop looks whether all is settled.
const SETTLE_EVERY: Duration = Duration::from_millis(1);

/// Flushes whatever becomes dirty, for ever.
pub async fn run(engine: Rc<Engine>) {
    loop {
        let dirty = engine.take_dirty().await;
        round(&engine, dirty).await;
    }
}

async fn round(engine: &Rc<Engine>, dirty: Vec<SharedPartition>) {
    for chunk in dirty.chunks(SYNCS_AT_ONCE) {
        join_all(chunk.iter().map(|partition| flush(engine, partition))).await;
    }
}

async fn flush(engine: &Rc<Engine>, partition: &SharedPartition) {
    let begun = partition.borrow_mut().flush_begin();
    let Some(flush) = begun else {
        return;
    };
    let started = Instant::now();
    let result = sync(engine, &flush).await;
    if !flush.files.is_empty() {
        let stats = &engine.stats;
        stats::add(&stats.flushes, 1);
        stats::add(&stats.flush_errors, u64::from(result.is_err()));
        stats.flush_latency.borrow_mut().observe(started.elapsed());
    }
    let (checkpoint, more) = {
        let mut inner = partition.borrow_mut();
        let checkpoint = inner.flush_end(flush, &result);
        (checkpoint, inner.log.needs_flush())
    };
    if let Some(job) = checkpoint {
        write_checkpoint(engine, partition, job);
    } else if more {
        engine.queue_flush(partition);
    }
}

/// With `durability=os` the kernel decides when to write, but a checkpoint must never claim more
/// than the disk has.
async fn sync(engine: &Engine, flush: &Flush) -> io::Result<()> {
    if engine.config.durability == Durability::Os && !flush.makes_checkpoint() {
        return Ok(());
    }
    let syncs = flush.files.iter().map(|file| ring::sync_data(file.clone()));
    join_all(syncs).await.into_iter().collect()
}

fn write_checkpoint(engine: &Rc<Engine>, partition: &SharedPartition, job: CheckpointJob) {
    let written = engine.run_blocking(move || {
        let result = job.run();
        Ok((job, result))
    });
    let engine = Rc::clone(engine);
    let partition = Rc::clone(partition);
    tokio_uring::spawn(async move {
        let Ok((job, result)) = written.await else {
            return;
        };
        if let Err(error) = &result {
            tracing::error!(dir = %job.dir.display(), %error,
                "a checkpoint could not be written; the next start will read more of the log");
        }
        partition.borrow_mut().checkpoint_done(&job, &result);
        let more = partition.borrow().log.needs_flush();
        if more && result.is_ok() {
            engine.queue_flush(&partition);
        }
    });
}

/// Waits until nothing of this shard is dirty: for a clean stop. What takes longer than `limit` (a
/// disk that is full, say) is given up; the next start reads it again.
pub async fn settle(engine: &Rc<Engine>, limit: Duration) {
    let until = Instant::now() + limit;
    let mut unsettled = engine.partitions();
    loop {
        unsettled.retain(|partition| {
            let inner = partition.borrow();
            !inner.log.is_poisoned() && (inner.log.needs_flush() || inner.log.is_busy())
        });
        if unsettled.is_empty() || Instant::now() > until {
            return;
        }
        for partition in &unsettled {
            engine.queue_flush(partition);
        }
        tokio::time::sleep(SETTLE_EVERY).await;
    }
}
