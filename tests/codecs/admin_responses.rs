//! Responses of the APIs for administration. As in [`super::responses`].

use kafka_protocol::messages::{self as theirs, BrokerId, ProducerId};
use kafka_protocol::messages::{
    alter_configs_response as ac, alter_partition_reassignments_response as apr,
    alter_replica_log_dirs_response as ard, describe_log_dirs_response as dld,
    describe_producers_response as dp, describe_quorum_response as dq,
    describe_topic_partitions_response as dtp, elect_leaders_response as el,
    incremental_alter_configs_response as iac, list_config_resources_response as lcr,
    list_partition_reassignments_response as lpr, offset_for_leader_epoch_response as ofe,
    update_features_response as uf,
};
use millstream::kafka::admin::{
    alter_configs, alter_partition_reassignments, alter_replica_log_dirs, describe_log_dirs,
    describe_quorum, elect_leaders, incremental_alter_configs, list_config_resources,
    list_partition_reassignments, update_features,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::data::{describe_topic_partitions, offset_for_leader_epoch};
use millstream::kafka::error::ErrorCode;
use millstream::kafka::topics;
use millstream::kafka::txn::describe_producers;
use millstream::wire::Wire;

use super::{DIRECTORY_ID, TOPIC_ID, reply, text, topic_name, versions};

#[test]
fn offset_for_leader_epoch_responses() {
    let partition = offset_for_leader_epoch::PartitionResponse {
        error_code: ErrorCode::FencedLeaderEpoch,
        index: 33,
        leader_epoch: 34,
        end_offset: 1 << 35,
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![
            partition,
            offset_for_leader_epoch::PartitionResponse::default(),
        ],
    };
    let ours = offset_for_leader_epoch::Response {
        throttle_time_ms: 32,
        topics: vec![topic],
    };
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let partition = ofe::EpochEndOffset::default()
            .with_error_code(74)
            .with_partition(33)
            .with_leader_epoch(34)
            .with_end_offset(1 << 35);
        let plain_partition = ofe::EpochEndOffset::default();
        let topic = ofe::OffsetForLeaderTopicResult::default()
            .with_topic(topic_name("orders"))
            .with_partitions(vec![partition, plain_partition]);
        let expected = theirs::OffsetForLeaderEpochResponse::default()
            .with_throttle_time_ms(32)
            .with_topics(vec![topic]);
        let read: theirs::OffsetForLeaderEpochResponse =
            reply(ApiKey::OffsetForLeaderEpoch, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn alter_configs_responses() {
    let resource = alter_configs::ResourceResponse {
        error_code: ErrorCode::InvalidConfig,
        error_message: Some("what".into()),
        resource_type: 2,
        resource_name: "orders".into(),
    };
    let ours = alter_configs::Response {
        throttle_time_ms: 32,
        responses: vec![resource, alter_configs::ResourceResponse::default()],
    };
    for version in versions(ApiKey::AlterConfigs) {
        let resource = ac::AlterConfigsResourceResponse::default()
            .with_error_code(40)
            .with_error_message(Some(text("what")))
            .with_resource_type(2)
            .with_resource_name(text("orders"));
        let plain_resource = ac::AlterConfigsResourceResponse::default().with_error_message(None);
        let expected = theirs::AlterConfigsResponse::default()
            .with_throttle_time_ms(32)
            .with_responses(vec![resource, plain_resource]);
        let read: theirs::AlterConfigsResponse = reply(ApiKey::AlterConfigs, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn incremental_alter_configs_responses() {
    let resource = incremental_alter_configs::ResourceResponse {
        error_code: ErrorCode::InvalidConfig,
        error_message: Some("what".into()),
        resource_type: 2,
        resource_name: "orders".into(),
    };
    let ours = incremental_alter_configs::Response {
        throttle_time_ms: 32,
        responses: vec![
            resource,
            incremental_alter_configs::ResourceResponse::default(),
        ],
    };
    for version in versions(ApiKey::IncrementalAlterConfigs) {
        let resource = iac::AlterConfigsResourceResponse::default()
            .with_error_code(40)
            .with_error_message(Some(text("what")))
            .with_resource_type(2)
            .with_resource_name(text("orders"));
        let plain_resource = iac::AlterConfigsResourceResponse::default().with_error_message(None);
        let expected = theirs::IncrementalAlterConfigsResponse::default()
            .with_throttle_time_ms(32)
            .with_responses(vec![resource, plain_resource]);
        let read: theirs::IncrementalAlterConfigsResponse =
            reply(ApiKey::IncrementalAlterConfigs, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_log_dirs_responses() {
    let partition = describe_log_dirs::PartitionResponse {
        index: 35,
        size_bytes: 1 << 36,
        offset_lag: 1 << 37,
        is_future_key: true,
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition],
    };
    let log_dir = describe_log_dirs::LogDir {
        error_code: ErrorCode::LogDirNotFound,
        log_dir: "/var/lib/data".into(),
        topics: vec![topic],
        total_bytes: 1 << 33,
        usable_bytes: 1 << 34,
    };
    let ours = describe_log_dirs::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::KafkaStorageError,
        results: vec![log_dir, describe_log_dirs::LogDir::default()],
    };
    for version in versions(ApiKey::DescribeLogDirs) {
        let partition = dld::DescribeLogDirsPartition::default()
            .with_partition_index(35)
            .with_partition_size(1 << 36)
            .with_offset_lag(1 << 37)
            .with_is_future_key(true);
        let topic = dld::DescribeLogDirsTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let mut log_dir = dld::DescribeLogDirsResult::default()
            .with_error_code(57)
            .with_log_dir(text("/var/lib/data"))
            .with_topics(vec![topic]);
        if version >= 4 {
            log_dir.total_bytes = 1 << 33;
            log_dir.usable_bytes = 1 << 34;
        }
        let plain_log_dir = dld::DescribeLogDirsResult::default();
        let mut expected = theirs::DescribeLogDirsResponse::default()
            .with_throttle_time_ms(32)
            .with_results(vec![log_dir, plain_log_dir]);
        if version >= 3 {
            expected.error_code = 56;
        }
        let read: theirs::DescribeLogDirsResponse = reply(ApiKey::DescribeLogDirs, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_topic_partitions_responses() {
    let cursor = describe_topic_partitions::CursorResponse {
        topic_name: "orders".into(),
        partition_index: 42,
    };
    let partition = describe_topic_partitions::PartitionResponse {
        error_code: ErrorCode::LeaderNotAvailable,
        index: 34,
        leader_id: 35,
        leader_epoch: 36,
        replica_nodes: vec![37, 38],
        isr_nodes: vec![38, 39],
        eligible_leader_replicas: Some(vec![39, 40]),
        last_known_eligible_leader_replicas: Some(vec![40, 41]),
        offline_replicas: vec![41, 42],
    };
    let topic = describe_topic_partitions::TopicResponse {
        error_code: ErrorCode::UnknownTopicOrPartition,
        name: Some("orders".into()),
        topic_id: TOPIC_ID,
        is_internal: true,
        partitions: vec![
            partition,
            describe_topic_partitions::PartitionResponse::default(),
        ],
        topic_authorized_operations: 33,
    };
    let ours = describe_topic_partitions::Response {
        throttle_time_ms: 32,
        topics: vec![topic, describe_topic_partitions::TopicResponse::default()],
        next_cursor: Some(cursor),
    };
    for version in versions(ApiKey::DescribeTopicPartitions) {
        let cursor = dtp::Cursor::default()
            .with_topic_name(topic_name("orders"))
            .with_partition_index(42);
        let partition = dtp::DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(5)
            .with_partition_index(34)
            .with_leader_id(BrokerId(35))
            .with_leader_epoch(36)
            .with_replica_nodes(vec![BrokerId(37), BrokerId(38)])
            .with_isr_nodes(vec![BrokerId(38), BrokerId(39)])
            .with_eligible_leader_replicas(Some(vec![BrokerId(39), BrokerId(40)]))
            .with_last_known_elr(Some(vec![BrokerId(40), BrokerId(41)]))
            .with_offline_replicas(vec![BrokerId(41), BrokerId(42)]);
        let plain_partition = dtp::DescribeTopicPartitionsResponsePartition::default();
        let topic = dtp::DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(3)
            .with_name(Some(topic_name("orders")))
            .with_topic_id(TOPIC_ID)
            .with_is_internal(true)
            .with_partitions(vec![partition, plain_partition])
            .with_topic_authorized_operations(33);
        let plain_topic = dtp::DescribeTopicPartitionsResponseTopic::default().with_name(None);
        let expected = theirs::DescribeTopicPartitionsResponse::default()
            .with_throttle_time_ms(32)
            .with_topics(vec![topic, plain_topic])
            .with_next_cursor(Some(cursor));
        let read: theirs::DescribeTopicPartitionsResponse =
            reply(ApiKey::DescribeTopicPartitions, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn list_config_resources_responses() {
    let config_resource = list_config_resources::ConfigResource {
        resource_name: "orders".into(),
        resource_type: 2,
    };
    let ours = list_config_resources::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::ClusterAuthorizationFailed,
        config_resources: vec![
            config_resource,
            list_config_resources::ConfigResource::default(),
        ],
    };
    for version in versions(ApiKey::ListConfigResources) {
        let mut config_resource = lcr::ConfigResource::default().with_resource_name(text("orders"));
        if version >= 1 {
            config_resource.resource_type = 2;
        }
        let plain_config_resource = lcr::ConfigResource::default();
        let expected = theirs::ListConfigResourcesResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(31)
            .with_config_resources(vec![config_resource, plain_config_resource]);
        let read: theirs::ListConfigResourcesResponse =
            reply(ApiKey::ListConfigResources, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_producers_responses() {
    let producer = describe_producers::Producer {
        producer_id: 1 << 34,
        producer_epoch: 35,
        last_sequence: 36,
        last_timestamp: 1 << 37,
        coordinator_epoch: 38,
        current_txn_start_offset: 1 << 39,
    };
    let partition = describe_producers::PartitionResponse {
        index: 33,
        error_code: ErrorCode::NotLeaderOrFollower,
        error_message: Some("what".into()),
        active_producers: vec![producer, describe_producers::Producer::default()],
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition, describe_producers::PartitionResponse::default()],
    };
    let ours = describe_producers::Response {
        throttle_time_ms: 32,
        topics: vec![topic],
    };
    for version in versions(ApiKey::DescribeProducers) {
        let producer = dp::ProducerState::default()
            .with_producer_id(ProducerId(1 << 34))
            .with_producer_epoch(35)
            .with_last_sequence(36)
            .with_last_timestamp(1 << 37)
            .with_coordinator_epoch(38)
            .with_current_txn_start_offset(1 << 39);
        let plain_producer = dp::ProducerState::default();
        let partition = dp::PartitionResponse::default()
            .with_partition_index(33)
            .with_error_code(6)
            .with_error_message(Some(text("what")))
            .with_active_producers(vec![producer, plain_producer]);
        let plain_partition = dp::PartitionResponse::default();
        let topic = dp::TopicResponse::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition, plain_partition]);
        let expected = theirs::DescribeProducersResponse::default()
            .with_throttle_time_ms(32)
            .with_topics(vec![topic]);
        let read: theirs::DescribeProducersResponse =
            reply(ApiKey::DescribeProducers, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn elect_leaders_responses() {
    let partition = topics::PartitionError {
        index: 33,
        error_code: ErrorCode::PreferredLeaderNotAvailable,
        error_message: Some("what".into()),
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition, topics::PartitionError::default()],
    };
    let ours = elect_leaders::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::ElectionNotNeeded,
        topics: vec![topic],
    };
    for version in versions(ApiKey::ElectLeaders) {
        let partition = el::PartitionResult::default()
            .with_partition_id(33)
            .with_error_code(80)
            .with_error_message(Some(text("what")));
        let plain_partition = el::PartitionResult::default().with_error_message(None);
        let topic = el::ReplicaElectionResult::default()
            .with_topic(topic_name("orders"))
            .with_partition_result(vec![partition, plain_partition]);
        let mut expected = theirs::ElectLeadersResponse::default()
            .with_throttle_time_ms(32)
            .with_replica_election_results(vec![topic]);
        if version >= 1 {
            expected.error_code = 84;
        }
        let read: theirs::ElectLeadersResponse = reply(ApiKey::ElectLeaders, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn alter_partition_reassignments_responses() {
    let partition = topics::PartitionError {
        index: 33,
        error_code: ErrorCode::NoReassignmentInProgress,
        error_message: Some("what".into()),
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition, topics::PartitionError::default()],
    };
    let ours = alter_partition_reassignments::Response {
        throttle_time_ms: 32,
        allow_replication_factor_change: false,
        error_code: ErrorCode::InvalidReplicaAssignment,
        error_message: Some("what".into()),
        topics: vec![topic],
    };
    for version in versions(ApiKey::AlterPartitionReassignments) {
        let partition = apr::ReassignablePartitionResponse::default()
            .with_partition_index(33)
            .with_error_code(85)
            .with_error_message(Some(text("what")));
        let plain_partition =
            apr::ReassignablePartitionResponse::default().with_error_message(None);
        let topic = apr::ReassignableTopicResponse::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition, plain_partition]);
        let mut expected = theirs::AlterPartitionReassignmentsResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(39)
            .with_error_message(Some(text("what")))
            .with_responses(vec![topic]);
        if version >= 1 {
            expected.allow_replication_factor_change = false;
        }
        let read: theirs::AlterPartitionReassignmentsResponse =
            reply(ApiKey::AlterPartitionReassignments, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn list_partition_reassignments_responses() {
    let partition = list_partition_reassignments::PartitionResponse {
        index: 33,
        replicas: vec![34, 35],
        adding_replicas: vec![35, 36],
        removing_replicas: vec![36, 37],
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition],
    };
    let ours = list_partition_reassignments::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::ClusterAuthorizationFailed,
        error_message: Some("what".into()),
        topics: vec![topic],
    };
    for version in versions(ApiKey::ListPartitionReassignments) {
        let partition = lpr::OngoingPartitionReassignment::default()
            .with_partition_index(33)
            .with_replicas(vec![BrokerId(34), BrokerId(35)])
            .with_adding_replicas(vec![BrokerId(35), BrokerId(36)])
            .with_removing_replicas(vec![BrokerId(36), BrokerId(37)]);
        let topic = lpr::OngoingTopicReassignment::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let expected = theirs::ListPartitionReassignmentsResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(31)
            .with_error_message(Some(text("what")))
            .with_topics(vec![topic]);
        let read: theirs::ListPartitionReassignmentsResponse =
            reply(ApiKey::ListPartitionReassignments, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn alter_replica_log_dirs_responses() {
    let partition = topics::PartitionCode {
        index: 33,
        error_code: ErrorCode::LogDirNotFound,
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition],
    };
    let ours = alter_replica_log_dirs::Response {
        throttle_time_ms: 32,
        topics: vec![topic],
    };
    for version in versions(ApiKey::AlterReplicaLogDirs) {
        let partition = ard::AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(33)
            .with_error_code(57);
        let topic = ard::AlterReplicaLogDirTopicResult::default()
            .with_topic_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let expected = theirs::AlterReplicaLogDirsResponse::default()
            .with_throttle_time_ms(32)
            .with_results(vec![topic]);
        let read: theirs::AlterReplicaLogDirsResponse =
            reply(ApiKey::AlterReplicaLogDirs, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_quorum_responses() {
    let listener = describe_quorum::Listener {
        name: "name".into(),
        host: "six".into(),
        port: 41,
    };
    let node = describe_quorum::Node {
        node_id: 40,
        listeners: vec![listener],
    };
    let replica = describe_quorum::Replica {
        replica_id: 36,
        replica_directory_id: DIRECTORY_ID,
        log_end_offset: 1 << 37,
        last_fetch_timestamp: 1 << 38,
        last_caught_up_timestamp: 1 << 39,
    };
    let partition = describe_quorum::PartitionResponse {
        index: 32,
        error_code: ErrorCode::UnknownTopicOrPartition,
        error_message: Some("what".into()),
        leader_id: 33,
        leader_epoch: 34,
        high_watermark: 1 << 35,
        current_voters: vec![replica, describe_quorum::Replica::default()],
        observers: vec![describe_quorum::Replica {
            replica_id: 8,
            ..replica
        }],
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition, describe_quorum::PartitionResponse::default()],
    };
    let ours = describe_quorum::Response {
        error_code: ErrorCode::ClusterAuthorizationFailed,
        error_message: Some("what".into()),
        topics: vec![topic],
        nodes: vec![node],
    };
    for version in versions(ApiKey::DescribeQuorum) {
        let listener = dq::Listener::default()
            .with_name(text("name"))
            .with_host(text("six"))
            .with_port(41);
        let node = dq::Node::default()
            .with_node_id(BrokerId(40))
            .with_listeners(vec![listener]);
        let mut replica = dq::ReplicaState::default()
            .with_replica_id(BrokerId(36))
            .with_log_end_offset(1 << 37);
        if version >= 2 {
            replica.replica_directory_id = DIRECTORY_ID;
        }
        if version >= 1 {
            replica.last_fetch_timestamp = 1 << 38;
            replica.last_caught_up_timestamp = 1 << 39;
        }
        let plain_replica = dq::ReplicaState::default();
        let observer = replica.clone().with_replica_id(BrokerId(8));
        let mut partition = dq::PartitionData::default()
            .with_partition_index(32)
            .with_error_code(3)
            .with_leader_id(BrokerId(33))
            .with_leader_epoch(34)
            .with_high_watermark(1 << 35)
            .with_current_voters(vec![replica, plain_replica])
            .with_observers(vec![observer]);
        if version >= 2 {
            partition.error_message = Some(text("what"));
        }
        let mut plain_partition = dq::PartitionData::default();
        if version >= 2 {
            plain_partition.error_message = None;
        }
        let topic = dq::TopicData::default()
            .with_topic_name(topic_name("orders"))
            .with_partitions(vec![partition, plain_partition]);
        let mut expected = theirs::DescribeQuorumResponse::default()
            .with_error_code(31)
            .with_topics(vec![topic]);
        if version >= 2 {
            expected.error_message = Some(text("what"));
            expected.nodes = vec![node];
        }
        let read: theirs::DescribeQuorumResponse = reply(ApiKey::DescribeQuorum, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn update_features_responses() {
    let feature = update_features::FeatureResponse {
        feature: "metadata.version".into(),
        error_code: ErrorCode::FeatureUpdateFailed,
        error_message: Some("what".into()),
    };
    let ours = update_features::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::InvalidUpdateVersion,
        error_message: Some("what".into()),
        results: vec![feature, update_features::FeatureResponse::default()],
    };
    for version in versions(ApiKey::UpdateFeatures) {
        let feature = uf::UpdatableFeatureResult::default()
            .with_feature(text("metadata.version"))
            .with_error_code(96)
            .with_error_message(Some(text("what")));
        let plain_feature = uf::UpdatableFeatureResult::default().with_error_message(None);
        let mut expected = theirs::UpdateFeaturesResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(95)
            .with_error_message(Some(text("what")));
        if version <= 1 {
            expected.results = vec![feature, plain_feature];
        }
        let read: theirs::UpdateFeaturesResponse = reply(ApiKey::UpdateFeatures, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn the_last_page_of_describe_topic_partitions_has_no_cursor() {
    let ours = describe_topic_partitions::Response::default();
    let key = ApiKey::DescribeTopicPartitions;
    let read: theirs::DescribeTopicPartitionsResponse = reply(key, 0, |w| {
        ours.encode(w, 0);
    });
    assert_eq!(read.next_cursor, None);
}
