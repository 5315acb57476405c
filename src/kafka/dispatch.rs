//! From a frame to its answer: header, version check, and the one file that handles the API.

use super::api::ApiKey;
use super::context::Context;
use super::header::RequestHeader;
use super::{
    alter_configs, alter_partition_reassignments, alter_replica_log_dirs, api_versions,
    create_partitions, create_topics, delete_groups, delete_records, delete_topics,
    describe_cluster, describe_configs, describe_groups, describe_log_dirs, describe_producers,
    describe_quorum, describe_topic_partitions, elect_leaders, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_config_resources,
    list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, sync_group, update_features,
};
use crate::access::Caller;
use crate::coordinator::Coordinators;
use crate::engine::Engine;
use crate::wire::codec::Codec;
use crate::wire::{Reply, WireError, Writer};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use thiserror::Error;

/// Why a connection has to be closed: the protocol has no answer for it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CloseReason {
    #[error("the request header is malformed: {0}")]
    BadHeader(WireError),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    #[error("{api} version {version} is not served")]
    UnknownVersion { api: &'static str, version: i16 },
    #[error("the {api} request (version {version}) is malformed: {error}")]
    BadRequest {
        api: &'static str,
        version: i16,
        error: WireError,
    },
    #[error("a produce request without acknowledgement failed: {0}")]
    UnansweredError(&'static str),
    #[error("{0}")]
    BadReply(WireError),
}

impl CloseReason {
    /// A short name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            CloseReason::BadHeader(_) => "bad_header",
            CloseReason::UnknownApi(_) => "unknown_api",
            CloseReason::UnknownVersion { .. } => "unknown_version",
            CloseReason::BadRequest { .. } => "bad_request",
            CloseReason::UnansweredError(_) => "unanswered_error",
            CloseReason::BadReply(_) => "reply_size",
        }
    }
}

/// What is sent back for a request.
#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    /// Nothing: the client asked for no acknowledgement.
    Nothing,
    Close(CloseReason),
}

impl Answer {
    /// What was written, if the protocol can say it.
    pub fn of(writer: Writer) -> Answer {
        match writer.finish() {
            Ok(reply) => Answer::Reply(reply),
            Err(error) => Answer::Close(CloseReason::BadReply(error)),
        }
    }
}

pub type LaterAnswer = Pin<Box<dyn Future<Output = Answer>>>;

/// A request that was taken in.
pub enum Outcome {
    Now(Answer),
    /// The request has done what must happen in order; its answer waits for something: the disk,
    /// or records to fetch.
    Later(LaterAnswer),
}

/// A request's outcome, with the API's name for metrics.
pub struct Dispatched {
    pub api: &'static str,
    pub outcome: Outcome,
}

/// Handles one frame (without its size prefix) of a client.
///
/// # Errors
/// When there is no protocol answer: the caller closes this connection.
pub async fn dispatch(
    engine: &Rc<Engine>,
    coordinators: &Coordinators,
    caller: &Caller,
    frame: &Bytes,
) -> Result<Dispatched, CloseReason> {
    let (header, mut reader) = RequestHeader::decode(frame).map_err(CloseReason::BadHeader)?;
    let Some(api) = header.api() else {
        return Err(CloseReason::UnknownApi(header.api_key));
    };
    let version = header.api_version;
    if !api.serves(version) {
        if api.key == ApiKey::ApiVersions && version > api.max_version {
            let writer = api_versions::unsupported_version(&header);
            return Ok(answered(api.name, writer));
        }
        return Err(CloseReason::UnknownVersion {
            api: api.name,
            version,
        });
    }
    let malformed = |error| CloseReason::BadRequest {
        api: api.name,
        version,
        error,
    };
    let context = Context::new(engine, coordinators, caller, header);
    // Decode, handle, encode: the same three steps for every API that is answered at once.
    macro_rules! answer {
        ($module:ident) => {
            answer!($module, throttle_time_ms)
        };
        // With the response's field that tells the client how long to wait, if it has one.
        ($module:ident, $($throttle:ident)?) => {{
            let request = $module::Request::decode(&mut reader, version).map_err(malformed)?;
            let response = $module::handle(&context, &request).await;
            $(let response = $module::Response { $throttle: context.throttle_time_ms, ..response };)?
            let mut writer = context.reply();
            response.encode(&mut writer, version);
            Ok(answered(api.name, writer))
        }};
    }
    match api.key {
        ApiKey::Produce => {
            let request = produce::decode(&mut reader, version).map_err(malformed)?;
            let outcome = produce::handle(&context, request).await;
            Ok(Dispatched {
                api: api.name,
                outcome,
            })
        }
        ApiKey::Fetch => {
            let request = fetch::decode(&mut reader, version).map_err(malformed)?;
            Ok(Dispatched {
                api: api.name,
                outcome: fetch::handle(&context, &request),
            })
        }
        ApiKey::JoinGroup => {
            let request = join_group::Request::decode(&mut reader, version).map_err(malformed)?;
            Ok(Dispatched {
                api: api.name,
                outcome: join_group::handle(&context, &request),
            })
        }
        ApiKey::SyncGroup => {
            let request = sync_group::Request::decode(&mut reader, version).map_err(malformed)?;
            Ok(Dispatched {
                api: api.name,
                outcome: sync_group::handle(&context, &request),
            })
        }
        ApiKey::Heartbeat => answer!(heartbeat),
        ApiKey::LeaveGroup => answer!(leave_group),
        ApiKey::OffsetCommit => answer!(offset_commit),
        ApiKey::OffsetFetch => answer!(offset_fetch),
        ApiKey::OffsetDelete => answer!(offset_delete),
        ApiKey::DescribeGroups => answer!(describe_groups),
        ApiKey::ListGroups => answer!(list_groups),
        ApiKey::DeleteGroups => answer!(delete_groups),
        ApiKey::ListOffsets => answer!(list_offsets),
        ApiKey::Metadata => answer!(metadata),
        ApiKey::FindCoordinator => answer!(find_coordinator),
        ApiKey::ApiVersions => answer!(api_versions),
        ApiKey::CreateTopics => answer!(create_topics),
        ApiKey::DeleteTopics => answer!(delete_topics),
        ApiKey::DeleteRecords => answer!(delete_records),
        ApiKey::InitProducerId => answer!(init_producer_id),
        ApiKey::DescribeConfigs => answer!(describe_configs),
        ApiKey::CreatePartitions => answer!(create_partitions),
        ApiKey::DescribeCluster => answer!(describe_cluster),
        ApiKey::OffsetForLeaderEpoch => answer!(offset_for_leader_epoch),
        ApiKey::AlterConfigs => answer!(alter_configs),
        ApiKey::AlterReplicaLogDirs => answer!(alter_replica_log_dirs),
        ApiKey::DescribeLogDirs => answer!(describe_log_dirs),
        ApiKey::ElectLeaders => answer!(elect_leaders),
        ApiKey::IncrementalAlterConfigs => answer!(incremental_alter_configs),
        ApiKey::AlterPartitionReassignments => answer!(alter_partition_reassignments),
        ApiKey::ListPartitionReassignments => answer!(list_partition_reassignments),
        ApiKey::DescribeQuorum => answer!(describe_quorum,),
        ApiKey::UpdateFeatures => answer!(update_features),
        ApiKey::DescribeProducers => answer!(describe_producers),
        ApiKey::ListConfigResources => answer!(list_config_resources),
        ApiKey::DescribeTopicPartitions => answer!(describe_topic_partitions),
    }
}

fn answered(api: &'static str, writer: Writer) -> Dispatched {
    Dispatched {
        api,
        outcome: Outcome::Now(Answer::of(writer)),
    }
}
