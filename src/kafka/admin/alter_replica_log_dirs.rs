//! AlterReplicaLogDirs (key 34): move replicas between the data directories of a broker (KIP-113).

use crate::engine::reports;
use crate::kafka::topics::{PartitionCode, TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};
use std::path::Path;

message! {
    AlterReplicaLogDirs 1..=2, flexible 2..;

    Request<'a> {
        dirs: Vec<LogDir<'a>>,
    }

    LogDir<'a> {
        /// An absolute path.
        path: &'a str,
        topics: Vec<TopicRequest<'a, i32>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a, PartitionCode>>,
    }
}

/// There is one directory: a partition may go where it is, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let here = reports::absolute_data_dir(context.engine).ok();
    let mut topics = Vec::new();
    for dir in &request.dirs {
        let is_here = here.as_deref() == Some(Path::new(dir.path));
        topics.extend(
            for_each(&dir.topics, |topic, index| PartitionCode {
                index: *index,
                error_code: if is_here {
                    context.key_of(topic, *index).err().unwrap_or_default()
                } else {
                    ErrorCode::LogDirNotFound
                },
            })
            .await,
        );
    }
    Response {
        topics,
        ..Response::default()
    }
}
