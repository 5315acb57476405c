//! Records out.

use super::answer::{self, Answer};
use super::follow::Follower;
use super::form::Form;
use super::problem::Problem;
use super::reading::{self, Cursor, Found, From, Reading, bytes_of};
use super::records::{self, Record};
use super::request::Asked;
use crate::engine::catalog::Topic;
use crate::engine::fetch::{Fetch, PartitionRead, fetch};
use crate::engine::offsets::OffsetSpec;
use crate::engine::{Engine, EngineError};
use crate::io::reactor::Slice;
use crate::net::budget::Share;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use std::collections::VecDeque;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The most bytes of keys and values in one answer; the first record goes beyond it if it has to.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A search answers with what it has found after this time.
const SEARCH_TIME: Duration = Duration::from_secs(5);
/// The most offsets of a partition that are looked at for its newest records, where compaction left few.
const TAIL_OFFSETS_MAX: i64 = 100_000;

/// Where to read on, of each partition: `partition:offset` with commas between them.
const NEXT: HeaderName = HeaderName::from_static("millstream-next");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("millstream-timestamp");

/// `GET /t/{topic}`: records of all partitions, or of one.
///
/// Parameters: `from`, `partition`, `max`, `wait`, `key`, `grep`, `follow`. A `Last-Event-ID` goes on where that event
/// was.
pub async fn many(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let form = Form::of(&asked.headers)?;
    let follow = asked.query.text("follow").is_some() || form == Form::Events;
    let mut read = Reading::parse(&mut asked.query, follow)?;
    if let Some(id) = asked.headers.get(LAST_EVENT_ID).filter(|_| follow) {
        read.resume(id)?;
    }
    let topic = reading::topic(&engine, &asked.params[0])?;
    let mut memory = engine.memory.share();
    let (found, cursors) = match read.from {
        From::Newest(count) => newest(&engine, &topic, &read, count, &mut memory).await?,
        _ if follow => (Vec::new(), read.cursors(&engine, &topic).await?),
        _ => {
            let mut cursors = read.cursors(&engine, &topic).await?;
            let found = read_on(&engine, &mut cursors, &read, &mut memory).await?;
            (found, cursors)
        }
    };
    if follow {
        let follower = Follower {
            engine,
            form,
            filter: read.filter,
            cursors,
            activity: asked.activity,
        };
        return Ok(follower.answer(found));
    }
    let mut answer = answer::of(StatusCode::OK, form.kind(), form.body(&found));
    let next = reading::vector(cursors.iter().map(|cursor| (cursor.index, cursor.next)));
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
    let topic = reading::topic(&engine, name)?;
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

/// The newest `count` records of the partitions together, in the order of their timestamps.
async fn newest(
    engine: &Rc<Engine>,
    topic: &Topic,
    read: &Reading,
    count: usize,
    memory: &mut Share,
) -> Result<(Vec<Found>, Vec<Cursor>), Problem> {
    let ends = read.cursors(engine, topic).await?;
    let mut starts = Vec::with_capacity(ends.len());
    let mut slice = Slice::new();
    for cursor in &ends {
        slice.rest().await;
        starts.push(reading::at(engine, cursor.key, OffsetSpec::Earliest).await?);
    }
    let mut span = count as i64;
    loop {
        let mut found: VecDeque<Found> = VecDeque::new();
        let mut bytes = 0;
        for (cursor, start) in ends.iter().zip(&starts) {
            slice.rest().await;
            let mut one = [Cursor {
                next: (*start).max(cursor.end - span),
                ..*cursor
            }];
            while one[0].next < one[0].end {
                for list in reading::round(engine, &mut one, &read.filter, None).await? {
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
            return Ok((found.into(), ends));
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
        let lists = reading::round(engine, cursors, &read.filter, until).await?;
        let mut lists: Vec<VecDeque<Record>> = lists.into_iter().map(VecDeque::from).collect();
        while found.len() < read.max && (found.is_empty() || bytes < ANSWER_BYTES_MAX) {
            let Some(place) = reading::earliest(&lists) else {
                break;
            };
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
