//! Requests written by their client, with every field the version has set to something that is
//! not its default, are read by ours and compared whole.
//!
//! Each `*_request` builds their request; `robustness` uses them too.

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, BrokerId, ProducerId, TopicName, TransactionalId};
use kafka_protocol::messages::{
    create_partitions_request as cp, create_topics_request as ct, delete_records_request as dr,
    delete_topics_request as dt, describe_configs_request as dc, fetch_request as f,
    list_offsets_request as lo, metadata_request as m, produce_request as p,
};
use millstream::kafka::admin::{
    alter_configs, create_partitions, create_topics, delete_topics, describe_cluster,
    describe_configs,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::api_versions;
use millstream::kafka::data::{delete_records, fetch, list_offsets, metadata, produce};
use millstream::kafka::group::find_coordinator;
use millstream::kafka::topics;
use millstream::kafka::txn::init_producer_id;
use millstream::wire::Wire;
use uuid::Uuid;

use super::{DIRECTORY_ID, TOPIC_ID, frame, future, is_flexible, open, text, versions};

fn topic(name: &'static str) -> TopicName {
    TopicName(text(name))
}

pub fn produce_request(version: i16) -> theirs::ProduceRequest {
    let partition = |index| {
        p::PartitionProduceData::default()
            .with_index(index)
            .with_unknown_tagged_field(9, future())
    };
    let partitions = vec![
        partition(3).with_records(Some(Bytes::from_static(b"a record batch"))),
        partition(4).with_records(None),
        partition(5).with_records(Some(Bytes::new())),
    ];
    let data = p::TopicProduceData::default()
        .with_partition_data(partitions)
        .with_unknown_tagged_field(9, future());
    let data = if version >= 13 {
        data.with_topic_id(TOPIC_ID)
    } else {
        data.with_name(topic("orders"))
    };
    theirs::ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(text("txn"))))
        .with_acks(-1)
        .with_timeout_ms(1234)
        .with_topic_data(vec![data, p::TopicProduceData::default()])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn produce_requests() {
    for version in versions(ApiKey::Produce) {
        let frame = frame(ApiKey::Produce, version, &produce_request(version));
        let mut r = open(&frame, ApiKey::Produce, version);
        let request = produce::Request::decode(&mut r, version).unwrap();
        let by_id = version >= 13;
        let partition = |index, records| produce::PartitionRequest { index, records };
        let expected = produce::Request {
            transactional_id: Some("txn"),
            acks: -1,
            timeout_ms: 1234,
            topics: vec![
                produce::TopicRequest {
                    name: if by_id { "" } else { "orders" },
                    topic_id: if by_id { TOPIC_ID } else { Uuid::nil() },
                    partitions: vec![
                        partition(3, Some(Bytes::from_static(b"a record batch"))),
                        partition(4, None),
                        partition(5, Some(Bytes::new())),
                    ],
                },
                produce::TopicRequest {
                    name: "",
                    topic_id: Uuid::nil(),
                    partitions: vec![],
                },
            ],
        };
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");

        let records = request.topics[0].partitions[0].records.as_ref().unwrap();
        assert!(
            frame.as_ptr_range().contains(&records.as_ptr()),
            "records were copied"
        );
    }
}

pub fn fetch_request(version: i16) -> theirs::FetchRequest {
    let mut partition = f::FetchPartition::default()
        .with_partition(3)
        .with_fetch_offset(1 << 40)
        .with_partition_max_bytes(5000)
        .with_unknown_tagged_field(9, future());
    let mut wanted = f::FetchTopic::default().with_unknown_tagged_field(9, future());
    let mut forgotten = f::ForgottenTopic::default()
        .with_partitions(vec![7, 8])
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(2)
        .with_max_bytes(3_000_000)
        .with_isolation_level(1)
        .with_unknown_tagged_field(9, future());
    if version >= 5 {
        partition.log_start_offset = 11;
    }
    if version >= 9 {
        partition.current_leader_epoch = 12;
    }
    if version >= 12 {
        partition.last_fetched_epoch = 13;
        request.cluster_id = Some(text("cluster"));
    }
    if version >= 17 {
        partition.replica_directory_id = DIRECTORY_ID;
    }
    if version >= 18 {
        partition.high_watermark = 14;
    }
    if version >= 13 {
        wanted.topic_id = TOPIC_ID;
        forgotten.topic_id = DIRECTORY_ID;
    } else {
        wanted.topic = topic("orders");
        forgotten.topic = topic("bills");
    }
    if version >= 15 {
        request.replica_state = f::ReplicaState::default()
            .with_replica_id(BrokerId(5))
            .with_replica_epoch(6)
            .with_unknown_tagged_field(9, future());
    } else {
        request.replica_id = BrokerId(5);
    }
    if version >= 7 {
        request.session_id = 21;
        request.session_epoch = 22;
        request.forgotten_topics_data = vec![forgotten];
    }
    if version >= 11 {
        request.rack_id = text("rack");
    }
    request.topics = vec![wanted.with_partitions(vec![partition])];
    request
}

#[test]
fn fetch_requests() {
    for version in versions(ApiKey::Fetch) {
        let frame = frame(ApiKey::Fetch, version, &fetch_request(version));
        let mut r = open(&frame, ApiKey::Fetch, version);
        let request = fetch::Request::decode(&mut r, version).unwrap();
        let by_id = version >= 13;
        let from = |first, value, default| if version >= first { value } else { default };
        let partition = fetch::PartitionRequest {
            index: 3,
            current_leader_epoch: from(9, 12, -1),
            fetch_offset: 1 << 40,
            last_fetched_epoch: from(12, 13, -1),
            log_start_offset: i64::from(from(5, 11, -1)),
            partition_max_bytes: 5000,
            replica_directory_id: if version >= 17 {
                DIRECTORY_ID
            } else {
                Uuid::nil()
            },
            high_watermark: if version >= 18 { 14 } else { i64::MAX },
        };
        let forgotten = fetch::ForgottenTopic {
            name: if by_id { "" } else { "bills" },
            topic_id: if by_id { DIRECTORY_ID } else { Uuid::nil() },
            partitions: vec![7, 8],
        };
        let expected = fetch::Request {
            cluster_id: (version >= 12).then_some("cluster"),
            replica_id: if version >= 15 { -1 } else { 5 },
            replica_state: fetch::ReplicaState {
                replica_id: from(15, 5, -1),
                replica_epoch: i64::from(from(15, 6, -1)),
            },
            max_wait_ms: 100,
            min_bytes: 2,
            max_bytes: 3_000_000,
            isolation_level: 1,
            session_id: from(7, 21, 0),
            session_epoch: from(7, 22, -1),
            topics: vec![fetch::TopicRequest {
                name: if by_id { "" } else { "orders" },
                topic_id: if by_id { TOPIC_ID } else { Uuid::nil() },
                partitions: vec![partition],
            }],
            forgotten_topics: if version >= 7 {
                vec![forgotten]
            } else {
                vec![]
            },
            rack_id: if version >= 11 { "rack" } else { "" },
        };
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

#[test]
fn a_fetch_without_its_tagged_fields_gets_their_defaults() {
    let request = theirs::FetchRequest::default().with_topics(vec![
        f::FetchTopic::default().with_partitions(vec![f::FetchPartition::default()]),
    ]);
    let frame = frame(ApiKey::Fetch, 18, &request);
    let request = fetch::Request::decode(&mut open(&frame, ApiKey::Fetch, 18), 18).unwrap();
    assert_eq!(request.cluster_id, None);
    let replica = request.replica_state;
    assert_eq!((request.replica_id, replica.replica_id), (-1, -1));
    assert_eq!(replica.replica_epoch, -1);
    let partition = request.topics[0].partitions[0];
    assert_eq!(partition.replica_directory_id, Uuid::nil());
    assert_eq!(partition.high_watermark, i64::MAX);
}

pub fn list_offsets_request(version: i16) -> theirs::ListOffsetsRequest {
    let mut partition = lo::ListOffsetsPartition::default()
        .with_partition_index(3)
        .with_timestamp(-2)
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::ListOffsetsRequest::default()
        .with_replica_id(BrokerId(5))
        .with_unknown_tagged_field(9, future());
    if version >= 2 {
        request.isolation_level = 1;
    }
    if version >= 4 {
        partition.current_leader_epoch = 12;
    }
    if version >= 10 {
        request.timeout_ms = 1234;
    }
    request.with_topics(vec![
        lo::ListOffsetsTopic::default()
            .with_name(topic("orders"))
            .with_partitions(vec![partition])
            .with_unknown_tagged_field(9, future()),
    ])
}

#[test]
fn list_offsets_requests() {
    for version in versions(ApiKey::ListOffsets) {
        let frame = frame(ApiKey::ListOffsets, version, &list_offsets_request(version));
        let mut r = open(&frame, ApiKey::ListOffsets, version);
        let expected = list_offsets::Request {
            replica_id: 5,
            isolation_level: i8::from(version >= 2),
            topics: vec![topics::TopicRequest {
                name: "orders",
                partitions: vec![list_offsets::PartitionRequest {
                    index: 3,
                    current_leader_epoch: if version >= 4 { 12 } else { -1 },
                    timestamp: -2,
                }],
            }],
            timeout_ms: if version >= 10 { 1234 } else { 0 },
        };
        let request = list_offsets::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn metadata_request(version: i16) -> theirs::MetadataRequest {
    let wanted = |name| {
        m::MetadataRequestTopic::default()
            .with_name(name)
            .with_unknown_tagged_field(9, future())
    };
    let mut topics = vec![wanted(Some(topic("orders")))];
    if version >= 10 {
        topics.push(wanted(None).with_topic_id(TOPIC_ID));
    }
    let mut request = theirs::MetadataRequest::default()
        .with_topics(Some(topics))
        .with_unknown_tagged_field(9, future());
    if version >= 4 {
        request.allow_auto_topic_creation = false;
    }
    if version >= 8 {
        request.include_topic_authorized_operations = true;
    }
    if (8..=10).contains(&version) {
        request.include_cluster_authorized_operations = true;
    }
    request
}

#[test]
fn metadata_requests() {
    for version in versions(ApiKey::Metadata) {
        let frame = frame(ApiKey::Metadata, version, &metadata_request(version));
        let mut r = open(&frame, ApiKey::Metadata, version);
        let mut topics = vec![metadata::TopicRequest {
            topic_id: Uuid::nil(),
            name: Some("orders"),
        }];
        if version >= 10 {
            topics.push(metadata::TopicRequest {
                topic_id: TOPIC_ID,
                name: None,
            });
        }
        let expected = metadata::Request {
            topics: Some(topics),
            allow_auto_topic_creation: version < 4,
            include_cluster_authorized_operations: (8..=10).contains(&version),
            include_topic_authorized_operations: version >= 8,
        };
        let request = metadata::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

#[test]
fn all_topics_is_an_empty_array_in_metadata_v0_and_null_later() {
    let none = theirs::MetadataRequest::default().with_topics(Some(vec![]));
    let all = theirs::MetadataRequest::default().with_topics(None);
    for version in versions(ApiKey::Metadata) {
        let decode = |request| {
            let frame = frame(ApiKey::Metadata, version, request);
            let mut r = open(&frame, ApiKey::Metadata, version);
            let request = metadata::Request::decode(&mut r, version).unwrap();
            request.asked_topics(version).map(<[_]>::len)
        };
        if version == 0 {
            assert_eq!(decode(&none), None);
        } else {
            assert_eq!(decode(&none), Some(0), "v{version}");
            assert_eq!(decode(&all), None, "v{version}");
        }
    }
}

pub fn find_coordinator_request(version: i16) -> theirs::FindCoordinatorRequest {
    let mut request =
        theirs::FindCoordinatorRequest::default().with_unknown_tagged_field(9, future());
    if version >= 4 {
        request.coordinator_keys = vec![text("group a"), text("group b")];
    } else {
        request.key = text("group a");
    }
    if version >= 1 {
        request.key_type = 1;
    }
    request
}

#[test]
fn find_coordinator_requests() {
    for version in versions(ApiKey::FindCoordinator) {
        let theirs = find_coordinator_request(version);
        let frame = frame(ApiKey::FindCoordinator, version, &theirs);
        let mut r = open(&frame, ApiKey::FindCoordinator, version);
        let keys = ["group a", "group b"];
        let expected = find_coordinator::Request {
            key: if version >= 4 { "" } else { keys[0] },
            key_type: i8::from(version >= 1),
            coordinator_keys: if version >= 4 { keys.into() } else { vec![] },
        };
        let request = find_coordinator::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        let asked = if version >= 4 { &keys[..] } else { &keys[..1] };
        assert_eq!(request.keys(version), asked, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn api_versions_request(version: i16) -> theirs::ApiVersionsRequest {
    let mut request = theirs::ApiVersionsRequest::default().with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.client_software_name = text("librdkafka");
        request.client_software_version = text("2.11.0");
    }
    request
}

#[test]
fn api_versions_requests() {
    for version in versions(ApiKey::ApiVersions) {
        let frame = frame(ApiKey::ApiVersions, version, &api_versions_request(version));
        let mut r = open(&frame, ApiKey::ApiVersions, version);
        let says_software = version >= 3;
        let expected = api_versions::Request {
            client_software_name: if says_software { "librdkafka" } else { "" },
            client_software_version: if says_software { "2.11.0" } else { "" },
        };
        let request = api_versions::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn create_topics_request(_version: i16) -> theirs::CreateTopicsRequest {
    let assignment = ct::CreatableReplicaAssignment::default()
        .with_partition_index(3)
        .with_broker_ids(vec![BrokerId(1), BrokerId(2)])
        .with_unknown_tagged_field(9, future());
    let config = |value| {
        ct::CreatableTopicConfig::default()
            .with_name(text("retention.ms"))
            .with_value(value)
            .with_unknown_tagged_field(9, future())
    };
    let wanted = ct::CreatableTopic::default()
        .with_name(topic("orders"))
        .with_num_partitions(6)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment])
        .with_configs(vec![config(Some(text("1000"))), config(None)])
        .with_unknown_tagged_field(9, future());
    theirs::CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(1234)
        .with_validate_only(true)
        .with_unknown_tagged_field(9, future())
}

#[test]
fn create_topics_requests() {
    for version in versions(ApiKey::CreateTopics) {
        let theirs = create_topics_request(version);
        let frame = frame(ApiKey::CreateTopics, version, &theirs);
        let mut r = open(&frame, ApiKey::CreateTopics, version);
        let config = |value| alter_configs::ConfigRequest {
            name: "retention.ms",
            value,
        };
        let expected = create_topics::Request {
            topics: vec![create_topics::TopicRequest {
                name: "orders",
                num_partitions: 6,
                replication_factor: -1,
                assignments: vec![create_topics::Assignment {
                    partition_index: 3,
                    broker_ids: vec![1, 2],
                }],
                configs: vec![config(Some("1000")), config(None)],
            }],
            timeout_ms: 1234,
            validate_only: true,
        };
        let request = create_topics::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn delete_topics_request(version: i16) -> theirs::DeleteTopicsRequest {
    let request = theirs::DeleteTopicsRequest::default()
        .with_timeout_ms(1234)
        .with_unknown_tagged_field(9, future());
    if version < 6 {
        return request.with_topic_names(vec![topic("orders"), topic("bills")]);
    }
    let state = dt::DeleteTopicState::default().with_unknown_tagged_field(9, future());
    request.with_topics(vec![
        state.clone().with_name(Some(topic("orders"))),
        state.with_topic_id(TOPIC_ID),
    ])
}

#[test]
fn delete_topics_requests() {
    for version in versions(ApiKey::DeleteTopics) {
        let theirs = delete_topics_request(version);
        let frame = frame(ApiKey::DeleteTopics, version, &theirs);
        let mut r = open(&frame, ApiKey::DeleteTopics, version);
        let by_id = version >= 6;
        let topics = vec![
            delete_topics::TopicRequest {
                name: Some("orders"),
                topic_id: Uuid::nil(),
            },
            delete_topics::TopicRequest {
                name: (!by_id).then_some("bills"),
                topic_id: if by_id { TOPIC_ID } else { Uuid::nil() },
            },
        ];
        let names = vec!["orders", "bills"];
        let expected = delete_topics::Request {
            topics: if by_id { topics.clone() } else { vec![] },
            topic_names: if by_id { vec![] } else { names },
            timeout_ms: 1234,
        };
        let request = delete_topics::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert!(request.topics().eq(topics), "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn delete_records_request(_version: i16) -> theirs::DeleteRecordsRequest {
    let partition = dr::DeleteRecordsPartition::default()
        .with_partition_index(3)
        .with_offset(77)
        .with_unknown_tagged_field(9, future());
    let wanted = dr::DeleteRecordsTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition])
        .with_unknown_tagged_field(9, future());
    theirs::DeleteRecordsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(1234)
        .with_unknown_tagged_field(9, future())
}

#[test]
fn delete_records_requests() {
    for version in versions(ApiKey::DeleteRecords) {
        let theirs = delete_records_request(version);
        let frame = frame(ApiKey::DeleteRecords, version, &theirs);
        let mut r = open(&frame, ApiKey::DeleteRecords, version);
        let expected = delete_records::Request {
            topics: vec![topics::TopicRequest {
                name: "orders",
                partitions: vec![delete_records::PartitionRequest {
                    index: 3,
                    offset: 77,
                }],
            }],
            timeout_ms: 1234,
        };
        let request = delete_records::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn init_producer_id_request(version: i16) -> theirs::InitProducerIdRequest {
    let mut request = theirs::InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("txn"))))
        .with_transaction_timeout_ms(1234)
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.producer_id = ProducerId(1 << 40);
        request.producer_epoch = 5;
    }
    request
}

#[test]
fn init_producer_id_requests() {
    for version in versions(ApiKey::InitProducerId) {
        let theirs = init_producer_id_request(version);
        let frame = frame(ApiKey::InitProducerId, version, &theirs);
        let mut r = open(&frame, ApiKey::InitProducerId, version);
        let expected = init_producer_id::Request {
            transactional_id: Some("txn"),
            transaction_timeout_ms: 1234,
            producer_id: if version >= 3 { 1 << 40 } else { -1 },
            producer_epoch: if version >= 3 { 5 } else { -1 },
        };
        let request = init_producer_id::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn create_partitions_request(_version: i16) -> theirs::CreatePartitionsRequest {
    let assignment = cp::CreatePartitionsAssignment::default()
        .with_broker_ids(vec![BrokerId(1), BrokerId(2)])
        .with_unknown_tagged_field(9, future());
    let wanted = cp::CreatePartitionsTopic::default()
        .with_name(topic("orders"))
        .with_count(6)
        .with_unknown_tagged_field(9, future());
    theirs::CreatePartitionsRequest::default()
        .with_topics(vec![
            wanted.clone().with_assignments(Some(vec![assignment])),
            wanted.with_assignments(None),
        ])
        .with_timeout_ms(1234)
        .with_validate_only(true)
        .with_unknown_tagged_field(9, future())
}

#[test]
fn create_partitions_requests() {
    for version in versions(ApiKey::CreatePartitions) {
        let theirs = create_partitions_request(version);
        let frame = frame(ApiKey::CreatePartitions, version, &theirs);
        let mut r = open(&frame, ApiKey::CreatePartitions, version);
        let topic = |assignments| create_partitions::TopicRequest {
            name: "orders",
            count: 6,
            assignments,
        };
        let assignment = create_partitions::Assignment {
            broker_ids: vec![1, 2],
        };
        let expected = create_partitions::Request {
            topics: vec![topic(Some(vec![assignment])), topic(None)],
            timeout_ms: 1234,
            validate_only: true,
        };
        let request = create_partitions::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_configs_request(version: i16) -> theirs::DescribeConfigsRequest {
    let resource = dc::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_unknown_tagged_field(9, future());
    let keys = vec![text("retention.ms"), text("cleanup.policy")];
    let mut request = theirs::DescribeConfigsRequest::default()
        .with_resources(vec![
            resource.clone().with_configuration_keys(Some(keys)),
            resource.with_configuration_keys(None),
        ])
        .with_include_synonyms(true)
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.include_documentation = true;
    }
    request
}

#[test]
fn describe_configs_requests() {
    for version in versions(ApiKey::DescribeConfigs) {
        let theirs = describe_configs_request(version);
        let frame = frame(ApiKey::DescribeConfigs, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeConfigs, version);
        let resource = |configuration_keys| describe_configs::ResourceRequest {
            resource_type: 2,
            resource_name: "orders",
            configuration_keys,
        };
        let expected = describe_configs::Request {
            resources: vec![
                resource(Some(vec!["retention.ms", "cleanup.policy"])),
                resource(None),
            ],
            include_synonyms: true,
            include_documentation: version >= 3,
        };
        let request = describe_configs::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_cluster_request(version: i16) -> theirs::DescribeClusterRequest {
    let mut request = theirs::DescribeClusterRequest::default()
        .with_include_cluster_authorized_operations(true)
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.endpoint_type = 2;
    }
    if version >= 2 {
        request.include_fenced_brokers = true;
    }
    request
}

#[test]
fn describe_cluster_requests() {
    for version in versions(ApiKey::DescribeCluster) {
        assert!(is_flexible(ApiKey::DescribeCluster, version));
        let theirs = describe_cluster_request(version);
        let frame = frame(ApiKey::DescribeCluster, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeCluster, version);
        let expected = describe_cluster::Request {
            include_cluster_authorized_operations: true,
            endpoint_type: if version >= 1 { 2 } else { 1 },
            include_fenced_brokers: version >= 2,
        };
        let request = describe_cluster::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}
