//! What is known of the records of one partition: who was told what, and what may still be in doubt.

#[cfg(test)]
mod tests;

use crate::violation::{Violation, violated};
use std::collections::{BTreeMap, HashMap};

/// By so much the broker's clocks may differ from each other, and from ours.
const CLOCKS_MS: i64 = 200;

/// What a record expects of the log that it is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    /// It gets this offset.
    Next(i64),
    /// The newest record of its key is at this offset; -1: there is none.
    Newest(i64),
}

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub key: Option<String>,
    /// None: its key is deleted.
    pub value: Option<String>,
    pub condition: Condition,
    /// One more than that of the record that it replaces; 0 where it expects none in particular.
    pub count: u64,
}

/// A place where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub offset: i64,
    /// That it is durable was told or shown, after so many cuts of the power.
    sure: Option<u64>,
    /// Somebody was told that his request is the one that stored it.
    claimed: bool,
    /// Between these moments (ms) it was appended.
    since_ms: i64,
    until_ms: i64,
    /// In this life of the broker.
    life: u64,
    /// Compaction has taken it.
    is_gone: bool,
}

/// A request whose outcome is not known.
#[derive(Clone, Copy, Debug)]
struct Try {
    number: u64,
    sent_ms: i64,
    /// When the connection had ended.
    until_ms: Option<i64>,
}

#[derive(Clone, Debug)]
struct Entry {
    content: Content,
    copies: Vec<Copy>,
    tries: Vec<Try>,
    /// It was in doubt and is not there: compaction may have taken it before it was seen.
    may_have_gone: bool,
}

/// What holds for a topic.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long ids are known; `None` where records have none and are never sent again.
    pub window_ms: Option<i64>,
    /// The window is longer than any run.
    pub for_ever: bool,
    /// Compaction takes what is not the newest of its key.
    pub compacts: bool,
}

/// What an answer says of a record.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub offset: i64,
    /// Kafka's protocol does not say.
    pub duplicate: Option<bool>,
    /// That it is durable.
    pub durable: bool,
}

/// A record as the log has it.
#[derive(Clone, Debug)]
pub struct Found {
    pub offset: i64,
    pub number: u64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub id: Option<String>,
}

/// All that is known of one partition.
#[derive(Debug)]
pub struct Book {
    rules: Rules,
    entries: BTreeMap<u64, Entry>,
    life: u64,
    next_try: u64,
    /// When an append of this life was first answered: what was known of older ids was known by then.
    loaded_ms: Option<i64>,
    /// The newest record of each key that is known to be durable: its offset, and whether it deletes.
    newest: HashMap<String, (i64, bool)>,
    /// The offset behind all that is known to be durable.
    end: i64,
}

pub fn id_of(number: u64) -> String {
    format!("id-{number}")
}

impl Book {
    pub fn new(rules: Rules) -> Book {
        Book {
            rules,
            entries: BTreeMap::new(),
            life: 0,
            next_try: 0,
            loaded_ms: None,
            newest: HashMap::new(),
            end: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The numbers of all records, oldest first.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.entries.keys().copied()
    }

    /// The offset behind all that is known to be durable.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The newest record of a key that is known to be durable: its offset, and whether it deletes.
    pub fn newest(&self, key: &str) -> Option<(i64, bool)> {
        self.newest.get(key).copied()
    }

    pub fn content(&self, number: u64) -> Option<&Content> {
        self.entries.get(&number).map(|entry| &entry.content)
    }

    /// Whether its id must be known: it is durable, within a window that does not end.
    pub fn is_known(&self, number: u64) -> bool {
        let is_sure = |entry: &Entry| entry.copies.iter().any(|copy| copy.sure.is_some());
        self.rules.for_ever && self.entries.get(&number).is_some_and(is_sure)
    }

    /// Whether a record of this key that deletes it, and is above `above`, may be there.
    pub fn may_be_deleted(&self, key: &str, above: i64) -> bool {
        self.entries.values().any(|entry| {
            let content = &entry.content;
            let deletes = content.value.is_none() && content.key.as_deref() == Some(key);
            let is_above = |copy: &Copy| copy.offset > above;
            deletes && (!entry.tries.is_empty() || entry.copies.iter().any(is_above))
        })
    }

    pub fn add(&mut self, number: u64, content: Content) {
        let entry = Entry {
            content,
            copies: Vec::new(),
            tries: Vec::new(),
            may_have_gone: false,
        };
        self.entries.insert(number, entry);
    }

    /// A request with this record is about to be sent; its number.
    pub fn begin(&mut self, number: u64, sent_ms: i64) -> u64 {
        self.next_try += 1;
        let next = Try {
            number: self.next_try,
            sent_ms,
            until_ms: None,
        };
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.tries.push(next);
        }
        self.next_try
    }

    /// The answer said that this request has stored nothing.
    pub fn had_no_effect(&mut self, number: u64, one: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.tries.retain(|other| other.number != one);
        }
    }

    /// What it expected was not so. If it ever was it would have been stored, and known: only a key that has
    /// no record may have none again.
    pub fn refused(&mut self, number: u64, one: u64) {
        self.had_no_effect(number, one);
        let has_ids = self.rules.for_ever;
        if let Some(entry) = self.entries.get_mut(&number)
            && has_ids
            && entry.content.condition != Condition::Newest(-1)
        {
            entry.tries.retain(|other| other.until_ms.is_none());
        }
    }

    /// No answer came, or one that says nothing.
    pub fn unanswered(&mut self, number: u64, one: u64, now_ms: i64) {
        let tries = self.entries.get_mut(&number).map(|entry| &mut entry.tries);
        for one in tries
            .into_iter()
            .flatten()
            .filter(|other| other.number == one)
        {
            one.until_ms = Some(now_ms);
        }
    }

    /// Whether any request of this record may have stored it already.
    pub fn may_be_stored(&self, number: u64, beside: u64) -> bool {
        self.entries.get(&number).is_some_and(|entry| {
            let others = |other: &Try| other.number != beside;
            !entry.copies.is_empty() || entry.tries.iter().any(others)
        })
    }

    /// A request is answered.
    pub fn answered(
        &mut self,
        number: u64,
        one: u64,
        told: Told,
        now_ms: i64,
        cuts: u64,
    ) -> Result<(), Violation> {
        self.loaded_ms.get_or_insert(now_ms);
        let (rules, life, loaded_ms) = (self.rules, self.life, self.loaded_ms);
        let Some(entry) = self.entries.get_mut(&number) else {
            return Ok(());
        };
        let tries = std::mem::take(&mut entry.tries);
        let (own, others): (Vec<Try>, Vec<Try>) =
            tries.into_iter().partition(|other| other.number == one);
        let sent_ms = own.first().map_or(now_ms, |own| own.sent_ms);
        let offset = told.offset;
        if let Condition::Next(expected) = entry.content.condition
            && expected != offset
        {
            violated!(
                Condition,
                "record {number} was to have offset {expected}, and has {offset}"
            );
        }
        if let Condition::Newest(expected) = entry.content.condition
            && expected >= offset
        {
            violated!(
                Condition,
                "record {number} was to come after offset {expected}, and has {offset}"
            );
        }
        // It was stored again, and that was told before this was asked.
        let is_newer = |copy: &&Copy| copy.offset > offset && copy.until_ms < sent_ms;
        if let Some(newer) = entry.copies.iter().find(is_newer) {
            violated!(
                Changed,
                "record {number} is said to be at offset {offset}, and was stored again at {} before",
                newer.offset
            );
        }
        let place = entry.copies.iter().position(|copy| copy.offset == offset);
        if let Some(place) = place {
            let copy = &mut entry.copies[place];
            if told.duplicate == Some(false) && copy.claimed {
                violated!(
                    Doubled,
                    "record {number} is at offset {offset}, which was known, and the answer says that it is new"
                );
            }
            // From when it was loaded, if it is of an earlier life.
            let noted_ms = match copy.life == life {
                true => Some(copy.until_ms),
                false => loaded_ms.map(|loaded_ms| loaded_ms.max(copy.until_ms)),
            };
            if told.duplicate == Some(true)
                && let (Some(window_ms), Some(noted_ms)) = (rules.window_ms, noted_ms)
                && sent_ms - noted_ms > window_ms + CLOCKS_MS
            {
                let age = sent_ms - noted_ms;
                violated!(
                    Changed,
                    "record {number} at offset {offset} is known after {age} ms; the window has {window_ms}"
                );
            }
            copy.claimed |= told.duplicate == Some(false);
            if told.durable {
                copy.sure.get_or_insert(cuts);
            }
        } else {
            let earliest_ms = others.iter().map(|other| other.sent_ms).min();
            if told.duplicate == Some(true) && earliest_ms.is_none() {
                let known: Vec<i64> = entry.copies.iter().map(|copy| copy.offset).collect();
                violated!(
                    Stranger,
                    "record {number} is said to be there before, at offset {offset}; it can only be at {known:?}"
                );
            }
            for copy in &entry.copies {
                let is_known = rules.for_ever
                    || rules
                        .window_ms
                        .is_none_or(|window| now_ms - copy.since_ms < window);
                // A duplicate of one that a lost answer was about is not newly stored.
                if is_known && (rules.for_ever || told.duplicate == Some(false)) {
                    violated!(
                        Doubled,
                        "record {number} is at offset {}, and now at {offset} (duplicate: {:?}), {} ms later",
                        copy.offset,
                        told.duplicate,
                        now_ms - copy.since_ms
                    );
                }
            }
            let since_ms = match told.duplicate {
                Some(false) => sent_ms,
                _ => earliest_ms.unwrap_or(sent_ms).min(sent_ms),
            };
            entry.copies.push(Copy {
                offset,
                sure: told.durable.then_some(cuts),
                claimed: told.duplicate == Some(false),
                since_ms,
                until_ms: now_ms,
                life,
                is_gone: false,
            });
        }
        // Where the window ends, any of the others may have stored another copy.
        entry.tries = others;
        if told.durable {
            self.note_durable(number, offset);
        }
        Ok(())
    }

    /// It was shown at this offset, so it is durable.
    pub fn seen(
        &mut self,
        number: u64,
        offset: i64,
        now_ms: i64,
        cuts: u64,
    ) -> Result<(), Violation> {
        let life = self.life;
        let Some(entry) = self.entries.get_mut(&number) else {
            violated!(
                Stranger,
                "record {number} is shown at offset {offset}, and nobody sent it"
            );
        };
        if let Some(copy) = entry.copies.iter_mut().find(|copy| copy.offset == offset) {
            copy.sure.get_or_insert(cuts);
        } else {
            let Some(since_ms) = entry.tries.iter().map(|one| one.sent_ms).min() else {
                violated!(
                    Stranger,
                    "record {number} is shown at offset {offset}; it was not stored there"
                );
            };
            entry.copies.push(Copy {
                offset,
                sure: Some(cuts),
                claimed: false,
                since_ms,
                until_ms: now_ms,
                life,
                is_gone: false,
            });
        }
        self.note_durable(number, offset);
        Ok(())
    }

    fn note_durable(&mut self, number: u64, offset: i64) {
        self.end = self.end.max(offset + 1);
        let Some(Content {
            key: Some(key),
            value,
            ..
        }) = self.content(number)
        else {
            return;
        };
        let (key, deletes) = (key.clone(), value.is_none());
        let newest = self.newest.entry(key).or_insert((offset, deletes));
        if offset > newest.0 {
            *newest = (offset, deletes);
        }
    }

    /// The broker's life is over: what is on its way will not arrive any more.
    pub fn end_life(&mut self, now_ms: i64) {
        for one in self.entries.values_mut().flat_map(|entry| &mut entry.tries) {
            one.until_ms.get_or_insert(now_ms);
        }
    }

    /// Holds all that a partition has against what is known, after the cut of this number or without any. Then what
    /// was found is what is known.
    pub fn check(
        &mut self,
        found: &[Found],
        cut: Option<u64>,
        now_ms: i64,
        cuts: u64,
    ) -> Result<(), Violation> {
        self.check_contents(found)?;
        let mut by_number: HashMap<u64, Vec<i64>> = HashMap::new();
        let mut newest: HashMap<String, (i64, bool)> = HashMap::new();
        for record in found {
            by_number
                .entry(record.number)
                .or_default()
                .push(record.offset);
            if let Some(key) = &record.key {
                newest.insert(key.clone(), (record.offset, record.value.is_none()));
            }
        }
        let (rules, life) = (self.rules, self.life);
        for (number, entry) in &mut self.entries {
            let offsets = by_number.remove(number).unwrap_or_default();
            let newest = entry.content.key.as_ref().and_then(|key| newest.get(key));
            settle(
                *number,
                entry,
                &offsets,
                newest.map(|(offset, _)| *offset),
                cut,
                rules,
            )?;
            let doubt = entry.tries.iter();
            let doubt = doubt.map(|one| (one.sent_ms, one.until_ms.unwrap_or(now_ms)));
            let doubt = doubt.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
            for offset in offsets {
                if let Some(copy) = entry.copies.iter_mut().find(|copy| copy.offset == offset) {
                    copy.sure.get_or_insert(cuts);
                    copy.claimed = true;
                    continue;
                }
                let Some((since_ms, until_ms)) = doubt else {
                    let known: Vec<i64> = entry.copies.iter().map(|copy| copy.offset).collect();
                    if known.is_empty() {
                        violated!(
                            Stranger,
                            "record {number} is at offset {offset}, and no request can have stored it"
                        );
                    }
                    violated!(
                        Doubled,
                        "record {number} is at offset {offset} beside {known:?}"
                    );
                };
                entry.copies.push(Copy {
                    offset,
                    sure: Some(cuts),
                    claimed: true,
                    since_ms,
                    until_ms,
                    life,
                    is_gone: false,
                });
            }
            entry.may_have_gone |= !entry.tries.is_empty() && entry.copies.is_empty();
            entry.tries.clear();
            check_copies(*number, &mut entry.copies, rules)?;
        }
        self.newest = newest;
        self.end = found.last().map_or(0, |last| last.offset + 1);
        self.life += 1;
        self.loaded_ms = None;
        self.check_chains()
    }

    fn may_have_been_deleted(&self, key: &str) -> bool {
        self.entries.values().any(|entry| {
            let content = &entry.content;
            entry.may_have_gone && content.value.is_none() && content.key.as_deref() == Some(key)
        })
    }

    /// Each record is one that was sent, as it was sent, with what it expects of its offset.
    fn check_contents(&self, found: &[Found]) -> Result<(), Violation> {
        for record in found {
            let Found { number, offset, .. } = record;
            let Some(content) = self.content(*number) else {
                violated!(
                    Stranger,
                    "record {number} at offset {offset} was never sent here"
                );
            };
            let id = self.rules.window_ms.map(|_| id_of(*number));
            if (&record.key, &record.value) != (&content.key, &content.value) || record.id != id {
                violated!(
                    Changed,
                    "record {number} at offset {offset} is {record:?} instead of {content:?}"
                );
            }
            if let Condition::Next(expected) = content.condition
                && expected != *offset
            {
                violated!(
                    Condition,
                    "record {number} was to have offset {expected}, and has {offset}"
                );
            }
        }
        Ok(())
    }

    /// Of each key every record that expects a newest one comes right behind that.
    fn check_chains(&self) -> Result<(), Violation> {
        let mut chains: HashMap<&str, BTreeMap<i64, (u64, &Content)>> = HashMap::new();
        for (number, entry) in &self.entries {
            let Some(key) = &entry.content.key else {
                continue;
            };
            for copy in &entry.copies {
                let chain = chains.entry(key).or_default();
                chain.insert(copy.offset, (*number, &entry.content));
            }
        }
        for (key, chain) in chains {
            let mut before: Option<(i64, &Content)> = None;
            for (offset, (number, content)) in chain {
                let there = before.filter(|(_, content)| content.value.is_some());
                let (newest, count) = there.map_or((-1, 0), |(at, content)| (at, content.count));
                if let Condition::Newest(expected) = content.condition {
                    // One in between that was in doubt may have come and gone before it was seen.
                    let last = before.map_or(-1, |(at, _)| at);
                    let unseen = self.rules.compacts
                        && (expected > last && expected < offset
                            || expected == -1 && self.may_have_been_deleted(key));
                    if expected != newest && !unseen {
                        violated!(
                            Condition,
                            "record {number} of {key} at offset {offset} was to replace that at {expected}; \
                             the newest was at {newest}"
                        );
                    }
                    if expected == newest && content.value.is_some() && content.count != count + 1 {
                        violated!(
                            Condition,
                            "record {number} of {key} at offset {offset} counts {}, and the one before it {count}",
                            content.count
                        );
                    }
                }
                before = Some((offset, content));
            }
        }
        Ok(())
    }
}

/// What is known to be there is; what was not certain and is not there never was.
fn settle(
    number: u64,
    entry: &mut Entry,
    found: &[i64],
    newest: Option<i64>,
    cut: Option<u64>,
    rules: Rules,
) -> Result<(), Violation> {
    let mut kept = Vec::new();
    for mut copy in std::mem::take(&mut entry.copies) {
        let offset = copy.offset;
        let is_sure = match cut {
            None => true,
            Some(cut) => copy.sure.is_some_and(|sure| sure < cut),
        };
        // What is behind is there, so this was too.
        let is_replaced = rules.compacts && newest.is_some_and(|newest| newest > offset);
        copy.is_gone |= is_replaced && !found.contains(&offset);
        if found.contains(&offset) || is_replaced {
            kept.push(copy);
        } else if is_sure {
            violated!(
                Lost,
                "record {number} was at offset {offset}; it is at {found:?} ({copy:?})"
            );
        }
    }
    entry.copies = kept;
    Ok(())
}

/// A record is there once, or again after its window.
fn check_copies(number: u64, copies: &mut [Copy], rules: Rules) -> Result<(), Violation> {
    copies.sort_by_key(|copy| copy.offset);
    for pair in copies.windows(2) {
        let [first, second] = pair else { continue };
        let within = match rules.window_ms {
            _ if rules.for_ever => true,
            Some(window_ms) => second.until_ms - first.since_ms < window_ms,
            None => true,
        };
        if within {
            violated!(
                Doubled,
                "record {number} is at offsets {} and {}, within {} ms",
                first.offset,
                second.offset,
                second.until_ms - first.since_ms
            );
        }
    }
    Ok(())
}
