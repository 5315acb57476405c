//! ListOffsets: where partitions start and end, and what they held at a time.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;

use super::codes::is_retriable;
use super::{Client, Error, REQUEST_TIMEOUT_MS, Result, Topic, topic_name};

/// Asks for the first offset.
pub const EARLIEST: i64 = -2;
/// Asks for the offset after the last record that consumers may see.
pub const LATEST: i64 = -1;

const ATTEMPTS_MAX: u32 = 10;
const BACKOFF: Duration = Duration::from_millis(200);
const LEADER_NOT_AVAILABLE: i16 = 5;

/// The offset in each of `partitions` at `timestamp`: [`EARLIEST`], [`LATEST`], or milliseconds
/// since 1970, which finds the first record at or after that time (-1 if there is none).
///
/// Passing errors, such as a leader that is being elected, are tried again for about two seconds.
pub fn list(
    client: &mut Client,
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>> {
    let mut topic = topic.clone();
    let mut found = BTreeMap::new();
    for attempt in 1.. {
        let missing = partitions
            .iter()
            .copied()
            .filter(|p| !found.contains_key(p));
        let mut failed = None;
        for (leader, group) in by_leader(&topic, missing) {
            match leader {
                None => failed = Some((group[0], LEADER_NOT_AVAILABLE)),
                Some(leader) => {
                    for answer in ask(client, leader, &topic.name, &group, timestamp)? {
                        match answer.error_code {
                            0 => drop(found.insert(answer.partition_index, answer.offset)),
                            code => failed = Some((answer.partition_index, code)),
                        }
                    }
                }
            }
        }
        let Some((partition, code)) = failed else {
            break;
        };
        if !is_retriable(code) || attempt == ATTEMPTS_MAX {
            return Err(Error::NoOffsets {
                topic: topic.name,
                partition,
                code,
            });
        }
        sleep(BACKOFF);
        topic = client.topic(&topic.name)?;
    }
    match partitions.iter().find(|p| !found.contains_key(p)) {
        None => Ok(found),
        Some(&partition) => Err(Error::OffsetsLeftOut {
            topic: topic.name,
            partition,
        }),
    }
}

/// `partitions` by the node that leads them; None for those that nobody leads.
pub fn by_leader(
    topic: &Topic,
    partitions: impl IntoIterator<Item = i32>,
) -> BTreeMap<Option<i32>, Vec<i32>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for partition in partitions {
        groups
            .entry(topic.leader_of(partition))
            .or_default()
            .push(partition);
    }
    groups
}

fn ask(
    client: &mut Client,
    leader: i32,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<Vec<ListOffsetsPartitionResponse>> {
    let partition = |&index: &i32| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.iter().map(partition).collect());
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_timeout_ms(REQUEST_TIMEOUT_MS)
        .with_topics(vec![topic]);
    let reply = client.broker(leader)?.call(&request)?;
    Ok(reply
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .collect())
}
