//! Flushing: making appends durable, and writing checkpoints.

use super::checkpoint::Checkpoint;
use super::jobs::CheckpointJob;
use super::segment::SealedSegment;
use super::{CHECKPOINT_BYTES_TIMES, CHECKPOINT_INTERVAL_MS, Flush, Log, Mark, Tail, WriteBack};
use crate::io::sabotage::{self, Sabotage};
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::sync::Mutex;

impl Log {
    /// Starts a flush of all that was appended, unless one runs or there is nothing to do.
    ///
    /// `snapshot` is called when a checkpoint is due: it returns the state of the layer above as of
    /// the log's end.
    pub fn flush_begin(&mut self, snapshot: impl FnOnce() -> Vec<u8>) -> Option<Flush> {
        let checkpoint = self.checkpoint_due();
        let dirty = self.durable.offset < self.offsets.end;
        if self.flushing.is_some() || self.poisoned || !(dirty || checkpoint) {
            return None;
        }
        let taken = std::mem::take(&mut self.unsynced);
        let mut files = taken.clone();
        self.flushing = Some(taken);
        // With `durability=os` what is not dirty here may never have been synced.
        if dirty || checkpoint {
            let active = self.active.as_ref().filter(|active| active.size() > 0);
            files.extend(active.map(|active| Arc::clone(&active.file)));
        }
        Some(Flush {
            files,
            mark: self.end_mark(),
            snapshot: checkpoint.then(snapshot),
        })
    }

    fn checkpoint_due(&self) -> bool {
        let due = self.checkpoint_wanted || self.enough_since_checkpoint();
        let may = self.sealing == 0 && !self.checkpointing && !self.checkpoint_failed;
        due && may && self.segment_count() > 0
    }

    /// A checkpoint takes two syncs of its own, so a log that takes a gigabyte a second does not make
    /// one for each few megabytes.
    fn enough_since_checkpoint(&self) -> bool {
        let (bytes, enough) = (self.bytes_since_checkpoint, self.config.checkpoint_bytes);
        let active = self.active.as_ref();
        let last_ms = active.map_or(i64::MAX, |active| active.appended_ms);
        let is_slow = last_ms.saturating_sub(self.since_checkpoint_ms) >= CHECKPOINT_INTERVAL_MS;
        bytes >= enough && (is_slow || bytes / CHECKPOINT_BYTES_TIMES >= enough)
    }

    fn end_mark(&self) -> Mark {
        let durable = self.durable;
        let is_there = |last: &SealedSegment| {
            last.base == durable.segment_base && self.offsets.end == durable.offset
        };
        let (segment_base, position) = match (&self.active, self.sealed.back()) {
            (Some(active), _) => (active.base, active.size()),
            // Its size may be what a survey saw while the file could not be opened: nothing.
            (None, Some(last)) if is_there(last) => return durable,
            (None, Some(last)) => (last.base, last.size),
            (None, None) => (self.offsets.end, 0),
        };
        Mark {
            offset: self.offsets.end,
            segment_base,
            position,
            appended_bytes: self.appended_bytes,
        }
    }

    /// Ends a flush: all below its mark is durable, or the log is poisoned. The checkpoint to write,
    /// when one was due, is returned. A log that was poisoned meanwhile stays as it is: the error may
    /// be about bytes of this flush.
    pub fn flush_end(&mut self, flush: Flush, result: &io::Result<()>) -> Option<CheckpointJob> {
        self.flushing = None;
        self.poisoned |= result.is_err();
        if self.poisoned && !sabotage::is_done(Sabotage::OverlapSyncs) {
            return None;
        }
        self.synced = flush.mark;
        self.set_durable(flush.mark);
        // A roll during the flush leaves a segment whose final form is not on disk yet. That is the one
        // the checkpoint points into, which is read again from there; those before it were in theirs
        // when the flush began.
        Some(self.checkpoint_job(flush.mark, flush.snapshot?))
    }

    fn set_durable(&mut self, mark: Mark) {
        self.durable = mark;
        self.offsets.durable = mark.offset;
        self.offsets.check();
    }

    /// What a flush would make durable, where the journal can take it: bytes of one segment. `None` when
    /// nothing is to be flushed.
    pub fn journal_tail(&self) -> Option<Tail<'_>> {
        let active = self.active.as_ref()?;
        let only_this = self.unsynced.is_empty();
        let is_dirty = self.durable.offset < self.offsets.end;
        if self.flushing.is_some() || self.poisoned || !only_this || !is_dirty {
            return None;
        }
        let position = match active.base {
            base if base == self.durable.segment_base => self.durable.position,
            base if base == self.durable.offset => 0,
            _ => return None,
        };
        Some(Tail {
            segment_base: active.base,
            position,
            bytes: active.writer.bytes(position..active.size()),
        })
    }

    /// Ends a flush whose bytes the journal has. A log that was poisoned meanwhile stays as it is; the
    /// next start restores what the journal has.
    ///
    /// A checkpoint covers the segments only. When one was due, the write-back is returned that must run
    /// before it.
    pub fn flush_journaled(&mut self, flush: Flush) -> Option<WriteBack> {
        self.flushing = None;
        if self.poisoned {
            return None;
        }
        self.set_durable(flush.mark);
        let snapshot = flush.snapshot?;
        self.checkpointing = true;
        Some(self.write_back(Some(snapshot)))
    }

    /// The offset below which the segments themselves are on stable storage.
    pub fn synced_offset(&self) -> i64 {
        self.synced.offset
    }

    /// Starts to make what the journal has durable in the segments too. Flushes may continue
    /// meanwhile. `None` when there is nothing to do.
    pub fn write_back_begin(&self) -> Option<WriteBack> {
        if self.poisoned || self.synced.offset >= self.durable.offset {
            return None;
        }
        Some(self.write_back(None))
    }

    fn write_back(&self, snapshot: Option<Vec<u8>>) -> WriteBack {
        let (synced, durable) = (self.synced, self.durable);
        let is_same = synced.segment_base == durable.segment_base;
        let from = if is_same { synced.position } else { 0 };
        WriteBack {
            files: self.files_to_sync(),
            last: from as u64..durable.position as u64,
            mark: durable,
            snapshot,
        }
    }

    /// All that has bytes which may not be on stable storage.
    fn files_to_sync(&self) -> Vec<Arc<File>> {
        let mut files = self.unsynced.clone();
        // A flush that runs has taken its files out of `unsynced`, and has not synced them yet.
        if !sabotage::is_done(Sabotage::ForgetFlushFiles) {
            files.extend(self.flushing.iter().flatten().cloned());
        }
        let active = self.active.as_ref().filter(|active| active.size() > 0);
        files.extend(active.map(|active| Arc::clone(&active.file)));
        files
    }

    /// Whose turn it is to sync this log's files. Whoever syncs holds it until the log knows the result.
    ///
    /// The kernel reports a failed write once for each open file (errseq_t, see fsync(2)), and a segment has
    /// one. Of two syncs side by side one is told of the error. The other is told of none, and may end first.
    pub fn sync_turn(&self) -> Arc<Mutex<()>> {
        match sabotage::is_done(Sabotage::OverlapSyncs) {
            true => Arc::default(),
            false => Arc::clone(&self.sync_turn),
        }
    }

    /// Ends a write-back. One that failed poisons the log: what the journal has is restored at the
    /// next start. Otherwise the checkpoint that waited for it is returned.
    pub fn write_back_end(
        &mut self,
        write_back: WriteBack,
        result: &io::Result<()>,
    ) -> Option<CheckpointJob> {
        self.poisoned |= result.is_err();
        // Poisoned by another sync: the error may be about bytes of this one.
        if self.poisoned {
            return None;
        }
        // A flush may have got further.
        if write_back.mark.offset > self.synced.offset {
            self.synced = write_back.mark;
        }
        Some(self.checkpoint_job(write_back.mark, write_back.snapshot?))
    }

    fn checkpoint_job(&mut self, mark: Mark, snapshot: Vec<u8>) -> CheckpointJob {
        self.checkpointing = true;
        // What is durable may have moved on while the segments were synced, and the start with it.
        let start = self.offsets.start.min(mark.offset);
        self.checkpoint_wanted = start < self.offsets.start;
        self.bytes_since_checkpoint = self.appended_bytes - mark.appended_bytes;
        self.since_checkpoint_ms = self.active.as_ref().map_or(0, |active| active.appended_ms);
        let active = self.active.as_ref();
        let active = active.filter(|active| active.base == mark.segment_base);
        CheckpointJob {
            dir: self.dir.clone(),
            checkpoint: Checkpoint {
                topic_id: self.topic_id,
                log_start_offset: start,
                durable_offset: mark.offset,
                segment_base: mark.segment_base,
                position: mark.position as u64,
                snapshot,
            },
            // Only entries of durable batches: an entry of one that a power cut takes back would
            // point into the middle of what is appended there later.
            index: active.map(|active| {
                let durable = active.index.index.count_before(mark.position as u32);
                let flushed = active.index_flushed;
                active.index.tail(flushed..durable.max(flushed))
            }),
        }
    }

    /// Takes note that a [`CheckpointJob`] ended. A failed one is tried again after
    /// [`retry_checkpoint`](Self::retry_checkpoint); flushes go on without one until then.
    pub fn checkpoint_done(&mut self, job: &CheckpointJob, result: &io::Result<()>) {
        self.checkpointing = false;
        if result.is_err() {
            self.checkpoint_wanted = true;
            self.checkpoint_failed = true;
            return;
        }
        self.durable_start = self.durable_start.max(job.checkpoint.log_start_offset);
        self.checkpoint_base = job.checkpoint.segment_base;
        let active = self.active.as_mut();
        let active = active.filter(|active| active.base == job.checkpoint.segment_base);
        if let (Some(active), Some(index)) = (active, &job.index) {
            active.index_flushed = active.index_flushed.max(index.flushed);
        }
    }

    /// Asks for a checkpoint with the next flush, even if the last one failed.
    pub fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
        self.checkpoint_failed = false;
    }

    /// Lets a checkpoint that failed be tried again with the next flush.
    pub fn retry_checkpoint(&mut self) {
        self.checkpoint_failed = false;
    }

    /// Whether a flush would do anything.
    pub fn needs_flush(&self) -> bool {
        !self.poisoned && (self.durable.offset < self.offsets.end || self.checkpoint_due())
    }

    /// Whether a [`RoomJob`](super::jobs::RoomJob) runs.
    pub fn is_making_room(&self) -> bool {
        self.making_room
    }

    /// Whether a job or a flush of this log is under way.
    pub fn is_busy(&self) -> bool {
        let swapping = self.compaction.swapping.is_some();
        self.flushing.is_some()
            || self.making_room
            || self.checkpointing
            || self.sealing > 0
            || swapping
    }
}
