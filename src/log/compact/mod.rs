//! Compaction: of the records with one key, the newest stays (`cleanup.policy=compact`).
//!
//! [`Log::compaction`] makes a [`CompactJob`] of the segments that are in their final form. It runs on
//! a thread of its own, step by step, and touches nothing that the log uses: it reads the segments'
//! files and writes new ones beside them. Each step may end with a [`SwapJob`]; that one is short, and
//! runs where the log's other jobs run, in their order. Offsets never change, so after it some are
//! missing.
//!
//! [`Log::compaction`]: super::Log::compaction

mod clean;
mod map;
mod rewrite;
mod select;
mod state;
mod swap;
#[cfg(test)]
mod tests;
mod throttle;

pub use map::KEY_BYTES;
pub use rewrite::{UNPACKED_BYTES_MAX, emptied, with_only};
pub use select::{Compaction, Debt};
pub use state::{CompactionState, FILE_NAME as STATE_FILE_NAME};
pub(super) use swap::recover as recover_swap;
pub use swap::{CLEANED_SUFFIX, FILE_NAME as SWAP_FILE_NAME, Manifest, SwapError, SwapJob};
pub use throttle::Throttle;

use clean::Batches;
use map::OffsetMap;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// What compaction needs to know of the topic's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionConfig {
    /// How long a tombstone stays after it was compacted for the first time.
    pub delete_retention_ms: i64,
    /// The share of dirty bytes from which on the log is compacted.
    pub min_dirty_ratio: f64,
    /// Records younger than this are left alone.
    pub min_lag_ms: i64,
    /// Records older than this are compacted whatever the dirty share is.
    pub max_lag_ms: i64,
}

/// What a job may use.
#[derive(Clone, Copy, Debug)]
pub struct CompactLimits {
    /// Memory for the offset map.
    pub map_bytes: usize,
    /// Read and written together.
    pub io_bytes_per_second: u64,
}

/// Why a compaction ended before its time.
#[derive(Debug, Error)]
pub enum CompactError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the segment that starts at offset {base} is damaged at byte {position}")]
    Damaged { base: i64, position: usize },
    #[error("the batch at offset {offset} unpacks to more than compaction can hold in memory")]
    TooLarge { offset: i64 },
    #[error(
        "the batch at offset {offset} has more keys than fit into log_cleaner_dedupe_buffer_bytes"
    )]
    MapTooSmall { offset: i64 },
    #[error("the log is closing")]
    Cancelled,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub dropped_records: u64,
}

/// A segment that is to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub base: i64,
    /// The offset after its last.
    pub end: i64,
    /// Bytes.
    pub size: usize,
}

/// The result of a step.
pub enum CompactStep {
    /// Run the swap, tell the log, then make the next step.
    Swap(SwapJob),
    Done,
}

/// A log's compaction from the log's own side.
#[derive(Default)]
pub(super) struct Progress {
    pub state: CompactionState,
    /// A job is under way.
    pub is_running: bool,
    /// Offsets of the segments that are being replaced: their files may be the old or the new ones.
    pub swapping: Option<Range<i64>>,
    /// A swap failed half way; the next start settles it, until then there is no other.
    pub is_stuck: bool,
    /// Counts swaps, to tell what was loaded before from what is there now.
    pub era: u64,
    pub cancelled: Arc<AtomicBool>,
}

/// Compacts a log's sealed segments; see the module.
pub struct CompactJob {
    dir: PathBuf,
    now_ms: i64,
    config: CompactionConfig,
    segment_bytes: usize,
    index_interval_bytes: usize,
    map_bytes: usize,
    /// From the log's first segment on, without a gap between them.
    segments: Vec<Source>,
    state: CompactionState,
    /// Below this offset records may have been missing before.
    gaps_end: i64,
    throttle: Throttle,
    /// The last offset of each producer that is remembered.
    producers: HashMap<i64, i64>,
    has_begun: bool,
    map: OffsetMap,
    /// The map knows all keys from the first dirty offset up to this one.
    map_end: i64,
    groups: VecDeque<Vec<Source>>,
    last_horizon_ms: i64,
    report: CompactReport,
}

impl CompactJob {
    /// Names the last offset of each producer that is remembered: without those batches, a log that
    /// lost its checkpoint would not know the producers' sequences.
    pub fn keep_producers(&mut self, last_offsets: HashMap<i64, i64>) {
        self.producers = last_offsets;
    }

    pub fn report(&self) -> CompactReport {
        self.report
    }

    /// Continues to the next swap, or to the end.
    ///
    /// # Errors
    /// See [`CompactError`]: the log is as it was after the last swap.
    pub fn step(&mut self) -> Result<CompactStep, CompactError> {
        if !self.has_begun {
            self.begin()?;
            self.has_begun = true;
        }
        while let Some(group) = self.groups.pop_front() {
            let cleaned = self.clean(&group);
            if cleaned.is_err() {
                // What cannot be removed now is removed by the next start, or written over.
                let _ = swap::remove_cleaned(&self.dir, group[0].base);
            }
            if let Some(job) = cleaned? {
                return Ok(CompactStep::Swap(job));
            }
        }
        self.state.first_dirty = self.map_end;
        self.state.last_horizon_ms = self.last_horizon_ms;
        self.write_state()?;
        Ok(CompactStep::Done)
    }

    /// A log that is closing may be deleted, and its directory may then belong to another topic.
    fn write_state(&self) -> Result<(), CompactError> {
        self.throttle.check_cancelled()?;
        Ok(self.state.write(&self.dir)?)
    }

    fn begin(&mut self) -> Result<(), CompactError> {
        self.map = self.read_keys()?;
        let map_end = self.map_end;
        self.segments.retain(|source| source.base < map_end);
        self.groups = group(&self.segments, self.segment_bytes);
        // A check of the log must know that records may be missing before they are.
        let gaps_end = self.segments.last().map_or(0, |last| last.end);
        self.state.gaps_end = self.state.gaps_end.max(gaps_end);
        self.write_state()
    }

    /// The newest offset of every key from the first dirty batch on, as far as memory allows.
    fn read_keys(&mut self) -> Result<OffsetMap, CompactError> {
        let end = self.segments.last().map_or(0, |last| last.end);
        let first_dirty = self.state.first_dirty;
        let keys = (end - first_dirty).clamp(0, u32::MAX.into()) as usize;
        let mut map = OffsetMap::new(keys, self.map_bytes);
        self.map_end = first_dirty.min(end);
        for source in self
            .segments
            .iter()
            .filter(|source| source.end > first_dirty)
        {
            let mut batches = Batches::open(&self.dir, source, self.gaps_end)?;
            while let Some(found) = batches.step()? {
                let header = &found.header;
                self.throttle.take(header.size())?;
                self.report.read_bytes += header.size() as u64;
                if header.next_offset() <= first_dirty {
                    continue;
                }
                if map.room() < header.record_count as usize {
                    let offset = header.base_offset;
                    let is_full = self.map_end > first_dirty;
                    return is_full
                        .then_some(map)
                        .ok_or(CompactError::MapTooSmall { offset });
                }
                let note = |key: &[u8], offset| map.put(key, offset);
                let noted = rewrite::for_each_key(header, batches.scan().bytes(&found), note);
                noted.map_err(|_| CompactError::TooLarge {
                    offset: header.base_offset,
                })?;
                self.map_end = header.next_offset();
            }
        }
        Ok(map)
    }
}

/// Neighbours that fit into one segment together, as Kafka groups them.
fn group(segments: &[Source], segment_bytes: usize) -> VecDeque<Vec<Source>> {
    let mut groups: VecDeque<Vec<Source>> = VecDeque::new();
    let mut bytes = 0;
    for source in segments {
        bytes += source.size;
        match groups.back_mut() {
            Some(group)
                if bytes <= segment_bytes && source.end - group[0].base <= i64::from(i32::MAX) =>
            {
                group.push(*source);
            }
            _ => {
                bytes = source.size;
                groups.push_back(vec![*source]);
            }
        }
    }
    groups
}

impl Progress {
    /// Below this offset records may be missing. Of a log whose state was lost nothing is known.
    pub fn known_gaps_end(&self) -> i64 {
        match self.state.gaps_end {
            0 => i64::MAX,
            known => known,
        }
    }

    /// Whether the files of the segment that starts at `base` are being replaced.
    pub fn is_swapping(&self, base: i64) -> bool {
        self.swapping
            .as_ref()
            .is_some_and(|range| range.contains(&base))
    }

    /// Asks a running job to end.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
