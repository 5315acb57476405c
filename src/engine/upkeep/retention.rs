//! Retention of records and of open files, and what partitions forget with time.

use crate::engine::fetch;
use crate::engine::{Engine, SharedPartition};
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::log::Retention;
use std::rc::Rc;

/// Files and mappings that were not used for this long are closed.
const IDLE_MS: i64 = 60_000;

/// One round over all partitions: retention and the expiry of producers.
pub async fn round(engine: &Rc<Engine>) {
    let producer_idle_ms = engine.config.producer_id_expiration_ms as i64;
    let mut slice = Slice::new();
    for partition in engine.partitions() {
        partition.borrow_mut().expire_producers(producer_idle_ms);
        enforce(engine, &partition).await;
        slice.rest().await;
    }
}

/// Closes what was idle for a while.
pub async fn close_idle(engine: &Rc<Engine>) {
    let mut slice = Slice::new();
    for partition in engine.partitions() {
        let sealed = partition
            .borrow_mut()
            .log
            .close_idle(clock::now_ms(), IDLE_MS);
        match sealed {
            Ok(Some(job)) => engine.seal(&partition, job),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "an idle segment cannot be closed"),
        }
        slice.rest().await;
    }
}

/// Does what retention asks of one partition, until it asks for nothing more.
pub async fn enforce(engine: &Rc<Engine>, partition: &SharedPartition) {
    loop {
        let step = match partition.borrow_mut() {
            inner if inner.is_closed() => Retention::Nothing,
            mut inner => inner.log.retention(clock::now_ms()),
        };
        match step {
            Retention::Nothing => break,
            Retention::Load(job) => {
                if fetch::load(engine, partition, job).await.is_err() {
                    return;
                }
            }
            Retention::Roll(job) => {
                engine.make_room(partition, job);
                break;
            }
            Retention::Delete(job) => {
                let dir = partition.borrow().log.dir().to_owned();
                let segments = job.bases.len();
                partition.borrow_mut().removals += 1;
                let deleted = engine.janitor.run(move || job.run()).await;
                partition.borrow_mut().removals -= 1;
                match deleted.unwrap_or(Ok(())) {
                    Ok(()) => {
                        tracing::info!(dir = %dir.display(), segments, "deleted old segments")
                    }
                    Err(error) => {
                        tracing::error!(dir = %dir.display(), %error, "old segments cannot be removed")
                    }
                }
            }
        }
    }
    let needs_flush = partition.borrow().log.needs_flush();
    if needs_flush {
        engine.dirty.queue(partition);
    }
}
