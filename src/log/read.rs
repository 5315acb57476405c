//! Reading by offset and by time.

use super::check::damage::Damage;
use super::check::order::Expected;
use super::load::{Checked, LoadJob, Loaded, SegmentToLoad};
use super::segment::{Health, LoadedSegment, Lookup, ReadLimit, SealedSegment};
use super::{HOT_BYTES, Log, Mark, Offsets, READ_BYTES_MAX, Read, ReadError, TimeLookup};
use std::cmp::Ordering;

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
            // On "out of range", a consumer would move to another offset.
            return Err(ReadError::EndLost { asked: offset });
        }
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        // Before damage is asked for: what a failed sync lost was never there for a reader.
        if offset >= durable {
            return Ok(Read::Empty);
        }
        if let Some(found) = self.damage.at(offset) {
            return Err(found.refuse(offset));
        }
        let mut limit = ReadLimit {
            start: 0,
            end: 0,
            max_bytes: max_bytes.min(READ_BYTES_MAX),
            at_least_one,
        };
        let durable = self.durable;
        if let Some(active) = self.active.as_ref().filter(|active| offset >= active.base) {
            let size = active.size();
            limit.end = durable.position_in(active.base, size);
            let hot_from = size.saturating_sub(HOT_BYTES);
            let hot_from = hot_from.max(active.recent.begin_at(size, now_ms));
            let reader = active.writer.reader();
            let lookup = Lookup {
                base: active.base,
                reader: &reader,
                index: &active.index.index,
            };
            let resident = assume_resident || lookup.position_before(offset) >= hot_from;
            return slice(&lookup, offset, limit, &durable, resident);
        }
        let at = self.sealed.partition_point(|segment| segment.end <= offset);
        let Some(segment) = self.sealed.get_mut(at) else {
            return Ok(Read::Empty);
        };
        let Some(loaded) = &mut segment.loaded else {
            return Ok(Read::Load(self.load_job(&self.sealed[at])));
        };
        loaded.used_ms = now_ms;
        let end = durable.position_in(segment.base, segment.size);
        let sound = self.damage.sound_bytes(segment.base, offset, end);
        (limit.start, limit.end) = (sound.start, sound.end);
        match slice(
            &loaded.view.lookup(),
            offset,
            limit,
            &durable,
            assume_resident,
        ) {
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
        segment.suspect();
        true
    }

    /// Whether the log has a sealed segment that begins at this offset.
    pub fn has_sealed(&self, base: i64) -> bool {
        self.sealed.iter().any(|segment| segment.base == base)
    }

    /// Takes in what a [`LoadJob`] brought. Returns the damage that was found and not known before.
    pub fn load_done(&mut self, loaded: Loaded, now_ms: i64) -> Vec<Damage> {
        let mut new = Vec::new();
        // The segment may have been replaced in the meantime; then it is loaded again when it is needed.
        let Loaded::Segment(loaded) = loaded else {
            return new;
        };
        let mut sealed = self.sealed.iter_mut();
        let segment = sealed.find(|segment| segment.base == loaded.base);
        let Some(segment) = segment.filter(|_| loaded.era == self.compaction.era) else {
            return new;
        };
        match loaded.checked {
            Checked::Headers(..) if loaded.size != segment.size => return new,
            Checked::Headers(position, offset) => {
                let is_whole = (position, offset) == (segment.size, segment.end)
                    || self
                        .damage
                        .is_last_from(segment.base, position, segment.size);
                if !is_whole && segment.health != Health::Surveyed {
                    segment.health = Health::Suspect;
                    return new;
                }
            }
            Checked::Surveyed(damage) => {
                segment.health = Health::Surveyed;
                segment.size = loaded.size;
                self.damage.forget_below(self.offsets.start);
                new = self.damage.add(damage);
            }
        }
        segment.max_timestamp = Some(loaded.max_timestamp);
        segment.first_timestamp = Some(loaded.first_timestamp);
        // What cannot be read ages from now on.
        segment.modified_ms = loaded.modified_ms.unwrap_or(now_ms);
        segment.loaded = loaded.view.map(|view| LoadedSegment {
            view,
            used_ms: now_ms,
        });
        new
    }

    /// The first batch at or after `from_offset` that may hold a record as late as `timestamp` (ms).
    pub fn batch_at_time(&mut self, timestamp: i64, from_offset: i64, now_ms: i64) -> TimeLookup {
        let from_offset = from_offset.max(self.offsets.start);
        let durable = self.durable;
        for at in 0..self.sealed.len() {
            let segment = &mut self.sealed[at];
            let is_outside = segment.end <= from_offset || segment.base >= durable.offset;
            let is_older = segment.max_timestamp.is_some_and(|max| max < timestamp);
            if is_outside || is_older || segment.size == 0 {
                continue;
            }
            let Some(loaded) = &mut segment.loaded else {
                return TimeLookup::Load(self.load_job(&self.sealed[at]));
            };
            loaded.used_ms = now_ms;
            let end = durable.position_in(segment.base, segment.size);
            let lookup = loaded.view.lookup();
            for piece in self.damage.sound_pieces(segment.base, end) {
                if let Some(batch) = lookup.locate_timestamp(timestamp, from_offset, piece) {
                    return TimeLookup::Batch(batch);
                }
            }
        }
        let Some(active) = &self.active else {
            return TimeLookup::NotFound;
        };
        let lookup = Lookup {
            base: active.base,
            reader: &active.writer.reader(),
            index: &active.index.index,
        };
        let end = durable.position_in(active.base, active.size());
        let found = lookup.locate_timestamp(timestamp, from_offset, 0..end);
        found.map_or(TimeLookup::NotFound, TimeLookup::Batch)
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

    /// The job that maps a sealed segment and finds its timestamps.
    pub(super) fn load_job(&self, segment: &SealedSegment) -> LoadJob {
        if self.compaction.is_swapping(segment.base) {
            return LoadJob::Wait;
        }
        let to_load = SegmentToLoad {
            dir: self.dir.clone(),
            expected: self.expected_of(segment),
            size: segment.size,
            index_interval_bytes: self.config.index_interval_bytes,
            era: self.compaction.era,
        };
        match segment.health {
            Health::Suspect => LoadJob::Survey(to_load),
            Health::Unknown | Health::Surveyed => LoadJob::Open(to_load),
        }
    }

    pub(super) fn expected_of(&self, segment: &SealedSegment) -> Expected {
        let gaps_end = match &self.config.compaction {
            Some(_) => self.compaction.known_gaps_end(),
            None => self.compaction.state.gaps_end,
        };
        Expected::new(segment.base, segment.end, gaps_end)
    }
}

impl Mark {
    /// How many bytes of a segment of `size` bytes lie before the mark.
    fn position_in(&self, segment_base: i64, size: usize) -> usize {
        match segment_base.cmp(&self.segment_base) {
            Ordering::Less => size,
            Ordering::Equal => self.position,
            Ordering::Greater => 0,
        }
    }
}

fn slice(
    lookup: &Lookup<'_>,
    offset: i64,
    limit: ReadLimit,
    durable: &Mark,
    resident: bool,
) -> Result<Read, ReadError> {
    let from = lookup.position_before(offset).max(limit.start);
    let to = from.saturating_add(limit.max_bytes).min(limit.end);
    if !resident && from < to && !lookup.reader.is_resident(from..to) {
        return Ok(Read::Load(LoadJob::Populate {
            reader: lookup.reader.clone(),
            range: from..to,
        }));
    }
    match lookup.locate(offset, from, limit) {
        Ok(range) if range.is_empty() => Ok(Read::Empty),
        Ok(range) => Ok(Read::Data {
            reaches_end: range.end == durable.position && lookup.base == durable.segment_base,
            records: lookup.reader.slice(range),
        }),
        Err(_) => Err(ReadError::Corrupt {
            asked: offset,
            segment_base: lookup.base,
        }),
    }
}
