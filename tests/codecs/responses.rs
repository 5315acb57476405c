//! Replies of ours, with every field set, are read by their client and compared whole. Fields that
//! a version cannot say must come out as the protocol's defaults.

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, BrokerId, ProducerId, TopicName};
use kafka_protocol::messages::{
    api_versions_response as av, create_partitions_response as cp, create_topics_response as ct,
    delete_records_response as dr, delete_topics_response as dt, describe_cluster_response as dcl,
    describe_configs_response as dc, fetch_response as f, find_coordinator_response as fc,
    list_offsets_response as lo, metadata_response as m, produce_response as p,
};
use kafka_protocol::protocol::Decodable;
use millstream::kafka::admin::{
    create_partitions, create_topics, delete_topics, describe_cluster, describe_configs,
};
use millstream::kafka::api::{APIS, ApiKey};
use millstream::kafka::api_versions;
use millstream::kafka::data::{delete_records, fetch, list_offsets, metadata, produce};
use millstream::kafka::error::ErrorCode;
use millstream::kafka::group::find_coordinator;
use millstream::kafka::topics;
use millstream::kafka::txn::init_producer_id;
use millstream::wire::Wire;
use millstream::wire::types::Records;

use super::{TOPIC_ID, api, reply, text, versions};

const THROTTLE_MS: i32 = 250;

fn topic(name: &'static str) -> TopicName {
    TopicName(text(name))
}

#[test]
fn produce_responses() {
    let ours = produce::Response {
        topics: vec![produce::TopicResponse {
            name: "orders".into(),
            topic_id: TOPIC_ID,
            partitions: vec![produce::PartitionResponse {
                index: 3,
                error_code: ErrorCode::InvalidRecord,
                base_offset: 1 << 40,
                log_append_time_ms: 1_700_000_000_000,
                log_start_offset: 12,
                record_errors: vec![
                    produce::RecordError {
                        batch_index: 4,
                        message: Some("no key".into()),
                    },
                    produce::RecordError {
                        batch_index: 5,
                        message: None,
                    },
                ],
                error_message: Some("bad batch".into()),
                current_leader: produce::LeaderIdAndEpoch {
                    leader_id: 6,
                    leader_epoch: 7,
                },
            }],
        }],
        throttle_time_ms: THROTTLE_MS,
        node_endpoints: vec![produce::NodeEndpoint {
            node_id: 6,
            host: "six".into(),
            port: 9096,
            rack: Some("r6".into()),
        }],
    };
    for version in versions(ApiKey::Produce) {
        let mut partition = p::PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(87)
            .with_base_offset(1 << 40)
            .with_log_append_time_ms(1_700_000_000_000);
        let mut expected = theirs::ProduceResponse::default().with_throttle_time_ms(THROTTLE_MS);
        if version >= 5 {
            partition.log_start_offset = 12;
        }
        if version >= 8 {
            partition.error_message = Some(text("bad batch"));
            partition.record_errors = vec![
                p::BatchIndexAndErrorMessage::default()
                    .with_batch_index(4)
                    .with_batch_index_error_message(Some(text("no key"))),
                p::BatchIndexAndErrorMessage::default().with_batch_index(5),
            ];
        }
        if version >= 10 {
            partition.current_leader = p::LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(6))
                .with_leader_epoch(7);
            expected.node_endpoints = vec![
                p::NodeEndpoint::default()
                    .with_node_id(BrokerId(6))
                    .with_host(text("six"))
                    .with_port(9096)
                    .with_rack(Some(text("r6"))),
            ];
        }
        let mut response = p::TopicProduceResponse::default();
        if version >= 13 {
            response.topic_id = TOPIC_ID;
        } else {
            response.name = topic("orders");
        }
        expected.responses = vec![response.with_partition_responses(vec![partition])];
        let read: theirs::ProduceResponse = reply(ApiKey::Produce, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn fetch_responses() {
    let ours = fetch::Response {
        throttle_time_ms: THROTTLE_MS,
        error_code: ErrorCode::InvalidFetchSessionEpoch,
        session_id: 21,
        topics: vec![fetch::TopicResponse {
            name: "orders".into(),
            topic_id: TOPIC_ID,
            partitions: vec![
                fetch::PartitionResponse {
                    index: 3,
                    error_code: ErrorCode::NotLeaderOrFollower,
                    high_watermark: 1 << 40,
                    last_stable_offset: 11,
                    log_start_offset: 12,
                    diverging_epoch: fetch::EpochEndOffset {
                        epoch: 13,
                        end_offset: 14,
                    },
                    current_leader: fetch::LeaderIdAndEpoch {
                        leader_id: 6,
                        leader_epoch: 7,
                    },
                    snapshot_id: fetch::SnapshotId {
                        end_offset: 15,
                        epoch: 16,
                    },
                    aborted_transactions: Some(vec![fetch::AbortedTransaction {
                        producer_id: 17,
                        first_offset: 18,
                    }]),
                    preferred_read_replica: 19,
                    records: Records(Bytes::from_static(b"one two")),
                },
                fetch::PartitionResponse {
                    index: 4,
                    high_watermark: 5,
                    ..fetch::PartitionResponse::default()
                },
            ],
        }],
        node_endpoints: vec![fetch::NodeEndpoint {
            node_id: 6,
            host: "six".into(),
            port: 9096,
            rack: None,
        }],
    };
    for version in versions(ApiKey::Fetch) {
        let read: theirs::FetchResponse = reply(ApiKey::Fetch, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected_fetch_response(version), "v{version}");
    }
}

fn expected_fetch_response(version: i16) -> theirs::FetchResponse {
    let mut full = f::PartitionData::default()
        .with_partition_index(3)
        .with_error_code(6)
        .with_high_watermark(1 << 40)
        .with_last_stable_offset(11)
        .with_aborted_transactions(Some(vec![
            f::AbortedTransaction::default()
                .with_producer_id(ProducerId(17))
                .with_first_offset(18),
        ]))
        .with_records(Some(Bytes::from_static(b"one two")));
    let empty = f::PartitionData::default()
        .with_partition_index(4)
        .with_high_watermark(5)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()));
    let mut response = f::FetchableTopicResponse::default();
    let mut expected = theirs::FetchResponse::default().with_throttle_time_ms(THROTTLE_MS);
    if version >= 5 {
        full.log_start_offset = 12;
    }
    if version >= 7 {
        expected.error_code = 71;
        expected.session_id = 21;
    }
    if version >= 11 {
        full.preferred_read_replica = BrokerId(19);
    }
    if version >= 12 {
        full.diverging_epoch = f::EpochEndOffset::default()
            .with_epoch(13)
            .with_end_offset(14);
        full.current_leader = f::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(6))
            .with_leader_epoch(7);
        full.snapshot_id = f::SnapshotId::default().with_end_offset(15).with_epoch(16);
    }
    if version >= 13 {
        response.topic_id = TOPIC_ID;
    } else {
        response.topic = topic("orders");
    }
    if version >= 16 {
        expected.node_endpoints = vec![
            f::NodeEndpoint::default()
                .with_node_id(BrokerId(6))
                .with_host(text("six"))
                .with_port(9096),
        ];
    }
    expected.with_responses(vec![response.with_partitions(vec![full, empty])])
}

#[test]
fn list_offsets_responses() {
    let ours = list_offsets::Response {
        throttle_time_ms: THROTTLE_MS,
        topics: vec![topics::TopicResponse {
            name: "orders".into(),
            partitions: vec![list_offsets::PartitionResponse {
                index: 3,
                error_code: ErrorCode::FencedLeaderEpoch,
                timestamp: 1_700_000_000_000,
                offset: 1 << 40,
                leader_epoch: 7,
            }],
        }],
    };
    for version in versions(ApiKey::ListOffsets) {
        let mut partition = lo::ListOffsetsPartitionResponse::default()
            .with_partition_index(3)
            .with_error_code(74)
            .with_timestamp(1_700_000_000_000)
            .with_offset(1 << 40);
        let mut expected = theirs::ListOffsetsResponse::default();
        if version >= 2 {
            expected.throttle_time_ms = THROTTLE_MS;
        }
        if version >= 4 {
            partition.leader_epoch = 7;
        }
        expected.topics = vec![
            lo::ListOffsetsTopicResponse::default()
                .with_name(topic("orders"))
                .with_partitions(vec![partition]),
        ];
        let read: theirs::ListOffsetsResponse = reply(ApiKey::ListOffsets, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn metadata_responses() {
    for version in versions(ApiKey::Metadata) {
        let ours = metadata_response();
        let read: theirs::MetadataResponse = reply(ApiKey::Metadata, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected_metadata_response(version), "v{version}");
    }
}

fn metadata_response() -> metadata::Response<'static> {
    metadata::Response {
        throttle_time_ms: THROTTLE_MS,
        brokers: vec![metadata::Broker {
            node_id: 6,
            host: "six".into(),
            port: 9096,
            rack: Some("r6".into()),
        }],
        cluster_id: Some("cluster".into()),
        controller_id: 6,
        topics: vec![
            metadata::Topic {
                error_code: ErrorCode::LeaderNotAvailable,
                name: Some("orders".into()),
                topic_id: TOPIC_ID,
                is_internal: true,
                partitions: vec![metadata::Partition {
                    error_code: ErrorCode::ReplicaNotAvailable,
                    index: 3,
                    leader_id: 6,
                    leader_epoch: 7,
                    replica_nodes: vec![6, 8],
                    isr_nodes: vec![6],
                    offline_replicas: vec![8],
                }],
                topic_authorized_operations: 0b1010,
            },
            metadata::Topic {
                error_code: ErrorCode::UnknownTopicId,
                ..metadata::Topic::default()
            },
        ],
        cluster_authorized_operations: 0b0101,
        error_code: ErrorCode::RebootstrapRequired,
    }
}

fn expected_metadata_response(version: i16) -> theirs::MetadataResponse {
    let mut broker = m::MetadataResponseBroker::default()
        .with_node_id(BrokerId(6))
        .with_host(text("six"))
        .with_port(9096);
    let mut partition = m::MetadataResponsePartition::default()
        .with_error_code(9)
        .with_partition_index(3)
        .with_leader_id(BrokerId(6))
        .with_replica_nodes(vec![BrokerId(6), BrokerId(8)])
        .with_isr_nodes(vec![BrokerId(6)]);
    let mut known = m::MetadataResponseTopic::default()
        .with_error_code(5)
        .with_name(Some(topic("orders")));
    let unknown = m::MetadataResponseTopic::default()
        .with_error_code(100)
        .with_name((version < 12).then(|| topic("")));
    let mut expected = theirs::MetadataResponse::default();
    if version >= 1 {
        broker.rack = Some(text("r6"));
        known.is_internal = true;
        expected.controller_id = BrokerId(6);
    }
    if version >= 2 {
        expected.cluster_id = Some(text("cluster"));
    }
    if version >= 3 {
        expected.throttle_time_ms = THROTTLE_MS;
    }
    if version >= 5 {
        partition.offline_replicas = vec![BrokerId(8)];
    }
    if version >= 7 {
        partition.leader_epoch = 7;
    }
    if version >= 8 {
        known.topic_authorized_operations = 0b1010;
    }
    if (8..=10).contains(&version) {
        expected.cluster_authorized_operations = 0b0101;
    }
    if version >= 10 {
        known.topic_id = TOPIC_ID;
    }
    if version >= 13 {
        expected.error_code = 129;
    }
    expected
        .with_brokers(vec![broker])
        .with_topics(vec![known.with_partitions(vec![partition]), unknown])
}

#[test]
fn find_coordinator_responses() {
    let coordinators = vec![
        find_coordinator::Coordinator {
            key: "group a".into(),
            node_id: 6,
            host: "six".into(),
            port: 9096,
            error_code: ErrorCode::NotCoordinator,
            error_message: Some("moved".into()),
        },
        find_coordinator::Coordinator {
            key: "group b".into(),
            ..find_coordinator::Coordinator::default()
        },
    ];
    for version in versions(ApiKey::FindCoordinator) {
        let mut expected = theirs::FindCoordinatorResponse::default();
        if version >= 1 {
            expected.throttle_time_ms = THROTTLE_MS;
        }
        if version >= 4 {
            expected.coordinators = vec![
                fc::Coordinator::default()
                    .with_key(text("group a"))
                    .with_node_id(BrokerId(6))
                    .with_host(text("six"))
                    .with_port(9096)
                    .with_error_code(16)
                    .with_error_message(Some(text("moved"))),
                fc::Coordinator::default()
                    .with_key(text("group b"))
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_message(None),
            ];
        } else {
            expected.error_code = 16;
            expected.node_id = BrokerId(6);
            expected.host = text("six");
            expected.port = 9096;
            if version >= 1 {
                expected.error_message = Some(text("moved"));
            }
        }
        let ours = find_coordinator::Response {
            throttle_time_ms: THROTTLE_MS,
            ..find_coordinator::Response::of(coordinators.clone(), version)
        };
        let read: theirs::FindCoordinatorResponse = reply(ApiKey::FindCoordinator, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn an_old_find_coordinator_response_without_a_coordinator_says_so() {
    let nobody = find_coordinator::Response::of(vec![], 3);
    let read: theirs::FindCoordinatorResponse = reply(ApiKey::FindCoordinator, 3, |w| {
        nobody.encode(w, 3);
    });
    assert_eq!((read.error_code, read.node_id), (15, BrokerId(-1)));
}

#[test]
fn api_versions_responses() {
    let ours = api_versions::Response {
        error_code: ErrorCode::InvalidRequest,
        throttle_time_ms: THROTTLE_MS,
        supported_features: vec![
            api_versions::SupportedFeature {
                name: "transaction.version".into(),
                min_version: 0,
                max_version: 2,
            },
            api_versions::SupportedFeature {
                name: "metadata.version".into(),
                min_version: 1,
                max_version: 29,
            },
        ],
        finalized_features_epoch: 5,
        finalized_features: vec![api_versions::FinalizedFeature {
            name: "metadata.version".into(),
            max_version_level: 29,
            min_version_level: 28,
        }],
        zk_migration_ready: true,
        ..api_versions::Response::all()
    };
    for version in versions(ApiKey::ApiVersions) {
        let mut expected = theirs::ApiVersionsResponse::default()
            .with_error_code(42)
            .with_api_keys(expected_api_keys());
        if version >= 1 {
            expected.throttle_time_ms = THROTTLE_MS;
        }
        if version >= 3 {
            expected = expected
                .with_finalized_features_epoch(5)
                .with_zk_migration_ready(true)
                .with_supported_features(expected_supported_features(version))
                .with_finalized_features(vec![
                    av::FinalizedFeatureKey::default()
                        .with_name(text("metadata.version"))
                        .with_max_version_level(29)
                        .with_min_version_level(28),
                ]);
        }
        let ours = ours.clone().sayable(version);
        let read: theirs::ApiVersionsResponse = reply(ApiKey::ApiVersions, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

fn expected_api_keys() -> Vec<av::ApiVersion> {
    let key = |api: &millstream::kafka::api::Api| {
        av::ApiVersion::default()
            .with_api_key(api.key.code())
            .with_min_version(api.min_version)
            .with_max_version(api.max_version)
    };
    APIS.iter().map(key).collect()
}

/// Version 3 does not hear of features that start at 0 (KAFKA-17492).
fn expected_supported_features(version: i16) -> Vec<av::SupportedFeatureKey> {
    let feature = |name, min, max| {
        av::SupportedFeatureKey::default()
            .with_name(text(name))
            .with_min_version(min)
            .with_max_version(max)
    };
    let from_one = feature("metadata.version", 1, 29);
    if version >= 4 {
        vec![feature("transaction.version", 0, 2), from_one]
    } else {
        vec![from_one]
    }
}

#[test]
fn an_api_versions_request_that_is_too_new_is_answered_in_version_0() {
    let mut writer = api(ApiKey::ApiVersions).reply(0, 5);
    api_versions::Response::unsupported_version().encode(&mut writer, 0);
    let mut frame = Bytes::from(writer.finish().unwrap().to_vec());
    let header = frame.split_to(8);
    assert_eq!(header[4..], 5i32.to_be_bytes());
    let read = theirs::ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    let own_range = av::ApiVersion::default()
        .with_api_key(18)
        .with_min_version(0)
        .with_max_version(4);
    assert_eq!((read.error_code, read.api_keys), (35, vec![own_range]));
    assert!(frame.is_empty());
}

#[test]
fn create_topics_responses() {
    let ours = create_topics::Response {
        throttle_time_ms: THROTTLE_MS,
        topics: vec![
            create_topics::TopicResponse {
                name: "orders".into(),
                topic_id: TOPIC_ID,
                error_code: ErrorCode::InvalidConfig,
                error_message: Some("what".into()),
                topic_config_error_code: ErrorCode::TopicAuthorizationFailed,
                num_partitions: 6,
                replication_factor: 2,
                configs: Some(vec![create_topics::ConfigResponse {
                    name: "retention.ms".into(),
                    value: Some("1000".into()),
                    read_only: true,
                    config_source: 5,
                    is_sensitive: true,
                }]),
            },
            create_topics::TopicResponse {
                name: "bills".into(),
                configs: None,
                ..create_topics::TopicResponse::default()
            },
        ],
    };
    for version in versions(ApiKey::CreateTopics) {
        let mut full = ct::CreatableTopicResult::default()
            .with_name(topic("orders"))
            .with_error_code(40)
            .with_error_message(Some(text("what")));
        let mut bare = ct::CreatableTopicResult::default()
            .with_name(topic("bills"))
            .with_error_message(None);
        if version >= 5 {
            full.topic_config_error_code = 29;
            full.num_partitions = 6;
            full.replication_factor = 2;
            full.configs = Some(vec![
                ct::CreatableTopicConfigs::default()
                    .with_name(text("retention.ms"))
                    .with_value(Some(text("1000")))
                    .with_read_only(true)
                    .with_config_source(5)
                    .with_is_sensitive(true),
            ]);
            bare.configs = None;
        }
        if version >= 7 {
            full.topic_id = TOPIC_ID;
        }
        let expected = theirs::CreateTopicsResponse::default()
            .with_throttle_time_ms(THROTTLE_MS)
            .with_topics(vec![full, bare]);
        let read: theirs::CreateTopicsResponse = reply(ApiKey::CreateTopics, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn delete_topics_responses() {
    let ours = delete_topics::Response {
        throttle_time_ms: THROTTLE_MS,
        topics: vec![
            delete_topics::TopicResponse {
                name: Some("orders".into()),
                topic_id: TOPIC_ID,
                error_code: ErrorCode::TopicDeletionDisabled,
                error_message: Some("no".into()),
            },
            delete_topics::TopicResponse::default(),
        ],
    };
    for version in versions(ApiKey::DeleteTopics) {
        let mut full = dt::DeletableTopicResult::default()
            .with_name(Some(topic("orders")))
            .with_error_code(73);
        let nameless =
            dt::DeletableTopicResult::default().with_name((version < 6).then(|| topic("")));
        if version >= 5 {
            full.error_message = Some(text("no"));
        }
        if version >= 6 {
            full.topic_id = TOPIC_ID;
        }
        let expected = theirs::DeleteTopicsResponse::default()
            .with_throttle_time_ms(THROTTLE_MS)
            .with_responses(vec![full, nameless]);
        let read: theirs::DeleteTopicsResponse = reply(ApiKey::DeleteTopics, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn delete_records_responses() {
    let ours = delete_records::Response {
        throttle_time_ms: THROTTLE_MS,
        topics: vec![topics::TopicResponse {
            name: "orders".into(),
            partitions: vec![delete_records::PartitionResponse {
                index: 3,
                low_watermark: 1 << 40,
                error_code: ErrorCode::OffsetOutOfRange,
            }],
        }],
    };
    let partition = dr::DeleteRecordsPartitionResult::default()
        .with_partition_index(3)
        .with_low_watermark(1 << 40)
        .with_error_code(1);
    let result = dr::DeleteRecordsTopicResult::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition]);
    let expected = theirs::DeleteRecordsResponse::default()
        .with_throttle_time_ms(THROTTLE_MS)
        .with_topics(vec![result]);
    for version in versions(ApiKey::DeleteRecords) {
        let read: theirs::DeleteRecordsResponse = reply(ApiKey::DeleteRecords, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn init_producer_id_responses() {
    let ours = init_producer_id::Response {
        throttle_time_ms: THROTTLE_MS,
        error_code: ErrorCode::ConcurrentTransactions,
        producer_id: 1 << 40,
        producer_epoch: 5,
    };
    let expected = theirs::InitProducerIdResponse::default()
        .with_throttle_time_ms(THROTTLE_MS)
        .with_error_code(51)
        .with_producer_id(ProducerId(1 << 40))
        .with_producer_epoch(5);
    for version in versions(ApiKey::InitProducerId) {
        let read: theirs::InitProducerIdResponse = reply(ApiKey::InitProducerId, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn create_partitions_responses() {
    let ours = create_partitions::Response {
        throttle_time_ms: THROTTLE_MS,
        topics: vec![
            create_partitions::TopicResponse {
                name: "orders".into(),
                error_code: ErrorCode::InvalidPartitions,
                error_message: Some("fewer".into()),
            },
            create_partitions::TopicResponse::default(),
        ],
    };
    let expected = theirs::CreatePartitionsResponse::default()
        .with_throttle_time_ms(THROTTLE_MS)
        .with_results(vec![
            cp::CreatePartitionsTopicResult::default()
                .with_name(topic("orders"))
                .with_error_code(37)
                .with_error_message(Some(text("fewer"))),
            cp::CreatePartitionsTopicResult::default(),
        ]);
    for version in versions(ApiKey::CreatePartitions) {
        let read: theirs::CreatePartitionsResponse =
            reply(ApiKey::CreatePartitions, version, |w| {
                ours.encode(w, version);
            });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_configs_responses() {
    let ours = describe_configs::Response {
        throttle_time_ms: THROTTLE_MS,
        results: vec![describe_configs::ResourceResponse {
            error_code: ErrorCode::InvalidConfig,
            error_message: Some("what".into()),
            resource_type: 2,
            resource_name: "orders".into(),
            configs: vec![describe_configs::ConfigResponse {
                name: "retention.ms".into(),
                value: Some("1000".into()),
                read_only: true,
                config_source: 1,
                is_sensitive: true,
                synonyms: vec![describe_configs::Synonym {
                    name: "log.retention.ms".into(),
                    value: None,
                    source: 5,
                }],
                config_type: 5,
                documentation: Some("how long".into()),
            }],
        }],
    };
    for version in versions(ApiKey::DescribeConfigs) {
        let synonym = dc::DescribeConfigsSynonym::default()
            .with_name(text("log.retention.ms"))
            .with_value(None)
            .with_source(5);
        let mut config = dc::DescribeConfigsResourceResult::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")))
            .with_read_only(true)
            .with_config_source(1)
            .with_is_sensitive(true)
            .with_synonyms(vec![synonym]);
        if version >= 3 {
            config.config_type = 5;
            config.documentation = Some(text("how long"));
        }
        let result = dc::DescribeConfigsResult::default()
            .with_error_code(40)
            .with_error_message(Some(text("what")))
            .with_resource_type(2)
            .with_resource_name(text("orders"))
            .with_configs(vec![config]);
        let expected = theirs::DescribeConfigsResponse::default()
            .with_throttle_time_ms(THROTTLE_MS)
            .with_results(vec![result]);
        let read: theirs::DescribeConfigsResponse = reply(ApiKey::DescribeConfigs, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_cluster_responses() {
    let ours = describe_cluster::Response {
        throttle_time_ms: THROTTLE_MS,
        error_code: ErrorCode::MismatchedEndpointType,
        error_message: Some("what".into()),
        endpoint_type: 2,
        cluster_id: "cluster".into(),
        controller_id: 6,
        brokers: vec![describe_cluster::Broker {
            broker_id: 6,
            host: "six".into(),
            port: 9096,
            rack: Some("r6".into()),
            is_fenced: true,
        }],
        cluster_authorized_operations: 0b0101,
    };
    for version in versions(ApiKey::DescribeCluster) {
        let mut broker = dcl::DescribeClusterBroker::default()
            .with_broker_id(BrokerId(6))
            .with_host(text("six"))
            .with_port(9096)
            .with_rack(Some(text("r6")));
        let mut expected = theirs::DescribeClusterResponse::default()
            .with_throttle_time_ms(THROTTLE_MS)
            .with_error_code(114)
            .with_error_message(Some(text("what")))
            .with_cluster_id(text("cluster"))
            .with_controller_id(BrokerId(6))
            .with_cluster_authorized_operations(0b0101);
        if version >= 1 {
            expected.endpoint_type = 2;
        }
        if version >= 2 {
            broker.is_fenced = true;
        }
        expected.brokers = vec![broker];
        let read: theirs::DescribeClusterResponse = reply(ApiKey::DescribeCluster, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}
