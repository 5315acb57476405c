//! What is asked before a batch is stored: does its sequence follow, which of its records are known, is what it expects
//! so.

use super::{Append, Appended, Due, Partition};
use crate::engine::EngineError;
use crate::engine::indexes::dedup::Limits;
use crate::engine::indexes::judge::{self, Judgement};
use crate::engine::indexes::known::Known;
use crate::engine::indexes::marks::Marks;
use crate::engine::indexes::rewrite::{RewriteJob, Rewritten};
use crate::engine::indexes::{Indexes, Looks};
use crate::engine::producers::{KeptBatch, Verdict};
use crate::io::clock;
use crate::io::sabotage::{self, Sabotage};
use std::collections::VecDeque;
use std::mem;

/// Message ids that are noted at a time: what they push out fits into the cache.
const IDS_PREPARED: usize = 64;

/// What is to be done with the append that waits first.
pub(super) enum Admission {
    Store,
    /// It is in the log; the second value is the offset behind it.
    Answer(Appended, i64),
    Rewrite(Box<RewriteJob>),
    /// The indexes are not there yet.
    Wait,
    Refuse(EngineError),
}

impl Partition {
    /// What the topic asks for beside the log.
    pub fn looks(&self) -> Option<Looks> {
        Looks::of(&self.topic.config).filter(|_| !self.topic.is_internal())
    }

    /// Whether the indexes are what the topic asks for; what it does not ask for (any more) goes.
    pub fn has_indexes(&mut self) -> bool {
        let Some(looks) = self.looks() else {
            if self.indexes.is_some() {
                self.indexes = None;
            }
            return true;
        };
        let indexes = self.indexes.as_ref();
        indexes.is_some_and(|indexes| indexes.looks() == looks)
    }

    /// Checks the sequence, then which records are known, then the conditions.
    pub(super) fn admit(&self, append: &Append) -> Admission {
        let header = &append.header;
        if let Some(mark) = &header.producer() {
            match self.producers.check(mark, header.last_offset_delta + 1) {
                Ok(Verdict::Append) => {}
                Ok(Verdict::Duplicate(kept)) => return self.answer_again(append, &kept),
                Err(error) => return Admission::Refuse(error.into()),
            }
        }
        // They are what the topic asks for: nothing is admitted before.
        let indexes = self.indexes.as_deref();
        let Some(marks) = &append.marks else {
            return match indexes {
                None => Admission::Store,
                Some(_) => Admission::Refuse(EngineError::Reconfigured),
            };
        };
        if marks.known.is_some() {
            return Admission::Store;
        }
        if marks.looks != indexes.map(Indexes::looks) {
            return Admission::Refuse(EngineError::Reconfigured);
        }
        if self.log.is_poisoned() {
            return Admission::Refuse(EngineError::StorageFailed);
        }
        let place = judge::Place {
            next: self.log.offsets().end,
            count: header.record_count as usize,
            limits: self.dedup_limits(clock::cautious_ms()),
        };
        match judge::judge(indexes, marks, place) {
            Judgement::Append => Admission::Store,
            Judgement::Wait => Admission::Wait,
            Judgement::Refuse(refused) => Admission::Refuse(refused.into()),
            Judgement::Without(known) if known.is_all() && header.producer().is_none() => {
                let mut end_offset = known.end();
                if sabotage::is_done(Sabotage::KnownEarly) {
                    end_offset = 0;
                }
                let appended = Appended {
                    base_offset: -1,
                    append_time_ms: -1,
                    log_start_offset: self.log.offsets().start,
                    known: Some(known),
                    is_retry: false,
                };
                Admission::Answer(appended, end_offset)
            }
            Judgement::Without(known) => Admission::Rewrite(Box::new(RewriteJob {
                batch: append.batch.clone(),
                header: *header,
                known,
                number: self.rewrites + 1,
            })),
        }
    }

    fn already_appended(&self, kept: &KeptBatch) -> (Appended, i64) {
        let appended = Appended {
            base_offset: kept.base_offset,
            append_time_ms: kept.append_time_ms,
            log_start_offset: self.log.offsets().start,
            known: None,
            is_retry: true,
        };
        (appended, kept.last_offset + 1)
    }

    /// The answer to a batch that its producer sends again. Some of its records may have been there before the
    /// batch: it says of those where they are, as the first answer did.
    fn answer_again(&self, append: &Append, kept: &KeptBatch) -> Admission {
        let (mut appended, mut end_offset) = self.already_appended(kept);
        let indexes = self.indexes.as_deref();
        let dedup = indexes.and_then(|indexes| indexes.dedup.as_ref());
        let Some((dedup, marks)) = dedup.zip(append.marks.as_ref()) else {
            return Admission::Answer(appended, end_offset);
        };
        if !marks.ids.is_empty() && !dedup.is_loaded() {
            return Admission::Wait;
        }
        let limits = self.dedup_limits(clock::cautious_ms());
        let own = kept.base_offset..=kept.last_offset;
        let mut offsets: Vec<i64> = own.clone().collect();
        for (place, id) in &marks.ids {
            if let Some(offset) = offsets.get_mut(*place as usize)
                && let Some(found) = dedup.find(*id, limits)
            {
                *offset = found;
            }
        }
        if !own.eq(offsets.iter().copied()) {
            let known = Known::of(offsets);
            end_offset = end_offset.max(known.end());
            appended.known = Some(known);
        }
        Admission::Answer(appended, end_offset)
    }

    fn dedup_limits(&self, now_ms: i64) -> Limits {
        let config = &self.topic.config;
        Limits {
            since_ms: now_ms.saturating_sub(config.dedup_window_ms),
            start: self.log.offsets().start,
            ids_max: config.dedup_max_ids as usize,
        }
    }

    /// Goes on with a batch whose known records were taken out.
    pub fn rewritten(&mut self, rewritten: Rewritten, now_ms: i64) -> Due {
        // Who waited may have been refused meanwhile, and others wait now.
        if self.rewriting != Some(rewritten.number) {
            return Due::default();
        }
        self.rewriting = None;
        let Some(mut first) = self.pending.pop_front() else {
            return Due::default();
        };
        match rewritten.batch {
            Ok((batch, header)) => {
                first.batch = batch;
                first.header = header;
                first.marks.get_or_insert_default().known = Some(rewritten.known);
                self.pending.push_front(first);
            }
            Err(error) => {
                tracing::error!(topic = self.topic.name, partition = self.index, %error,
                    "records that are there already cannot be taken out of a batch; it is refused");
                self.refuse(first, EngineError::StorageFailed);
            }
        }
        self.drain_pending(now_ms)
    }

    pub(super) fn count_duplicates(&mut self, known: Option<&Known>) {
        if let Some(known) = known {
            let there = known.offsets().iter().filter(|offset| **offset >= 0);
            self.counters.duplicate_records += there.count() as u64;
        }
    }

    /// Forgets message ids whose time is over, some at a time.
    pub(super) fn expire_ids(&mut self) {
        let limits = self.dedup_limits(clock::cautious_ms());
        let dedup = self
            .indexes
            .as_mut()
            .and_then(|indexes| indexes.dedup.as_mut());
        if let Some(dedup) = dedup {
            dedup.expire(limits);
        }
    }

    /// Notes what an append has brought.
    pub(super) fn note_marks(&mut self, marks: &Marks, base_offset: i64) {
        let known = marks.known.as_ref();
        let limits = self.dedup_limits(clock::cautious_ms());
        let durable = self.log.offsets().durable;
        let Some(indexes) = &mut self.indexes else {
            return;
        };
        let is_new = |place: u32| Known::is_new(known, place);
        if let Some(dedup) = &mut indexes.dedup {
            let seen_ms = clock::stamp_ms();
            for some in marks.ids.chunks(IDS_PREPARED) {
                dedup.prepare(some, limits);
                for (place, id) in some.iter().filter(|(place, _)| is_new(*place)) {
                    dedup.note(*id, base_offset + i64::from(*place), seen_ms, limits);
                }
            }
        }
        if let Some(keys) = &mut indexes.keys {
            for mark in marks.keys.iter().filter(|mark| is_new(mark.place)) {
                let offset = base_offset + i64::from(mark.place);
                keys.note(mark.key, offset, mark.is_tombstone);
                keys.sweep(limits.start, durable);
            }
        }
    }

    /// Refuses the appends that wait.
    pub fn refuse_pending(&mut self, why: &EngineError) {
        for append in self.take_pending() {
            self.refuse(append, why.clone());
        }
    }

    /// Takes all that wait, to refuse them.
    pub(super) fn take_pending(&mut self) -> VecDeque<Append> {
        self.rewriting = None;
        mem::take(&mut self.pending)
    }
}
