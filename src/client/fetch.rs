//! Requests for records.

use super::{Connection, Result, Topic};
use crate::kafka::data::fetch::{PartitionRequest, Request, TopicRequest};

/// From the next version on, Fetch names topics by their ids.
const VERSION_BY_NAME_MAX: i16 = 12;

/// How much a broker may answer, and how long it may wait for that.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

/// The highest version in which `topic` can be named.
pub fn version(connection: &Connection, topic: &Topic) -> Result<i16> {
    let at_most = if topic.id.is_nil() {
        VERSION_BY_NAME_MAX
    } else {
        i16::MAX
    };
    connection.version::<Request>(at_most)
}

/// A request for partitions of `topic`, each with the offset to read from.
pub fn request(
    topic: &Topic,
    partitions: impl IntoIterator<Item = (i32, i64)>,
    limits: Limits,
) -> Request<'_> {
    let partition = |(index, fetch_offset)| PartitionRequest {
        index,
        fetch_offset,
        partition_max_bytes: limits.partition_max_bytes,
        ..PartitionRequest::default()
    };
    Request {
        max_wait_ms: limits.max_wait_ms,
        min_bytes: limits.min_bytes,
        max_bytes: limits.max_bytes,
        topics: vec![TopicRequest {
            name: &topic.name,
            topic_id: topic.id,
            partitions: partitions.into_iter().map(partition).collect(),
        }],
        ..Request::default()
    }
}
