//! What follows a flush: the answers, the next flush, and the checkpoint that it made possible.

use super::{Engine, SharedPartition};
use crate::io::clock;
use crate::io::rate_limited::{self, RateLimited};
use crate::io::reactor;
use crate::io::sabotage::{self, Sabotage};
use crate::log::jobs::CheckpointJob;
use crate::log::{Flush, WriteBack};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// How long after a failed checkpoint the next is tried. Flushes go on meanwhile.
const CHECKPOINT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// With a full disk each flush of each partition would say so.
static NO_CHECKPOINT: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);

/// Counts how long a flush took, from which the pace of cold reads follows.
pub fn took(engine: &Engine, duration: Duration) {
    engine.stats.flush_latency.borrow_mut().observe(duration);
    engine.pace.flushed(duration);
}

/// Ends a flush whose files were synced with this result.
pub fn end(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    flush: Flush,
    result: &io::Result<()>,
) {
    let (checkpoint, mut due) = {
        let mut inner = partition.borrow_mut();
        let checkpoint = inner.flush_end(flush, result);
        (checkpoint, inner.resume(clock::now_ms()))
    };
    if let Some(job) = checkpoint {
        due.flush &= !sabotage::is_done(Sabotage::CheckpointFirst);
        write_checkpoint(engine, partition, job);
    }
    // Even if the checkpoint fails: a producer may wait for what was appended meanwhile.
    engine.mark_due(partition, due);
}

/// Ends a flush whose bytes the journal has. Returns the write-back that a checkpoint waits for, when one
/// is due.
#[must_use]
pub fn end_journaled(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    flush: Flush,
) -> Option<WriteBack> {
    let (write_back, due) = {
        let mut inner = partition.borrow_mut();
        let write_back = inner.flush_journaled(flush);
        (write_back, inner.resume(clock::now_ms()))
    };
    engine.mark_due(partition, due);
    write_back
}

/// Ends a write-back whose files were synced with this result.
pub fn end_write_back(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    write_back: WriteBack,
    result: &io::Result<()>,
) {
    let checkpoint = partition.borrow_mut().write_back_end(write_back, result);
    if let Some(job) = checkpoint {
        write_checkpoint(engine, partition, job);
    }
}

fn write_checkpoint(engine: &Rc<Engine>, partition: &SharedPartition, job: CheckpointJob) {
    let written = engine.workers.run_for(partition.borrow().index, move || {
        let result = job.run();
        Ok((job, result))
    });
    let engine = Rc::clone(engine);
    let partition = Rc::clone(partition);
    reactor::spawn(async move {
        let Ok((job, result)) = written.await else {
            return;
        };
        if let Err(error) = &result
            && let Some(kept_back) = NO_CHECKPOINT.admit()
        {
            tracing::error!(dir = %job.dir.display(), %error, kept_back,
                "a checkpoint could not be written; the next start will read more of the log");
        }
        partition.borrow_mut().checkpoint_done(&job, &result);
        if result.is_err() {
            if sabotage::is_done(Sabotage::CheckpointFirst) {
                return;
            }
            tokio::time::sleep(CHECKPOINT_RETRY_AFTER).await;
            partition.borrow_mut().log.retry_checkpoint();
        }
        let needs_flush = partition.borrow().log.needs_flush();
        if needs_flush {
            engine.dirty.queue(&partition);
        }
    });
}
