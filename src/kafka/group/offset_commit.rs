//! OffsetCommit (key 8): store how far a group has read.
//!
//! Versions: 6 adds the leader epoch (KIP-320), 7 static members (KIP-345), 9 allows the members of
//! KIP-848.

use crate::coordinator::groups::classic::messages::CommitRequest;
use crate::coordinator::groups::error::GroupError;
use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::PartitionKey;
use crate::io::clock;
use crate::kafka::topics::{PartitionCode, TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};

message! {
    OffsetCommit 2..=9, flexible 8..;

    Request<'a> {
        group_id: &'a str,
        /// The generation, or the member epoch of KIP-848; -1 if it does not come from a member.
        generation_id_or_member_epoch: i32 = -1,
        /// Empty if it does not come from a member.
        member_id: &'a str,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<&'a str> [7..],
        /// -1: as the broker is configured.
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<TopicRequest<'a, PartitionRequest<'a>>>,
    }

    #[derive(Copy)]
    PartitionRequest<'a> {
        index: i32,
        /// The next offset to be read.
        committed_offset: i64,
        /// Leader epoch of the record before; -1 if unknown.
        committed_leader_epoch: i32 [6..] = -1,
        /// A note of the client's, returned as it came.
        committed_metadata: Option<&'a str>,
    }

    Response<'a> {
        throttle_time_ms: i32 [3..],
        topics: Vec<TopicResponse<'a, PartitionCode>>,
    }
}

const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;

/// Stores offsets; answered when they are durable.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut commits = Vec::new();
    let mut topics = for_each(&request.topics, |topic, partition| {
        let commit = commit_of(context, request, topic, partition);
        let error_code = commit.as_ref().err().copied().unwrap_or_default();
        commits.extend(commit.ok());
        PartitionCode {
            index: partition.index,
            error_code,
        }
    });
    let committer = CommitRequest {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
        transactional: false,
    };
    let group_id = request.group_id.to_owned();
    let committed = context.groups.commit_offsets(group_id, committer, commits);
    let committed = committed.await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let asked = partitions.filter(|partition| !partition.error_code.is_error());
    match committed {
        Ok(results) => {
            for (partition, result) in asked.zip(&results) {
                partition.error_code = ErrorCode::of(result);
            }
        }
        Err(error) => {
            let error_code = refusal(&error, context.version);
            asked.for_each(|partition| partition.error_code = error_code);
        }
    }
    Response {
        topics,
        ..Response::default()
    }
}

fn refusal(error: &GroupError, version: i16) -> ErrorCode {
    match ErrorCode::from(error) {
        // Older versions have no word for a group that is not there.
        ErrorCode::GroupIdNotFound if version < FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND => {
            ErrorCode::IllegalGeneration
        }
        code => code,
    }
}

fn commit_of(
    context: &Context<'_>,
    request: &Request<'_>,
    topic: &str,
    partition: &PartitionRequest<'_>,
) -> Result<(PartitionKey, CommittedOffset), ErrorCode> {
    let key = context.key_of(topic, partition.index)?;
    let now_ms = clock::stamp_ms();
    let mut offset = context.groups.new_committed_offset(
        partition.committed_offset,
        partition.committed_leader_epoch,
        partition.committed_metadata.unwrap_or_default().to_owned(),
        now_ms,
    )?;
    if request.retention_time_ms >= 0 {
        offset.expire_ms = Some(now_ms.saturating_add(request.retention_time_ms));
    }
    Ok((key, offset))
}
