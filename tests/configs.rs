//! Configs as Kafka's tools set and read them.

use crate::support::batch::Batch;
use crate::support::configs::*;
use crate::support::wire::*;
use crate::support::{Broker, broker, eventually};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

const MESSAGE_TOO_LARGE: i16 = 10;
const TOPIC_SOURCE: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const STATIC_BROKER: i8 = 4;
const INVALID_REQUEST: i16 = 42;
const INVALID_CONFIG: i16 = 40;
const INVALID_RECORD: i16 = 87;

/// What Kafka 4.3.1 takes for a topic, and how it shows it.
const TAKEN: &[(&str, &str, &str)] = &[
    ("compression.type", "lz4", "lz4"),
    ("compression.type", "gzip", "gzip"),
    ("compression.type", "uncompressed", "uncompressed"),
    ("compression.gzip.level", "5", "5"),
    ("compression.lz4.level", "9", "9"),
    ("compression.zstd.level", "3", "3"),
    ("flush.ms", "1000", "1000"),
    ("flush.messages", "1", "1"),
    ("unclean.leader.election.enable", "false", "false"),
    ("unclean.leader.election.enable", "true", "true"),
    ("min.insync.replicas", "2", "2"),
    ("preallocate", "false", "false"),
    ("file.delete.delay.ms", "60000", "60000"),
    ("segment.index.bytes", "10485760", "10485760"),
    ("remote.storage.enable", "false", "false"),
    ("remote.log.copy.disable", "false", "false"),
    ("remote.log.delete.on.disable", "false", "false"),
    ("local.retention.ms", "-2", "-2"),
    ("local.retention.bytes", "-2", "-2"),
    ("leader.replication.throttled.replicas", "*", "*"),
    ("follower.replication.throttled.replicas", "", ""),
    ("cleanup.policy", "", ""),
    ("cleanup.policy", "compact, delete", "compact,delete"),
    ("cleanup.policy", "delete,delete", "delete"),
    ("internal.segment.bytes", "1000", "1000"),
    ("errors.deadletterqueue.group.enable", "true", "true"),
];

/// Kafka 4.0 removed them.
const REMOVED: &[(&str, &str)] = &[
    ("message.downconversion.enable", "true"),
    ("message.format.version", "3.0"),
    ("message.timestamp.difference.max.ms", "9223372036854775807"),
];

#[test]
fn every_topic_config_of_kafka_is_taken_kept_and_shown() {
    let (dir, broker, mut wire) = broker();
    wire.create_topic("altered", 1);
    for (at, &(name, given, shown)) in TAKEN.iter().enumerate() {
        let created = format!("t{at}");
        let answer = wire.try_create_topic(&created, 1, &[(name, given)]);
        assert_eq!(answer.error_code, 0, "{name}={given}");
        assert_eq!(own_configs(&mut wire, &created), pairs(&[(name, shown)]));
        let (code, message) = alter(&mut wire, TOPIC, "altered", &[(name, SET, Some(given))]);
        assert_eq!((code, message.as_str()), (0, ""), "{name}={given}");
        assert_eq!(own_configs(&mut wire, "altered"), pairs(&[(name, shown)]));
        assert_eq!(replace(&mut wire, "altered", &[]), 0);
        assert_eq!(replace(&mut wire, "altered", &[(name, given)]), 0);
        assert_eq!(own_configs(&mut wire, "altered"), pairs(&[(name, shown)]));
        assert_eq!(replace(&mut wire, "altered", &[]), 0);
    }
    broker.kill_9();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    for (at, &(name, _, shown)) in TAKEN.iter().enumerate() {
        let created = format!("t{at}");
        assert_eq!(own_configs(&mut wire, &created), pairs(&[(name, shown)]));
    }
    let described = broker.run(&["topic", "describe", "t6", "t10"], b"");
    let described = String::from_utf8(described.stdout).unwrap();
    assert!(
        described.contains("stored without effect: flush.ms"),
        "{described}"
    );
    assert!(described.contains("stored without effect: min.insync.replicas"));
}

#[test]
fn configs_that_kafka_removed_are_ignored_with_a_warning() {
    let (_dir, broker, mut wire) = broker();
    let with_kept = [REMOVED, &[("retention.ms", "5")]].concat();
    assert_eq!(wire.try_create_topic("t", 1, &with_kept).error_code, 0);
    assert_eq!(own_configs(&mut wire, "t"), pairs(&[("retention.ms", "5")]));
    for (name, value) in REMOVED {
        assert_eq!(
            alter(&mut wire, TOPIC, "t", &[(name, SET, Some(value))]).0,
            0
        );
    }
    assert_eq!(replace(&mut wire, "t", &with_kept), 0);
    assert_eq!(own_configs(&mut wire, "t"), pairs(&[("retention.ms", "5")]));
    eventually("the warning", || {
        broker
            .log()
            .contains("a topic config that Kafka 4.0 removed is ignored")
    });
}

#[test]
fn what_kafka_refuses_is_refused_and_an_unknown_name_gets_its_nearest() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    for (name, bad) in [
        ("compression.type", "zip"),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.lz4.level", "0"),
        ("compression.zstd.level", "23"),
        ("flush.messages", "0"),
        ("min.insync.replicas", "0"),
        ("preallocate", "perhaps"),
        ("segment.index.bytes", "3"),
        ("local.retention.ms", "-3"),
        ("leader.replication.throttled.replicas", "all"),
        ("cleanup.policy", "compact,"),
        ("flush.mss", "1"),
    ] {
        let (code, message) = alter(&mut wire, TOPIC, "t", &[(name, SET, Some(bad))]);
        assert_eq!(code, INVALID_CONFIG, "{name}={bad}");
        assert!(message.contains(name), "{message}");
        assert_eq!(
            wire.try_create_topic("new", 1, &[(name, bad)]).error_code,
            INVALID_CONFIG
        );
    }
    let (_, message) = alter(&mut wire, TOPIC, "t", &[("flush.mss", SET, Some("1"))]);
    assert!(message.contains("did you mean `flush.ms`?"), "{message}");
    let contradiction = [
        ("min.compaction.lag.ms", SET, Some("9")),
        ("max.compaction.lag.ms", SET, Some("8")),
    ];
    assert_eq!(
        alter(&mut wire, TOPIC, "t", &contradiction).0,
        INVALID_CONFIG
    );
    assert_eq!(own_configs(&mut wire, "t"), []);
}

/// MirrorMaker 2 creates a topic with all that its source's topic has set, then alters it: what is set is set,
/// all else deleted.
#[test]
fn a_mirrored_topic_has_the_configs_of_its_source() {
    let (_dir, _broker, mut wire) = broker();
    let source = [
        ("cleanup.policy", "compact"),
        ("flush.ms", "1000"),
        ("flush.messages", "1000"),
        ("compression.type", "zstd"),
        ("file.delete.delay.ms", "1000"),
        ("index.interval.bytes", "8192"),
        ("max.message.bytes", "2000000"),
        ("min.insync.replicas", "2"),
        ("preallocate", "true"),
        ("segment.bytes", "1048576"),
        ("segment.index.bytes", "1024"),
        ("unclean.leader.election.enable", "true"),
    ];
    let mut expected = pairs(&source);
    expected.sort();
    assert_eq!(wire.try_create_topic("a.t", 3, &source).error_code, 0);
    assert_eq!(own_configs(&mut wire, "a.t"), expected);
    wire.create_topic("b.t", 1);
    let all = described(&mut wire, TOPIC, "b.t").configs;
    let deleted = all.iter().map(|config| config.name.as_str());
    let deleted = deleted.filter(|name| source.iter().all(|(set, _)| set != name));
    let deleted: Vec<Change> = deleted.map(|name| (name, DELETE, None)).collect();
    let set = source
        .iter()
        .map(|(name, value)| (*name, SET, Some(*value)));
    let sync: Vec<Change> = set.chain(deleted).collect();
    assert_eq!(alter(&mut wire, TOPIC, "b.t", &sync), (0, String::new()));
    assert_eq!(own_configs(&mut wire, "b.t"), expected);
}

/// The codec that each batch of a partition lies in, and the values of its records as another
/// implementation reads them.
fn stored(wire: &mut Wire, topic: &str) -> Vec<(i16, Vec<String>)> {
    let values = |bytes: &[u8]| {
        let mut bytes = bytes::Bytes::copy_from_slice(bytes);
        let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
        let values = set.records.into_iter().map(|record| record.value.unwrap());
        values
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect()
    };
    let batches = wire.read_from(topic, 0, 0).into_iter();
    batches
        .map(|batch| (batch.attributes & 7, values(&batch.bytes)))
        .collect()
}

/// A batch of one record, compressed by another implementation.
fn compressed(compression: Compression, value: &str) -> Vec<u8> {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: 0,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(value.to_owned().into()),
        headers: Default::default(),
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    let mut bytes = bytes::BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &[record], &options).unwrap();
    bytes.to_vec()
}

#[test]
fn a_topic_with_a_codec_has_all_its_batches_in_that_codec() {
    let (_dir, _broker, mut wire) = broker();
    let large = "x".repeat(5000);
    for (codec, name) in ["uncompressed", "gzip", "snappy", "lz4", "zstd"]
        .iter()
        .enumerate()
    {
        let topic = format!("t-{name}");
        wire.try_create_topic(&topic, 1, &[("compression.type", name)]);
        for compression in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let batch = compressed(compression, &large);
            assert_eq!(wire.produce(&topic, 0, batch).error_code, 0);
        }
        let expected = vec![(codec as i16, vec![large.clone()]); 5];
        assert_eq!(stored(&mut wire, &topic), expected, "{name}");
    }
    // What was stored before stays as it is.
    wire.create_topic("later", 1);
    wire.append("later", 0, &Batch::of(["before"]));
    let set = [("compression.type", SET, Some("zstd"))];
    assert_eq!(alter(&mut wire, TOPIC, "later", &set).0, 0);
    wire.append("later", 0, &Batch::of(["after"]));
    let expected = [
        (0, vec!["before".to_owned()]),
        (4, vec!["after".to_owned()]),
    ];
    assert_eq!(stored(&mut wire, "later"), expected);
}

#[test]
fn recompression_keeps_the_order_of_batches_and_of_sequences() {
    const BATCHES: i32 = 40;
    let (_dir, _broker, mut wire) = broker();
    wire.try_create_topic("t", 1, &[("compression.type", "gzip")]);
    let id = wire.new_producer_id();
    let value = |at: i32| format!("{at} {}", "y".repeat(3000 * (at % 4) as usize));
    for at in 0..BATCHES {
        let batch = Batch::of([value(at)]).by(id, 0, at);
        wire.send(&produce("t", 0, -1, batch.encode()), 9);
    }
    for at in 0..BATCHES {
        let answer = partition_of(wire.receive::<ProduceRequest>(9));
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(at)));
    }
    // A batch that is sent again is known by its sequence.
    let again = Batch::of([value(BATCHES - 1)]).by(id, 0, BATCHES - 1);
    assert_eq!(wire.append("t", 0, &again), i64::from(BATCHES - 1));
    let expected: Vec<_> = (0..BATCHES).map(|at| (1, vec![value(at)])).collect();
    assert_eq!(stored(&mut wire, "t"), expected);
}

#[test]
fn what_cannot_be_recompressed_is_refused() {
    let (_dir, _broker, mut wire) = broker();
    let configs = [
        ("compression.type", "uncompressed"),
        ("max.message.bytes", "4000"),
    ];
    wire.try_create_topic("t", 1, &configs);
    let grows = compressed(Compression::Zstd, &"x".repeat(5000));
    assert_eq!(wire.produce("t", 0, grows).error_code, MESSAGE_TOO_LARGE);
    let mut garbage = Batch::of(["x"]);
    garbage.attributes = 1;
    let refused = wire.produce("t", 0, garbage.encode());
    assert_eq!(refused.error_code, INVALID_RECORD);
    assert_eq!(stored(&mut wire, "t"), []);
}

/// Value and source of a config.
fn shown(wire: &mut Wire, kind: i8, resource: &str, name: &str) -> Option<(String, i8)> {
    let described = described(wire, kind, resource);
    assert_eq!(described.error_code, 0);
    let mut configs = described.configs.into_iter();
    let config = configs.find(|config| config.name.as_str() == name)?;
    Some((config.value.unwrap().to_string(), config.config_source))
}

#[test]
fn defaults_of_topics_change_while_the_broker_runs() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--cores", "2"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 4);
    wire.try_create_topic("own", 1, &[("max.message.bytes", "5000")]);
    let at_start = Some(("-1".to_owned(), STATIC_BROKER));
    assert_eq!(shown(&mut wire, TOPIC, "t", "retention.ms"), at_start);
    let large = || Batch::of([vec![b'x'; 2000]]);
    let cluster = [
        ("message.max.bytes", SET, Some("1000")),
        ("log.retention.ms", SET, Some("3600000")),
        ("log.flush.interval.ms", SET, Some("9")),
    ];
    assert_eq!(alter(&mut wire, BROKER, "", &cluster), (0, String::new()));
    for index in 0..4 {
        let refused = wire.produce("t", index, large().encode());
        assert_eq!(refused.error_code, MESSAGE_TOO_LARGE, "on every shard");
    }
    assert_eq!(wire.append("own", 0, &large()), 0, "its own wins");
    let node = [("log.retention.ms", SET, Some("7200000"))];
    assert_eq!(alter(&mut wire, BROKER, "1", &node), (0, String::new()));

    let check = |wire: &mut Wire| {
        let mut expect = |kind: i8, resource: &str, name: &str, value: &str, source: i8| {
            let found = shown(wire, kind, resource, name);
            assert_eq!(found, Some((value.to_owned(), source)), "{resource} {name}");
        };
        expect(TOPIC, "t", "retention.ms", "7200000", DYNAMIC_BROKER);
        expect(
            TOPIC,
            "t",
            "max.message.bytes",
            "1000",
            DYNAMIC_DEFAULT_BROKER,
        );
        expect(TOPIC, "t", "flush.ms", "9", DYNAMIC_DEFAULT_BROKER);
        expect(TOPIC, "own", "max.message.bytes", "5000", TOPIC_SOURCE);
        expect(BROKER, "1", "log.retention.ms", "7200000", DYNAMIC_BROKER);
        expect(
            BROKER,
            "",
            "log.retention.ms",
            "3600000",
            DYNAMIC_DEFAULT_BROKER,
        );
        expect(
            BROKER,
            "1",
            "message.max.bytes",
            "1000",
            DYNAMIC_DEFAULT_BROKER,
        );
        let all = described(wire, BROKER, "").configs;
        assert_eq!(all.len(), 3, "only what was set");
        assert!(all.iter().all(|config| !config.read_only));
        let refused = wire.produce("t", 0, large().encode());
        assert_eq!(refused.error_code, MESSAGE_TOO_LARGE);
    };
    check(&mut wire);
    broker.kill_9();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    check(&mut wire);

    assert_eq!(replace_of(&mut wire, BROKER, "1", &[]), 0);
    let hour = Some(("3600000".to_owned(), DYNAMIC_DEFAULT_BROKER));
    assert_eq!(shown(&mut wire, TOPIC, "t", "retention.ms"), hour);
    let back = cluster.map(|(name, ..)| (name, DELETE, None));
    assert_eq!(alter(&mut wire, BROKER, "", &back), (0, String::new()));
    assert_eq!(shown(&mut wire, TOPIC, "t", "retention.ms"), at_start);
    assert_eq!(wire.append("t", 0, &large()), 0);
    assert_eq!(described(&mut wire, BROKER, "").configs, []);
}

#[test]
fn a_bad_change_of_the_broker_changes_nothing() {
    let (_dir, _broker, mut wire) = broker();
    let good: Change = ("log.retention.ms", SET, Some("5"));
    let before = shown(&mut wire, BROKER, "1", "log.retention.ms");
    for (bad, code) in [
        (("log.retention.bytes", SET, Some("much")), INVALID_CONFIG),
        (("log.retention.mss", SET, Some("1")), INVALID_CONFIG),
        (("log.roll.ms", APPEND, Some("1")), INVALID_CONFIG),
        (
            ("log.cleaner.max.compaction.lag.ms", SET, Some("0")),
            INVALID_CONFIG,
        ),
        (("node.id", SET, Some("2")), INVALID_REQUEST),
        (("log.dirs", DELETE, None), 0),
        (("listeners", SET, Some("PLAINTEXT://:1")), INVALID_REQUEST),
        (
            ("default.replication.factor", SET, Some("3")),
            INVALID_REQUEST,
        ),
    ] {
        let (found, message) = alter(&mut wire, BROKER, "1", &[good, bad]);
        assert_eq!(found, code, "{bad:?}: {message}");
        if code != 0 {
            assert!(message.contains(bad.0), "{message}");
            assert_eq!(shown(&mut wire, BROKER, "1", "log.retention.ms"), before);
        } else {
            assert_eq!(replace_of(&mut wire, BROKER, "1", &[]), 0);
        }
    }
    let append = [("log.cleanup.policy", APPEND, Some("compact"))];
    assert_eq!(alter(&mut wire, BROKER, "", &append), (0, String::new()));
    let both = Some(("delete,compact".to_owned(), DYNAMIC_DEFAULT_BROKER));
    assert_eq!(shown(&mut wire, BROKER, "1", "log.cleanup.policy"), both);
}

#[test]
fn the_level_of_a_logger_changes_while_the_broker_runs() {
    const LOGGER: i8 = 6;
    const ENGINE: &str = "millstream::engine";
    let (_dir, broker, mut wire) = broker();
    let info = Some(("INFO".to_owned(), LOGGER));
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", "root"), info);
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", ENGINE), info);
    let quiet = [(ENGINE, SET, Some("WARN"))];
    assert_eq!(
        alter(&mut wire, BROKER_LOGGER, "1", &quiet),
        (0, String::new())
    );
    let warn = Some(("WARN".to_owned(), LOGGER));
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", ENGINE), warn);
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", "root"), info);
    wire.create_topic("silent", 1);
    let back = [(ENGINE, DELETE, None)];
    assert_eq!(alter(&mut wire, BROKER_LOGGER, "1", &back).0, 0);
    wire.create_topic("heard", 1);
    eventually("the second topic is in the log", || {
        broker.log().contains("heard")
    });
    assert!(!broker.log().contains("silent"), "{}", broker.log());

    let root = [("root", SET, Some("FATAL")), (ENGINE, SET, Some("INFO"))];
    assert_eq!(alter(&mut wire, BROKER_LOGGER, "1", &root).0, 0);
    let error = Some(("ERROR".to_owned(), LOGGER));
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", "root"), error);
    assert_eq!(
        shown(&mut wire, BROKER_LOGGER, "1", "millstream::log"),
        error
    );
    assert_eq!(shown(&mut wire, BROKER_LOGGER, "1", ENGINE), info);
    wire.create_topic("again", 1);
    eventually("a single logger's level wins", || {
        broker.log().contains("again")
    });
    for (bad, code) in [
        ((ENGINE, SET, Some("LOUD")), INVALID_CONFIG),
        ((ENGINE, APPEND, Some("WARN")), INVALID_CONFIG),
        (("org.apache.kafka", SET, Some("WARN")), INVALID_CONFIG),
        (("root", DELETE, None), INVALID_REQUEST),
    ] {
        let one: Change = ("millstream::log", SET, Some("TRACE"));
        assert_eq!(alter(&mut wire, BROKER_LOGGER, "1", &[one, bad]).0, code);
        assert_eq!(
            shown(&mut wire, BROKER_LOGGER, "1", "millstream::log"),
            error
        );
    }
    let all = replace_of(&mut wire, BROKER_LOGGER, "1", &[("root", "INFO")]);
    assert_eq!(all, INVALID_REQUEST, "as in Kafka");
    assert_eq!(
        described(&mut wire, BROKER_LOGGER, "9").error_code,
        INVALID_REQUEST
    );
}

#[test]
fn a_group_has_no_configs_of_its_own() {
    let (_dir, _broker, mut wire) = broker();
    let group = described(&mut wire, GROUP, "g");
    assert_eq!((group.error_code, group.configs), (0, vec![]));
    assert_eq!(described(&mut wire, GROUP, "").error_code, INVALID_REQUEST);
    let delete = [("consumer.session.timeout.ms", DELETE, None)];
    assert_eq!(alter(&mut wire, GROUP, "g", &delete).0, 0);
    let set = [("consumer.session.timeout.ms", SET, Some("50000"))];
    assert_eq!(alter(&mut wire, GROUP, "g", &set).0, INVALID_REQUEST);
}
