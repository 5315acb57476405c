//! A log that is found after a fault, against what is known.

use super::{Entry, Found, Ledger, Proof, Upkeep};
use crate::record::{Batch, Id};
use crate::violation::{Violation, violated};
use std::collections::{BTreeMap, HashMap, HashSet};

impl Ledger {
    /// Whether the log is what it may be, after a cut of the power (by its number) or, without
    /// one, after anything else. What was found counts as seen from then on, and what was in doubt
    /// and not found as not there.
    pub fn check(&mut self, found: &Found, cut: Option<u64>) -> Result<(), Violation> {
        self.check_offsets(found)?;
        self.check_start(found, cut)?;
        self.check_order(found)?;
        self.check_records(found)?;
        match self.upkeep {
            Upkeep::Compact {
                keys,
                tombstones_go,
                ..
            } => self.check_keys(found, cut, keys, tombstones_go)?,
            _ => self.check_all_there(found, cut)?,
        }
        self.settle(found);
        Ok(())
    }

    /// Whether all that must have survived the cut is served, from `start` on. Of a compacted log that
    /// cannot be told.
    pub fn check_served(
        &self,
        start: i64,
        cut: Option<u64>,
        is_served: impl Fn(i64, Id) -> bool,
    ) -> Result<(), Violation> {
        if matches!(self.upkeep, Upkeep::Compact { .. }) {
            return Ok(());
        }
        let mut due = self.entries.range(start..);
        let missing =
            due.find(|(offset, entry)| entry.must_be_there(cut) && !is_served(**offset, entry.id));
        match missing {
            None => Ok(()),
            Some((offset, Entry { id, proof, .. })) => violated!(
                Lost,
                "{id} ({proof:?}) is not damaged, and not served at offset {offset}; the log starts at {start}"
            ),
        }
    }

    /// From the start to the end without a gap; only compaction leaves some out.
    fn check_offsets(&self, found: &Found) -> Result<(), Violation> {
        let compacted = matches!(self.upkeep, Upkeep::Compact { .. });
        let mut next = None;
        for batch in &found.batches {
            let expected = next.unwrap_or(batch.base.min(found.start));
            if batch.base < expected || (!compacted && batch.base != expected && next.is_some()) {
                let base = batch.base;
                violated!(Gap, "a batch begins at offset {base} instead of {expected}");
            }
            check_deltas(batch, compacted)?;
            next = Some(batch.last + 1);
        }
        let first = found.batches.first().map_or(found.end, |batch| batch.base);
        if !compacted && first > found.start {
            violated!(
                Gap,
                "the log starts at {}, its first batch at {first}",
                found.start
            );
        }
        match next {
            Some(next) if next != found.end => {
                violated!(
                    Gap,
                    "the last batch ends at {next}, the log at {}",
                    found.end
                )
            }
            _ => Ok(()),
        }
    }

    fn check_start(&self, found: &Found, cut: Option<u64>) -> Result<(), Violation> {
        let (start, end) = (found.start, found.end);
        if let Some(ms) = self.upkeep.expires_ms() {
            return self.check_expired(found, cut, ms);
        }
        match self.upkeep {
            Upkeep::Retain { bytes } => {
                let kept: usize = found.batches.iter().map(|batch| batch.bytes).sum();
                // It counts what is durable, so no cut leaves less.
                if start > 0 && (kept as u64) < bytes {
                    violated!(
                        Start,
                        "retention of {bytes} bytes left {kept}, from {start} to {end}"
                    );
                }
            }
            _ => {
                // A deletion in doubt may have taken some segments, and not moved the start yet.
                let least = self.starts.allowed(cut).min().copied().unwrap_or(0);
                let most = self.starts.allowed(cut).max().copied().unwrap_or(0);
                if start < least || start > most {
                    violated!(
                        Start,
                        "the log starts at {start}; DeleteRecords said {least}, and at most {most}"
                    );
                }
            }
        }
        Ok(())
    }

    /// What retention took was older than so long by the broker's clock. What stood in the place of
    /// a compacted record may have been older than that.
    fn check_expired(&self, found: &Found, cut: Option<u64>, ms: i64) -> Result<(), Violation> {
        let known = *self.starts.newest();
        if cut.is_none() && found.start < known {
            let start = found.start;
            violated!(Start, "the log starts at {start}, and started at {known}");
        }
        let gone = self.entries.range(known.min(found.start)..found.start);
        for (offset, entry) in gone.filter(|(_, entry)| entry.must_be_there(cut)) {
            let Some(time_ms) = entry.time_ms else {
                continue;
            };
            if time_ms + ms >= found.now_ms && !self.may_be_replaced(found, *offset, entry.id) {
                let (id, start) = (entry.id, found.start);
                let age_ms = found.now_ms - time_ms;
                violated!(
                    Start,
                    "{id} at offset {offset} was {age_ms} ms old at most, and is to stay for {ms} ms; \
                     the log starts at {start}"
                );
            }
        }
        Ok(())
    }

    /// Whether compaction may have taken the record at the offset for a newer one of its key, or for
    /// being a tombstone.
    fn may_be_replaced(&self, found: &Found, offset: i64, id: Id) -> bool {
        let Upkeep::Compact { keys, .. } = self.upkeep else {
            return false;
        };
        let key = id.key(keys);
        let known = self.entries.range(offset + 1..).map(|(_, entry)| entry.id);
        let found = records(found).map(|(_, id)| id);
        let mut newer = known.chain(found).chain(self.doubt.iter().copied());
        id.is_tombstone() || newer.any(|id| id.key(keys) == key)
    }

    /// What one worker sent is there in its order, and what one producer sent without a gap.
    fn check_order(&self, found: &Found) -> Result<(), Violation> {
        let mut newest: HashMap<u32, u32> = HashMap::new();
        let mut sequences: HashMap<i64, i32> = HashMap::new();
        let mut met: HashMap<Id, i64> = HashMap::new();
        for batch in &found.batches {
            for &(offset, id) in &batch.records {
                if let Some(before) = met.insert(id, offset) {
                    violated!(Doubled, "{id} is at offset {before} and at offset {offset}");
                }
                let before = newest.insert(id.worker, id.number);
                if let Some(before) = before.filter(|before| *before > id.number) {
                    violated!(
                        Reordered,
                        "offset {offset} has {id}, behind its record {before}"
                    );
                }
            }
            self.check_sequence(batch, &mut sequences)?;
        }
        Ok(())
    }

    fn check_sequence(
        &self,
        batch: &Batch,
        sequences: &mut HashMap<i64, i32>,
    ) -> Result<(), Violation> {
        if batch.producer_id < 0 {
            return Ok(());
        }
        let (id, sequence) = (batch.producer_id, batch.base_sequence);
        let next = sequence + (batch.last - batch.base) as i32 + 1;
        let expected = sequences.insert(id, next).unwrap_or(sequence);
        let compacted = matches!(self.upkeep, Upkeep::Compact { .. });
        if sequence < expected || (sequence > expected && !compacted) {
            let base = batch.base;
            violated!(
                Gap,
                "the batch at offset {base} of producer {id} has sequence {sequence}, not {expected}"
            );
        }
        Ok(())
    }

    /// Each record is the one that is known to be there, or one that was in doubt.
    fn check_records(&self, found: &Found) -> Result<(), Violation> {
        for &(offset, id) in found.batches.iter().flat_map(|batch| &batch.records) {
            self.check_place(offset, id)?;
        }
        Ok(())
    }

    fn check_all_there(&self, found: &Found, cut: Option<u64>) -> Result<(), Violation> {
        let there: HashMap<i64, Id> = records(found).collect();
        for (&offset, entry) in self.entries.range(found.start..) {
            let may_miss = offset >= found.end && !entry.must_be_there(cut);
            if !may_miss && !there.contains_key(&offset) {
                return Err(missing(offset, entry, found));
            }
        }
        let ids: HashSet<Id> = there.into_values().collect();
        for entry in self.unplaced.values() {
            // Where it was is not known, so it may have been below the start.
            if found.start == 0 && entry.must_be_there(cut) && !ids.contains(&entry.id) {
                let (id, end) = (entry.id, found.end);
                violated!(
                    Lost,
                    "{id}, acknowledged as a duplicate, is not there up to {end}"
                );
            }
        }
        Ok(())
    }

    /// Each key has its newest record, and none older than that stands for it.
    fn check_keys(
        &self,
        found: &Found,
        cut: Option<u64>,
        keys: u32,
        tombstones_go: bool,
    ) -> Result<(), Violation> {
        let mut newest: HashMap<u32, i64> = HashMap::new();
        for (offset, id) in records(found) {
            newest.insert(id.key(keys), offset);
        }
        let mut due: HashMap<u32, (i64, &Entry)> = HashMap::new();
        for (offset, entry) in &self.entries {
            if entry.must_be_there(cut) {
                due.insert(entry.id.key(keys), (*offset, entry));
            }
        }
        // Those below the start went by their age.
        due.retain(|_, (offset, _)| *offset >= found.start);
        for (key, (offset, entry)) in due {
            let there = newest.get(&key).copied();
            let gone = there.is_none() && tombstones_go && self.may_be_deleted(key, keys, offset);
            if !gone && there.is_none_or(|there| there < offset) {
                let newest = there.map_or("nothing".to_owned(), |there| format!("offset {there}"));
                return Err(missing(offset, entry, found)
                    .at(format!("key {key}, of which the newest there is {newest}")));
            }
        }
        Ok(())
    }

    /// Whether the newest of a key, at `offset` or sent later, may have been a tombstone.
    fn may_be_deleted(&self, key: u32, keys: u32, offset: i64) -> bool {
        let deletes = |id: &Id| id.key(keys) == key && id.is_tombstone();
        let later = self.entries.range(offset..).map(|(_, entry)| entry.id);
        later
            .chain(self.doubt.iter().copied())
            .any(|id| deletes(&id))
    }

    /// From now on what was found is known, and what was in doubt is not there.
    fn settle(&mut self, found: &Found) {
        let deleted = self.keys_deleted(found);
        self.deleted_keys.extend(deleted);
        self.settled_end = found.end;
        self.note_below(found);
        self.doubt.clear();
        self.unplaced.clear();
        self.starts.settle(found.start);
        self.entries = match self.upkeep {
            Upkeep::Compact { keys, .. } => self.compacted(found, keys),
            _ => BTreeMap::new(),
        };
        self.places.clear();
        for batch in &found.batches {
            for &(offset, id) in &batch.records {
                let entry = Entry {
                    id,
                    proof: Proof::Seen,
                    cuts: 0,
                    time_ms: Some(batch.time_ms),
                };
                self.entries.insert(offset, entry);
            }
        }
        let places = self
            .entries
            .iter()
            .map(|(offset, entry)| (entry.id, *offset));
        self.places.extend(places);
    }

    /// Retention moves the start at once, and a cut of the power may take that back: what is below it, or may be, can
    /// come again, there.
    fn note_below(&mut self, found: &Found) {
        if matches!(self.upkeep, Upkeep::Compact { .. }) || found.start == 0 {
            return;
        }
        let below = self.entries.range(..found.start);
        self.below.extend(below.map(|(_, entry)| entry.id));
        self.below.extend(self.doubt.iter().copied());
        for (_, id) in records(found) {
            self.below.remove(&id);
        }
        self.below_end = self.below_end.max(found.start);
    }

    /// Keys of which there is nothing, and may have been a tombstone.
    fn keys_deleted(&self, found: &Found) -> HashSet<u32> {
        let Upkeep::Compact {
            keys,
            tombstones_go: true,
            ..
        } = self.upkeep
        else {
            return HashSet::new();
        };
        let there: HashSet<u32> = records(found).map(|(_, id)| id.key(keys)).collect();
        let known = self.entries.values().map(|entry| entry.id);
        let tombstones = known.chain(self.doubt.iter().copied());
        tombstones
            .filter(|id| id.is_tombstone() && !there.contains(&id.key(keys)))
            .map(|id| id.key(keys))
            .collect()
    }

    /// What compaction took is remembered for as long as its key is there: nothing older than the
    /// newest may come back in its place.
    fn compacted(&self, found: &Found, keys: u32) -> BTreeMap<i64, Entry> {
        let there: HashSet<u32> = records(found).map(|(_, id)| id.key(keys)).collect();
        let below = self.entries.range(..found.end);
        let stays = below.filter(|(_, entry)| there.contains(&entry.id.key(keys)));
        let settled = |(&offset, &entry): (&i64, &Entry)| (offset, Entry { cuts: 0, ..entry });
        stays.map(settled).collect()
    }
}

fn check_deltas(batch: &Batch, compacted: bool) -> Result<(), Violation> {
    let mut expected = batch.base;
    for &(offset, id) in &batch.records {
        if offset < expected || offset > batch.last || (!compacted && offset != expected) {
            violated!(Gap, "{id} is at offset {offset} instead of {expected}");
        }
        expected = offset + 1;
    }
    if !compacted && expected != batch.last + 1 {
        let (base, last) = (batch.base, batch.last);
        violated!(
            Gap,
            "the batch of offsets {base} to {last} ends with {}",
            expected - 1
        );
    }
    Ok(())
}

fn records(found: &Found) -> impl Iterator<Item = (i64, Id)> {
    let batches = found.batches.iter();
    batches.flat_map(|batch| batch.records.iter().copied())
}

fn missing(offset: i64, entry: &Entry, found: &Found) -> Violation {
    let (id, proof) = (entry.id, entry.proof);
    let (start, end) = (found.start, found.end);
    let kind = match proof {
        Proof::Seen => crate::violation::Kind::Unseen,
        _ => crate::violation::Kind::Lost,
    };
    Violation::new(
        kind,
        format!(
            "{id} ({proof:?}) was at offset {offset}, and is not in the log of {start} to {end}"
        ),
    )
}
