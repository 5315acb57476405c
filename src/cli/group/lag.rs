//! How far a group is behind the end of a partition: in records, and in time.

use super::TopicPartition;
use crate::cli::exit::Failure;
use crate::client::fetch::{self, Limits};
use crate::client::offsets::{self, Bounds};
use crate::client::records::Batch;
use crate::client::{Client, Topic, check, kafka_error};
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};

/// One batch comes whatever its size: a reply with more than that is not wanted.
const ONE_BATCH: Limits = Limits {
    max_wait_ms: 0,
    min_bytes: 0,
    max_bytes: 1,
    partition_max_bytes: 1,
};
/// How many batches without a record to look at are passed over: markers of transactions.
const BATCHES_PASSED_MAX: usize = 100;

/// The bounds of those of `partitions` that exist and have a leader, and the topics that exist.
pub fn bounds(
    client: &mut Client,
    partitions: &[TopicPartition],
) -> anyhow::Result<(BTreeMap<TopicPartition, Bounds>, Vec<Topic>)> {
    let names: BTreeSet<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    let mut topics = client.metadata(Some(&Vec::from_iter(names)), false)?;
    topics.retain(|topic| !topic.error.is_error());
    let mut bounds = BTreeMap::new();
    for topic in &topics {
        let of_topic = partitions.iter().filter(|(name, _)| *name == topic.name);
        let led = of_topic
            .map(|&(_, partition)| partition)
            .filter(|&partition| topic.leader_of(partition).is_some());
        let found = offsets::bounds(client, topic, &Vec::from_iter(led))?;
        bounds.extend(
            found
                .into_iter()
                .map(|(p, found)| ((topic.name.clone(), p), found)),
        );
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
    let version = fetch::version(connection, topic)?;
    let request = fetch::request(topic, [(partition, offset)], ONE_BATCH);
    let reply = connection.call_at(&request, version)?;
    check(reply.error_code, "Fetch")?;
    let mut partitions = reply.topics.into_iter().flat_map(|topic| topic.partitions);
    let data = partitions.next().context("the reply has no partition")?;
    if data.error_code.is_error() {
        let code = data.error_code;
        return Err(Failure::refused(code, kafka_error(code)).into());
    }
    let mut bytes = data.records.0;
    Batch::take(&mut bytes)?.context("the reply has no batch")
}
