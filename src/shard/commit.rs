//! The commit loop: makes what was appended durable, many appends with one flush.
//!
//! A partition with much to flush has its own files synced, beside everything else; what is appended
//! to it meanwhile is its next flush's. Partitions with little to flush go to the journal in rounds, with
//! one write for all of a round: while one round runs, appends gather for the next.

use super::gather::Gather;
use super::journal::{self, Journal};
use crate::config::Durability;
use crate::engine::{self, Engine, SharedPartition, stats};
use crate::io::{reactor, ring};
use crate::log::Flush;
use futures_util::future::join_all;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Partitions whose files are synced side by side.
const SYNCS_AT_ONCE: usize = 128;
/// How often a stop looks whether all is settled.
const SETTLE_EVERY: Duration = Duration::from_millis(1);

/// Flushes whatever becomes dirty, for ever.
pub async fn run(engine: Rc<Engine>) {
    let mut journal = Journal::new(&engine);
    let permits = Rc::new(Semaphore::new(SYNCS_AT_ONCE));
    let has_journal =
        engine.config.durability == Durability::Fsync && engine.config.journal_bytes > 0;
    let mut gather = Gather::default();
    loop {
        let mut dirty = engine.dirty.take().await;
        if has_journal && dirty.iter().any(is_small) {
            while gather.is_due(engine.dirty.asked(), Instant::now()) {
                reactor::yield_now().await;
            }
            dirty.extend(engine.dirty.take_now());
        }
        let (mut small, large): (Vec<_>, Vec<_>) = dirty.into_iter().partition(is_small);
        for partition in large {
            start_flush(&engine, partition, &permits).await;
        }
        if has_journal && !small.is_empty() && journal.is_ready() {
            let started = Instant::now();
            gather.begun(engine.dirty.asked());
            small = journal.flush(small).await;
            gather.ended(engine.dirty.asked(), Instant::now(), started.elapsed());
        }
        for chunk in small.chunks(SYNCS_AT_ONCE) {
            join_all(chunk.iter().map(|partition| flush(&engine, partition))).await;
        }
    }
}

/// Whether what a partition has to flush could go to the journal.
fn is_small(partition: &SharedPartition) -> bool {
    let inner = partition.borrow();
    let tail = inner.log.journal_tail();
    tail.is_some_and(|tail| tail.bytes.len() <= journal::PARTITION_BYTES_MAX)
}

/// Flushes a partition beside others, as soon as there is a permit.
async fn start_flush(engine: &Rc<Engine>, partition: SharedPartition, permits: &Rc<Semaphore>) {
    let engine = Rc::clone(engine);
    // The semaphore is never closed.
    let permit = Rc::clone(permits);
    let Ok(acquired) = permits.acquire().await else {
        return;
    };
    acquired.forget();
    reactor::spawn(async move {
        flush(&engine, &partition).await;
        permit.add_permits(1);
    });
}

async fn flush(engine: &Rc<Engine>, partition: &SharedPartition) {
    let begun = partition.borrow_mut().flush_begin();
    if let Some(flush) = begun {
        finish(engine, Rc::clone(partition), flush).await;
    }
}

/// Syncs the files of a flush that was begun, and ends it.
pub async fn finish(engine: &Rc<Engine>, partition: SharedPartition, flush: Flush) {
    let started = Instant::now();
    let turn = partition.borrow().log.sync_turn();
    let _turn = turn.lock().await;
    let result = sync(engine, &flush).await;
    if !flush.files.is_empty() {
        let stats = &engine.stats;
        stats::add(&stats.flushes, 1);
        stats::add(&stats.flush_errors, u64::from(result.is_err()));
        engine::flush::took(engine, started.elapsed());
    }
    engine::flush::end(engine, &partition, flush, &result);
}

/// With `durability=os` the kernel decides when to write, but a checkpoint must never claim more
/// than the disk has.
async fn sync(engine: &Engine, flush: &Flush) -> io::Result<()> {
    if engine.config.durability == Durability::Os && !flush.makes_checkpoint() {
        return Ok(());
    }
    sync_all(&flush.files).await
}

/// Syncs files side by side.
pub async fn sync_all(files: &[Arc<File>]) -> io::Result<()> {
    let syncs = files.iter().map(|file| ring::sync_data(Arc::clone(file)));
    join_all(syncs).await.into_iter().collect()
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
            engine.dirty.queue(partition);
        }
        tokio::time::sleep(SETTLE_EVERY).await;
    }
}
