//! No frame makes a decoder panic, or allocate out of proportion to its size.

use bytes::Bytes;
use millstream::kafka::api::{Api, ApiKey};
use millstream::kafka::dispatch::{RequestHeader, decode_body};
use millstream::wire::{Reader, WireError};
use proptest::prelude::*;

use super::{admin_requests, apis, auth, frame, group_requests, requests, txn, versions};

/// Decodes whatever `frame` claims to be.
pub fn decode(frame: &Bytes) -> Result<(), WireError> {
    let (header, mut reader) = RequestHeader::decode(frame)?;
    let Some(api) = apis().find(|api| api.key.code() == header.api_key) else {
        return Ok(());
    };
    decode_body(api.key, header.api_version, &mut reader)
}

/// A valid request of every API in every version.
pub fn valid_frames() -> Vec<Bytes> {
    let of = |api: &Api| {
        let key = api.key;
        versions(key).map(move |version| valid_frame(key, version))
    };
    apis().flat_map(of).collect()
}

fn valid_frame(key: ApiKey, v: i16) -> Bytes {
    match key {
        ApiKey::Produce => frame(key, v, &requests::produce_request(v)),
        ApiKey::Fetch => frame(key, v, &requests::fetch_request(v)),
        ApiKey::ListOffsets => frame(key, v, &requests::list_offsets_request(v)),
        ApiKey::Metadata => frame(key, v, &requests::metadata_request(v)),
        ApiKey::FindCoordinator => frame(key, v, &requests::find_coordinator_request(v)),
        ApiKey::ApiVersions => frame(key, v, &requests::api_versions_request(v)),
        ApiKey::CreateTopics => frame(key, v, &requests::create_topics_request(v)),
        ApiKey::DeleteTopics => frame(key, v, &requests::delete_topics_request(v)),
        ApiKey::DeleteRecords => frame(key, v, &requests::delete_records_request(v)),
        ApiKey::InitProducerId => frame(key, v, &requests::init_producer_id_request(v)),
        ApiKey::DescribeConfigs => frame(key, v, &requests::describe_configs_request(v)),
        ApiKey::CreatePartitions => frame(key, v, &requests::create_partitions_request(v)),
        ApiKey::DescribeCluster => frame(key, v, &requests::describe_cluster_request(v)),
        ApiKey::JoinGroup => frame(key, v, &group_requests::join_group_request(v)),
        ApiKey::SyncGroup => frame(key, v, &group_requests::sync_group_request(v)),
        ApiKey::Heartbeat => frame(key, v, &group_requests::heartbeat_request(v)),
        ApiKey::LeaveGroup => frame(key, v, &group_requests::leave_group_request(v)),
        ApiKey::OffsetCommit => frame(key, v, &group_requests::offset_commit_request(v)),
        ApiKey::OffsetFetch => frame(key, v, &group_requests::offset_fetch_request(v)),
        ApiKey::OffsetDelete => frame(key, v, &group_requests::offset_delete_request(v)),
        ApiKey::DescribeGroups => frame(key, v, &group_requests::describe_groups_request(v)),
        ApiKey::ListGroups => frame(key, v, &group_requests::list_groups_request(v)),
        ApiKey::DeleteGroups => frame(key, v, &group_requests::delete_groups_request(v)),
        ApiKey::OffsetForLeaderEpoch => {
            frame(key, v, &admin_requests::offset_for_leader_epoch_request(v))
        }
        ApiKey::AlterConfigs => frame(key, v, &admin_requests::alter_configs_request(v)),
        ApiKey::IncrementalAlterConfigs => frame(
            key,
            v,
            &admin_requests::incremental_alter_configs_request(v),
        ),
        ApiKey::DescribeLogDirs => frame(key, v, &admin_requests::describe_log_dirs_request(v)),
        ApiKey::DescribeTopicPartitions => frame(
            key,
            v,
            &admin_requests::describe_topic_partitions_request(v),
        ),
        ApiKey::ListConfigResources => {
            frame(key, v, &admin_requests::list_config_resources_request(v))
        }
        ApiKey::DescribeProducers => frame(key, v, &admin_requests::describe_producers_request(v)),
        ApiKey::ElectLeaders => frame(key, v, &admin_requests::elect_leaders_request(v)),
        ApiKey::AlterPartitionReassignments => frame(
            key,
            v,
            &admin_requests::alter_partition_reassignments_request(v),
        ),
        ApiKey::ListPartitionReassignments => frame(
            key,
            v,
            &admin_requests::list_partition_reassignments_request(v),
        ),
        ApiKey::AlterReplicaLogDirs => {
            frame(key, v, &admin_requests::alter_replica_log_dirs_request(v))
        }
        ApiKey::DescribeQuorum => frame(key, v, &admin_requests::describe_quorum_request(v)),
        ApiKey::UpdateFeatures => frame(key, v, &admin_requests::update_features_request(v)),
        ApiKey::DescribeTransactions => frame(key, v, &txn::describe_transactions_request(v)),
        ApiKey::ListTransactions => frame(key, v, &txn::list_transactions_request(v)),
        ApiKey::SaslHandshake => frame(key, v, &auth::sasl_handshake_request(v)),
        ApiKey::SaslAuthenticate => frame(key, v, &auth::sasl_authenticate_request(v)),
        ApiKey::DescribeAcls => frame(key, v, &auth::describe_acls_request(v)),
        ApiKey::CreateAcls => frame(key, v, &auth::create_acls_request(v)),
        ApiKey::DeleteAcls => frame(key, v, &auth::delete_acls_request(v)),
        ApiKey::DescribeClientQuotas => frame(key, v, &auth::describe_client_quotas_request(v)),
        ApiKey::DescribeUserScramCredentials => {
            frame(key, v, &auth::describe_user_scram_credentials_request(v))
        }
    }
}

#[test]
fn a_request_cut_short_anywhere_is_an_error() {
    for frame in valid_frames() {
        assert_eq!(decode(&frame), Ok(()));
        for length in 0..frame.len() {
            let short = frame.slice(..length);
            assert_eq!(decode(&short), Err(WireError::Truncated), "{short:?}");
        }
    }
}

#[test]
fn bytes_after_a_request_are_tolerated() {
    for frame in valid_frames() {
        let longer = Bytes::from([&frame[..], b"more"].concat());
        assert_eq!(decode(&longer), Ok(()));
    }
}

/// Wherever a length may stand, the largest one that can be claimed there, in both forms.
#[test]
fn lengths_of_two_billion_anywhere_allocate_next_to_nothing() {
    // A single array of 2^31 - 1 elements would take 8 GiB at the least.
    const PEAK_GROWTH_MAX_KIB: u64 = 4 << 20;
    let before = peak_address_space_kib();
    for frame in valid_frames() {
        for position in 0..frame.len() {
            for lie in [&b"\x7f\xff\xff\xff"[..], b"\xff\xff\xff\xff\x0f"] {
                let rest = frame.get(position + lie.len()..).unwrap_or_default();
                let lying = Bytes::from([&frame[..position], lie, rest].concat());
                let _ = decode(&lying);
            }
        }
    }
    let grown = peak_address_space_kib() - before;
    assert!(grown < PEAK_GROWTH_MAX_KIB, "grew by {grown} KiB");
}

/// The most address space this process ever had: counts allocations even if never touched.
fn peak_address_space_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let figure = line.unwrap().split_whitespace().nth(1);
    figure.unwrap().parse().unwrap()
}

/// A megabyte of topics that take two bytes each on the wire, and thirty-two in memory.
#[test]
fn a_frame_of_tiny_elements_is_refused_when_large_and_read_when_small() {
    for (count, expected) in [
        (500_000, Err(WireError::TooManyElements(500_000))),
        (5_000, Ok(())),
    ] {
        assert_eq!(decode(&metadata_of_empty_names(count)), expected);
    }
}

fn metadata_of_empty_names(count: u32) -> Bytes {
    use kafka_protocol::messages::{MetadataRequest, metadata_request::MetadataRequestTopic};
    let topics = vec![MetadataRequestTopic::default(); count as usize];
    let request = MetadataRequest::default().with_topics(Some(topics));
    frame(ApiKey::Metadata, 9, &request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_frames_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&Bytes::from(frame));
    }

    #[test]
    fn random_bodies_never_panic_any_decoder(
        body in prop::collection::vec(any::<u8>(), 0..200),
        api in prop::sample::select(apis().collect::<Vec<_>>()),
        version in any::<i16>(),
        served in any::<prop::sample::Index>(),
    ) {
        let body = Bytes::from(body);
        let within: Vec<i16> = versions(api.key).collect();
        for version in [version, *served.get(&within)] {
            let mut reader = Reader::new(&body, api.is_flexible(version));
            let _ = decode_body(api.key, version, &mut reader);
        }
    }

    #[test]
    fn mutated_requests_never_panic(
        chosen in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        thread_local! {
            static FRAMES: Vec<Bytes> = valid_frames();
        }
        let mut frame = FRAMES.with(|frames| chosen.get(frames).to_vec());
        for (position, byte) in edits {
            let position = position.index(frame.len());
            frame[position] = byte;
        }
        let _ = decode(&Bytes::from(frame));
    }
}
