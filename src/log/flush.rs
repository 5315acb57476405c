//! Flushing: what becomes durable, and the checkpoints that say so.

use super::Flush;
use super::Log;
use super::Mark;
use super::checkpoint::Checkpoint;
use super::index;
use super::jobs::CheckpointJob;
use std::io;
use std::sync::Arc;

impl Log {
    /// Starts a flush of all that was appended, unless one runs or there is nothing to do.
    ///
    /// `snapshot` is called when a checkpoint is due: it returns the state of the layer above as of
    /// the log's end.
    pub fn flush_begin(&mut self, snapshot: impl FnOnce() -> Vec<u8>) -> Option<Flush> {
        let checkpoint = self.checkpoint_due();
        let dirty = self.durable.offset < self.offsets.end;
        if self.flushing || self.poisoned || !(dirty || checkpoint) {
            return None;
        }
        self.flushing = true;
        let mut files = std::mem::take(&mut self.unsynced);
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
        let due =
            self.checkpoint_wanted || self.bytes_since_checkpoint >= self.config.checkpoint_bytes;
        due && self.sealing == 0 && !self.checkpointing && self.segment_count() > 0
    }

    fn end_mark(&self) -> Mark {
        let (segment_base, position) = match (&self.active, self.sealed.back()) {
            (Some(active), _) => (active.base, active.size()),
            (None, Some(last)) => (last.base, last.size),
            (None, None) => (self.offsets.end, 0),
        };
        Mark {
            offset: self.offsets.end,
            segment_base,
            position,
        }
    }

    /// Ends a flush: all below its mark is durable, or the log is poisoned. The checkpoint to write,
    /// when one was due, is returned.
    pub fn flush_end(&mut self, flush: Flush, result: &io::Result<()>) -> Option<CheckpointJob> {
        self.flushing = false;
        if result.is_err() {
            self.poisoned = true;
            return None;
        }
        self.durable = flush.mark;
        self.offsets.durable = flush.mark.offset;
        self.offsets.check();
        // A roll during the flush leaves a segment whose final form is not on disk yet; the next
        // flush makes the checkpoint then.
        let snapshot = flush.snapshot.filter(|_| self.sealing == 0)?;
        Some(self.checkpoint_job(flush.mark, snapshot))
    }

    fn checkpoint_job(&mut self, mark: Mark, snapshot: Vec<u8>) -> CheckpointJob {
        self.checkpointing = true;
        self.checkpoint_wanted = false;
        self.bytes_since_checkpoint = 0;
        let mut job = CheckpointJob {
            dir: self.dir.clone(),
            checkpoint: Checkpoint {
                topic_id: self.topic_id,
                log_start_offset: self.offsets.start,
                durable_offset: mark.offset,
                segment_base: mark.segment_base,
                position: mark.position as u64,
                snapshot,
            },
            index_bytes: Vec::new(),
            index_at: 0,
            index_flushed: 0,
        };
        let active = self.active.as_ref();
        if let Some(active) = active.filter(|active| active.base == mark.segment_base) {
            // Only entries of durable batches: an entry of one that a power cut takes back would
            // point into the middle of what is appended in its place.
            let index = &active.index.index;
            let flushed = active.index_flushed;
            let durable = index.count_before(mark.position as u32).max(flushed);
            job.index_bytes = index.encode(flushed..durable, active.base);
            job.index_at = (flushed * index::ENTRY_BYTES) as u64;
            job.index_flushed = durable;
        }
        job
    }

    /// Takes note that a [`CheckpointJob`] ended. A failed one is tried again with the next flush.
    pub fn checkpoint_done(&mut self, job: &CheckpointJob, result: &io::Result<()>) {
        self.checkpointing = false;
        if result.is_err() {
            self.checkpoint_wanted = true;
            return;
        }
        self.durable_start = self.durable_start.max(job.checkpoint.log_start_offset);
        self.checkpoint_base = job.checkpoint.segment_base;
        let base = job.checkpoint.segment_base;
        if let Some(active) = self.active.as_mut().filter(|active| active.base == base) {
            active.index_flushed = active.index_flushed.max(job.index_flushed);
        }
    }

    /// Asks for a checkpoint with the next flush.
    pub fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// Whether a flush would do anything.
    pub fn needs_flush(&self) -> bool {
        !self.poisoned && (self.durable.offset < self.offsets.end || self.checkpoint_due())
    }

    /// Whether a job or a flush of this log is under way.
    pub fn is_busy(&self) -> bool {
        let swapping = self.compaction.swapping.is_some();
        self.flushing || self.making_room || self.checkpointing || self.sealing > 0 || swapping
    }
}
