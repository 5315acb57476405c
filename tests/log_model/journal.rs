//! Flushes whose bytes go to a journal instead of the segments, and what brings them there later.

use super::{Driver, Job, RunningFlush, TOPIC, Turn, snapshot};
use millstream::io::fault::{self, Op};
use millstream::io::file;
use millstream::log::WriteBack;
use millstream::log::journal::{self, Entry, Target};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// An entry of the journal.
pub struct Journaled {
    segment_base: i64,
    position: usize,
    bytes: Vec<u8>,
    /// The offset after its records.
    end: i64,
    /// Whether the journal was synced: else a crash can leave it or not.
    is_durable: bool,
}

pub struct RunningWriteBack {
    write_back: WriteBack,
    unsynced: Vec<Arc<File>>,
    result: io::Result<()>,
    turn: Turn,
    /// A checkpoint waits for it.
    for_checkpoint: bool,
}

impl RunningWriteBack {
    fn new(write_back: WriteBack, for_checkpoint: bool) -> RunningWriteBack {
        RunningWriteBack {
            unsynced: write_back.files.clone(),
            write_back,
            result: Ok(()),
            turn: Turn::default(),
            for_checkpoint,
        }
    }
}

impl Driver {
    /// Starts a flush by way of the journal, if the log lets it.
    pub fn journal_begin(&mut self) -> Option<RunningFlush> {
        let end = self.log.offsets().end;
        let tail = self.log.journal_tail()?;
        self.journal.push(Journaled {
            segment_base: tail.segment_base,
            position: tail.position,
            bytes: tail.bytes.to_vec(),
            end,
            is_durable: false,
        });
        let padding = self.rng.below(40) as usize;
        let flush = self.log.flush_begin(|| snapshot(end, padding));
        Some(RunningFlush {
            flush: flush.expect("there is something to flush"),
            end,
            unsynced: Vec::new(),
            result: Ok(()),
            turn: Turn::default(),
            journaled: true,
        })
    }

    pub fn journal_end(&mut self, flush: millstream::log::Flush) {
        let last = self.journal.last_mut().expect("it was journaled");
        last.is_durable = true;
        let write_back = self.log.flush_journaled(flush);
        let running = write_back.map(|one| RunningWriteBack::new(one, true));
        self.write_backs.extend(running);
    }

    /// Starts, goes on with or ends a write-back. One that a checkpoint waits for may run beside another.
    pub fn write_back(&mut self) {
        let is_running = self.write_backs.iter().any(|one| !one.for_checkpoint);
        if !is_running && (self.write_backs.is_empty() || self.rng.one_in(3)) {
            let begun = self.log.write_back_begin();
            let running = begun.map(|one| RunningWriteBack::new(one, false));
            self.write_backs.extend(running);
            return;
        }
        let at = self.rng.below(self.write_backs.len() as u64) as usize;
        self.go_on_with_write_back(at);
    }

    pub fn finish_write_backs(&mut self) {
        while !self.write_backs.is_empty() {
            self.go_on_with_write_back(0);
            // It may be a flush that has the turn.
            self.finish_flush();
        }
    }

    /// Goes on with the write-backs: one of them may have the turn.
    pub fn go_on_with_write_backs(&mut self) {
        for _ in 0..self.write_backs.len() {
            self.go_on_with_write_back(0);
        }
    }

    fn go_on_with_write_back(&mut self, at: usize) {
        let mut running = self.write_backs.swap_remove(at);
        if !running.unsynced.is_empty() && !running.turn.take(&self.log) {
            self.write_backs.push(running);
            return;
        }
        if let Some(file) = running.unsynced.pop() {
            let fails = self.faulty && self.rng.one_in(40);
            if fails || self.disk.owes_error(&file) {
                fault::inject(Op::Sync, 0, 5, false);
            }
            if let Err(error) = file::sync_data(&file) {
                running.result = Err(error);
            }
            fault::clear();
            // As between two pieces: what succeeded needs no turn until the next.
            if running.result.is_ok() && self.rng.one_in(2) {
                running.turn = Turn::default();
            }
            self.write_backs.push(running);
            return;
        }
        let job = self.log.write_back_end(running.write_back, &running.result);
        self.jobs.extend(job.map(Job::Checkpoint));
        assert!(running.result.is_ok() || self.log.is_poisoned());
        let synced = self.log.synced_offset();
        self.say(format_args!("written back to {synced}"));
        assert!(synced <= self.log.offsets().durable);
        // The log says that it needs them no more.
        self.journal.retain(|entry| entry.end > synced);
    }

    /// What a start does first.
    pub fn restore_journal(&mut self) {
        self.write_backs.clear();
        let mut kept = std::mem::take(&mut self.journal);
        kept.retain(|entry| entry.is_durable || self.rng.one_in(2));
        // The order makes no difference.
        if self.rng.one_in(2) {
            kept.reverse();
        }
        let entries: Vec<Entry<'_>> = kept.iter().map(Journaled::entry).collect();
        for _ in 0..1 + self.rng.below(2) {
            journal::restore(&self.disk.log_dir(), TOPIC, &entries).expect("restored");
        }
    }
}

impl Journaled {
    fn entry(&self) -> Entry<'_> {
        Entry {
            target: Target {
                topic_id: TOPIC,
                partition: 0,
                segment_base: self.segment_base,
                position: self.position as u32,
            },
            bytes: &self.bytes,
        }
    }
}
