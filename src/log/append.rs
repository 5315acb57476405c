//! Appending: room for it, rolling, sealing.

use super::batch::{self, BatchHeader};
use super::jobs::{OpenedSegment, Room, RoomJob, SealJob, SegmentToOpen};
use super::segment::{ActiveSegment, Health, LoadedSegment, Recent, SealedSegment, SegmentView};
use super::{AppendError, FIRST_RESERVE_BYTES, Log};
use crate::io::sabotage::{self, Sabotage};
use std::io;
use std::sync::Arc;

impl Log {
    /// Appends one batch (checked by the caller) at the log's end and returns its base offset.
    ///
    /// `append_time_ms` stamps every record with that time.
    pub fn append(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        append_time_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<i64, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if bytes.len() > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment);
        }
        if self.is_ahead_of_disk(bytes.len()) {
            return Err(AppendError::AheadOfDisk);
        }
        let base_offset = self.offsets.end;
        let must_roll = self.must_roll(bytes.len(), header, now_ms);
        let fits = |active: &&mut ActiveSegment| active.writer.room() >= bytes.len();
        let Some(active) = self.active.as_mut().filter(fits) else {
            return Err(AppendError::NeedsRoom);
        };
        if must_roll || self.rolling {
            return Err(AppendError::NeedsRoom);
        }
        let positioned = BatchHeader {
            base_offset,
            leader_epoch: 0,
            max_timestamp: append_time_ms.unwrap_or(header.max_timestamp),
            ..*header
        };
        if active.size() == 0 {
            active.started_ms = now_ms;
        }
        if let Err(error) = active.append(bytes, &positioned, append_time_ms, now_ms) {
            // Half of it may be in the file.
            self.poisoned = true;
            return Err(AppendError::WriteFailed(error.to_string()));
        }
        self.appended_bytes += bytes.len() as u64;
        self.offsets.end = positioned.next_offset();
        if self.bytes_since_checkpoint == 0 {
            self.since_checkpoint_ms = now_ms;
        }
        self.bytes_since_checkpoint += bytes.len() as u64;
        self.offsets.check();
        Ok(base_offset)
    }

    /// Whether `bytes` more would be more than may be appended and not durable. One batch always may.
    fn is_ahead_of_disk(&self, bytes: usize) -> bool {
        let waiting = self.appended_bytes - self.durable.appended_bytes;
        let is_bounded = !sabotage::is_done(Sabotage::UnboundedAhead);
        let most = self.config.not_durable_bytes_max;
        is_bounded && waiting > 0 && waiting + bytes as u64 > most
    }

    fn must_roll(&self, bytes: usize, header: &BatchHeader, now_ms: i64) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let last_offset = self.offsets.end + i64::from(header.last_offset_delta);
        let full = active.size() + bytes > self.config.segment_bytes.min(active.writer.capacity());
        let old = now_ms.saturating_sub(active.started_ms) > self.config.segment_ms;
        let too_far = last_offset - active.base > i64::from(i32::MAX);
        // An empty one can still be too small, when segment.bytes was raised after it was mapped.
        let too_small = bytes > active.writer.capacity();
        too_small || (active.size() > 0 && (full || old || too_far))
    }

    /// Whether reserving more now would spare a later append the wait.
    pub fn wants_room(&self) -> bool {
        !self.making_room
            && self.active.as_ref().is_some_and(|active| {
                let writer = &active.writer;
                let most = writer.capacity().min(self.config.segment_bytes);
                writer.room() < writer.reserved() / 4 && writer.reserved() < most
            })
    }

    /// The job that makes room for a batch of `bytes`, unless one is running.
    pub fn room_job(&mut self, bytes: usize, header: &BatchHeader, now_ms: i64) -> Option<RoomJob> {
        if self.making_room {
            return None;
        }
        self.making_room = true;
        let roll = self.must_roll(bytes, header, now_ms);
        if roll {
            self.shelve_empty_active();
        }
        Some(match &self.active {
            Some(active) if !roll => self.grow(active, bytes),
            Some(_) => self.create_job(bytes),
            None => self.reopen_or_create(bytes),
        })
    }

    /// An empty active segment that is too small for a batch is opened again, not rolled: the next
    /// one would have its name.
    fn shelve_empty_active(&mut self) {
        let Some(active) = self.active.take_if(|active| active.size() == 0) else {
            return;
        };
        self.sealed.push_back(SealedSegment {
            max_timestamp: Some(-1),
            first_timestamp: Some(-1),
            modified_ms: active.appended_ms,
            ..SealedSegment::new(active.base, self.offsets.end, 0)
        });
    }

    /// The job that reserves the next step ahead of need; see [`wants_room`](Self::wants_room).
    pub fn grow_job(&mut self) -> Option<RoomJob> {
        let wants_room = self.wants_room();
        let job = self.active.as_ref().filter(|_| wants_room);
        let job = job.map(|active| self.grow(active, 1));
        self.making_room |= job.is_some();
        job
    }

    fn grow(&self, active: &ActiveSegment, wanted: usize) -> RoomJob {
        RoomJob::Grow {
            file: Arc::clone(&active.file),
            bytes: self.next_reserve(active.size(), active.writer.reserved(), wanted),
        }
    }

    fn next_reserve(&self, size: usize, reserved: usize, wanted: usize) -> u64 {
        let step = (reserved as u64)
            .max(FIRST_RESERVE_BYTES)
            .min(self.config.reserve_step_bytes_max);
        let (doubled, needed) = (reserved as u64 + step, (size + wanted) as u64);
        doubled
            .max(needed)
            .min(needed.max(self.config.segment_bytes as u64))
    }

    pub(super) fn create_job(&mut self, bytes: usize) -> RoomJob {
        self.rolling = true;
        let capacity = self.config.segment_bytes.max(bytes);
        RoomJob::Create {
            segment: self.to_open(self.offsets.end, (0, bytes), capacity),
            topic_id: self.topic_id,
            after: self.last_base(),
        }
    }

    fn to_open(&self, base: i64, (size, more): (usize, usize), capacity: usize) -> SegmentToOpen {
        SegmentToOpen {
            dir: self.dir.clone(),
            base,
            bytes: self.next_reserve(size, size, more),
            capacity,
            index_interval_bytes: self.config.index_interval_bytes,
        }
    }

    pub(super) fn last_base(&self) -> Option<i64> {
        let active = self.active.as_ref().map(|active| active.base);
        active.or(self.last_sealed_base())
    }

    fn last_sealed_base(&self) -> Option<i64> {
        self.sealed.back().map(|last| last.base)
    }

    fn reopen_or_create(&mut self, bytes: usize) -> RoomJob {
        match self.sealed.back() {
            Some(last) if self.may_reopen(last, bytes) => RoomJob::Reopen {
                segment: self.to_open(last.base, (last.size, bytes), self.config.segment_bytes),
                size: last.size,
                end: last.end,
            },
            _ => self.create_job(bytes),
        }
    }

    /// Nothing is appended to what is damaged.
    fn may_reopen(&self, last: &SealedSegment, bytes: usize) -> bool {
        let is_sound = last.health != Health::Suspect && !self.damage.is_in(last.base);
        is_sound && last.size + bytes <= self.config.segment_bytes
    }

    /// Takes in what a [`RoomJob`] brought. When a segment was rolled, the job that puts the old one
    /// into its final form is returned. Where the last segment turns out to be damaged there is no room
    /// yet: the next job creates another.
    ///
    /// # Errors
    /// The job's own error, handed through: there is no room.
    pub fn room_done(
        &mut self,
        result: io::Result<Room>,
        now_ms: i64,
    ) -> io::Result<Option<SealJob>> {
        let is_reopening = !self.rolling && self.active.is_none();
        self.making_room = false;
        self.rolling = false;
        let is_damaged = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
        if is_reopening
            && result.as_ref().is_err_and(is_damaged)
            && let Some(last) = self.sealed.back_mut()
        {
            last.suspect();
            return Ok(None);
        }
        match result? {
            Room::Grown(reserved) => {
                if let Some(active) = &mut self.active {
                    active.writer.extend(reserved);
                }
                Ok(None)
            }
            Room::Opened(opened) => {
                let seal = self.seal_active(now_ms)?;
                self.adopt(opened, now_ms);
                Ok(seal)
            }
        }
    }

    fn adopt(&mut self, opened: OpenedSegment, now_ms: i64) {
        assert!(
            !opened.writer.is_empty() || opened.base == self.offsets.end,
            "a new segment starts at the log's end"
        );
        if self.last_sealed_base() == Some(opened.base) {
            self.sealed.pop_back();
        }
        self.active = Some(ActiveSegment {
            base: opened.base,
            recent: Recent::starting_at(opened.writer.len(), now_ms),
            file: opened.file,
            writer: opened.writer,
            index: opened.index,
            index_flushed: opened.index_flushed,
            started_ms: now_ms,
            appended_ms: now_ms,
        });
    }

    /// Closes the active segment, without another one to take its place; its file gets its final form
    /// by the job returned.
    pub fn close_active(&mut self, now_ms: i64) -> io::Result<Option<SealJob>> {
        let job = self.seal_active(now_ms)?;
        Ok(job.map(|job| SealJob {
            is_last: true,
            ..job
        }))
    }

    fn seal_active(&mut self, now_ms: i64) -> io::Result<Option<SealJob>> {
        let Some(active) = self.active.take() else {
            return Ok(None);
        };
        let size = active.size();
        let job = SealJob {
            dir: self.dir.clone(),
            base: active.base,
            file: Arc::clone(&active.file),
            size: size as u64,
            index: active
                .index
                .tail(active.index_flushed..active.index.index.len()),
            is_last: false,
            sync: true,
        };
        if self.synced.offset < self.offsets.end {
            self.unsynced.push(active.file);
        }
        let reader = active.writer.seal();
        self.sealed.push_back(SealedSegment {
            max_timestamp: Some(active.index.max_timestamp),
            modified_ms: active.appended_ms,
            loaded: Some(LoadedSegment {
                view: SegmentView {
                    base: active.base,
                    reader,
                    index: Arc::new(active.index.index),
                },
                used_ms: now_ms,
            }),
            ..SealedSegment::new(active.base, self.offsets.end, size)
        });
        self.sealing += 1;
        Ok(Some(job))
    }

    /// Takes note that a [`SealJob`] ended. One that failed poisons the log, for it syncs; and as it
    /// holds later checkpoints back, the next start reads that segment again.
    pub fn seal_done(&mut self, result: &io::Result<()>) {
        match result {
            Ok(()) => self.sealing -= 1,
            Err(_) => self.poisoned = true,
        }
    }
}

impl ActiveSegment {
    /// Appends a batch that fits, at the offset that `header` (already positioned) says, at the time
    /// `now_ms`.
    ///
    /// # Errors
    /// See [`MapWriter::append`](crate::io::map::MapWriter::append).
    pub fn append(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        append_time_ms: Option<i64>,
        now_ms: i64,
    ) -> io::Result<()> {
        let (base_offset, epoch) = (header.base_offset, header.leader_epoch);
        let head = batch::stored_header(bytes, base_offset, epoch, append_time_ms);
        let position = self.writer.len();
        self.writer.append([&head, &bytes[batch::HEADER_BYTES..]])?;
        self.recent.note(position, now_ms);
        self.appended_ms = now_ms;
        self.index.note(position, header);
        Ok(())
    }
}
