//! Selects segments for compaction and applies a job's result.

use super::map::OffsetMap;
use super::swap::{SwapError, SwapJob};
use super::throttle::Throttle;
use super::{CompactError, CompactJob, CompactLimits, CompactReport, CompactionConfig, Source};
use crate::log::Log;
use crate::log::load::LoadJob;
use crate::log::segment::{Health, SealedSegment};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;

/// The next step of compaction.
pub enum Compaction {
    Nothing,
    /// Run it, hand in what it brought, and ask again.
    Load(LoadJob),
    /// Something is due as soon as there is a checkpoint behind it. One is asked for: flush, and ask again
    /// later.
    NeedsCheckpoint,
    /// Run its steps on the cleaner's thread, then call [`Log::compaction_done`].
    Clean(Box<CompactJob>),
}

/// How much of a log waits to be compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Debt {
    /// Bytes of sealed segments that were not compacted since they were written.
    pub dirty_bytes: u64,
    /// Bytes of all sealed segments.
    pub total_bytes: u64,
}

impl Debt {
    pub fn ratio(&self) -> f64 {
        match self.total_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }
}

enum Due {
    /// For as many segments, from the first on.
    Now(usize),
    AfterCheckpoint,
    Later,
}

impl Log {
    /// What waits to be compacted; nothing unless the topic is compacted.
    pub fn compaction_debt(&self) -> Debt {
        match self.config.compaction {
            Some(_) => self.debt_of(self.sealed.iter()),
            None => Debt::default(),
        }
    }

    fn debt_of<'a>(&self, segments: impl Iterator<Item = &'a SealedSegment>) -> Debt {
        let first_dirty = self.compaction.state.first_dirty;
        let mut debt = Debt::default();
        for segment in segments {
            debt.total_bytes += segment.size as u64;
            if segment.end > first_dirty {
                debt.dirty_bytes += segment.size as u64;
            }
        }
        debt
    }

    /// The next thing to do for compaction: by the share of dirty bytes, the age of what is dirty, and
    /// the tombstones whose time is over.
    pub fn compaction(&mut self, now_ms: i64, limits: CompactLimits) -> Compaction {
        let Some(config) = self.config.compaction.clone() else {
            return Compaction::Nothing;
        };
        if self.poisoned || self.compaction.is_running || self.compaction.is_stuck {
            return Compaction::Nothing;
        }
        match self.next_compaction(&config, now_ms) {
            Ok(Due::Now(count)) => {
                Compaction::Clean(Box::new(self.compact_job(config, count, now_ms, limits)))
            }
            Ok(Due::AfterCheckpoint) => {
                self.checkpoint_wanted = true;
                Compaction::NeedsCheckpoint
            }
            Ok(Due::Later) => Compaction::Nothing,
            Err(load) => Compaction::Load(load),
        }
    }

    fn next_compaction(&self, config: &CompactionConfig, now_ms: i64) -> Result<Due, LoadJob> {
        let count = self.count_compactable(config, self.checkpoint_base, now_ms)?;
        if self.is_compaction_due(config, count, now_ms)? {
            return Ok(Due::Now(count));
        }
        // A trickle takes long to bring the next checkpoint by itself, and old values must go in time.
        let later = self.count_compactable(config, self.last_base().unwrap_or(0), now_ms)?;
        let is_due = later > count && self.is_compaction_due(config, later, now_ms)?;
        Ok(if is_due {
            Due::AfterCheckpoint
        } else {
            Due::Later
        })
    }

    /// How many segments, from the first on, are in their final form on disk and old enough, with a
    /// checkpoint that points into the segment at `checkpoint_base`.
    fn count_compactable(
        &self,
        config: &CompactionConfig,
        checkpoint_base: i64,
        now_ms: i64,
    ) -> Result<usize, LoadJob> {
        let mut count = 0;
        for segment in &self.sealed {
            // The checkpoint on disk was made when all before its own segment were complete. That one,
            // empty or not, may be opened again and appended to.
            if segment.base >= checkpoint_base || segment.end > checkpoint_base {
                break;
            }
            if segment.health == Health::Suspect {
                return Err(self.load_job(segment));
            }
            // Damage stays as it is, and compaction must leave a whole log.
            if self.damage.is_in(segment.base) {
                break;
            }
            let is_dirty = segment.end > self.compaction.state.first_dirty;
            if is_dirty && config.min_lag_ms > 0 {
                let newest = segment.newest_ms().ok_or_else(|| self.load_job(segment))?;
                if now_ms.saturating_sub(newest) < config.min_lag_ms {
                    break;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    fn is_compaction_due(
        &self,
        config: &CompactionConfig,
        count: usize,
        now_ms: i64,
    ) -> Result<bool, LoadJob> {
        let state = &self.compaction.state;
        if count == 0 {
            return Ok(false);
        }
        let mut compactable = self.sealed.iter().take(count);
        let debt = self.debt_of(compactable.clone());
        let is_dirty = debt.dirty_bytes > 0 && debt.ratio() >= config.min_dirty_ratio;
        let has_expired = state.last_horizon_ms >= 0 && now_ms >= state.last_horizon_ms;
        if is_dirty || has_expired {
            return Ok(true);
        }
        let oldest = compactable.find(|it| it.end > state.first_dirty && it.size > 0);
        let Some(oldest) = oldest.filter(|_| config.max_lag_ms < i64::MAX) else {
            return Ok(false);
        };
        let written_ms = match oldest.first_timestamp {
            None => return Err(self.load_job(oldest)),
            Some(-1) => oldest.modified_ms,
            Some(timestamp) => timestamp,
        };
        Ok(now_ms.saturating_sub(written_ms) > config.max_lag_ms)
    }

    fn compact_job(
        &mut self,
        config: CompactionConfig,
        count: usize,
        now_ms: i64,
        limits: CompactLimits,
    ) -> CompactJob {
        self.compaction.is_running = true;
        let source = |segment: &SealedSegment| Source {
            base: segment.base,
            end: segment.end,
            size: segment.size,
        };
        let cancelled = Arc::clone(&self.compaction.cancelled);
        CompactJob {
            dir: self.dir.clone(),
            now_ms,
            config,
            segment_bytes: self.config.segment_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            map_bytes: limits.map_bytes,
            segments: self.sealed.iter().take(count).map(source).collect(),
            state: self.compaction.state,
            gaps_end: self.compaction.known_gaps_end(),
            throttle: Throttle::new(limits.io_bytes_per_second, cancelled),
            producers: HashMap::new(),
            has_begun: false,
            map: OffsetMap::new(0, 0),
            map_end: 0,
            groups: VecDeque::new(),
            last_horizon_ms: -1,
            report: CompactReport::default(),
        }
    }

    /// Takes note that a swap is handed to the worker: from now on the segments' files may be the old
    /// ones or the new one.
    pub fn swap_begin(&mut self, swap: &SwapJob) {
        let bases = &swap.manifest.old_bases;
        let last = bases.last().copied().unwrap_or(-1);
        self.compaction.swapping = Some(swap.manifest.base()..last + 1);
    }

    /// Takes in what a swap did.
    pub fn swap_done(&mut self, swap: &SwapJob, result: &Result<Vec<File>, SwapError>) {
        self.compaction.swapping = None;
        self.compaction.era += 1;
        if let Err(error) = result {
            self.compaction.is_stuck |= error.is_unsettled;
            if !error.is_renamed {
                return;
            }
        }
        let manifest = &swap.manifest;
        let is_old = |segment: &SealedSegment| manifest.old_bases.contains(&segment.base);
        let Some(first) = self.sealed.iter().position(is_old) else {
            return;
        };
        let count = manifest.old_bases.len();
        let old = self.sealed.range(first..first + count);
        let end = old.clone().map(|segment| segment.end).max().unwrap_or(0);
        let new = SealedSegment {
            max_timestamp: Some(swap.max_timestamp),
            modified_ms: old.map(|segment| segment.modified_ms).max().unwrap_or(0),
            ..SealedSegment::new(manifest.base(), end, manifest.new_bytes as usize)
        };
        self.sealed.drain(first + 1..first + count);
        self.sealed[first] = new;
    }

    /// Takes note that a job was lost, and with it perhaps a swap in the middle of its work.
    pub fn compaction_lost(&mut self) {
        let swap_lost = self.compaction.swapping.take().is_some();
        self.compaction.is_stuck |= swap_lost;
        self.compaction.era += 1;
        self.compaction.is_running = false;
    }

    /// Takes note that a job ended: [`CompactJob::step`] said so, or failed, or a swap did.
    pub fn compaction_done(&mut self, job: &CompactJob, result: &Result<(), CompactError>) {
        self.compaction.is_running = false;
        match result {
            Ok(()) => self.compaction.state = job.state,
            Err(_) => {
                let gaps_end = &mut self.compaction.state.gaps_end;
                *gaps_end = job.state.gaps_end.max(*gaps_end);
            }
        }
    }

    /// Whether a swap failed in a way that only the next start can settle.
    pub fn is_compaction_stuck(&self) -> bool {
        self.compaction.is_stuck
    }

    /// Whether a compaction of this log runs.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_running
    }

    /// Asks a running compaction to end soon.
    pub fn cancel_compaction(&self) {
        self.compaction.cancel();
    }
}
