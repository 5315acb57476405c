//! Records out.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::query::{self, Query};
use super::records::{self, Record};
use super::request::Asked;
use crate::engine::catalog::Topic;
use crate::engine::fetch::{Fetch, PartitionData, PartitionRead, fetch};
use crate::engine::offsets::{self, OffsetSpec};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::reactor::Slice;
use crate::net::budget::Share;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use std::collections::VecDeque;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How many records come when nothing is asked.
const NEWEST: usize = 10;
/// How many come at most when it is not said.
const MAX_DEFAULT: usize = 100;
const MAX_MAX: usize = 10_000;
/// The most bytes of keys and values in one answer; the first record goes beyond it if it has to.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Bytes of batches that are read at a time.
const ROUND_BYTES: usize = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A search answers with what it has found after this time.
const SEARCH_TIME: Duration = Duration::from_secs(5);
/// The most offsets of a partition that are looked at for its newest records, where compaction left few.
const TAIL_OFFSETS_MAX: i64 = 100_000;

/// Where to read on, of each partition: `partition:offset` with commas between them.
const NEXT: HeaderName = HeaderName::from_static("millstream-next");
const TIMESTAMP: HeaderName = HeaderName::from_static("millstream-timestamp");

/// Where a read begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    /// So many of the newest.
    Newest(usize),
    /// The first as late as this (ms).
    Time(i64),
    /// Of one partition.
    Offset(i64),
    /// Offsets by partition.
    Each(Vec<(i32, i64)>),
}

impl From {
    fn parse(text: &str) -> Option<From> {
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

fn each(text: &str) -> Option<Vec<(i32, i64)>> {
    let pairs = text.split(',').map(|pair| {
        let (partition, offset) = pair.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    });
    pairs.collect()
}

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A value a line.
    Text,
    /// An array.
    Json,
    /// An object a line.
    NdJson,
}

impl Form {
    /// # Errors
    /// 406 where none of these is taken.
    fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let accept = headers.get(ACCEPT).map(HeaderValue::as_bytes);
        let accept = String::from_utf8_lossy(accept.unwrap_or(b"*/*")).to_ascii_lowercase();
        for kind in accept.split(',') {
            match kind.split(';').next().unwrap_or_default().trim() {
                "application/json" => return Ok(Form::Json),
                answer::NDJSON => return Ok(Form::NdJson),
                "*/*" | "text/*" | "text/plain" | "text/html" | "" => return Ok(Form::Text),
                _ => {}
            }
        }
        let detail = "records come as text/plain, application/json or application/x-ndjson";
        let status = StatusCode::NOT_ACCEPTABLE;
        Err(Problem::new(status, "not-acceptable", detail))
    }
}

/// Which records are wanted.
struct Filter {
    key: Option<String>,
    /// A text that the key or the value has.
    grep: Option<memmem::Finder<'static>>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        if let Some(key) = &self.key
            && record.key.as_deref() != Some(key.as_bytes())
        {
            return false;
        }
        let Some(grep) = &self.grep else { return true };
        let mut parts = [&record.value, &record.key].into_iter().flatten();
        parts.any(|part| grep.find(part).is_some())
    }
}

/// `GET /t/{topic}`: records of all partitions, or of one.
///
/// Parameters: `from`, `partition`, `max`, `wait`, `key`, `grep`.
pub async fn many(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let form = Form::of(&asked.headers)?;
    let read = Reading::parse(&mut asked.query)?;
    let topic = topic(&engine, &asked.params[0])?;
    let mut memory = engine.memory.share();
    let (found, next) = match read.from {
        From::Newest(count) => newest(&engine, &topic, &read, count, &mut memory).await?,
        _ => {
            let mut cursors = read.cursors(&engine, &topic).await?;
            let found = read_on(&engine, &mut cursors, &read, &mut memory).await?;
            (found, next_of(&cursors))
        }
    };
    let (kind, body) = shown(form, &found);
    let mut answer = answer::of(StatusCode::OK, kind, body);
    if let Ok(next) = HeaderValue::from_str(&next) {
        answer.headers_mut().insert(NEXT, next);
    }
    Ok(answer)
}

/// `GET /t/{topic}/{partition}/{offset}`: the value of one record, with the type that its `content-type` header
/// says. 204 for a record without a value.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    asked.query.end()?;
    let [name, partition, offset] = &asked.params[..] else {
        return Err(Problem::bad_request("a topic, a partition and an offset"));
    };
    let number = |what: &str| Problem::bad_request(format!("the {what} is a number"));
    let partition: i32 = partition.parse().map_err(|_| number("partition"))?;
    let offset: i64 = offset.parse().map_err(|_| number("offset"))?;
    let topic = topic(&engine, name)?;
    let key = topic.key_of(partition);
    let key = key.ok_or(EngineError::UnknownTopicOrPartition)?;
    let unknown = || {
        let detail = format!("partition {partition} of {name} has no record with offset {offset}");
        Problem::new(StatusCode::NOT_FOUND, "unknown-record", detail)
    };
    let wanted = Fetch {
        reads: vec![Ok(PartitionRead {
            key,
            offset,
            max_bytes: 1,
        })],
        min_bytes: 0,
        max_bytes: 1,
        deadline: None,
    };
    let mut data = match fetch(&engine, &wanted, pending()).await.pop() {
        Some(Ok(data)) => data,
        Some(Err(EngineError::OffsetOutOfRange { .. })) | None => return Err(unknown()),
        Some(Err(error)) => return Err(error.into()),
    };
    let (header, batch) = records::next_batch(&mut data.records).ok_or_else(unknown)?;
    let mut records = records::of_batch(&engine, header, batch).await?.into_iter();
    let record = records.find(|record| record.offset == offset);
    Ok(raw(record.ok_or_else(unknown)?))
}

fn raw(record: Record) -> Answer {
    let kind = record.header("content-type");
    let kind = kind.and_then(|kind| HeaderValue::from_bytes(kind).ok());
    let status = match &record.value {
        Some(_) => StatusCode::OK,
        None => StatusCode::NO_CONTENT,
    };
    let octets = "application/octet-stream";
    let mut answer = answer::of(status, octets, record.value.clone().unwrap_or_default());
    let headers = answer.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(TIMESTAMP, record.timestamp_ms.into());
    for (name, value) in &record.headers {
        let name = [b"kafka-header-", &name[..]].concat();
        let name = HeaderName::from_bytes(&name);
        let value = HeaderValue::from_bytes(value.as_deref().unwrap_or_default());
        // What HTTP cannot say is left out: JSON has it.
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    answer
}

/// What a request wants to read.
struct Reading {
    from: From,
    partition: Option<i32>,
    max: usize,
    wait: Option<Duration>,
    filter: Filter,
}

impl Reading {
    fn parse(query: &mut Query) -> Result<Reading, Problem> {
        let form = "earliest, latest, -N for the newest N, an offset of one partition, a time as in \
                    2026-01-31T10:00:00Z, or what Millstream-Next said";
        let from = query.take("from", form, From::parse)?;
        let form = format!("a number from 1 to {MAX_MAX}");
        let max = query.take("max", &form, |text| {
            text.parse().ok().filter(|max| (1..=MAX_MAX).contains(max))
        })?;
        let wait = query.take("wait", "a time of up to 60s, as in 500ms or 5s", |text| {
            query::duration(text).filter(|wait| *wait <= WAIT_MAX)
        })?;
        let key = query.text("key");
        let grep = query.text("grep");
        let partition = query.number("partition")?;
        query.end()?;
        let grep = grep.map(|text| memmem::Finder::new(text.as_bytes()).into_owned());
        // To search, and to wait, is to read on.
        let from = from.unwrap_or(match (&key, &grep, wait) {
            (None, None, None) => From::Newest(max.unwrap_or(NEWEST)),
            (None, None, Some(_)) => From::Latest,
            _ => From::Earliest,
        });
        Ok(Reading {
            from,
            partition,
            max: max.unwrap_or(MAX_DEFAULT),
            wait,
            filter: Filter { key, grep },
        })
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
        let found: Option<Vec<_>> = match (&self.from, self.partition) {
            (From::Each(each), _) => each.iter().map(|(index, _)| with_key(*index)).collect(),
            (_, Some(index)) => Some(index).into_iter().map(with_key).collect(),
            _ => (0..topic.partitions as i32).map(with_key).collect(),
        };
        Ok(found.ok_or(EngineError::UnknownTopicOrPartition)?)
    }

    async fn cursors(&self, engine: &Rc<Engine>, topic: &Topic) -> Result<Vec<Cursor>, Problem> {
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
        for (place, (index, key)) in partitions.into_iter().enumerate() {
            let end = at(engine, key, OffsetSpec::Latest).await?;
            let next = match &self.from {
                From::Earliest => at(engine, key, OffsetSpec::Earliest).await?,
                From::Latest | From::Newest(_) => end,
                From::Time(ms) => match at(engine, key, OffsetSpec::AtTime(*ms)).await? {
                    -1 => end,
                    offset => offset,
                },
                From::Offset(offset) => *offset,
                From::Each(each) => each[place].1,
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

async fn at(engine: &Rc<Engine>, key: PartitionKey, spec: OffsetSpec) -> Result<i64, EngineError> {
    Ok(offsets::find(engine, key, spec).await?.offset)
}

fn topic(engine: &Engine, name: &str) -> Result<std::sync::Arc<Topic>, Problem> {
    let found = engine.topic(name);
    found.ok_or_else(|| Problem::unknown_topic(name))
}

/// How far one partition was read.
struct Cursor {
    index: i32,
    key: PartitionKey,
    next: i64,
    /// Where its log ended when the request came.
    end: i64,
}

fn next_of(cursors: &[Cursor]) -> String {
    let each = cursors
        .iter()
        .map(|cursor| format!("{}:{}", cursor.index, cursor.next));
    each.collect::<Vec<_>>().join(",")
}

/// A record, and the partition that it is in.
type Found = (i32, Record);

/// The newest `count` records of the partitions together, in the order of their timestamps.
async fn newest(
    engine: &Rc<Engine>,
    topic: &Topic,
    read: &Reading,
    count: usize,
    memory: &mut Share,
) -> Result<(Vec<Found>, String), Problem> {
    let ends = read.cursors(engine, topic).await?;
    let next = next_of(&ends);
    let mut starts = Vec::with_capacity(ends.len());
    for cursor in &ends {
        starts.push(at(engine, cursor.key, OffsetSpec::Earliest).await?);
    }
    let mut span = count as i64;
    loop {
        let mut found: VecDeque<Found> = VecDeque::new();
        let mut bytes = 0;
        for (cursor, start) in ends.iter().zip(&starts) {
            let mut one = [Cursor {
                next: (*start).max(cursor.end - span),
                ..*cursor
            }];
            while one[0].next < one[0].end {
                for list in round(engine, &mut one, &read.filter, None).await? {
                    for record in list {
                        bytes += bytes_of(&record);
                        found.push_back((cursor.index, record));
                    }
                }
                while found.len() > 1 && (found.len() > count * 2 || bytes > ANSWER_BYTES_MAX) {
                    keep_newest(&mut found, count, &mut bytes);
                }
                memory.grow(2 * bytes).await;
            }
        }
        keep_newest(&mut found, count, &mut bytes);
        let reached = ends.iter().zip(&starts);
        let is_all = reached
            .into_iter()
            .all(|(cursor, start)| cursor.end - span <= *start);
        if found.len() >= count || is_all || span >= TAIL_OFFSETS_MAX {
            return Ok((found.into(), next));
        }
        span *= 10;
    }
}

/// Drops the oldest until `count` are left, and few enough bytes.
fn keep_newest(found: &mut VecDeque<Found>, count: usize, bytes: &mut usize) {
    // Stable: records of one partition keep their order.
    found
        .make_contiguous()
        .sort_by_key(|(_, record)| record.timestamp_ms);
    while found.len() > count || (found.len() > 1 && *bytes > ANSWER_BYTES_MAX) {
        if let Some((_, record)) = found.pop_front() {
            *bytes -= bytes_of(&record);
        }
    }
}

fn bytes_of(record: &Record) -> usize {
    let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    part(&record.key) + part(&record.value)
}

/// Reads on from the cursors until there is enough, the logs end, or time is up; the cursors are where the
/// next request goes on. With a wait, for the first record that comes.
async fn read_on(
    engine: &Rc<Engine>,
    cursors: &mut [Cursor],
    read: &Reading,
    memory: &mut Share,
) -> Result<Vec<Found>, Problem> {
    let began = Instant::now();
    let deadline = read.wait.map(|wait| began + wait);
    let mut found = Vec::new();
    let mut bytes = 0;
    loop {
        let is_behind = cursors.iter().any(|cursor| cursor.next < cursor.end);
        // Only who has nothing waits.
        let until = deadline.filter(|_| !is_behind && found.is_empty());
        if !is_behind && until.is_none_or(|until| Instant::now() >= until) {
            return Ok(found);
        }
        let lists = round(engine, cursors, &read.filter, until).await?;
        let mut lists: Vec<VecDeque<Record>> = lists.into_iter().map(VecDeque::from).collect();
        while found.len() < read.max && (found.is_empty() || bytes < ANSWER_BYTES_MAX) {
            let Some(place) = earliest(&lists) else { break };
            let Some(record) = lists[place].pop_front() else {
                break;
            };
            bytes += bytes_of(&record);
            found.push((cursors[place].index, record));
        }
        for (cursor, list) in cursors.iter_mut().zip(&lists) {
            if let Some(first) = list.front() {
                cursor.next = first.offset;
            }
        }
        memory.grow(2 * bytes).await;
        let is_full = lists.iter().any(|list| !list.is_empty()) || found.len() >= read.max;
        let is_late = began.elapsed() > SEARCH_TIME.max(read.wait.unwrap_or_default());
        if is_full || is_late || engine.is_stopping() {
            return Ok(found);
        }
    }
}

/// The list whose first record is the earliest.
fn earliest(lists: &[VecDeque<Record>]) -> Option<usize> {
    let firsts = lists.iter().enumerate();
    let firsts = firsts.filter_map(|(place, list)| Some((list.front()?.timestamp_ms, place)));
    firsts.min().map(|(_, place)| place)
}

/// Reads once from each cursor, and moves it behind what was read. Returns what the filter takes, by cursor.
async fn round(
    engine: &Rc<Engine>,
    cursors: &mut [Cursor],
    filter: &Filter,
    until: Option<Instant>,
) -> Result<Vec<Vec<Record>>, Problem> {
    let max_bytes = ROUND_BYTES / cursors.len().max(1);
    let reads = cursors.iter().map(|cursor| {
        Ok(PartitionRead {
            key: cursor.key,
            offset: cursor.next,
            max_bytes,
        })
    });
    let wanted = Fetch {
        reads: reads.collect(),
        min_bytes: 1,
        max_bytes: ROUND_BYTES,
        deadline: until,
    };
    let mut lists = Vec::with_capacity(cursors.len());
    let mut slice = Slice::new();
    for (cursor, data) in cursors
        .iter_mut()
        .zip(fetch(engine, &wanted, pending()).await)
    {
        let PartitionData {
            mut records,
            has_more,
            high_watermark,
            ..
        } = data?;
        let mut list = Vec::new();
        if records.is_empty() && !has_more {
            // What was there up to the end, compaction has taken.
            cursor.next = cursor.next.max(high_watermark);
        }
        while let Some((header, batch)) = records::next_batch(&mut records) {
            let all = records::of_batch(engine, header, batch).await?;
            let new = all
                .into_iter()
                .filter(|record| record.offset >= cursor.next);
            list.extend(new.filter(|record| filter.takes(record)));
            cursor.next = cursor.next.max(header.next_offset());
            slice.rest().await;
        }
        lists.push(list);
    }
    Ok(lists)
}

/// The answer's type and body.
fn shown(form: Form, found: &[Found]) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    let objects = found
        .iter()
        .map(|(partition, record)| record.to_json(*partition).to_string());
    match form {
        Form::Text => {
            for (_, record) in found {
                body.extend_from_slice(record.value.as_deref().unwrap_or_default());
                body.push(b'\n');
            }
            (answer::TEXT, body)
        }
        Form::NdJson => {
            for object in objects {
                body.extend_from_slice(object.as_bytes());
                body.push(b'\n');
            }
            (answer::NDJSON, body)
        }
        Form::Json => {
            body.push(b'[');
            for (place, object) in objects.enumerate() {
                if place > 0 {
                    body.extend_from_slice(b",\n ");
                }
                body.extend_from_slice(object.as_bytes());
            }
            body.extend_from_slice(b"]\n");
            (answer::JSON, body)
        }
    }
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
        assert_eq!(at("0:123,1:88"), Some(From::Each(vec![(0, 123), (1, 88)])));
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
            "yesterday",
            "1.5",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_form_is_the_first_that_is_taken_and_served() {
        let form = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            Form::of(&headers).ok()
        };
        assert_eq!(Form::of(&HeaderMap::new()).ok(), Some(Form::Text));
        assert_eq!(form("*/*"), Some(Form::Text));
        assert_eq!(form("application/json"), Some(Form::Json));
        assert_eq!(
            form("image/png, application/x-ndjson;q=0.5"),
            Some(Form::NdJson)
        );
        assert_eq!(form("image/png"), None);
    }
}
