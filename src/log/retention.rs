//! Retention: which segments are removed, and closing what is idle.

use super::jobs::{DeleteJob, SealJob};
use super::load::LoadJob;
use super::segment::SealedSegment;
use super::{Log, Offsets, ReadError, Retention};
use std::io;

impl Log {
    /// Moves the log start offset up to `offset` (at most the high watermark); the checkpoint that
    /// makes it durable is asked for. Returns the log start offset.
    pub fn delete_records(&mut self, offset: i64) -> Result<i64, ReadError> {
        let Offsets {
            start,
            durable,
            end,
        } = self.offsets;
        if offset > durable || offset < 0 {
            return Err(ReadError::OutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        self.offsets.start = start.max(offset);
        if self.offsets.start > self.durable_start {
            self.want_checkpoint();
        }
        Ok(self.offsets.start)
    }

    /// The next thing to do for retention by time, size and log start offset.
    pub fn retention(&mut self, now_ms: i64) -> Retention {
        // A compaction uses the segments that would be removed; retention waits for it.
        if self.poisoned || self.compaction.is_running {
            return Retention::Nothing;
        }
        let mut excess = match self.config.retention_bytes {
            limit if limit >= 0 => self.durable_bytes().saturating_sub(limit as u64),
            _ => 0,
        };
        let mut bases = Vec::new();
        let mut end = 0;
        while let Some(segment) = self.sealed.front() {
            let is_last = self.sealed.len() == 1 && self.active.is_none();
            // The last one may just be opened again.
            if segment.end > self.durable.offset || (is_last && self.making_room) {
                break;
            }
            let below_start = segment.end <= self.offsets.start && !segment.is_empty();
            let too_much = excess > 0 && excess >= segment.size as u64;
            let old = match self.is_old(segment, now_ms) {
                _ if below_start || too_much => false,
                Ok(old) => old,
                Err(load) if bases.is_empty() => return Retention::Load(load),
                Err(_) => break,
            };
            if !(below_start || too_much || old) {
                break;
            }
            if is_last && bases.is_empty() {
                self.making_room = true;
                return Retention::Roll(self.create_job(1));
            }
            if is_last || segment.base >= self.checkpoint_base {
                self.checkpoint_wanted = true;
                break;
            }
            excess = excess.saturating_sub(segment.size as u64);
            bases.push(segment.base);
            end = segment.end;
            self.offsets.start = self.offsets.start.max(segment.end);
            self.sealed.pop_front();
        }
        if !bases.is_empty() {
            self.checkpoint_wanted = true;
            self.offsets.check();
            return Retention::Delete(DeleteJob {
                dir: self.dir.clone(),
                bases,
                end,
                // Only where it will be used soon, and is about as large as the next segment.
                spare_bytes_min: self
                    .active
                    .is_some()
                    .then_some(self.config.segment_bytes as u64 / 2),
            });
        }
        self.retention_of_active(now_ms)
    }

    /// The active segment ages too: when all of it is too old it is rolled, and removed the next time.
    fn retention_of_active(&mut self, now_ms: i64) -> Retention {
        let expired = self.active.as_ref().is_some_and(|active| {
            let newest = match active.index.max_timestamp {
                -1 => active.appended_ms,
                timestamp => timestamp,
            };
            active.size() > 0
                && !self.making_room
                && self.durable.offset == self.offsets.end
                && (self.is_expired(newest, now_ms) || self.offsets.start == self.offsets.end)
        });
        if !expired {
            return Retention::Nothing;
        }
        self.making_room = true;
        Retention::Roll(self.create_job(1))
    }

    fn is_old(&self, segment: &SealedSegment, now_ms: i64) -> Result<bool, LoadJob> {
        if self.config.retention_ms < 0 || segment.is_empty() {
            return Ok(false);
        }
        let newest = segment.newest_ms().ok_or_else(|| self.load_job(segment))?;
        Ok(self.is_expired(newest, now_ms))
    }

    fn is_expired(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        self.config.retention_ms >= 0
            && now_ms.saturating_sub(timestamp_ms) > self.config.retention_ms
    }

    /// Unmaps sealed segments that nobody read for `idle_ms`, and closes an active segment that
    /// nobody appended to for as long, so that idle partitions hold neither maps nor descriptors.
    pub fn close_idle(&mut self, now_ms: i64, idle_ms: i64) -> io::Result<Option<SealJob>> {
        self.count_from(now_ms);
        for segment in &mut self.sealed {
            let used = segment.loaded.as_ref().map(|loaded| loaded.used_ms);
            if used.is_some_and(|used_ms| now_ms.saturating_sub(used_ms) > idle_ms) {
                segment.loaded = None;
            }
        }
        let idle = self.active.as_ref().is_some_and(|active| {
            now_ms.saturating_sub(active.appended_ms) > idle_ms
                && self.durable.offset == self.offsets.end
        });
        if !idle || self.making_room || self.flushing.is_some() || self.checkpointing {
            return Ok(None);
        }
        self.want_checkpoint();
        self.close_active(now_ms)
    }

    /// Whether retention by size may have something to remove.
    pub fn is_over_size(&self) -> bool {
        let limit = self.config.retention_bytes;
        limit >= 0 && self.durable_bytes() > limit as u64
    }

    /// Bytes of records that are durable. What a power cut or a failed sync may take back makes nothing go: else
    /// less than `retention.bytes` would be left after that.
    fn durable_bytes(&self) -> u64 {
        let not_durable = self.appended_bytes - self.durable.appended_bytes;
        self.size_bytes().saturating_sub(not_durable)
    }

    /// After the clock was set back, ages count from now on.
    fn count_from(&mut self, now_ms: i64) {
        for loaded in self
            .sealed
            .iter_mut()
            .flat_map(|segment| &mut segment.loaded)
        {
            loaded.used_ms = loaded.used_ms.min(now_ms);
        }
        if let Some(active) = &mut self.active {
            active.started_ms = active.started_ms.min(now_ms);
            active.appended_ms = active.appended_ms.min(now_ms);
        }
    }
}
