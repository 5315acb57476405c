//! Groups: who is behind, where they are, and having them begin elsewhere.

use super::Services;
use super::answer::{self, Answer};
use super::problem::Problem;
use super::reading::{self, From};
use super::request::Asked;
use super::rest::json as body;
use crate::coordinator::groups::classic::messages::CommitRequest;
use crate::coordinator::groups::error::GroupError;
use crate::coordinator::groups::lag::{self, records_behind};
use crate::engine::catalog::Topic;
use crate::engine::offsets::OffsetSpec;
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::clock;
use crate::io::reactor::Slice;
use bytestring::ByteString;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// The most bytes of offsets' metadata of one answer.
const OFFSETS_BYTES_MAX: usize = 16 << 20;

/// Who commits for a group that has no members.
fn nobody() -> CommitRequest {
    CommitRequest {
        member_id: String::new(),
        instance_id: None,
        generation: -1,
        transactional: false,
    }
}

/// `GET /api/groups`: how far groups are behind, as it was measured last.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let most = asked.services.engine.config.lag_series_max;
    let reports = asked.services.coordinators.groups.lag_reports().await;
    let (lags, _) = lag::first_by_group(&reports, most);
    let mut groups: Vec<Value> = Vec::new();
    let mut slice = Slice::new();
    // A group's partitions stand together.
    for own in lags.chunk_by(|one, other| one.group == other.group) {
        let mut partitions = Vec::with_capacity(own.len());
        let (records, seconds) = lag::in_all(own.iter().copied());
        for lag in own {
            partitions.push(json!({
                "topic": lag.topic.name,
                "partition": lag.partition,
                "lag": lag.lag.records,
                "seconds": lag.lag.seconds,
            }));
            slice.rest().await;
        }
        groups.push(json!({
            "group": &*own[0].group,
            "lag": records,
            "seconds": seconds,
            "partitions": partitions,
        }));
    }
    Ok(shown(&Value::from(groups)))
}

/// `GET /api/groups/{group}`: a group's state and members, and how far it is behind now; in seconds as it was measured
/// last.
pub async fn describe(mut asked: Asked) -> Result<Answer, Problem> {
    let with_history = asked.query.text("history").is_some();
    let services = &asked.services;
    let group = &asked.params[0];
    let described = services.coordinators.groups.describe_group(group.clone());
    let described = described.await?.ok_or(GroupError::GroupIdNotFound)?;
    let members = described.members.iter().map(|member| {
        json!({
            "member": member.member_id,
            "instance": member.instance_id,
            "client": member.client_id,
            "host": member.client_host,
        })
    });
    let offsets = committed(services, group).await?;
    let reports = services.coordinators.groups.lag_reports().await;
    // A group lives on one shard.
    let measured = reports.iter().map(|report| report.of(group));
    let measured = measured.max_by_key(|own| own.len()).unwrap_or_default();
    let (_, seconds) = lag::in_all(measured.iter());
    let measured: HashMap<PartitionKey, Option<f64>> = measured
        .iter()
        .map(|lag| (lag.key(), lag.lag.seconds))
        .collect();
    let mut partitions = Vec::with_capacity(offsets.len());
    let mut slice = Slice::new();
    let mut all = 0i64;
    for one in offsets {
        slice.rest().await;
        let start = reading::at(&services.engine, one.key, OffsetSpec::Earliest).await?;
        let end = reading::at(&services.engine, one.key, OffsetSpec::Latest).await?;
        let behind = records_behind(one.offset, start, end);
        all = all.saturating_add(behind);
        let mut shown = one.to_json();
        shown["end"] = end.into();
        shown["lag"] = behind.into();
        shown["seconds"] = measured.get(&one.key).copied().flatten().into();
        partitions.push(shown);
    }
    let mut described = json!({
        "group": group,
        "state": described.state,
        "protocol": described.protocol,
        "members": members.collect::<Vec<_>>(),
        "lag": all,
        "seconds": seconds,
        "partitions": partitions,
    });
    if with_history {
        let samples = services.coordinators.groups.lag_history(group.clone());
        let samples = samples.await?.into_iter().map(|sample| {
            json!({
                "timestamp": sample.timestamp_ms,
                "lag": sample.records,
                "seconds": sample.seconds,
            })
        });
        described["history"] = samples.collect();
    }
    Ok(shown(&described))
}

/// An offset that a group has committed.
struct Committed {
    topic: Arc<Topic>,
    key: PartitionKey,
    offset: i64,
    metadata: ByteString,
}

impl Committed {
    fn to_json(&self) -> Value {
        json!({
            "topic": self.topic.name,
            "partition": self.key.index,
            "offset": self.offset,
            "metadata": &*self.metadata,
        })
    }
}

async fn committed(services: &Services, group: &str) -> Result<Vec<Committed>, Problem> {
    let groups = &services.coordinators.groups;
    let found = groups
        .fetch_offsets(group.to_owned(), None, OFFSETS_BYTES_MAX)
        .await?;
    let each = found.into_iter().filter_map(|(key, offset)| {
        let topic = services.engine.topic_by_id(key.topic_id)?;
        Some(Committed {
            topic,
            key,
            offset: offset.offset,
            metadata: offset.metadata,
        })
    });
    let mut all: Vec<Committed> = each.collect();
    all.sort_by(|one, other| {
        let place = |of: &Committed| (of.topic.name.clone(), of.key.index);
        place(one).cmp(&place(other))
    });
    Ok(all)
}

/// `GET /api/groups/{group}/offsets`: what a group has committed.
pub async fn offsets(asked: Asked) -> Result<Answer, Problem> {
    let (services, group) = (&asked.services, &asked.params[0]);
    let all = committed(services, group).await?;
    if all.is_empty() {
        let known = services.coordinators.groups.describe_group(group.clone());
        known.await?.ok_or(GroupError::GroupIdNotFound)?;
    }
    let all = all.iter().map(Committed::to_json);
    Ok(shown(&Value::from(all.collect::<Vec<_>>())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Commits {
    #[serde(deserialize_with = "body::list")]
    offsets: Vec<Commit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    metadata: String,
}

/// `PUT /api/groups/{group}/offsets`: commits offsets, all or none, for a group that has no members.
pub async fn commit(asked: Asked) -> Result<Answer, Problem> {
    let read = body::read(asked, body::CONTROL_BYTES_MAX).await?;
    let wanted: Commits = serde_json::from_slice(&read.body)
        .map_err(|error| Problem::bad_request(format!("these are no offsets: {error}")))?;
    let engine = &read.services.engine;
    let mut offsets = BTreeMap::new();
    for one in wanted.offsets {
        let key = engine.key_of(&one.topic, one.partition);
        let key = key.ok_or(EngineError::UnknownTopicOrPartition)?;
        if one.offset < 0 {
            return Err(Problem::bad_request("an offset is 0 or more"));
        }
        offsets.insert(key, (one.offset, one.metadata));
    }
    store(&read.services, &read.params[0], offsets).await?;
    Ok(answer::of(StatusCode::NO_CONTENT, answer::JSON, ""))
}

/// Commits offsets, with metadata, for a group that has no members; all or none.
pub async fn store(
    services: &Services,
    group: &str,
    offsets: BTreeMap<PartitionKey, (i64, String)>,
) -> Result<(), Problem> {
    if offsets.is_empty() {
        return Ok(());
    }
    let groups = &services.coordinators.groups;
    let now_ms = clock::stamp_ms();
    let mut commits = Vec::with_capacity(offsets.len());
    for (key, (offset, metadata)) in offsets {
        let metadata = ByteString::from(metadata);
        commits.push((
            key,
            groups.new_committed_offset(offset, -1, metadata, now_ms)?,
        ));
    }
    let stored = groups
        .commit_offsets(group.to_owned(), nobody(), commits)
        .await;
    let stored = stored.map_err(|error| match error {
        // What Kafka tells a stranger in a group that has members.
        GroupError::UnknownMemberId | GroupError::IllegalGeneration => GroupError::NonEmptyGroup,
        other => other,
    })?;
    for each in stored {
        each?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    topic: String,
    partition: Option<i32>,
    to: Target,
    #[serde(default)]
    dry_run: bool,
}

/// Where a group is to go on.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Offset(i64),
    Place(String),
    Each(BTreeMap<String, i64>),
}

impl Target {
    fn place(self) -> Option<From> {
        match self {
            Target::Offset(offset) => (offset >= 0).then_some(From::Offset(offset)),
            Target::Place(text) => From::parse(&text),
            Target::Each(each) => {
                let each = each
                    .into_iter()
                    .map(|(index, offset)| Some((index.parse().ok()?, offset)));
                Some(From::Each(each.collect::<Option<_>>()?))
            }
        }
    }
}

/// `POST /api/groups/{group}/offsets`: a group without members goes on elsewhere. What is beyond what a partition
/// holds becomes the nearest offset inside.
pub async fn reset(asked: Asked) -> Result<Answer, Problem> {
    let read = body::read(asked, body::CONTROL_BYTES_MAX).await?;
    let wanted: Reset = serde_json::from_slice(&read.body)
        .map_err(|error| Problem::bad_request(format!("this says not where to go: {error}")))?;
    let (services, group) = (&read.services, &read.params[0]);
    let engine = &services.engine;
    let wrong = || {
        let forms = "to is earliest, latest, -N (the newest N), an offset, a time as in 2026-01-31T10:00:00Z, or an \
            object of partitions and offsets";
        Problem::bad_request(forms)
    };
    let to = wanted.to.place().ok_or_else(wrong)?;
    let topic = reading::topic(engine, &wanted.topic)?;
    let known = services
        .coordinators
        .groups
        .describe_group(group.clone())
        .await?;
    if known.is_some_and(|known| !known.members.is_empty()) {
        return Err(GroupError::NonEmptyGroup.into());
    }
    let before = committed(services, group).await?.into_iter();
    let before: HashMap<PartitionKey, i64> = before.map(|one| (one.key, one.offset)).collect();
    let moved = chosen(&topic, wanted.partition, &to)?;
    let mut moves = Vec::with_capacity(moved.len());
    let mut offsets = BTreeMap::new();
    let mut slice = Slice::new();
    for index in moved {
        slice.rest().await;
        let key = topic
            .key_of(index)
            .ok_or(EngineError::UnknownTopicOrPartition)?;
        let offset = target(engine, key, index, &to).await?;
        moves.push(json!({
            "topic": topic.name,
            "partition": index,
            "from": before.get(&key),
            "to": offset,
        }));
        offsets.insert(key, (offset, String::new()));
    }
    if !wanted.dry_run {
        store(services, group, offsets).await?;
    }
    Ok(shown(&Value::from(moves)))
}

/// The partitions that a reset is about.
fn chosen(topic: &Topic, partition: Option<i32>, to: &From) -> Result<BTreeSet<i32>, Problem> {
    match (partition, to) {
        (Some(partition), _) => Ok(BTreeSet::from([partition])),
        (None, From::Each(each)) => Ok(each.keys().copied().collect()),
        (None, From::Offset(_)) if topic.partitions > 1 => {
            let detail = format!(
                "{} has {} partitions: an offset needs \"partition\"",
                topic.name, topic.partitions
            );
            Err(Problem::bad_request(detail))
        }
        _ => Ok((0..topic.partitions as i32).collect()),
    }
}

async fn target(
    engine: &Rc<Engine>,
    key: PartitionKey,
    index: i32,
    to: &From,
) -> Result<i64, Problem> {
    let start = reading::at(engine, key, OffsetSpec::Earliest).await?;
    let end = reading::at(engine, key, OffsetSpec::Latest).await?;
    let offset = match to {
        From::Earliest => start,
        From::Latest => end,
        From::Newest(count) => end.saturating_sub(*count as i64),
        From::Offset(offset) => *offset,
        From::Each(each) => each.get(&index).copied().unwrap_or(start),
        From::Time(ms) => match reading::at(engine, key, OffsetSpec::AtTime(*ms)).await? {
            -1 => end,
            offset => offset,
        },
    };
    Ok(offset.clamp(start, end))
}

fn shown(value: &Value) -> Answer {
    answer::of(StatusCode::OK, answer::JSON, format!("{value}\n"))
}
