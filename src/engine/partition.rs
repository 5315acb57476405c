//! A partition: its log, its producers, and the appends, answers and fetches that wait in it.
//!
//! Appends happen in the order they arrive, always: one that needs room waits in `pending`, and all
//! later ones wait behind it. Replies wait in `durable_waiters` until the high watermark passes
//! them; parked fetches are woken when it passes the offset they wait for.

mod admission;
mod producers;

use super::catalog::Topic;
use super::indexes::Indexes;
use super::indexes::known::Known;
use super::indexes::marks::Marks;
use super::indexes::rewrite::RewriteJob;
use super::producers::Producers;
use super::stats::Counters;
use super::wake::Wake;
use super::{EngineError, PartitionKey};
use crate::config::TimestampType;
use crate::io::rate_limited::{self, RateLimited};
use crate::io::sabotage::{self, Sabotage};
use crate::io::{clock, file, limits};
use crate::log::batch::BatchHeader;
use crate::log::jobs::{CheckpointJob, Room, RoomJob, SealJob};
use crate::log::recovery::{Recovered, Replay};
use crate::log::{AppendError, Flush, Log, LogConfig, LogError, Offsets, ReadError, WriteBack};
use admission::Admission;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// When an append is answered (the `acks` of a produce request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckWhen {
    Appended,
    Durable,
}

/// An append that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Of the batch in the log; -1 where it is not stored, because all of its records were there before.
    pub base_offset: i64,
    /// Milliseconds, where the topic's timestamps are the broker's; else -1.
    pub append_time_ms: i64,
    pub log_start_offset: i64,
    /// Which of its records were there before (`dedup.window.ms`).
    pub known: Option<Known>,
    /// Its producer sent it again: it was there before.
    pub is_retry: bool,
}

impl Appended {
    /// The offset that a producer is told. It counts on from there, so where records of the batch were there
    /// before it is told of those, if that is where they are, and else of none: -1.
    pub fn reply_offset(&self) -> i64 {
        match &self.known {
            Some(known) => known.base_offset().unwrap_or(-1),
            None => self.base_offset,
        }
    }

    /// The offset of the record at this place of the batch.
    pub fn offset_of(&self, place: usize) -> i64 {
        let known = self.known.as_ref().and_then(|known| known.at(place));
        known.unwrap_or(self.base_offset + place as i64)
    }
}

pub type AppendReply = oneshot::Sender<Result<Appended, EngineError>>;

/// One checked batch on its way into a partition.
pub struct Append {
    pub batch: Bytes,
    pub header: BatchHeader,
    pub ack: AckWhen,
    pub reply: AppendReply,
    /// What its records say of themselves, where the topic looks at that.
    pub marks: Option<Box<Marks>>,
}

struct DurableWaiter {
    /// Durable when the high watermark is at least here.
    end_offset: i64,
    appended: Appended,
    reply: AppendReply,
}

struct FetchWatcher {
    /// Woken when the high watermark is above this.
    offset: i64,
    wake: Weak<Wake>,
    /// Of the partition in the fetch.
    place: usize,
}

/// What the caller must do after a call: the partition itself does nothing that may block.
#[derive(Default)]
pub struct Due {
    pub room: Option<RoomJob>,
    /// Apart, for it is large and seldom there.
    pub rewrite: Option<Box<RewriteJob>>,
    pub flush: bool,
    /// Indexes are to be made; see [`indexes::attach`](super::indexes::attach).
    pub indexes: bool,
}

/// The compactions of a partition that failed since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cleaning {
    pub(super) failures: u32,
    pub(super) retry_at_ms: i64,
}

/// One partition, owned by one shard.
pub struct Partition {
    pub topic: Arc<Topic>,
    pub index: u32,
    pub log: Log,
    pub counters: Counters,
    producers: Producers,
    pending: VecDeque<Append>,
    /// The number of the job that has the first of them, while one runs.
    rewriting: Option<u64>,
    rewrites: u64,
    /// What the topic's configuration asks for beside the log.
    pub indexes: Option<Box<Indexes>>,
    durable_waiters: VecDeque<DurableWaiter>,
    fetch_watchers: Vec<FetchWatcher>,
    start_waiters: Vec<(i64, oneshot::Sender<Result<i64, EngineError>>)>,
    pub cleaning: Cleaning,
    /// In the shard's list of partitions to flush.
    pub queued_for_flush: bool,
    /// The journal's round in which it last got entries of this partition.
    pub journal_round: u64,
    /// Deleted: nothing is appended or read any more.
    closed: bool,
    /// A log line has said that the log is damaged.
    damage_told: bool,
    /// Removals of old segments that are under way.
    pub removals: usize,
}

impl Partition {
    /// Opens the partition's log in `dir`, which need not be there yet. At most `producers_max`
    /// producers are remembered.
    ///
    /// # Errors
    /// See [`Log::open`].
    pub fn open(
        topic: Arc<Topic>,
        index: u32,
        dir: PathBuf,
        config: LogConfig,
        producers_max: usize,
    ) -> Result<(Partition, Recovered), LogError> {
        let mut producers = Producers::default().limited_to(producers_max);
        let dir_shown = dir.clone();
        let (log, recovered) = Log::open(dir, topic.id, config, &mut |replay| match replay {
            Replay::Snapshot(bytes) => {
                let decoded = Producers::decode(bytes).unwrap_or_else(|| {
                    tracing::error!(dir = %dir_shown.display(), "producer state is unreadable; \
                        retries of batches before the checkpoint will not be recognised");
                    Producers::default()
                });
                producers = decoded.limited_to(producers_max);
            }
            Replay::Batch(header) => note_producer(&mut producers, header, clock::stamp_ms()),
        })?;
        if sabotage::is_done(Sabotage::ForgetProducer) {
            producers.forget_last_batches();
        }
        Ok((Partition::of(topic, index, log, producers), recovered))
    }

    /// A partition whose log could not be opened: every request for it is refused.
    pub fn offline(topic: Arc<Topic>, index: u32, dir: PathBuf, config: LogConfig) -> Partition {
        let log = Log::offline(dir, topic.id, config);
        Partition::of(topic, index, log, Producers::default())
    }

    fn of(topic: Arc<Topic>, index: u32, log: Log, producers: Producers) -> Partition {
        Partition {
            topic,
            index,
            log,
            producers,
            counters: Counters::default(),
            pending: VecDeque::new(),
            rewriting: None,
            rewrites: 0,
            indexes: None,
            durable_waiters: VecDeque::new(),
            fetch_watchers: Vec::new(),
            start_waiters: Vec::new(),
            cleaning: Cleaning::default(),
            queued_for_flush: false,
            journal_round: 0,
            closed: false,
            damage_told: false,
            removals: 0,
        }
    }

    pub fn key(&self) -> PartitionKey {
        PartitionKey {
            topic_id: self.topic.id,
            index: self.index,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn offsets(&self) -> Offsets {
        self.log.offsets()
    }

    /// Notes a read that failed. Damage is logged once, because readers retry.
    pub fn unreadable(&mut self, error: ReadError) -> EngineError {
        if let ReadError::Corrupt { asked, .. } = error
            && !self.damage_told
            && self.log.damage().at(asked).is_none()
        {
            self.damage_told = true;
            let dir = self.log.dir().display();
            tracing::error!(%dir, %error, "the log is damaged; `millstream verify` tells where");
        }
        error.into()
    }

    // ---- append ----

    /// Appends a batch, or queues it behind those that wait for room.
    pub fn append(&mut self, append: Append, now_ms: i64) -> Due {
        if self.closed {
            let _ = append.reply.send(Err(EngineError::UnknownTopicOrPartition));
            return Due::default();
        }
        if !self.pending.is_empty() || self.rewriting.is_some() || !self.has_indexes() {
            self.pending.push_back(append);
            return self.drain_pending(now_ms);
        }
        match self.try_append(append, now_ms) {
            Ok(()) => self.due(),
            Err(due) => due,
        }
    }

    /// Appends the pending batches, in order, until one needs room or must wait for a flush.
    fn drain_pending(&mut self, now_ms: i64) -> Due {
        if !self.has_indexes() {
            return Due {
                indexes: true,
                ..self.due_of_waiting()
            };
        }
        // What is on the worker thread comes first.
        while self.rewriting.is_none()
            && let Some(append) = self.pending.pop_front()
        {
            if let Err(due) = self.try_append(append, now_ms) {
                return due;
            }
        }
        self.due()
    }

    fn due(&mut self) -> Due {
        Due {
            room: self.log.grow_job(),
            ..self.due_of_waiting()
        }
    }

    /// While an append waits, room is made for no later one.
    fn due_of_waiting(&self) -> Due {
        Due {
            flush: self.log.needs_flush(),
            ..Due::default()
        }
    }

    /// Appends a batch, or refuses it. It is the first of the pending ones where it has to wait, and those behind it
    /// with it: the error says for what.
    fn try_append(&mut self, append: Append, now_ms: i64) -> Result<(), Due> {
        match self.admit(&append) {
            Admission::Store => {}
            Admission::Answer(appended, end_offset) => {
                self.count_duplicates(appended.known.as_ref());
                self.acknowledge(append.ack, append.reply, appended, end_offset);
                return Ok(());
            }
            Admission::Refuse(error) => {
                self.refuse(append, error);
                return Ok(());
            }
            Admission::Wait => {
                self.pending.push_front(append);
                return Err(self.due());
            }
            Admission::Rewrite(job) => {
                self.rewrites = job.number;
                self.rewriting = Some(job.number);
                self.pending.push_front(append);
                return Err(Due {
                    rewrite: Some(job),
                    ..self.due_of_waiting()
                });
            }
        }
        match self.append_now(&append, now_ms) {
            Ok((appended, end_offset)) => {
                self.acknowledge(append.ack, append.reply, appended, end_offset);
                Ok(())
            }
            Err(AppendFailure::NeedsRoom) => {
                let (bytes, header) = (append.batch.len(), append.header);
                self.pending.push_front(append);
                Err(Due {
                    room: self.log.room_job(bytes, &header, now_ms),
                    ..self.due_of_waiting()
                })
            }
            Err(AppendFailure::AheadOfDisk) => {
                // The flush that runs, or is requested here, calls this again.
                self.pending.push_front(append);
                Err(self.due_of_waiting())
            }
            Err(AppendFailure::Refused(error)) => {
                self.refuse(append, error);
                Ok(())
            }
            Err(AppendFailure::WriteFailed(error)) => {
                tracing::error!(
                    topic = self.topic.name,
                    partition = self.index,
                    error,
                    "write failed: this partition takes no more writes; check the disk, then restart"
                );
                self.refuse(append, EngineError::StorageFailed);
                self.refuse_waiters(&EngineError::StorageFailed);
                Ok(())
            }
        }
    }

    /// Appends. The second value is the offset after the batch, or after those of its records that were there
    /// before.
    fn append_now(
        &mut self,
        append: &Append,
        now_ms: i64,
    ) -> Result<(Appended, i64), AppendFailure> {
        let (batch, header) = (&append.batch, &append.header);
        let mark = header.producer();
        let stamp = match self.topic.config.message_timestamp_type {
            // A batch without records has no time.
            TimestampType::LogAppendTime if header.record_count > 0 => Some(now_ms),
            TimestampType::LogAppendTime => None,
            TimestampType::CreateTime => None,
        };
        let base_offset = self.log.append(batch, header, stamp, now_ms)?;
        let append_time_ms = stamp.unwrap_or(-1);
        if let Some(mark) = &mark {
            let count = header.last_offset_delta + 1;
            // A jump of the wall clock must not make them old.
            let stamp_ms = clock::stamp_ms();
            self.producers
                .record(mark, count, base_offset, append_time_ms, stamp_ms);
        }
        self.counters.appended_batches += 1;
        self.counters.appended_records += header.record_count as u64;
        self.counters.appended_bytes += batch.len() as u64;
        let mut known = None;
        if let Some(marks) = &append.marks {
            known = marks.known.clone();
            self.count_duplicates(known.as_ref());
            self.note_marks(marks, base_offset);
        }
        let appended = Appended {
            base_offset,
            append_time_ms,
            log_start_offset: self.log.offsets().start,
            known,
            is_retry: false,
        };
        let end_offset = self.log.offsets().end;
        // What is acknowledged is what was written: reads assert the other half (`fetch.rs`).
        assert_eq!(
            end_offset,
            base_offset + i64::from(header.last_offset_delta) + 1
        );
        Ok((appended, end_offset))
    }

    fn acknowledge(
        &mut self,
        ack: AckWhen,
        reply: AppendReply,
        appended: Appended,
        end_offset: i64,
    ) {
        let early = ack == AckWhen::Appended || sabotage::is_done(Sabotage::AnswerEarly);
        if early || end_offset <= self.log.offsets().durable {
            let _ = reply.send(Ok(appended));
        } else if self.log.is_poisoned() {
            let _ = reply.send(Err(EngineError::StorageFailed));
        } else {
            self.durable_waiters.push_back(DurableWaiter {
                end_offset,
                appended,
                reply,
            });
        }
    }

    /// Goes on after a [`RoomJob`]. Without room, all pending appends are refused: the producers retry.
    pub fn room_done(&mut self, result: io::Result<Room>, now_ms: i64) -> (Option<SealJob>, Due) {
        match self.log.room_done(result, now_ms) {
            Ok(seal) => (seal, self.drain_pending(now_ms)),
            Err(error) => {
                let full = file::is_full(&error);
                if !self.pending.is_empty() {
                    self.tell_of_no_room(&error);
                }
                for append in self.take_pending() {
                    let error = if full {
                        EngineError::StorageFull
                    } else {
                        EngineError::StorageFailed
                    };
                    self.refuse(append, error);
                }
                (None, Due::default())
            }
        }
    }

    /// Answers an append that was not done. What was in flight behind it must not be taken before it, nor
    /// be remembered in its place.
    fn refuse(&mut self, append: Append, error: EngineError) {
        if let Some(mark) = append.header.producer() {
            self.producers.refuse(&mark);
        }
        let _ = append.reply.send(Err(error));
    }

    /// With a full disk, each partition that is written to comes here with each append.
    fn tell_of_no_room(&self, error: &io::Error) {
        static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
        if error.kind() == io::ErrorKind::OutOfMemory {
            limits::MAPS.reached(error);
        }
        if let Some(kept_back) = LINE.admit() {
            tracing::error!(
                topic = self.topic.name, partition = self.index, %error, kept_back,
                "no room for new records; producers are told to try again"
            );
        }
    }

    // ---- flush ----

    /// Starts a flush; see [`Log::flush_begin`].
    pub fn flush_begin(&mut self) -> Option<Flush> {
        self.queued_for_flush = false;
        let producers = &self.producers;
        self.log.flush_begin(|| producers.encode())
    }

    /// Ends a flush: answers the requests that waited for it and wakes parked fetches.
    pub fn flush_end(&mut self, flush: Flush, result: &io::Result<()>) -> Option<CheckpointJob> {
        let checkpoint = self.log.flush_end(flush, result);
        if let Err(error) = result {
            self.flush_failed(error);
            return None;
        }
        self.answer_durable();
        // The directory's name may belong to another topic by now.
        checkpoint.filter(|_| !self.closed)
    }

    /// Ends a flush whose bytes the journal has, in the same way. Returns the write-back that has to come
    /// before a checkpoint that is due.
    pub fn flush_journaled(&mut self, flush: Flush) -> Option<WriteBack> {
        let write_back = self.log.flush_journaled(flush);
        self.answer_durable();
        write_back
    }

    /// Continues the appends that waited for the end of a flush.
    pub fn resume(&mut self, now_ms: i64) -> Due {
        if self.pending.is_empty() {
            return Due {
                flush: self.log.needs_flush(),
                ..Due::default()
            };
        }
        self.drain_pending(now_ms)
    }

    /// Ends a write-back; see [`Log::write_back_end`].
    pub fn write_back_end(
        &mut self,
        write_back: WriteBack,
        result: &io::Result<()>,
    ) -> Option<CheckpointJob> {
        let checkpoint = self.log.write_back_end(write_back, result);
        if let Err(error) = result {
            self.flush_failed(error);
        }
        // The directory's name may belong to another topic by now.
        checkpoint.filter(|_| !self.closed)
    }

    fn flush_failed(&mut self, error: &io::Error) {
        tracing::error!(
            topic = self.topic.name, partition = self.index, %error,
            "flush failed: this partition takes no more writes; check the disk, then restart"
        );
        self.refuse_waiters(&EngineError::StorageFailed);
    }

    fn answer_durable(&mut self) {
        let durable = self.log.offsets().durable;
        let passed = |waiter: &DurableWaiter| waiter.end_offset <= durable;
        while self.durable_waiters.front().is_some_and(passed) {
            if let Some(waiter) = self.durable_waiters.pop_front() {
                let _ = waiter.reply.send(Ok(waiter.appended));
            }
        }
        self.wake_fetches(durable);
    }

    /// Takes note that a [`SealJob`] ended. After one that failed nothing becomes durable any more,
    /// so nobody may wait for it.
    pub fn seal_done(&mut self, result: &io::Result<()>) {
        self.log.seal_done(result);
        if result.is_err() {
            self.refuse_waiters(&EngineError::StorageFailed);
        }
    }

    fn refuse_waiters(&mut self, error: &EngineError) {
        for waiter in self.durable_waiters.drain(..) {
            let _ = waiter.reply.send(Err(error.clone()));
        }
        self.refuse_pending(error);
        for (_, reply) in self.start_waiters.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    // ---- parked fetches ----

    /// Wakes `wake` when there is something to read at `offset`, with the partition's place in the fetch. Watchers whose fetch is over are
    /// swept out when the list would grow, so it stays in proportion to the parked fetches.
    pub fn watch(&mut self, offset: i64, wake: &Arc<Wake>, place: usize) {
        if self.fetch_watchers.len() == self.fetch_watchers.capacity() {
            self.fetch_watchers
                .retain(|watcher| watcher.wake.strong_count() > 0);
        }
        self.fetch_watchers.push(FetchWatcher {
            offset,
            wake: Arc::downgrade(wake),
            place,
        });
    }

    fn wake_fetches(&mut self, durable: i64) {
        self.fetch_watchers.retain(|watcher| {
            let waits = watcher.offset >= durable;
            if let (false, Some(wake)) = (waits, watcher.wake.upgrade()) {
                wake.wake(watcher.place);
            }
            waits
        });
    }

    // ---- delete ----

    /// Moves the log start offset up to `offset`, or to the high watermark for -1, and answers when
    /// that survives a crash.
    pub fn delete_records(
        &mut self,
        offset: i64,
        reply: oneshot::Sender<Result<i64, EngineError>>,
    ) {
        if self.closed {
            let _ = reply.send(Err(EngineError::UnknownTopicOrPartition));
            return;
        }
        if self.log.is_poisoned() {
            // No checkpoint will be written any more, so there is nothing to wait for.
            let _ = reply.send(Err(EngineError::StorageFailed));
            return;
        }
        let offset = match offset {
            -1 => self.log.offsets().durable,
            offset => offset,
        };
        match self.log.delete_records(offset) {
            Err(error) => {
                let _ = reply.send(Err(error.into()));
            }
            Ok(start) if start <= self.log.durable_start() => {
                let _ = reply.send(Ok(start));
            }
            Ok(start) => self.start_waiters.push((start, reply)),
        }
    }

    /// Notes that a checkpoint was written, or failed.
    pub fn checkpoint_done(&mut self, job: &CheckpointJob, result: &io::Result<()>) {
        self.log.checkpoint_done(job, result);
        let durable_start = self.log.durable_start();
        for (start, reply) in std::mem::take(&mut self.start_waiters) {
            if start <= durable_start {
                let _ = reply.send(Ok(start));
            } else if result.is_err() {
                let _ = reply.send(Err(EngineError::StorageFailed));
            } else {
                self.start_waiters.push((start, reply));
            }
        }
    }

    /// Ends the partition's life: all requests that wait are answered that it is gone.
    pub fn close(&mut self) {
        self.closed = true;
        self.log.cancel_compaction();
        self.refuse_waiters(&EngineError::UnknownTopicOrPartition);
        for watcher in self.fetch_watchers.drain(..) {
            if let Some(wake) = watcher.wake.upgrade() {
                wake.wake(watcher.place);
            }
        }
    }
}

/// Applies a batch that the log had after its checkpoint to the producers' state.
fn note_producer(producers: &mut Producers, header: &BatchHeader, now_ms: i64) {
    let Some(mark) = header.producer() else {
        return;
    };
    let append_time_ms = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        -1
    };
    let count = header.last_offset_delta + 1;
    producers.record(&mark, count, header.base_offset, append_time_ms, now_ms);
}

enum AppendFailure {
    NeedsRoom,
    AheadOfDisk,
    Refused(EngineError),
    /// The log has just failed, with this error.
    WriteFailed(String),
}

impl From<super::producers::SequenceError> for AppendFailure {
    fn from(error: super::producers::SequenceError) -> Self {
        AppendFailure::Refused(error.into())
    }
}

impl From<AppendError> for AppendFailure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NeedsRoom => AppendFailure::NeedsRoom,
            AppendError::AheadOfDisk => AppendFailure::AheadOfDisk,
            AppendError::LargerThanSegment => AppendFailure::Refused(EngineError::BatchTooLarge),
            AppendError::WriteFailed(why) => AppendFailure::WriteFailed(why),
            AppendError::Poisoned => AppendFailure::Refused(EngineError::StorageFailed),
        }
    }
}
