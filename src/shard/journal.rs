//! A shard's journal: few bytes of many partitions become durable with one sync of one file.
//!
//! It has two files, its halves, of which one is written to. When that is full the other one takes
//! over, if it is free: if all that was in it is on stable storage in the segments too. A task of its
//! own sees to that (the write-back) and has as long as the half that is written to has room. After
//! that flushes go to the segments, as without a journal.
//!
//! The files are made when there is first use for them, full of zeros, so that later writes change no
//! metadata, and removed by a clean stop. They are written past the page cache, where the file system
//! lets that be, and each write returns when it is durable: one operation, and no copy for the kernel.
//! What a crash leaves is restored by the next start
//! (`engine::replay`).

use super::commit;
use crate::engine::partition::Partition;
use crate::engine::stats;
use crate::engine::{self, Engine, SharedPartition, replay};
use crate::io::{process, reactor, ring};
use crate::log::journal::{GroupBuilder, Target};
use crate::log::{Flush, WriteBack};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

/// The most bytes of a partition that go to the journal; more are worth a sync of their own.
pub const PARTITION_BYTES_MAX: usize = 128 << 10;
/// The most bytes that one write to the journal has.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// Segments that are written back side by side: few, because flushes through the journal wait for the
/// same disk.
const WRITE_BACKS_AT_ONCE: usize = 4;
/// A write-back of more than so many bytes gives the disk so many at a time, and then leaves it to others.
const PIECE_BYTES: u64 = 1 << 20;
const PIECE_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of a half when it is made. One that is full again soon grows, up to half of `journal_bytes`.
const HALF_BYTES_FIRST: u64 = 2 << 20;
/// How soon that is.
const GROW_WITHIN: Duration = Duration::from_secs(5);
/// How long after its files could not be made this is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

pub struct Journal {
    engine: Rc<Engine>,
    files: Rc<RefCell<Files>>,
    group: GroupBuilder,
    /// The partitions whose bytes the group has.
    flushes: Vec<(SharedPartition, Flush)>,
    write_backs: Rc<Semaphore>,
    /// Distinguishes this process's groups from those of others.
    run: u64,
    sequence: u64,
}

enum Files {
    /// There are no files; not to be made before this moment.
    Absent(Option<Instant>),
    BeingMade,
    Ready(Halves),
    /// A write failed. What the files had before it is still good, and is written back.
    Broken,
}

struct Halves {
    /// The first is written to.
    halves: [Half; 2],
    /// When they last changed places.
    changed: Instant,
    /// Counts the times that the halves changed places, from 1.
    round: u64,
}

struct Half {
    number: usize,
    file: Arc<File>,
    used: u64,
    /// Partitions that have entries in it. One that is deleted meanwhile goes, with its files.
    pins: Vec<Weak<RefCell<Partition>>>,
    space: Rc<Space>,
}

/// What the task that frees a half tells of it.
struct Space {
    bytes: Cell<u64>,
    /// Nothing in it is needed any more.
    is_free: Cell<bool>,
}

impl Journal {
    pub fn new(engine: &Rc<Engine>) -> Journal {
        Journal {
            engine: Rc::clone(engine),
            files: Rc::new(RefCell::new(Files::Absent(None))),
            group: GroupBuilder::new(GROUP_BYTES_MAX),
            flushes: Vec::new(),
            write_backs: Rc::new(Semaphore::new(WRITE_BACKS_AT_ONCE)),
            run: process::random_u64(),
            sequence: 0,
        }
    }

    /// Whether there is a journal to write to. If not, one is made for the next time.
    pub fn is_ready(&self) -> bool {
        let mut files = self.files.borrow_mut();
        match &*files {
            Files::Ready(_) => true,
            Files::BeingMade | Files::Broken => false,
            Files::Absent(Some(until)) if Instant::now() < *until => false,
            Files::Absent(_) => {
                *files = Files::BeingMade;
                self.make_files();
                false
            }
        }
    }

    fn make_files(&self) {
        let (dir, shard) = (self.engine.config.data_dir.clone(), self.engine.shard);
        let bytes = HALF_BYTES_FIRST.min(self.engine.config.journal_bytes / 2);
        // Not on the shard's worker, where appends wait for room.
        let janitor = &self.engine.janitor;
        let made = janitor.run(move || replay::make_journal(&dir, shard, bytes));
        let files = Rc::clone(&self.files);
        reactor::spawn(async move {
            let made = made.await;
            *files.borrow_mut() = match made.unwrap_or_else(|| Err(io::ErrorKind::Other.into())) {
                Ok(made) => Files::Ready(Halves::new(made, bytes)),
                Err(error) => {
                    tracing::warn!(%error, "no journal can be made; each partition is flushed on its own");
                    Files::Absent(Some(Instant::now() + RETRY_AFTER))
                }
            };
        });
    }

    /// Flushes partitions. Those that the journal cannot take after all are returned.
    pub async fn flush(&mut self, partitions: Vec<SharedPartition>) -> Vec<SharedPartition> {
        let mut left = Vec::new();
        for partition in partitions {
            if !self.has_room_for(&partition) {
                self.write_group().await;
            }
            // While the last group was written, this one's checkpoint may have become due.
            if !self.add(&partition) {
                left.push(partition);
            }
        }
        self.write_group().await;
        left
    }

    fn has_room_for(&self, partition: &SharedPartition) -> bool {
        let inner = partition.borrow();
        let bytes = inner.log.journal_tail().map_or(0, |tail| tail.bytes.len());
        self.group.is_empty() || self.group.size_with(bytes) <= GROUP_BYTES_MAX
    }

    /// Adds what a partition has to flush to the group, if it can.
    fn add(&mut self, partition: &SharedPartition) -> bool {
        let mut inner = partition.borrow_mut();
        let key = inner.key();
        let Some(tail) = inner.log.journal_tail() else {
            return false;
        };
        let target = Target {
            topic_id: key.topic_id,
            partition: key.index,
            segment_base: tail.segment_base,
            position: tail.position as u32,
        };
        self.group.push(target, tail.bytes);
        let flush = inner.flush_begin().expect("there is a tail to flush");
        self.flushes.push((Rc::clone(partition), flush));
        true
    }

    async fn write_group(&mut self) {
        if self.group.is_empty() {
            return;
        }
        let started = Instant::now();
        let written = self.write().await;
        self.group.clear();
        let flushes = std::mem::take(&mut self.flushes);
        let stats = &self.engine.stats;
        match written {
            Ok(true) => {
                stats::add(&stats.flushes, 1);
                engine::flush::took(&self.engine, started.elapsed());
                self.settle(flushes);
            }
            Ok(false) => {
                stats::add(&stats.journal_full, flushes.len() as u64);
                self.flush_segments(flushes).await;
            }
            Err(error) => {
                stats::add(&stats.journal_errors, 1);
                tracing::error!(%error, "the journal cannot be written; from now on each partition is flushed on its own");
                self.give_up();
                self.flush_segments(flushes).await;
            }
        }
    }

    /// Writes and syncs the group. False when there is no room for it.
    async fn write(&mut self) -> io::Result<bool> {
        let size = self.group.finish(self.run, self.sequence);
        let space = self
            .files
            .borrow_mut()
            .take_space(&self.engine, &self.write_backs, size);
        let Some((file, at)) = space else {
            return Ok(false);
        };
        let group = self.group.take_buffer();
        let (written, buffer) = ring::write_durably(file, group, size, at).await;
        self.group.put_buffer(buffer);
        written?;
        self.sequence += 1;
        stats::add(&self.engine.stats.journal_groups, 1);
        stats::add(&self.engine.stats.journal_bytes, size as u64);
        Ok(true)
    }

    /// What is in the journal is durable: the requests that waited for it are answered.
    fn settle(&mut self, flushes: Vec<(SharedPartition, Flush)>) {
        for (partition, flush) in flushes {
            self.files.borrow_mut().pin(&partition);
            let write_back = engine::flush::end_journaled(&self.engine, &partition, flush);
            if let Some(write_back) = write_back {
                let (engine, permits) = (Rc::clone(&self.engine), Rc::clone(&self.write_backs));
                reactor::spawn(async move {
                    let _permit = permits.acquire().await;
                    sync(&engine, &partition, write_back).await;
                });
            }
        }
    }

    async fn flush_segments(&self, flushes: Vec<(SharedPartition, Flush)>) {
        let each = flushes
            .into_iter()
            .map(|(partition, flush)| commit::finish(&self.engine, partition, flush));
        join_all(each).await;
    }

    /// Ends the journal's use after a failure, and brings what it has to the segments.
    fn give_up(&mut self) {
        let files = std::mem::replace(&mut *self.files.borrow_mut(), Files::Broken);
        let Files::Ready(halves) = files else {
            return;
        };
        for half in halves.halves {
            let permits = Rc::clone(&self.write_backs);
            reactor::spawn(write_back(Rc::clone(&self.engine), permits, half.pins));
        }
    }
}

impl Files {
    /// Where a group of `bytes` goes; `None` when there is no room for it.
    fn take_space(
        &mut self,
        engine: &Rc<Engine>,
        permits: &Rc<Semaphore>,
        bytes: usize,
    ) -> Option<(Arc<File>, u64)> {
        let Files::Ready(halves) = self else {
            return None;
        };
        let is_full = halves.halves[0].used + bytes as u64 > halves.halves[0].space.bytes.get();
        if is_full && !halves.change_places(engine, permits) {
            return None;
        }
        let half = &mut halves.halves[0];
        let at = half.used;
        half.used += bytes as u64;
        Some((Arc::clone(&half.file), at))
    }

    fn pin(&mut self, partition: &SharedPartition) {
        let Files::Ready(halves) = self else {
            return;
        };
        let mut inner = partition.borrow_mut();
        if inner.journal_round != halves.round {
            inner.journal_round = halves.round;
            halves.halves[0].pins.push(Rc::downgrade(partition));
        }
    }
}

impl Halves {
    fn new([first, second]: [File; 2], bytes: u64) -> Halves {
        Halves {
            halves: [(0, first), (1, second)].map(|(number, file)| Half {
                number,
                file: Arc::new(file),
                used: 0,
                pins: Vec::new(),
                space: Rc::new(Space {
                    bytes: Cell::new(bytes),
                    is_free: Cell::new(true),
                }),
            }),
            changed: Instant::now(),
            round: 1,
        }
    }

    /// Goes over to the other half, if that is free, and starts to free this one.
    fn change_places(&mut self, engine: &Rc<Engine>, permits: &Rc<Semaphore>) -> bool {
        let [full, other] = &mut self.halves;
        if !other.space.is_free.get() {
            return false;
        }
        let is_busy = self.changed.elapsed() < GROW_WITHIN;
        self.changed = Instant::now();
        let pins = std::mem::take(&mut full.pins);
        full.space.is_free.set(false);
        let (engine, space, number) = (Rc::clone(engine), Rc::clone(&full.space), full.number);
        let written_back = write_back(Rc::clone(&engine), Rc::clone(permits), pins);
        reactor::spawn(async move {
            let all = written_back.await;
            if all && is_busy {
                grow(&engine, &space, number).await;
            }
            space.is_free.set(all);
        });
        other.used = 0;
        self.halves.swap(0, 1);
        self.round += 1;
        true
    }
}

/// Makes a half that is not in use twice as long, up to the configured size.
async fn grow(engine: &Rc<Engine>, space: &Space, half: usize) {
    let from = space.bytes.get();
    let to = (2 * from).min(engine.config.journal_bytes / 2);
    if to <= from {
        return;
    }
    let (dir, shard) = (engine.config.data_dir.clone(), engine.shard);
    let grown = engine
        .janitor
        .run(move || replay::grow_journal(&dir, shard, half, from, to));
    match grown.await {
        Some(Ok(())) => space.bytes.set(to),
        Some(Err(error)) => tracing::warn!(%error, bytes = from, "the journal cannot grow"),
        None => {}
    }
}

/// Brings what the journal has of partitions to stable storage in their segments. False when the storage
/// of one failed: then the half is never free again, and the next start restores it.
async fn write_back(
    engine: Rc<Engine>,
    permits: Rc<Semaphore>,
    pins: Vec<Weak<RefCell<Partition>>>,
) -> bool {
    let mut all = true;
    for chunk in pins.chunks(WRITE_BACKS_AT_ONCE) {
        let there: Vec<SharedPartition> = chunk.iter().filter_map(Weak::upgrade).collect();
        let done = join_all(
            there
                .iter()
                .map(|partition| write_back_one(&engine, &permits, partition)),
        );
        all &= done.await.into_iter().all(|done| done);
    }
    all
}

/// False when the partition's storage failed.
async fn write_back_one(
    engine: &Rc<Engine>,
    permits: &Semaphore,
    partition: &SharedPartition,
) -> bool {
    let _permit = permits.acquire().await;
    let begun = partition.borrow().log.write_back_begin();
    if let Some(write_back) = begun {
        sync(engine, partition, write_back).await;
    }
    let inner = partition.borrow();
    // The files of a deleted topic are not needed any more.
    inner.is_closed() || !inner.log.is_poisoned()
}

async fn sync(engine: &Rc<Engine>, partition: &SharedPartition, write_back: WriteBack) {
    let turn = partition.borrow().log.sync_turn();
    let (result, _turn) = write_out(&write_back, &turn).await;
    let stats = &engine.stats;
    stats::add(&stats.flush_errors, u64::from(result.is_err()));
    engine::flush::end_write_back(engine, partition, write_back, &result);
}

/// Syncs the files, and holds the turn to do so with the result. Most bytes are written before, a piece at a
/// time: the journal's writes, which clients wait for, go to the same disk, and a flush of this log may have
/// its turn between two pieces.
async fn write_out<'a>(
    write_back: &WriteBack,
    turn: &'a Mutex<()>,
) -> (io::Result<()>, MutexGuard<'a, ()>) {
    let Range { mut start, end } = write_back.last.clone();
    let mut held = turn.lock().await;
    while let Some(file) = write_back.files.last()
        && end - start > PIECE_BYTES
    {
        let piece = start..start + PIECE_BYTES;
        start = piece.end;
        if let Err(error) = ring::write_out(Arc::clone(file), piece).await {
            return (Err(error), held);
        }
        drop(held);
        tokio::time::sleep(PIECE_PAUSE).await;
        held = turn.lock().await;
    }
    (commit::sync_all(&write_back.files).await, held)
}

/// Removes the journal of a shard all of whose partitions are in order, at the end of a clean stop.
pub async fn remove(engine: &Rc<Engine>) {
    let partitions = engine.partitions();
    let needed = partitions.iter().any(|partition| {
        let log = &partition.borrow().log;
        log.is_poisoned() || log.synced_offset() < log.offsets().durable
    });
    if needed {
        return;
    }
    let (dir, shard) = (engine.config.data_dir.clone(), engine.shard);
    let removed = engine
        .workers
        .run(move || replay::remove_journal(&dir, shard));
    if let Err(error) = removed.await {
        tracing::warn!(%error, "the journal cannot be removed; the next start reads it once more");
    }
}

#[cfg(test)]
mod tests;
