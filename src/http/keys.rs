//! The newest value of each key, for caches and for who looks one up.

use super::answer::{self, Answer};
use super::form::Form;
use super::precondition;
use super::problem::Problem;
use super::query;
use super::read;
use super::reading::{self, From, Newest, Reading};
use super::request::Asked;
use crate::engine::EngineError;
use crate::engine::indexes::newest;
use crate::log::key_hash::KeyHash;
use crate::wire::partitioner::partition_for_key;
use hyper::StatusCode;
use hyper::header::{ETAG, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

/// How long a record that was just appended may take to be durable.
const DURABLE_WAIT: Duration = Duration::from_secs(10);
/// How long who asks for all keys waits for their index: it is made when somebody asks for the first time.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// A key may have a newer record when the one that was found is read, and compaction may have taken that one.
const ATTEMPTS: usize = 3;

/// `GET /t/{topic}/keys`: the newest record of each key; with `follow` what changes after them too.
pub async fn all(mut asked: Asked) -> Result<Answer, Problem> {
    let form = match Form::of(&asked.headers)? {
        Form::Text => Form::Keys,
        other => other,
    };
    let follow = asked.query.text("follow").is_some() || form == Form::Events;
    let prefix = asked.query.text("prefix");
    let mut read = Reading::parse(&mut asked.query, follow)?;
    if matches!(read.from, From::Newest(_)) {
        read.from = From::Earliest;
    }
    read.filter.prefix = prefix;
    read.filter.newest = Some(if follow {
        Newest::Changes
    } else {
        Newest::Values
    });
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    // Said at once, and not when the first record is read.
    let until = Instant::now() + INDEX_WAIT;
    for key in topic.keys() {
        newest::ready(engine, key, until).await?;
    }
    read::answer(asked, read, form, follow).await
}

/// `GET /t/{topic}/keys/{key}`: the newest value of a key, with its version as `ETag`.
pub async fn one(mut asked: Asked) -> Result<Answer, Problem> {
    let partition = asked.query.number("partition")?;
    let form = "a time as in 500ms or 5s";
    let max_age = asked.query.take("max_age", form, query::duration)?;
    let max_age = max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let engine = &asked.services.engine;
    let [name, key] = &asked.params[..] else {
        return Err(Problem::bad_request("a topic and a key"));
    };
    let topic = reading::topic(engine, name)?;
    let partition =
        partition.unwrap_or_else(|| partition_for_key(key.as_bytes(), topic.partitions as i32));
    let id = topic
        .key_of(partition)
        .ok_or(EngineError::UnknownTopicOrPartition)?;
    let hash = KeyHash::of(key.as_bytes());
    let unknown = || {
        let detail = format!("{name} has no record with the key {key:?}");
        Problem::new(StatusCode::NOT_FOUND, "unknown-key", detail)
    };
    for _ in 0..ATTEMPTS {
        let found = newest::newest(engine, id, hash, max_age).await?;
        let (offset, is_deleted) = found.ok_or_else(unknown)?;
        let tag = precondition::of_key(offset);
        // What is durable is shown: a version that a power cut takes back was never there.
        let until = Instant::now() + DURABLE_WAIT;
        let record = read::record(&asked.services, &topic, partition, offset, Some(until)).await?;
        if is_deleted && record.is_some() {
            return Err(unknown());
        }
        let Some(record) = record.filter(|record| record.key.as_deref() == Some(key.as_bytes()))
        else {
            continue;
        };
        let mut answer = if precondition::is_had(&asked.headers, &tag) {
            answer::of(StatusCode::NOT_MODIFIED, answer::TEXT, "")
        } else {
            read::raw(record)
        };
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            answer.headers_mut().insert(ETAG, tag);
        }
        return Ok(answer);
    }
    // It changes faster than it can be read, or is not durable in time.
    Err(EngineError::NoKeyIndex.into())
}
