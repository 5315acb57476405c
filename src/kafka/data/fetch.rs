//! Fetch (key 1): read record batches from partitions.
//!
//! Versions: 5 adds the log start offset, 7 fetch sessions (KIP-227), 9 the leader epoch
//! (KIP-320), 11 the rack and the preferred replica (KIP-392), 12 is flexible and adds the
//! diverging epoch, 13 names topics by id (KIP-516), 15 moves the replica id into a tagged field
//! (KIP-903), 16 adds node endpoints (KIP-951), 17 the replica's directory (KIP-853), 18 its high
//! watermark (KIP-1166). 4, 6, 8, 10 and 14 change only what may be asked for or answered: 10
//! allows zstd (KIP-110).

mod handle;

pub use handle::handle;

use crate::kafka::ErrorCode;
use bytes::Bytes;
use std::borrow::Cow;
use uuid::Uuid;

pub use super::produce::{LeaderIdAndEpoch, NodeEndpoint};
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_LOG_START_OFFSET: i16 = 5;
const FIRST_VERSION_WITH_SESSIONS: i16 = 7;
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 9;
const FIRST_VERSION_WITH_RACK: i16 = 11;
const FIRST_VERSION_WITH_LAST_FETCHED_EPOCH: i16 = 12;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 13;
const FIRST_VERSION_WITH_REPLICA_STATE: i16 = 15;
const FIRST_VERSION_WITH_NODE_ENDPOINTS: i16 = 16;
const FIRST_VERSION_WITH_REPLICA_DIRECTORY: i16 = 17;
const FIRST_VERSION_WITH_HIGH_WATERMARK: i16 = 18;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// From version 12, tagged.
    pub cluster_id: Option<&'a str>,
    /// -1 for a consumer. From version 15 it comes in the tagged `ReplicaState`.
    pub replica_id: i32,
    /// -1 if unknown. From version 15, in `ReplicaState`.
    pub replica_epoch: i64,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    /// Limit for the whole response; the first batch goes beyond it if it has to.
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed.
    pub isolation_level: i8,
    /// 0 if there is none yet. From version 7.
    pub session_id: i32,
    /// 0 to close the session and open a new one, -1 to go on without (which is what versions below 7
    /// are).
    pub session_epoch: i32,
    pub topics: Vec<TopicRequest<'a>>,
    /// Partitions to take out of the session. From version 7.
    pub forgotten_topics: Vec<ForgottenTopic<'a>>,
    /// Empty if the consumer named none. From version 11.
    pub rack_id: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    /// Empty from version 13 on.
    pub name: &'a str,
    /// Nil before version 13.
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
    /// -1 skips the check. From version 9.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// -1 if there is none. From version 12.
    pub last_fetched_epoch: i32,
    /// Only followers say it; -1 for consumers. From version 5.
    pub log_start_offset: i64,
    /// Limit for this partition.
    pub partition_max_bytes: i32,
    /// Only followers say it. From version 17, tagged.
    pub replica_directory_id: Uuid,
    /// Only followers say it; `i64::MAX` if unknown. From version 18, tagged.
    pub high_watermark: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic<'a> {
    /// Empty from version 13 on.
    pub name: &'a str,
    /// Nil before version 13.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let has_sessions = version >= FIRST_VERSION_WITH_SESSIONS;
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
    let mut request = Request {
        cluster_id: None,
        replica_id: if version < FIRST_VERSION_WITH_REPLICA_STATE {
            r.i32()?
        } else {
            -1
        },
        replica_epoch: -1,
        max_wait_ms: r.i32()?,
        min_bytes: r.i32()?,
        max_bytes: r.i32()?,
        isolation_level: r.i8()?,
        session_id: if has_sessions { r.i32()? } else { 0 },
        session_epoch: if has_sessions { r.i32()? } else { -1 },
        topics: r.array(|r| {
            let topic = TopicRequest {
                name: if by_id { "" } else { r.string()? },
                topic_id: if by_id { r.uuid()? } else { Uuid::nil() },
                partitions: r.array(|r| decode_partition(r, version))?,
            };
            r.skip_tagged_fields()?;
            Ok(topic)
        })?,
        forgotten_topics: if has_sessions {
            r.array(|r| decode_forgotten_topic(r, version))?
        } else {
            Vec::new()
        },
        rack_id: if version >= FIRST_VERSION_WITH_RACK {
            r.string()?
        } else {
            ""
        },
    };
    r.tagged_fields(|tag, field| {
        match (tag, version) {
            (0, _) => request.cluster_id = field.nullable_string()?,
            (1, FIRST_VERSION_WITH_REPLICA_STATE..) => {
                request.replica_id = field.i32()?;
                request.replica_epoch = field.i64()?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(request)
}

fn decode_forgotten_topic<'a>(
    r: &mut Reader<'a>,
    version: i16,
) -> Result<ForgottenTopic<'a>, WireError> {
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
    let topic = ForgottenTopic {
        name: if by_id { "" } else { r.string()? },
        topic_id: if by_id { r.uuid()? } else { Uuid::nil() },
        partitions: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_partition(r: &mut Reader<'_>, version: i16) -> Result<PartitionRequest, WireError> {
    let mut partition = PartitionRequest {
        index: r.i32()?,
        current_leader_epoch: if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
            r.i32()?
        } else {
            -1
        },
        fetch_offset: r.i64()?,
        last_fetched_epoch: if version >= FIRST_VERSION_WITH_LAST_FETCHED_EPOCH {
            r.i32()?
        } else {
            -1
        },
        log_start_offset: if version >= FIRST_VERSION_WITH_LOG_START_OFFSET {
            r.i64()?
        } else {
            -1
        },
        partition_max_bytes: r.i32()?,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    };
    r.tagged_fields(|tag, field| {
        match (tag, version) {
            (0, FIRST_VERSION_WITH_REPLICA_DIRECTORY..) => {
                partition.replica_directory_id = field.uuid()?;
            }
            (1, FIRST_VERSION_WITH_HIGH_WATERMARK..) => partition.high_watermark = field.i64()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(partition)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    /// For the fetch as a whole. From version 7.
    pub error_code: ErrorCode,
    /// 0: no session. From version 7.
    pub session_id: i32,
    pub topics: Vec<TopicResponse<'a>>,
    /// Where the leaders named in [`PartitionResponse::current_leader`] are. From version 16.
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    /// Written before version 13.
    pub name: Cow<'a, str>,
    /// Written from version 13 on.
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub error_code: ErrorCode,
    pub high_watermark: i64,
    /// -1 if unknown.
    pub last_stable_offset: i64,
    /// -1 if unknown. From version 5.
    pub log_start_offset: i64,
    /// Where the consumer's log parts from ours. From version 12, tagged.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Said when the error is that we do not lead the partition. From version 12, tagged.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// Only for followers of a metadata log. From version 12, tagged.
    pub snapshot_id: Option<SnapshotId>,
    /// Null unless the fetch reads committed records only.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// -1: read from the leader. From version 11.
    pub preferred_read_replica: i32,
    /// Whole batches, as slices of the log that are sent one after the other without a copy.
    /// Nothing to send is an empty field, not null, as in Kafka.
    pub records: Vec<Bytes>,
}

impl Default for PartitionResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    if version >= FIRST_VERSION_WITH_SESSIONS {
        w.i16(response.error_code.code());
        w.i32(response.session_id);
    }
    w.array(&response.topics, |w, topic| {
        if version >= FIRST_VERSION_WITH_TOPIC_ID {
            w.uuid(topic.topic_id);
        } else {
            w.string(&topic.name);
        }
        w.array(&topic.partitions, |w, partition| {
            encode_partition(w, partition, version);
        });
        w.no_tagged_fields();
    });
    w.tagged_fields(|fields| {
        let endpoints = &response.node_endpoints;
        if version >= FIRST_VERSION_WITH_NODE_ENDPOINTS && !endpoints.is_empty() {
            fields.field(0, |w| w.array(endpoints, NodeEndpoint::encode));
        }
    });
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse, version: i16) {
    w.i32(partition.index);
    w.i16(partition.error_code.code());
    w.i64(partition.high_watermark);
    w.i64(partition.last_stable_offset);
    if version >= FIRST_VERSION_WITH_LOG_START_OFFSET {
        w.i64(partition.log_start_offset);
    }
    let aborted = partition.aborted_transactions.as_deref();
    w.nullable_array(aborted, encode_aborted_transaction);
    if version >= FIRST_VERSION_WITH_RACK {
        w.i32(partition.preferred_read_replica);
    }
    w.shared_bytes(&partition.records);
    // The three tags exist in every flexible version.
    w.tagged_fields(|fields| {
        if let Some(diverging) = partition.diverging_epoch {
            fields.field(0, |w| {
                w.i32(diverging.epoch);
                w.i64(diverging.end_offset);
                w.no_tagged_fields();
            });
        }
        if let Some(leader) = partition.current_leader {
            fields.field(1, |w| leader.encode(w));
        }
        if let Some(snapshot) = partition.snapshot_id {
            fields.field(2, |w| {
                w.i64(snapshot.end_offset);
                w.i32(snapshot.epoch);
                w.no_tagged_fields();
            });
        }
    });
}

fn encode_aborted_transaction(w: &mut Writer, aborted: &AbortedTransaction) {
    w.i64(aborted.producer_id);
    w.i64(aborted.first_offset);
    w.no_tagged_fields();
}
