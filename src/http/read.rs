//! Records out.

use super::Services;
use super::answer::{self, Answer, PIECE_BYTES};
use super::follow::Follower;
use super::form::Form;
use super::gather::{Amount, SEARCH_TIME, read_on};
use super::merge::Merge;
use super::precondition;
use super::problem::Problem;
use super::reading::{self, Cursor, From, Reader, Reading};
use super::records::{self, Found, Record};
use super::request::Asked;
use crate::engine::catalog::Topic;
use crate::engine::fetch::{Fetch, PartitionRead, fetch};
use crate::engine::offsets::OffsetSpec;
use crate::engine::{Engine, EngineError};
use crate::log::batch::BatchHeader;
use crate::net::budget::Share;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use std::future::pending;
use std::mem;
use std::rc::Rc;
use tokio::time::Instant;

/// The most bytes of keys and values in one answer; the first record goes beyond it if it has to.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The most offsets of a partition that are looked at for its newest records, where compaction left few.
const TAIL_OFFSETS_MAX: i64 = 100_000;

/// Headers of a record that its raw form has: more, and clients could not read the answer. JSON has them all.
const RAW_HEADERS_MAX: usize = 100;
const RAW_HEADERS_BYTES_MAX: usize = 16 << 10;

/// Where to read on, of each partition: `partition:offset` with commas between them.
const NEXT: HeaderName = HeaderName::from_static("millstream-next");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("millstream-timestamp");

/// `GET /t/{topic}`: records of all partitions, or of one.
///
/// Parameters: `from`, `partition`, `max`, `wait`, `key`, `grep`, `header`, `follow`. A `Last-Event-ID` goes on where that event
/// was.
pub async fn many(mut asked: Asked) -> Result<Answer, Problem> {
    let form = Form::of(&asked.headers)?;
    let follow = asked.query.text("follow").is_some() || form == Form::Events;
    let read = Reading::parse(&mut asked.query, follow)?;
    answer(asked, read, form, follow).await
}

/// Answers with what was asked to be read.
///
/// # Errors
/// 404 for what is not there; why it cannot be read.
pub async fn answer(
    asked: Asked,
    mut read: Reading,
    form: Form,
    follow: bool,
) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    if let Some(id) = asked.headers.get(LAST_EVENT_ID).filter(|_| follow) {
        read.resume(id)?;
    }
    let topic = reading::topic(&engine, &asked.params[0])?;
    let mut memory = engine.memory.share();
    let mut reader = Reader::new(&engine, mem::take(&mut read.filter));
    let (found, cursors) = match read.from {
        From::Newest(count) => newest(&mut reader, &topic, &read, count, &mut memory).await?,
        _ if follow => (Vec::new(), read.cursors(&engine, &topic).await?),
        _ => {
            let mut cursors = read.cursors(&engine, &topic).await?;
            let amount = Amount {
                records: read.max,
                bytes: ANSWER_BYTES_MAX,
                wait: read.wait,
            };
            let found = read_on(&mut reader, &mut cursors, &amount, &mut memory).await?;
            let found = found.into_iter();
            let found = found.map(|(place, record)| (cursors[place].index, record));
            (found.collect(), cursors)
        }
    };
    if follow {
        let follower = Follower {
            reader,
            form,
            cursors,
            activity: asked.activity,
        };
        return Ok(follower.answer(found, memory));
    }
    let next = reading::vector(cursors.iter().map(|cursor| (cursor.index, cursor.next)));
    let bytes: usize = found.iter().map(|(_, record)| record.bytes()).sum();
    let mut answer = if bytes <= PIECE_BYTES {
        answer::of(
            StatusCode::OK,
            form.kind(),
            form.pieces(found).flatten().collect::<Vec<u8>>(),
        )
    } else {
        answer::in_pieces(StatusCode::OK, form.kind(), form.pieces(found))
    };
    answer.body_mut().hold(memory);
    if let Ok(next) = HeaderValue::from_str(&next) {
        answer.headers_mut().insert(NEXT, next);
    }
    if let [cursor] = &cursors[..]
        && let Ok(tag) = HeaderValue::from_str(&precondition::of_partition(cursor.next))
    {
        answer.headers_mut().insert(ETAG, tag);
    }
    Ok(answer)
}

/// `GET /t/{topic}/{partition}/{offset}`: the value of one record, with the type that its `content-type` header
/// says. 204 for a record without a value.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let [name, partition, offset] = &asked.params[..] else {
        return Err(Problem::bad_request("a topic, a partition and an offset"));
    };
    let number = |what: &str| Problem::bad_request(format!("the {what} is a number"));
    let partition: i32 = partition.parse().map_err(|_| number("partition"))?;
    let offset: i64 = offset.parse().map_err(|_| number("offset"))?;
    let topic = reading::topic(&engine, name)?;
    let found = record(&asked.services, &topic, partition, offset, None).await?;
    let unknown = || {
        let detail = format!("partition {partition} of {name} has no record with offset {offset}");
        Problem::new(StatusCode::NOT_FOUND, "unknown-record", detail)
    };
    Ok(raw(found.ok_or_else(unknown)?))
}

/// The record at an offset, if there is one; with `until` it waits until it is durable.
pub async fn record(
    services: &Services,
    topic: &Topic,
    partition: i32,
    offset: i64,
    until: Option<Instant>,
) -> Result<Option<Record>, EngineError> {
    let Some((header, batch)) = batch_at(&services.engine, topic, partition, offset, until).await?
    else {
        return Ok(None);
    };
    let of = (topic.id, partition);
    records::of_offset(services, of, header, batch, offset).await
}

/// The records of the batch that has this offset, or of the next one; none at the end.
pub async fn batch(
    engine: &Rc<Engine>,
    topic: &Topic,
    partition: i32,
    offset: i64,
    until: Option<Instant>,
) -> Result<Vec<Record>, EngineError> {
    match batch_at(engine, topic, partition, offset, until).await? {
        Some((header, batch)) => records::of_batch(engine, header, batch).await,
        None => Ok(Vec::new()),
    }
}

async fn batch_at(
    engine: &Rc<Engine>,
    topic: &Topic,
    partition: i32,
    offset: i64,
    until: Option<Instant>,
) -> Result<Option<(BatchHeader, Bytes)>, EngineError> {
    let key = topic.key_of(partition);
    let key = key.ok_or(EngineError::UnknownTopicOrPartition)?;
    let wanted = Fetch {
        reads: vec![Ok(PartitionRead {
            key,
            offset,
            max_bytes: 1,
        })],
        min_bytes: usize::from(until.is_some()),
        max_bytes: 1,
        deadline: until,
    };
    let mut data = match fetch(engine, &wanted, pending()).await.pop() {
        Some(Ok(data)) => data,
        Some(Err(EngineError::OffsetOutOfRange { .. })) | None => return Ok(None),
        Some(Err(error)) => return Err(error),
    };
    Ok(records::next_batch(&mut data.records))
}

/// A record's value as it is, with what HTTP can say of the rest in headers.
pub fn raw(record: Record) -> Answer {
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
    let mut bytes = 0;
    for (name, value) in record.headers.iter().take(RAW_HEADERS_MAX) {
        bytes += name.len() + value.as_ref().map_or(0, Bytes::len);
        if bytes > RAW_HEADERS_BYTES_MAX {
            break;
        }
        let name = [b"kafka-header-", &name[..]].concat();
        let name = HeaderName::from_bytes(&name);
        let value = HeaderValue::from_bytes(value.as_deref().unwrap_or_default());
        // What HTTP cannot say is left out: JSON has it.
        if let (Ok(name), Ok(value)) = (name, value) {
            let _ = headers.try_append(name, value);
        }
    }
    answer
}

/// The newest `count` records of the partitions together, in the order of their timestamps, and where all
/// of them ended.
async fn newest(
    reader: &mut Reader,
    topic: &Topic,
    read: &Reading,
    count: usize,
    memory: &mut Share,
) -> Result<(Vec<Found>, Vec<Cursor>), Problem> {
    let engine = Rc::clone(&reader.engine);
    let began = Instant::now();
    let ends = read.cursors(&engine, topic).await?;
    let mut starts = Vec::with_capacity(ends.len());
    for cursor in &ends {
        reader.rest().await;
        starts.push(reading::at(&engine, cursor.key, OffsetSpec::Earliest).await?);
    }
    let mut span = count as i64;
    loop {
        let mut found = Merge::default();
        let mut is_full = false;
        for (place, (cursor, start)) in ends.iter().zip(&starts).enumerate() {
            let mut one = [Cursor {
                next: (*start).max(cursor.end - span),
                ..*cursor
            }];
            while one[0].next < one[0].end {
                let mut round = engine.memory.share();
                let mut new = reader.round(&mut one, None, &mut round).await?;
                while let Some((_, record)) = new.pop() {
                    // What came meanwhile is for who reads on.
                    if record.offset < cursor.end {
                        found.push(place, record);
                    }
                }
                is_full |= keep_newest(&mut found, count);
                memory.grow(found.bytes()).await;
            }
        }
        let mut reached = ends.iter().zip(&starts);
        let is_all = reached.all(|(cursor, start)| cursor.end - span <= *start);
        let is_late = began.elapsed() > SEARCH_TIME;
        if is_full || found.count() >= count || is_all || is_late || span >= TAIL_OFFSETS_MAX {
            return Ok((found.into_found(|place| ends[place].index), ends));
        }
        span *= 10;
    }
}

/// Drops the oldest until `count` are left, and few enough bytes. True when bytes made it drop any.
fn keep_newest(found: &mut Merge, count: usize) -> bool {
    let mut is_full = false;
    while found.count() > count || (found.count() > 1 && found.bytes() > ANSWER_BYTES_MAX) {
        is_full |= found.count() <= count;
        found.pop();
    }
    is_full
}
