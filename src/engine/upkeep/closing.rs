//! The clean end of a shard's logs.

use crate::config::Durability;
use crate::engine::{Engine, EngineError, SharedPartition};
use crate::io::clock;
use futures_util::future::join_all;
use std::rc::Rc;

/// Closes all active segments for a clean stop, after the last flush, and asks for checkpoints.
/// What cannot be completed is read again at the next start.
pub async fn close_logs(engine: &Rc<Engine>) {
    end_appends(engine);
    let shards = engine.mailboxes.shard_count();
    engine.workers.start_closers(engine.shard, shards).await;
    let partitions = engine.partitions();
    join_all(partitions.iter().map(|one| close_log(engine, one))).await;
}

/// Refuses all appends from here on, and those that still wait: the disk hangs, or their clients are gone. One that
/// went on beside the closing could open a segment again whose file is being cut to its size.
fn end_appends(engine: &Rc<Engine>) {
    engine.appends_ended.set(true);
    for partition in engine.partitions() {
        partition
            .borrow_mut()
            .refuse_pending(&EngineError::Stopping);
    }
}

async fn close_log(engine: &Rc<Engine>, partition: &SharedPartition) {
    if partition.borrow().log.is_making_room() {
        // On a disk that hangs: the job may have the last segment's file.
        return;
    }
    let sealed = partition.borrow_mut().log.close_active(clock::now_ms());
    if let Ok(Some(mut job)) = sealed {
        // What is not durable in the segment is the next flush's, before its checkpoint. Only with
        // `durability=os` the log takes for durable what no flush has synced.
        job.sync = engine.config.durability == Durability::Os;
        let index = partition.borrow().index;
        let result = engine.workers.run_for(index, move || job.run()).await;
        partition.borrow_mut().seal_done(&result);
        partition.borrow_mut().log.want_checkpoint();
    }
    if partition.borrow().log.needs_flush() {
        engine.dirty.queue(partition);
    }
}
