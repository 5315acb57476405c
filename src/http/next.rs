//! Consuming without being a consumer: read on where a group is, and say with the next request what is done.

use super::answer::{self, Answer};
use super::gather::{Amount, read_on};
use super::groups;
use super::leases::{Client, Leased};
use super::problem::Problem;
use super::query;
use super::reading::{self, Cursor, Filter, MAX_DEFAULT, Reader};
use super::request::Asked;
use crate::engine::catalog::Topic;
use crate::engine::offsets::OffsetSpec;
use crate::engine::{EngineError, PartitionKey};
use crate::io::reactor::Slice;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Says who a request is of.
const CLIENT_ID: HeaderName = HeaderName::from_static("client-id");
const CLIENT_ID_BYTES_MAX: usize = 249;
const LEASE: Duration = Duration::from_secs(30);
const LEASE_MAX: Duration = Duration::from_secs(3_600);
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A client for which there is no partition yet looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const OFFSETS_BYTES_MAX: usize = 16 << 20;

/// One partition of a `commit` token: what was read up to, under which lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    leased: Leased,
    next: i64,
}

/// `POST /api/groups/{group}/next`: commits what `commit` names, and returns the records that follow. Without `commit`
/// it returns the same again.
pub async fn post(mut asked: Asked) -> Result<Answer, Problem> {
    let max = reading::max(&mut asked.query)?;
    let wait = reading::wait(&mut asked.query)?;
    let lease = asked.query.take("lease", "a time from 1s to 1h", |text| {
        let lease = query::duration(text)?;
        (Duration::from_secs(1)..=LEASE_MAX)
            .contains(&lease)
            .then_some(lease)
    })?;
    let from = asked
        .query
        .take("from", "earliest or latest", |text| match text {
            "earliest" => Some(OffsetSpec::Earliest),
            "latest" => Some(OffsetSpec::Latest),
            _ => None,
        })?;
    let done = asked
        .query
        .take("commit", "what an answer has as commit", parse)?;
    let name = asked.query.text("topic");
    let name = name.ok_or_else(|| Problem::bad_request("say which topic: ?topic="))?;
    let services = &asked.services;
    let engine = &services.engine;
    let group = asked.params[0].clone();
    let topic = reading::topic(engine, &name)?;
    let wait = wait.unwrap_or_default();
    let client = Client {
        id: client_id(&asked.headers)?,
        // A request that waits does not lose what it waits for.
        lease: lease.unwrap_or(LEASE) + wait,
    };
    if let Some(done) = &done {
        let held = done.iter().map(|done| done.leased).collect();
        let lost = services
            .instances
            .lost_leases(group.clone(), topic.id, client.id.clone(), held);
        let lost = lost.await?;
        if !lost.is_empty() {
            let detail = format!(
                "{} does not have partitions {lost:?} of {name} for group {group} any more: others may have read them; \
                nothing was committed",
                client.id
            );
            return Err(Problem::new(StatusCode::CONFLICT, "lost-lease", detail));
        }
        let mut offsets = BTreeMap::new();
        for done in done {
            let key = topic.key_of(done.leased.partition);
            let key = key.ok_or(EngineError::UnknownTopicOrPartition)?;
            offsets.insert(key, (done.next, String::new()));
        }
        groups::store(services, &group, offsets).await?;
    }
    let until = Instant::now() + wait;
    let mut memory = engine.memory.share();
    let mut gives_back = done.is_some();
    loop {
        let partitions = (topic.id, topic.partitions as i32);
        let acquired = services.instances.acquire_leases(
            group.clone(),
            partitions,
            client.clone(),
            gives_back,
        );
        let leased = acquired.await?;
        gives_back = false;
        if leased.is_empty() {
            if Instant::now() >= until || engine.is_stopping() {
                return Ok(shown(&[], None));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        let mut cursors = cursors(&asked, &group, &topic, &leased, from).await?;
        let before: Vec<i64> = cursors.iter().map(|cursor| cursor.next).collect();
        let amount = Amount {
            records: max.unwrap_or(MAX_DEFAULT),
            bytes: ANSWER_BYTES_MAX,
            wait: Some(until.saturating_duration_since(Instant::now())),
        };
        let mut reader = Reader::new(engine, Filter::default());
        let found = read_on(&mut reader, &mut cursors, &amount, &mut memory).await?;
        let read = cursors.iter().zip(&leased).zip(before);
        let read = read.filter(|((cursor, _), before)| cursor.next > *before);
        let done = read.map(|((cursor, leased), _)| Done {
            leased: *leased,
            next: cursor.next,
        });
        let done: Vec<Done> = done.collect();
        let records = found.iter().map(|(place, record)| {
            let shown = serde_json::to_value(record.shown(cursors[*place].index));
            let mut shown = shown.unwrap_or_default();
            shown["topic"] = name.clone().into();
            shown
        });
        let records: Vec<_> = records.collect();
        let mut answer = shown(&records, (!done.is_empty()).then(|| token(&done)));
        answer.body_mut().hold(memory);
        return Ok(answer);
    }
}

/// Where the group is in the partitions that are leased.
async fn cursors(
    asked: &Asked,
    group: &str,
    topic: &Topic,
    leased: &[Leased],
    from: Option<OffsetSpec>,
) -> Result<Vec<Cursor>, Problem> {
    let engine = &asked.services.engine;
    let keys: Vec<(i32, PartitionKey)> = leased
        .iter()
        .filter_map(|leased| Some((leased.partition, topic.key_of(leased.partition)?)))
        .collect();
    let asked_for: BTreeSet<PartitionKey> = keys.iter().map(|(_, key)| *key).collect();
    let groups = &asked.services.coordinators.groups;
    let committed = groups.fetch_offsets(group.to_owned(), Some(asked_for), OFFSETS_BYTES_MAX);
    let committed: BTreeMap<_, _> = committed.await?.into_iter().collect();
    let mut cursors = Vec::with_capacity(keys.len());
    let mut slice = Slice::new();
    for (index, key) in keys {
        slice.rest().await;
        let start = reading::at(engine, key, OffsetSpec::Earliest).await?;
        let end = reading::at(engine, key, OffsetSpec::Latest).await?;
        let next = match committed.get(&key) {
            Some(committed) => committed.offset,
            None => match from {
                Some(OffsetSpec::Latest) => end,
                _ => start,
            },
        };
        cursors.push(Cursor {
            index,
            key,
            // Retention may have gone further, and a topic of the same name begins anew.
            next: next.clamp(start, end),
            end,
        });
    }
    Ok(cursors)
}

fn client_id(headers: &HeaderMap) -> Result<String, Problem> {
    let id = headers.get(CLIENT_ID).map(HeaderValue::to_str);
    match id {
        Some(Ok(id)) if (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) => Ok(id.to_owned()),
        _ => {
            let detail = format!(
                "the header Client-Id says who reads, in 1 to {CLIENT_ID_BYTES_MAX} bytes of text"
            );
            Err(Problem::bad_request(detail))
        }
    }
}

fn shown(records: &[serde_json::Value], commit: Option<String>) -> Answer {
    let body = json!({ "records": records, "commit": commit });
    answer::of(StatusCode::OK, answer::JSON, format!("{body}\n"))
}

/// `partition:next:lease`, with commas between them.
fn token(done: &[Done]) -> String {
    let each = done.iter().map(|done| {
        let Leased { partition, number } = done.leased;
        format!("{partition}:{}:{number:x}", done.next)
    });
    each.collect::<Vec<_>>().join(",")
}

/// `None` too where a partition comes twice.
fn parse(text: &str) -> Option<Vec<Done>> {
    let mut seen = BTreeSet::new();
    let each = text.split(',').map(|each| {
        let mut parts = each.split(':');
        let mut part = || parts.next();
        let (partition, next, number) = (part()?.parse().ok()?, part()?.parse().ok()?, part()?);
        let number = u64::from_str_radix(number, 16).ok()?;
        let is_whole = part().is_none() && next >= 0;
        (is_whole && seen.insert(partition)).then_some(Done {
            leased: Leased { partition, number },
            next,
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_nothing_else() {
        let done = |partition, next, number| Done {
            leased: Leased { partition, number },
            next,
        };
        let all = [done(0, 7, 1), done(12, 1 << 40, u64::MAX)];
        assert_eq!(parse(&token(&all)).unwrap(), all);
        for wrong in [
            "",
            "0",
            "0:1",
            "0:1:g",
            "0:-1:1",
            "0:1:1:1",
            "0:1:1,",
            "0:1:1,0:2:1",
            "x:1:1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
