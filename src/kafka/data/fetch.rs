//! Fetch (key 1): read record batches from partitions.
//!
//! Versions: 7 adds fetch sessions (KIP-227), 9 the leader epoch (KIP-320), 11 the rack and the
//! preferred replica (KIP-392), 13 names topics by id (KIP-516), 15 moves the replica id into a tagged
//! field (KIP-903), 16 adds node endpoints (KIP-951), 17 the replica's directory (KIP-853), 18 its high
//! watermark (KIP-1166). 10 allows zstd (KIP-110).

mod handle;

pub use super::produce::{LeaderIdAndEpoch, NodeEndpoint};
pub use handle::handle;

use crate::kafka::{ErrorCode, message};
use crate::wire::types::Records;
use std::borrow::Cow;
use uuid::Uuid;

message! {
    Fetch 4..=18, flexible 12..;

    Request<'a> {
        /// -1 for a consumer.
        replica_id: i32 [4..=14] = -1,
        max_wait_ms: i32,
        min_bytes: i32,
        /// Limit for the whole response; the first batch goes beyond it if it has to.
        max_bytes: i32,
        /// 0 read uncommitted, 1 read committed.
        isolation_level: i8,
        /// 0 if there is none yet.
        session_id: i32 [7..],
        /// 0 to close the session and open a new one, -1 to go on without (which is what versions below
        /// 7 are).
        session_epoch: i32 [7..] = -1,
        topics: Vec<TopicRequest<'a>>,
        /// Partitions to take out of the session.
        forgotten_topics: Vec<ForgottenTopic<'a>> [7..],
        /// Empty if the consumer named none.
        rack_id: &'a str [11..],
        cluster_id: Option<&'a str> [12.., tag 0],
        replica_state: ReplicaState [15.., tag 1],
    }

    /// Only followers say it.
    #[derive(Copy)]
    ReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    TopicRequest<'a> {
        name: &'a str [4..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionRequest>,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
        /// -1 skips the check.
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64,
        /// -1 if there is none.
        last_fetched_epoch: i32 [12..] = -1,
        /// Only followers say it; -1 for consumers.
        log_start_offset: i64 [5..] = -1,
        /// Limit for this partition.
        partition_max_bytes: i32,
        /// Only followers say it.
        replica_directory_id: Uuid [17.., tag 0],
        /// Only followers say it; `i64::MAX` if unknown.
        high_watermark: i64 [18.., tag 1] = i64::MAX,
    }

    ForgottenTopic<'a> {
        name: &'a str [4..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        /// For the fetch as a whole.
        error_code: ErrorCode [7..],
        /// 0: no session.
        session_id: i32 [7..],
        topics: Vec<TopicResponse<'a>>,
        /// Where the leaders named in [`PartitionResponse::current_leader`] are.
        node_endpoints: Vec<NodeEndpoint<'a>> [16.., tag 0],
    }

    TopicResponse<'a> {
        name: Cow<'a, str> [4..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionResponse>,
    }

    PartitionResponse {
        index: i32,
        error_code: ErrorCode,
        high_watermark: i64 = -1,
        /// -1 if unknown.
        last_stable_offset: i64 = -1,
        /// -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// Null unless the fetch reads committed records only.
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        /// -1: read from the leader.
        preferred_read_replica: i32 [11..] = -1,
        /// Whole batches. Nothing to send is an empty field, not null, as in Kafka.
        records: Records,
        /// Where the consumer's log parts from ours.
        diverging_epoch: EpochEndOffset [12.., tag 0],
        /// Said when the error is that we do not lead the partition.
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        /// Only for followers of a metadata log.
        snapshot_id: SnapshotId [12.., tag 2],
    }

    #[derive(Copy)]
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    #[derive(Copy)]
    EpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    #[derive(Copy)]
    SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }
}

const FIRST_VERSION_WITH_TOPIC_ID: i16 = 13;
