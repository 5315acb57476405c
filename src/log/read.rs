//! Reading by offset and by time.

use super::HOT_BYTES;
use super::Log;
use super::Mark;
use super::Offsets;
use super::READ_BYTES_MAX;
use super::Read;
use super::ReadError;
use super::TimeLookup;
use super::check::damage::Damage;
use super::check::order::Expected;
use super::index;
use super::load::LoadJob;
use super::load::Loaded;
use super::load::Surveyed;
use super::segment;
use super::segment::Health;
use super::segment::LoadedSegment;
use super::segment::ReadLimit;
use super::segment::SealedSegment;
use super::segment::SegmentView;
use crate::io::map::MapReader;

impl Log {
    /// Reads whole batches from the one that holds `offset` on, durable ones only, at most
    /// `max_bytes` (but one whole batch when `at_least_one`), from one segment.
    ///
    /// Where compaction took records away, an offset may lie in none of the batches: then the first
    /// one is the next behind it.
    ///
    /// `assume_resident` skips the check that the pages are in memory: for the read after a load.
    pub fn read(
        &mut self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        assume_resident: bool,
        now_ms: i64,
    ) -> Result<Read, ReadError> {
        let Offsets {
            start,
            durable,
            end,
        } = self.offsets;
        if self.is_offline {
            return Err(ReadError::Offline);
        }
        if offset > end && self.is_end_lost {
            // Told that it is out of range, a consumer would go somewhere else.
            return Err(ReadError::EndLost { asked: offset });
        }
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        if let Some(found) = self.damage.at(offset) {
            return Err(found.refuse(offset));
        }
        if offset >= durable {
            return Ok(Read::Empty);
        }
        let limit = |durable_end| ReadLimit {
            end: durable_end,
            max_bytes: max_bytes.min(READ_BYTES_MAX),
            at_least_one,
        };
        let durable_mark = self.durable;
        if let Some(active) = self.active.as_ref().filter(|active| offset >= active.base) {
            let limit = limit(durable_position(&durable_mark, active.base, active.size()));
            let recent_from = active.recent.begin_at(active.size(), now_ms);
            let hot_from = active.size().saturating_sub(HOT_BYTES).max(recent_from);
            let reader = active.writer.reader();
            let index = &active.index.index;
            let from = index.position_of_offset((offset - active.base) as u32) as usize;
            let resident = assume_resident || from >= hot_from;
            return slice(
                &reader,
                index,
                active.base,
                offset,
                (0, limit),
                &durable_mark,
                resident,
            );
        }
        let at = self.sealed.partition_point(|segment| segment.end <= offset);
        let Some(segment) = self.sealed.get_mut(at) else {
            return Ok(Read::Empty);
        };
        let Some(loaded) = &mut segment.loaded else {
            return Ok(Read::Load(self.load_job(&self.sealed[at])));
        };
        loaded.used_ms = now_ms;
        let end = durable_position(&durable_mark, segment.base, segment.size);
        let sound = self.damage.sound_bytes(segment.base, offset, end);
        let view = &loaded.view;
        let found = slice(
            &view.reader,
            &view.index,
            view.base,
            offset,
            (sound.start, limit(sound.end)),
            &durable_mark,
            assume_resident,
        );
        match found {
            Err(ReadError::Corrupt { .. }) if self.doubt(offset) => {
                Ok(Read::Load(self.load_job(&self.sealed[at])))
            }
            found => found,
        }
    }

    /// Takes note that the sealed segment with this offset could not be read as it should: before it is
    /// read again all of it is checked. False when that was done before.
    pub fn doubt(&mut self, offset: i64) -> bool {
        let at = self.sealed.partition_point(|segment| segment.end <= offset);
        let segment = self.sealed.get_mut(at);
        let Some(segment) = segment.filter(|found| found.health != Health::Surveyed) else {
            return false;
        };
        segment.health = Health::Suspect;
        segment.loaded = None;
        true
    }

    /// Whether the log has a sealed segment that begins at this offset.
    pub fn has_sealed(&self, base: i64) -> bool {
        self.sealed.iter().any(|segment| segment.base == base)
    }

    /// Takes in what a [`LoadJob`] brought. Returns the damage that was found and not known before.
    pub fn load_done(&mut self, loaded: Loaded, now_ms: i64) -> Vec<Damage> {
        // It may be of a segment that was replaced in the meantime; whoever wants it asks again.
        match loaded {
            Loaded::Segment { era, .. } if era != self.compaction.era => {}
            Loaded::Surveyed(surveyed) if surveyed.era != self.compaction.era => {}
            Loaded::Surveyed(surveyed) => return self.survey_done(surveyed, now_ms),
            loaded => self.open_done(loaded, now_ms),
        }
        Vec::new()
    }

    fn open_done(&mut self, loaded: Loaded, now_ms: i64) {
        let Loaded::Segment {
            view,
            max_timestamp,
            first_timestamp,
            modified_ms,
            ends_at,
            ..
        } = loaded
        else {
            return;
        };
        let segment = self
            .sealed
            .iter_mut()
            .find(|segment| segment.base == view.base && segment.size == view.reader.len());
        let Some(segment) = segment else {
            return;
        };
        let is_whole = ends_at == (segment.size, segment.end)
            || self
                .damage
                .is_last_from(segment.base, ends_at.0, segment.size);
        if !is_whole && segment.health != Health::Surveyed {
            segment.health = Health::Suspect;
            return;
        }
        segment.max_timestamp = Some(max_timestamp);
        segment.first_timestamp = Some(first_timestamp);
        segment.modified_ms = modified_ms;
        segment.loaded = Some(LoadedSegment {
            view,
            used_ms: now_ms,
        });
    }

    fn survey_done(&mut self, surveyed: Surveyed, now_ms: i64) -> Vec<Damage> {
        let base = surveyed.base;
        let Some(segment) = self.sealed.iter_mut().find(|found| found.base == base) else {
            return Vec::new();
        };
        segment.health = Health::Surveyed;
        segment.size = surveyed.size;
        segment.max_timestamp = Some(surveyed.max_timestamp);
        segment.first_timestamp = Some(surveyed.first_timestamp);
        // What cannot be read ages from now on.
        segment.modified_ms = surveyed.modified_ms.unwrap_or(now_ms);
        segment.loaded = surveyed.view.map(|view| LoadedSegment {
            view,
            used_ms: now_ms,
        });
        self.damage.forget_below(self.offsets.start);
        self.damage.add(surveyed.damage)
    }

    /// The first batch at or after `from_offset` that may hold a record as late as `timestamp` (ms).
    pub fn batch_at_time(&mut self, timestamp: i64, from_offset: i64, now_ms: i64) -> TimeLookup {
        let from_offset = from_offset.max(self.offsets.start);
        let durable = self.durable;
        for segment in &mut self.sealed {
            if segment.end <= from_offset || segment.base >= durable.offset {
                continue;
            }
            match segment.max_timestamp {
                Some(max) if max < timestamp => continue,
                _ => {}
            }
            if segment.size == 0 {
                continue;
            }
            let Some(loaded) = &mut segment.loaded else {
                let base = segment.base;
                return self.load_for_lookup(base);
            };
            loaded.used_ms = now_ms;
            let end = durable_position(&durable, segment.base, segment.size);
            let SegmentView {
                base,
                reader,
                index,
            } = &loaded.view;
            for piece in self.damage.sound_pieces(*base, end) {
                let from = (piece.start, from_offset);
                let found =
                    segment::locate_timestamp(reader, index, *base, timestamp, from, piece.end);
                if let Some(batch) = found {
                    return TimeLookup::Batch(batch);
                }
            }
        }
        let Some(active) = &self.active else {
            return TimeLookup::NotFound;
        };
        let end = durable_position(&durable, active.base, active.size());
        let (reader, index) = (active.writer.reader(), &active.index.index);
        let from = (0, from_offset);
        segment::locate_timestamp(&reader, index, active.base, timestamp, from, end)
            .map_or(TimeLookup::NotFound, TimeLookup::Batch)
    }

    /// The highest timestamp (ms) in the log, `Ok(-1)` when there is none, or what must be loaded to
    /// tell.
    pub fn max_timestamp(&self) -> Result<i64, LoadJob> {
        let mut max = self
            .active
            .as_ref()
            .map_or(-1, |active| active.index.max_timestamp);
        for segment in self.sealed.iter().filter(|segment| segment.size > 0) {
            match segment.max_timestamp {
                Some(timestamp) => max = max.max(timestamp),
                None => return Err(self.load_job(segment)),
            }
        }
        Ok(max)
    }

    fn load_for_lookup(&self, base: i64) -> TimeLookup {
        let segment = self.sealed.iter().find(|segment| segment.base == base);
        segment.map_or(TimeLookup::NotFound, |segment| {
            TimeLookup::Load(self.load_job(segment))
        })
    }

    /// The job that maps a sealed segment and tells its timestamps.
    pub(super) fn load_job(&self, segment: &SealedSegment) -> LoadJob {
        if self.compaction.is_swapping(segment.base) {
            return LoadJob::Wait;
        }
        let (dir, era) = (self.dir.clone(), self.compaction.era);
        match segment.health {
            Health::Suspect => LoadJob::Survey {
                dir,
                expected: self.expected_of(segment),
                index_interval_bytes: self.config.index_interval_bytes,
                era,
            },
            Health::Unknown | Health::Surveyed => LoadJob::Open {
                dir,
                base: segment.base,
                size: segment.size,
                index_interval_bytes: self.config.index_interval_bytes,
                era,
            },
        }
    }

    pub(super) fn expected_of(&self, segment: &SealedSegment) -> Expected {
        Expected {
            base: segment.base,
            end: segment.end,
            gaps_end: match &self.config.compaction {
                Some(_) => self.compaction.known_gaps_end(),
                None => self.compaction.state.gaps_end,
            },
            known: None,
        }
    }
}

fn durable_position(durable: &Mark, segment_base: i64, size: usize) -> usize {
    match segment_base.cmp(&durable.segment_base) {
        std::cmp::Ordering::Less => size,
        std::cmp::Ordering::Equal => durable.position,
        std::cmp::Ordering::Greater => 0,
    }
}

fn slice(
    reader: &MapReader,
    index: &index::Index,
    segment_base: i64,
    offset: i64,
    (from_min, limit): (usize, ReadLimit),
    durable: &Mark,
    resident: bool,
) -> Result<Read, ReadError> {
    let relative = (offset - segment_base) as u32;
    let from = (index.position_of_offset(relative) as usize).max(from_min);
    let to = from.saturating_add(limit.max_bytes).min(limit.end);
    if !resident && from < to && !reader.is_resident(from..to) {
        return Ok(Read::Load(LoadJob::Populate {
            reader: reader.clone(),
            range: from..to,
        }));
    }
    match segment::locate(reader, index, offset, from, limit) {
        Ok(range) if range.is_empty() => Ok(Read::Empty),
        Ok(range) => Ok(Read::Data {
            reaches_end: range.end == durable.position && segment_base == durable.segment_base,
            records: reader.slice(range),
        }),
        Err(_) => Err(ReadError::Corrupt {
            asked: offset,
            segment_base,
        }),
    }
}
