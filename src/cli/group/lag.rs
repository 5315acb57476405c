//! How far a group is behind the end of a partition: in records, and in time.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::TopicPartition;
use crate::client::codes::kafka_error;
use crate::client::offsets::{self, EARLIEST, LATEST};
use crate::client::records::Batch;
use crate::client::{Client, Topic, check, topic_name};

/// From the next version on, Fetch names topics by their ids.
const FETCH_VERSION_BY_NAME_MAX: i16 = 12;
/// One batch comes whatever its size: a reply with more than that is not wanted.
const FETCH_BYTES_MAX: i32 = 1;
/// How many batches without a record to look at are passed over: markers of transactions.
const BATCHES_PASSED_MAX: usize = 100;

/// Where a partition starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    pub end: i64,
}

/// The bounds of those of `partitions` that exist and have a leader, and the topics that exist.
pub fn bounds(
    client: &mut Client,
    partitions: &[TopicPartition],
) -> anyhow::Result<(BTreeMap<TopicPartition, Bounds>, Vec<Topic>)> {
    let mut names: Vec<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut topics = client.metadata(Some(&names), false)?;
    topics.retain(|topic| topic.error == 0);
    let mut bounds = BTreeMap::new();
    for topic in &topics {
        let of_topic = partitions.iter().filter(|(name, _)| *name == topic.name);
        let led: Vec<i32> = of_topic
            .map(|&(_, partition)| partition)
            .filter(|&partition| topic.leader_of(partition).is_some())
            .collect();
        let starts = offsets::list(client, topic, &led, EARLIEST)?;
        let ends = offsets::list(client, topic, &led, LATEST)?;
        for partition in led {
            let (start, end) = (starts[&partition], ends[&partition]);
            bounds.insert((topic.name.clone(), partition), Bounds { start, end });
        }
    }
    Ok((bounds, topics))
}

/// The timestamp of the first record from `offset` on, in milliseconds since 1970; None if there is
/// none before `end`.
pub fn first_timestamp(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    offset: i64,
    end: i64,
) -> anyhow::Result<Option<i64>> {
    let mut position = offset;
    for _ in 0..BATCHES_PASSED_MAX {
        if position >= end {
            return Ok(None);
        }
        let batch = batch_at(client, topic, partition, position)?;
        if !batch.is_control() {
            let records = batch.records()?;
            for record in records.iter() {
                let record = record.map_err(|error| batch.unreadable(error))?;
                if record.offset >= end {
                    return Ok(None);
                }
                if record.offset >= offset {
                    return Ok(Some(record.timestamp));
                }
            }
        }
        if batch.next_offset() <= position {
            bail!("the batch at offset {position} ends before it");
        }
        position = batch.next_offset();
    }
    bail!("no record within {BATCHES_PASSED_MAX} batches from offset {offset} on")
}

/// The batch that holds `offset`, or the next one.
fn batch_at(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    offset: i64,
) -> anyhow::Result<Batch> {
    let leader = topic.leader_of(partition).context("it has no leader")?;
    let connection = client.broker(leader)?;
    let at_most = match topic.id.is_nil() {
        true => FETCH_VERSION_BY_NAME_MAX,
        false => i16::MAX,
    };
    let version = connection.version::<FetchRequest>(at_most)?;
    let fetched = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(FETCH_BYTES_MAX);
    let topic = FetchTopic::default()
        .with_topic(topic_name(&topic.name))
        .with_topic_id(topic.id)
        .with_partitions(vec![fetched]);
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(FETCH_BYTES_MAX)
        .with_topics(vec![topic]);
    let reply = connection.call_at(&request, version)?;
    check(reply.error_code, "Fetch")?;
    let mut partitions = reply
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions);
    let data = partitions.next().context("the reply has no partition")?;
    if data.error_code != 0 {
        bail!(kafka_error(data.error_code));
    }
    let mut bytes = data.records.unwrap_or_default();
    Batch::take(&mut bytes)?.context("the reply has no batch")
}
