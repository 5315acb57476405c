//! Requests of the APIs for administration. As in [`super::requests`].

use kafka_protocol::messages::{self as theirs, BrokerId};
use kafka_protocol::messages::{
    alter_configs_request as ac, alter_partition_reassignments_request as apr,
    alter_replica_log_dirs_request as ard, describe_log_dirs_request as dld,
    describe_producers_request as dp, describe_quorum_request as dq,
    describe_topic_partitions_request as dtp, elect_leaders_request as el,
    incremental_alter_configs_request as iac, list_partition_reassignments_request as lpr,
    offset_for_leader_epoch_request as ofe, update_features_request as uf,
};
use millstream::kafka::admin::{
    alter_configs, alter_partition_reassignments, alter_replica_log_dirs, describe_log_dirs,
    describe_quorum, elect_leaders, incremental_alter_configs, list_config_resources,
    list_partition_reassignments, update_features,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::data::{describe_topic_partitions, offset_for_leader_epoch};
use millstream::kafka::topics;
use millstream::kafka::txn::describe_producers;
use millstream::wire::Wire;

use super::{frame, future, open, text, topic_name, versions};

pub fn offset_for_leader_epoch_request(version: i16) -> theirs::OffsetForLeaderEpochRequest {
    let partition = ofe::OffsetForLeaderPartition::default()
        .with_partition(13)
        .with_current_leader_epoch(14)
        .with_leader_epoch(15)
        .with_unknown_tagged_field(9, future());
    let topic = ofe::OffsetForLeaderTopic::default()
        .with_topic(topic_name("orders"))
        .with_partitions(vec![partition])
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::OffsetForLeaderEpochRequest::default()
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.replica_id = BrokerId(12);
    }
    request
}

#[test]
fn offset_for_leader_epoch_requests() {
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let theirs = offset_for_leader_epoch_request(version);
        let frame = frame(ApiKey::OffsetForLeaderEpoch, version, &theirs);
        let mut r = open(&frame, ApiKey::OffsetForLeaderEpoch, version);
        let partition = offset_for_leader_epoch::PartitionRequest {
            index: 13,
            current_leader_epoch: 14,
            leader_epoch: 15,
        };
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![partition],
        };
        let expected = offset_for_leader_epoch::Request {
            replica_id: if version >= 3 { 12 } else { -2 },
            topics: vec![topic],
        };
        let request = offset_for_leader_epoch::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn alter_configs_request(_version: i16) -> theirs::AlterConfigsRequest {
    let config = ac::AlterableConfig::default()
        .with_name(text("name"))
        .with_value(Some(text("1000")))
        .with_unknown_tagged_field(9, future());
    let resource = ac::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_configs(vec![config.clone(), config.with_value(None)])
        .with_unknown_tagged_field(9, future());
    theirs::AlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(true)
        .with_unknown_tagged_field(9, future())
}

#[test]
fn alter_configs_requests() {
    for version in versions(ApiKey::AlterConfigs) {
        let theirs = alter_configs_request(version);
        let frame = frame(ApiKey::AlterConfigs, version, &theirs);
        let mut r = open(&frame, ApiKey::AlterConfigs, version);
        let config = alter_configs::ConfigRequest {
            name: "name",
            value: Some("1000"),
        };
        let resource = alter_configs::ResourceRequest {
            resource_type: 2,
            resource_name: "orders",
            configs: vec![
                config,
                alter_configs::ConfigRequest {
                    value: None,
                    ..config
                },
            ],
        };
        let expected = alter_configs::Request {
            resources: vec![resource],
            validate_only: true,
        };
        let request = alter_configs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn incremental_alter_configs_request(_version: i16) -> theirs::IncrementalAlterConfigsRequest {
    let config = iac::AlterableConfig::default()
        .with_name(text("name"))
        .with_config_operation(2)
        .with_value(Some(text("1000")))
        .with_unknown_tagged_field(9, future());
    let resource = iac::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_configs(vec![config.clone(), config.with_value(None)])
        .with_unknown_tagged_field(9, future());
    theirs::IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(true)
        .with_unknown_tagged_field(9, future())
}

#[test]
fn incremental_alter_configs_requests() {
    for version in versions(ApiKey::IncrementalAlterConfigs) {
        let theirs = incremental_alter_configs_request(version);
        let frame = frame(ApiKey::IncrementalAlterConfigs, version, &theirs);
        let mut r = open(&frame, ApiKey::IncrementalAlterConfigs, version);
        let config = incremental_alter_configs::ConfigRequest {
            name: "name",
            operation: 2,
            value: Some("1000"),
        };
        let resource = alter_configs::ResourceRequest {
            resource_type: 2,
            resource_name: "orders",
            configs: vec![
                config,
                incremental_alter_configs::ConfigRequest {
                    value: None,
                    ..config
                },
            ],
        };
        let expected = incremental_alter_configs::Request {
            resources: vec![resource],
            validate_only: true,
        };
        let request = incremental_alter_configs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_log_dirs_request(_version: i16) -> theirs::DescribeLogDirsRequest {
    let topic = dld::DescribableLogDirTopic::default()
        .with_topic(topic_name("orders"))
        .with_partitions(vec![12, 13])
        .with_unknown_tagged_field(9, future());
    theirs::DescribeLogDirsRequest::default()
        .with_topics(Some(vec![topic]))
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_log_dirs_requests() {
    for version in versions(ApiKey::DescribeLogDirs) {
        let theirs = describe_log_dirs_request(version);
        let frame = frame(ApiKey::DescribeLogDirs, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeLogDirs, version);
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![12, 13],
        };
        let expected = describe_log_dirs::Request {
            topics: Some(vec![topic]),
        };
        let request = describe_log_dirs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_topic_partitions_request(_version: i16) -> theirs::DescribeTopicPartitionsRequest {
    let cursor = dtp::Cursor::default()
        .with_topic_name(topic_name("orders"))
        .with_partition_index(13)
        .with_unknown_tagged_field(9, future());
    let topic = dtp::TopicRequest::default()
        .with_name(topic_name("orders"))
        .with_unknown_tagged_field(9, future());
    theirs::DescribeTopicPartitionsRequest::default()
        .with_topics(vec![topic])
        .with_response_partition_limit(12)
        .with_cursor(Some(cursor))
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_topic_partitions_requests() {
    for version in versions(ApiKey::DescribeTopicPartitions) {
        let theirs = describe_topic_partitions_request(version);
        let frame = frame(ApiKey::DescribeTopicPartitions, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeTopicPartitions, version);
        let cursor = describe_topic_partitions::CursorRequest {
            topic_name: "orders",
            partition_index: 13,
        };
        let topic = describe_topic_partitions::TopicRequest { name: "orders" };
        let expected = describe_topic_partitions::Request {
            topics: vec![topic],
            response_partition_limit: 12,
            cursor: Some(cursor),
        };
        let request = describe_topic_partitions::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn list_config_resources_request(version: i16) -> theirs::ListConfigResourcesRequest {
    let mut request =
        theirs::ListConfigResourcesRequest::default().with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.resource_types = vec![2, 3];
    }
    request
}

#[test]
fn list_config_resources_requests() {
    for version in versions(ApiKey::ListConfigResources) {
        let theirs = list_config_resources_request(version);
        let frame = frame(ApiKey::ListConfigResources, version, &theirs);
        let mut r = open(&frame, ApiKey::ListConfigResources, version);
        let expected = list_config_resources::Request {
            resource_types: if version >= 1 { vec![2, 3] } else { vec![] },
        };
        let request = list_config_resources::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_producers_request(_version: i16) -> theirs::DescribeProducersRequest {
    let topic = dp::TopicRequest::default()
        .with_name(topic_name("orders"))
        .with_partition_indexes(vec![12, 13])
        .with_unknown_tagged_field(9, future());
    theirs::DescribeProducersRequest::default()
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_producers_requests() {
    for version in versions(ApiKey::DescribeProducers) {
        let theirs = describe_producers_request(version);
        let frame = frame(ApiKey::DescribeProducers, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeProducers, version);
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![12, 13],
        };
        let expected = describe_producers::Request {
            topics: vec![topic],
        };
        let request = describe_producers::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn elect_leaders_request(version: i16) -> theirs::ElectLeadersRequest {
    let topic = el::TopicPartitions::default()
        .with_topic(topic_name("orders"))
        .with_partitions(vec![13, 14])
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![topic]))
        .with_timeout_ms(12)
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.election_type = 2;
    }
    request
}

#[test]
fn elect_leaders_requests() {
    for version in versions(ApiKey::ElectLeaders) {
        let theirs = elect_leaders_request(version);
        let frame = frame(ApiKey::ElectLeaders, version, &theirs);
        let mut r = open(&frame, ApiKey::ElectLeaders, version);
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![13, 14],
        };
        let expected = elect_leaders::Request {
            election_type: if version >= 1 { 2 } else { 0 },
            topics: Some(vec![topic]),
            timeout_ms: 12,
        };
        let request = elect_leaders::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn alter_partition_reassignments_request(
    version: i16,
) -> theirs::AlterPartitionReassignmentsRequest {
    let partition = apr::ReassignablePartition::default()
        .with_partition_index(13)
        .with_replicas(Some(vec![BrokerId(14), BrokerId(15)]))
        .with_unknown_tagged_field(9, future());
    let topic = apr::ReassignableTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![partition.clone(), partition.with_replicas(None)])
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(12)
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.allow_replication_factor_change = false;
    }
    request
}

#[test]
fn alter_partition_reassignments_requests() {
    for version in versions(ApiKey::AlterPartitionReassignments) {
        let theirs = alter_partition_reassignments_request(version);
        let frame = frame(ApiKey::AlterPartitionReassignments, version, &theirs);
        let mut r = open(&frame, ApiKey::AlterPartitionReassignments, version);
        let partition = alter_partition_reassignments::PartitionRequest {
            index: 13,
            replicas: Some(vec![14, 15]),
        };
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![
                partition.clone(),
                alter_partition_reassignments::PartitionRequest {
                    replicas: None,
                    ..partition
                },
            ],
        };
        let expected = alter_partition_reassignments::Request {
            timeout_ms: 12,
            allow_replication_factor_change: version < 1,
            topics: vec![topic],
        };
        let request = alter_partition_reassignments::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn list_partition_reassignments_request(
    _version: i16,
) -> theirs::ListPartitionReassignmentsRequest {
    let topic = lpr::ListPartitionReassignmentsTopics::default()
        .with_name(topic_name("orders"))
        .with_partition_indexes(vec![13, 14])
        .with_unknown_tagged_field(9, future());
    theirs::ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(12)
        .with_topics(Some(vec![topic]))
        .with_unknown_tagged_field(9, future())
}

#[test]
fn list_partition_reassignments_requests() {
    for version in versions(ApiKey::ListPartitionReassignments) {
        let theirs = list_partition_reassignments_request(version);
        let frame = frame(ApiKey::ListPartitionReassignments, version, &theirs);
        let mut r = open(&frame, ApiKey::ListPartitionReassignments, version);
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![13, 14],
        };
        let expected = list_partition_reassignments::Request {
            timeout_ms: 12,
            topics: Some(vec![topic]),
        };
        let request = list_partition_reassignments::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn alter_replica_log_dirs_request(_version: i16) -> theirs::AlterReplicaLogDirsRequest {
    let topic = ard::AlterReplicaLogDirTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![12, 13])
        .with_unknown_tagged_field(9, future());
    let log_dir = ard::AlterReplicaLogDir::default()
        .with_path(text("/var/lib/data"))
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future());
    theirs::AlterReplicaLogDirsRequest::default()
        .with_dirs(vec![log_dir])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn alter_replica_log_dirs_requests() {
    for version in versions(ApiKey::AlterReplicaLogDirs) {
        let theirs = alter_replica_log_dirs_request(version);
        let frame = frame(ApiKey::AlterReplicaLogDirs, version, &theirs);
        let mut r = open(&frame, ApiKey::AlterReplicaLogDirs, version);
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![12, 13],
        };
        let log_dir = alter_replica_log_dirs::LogDir {
            path: "/var/lib/data",
            topics: vec![topic],
        };
        let expected = alter_replica_log_dirs::Request {
            dirs: vec![log_dir],
        };
        let request = alter_replica_log_dirs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_quorum_request(_version: i16) -> theirs::DescribeQuorumRequest {
    let partition = dq::PartitionData::default()
        .with_partition_index(12)
        .with_unknown_tagged_field(9, future());
    let topic = dq::TopicData::default()
        .with_topic_name(topic_name("orders"))
        .with_partitions(vec![partition])
        .with_unknown_tagged_field(9, future());
    theirs::DescribeQuorumRequest::default()
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_quorum_requests() {
    for version in versions(ApiKey::DescribeQuorum) {
        let theirs = describe_quorum_request(version);
        let frame = frame(ApiKey::DescribeQuorum, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeQuorum, version);
        let partition = describe_quorum::PartitionRequest { index: 12 };
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![partition],
        };
        let expected = describe_quorum::Request {
            topics: vec![topic],
        };
        let request = describe_quorum::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn update_features_request(version: i16) -> theirs::UpdateFeaturesRequest {
    let mut feature = uf::FeatureUpdateKey::default()
        .with_feature(text("metadata.version"))
        .with_max_version_level(13)
        .with_unknown_tagged_field(9, future());
    if version <= 0 {
        feature.allow_downgrade = true;
    }
    if version >= 1 {
        feature.upgrade_type = 2;
    }
    let mut request = theirs::UpdateFeaturesRequest::default()
        .with_timeout_ms(12)
        .with_feature_updates(vec![feature])
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.validate_only = true;
    }
    request
}

#[test]
fn update_features_requests() {
    for version in versions(ApiKey::UpdateFeatures) {
        let theirs = update_features_request(version);
        let frame = frame(ApiKey::UpdateFeatures, version, &theirs);
        let mut r = open(&frame, ApiKey::UpdateFeatures, version);
        let feature = update_features::FeatureRequest {
            feature: "metadata.version",
            max_version_level: 13,
            allow_downgrade: version <= 0,
            upgrade_type: if version >= 1 { 2 } else { 1 },
        };
        let expected = update_features::Request {
            timeout_ms: 12,
            feature_updates: vec![feature],
            validate_only: version >= 1,
        };
        let request = update_features::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

#[test]
fn null_means_all_topics() {
    let request = theirs::DescribeLogDirsRequest::default().with_topics(None);
    for version in versions(ApiKey::DescribeLogDirs) {
        let frame = frame(ApiKey::DescribeLogDirs, version, &request);
        let mut r = open(&frame, ApiKey::DescribeLogDirs, version);
        let request = describe_log_dirs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request.topics, None, "v{version}");
    }
    let request = theirs::ElectLeadersRequest::default().with_topic_partitions(None);
    for version in versions(ApiKey::ElectLeaders) {
        let frame = frame(ApiKey::ElectLeaders, version, &request);
        let mut r = open(&frame, ApiKey::ElectLeaders, version);
        let request = elect_leaders::Request::decode(&mut r, version).unwrap();
        assert_eq!(request.topics, None, "v{version}");
    }
    let request = theirs::ListPartitionReassignmentsRequest::default().with_topics(None);
    let frame = frame(ApiKey::ListPartitionReassignments, 0, &request);
    let mut r = open(&frame, ApiKey::ListPartitionReassignments, 0);
    let request = list_partition_reassignments::Request::decode(&mut r, 0).unwrap();
    assert_eq!(request.topics, None);
}

#[test]
fn a_describe_topic_partitions_request_without_a_cursor_starts_at_the_first_topic() {
    let request = theirs::DescribeTopicPartitionsRequest::default();
    let frame = frame(ApiKey::DescribeTopicPartitions, 0, &request);
    let mut r = open(&frame, ApiKey::DescribeTopicPartitions, 0);
    let request = describe_topic_partitions::Request::decode(&mut r, 0).unwrap();
    assert_eq!((request.cursor, r.remaining()), (None, 0));
}
