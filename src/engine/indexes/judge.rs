//! What of a batch is stored, where its topic has seen some of its records, or where it is to be stored only if
//! nothing has changed.

use super::Indexes;
use super::dedup::{DedupWindow, Limits};
use super::keys::KeyState;
use super::known::Known;
use super::marks::Marks;
use crate::io::sabotage::{self, Sabotage};
use crate::log::key_hash::KeyHash;
use hashbrown::hash_table::{Entry, HashTable};
use std::collections::HashMap;
use thiserror::Error;

/// Where a sabotaged broker ignores what is expected: at offsets that are multiples of this.
const IGNORED_AT: i64 = 64;

/// A batch is not appended, for something has changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Changed {
    #[error("expected offset {expected}, next is {next}")]
    Offset { expected: i64, next: i64 },
    /// -1: no record.
    #[error(
        "record {place}: expected the newest record of its key at offset {expected}, it is at {current}"
    )]
    Key {
        place: u32,
        expected: i64,
        current: i64,
    },
}

impl Changed {
    /// The offset that would have been expected rightly.
    pub fn current(self) -> i64 {
        match self {
            Changed::Offset { next, .. } => next,
            Changed::Key { current, .. } => current,
        }
    }
}

/// Why a batch is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Changed(Changed),
    /// It is not known where the newest record of a key is.
    NoIndex,
}

/// What is to be done with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Append,
    /// Only those of its records that are not known are to be appended.
    Without(Known),
    /// What was seen before is not known yet.
    Wait,
    Refuse(Refused),
}

/// A partition's log as a batch finds it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The offset that comes next.
    pub next: i64,
    /// Records in the batch.
    pub count: usize,
    pub limits: Limits,
}

/// Looks at what is known, and then at conditions: the retry of an append that succeeded is told so.
pub fn judge(indexes: Option<&Indexes>, marks: &Marks, place: Place) -> Judgement {
    let dedup = indexes.and_then(|indexes| indexes.dedup.as_ref());
    if let Some(dedup) = dedup
        && !marks.ids.is_empty()
    {
        if !dedup.is_loaded() {
            return Judgement::Wait;
        }
        if let Some(known) = known(dedup, marks, place) {
            let is_all = known.is_all();
            let refused = if is_all {
                None
            } else {
                changed(indexes, marks, place, Some(&known))
            };
            return refused.map_or(Judgement::Without(known), Judgement::Refuse);
        }
    }
    changed(indexes, marks, place, None).map_or(Judgement::Append, Judgement::Refuse)
}

/// The records that were seen before, in the log or in the batch itself.
fn known(dedup: &DedupWindow, marks: &Marks, place: Place) -> Option<Known> {
    let mut offsets = Vec::new();
    let mut note = |at: u32, offset: i64| {
        if offsets.is_empty() {
            offsets.resize(place.count, -1);
        }
        if let Some(noted) = offsets.get_mut(at as usize) {
            *noted = offset;
        }
    };
    // Apart from what follows, so that the processor fetches many places of the table at a time.
    let mut any = false;
    for (at, id) in &marks.ids {
        if let Some(offset) = dedup.find(*id, place.limits) {
            note(*at, offset);
            any = true;
        }
    }
    if marks.ids.len() > 1 {
        // An id is a hash already.
        let mut own: HashTable<(KeyHash, u32)> = HashTable::with_capacity(marks.ids.len());
        for (at, id) in &marks.ids {
            if any && dedup.find(*id, place.limits).is_some() {
                continue;
            }
            let is_it = |(own, _): &(KeyHash, u32)| own == id;
            match own.entry(id.low(), is_it, |(own, _)| own.low()) {
                Entry::Occupied(first) => note(*at, place.next + i64::from(first.get().1)),
                Entry::Vacant(free) => {
                    free.insert((*id, *at));
                }
            }
        }
    }
    (!offsets.is_empty()).then(|| Known::of(offsets))
}

fn changed(
    indexes: Option<&Indexes>,
    marks: &Marks,
    place: Place,
    known: Option<&Known>,
) -> Option<Refused> {
    if sabotage::is_done(Sabotage::IgnoreConditions) && place.next % IGNORED_AT == 0 {
        return None;
    }
    if let Some(expected) = marks.expected_offset
        && expected != place.next
    {
        let next = place.next;
        return Some(Refused::Changed(Changed::Offset { expected, next }));
    }
    if marks.key_conditions.is_empty() {
        return None;
    }
    let keys = indexes.and_then(|indexes| indexes.keys.as_ref());
    let Some(keys) = keys.filter(|keys| keys.state() == KeyState::Ready) else {
        return Some(Refused::NoIndex);
    };
    // What is not stored changes nothing.
    let is_stored = |at: u32| Known::is_new(known, at);
    let mut before = marks
        .keys
        .iter()
        .filter(|mark| is_stored(mark.place))
        .peekable();
    let mut in_batch: HashMap<KeyHash, i64> = HashMap::new();
    for condition in marks
        .key_conditions
        .iter()
        .filter(|one| is_stored(one.place))
    {
        while let Some(mark) = before.next_if(|mark| mark.place < condition.place) {
            let offset = place.next + i64::from(mark.place);
            in_batch.insert(mark.key, if mark.is_tombstone { -1 } else { offset });
        }
        let in_log = || keys.newest(condition.key, place.limits.start).unwrap_or(-1);
        let current = in_batch.get(&condition.key).copied().unwrap_or_else(in_log);
        if current != condition.expected {
            return Some(Refused::Changed(Changed::Key {
                place: condition.place,
                expected: condition.expected,
                current,
            }));
        }
    }
    None
}
