//! What is known of one partition: what was sent, acknowledged and seen; and whether a log that is
//! found keeps all that.

mod check;
#[cfg(test)]
mod tests;

use crate::history::History;
use crate::record::{Batch, Id};
use crate::violation::{Violation, violated};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What may happen to the records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing: all stay.
    Keep,
    /// DeleteRecords moves the log start offset.
    Trim,
    /// Old segments go, down to so many bytes.
    Retain { bytes: u64 },
    /// Segments go once all their records are older than so long.
    Expire { ms: i64 },
    /// Of each of so many keys the newest stays; tombstones go too if `tombstones_go`. With
    /// `expires_ms`, segments go by their age too.
    Compact {
        keys: u32,
        tombstones_go: bool,
        expires_ms: Option<i64>,
    },
}

impl Upkeep {
    /// How old a segment must be at least to go.
    pub fn expires_ms(self) -> Option<i64> {
        match self {
            Upkeep::Expire { ms } => Some(ms),
            Upkeep::Compact { expires_ms, .. } => expires_ms,
            _ => None,
        }
    }

    /// Whether the log start offset moves by itself.
    pub fn moves_start(self) -> bool {
        matches!(self, Upkeep::Retain { .. }) || self.expires_ms().is_some()
    }
}

/// Why a record must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Acknowledged when it was appended: survives the process, not the machine.
    AcksOne,
    /// Acknowledged when it was durable.
    AcksAll,
    /// A consumer has read it.
    Seen,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: Id,
    proof: Proof,
    /// How many cuts there had been when that became known.
    cuts: u64,
    /// The time of the newest record of its batch, if it is known.
    time_ms: Option<i64>,
}

impl Entry {
    /// Whether the record must have survived the cut (of the power), or else the kill.
    fn must_be_there(&self, cut: Option<u64>) -> bool {
        match cut {
            None => true,
            Some(cut) => self.cuts < cut && self.proof > Proof::AcksOne,
        }
    }
}

/// Everything that a consumer can read of a partition.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub start: i64,
    /// The high watermark.
    pub end: i64,
    pub batches: Vec<Batch>,
    /// The latest that the broker's clock has shown since the check before.
    pub now_ms: i64,
}

/// What is known of one partition.
#[derive(Clone, Debug)]
pub struct Ledger {
    upkeep: Upkeep,
    /// The records whose offsets are known.
    entries: BTreeMap<i64, Entry>,
    places: HashMap<Id, i64>,
    /// Sent, and their offsets not known.
    doubt: HashSet<Id>,
    /// Acknowledged without an offset, as a retry may be.
    unplaced: HashMap<Id, Entry>,
    /// Keys of which the last check found nothing, or one before, though a tombstone may have been there.
    deleted_keys: HashSet<u32>,
    /// Records that may lie below the log start offset that a check found, and that offset.
    below: HashSet<Id>,
    below_end: i64,
    /// The high watermark of the last check.
    settled_end: i64,
    /// The log start offsets that DeleteRecords was asked for.
    pub starts: History<i64>,
}

impl Ledger {
    pub fn new(upkeep: Upkeep) -> Ledger {
        Ledger {
            upkeep,
            entries: BTreeMap::new(),
            places: HashMap::new(),
            doubt: HashSet::new(),
            unplaced: HashMap::new(),
            deleted_keys: HashSet::new(),
            below: HashSet::new(),
            below_end: 0,
            settled_end: 0,
            starts: History::new(0),
        }
    }

    /// The records are about to be sent, perhaps not for the first time.
    pub fn sent(&mut self, ids: &[Id]) {
        let places = &self.places;
        self.doubt
            .extend(ids.iter().filter(|id| !places.contains_key(id)));
    }

    /// The records were acknowledged at `base` and the offsets after it, after so many cuts. `base`
    /// is -1 where the broker knows that they are there, but not where.
    pub fn acknowledged(
        &mut self,
        ids: &[Id],
        base: i64,
        proof: Proof,
        cuts: u64,
    ) -> Result<(), Violation> {
        for (delta, &id) in (0..).zip(ids) {
            let entry = Entry {
                id,
                proof,
                cuts,
                time_ms: None,
            };
            match base {
                -1 if self.places.contains_key(&id) => {}
                -1 => {
                    self.unplaced.insert(id, entry);
                }
                base if self.was_deleted(id, base + delta) => {
                    self.doubt.remove(&id);
                }
                base => self.place(base + delta, entry)?,
            }
        }
        Ok(())
    }

    /// Whether compaction had taken the record, and the tombstone that ended its key, before its
    /// acknowledgement arrived: that of a retry.
    fn was_deleted(&self, id: Id, offset: i64) -> bool {
        let Upkeep::Compact { keys, .. } = self.upkeep else {
            return false;
        };
        offset < self.settled_end
            && !self.entries.contains_key(&offset)
            && self.deleted_keys.contains(&id.key(keys))
    }

    /// The records, which were acknowledged, are in a batch of this time.
    pub fn dated(&mut self, ids: &[Id], time_ms: i64) {
        for id in ids {
            let place = self.places.get(id);
            if let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) {
                entry.time_ms.get_or_insert(time_ms);
            }
        }
    }

    /// A consumer has read the batches, after so many cuts. Returns how many records were new to
    /// all consumers.
    pub fn seen(&mut self, batches: &[Batch], cuts: u64) -> Result<u64, Violation> {
        let mut new = 0;
        let proof = Proof::Seen;
        for batch in batches {
            let time_ms = Some(batch.time_ms);
            for &(offset, id) in &batch.records {
                let known = self.entries.get(&offset).map(|entry| entry.proof);
                new += u64::from(known != Some(Proof::Seen));
                let entry = Entry {
                    id,
                    proof,
                    cuts,
                    time_ms,
                };
                self.place(offset, entry)?;
            }
        }
        Ok(new)
    }

    /// How many records are known to be there.
    pub fn known(&self) -> usize {
        self.entries.len()
    }

    /// The offset after the last record that is certain to be durable; `None` if there are some of
    /// which it is not known where they are.
    pub fn durable_end(&self) -> Option<i64> {
        if !self.unplaced.is_empty() {
            return None;
        }
        let mut newest = self.entries.iter().rev();
        let durable = newest.find(|(_, entry)| entry.proof > Proof::AcksOne);
        Some(durable.map_or(0, |(offset, _)| offset + 1))
    }

    /// The offset after the last record that is known.
    pub fn end(&self) -> i64 {
        self.entries
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }

    /// Whether every record of a batch is one that was sent here, at whatever offset it is now: no
    /// checksum covers that.
    pub fn knows(&self, batch: &Batch) -> Result<(), Violation> {
        for &(offset, id) in &batch.records {
            let sent = self.places.contains_key(&id)
                || self.doubt.contains(&id)
                || self.below.contains(&id);
            if !sent && !self.unplaced.contains_key(&id) {
                violated!(Stranger, "{id} at offset {offset} was not sent here");
            }
        }
        Ok(())
    }

    /// The offset after the last record that a consumer has read.
    pub fn seen_end(&self) -> i64 {
        let mut newest = self.entries.iter().rev();
        let seen = newest.find(|(_, entry)| entry.proof == Proof::Seen);
        seen.map_or(0, |(offset, _)| offset + 1)
    }

    /// Takes note that a record is at an offset.
    fn place(&mut self, offset: i64, entry: Entry) -> Result<(), Violation> {
        let id = entry.id;
        self.check_place(offset, id)?;
        self.doubt.remove(&id);
        self.unplaced.remove(&id);
        self.places.insert(id, offset);
        let known = self.entries.entry(offset).or_insert(entry);
        let time_ms = entry.time_ms.or(known.time_ms);
        if known.proof < entry.proof {
            *known = entry;
        }
        known.time_ms = time_ms;
        Ok(())
    }

    /// Whether the record may be at the offset, as far as is known.
    fn check_place(&self, offset: i64, id: Id) -> Result<(), Violation> {
        let there = self.entries.get(&offset);
        match there {
            Some(entry) if entry.id == id => return Ok(()),
            Some(entry) => {
                let (known, proof) = (entry.id, entry.proof);
                violated!(
                    Changed,
                    "offset {offset} has {id}, but had {known} ({proof:?})"
                )
            }
            None => {}
        }
        if let Some(place) = self.places.get(&id) {
            violated!(Doubled, "{id} is at offset {place} and at offset {offset}");
        }
        let may_come_again = offset < self.below_end && self.below.contains(&id);
        if !may_come_again && !self.doubt.contains(&id) && !self.unplaced.contains_key(&id) {
            violated!(
                Stranger,
                "{id} at offset {offset} was not sent here, or given up"
            );
        }
        Ok(())
    }
}
