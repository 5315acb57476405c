//! What a request wants to read, and how far each partition was read for it.

use super::merge::Merge;
use super::problem::Problem;
use super::query::{self, Query};
use super::records::{self, Record};
use crate::engine::catalog::Topic;
use crate::engine::fetch::{Fetch, PartitionData, PartitionRead, fetch};
use crate::engine::indexes::newest::{self, KeyRecord};
use crate::engine::offsets::{self, OffsetSpec};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::reactor::Slice;
use crate::log::key_hash::KeyHash;
use crate::net::budget::Share;
use hyper::header::HeaderValue;
use memchr::memmem;
use std::collections::BTreeMap;
use std::future::pending;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How many records come when nothing is asked.
const NEWEST: usize = 10;
/// How many come at most when it is not said.
pub const MAX_DEFAULT: usize = 100;
const MAX_MAX: usize = 10_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of batches that are read at a time.
const ROUND_BYTES: usize = 1 << 20;
/// Of one partition at least, where they are many: the others have their turn when it is read.
const READ_BYTES_MIN: usize = 64 << 10;
/// A round takes no other batch when its records have so many bytes.
const UNPACKED_BYTES_MAX: usize = 8 << 20;
/// A fetch that did not wait, for lack of room, is tried again after this time.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Where a read begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Earliest,
    Latest,
    /// So many of the newest.
    Newest(usize),
    /// The first as late as this (ms).
    Time(i64),
    /// Of one partition.
    Offset(i64),
    /// Offsets by partition. One that is not there begins at its start: it is new.
    Each(BTreeMap<i32, i64>),
}

impl From {
    pub fn parse(text: &str) -> Option<From> {
        Some(match text {
            "earliest" => From::Earliest,
            "latest" => From::Latest,
            _ if text.starts_with('-') => {
                let count = text[1..].parse().ok()?;
                From::Newest(Some(count).filter(|count| *count <= MAX_MAX)?)
            }
            _ if text.contains(':') && !text.contains('T') => From::Each(each(text)?),
            _ => match text.parse() {
                Ok(offset) => From::Offset(offset),
                Err(_) => From::Time(query::rfc_3339(text)?),
            },
        })
    }
}

/// Offsets by partition, as in `0:17,1:9`. `None` too where a partition comes twice.
pub fn each(text: &str) -> Option<BTreeMap<i32, i64>> {
    let mut each = BTreeMap::new();
    for pair in text.split(',') {
        let (partition, offset) = pair.split_once(':')?;
        let before = each.insert(partition.parse().ok()?, offset.parse().ok()?);
        if before.is_some() {
            return None;
        }
    }
    Some(each)
}

/// Which records are wanted.
#[derive(Default)]
pub struct Filter {
    pub key: Option<String>,
    /// A header, and the value that it has, unless any will do.
    pub header: Option<(String, Option<String>)>,
    /// A text that the key or the value has.
    pub grep: Option<memmem::Finder<'static>>,
    /// What the key begins with.
    pub prefix: Option<String>,
    /// Only the newest record of each key.
    pub newest: Option<Newest>,
}

/// Which of the newest records of keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// Those that have a value.
    Values,
    /// Those that say that a key was deleted, too.
    Changes,
}

impl Filter {
    pub fn takes(&self, record: &Record) -> bool {
        if let Some(key) = &self.key
            && record.key.as_deref() != Some(key.as_bytes())
        {
            return false;
        }
        if let Some(prefix) = &self.prefix
            && !record
                .key
                .as_ref()
                .is_some_and(|key| key.starts_with(prefix.as_bytes()))
        {
            return false;
        }
        if let Some((name, value)) = &self.header
            && !has_header(record, name, value.as_deref())
        {
            return false;
        }
        if self.newest == Some(Newest::Values) && record.value.is_none() {
            return false;
        }
        let Some(grep) = &self.grep else { return true };
        let mut parts = [&record.value, &record.key].into_iter().flatten();
        parts.any(|part| grep.find(part).is_some())
    }
}

fn has_header(record: &Record, name: &str, value: Option<&str>) -> bool {
    record.headers.iter().any(|(known, own)| {
        let is_value = |value: &str| own.as_deref().unwrap_or_default() == value.as_bytes();
        known == name && value.is_none_or(is_value)
    })
}

/// What a request wants to read.
pub struct Reading {
    pub from: From,
    pub partition: Option<i32>,
    pub max: usize,
    pub wait: Option<Duration>,
    pub filter: Filter,
}

impl Reading {
    /// What the parameters say. To follow has no end, and so no `max` and no `wait`.
    ///
    /// # Errors
    /// 400.
    pub fn parse(query: &mut Query, follow: bool) -> Result<Reading, Problem> {
        let form = "earliest, latest, -N for the newest N, an offset of one partition, a time as in \
                    2026-01-31T10:00:00Z, or what Millstream-Next said";
        let from = query.take("from", form, From::parse)?;
        let max = max(query)?;
        let wait = wait(query)?;
        if follow && (max.is_some() || wait.is_some()) {
            let detail = "what is followed has no end: leave max and wait away";
            return Err(Problem::bad_request(detail));
        }
        let key = query.text("key");
        let grep = query.text("grep");
        let header = query.text("header");
        let partition = query.number("partition")?;
        let grep = grep.map(|text| memmem::Finder::new(text.as_bytes()).into_owned());
        // To search, and to wait, is to read on.
        let is_search = key.is_some() || grep.is_some() || header.is_some();
        let from = from.unwrap_or(match wait {
            _ if is_search => From::Earliest,
            Some(_) => From::Latest,
            None => From::Newest(max.unwrap_or(NEWEST)),
        });
        let header = header.map(|header| match header.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (header, None),
        });
        Ok(Reading {
            from,
            partition,
            max: max.unwrap_or(MAX_DEFAULT),
            wait,
            filter: Filter {
                key,
                header,
                grep,
                ..Filter::default()
            },
        })
    }

    /// Goes on behind the event with this id.
    ///
    /// # Errors
    /// 400 for an id that is none of ours.
    pub fn resume(&mut self, id: &HeaderValue) -> Result<(), Problem> {
        let each = id.to_str().ok().and_then(each);
        let each =
            each.ok_or_else(|| Problem::bad_request("Last-Event-ID is no id of an event"))?;
        self.from = From::Each(each);
        Ok(())
    }

    /// The partitions that are read.
    ///
    /// # Errors
    /// 404 for one that does not exist.
    fn partitions(&self, topic: &Topic) -> Result<Vec<(i32, PartitionKey)>, Problem> {
        let with_key = |index| {
            let key = topic.key_of(index);
            key.map(|key| (index, key))
        };
        if let From::Each(each) = &self.from {
            let mut indexes = each.keys();
            if indexes.any(|index| topic.key_of(*index).is_none()) {
                return Err(EngineError::UnknownTopicOrPartition.into());
            }
        }
        let found: Option<Vec<_>> = match self.partition {
            Some(index) => Some(index).into_iter().map(with_key).collect(),
            None => (0..topic.partitions as i32).map(with_key).collect(),
        };
        Ok(found.ok_or(EngineError::UnknownTopicOrPartition)?)
    }

    pub async fn cursors(
        &self,
        engine: &Rc<Engine>,
        topic: &Topic,
    ) -> Result<Vec<Cursor>, Problem> {
        let partitions = self.partitions(topic)?;
        if matches!(self.from, From::Offset(_)) && partitions.len() > 1 {
            let detail = format!(
                "{} has {} partitions: an offset needs ?partition=",
                topic.name,
                partitions.len()
            );
            return Err(Problem::bad_request(detail));
        }
        let mut cursors = Vec::with_capacity(partitions.len());
        let mut slice = Slice::new();
        for (index, key) in partitions {
            slice.rest().await;
            let end = at(engine, key, OffsetSpec::Latest).await?;
            let next = match &self.from {
                From::Earliest => at(engine, key, OffsetSpec::Earliest).await?,
                From::Latest | From::Newest(_) => end,
                From::Time(ms) => match at(engine, key, OffsetSpec::AtTime(*ms)).await? {
                    -1 => end,
                    offset => offset,
                },
                From::Offset(offset) => *offset,
                From::Each(each) => match each.get(&index) {
                    Some(offset) => *offset,
                    None => at(engine, key, OffsetSpec::Earliest).await?,
                },
            };
            if next > end {
                let start = at(engine, key, OffsetSpec::Earliest).await?;
                let asked = next;
                return Err(EngineError::OffsetOutOfRange { asked, start, end }.into());
            }
            cursors.push(Cursor {
                index,
                key,
                next,
                end,
            });
        }
        Ok(cursors)
    }
}

/// The most records that are asked for.
///
/// # Errors
/// 400 for more than there may be.
pub fn max(query: &mut Query) -> Result<Option<usize>, Problem> {
    let form = format!("a number from 1 to {MAX_MAX}");
    query.take("max", &form, |text| {
        text.parse().ok().filter(|max| (1..=MAX_MAX).contains(max))
    })
}

/// How long to wait for a record.
///
/// # Errors
/// 400 for what is no time, or too long.
pub fn wait(query: &mut Query) -> Result<Option<Duration>, Problem> {
    query.take("wait", "a time of up to 60s, as in 500ms or 5s", |text| {
        query::duration(text).filter(|wait| *wait <= WAIT_MAX)
    })
}

pub async fn at(
    engine: &Rc<Engine>,
    key: PartitionKey,
    spec: OffsetSpec,
) -> Result<i64, EngineError> {
    Ok(offsets::find(engine, key, spec).await?.offset)
}

pub fn topic(engine: &Engine, name: &str) -> Result<Arc<Topic>, Problem> {
    let found = engine.topic(name);
    found.ok_or_else(|| Problem::unknown_topic(name))
}

/// How far one partition was read.
pub struct Cursor {
    pub index: i32,
    pub key: PartitionKey,
    pub next: i64,
    /// Where its log ended when the request came.
    pub end: i64,
}

/// Partitions and offsets as [`From::Each`] has them.
pub fn vector(next: impl Iterator<Item = (i32, i64)>) -> String {
    let mut text = Vec::new();
    put_vector(&mut text, next);
    String::from_utf8(text).unwrap_or_default()
}

/// Adds what [`vector`] says to a text.
pub fn put_vector(text: &mut Vec<u8>, next: impl Iterator<Item = (i32, i64)>) {
    for (place, (index, offset)) in next.enumerate() {
        let separator = if place > 0 { "," } else { "" };
        // Writing to memory does not fail.
        let _ = write!(text, "{separator}{index}:{offset}");
    }
}

/// What a read takes along from round to round.
pub struct Reader {
    pub engine: Rc<Engine>,
    pub filter: Filter,
    slice: Slice,
}

impl Reader {
    pub fn new(engine: &Rc<Engine>, filter: Filter) -> Reader {
        Reader {
            engine: Rc::clone(engine),
            filter,
            slice: Slice::new(),
        }
    }

    /// Lets others pass, if this has kept them waiting.
    pub async fn rest(&mut self) {
        self.slice.rest().await;
    }

    /// Reads once from each cursor that is not at its end, and moves it behind what was read. Returns what the filter
    /// takes. With `until` it waits, at all ends, for something to come.
    pub async fn round(
        &mut self,
        cursors: &mut [Cursor],
        until: Option<Instant>,
        memory: &mut Share,
    ) -> Result<Merge, Problem> {
        let is_read = |cursor: &Cursor| until.is_some() || cursor.next < cursor.end;
        let places: Vec<usize> = (0..cursors.len())
            .filter(|place| is_read(&cursors[*place]))
            .collect();
        let max_bytes = (ROUND_BYTES / places.len().max(1)).max(READ_BYTES_MIN);
        let reads = places.iter().map(|place| {
            Ok(PartitionRead {
                key: cursors[*place].key,
                offset: cursors[*place].next,
                max_bytes,
            })
        });
        let wanted = Fetch {
            reads: reads.collect(),
            min_bytes: 1,
            max_bytes: ROUND_BYTES,
            deadline: until,
        };
        let began = Instant::now();
        let fetched = fetch(&self.engine, &wanted, pending()).await;
        let mut found = Merge::default();
        let (mut any, mut unpacked) = (false, 0);
        for (place, data) in places.into_iter().zip(fetched) {
            let cursor = &mut cursors[place];
            let PartitionData {
                mut records,
                has_more,
                high_watermark,
                ..
            } = data?;
            any |= !records.is_empty();
            if records.is_empty() && !has_more {
                // What was there up to the end, compaction has taken.
                cursor.next = cursor.next.max(high_watermark);
            }
            // The rest is read again: what a batch unpacks to is up to its producer.
            while unpacked < UNPACKED_BYTES_MAX
                && let Some((header, batch)) = records::next_batch(&mut records)
            {
                let mut taken = Vec::new();
                for record in records::of_batch(&self.engine, header, batch).await? {
                    unpacked += record.bytes();
                    if record.offset >= cursor.next && self.filter.takes(&record) {
                        taken.push(record);
                    }
                }
                if self.filter.newest.is_some() {
                    taken = newest_of(&self.engine, cursor.key, taken).await?;
                }
                for record in taken {
                    found.push(place, record);
                }
                cursor.next = cursor.next.max(header.next_offset());
                memory.grow(unpacked).await;
                self.slice.rest().await;
            }
        }
        // A fetch that may not park returns at once.
        if !any && let Some(until) = until {
            let now = Instant::now();
            if now < until && now.duration_since(began) < NO_ROOM_PAUSE {
                sleep(NO_ROOM_PAUSE).await;
            }
        }
        self.slice.rest().await;
        Ok(found)
    }
}

/// Those of these records that are the newest of their keys.
async fn newest_of(
    engine: &Rc<Engine>,
    partition: PartitionKey,
    mut records: Vec<Record>,
) -> Result<Vec<Record>, EngineError> {
    records.retain(|record| record.key.is_some());
    if records.is_empty() {
        return Ok(records);
    }
    let asked = records.iter().map(|record| KeyRecord {
        key: KeyHash::of(record.key.as_deref().unwrap_or_default()),
        offset: record.offset,
        is_tombstone: record.value.is_none(),
    });
    let mut are = newest::are_newest(engine, partition, asked.collect())
        .await?
        .into_iter();
    records.retain(|_| are.next() == Some(true));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_begins_where_it_is_told() {
        let at = |text| From::parse(text);
        assert_eq!(at("earliest"), Some(From::Earliest));
        assert_eq!(at("latest"), Some(From::Latest));
        assert_eq!(at("-100"), Some(From::Newest(100)));
        assert_eq!(at("17"), Some(From::Offset(17)));
        assert_eq!(
            at("0:123,1:88"),
            Some(From::Each(BTreeMap::from([(0, 123), (1, 88)])))
        );
        let time = at("2023-11-14T22:13:20Z");
        assert_eq!(time, Some(From::Time(1_700_000_000_000)));
        for wrong in [
            "",
            "-",
            "-x",
            "-10001",
            "0:",
            ":1",
            "0:1,",
            "0:1,0:2",
            "yesterday",
            "1.5",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
