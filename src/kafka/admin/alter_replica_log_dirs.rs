//! AlterReplicaLogDirs (key 34): move replicas between the data directories of a broker (KIP-113).
//!
//! Versions: 2 is flexible.

use crate::engine::reports;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::path::Path;

message! {
    AlterReplicaLogDirs 1..=2, flexible 2..;

    Request<'a> {
        dirs: Vec<LogDir<'a>>,
    }

    LogDir<'a> {
        /// An absolute path.
        path: &'a str,
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        partitions: Vec<PartitionResponse>,
    }

    #[derive(Copy)]
    PartitionResponse {
        index: i32,
        error_code: ErrorCode,
    }
}

/// There is one directory: a partition may go where it is, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let here = reports::absolute_data_dir(context.engine).ok();
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
