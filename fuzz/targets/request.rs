//! No frame makes a decoder panic, or allocate more than `Reader::array_budget_bytes` says.
//!
//! Every input is tried twice: as a whole frame, and with its first two bytes choosing an API and a
//! version whose body is the rest.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::kafka::admin::{
    alter_configs, alter_partition_reassignments, alter_replica_log_dirs, create_partitions,
    create_topics, delete_topics, describe_cluster, describe_configs, describe_log_dirs,
    describe_quorum, elect_leaders, incremental_alter_configs, list_config_resources,
    list_partition_reassignments, update_features,
};
use millstream::kafka::api::{APIS, ApiKey};
use millstream::kafka::api_versions;
use millstream::kafka::data::{
    delete_records, describe_topic_partitions, fetch, list_offsets, metadata,
    offset_for_leader_epoch, produce,
};
use millstream::kafka::dispatch::RequestHeader;
use millstream::kafka::group::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use millstream::kafka::txn::{describe_producers, init_producer_id};
use millstream::wire::Wire;
use millstream::wire::{Reader, WireError};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

fuzz_target!(|data: &[u8]| {
    let frame = shared(data);
    bounded(frame.len(), || {
        if let Ok((header, mut reader)) = RequestHeader::decode(&frame)
            && let Some(api) = header.api()
            && api.serves(header.api_version)
        {
            let _ = decode_body(api.key, header.api_version, &mut reader);
        }
    });
    let [chosen_api, chosen_version, body @ ..] = data else {
        return;
    };
    let api = &APIS[usize::from(*chosen_api) % APIS.len()];
    let versions = api.max_version - api.min_served_version + 1;
    let version = api.min_served_version + i16::from(*chosen_version) % versions;
    let body = shared(body);
    bounded(body.len(), || {
        let _ = decode_body(
            api.key,
            version,
            &mut Reader::new(&body, api.is_flexible(version)),
        );
    });
});

fn decode_body(key: ApiKey, version: i16, r: &mut Reader<'_>) -> Result<(), WireError> {
    match key {
        ApiKey::Produce => produce::Request::decode(r, version).map(drop),
        ApiKey::Fetch => fetch::Request::decode(r, version).map(drop),
        ApiKey::ListOffsets => list_offsets::Request::decode(r, version).map(drop),
        ApiKey::Metadata => metadata::Request::decode(r, version).map(drop),
        ApiKey::OffsetCommit => offset_commit::Request::decode(r, version).map(drop),
        ApiKey::OffsetFetch => offset_fetch::Request::decode(r, version).map(drop),
        ApiKey::FindCoordinator => find_coordinator::Request::decode(r, version).map(drop),
        ApiKey::JoinGroup => join_group::Request::decode(r, version).map(drop),
        ApiKey::Heartbeat => heartbeat::Request::decode(r, version).map(drop),
        ApiKey::LeaveGroup => leave_group::Request::decode(r, version).map(drop),
        ApiKey::SyncGroup => sync_group::Request::decode(r, version).map(drop),
        ApiKey::DescribeGroups => describe_groups::Request::decode(r, version).map(drop),
        ApiKey::ListGroups => list_groups::Request::decode(r, version).map(drop),
        ApiKey::ApiVersions => api_versions::Request::decode(r, version).map(drop),
        ApiKey::CreateTopics => create_topics::Request::decode(r, version).map(drop),
        ApiKey::DeleteTopics => delete_topics::Request::decode(r, version).map(drop),
        ApiKey::DeleteRecords => delete_records::Request::decode(r, version).map(drop),
        ApiKey::InitProducerId => init_producer_id::Request::decode(r, version).map(drop),
        ApiKey::OffsetForLeaderEpoch => {
            offset_for_leader_epoch::Request::decode(r, version).map(drop)
        }
        ApiKey::DescribeConfigs => describe_configs::Request::decode(r, version).map(drop),
        ApiKey::AlterConfigs => alter_configs::Request::decode(r, version).map(drop),
        ApiKey::AlterReplicaLogDirs => {
            alter_replica_log_dirs::Request::decode(r, version).map(drop)
        }
        ApiKey::DescribeLogDirs => describe_log_dirs::Request::decode(r, version).map(drop),
        ApiKey::CreatePartitions => create_partitions::Request::decode(r, version).map(drop),
        ApiKey::DeleteGroups => delete_groups::Request::decode(r, version).map(drop),
        ApiKey::ElectLeaders => elect_leaders::Request::decode(r, version).map(drop),
        ApiKey::IncrementalAlterConfigs => {
            incremental_alter_configs::Request::decode(r, version).map(drop)
        }
        ApiKey::AlterPartitionReassignments => {
            alter_partition_reassignments::Request::decode(r, version).map(drop)
        }
        ApiKey::ListPartitionReassignments => {
            list_partition_reassignments::Request::decode(r, version).map(drop)
        }
        ApiKey::OffsetDelete => offset_delete::Request::decode(r, version).map(drop),
        ApiKey::DescribeQuorum => describe_quorum::Request::decode(r, version).map(drop),
        ApiKey::UpdateFeatures => update_features::Request::decode(r, version).map(drop),
        ApiKey::DescribeCluster => describe_cluster::Request::decode(r, version).map(drop),
        ApiKey::DescribeProducers => describe_producers::Request::decode(r, version).map(drop),
        ApiKey::ListConfigResources => list_config_resources::Request::decode(r, version).map(drop),
        ApiKey::DescribeTopicPartitions => {
            describe_topic_partitions::Request::decode(r, version).map(drop)
        }
    }
}

/// A copy of `data` that is counted by reference already: the first slice of a fresh `Bytes` would
/// allocate that count, and be taken for the decoder's.
fn shared(data: &[u8]) -> Bytes {
    let frame = Bytes::copy_from_slice(data);
    drop(frame.clone());
    frame
}

/// Runs `decode` and holds what it allocated, all in all, against the documented bound. (An
/// allocation far beyond any memory ends the run by itself.)
fn bounded(frame_bytes: usize, decode: impl FnOnce()) {
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    decode();
    let allocated = ALLOCATED_BYTES.load(Ordering::Relaxed) - before;
    let bound = Reader::array_budget_bytes(frame_bytes);
    assert!(
        allocated <= bound,
        "decoding a frame of {frame_bytes} bytes allocated {allocated}, more than {bound}"
    );
}

/// Adds up every allocation, freed or not.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}
