//! The cleaner beside the log: its steps, and swaps among the log's other jobs.

use super::rng::Rng;
use super::{Driver, Job};
use millstream::io::fault::{self, Op};
use millstream::log::compact::{
    CompactError, CompactJob, CompactLimits, CompactStep, Compaction, CompactionConfig, SwapError,
    SwapJob,
};
use std::fs::{self, File};
use std::io;

/// A job that is under way, or one whose swap failed and could not be undone.
pub struct Running {
    job: CompactJob,
    /// What a swap that the log was not told of will put in place.
    swap: Option<Pending>,
}

struct Pending {
    /// Of the segments that go.
    bases: Vec<i64>,
    end: i64,
    new: Vec<u8>,
}

pub fn config(rng: &mut Rng) -> CompactionConfig {
    CompactionConfig {
        delete_retention_ms: rng.below(1000) as i64,
        min_dirty_ratio: rng.below(6) as f64 / 10.0,
        min_lag_ms: if rng.one_in(3) {
            rng.below(400) as i64
        } else {
            0
        },
        max_lag_ms: if rng.one_in(3) { 200 } else { i64::MAX },
    }
}

impl Driver {
    pub fn compact(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            match &self.cleaning {
                None => self.start_cleaning(),
                Some(running) if running.swap.is_none() => self.step_cleaning(),
                Some(_) => {}
            }
        }
    }

    fn start_cleaning(&mut self) {
        let limits = CompactLimits {
            map_bytes: if self.rng.one_in(4) { 600 } else { 1 << 16 },
            io_bytes_per_second: u64::MAX,
        };
        match self.log.compaction(self.now_ms, limits) {
            Compaction::Nothing | Compaction::NeedsCheckpoint => {}
            Compaction::Load(job) => {
                self.load(job);
            }
            Compaction::Clean(job) => {
                self.say(format_args!("begin to compact"));
                self.cleaning = Some(Running {
                    job: *job,
                    swap: None,
                });
            }
        }
    }

    fn step_cleaning(&mut self) {
        let Some(mut running) = self.cleaning.take() else {
            return;
        };
        if self.faulty && self.rng.one_in(6) {
            self.inject(&[Op::Open, Op::Write, Op::Rename, Op::Remove, Op::Sync]);
        }
        let step = running.job.step();
        fault::clear();
        match step {
            Ok(CompactStep::Done) => self.log.compaction_done(&running.job, &Ok(())),
            Err(error) => {
                assert!(self.faulty, "{error}");
                self.log.compaction_done(&running.job, &Err(error));
            }
            Ok(CompactStep::Swap(swap)) => {
                let bases = &swap.manifest.old_bases;
                let name = format!("{:020}.log.cleaned", bases[0]);
                let new = fs::read(self.disk.log_dir().join(name)).unwrap();
                assert_eq!(new.len() as u64, swap.manifest.new_bytes);
                let last = bases.last().unwrap();
                let later = self.disk.segment_bases().into_iter();
                let end = later.filter(|base| base > last).min();
                running.swap = Some(Pending {
                    bases: bases.clone(),
                    end: end.expect("what is compacted has a segment behind it"),
                    new,
                });
                self.log.swap_begin(&swap);
                self.jobs.push_back(Job::Swap(swap));
                self.cleaning = Some(running);
            }
        }
    }

    /// Segments that the log still reads until it is told of the swap, though their files may be gone.
    pub fn bases_in_swap(&self) -> Vec<i64> {
        let pending = self
            .cleaning
            .as_ref()
            .and_then(|running| running.swap.as_ref());
        pending.map_or(Vec::new(), |pending| pending.bases.clone())
    }

    pub fn swap_done(&mut self, swap: &SwapJob, result: &Result<Vec<File>, SwapError>) {
        self.log.swap_done(swap, result);
        let Some(mut running) = self.cleaning.take() else {
            return;
        };
        let pending = running.swap.take().expect("a swap was under way");
        let is_renamed = result
            .as_ref()
            .map_or_else(|failed| failed.is_renamed, |_| true);
        if is_renamed {
            self.model
                .compact(pending.bases[0], pending.end, &pending.new, self.now_ms);
        }
        match result {
            Ok(_) => self.cleaning = Some(running),
            Err(failed) => {
                assert!(self.faulty, "{}", failed.error);
                let error = CompactError::Io(io::Error::other("the swap failed"));
                self.log.compaction_done(&running.job, &Err(error));
                // The next start goes by what is on the disk.
                if failed.is_unsettled && !failed.is_renamed {
                    running.swap = Some(pending);
                    self.unsettled = Some(running);
                }
            }
        }
    }

    /// After a start: a swap that was under way happened wholly or not at all.
    pub fn settle_swap(&mut self, running: Running) {
        let Some(pending) = running.swap else {
            return;
        };
        let path = self
            .disk
            .log_dir()
            .join(format!("{:020}.log", pending.bases[0]));
        if fs::read(path).is_ok_and(|found| found == pending.new) {
            self.say(format_args!("the swap of {} happened", pending.bases[0]));
            self.model
                .compact(pending.bases[0], pending.end, &pending.new, self.now_ms);
        }
    }
}
