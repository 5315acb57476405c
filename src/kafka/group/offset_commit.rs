//! OffsetCommit (key 8): store how far a group has read.
//!
//! Versions: 6 adds the leader epoch (KIP-320), 7 static members (KIP-345), 9 allows the members of
//! KIP-848.

use crate::coordinator::groups::classic::messages::CommitRequest;
use crate::coordinator::groups::error::GroupError;
use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::PartitionKey;
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::kafka::topics::{PartitionCode, TopicRequest, TopicResponse};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashMap;

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

/// Stores offsets; answered when they are durable. Of a partition that is named twice the last offset counts.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut commits = Commits::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut slice = Slice::new();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            slice.rest().await;
            let commit = commit_of(context, request, topic.name, partition);
            partitions.push(PartitionCode {
                index: partition.index,
                error_code: commit.as_ref().err().copied().unwrap_or_default(),
            });
            if let Ok((key, offset)) = commit {
                commits.add(key, offset);
            }
        }
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions,
        });
    }
    let committer = CommitRequest {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
        transactional: false,
    };
    let group_id = request.group_id.to_owned();
    let Commits { offsets, asked, .. } = commits;
    let committed = context.groups.commit_offsets(group_id, committer, offsets);
    let committed = committed.await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let accepted = partitions.filter(|partition| !partition.error_code.is_error());
    match committed {
        Ok(results) => {
            for (partition, place) in accepted.zip(asked) {
                partition.error_code = ErrorCode::of(&results[place]);
            }
        }
        Err(error) => {
            let error_code = refusal(&error, context.version);
            accepted.for_each(|partition| partition.error_code = error_code);
        }
    }
    Response {
        topics,
        ..Response::default()
    }
}

/// The offsets of a request, each partition once.
#[derive(Default)]
struct Commits {
    offsets: Vec<(PartitionKey, CommittedOffset)>,
    places: HashMap<PartitionKey, usize>,
    /// For each partition that was named: its place in `offsets`.
    asked: Vec<usize>,
}

impl Commits {
    fn add(&mut self, key: PartitionKey, offset: CommittedOffset) {
        let next = self.offsets.len();
        let place = *self.places.entry(key).or_insert(next);
        self.asked.push(place);
        if place == next {
            self.offsets.push((key, offset));
        } else {
            self.offsets[place].1 = offset;
        }
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
        partition.committed_metadata.unwrap_or_default().into(),
        now_ms,
    )?;
    if request.retention_time_ms >= 0 {
        offset.expire_ms = Some(now_ms.saturating_add(request.retention_time_ms));
    }
    Ok((key, offset))
}
