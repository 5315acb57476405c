//! ListOffsets: where partitions start and end, and what they held at a time.

use super::{Client, Error, REQUEST_TIMEOUT_MS, Result, Topic};
use crate::kafka::data::list_offsets::{PartitionRequest, PartitionResponse, Request};
use crate::kafka::error::ErrorCode;
use crate::kafka::topics::TopicRequest;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

/// Asks for the first offset.
const EARLIEST: i64 = -2;
/// Asks for the offset after the last record that consumers may see.
const LATEST: i64 = -1;

const ATTEMPTS_MAX: u32 = 10;
const BACKOFF: Duration = Duration::from_millis(200);

/// The offset in each of `partitions` at `timestamp`, in milliseconds since 1970, which finds the first record at or after that time (-1 if there is none).
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
                None => failed = Some((group[0], ErrorCode::LeaderNotAvailable)),
                Some(leader) => {
                    for answer in ask(client, leader, &topic.name, &group, timestamp)? {
                        match answer.error_code {
                            ErrorCode::None => drop(found.insert(answer.index, answer.offset)),
                            code => failed = Some((answer.index, code)),
                        }
                    }
                }
            }
        }
        let Some((partition, code)) = failed else {
            break;
        };
        if !code.is_retriable() || attempt == ATTEMPTS_MAX {
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

/// Where a partition starts and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset.
    pub start: i64,
    /// The offset after the last record that consumers may see.
    pub end: i64,
}

/// The bounds of each of `partitions`.
pub fn bounds(
    client: &mut Client,
    topic: &Topic,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Bounds>> {
    let starts = list(client, topic, partitions, EARLIEST)?;
    let ends = list(client, topic, partitions, LATEST)?;
    let both = starts.into_iter().zip(ends.into_values());
    Ok(both
        .map(|((partition, start), end)| (partition, Bounds { start, end }))
        .collect())
}

/// `partitions` by the node that leads them; None for those without a leader.
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
) -> Result<Vec<PartitionResponse>> {
    let partition = |&index: &i32| PartitionRequest {
        index,
        timestamp,
        ..PartitionRequest::default()
    };
    let topic = TopicRequest {
        name: topic,
        partitions: partitions.iter().map(partition).collect(),
    };
    let request = Request {
        topics: vec![topic],
        timeout_ms: REQUEST_TIMEOUT_MS,
        ..Request::default()
    };
    let reply = client.broker(leader)?.call(&request)?;
    let topics = reply.topics.into_iter();
    Ok(topics.flat_map(|topic| topic.partitions).collect())
}
