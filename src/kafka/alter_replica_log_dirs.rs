//! AlterReplicaLogDirs (key 34): move replicas between the data directories of a broker (KIP-113).
//!
//! Versions: 2 is flexible.

use std::borrow::Cow;
use std::path::Path;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub dirs: Vec<LogDir<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir<'a> {
    /// An absolute path.
    pub path: &'a str,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        dirs: r.array(decode_log_dir)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_log_dir<'a>(r: &mut Reader<'a>) -> Result<LogDir<'a>, WireError> {
    let log_dir = LogDir {
        path: r.string()?,
        topics: r.array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(log_dir)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.i32(partition.index);
    w.i16(partition.error_code.code());
    w.no_tagged_fields();
}

/// There is one directory: a partition may go where it is, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let here = context.engine.absolute_data_dir().ok();
    let mut topics = Vec::new();
    for dir in &request.dirs {
        let is_here = here.as_deref() == Some(Path::new(dir.path));
        let partition = |topic: &str, index: i32| PartitionResponse {
            index,
            error_code: match context.engine.key_of(topic, index) {
                _ if !is_here => ErrorCode::LogDirNotFound,
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) => ErrorCode::None,
            },
        };
        topics.extend(dir.topics.iter().map(|topic| {
            TopicResponse {
                name: Cow::Borrowed(topic.name),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|index| partition(topic.name, *index))
                    .collect(),
            }
        }));
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}
