//! Data directories that an earlier version left: this one reads all that is in them. There is one for
//! each version of the format in `tests/fixtures/format-<version>`, `clean` after a clean stop, `unclean`
//! after a crash, with records that only the journal has. `clean.json` and `unclean.json` say what they hold.
//!
//! Those of the current version were made by
//! `cargo test --test millstream -- --ignored format::make_the_fixture`.

use crate::journal::wipe_segments_behind_direct_flushes;
use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, eventually, refused_start};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream::config::TopicDefaults;
use millstream::engine::catalog::Catalog;
use millstream::engine::catalog_log::CatalogLog;
use millstream::engine::partition::Partition;
use millstream::engine::replay;
use millstream::log::LogConfig;
use millstream::log::batch::build::BatchBuilder;
use millstream::log::batch::{BatchHeader, Codec};
use millstream::log::records::Records;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VERSION: u32 = 1;
/// Nothing that the fixture has may be taken for old, whenever the test runs.
const FLAGS: [&str; 8] = [
    "--cores",
    "1",
    "--offsets-topic-num-partitions",
    "1",
    "--offsets-retention-ms",
    "3153600000000",
    "--journal-bytes",
    "4194304",
];
const TOPICS: [NewTopic; 3] = [
    ("plain", 2, &[("segment.ms", "1"), ("retention.ms", "-1")]),
    (
        "compacted",
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "1"),
            ("min.cleanable.dirty.ratio", "0"),
            ("delete.retention.ms", "3153600000000"),
        ],
    ),
    ("journaled", 2, &[]),
];

/// A topic's name, partitions and configs.
type NewTopic = (&'static str, i32, &'static [(&'static str, &'static str)]);

/// A record: offset, timestamp, key and value as text.
type Row = (i64, i64, Option<String>, Option<String>);

/// What a fixture holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Expected {
    /// By topic and partition.
    records: BTreeMap<String, Vec<Row>>,
    /// By topic and partition, of the group "readers".
    committed: BTreeMap<String, i64>,
    /// The idempotent producer: id, epoch, last sequence in partition 0 of "plain".
    producer: (i64, i16, i32),
    cluster_id: String,
}

fn fixture(version: u32, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(format!("tests/fixtures/format-{version}/{name}"))
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

// ---- reading ----

fn rows(wire: &mut Wire, topic: &str, index: i32) -> Vec<Row> {
    let mut rows = Vec::new();
    let shown = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8_lossy(it).into_owned());
    for batch in wire.read_from(topic, index, 0) {
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        let records = Records::unpack(header, &batch.bytes, 1 << 20).unwrap();
        for record in records.iter().map(Result::unwrap) {
            let (key, value) = (shown(record.key), shown(record.value));
            rows.push((record.offset, record.timestamp, key, value));
        }
    }
    rows
}

fn read(broker: &Broker) -> Expected {
    let mut wire = Wire::connect(broker.kafka);
    let mut found = Expected::default();
    for (topic, partitions, _) in TOPICS {
        for index in 0..partitions {
            let place = format!("{topic}-{index}");
            found.records.insert(place, rows(&mut wire, topic, index));
        }
    }
    for index in 0..2 {
        let offset = committed(&mut wire, "readers", "plain", index);
        found.committed.insert(format!("plain-{index}"), offset);
    }
    found
}

/// The producer's state as opening the partition finds it; in a directory that is changed by that.
fn producer_in(data_dir: &Path) -> (i64, i16, i32) {
    let mut catalog = Catalog::new(TopicDefaults::default());
    drop(CatalogLog::open(data_dir, &mut catalog).unwrap());
    replay::replay(data_dir, &catalog).unwrap();
    let topic = catalog.by_name("plain").unwrap();
    let config = LogConfig {
        segment_bytes: 1 << 20,
        segment_ms: i64::MAX,
        index_interval_bytes: 4096,
        retention_ms: -1,
        retention_bytes: -1,
        compaction: None,
        reserve_step_bytes_max: 1 << 20,
        checkpoint_bytes: 1 << 20,
        not_durable_bytes_max: 1 << 20,
    };
    let dir = data_dir.join("plain-0");
    let opened = Partition::open(topic.clone(), 0, dir, config, 100);
    let (partition, _) = opened.unwrap();
    let [state] = partition.producers()[..] else {
        panic!("{:?}", partition.producers());
    };
    (state.producer_id, state.epoch, state.last_sequence)
}

fn cluster_id(data_dir: &Path) -> String {
    let format = fs::read(data_dir.join("format")).unwrap();
    let format: serde_json::Value = serde_json::from_slice(&format).unwrap();
    format["cluster_id"].as_str().unwrap().to_owned()
}

fn check(version: u32, name: &str) {
    let source = fixture(version, name);
    let content = fs::read(source.with_extension("json")).unwrap();
    let expected: Expected = serde_json::from_slice(&content).unwrap();
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&source, &dir.path().join("a"));
    assert_eq!(producer_in(&dir.path().join("a")), expected.producer);

    let data_dir = dir.path().join("b");
    copy_tree(&source, &data_dir);
    for _ in 0..2 {
        // Nothing is compacted meanwhile.
        let flags = [&FLAGS[..], &["--log-cleaner-backoff-ms", "1"]].concat();
        let broker = Broker::with(&data_dir, &flags);
        let mut found = read(&broker);
        found.producer = expected.producer;
        found.cluster_id = cluster_id(&data_dir);
        // Of a compacted topic more may be gone by now, but no newest record of a key.
        let newest = |rows: &[Row]| -> BTreeMap<Option<String>, Row> {
            rows.iter()
                .map(|row| (row.2.clone(), row.clone()))
                .collect()
        };
        let compacted = found.records.remove("compacted-0").unwrap();
        let mut wanted: Expected = serde_json::from_slice(&content).unwrap();
        let wanted_compacted = wanted.records.remove("compacted-0").unwrap();
        assert_eq!(newest(&compacted), newest(&wanted_compacted));
        assert!(compacted.iter().all(|row| wanted_compacted.contains(row)));
        assert_eq!(found, wanted);
        broker.stop();
    }
    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["verify", "--records"])
        .arg(&data_dir)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn a_directory_of_format_1_that_was_stopped_in_order_is_read_whole() {
    check(1, "clean");
}

#[test]
fn a_directory_of_format_1_that_a_crash_left_is_read_whole() {
    let journal = fixture(1, "unclean").join("journal/shard-0-0.journal");
    assert!(replay::count_groups(&journal).unwrap() > 0);
    check(1, "unclean");
}

#[test]
fn the_fixtures_have_what_they_are_to_show() {
    for name in ["clean", "unclean"] {
        let dir = fixture(VERSION, name);
        let count = |partition: &str, extension: &str| {
            let entries = fs::read_dir(dir.join(partition)).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            paths
                .filter(|path| path.extension().is_some_and(|it| it == extension))
                .count()
        };
        assert!(count("plain-0", "log") > 2 && count("plain-0", "index") > 1);
        assert!(dir.join("compacted-0/compaction").exists());
        assert!(dir.join("__consumer_offsets-0/checkpoint").exists());
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixture(VERSION, "clean"), dir.path());
    let newer = format!("{{\"version\":{},\"cluster_id\":\"x\"}}", VERSION + 1);
    fs::write(dir.path().join("format"), newer).unwrap();
    let said = refused_start(dir.path(), &[]);
    assert!(
        said.contains(&format!("has format {}", VERSION + 1)),
        "{said}"
    );
    assert!(said.contains("Use the version that wrote it"), "{said}");
}

// ---- making ----

fn produce_keyed(
    wire: &mut Wire,
    topic: &str,
    index: i32,
    codec: Codec,
    records: &[(&str, Option<&str>)],
) {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let records: Vec<_> = records
        .iter()
        .map(|(key, value)| (Some(bytes(key)), value.map(bytes)))
        .collect();
    let batch = BatchBuilder::default().build_keyed(codec, &records);
    assert_eq!(wire.produce(topic, index, batch).error_code, 0);
    // The next one finds the segment old.
    std::thread::sleep(Duration::from_millis(5));
}

fn fill(wire: &mut Wire, producer_id: i64) -> i32 {
    for (topic, partitions, configs) in TOPICS {
        let created = wire.try_create_topic(topic, partitions, configs);
        assert_eq!(created.error_code, 0);
    }
    let codecs = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];
    for (number, codec) in codecs.into_iter().enumerate() {
        let value = format!("value {number}");
        produce_keyed(wire, "plain", 1, codec, &[("a", Some(&value)), ("b", None)]);
    }
    let mut sequence = 0;
    for number in 0..5 {
        let batch = Batch::of([format!("first {number}"), format!("second {number}")]);
        wire.append("plain", 0, &batch.by(producer_id, 0, sequence));
        sequence += 2;
        std::thread::sleep(Duration::from_millis(5));
    }
    for round in 0..4 {
        for key in ["a", "b", "c"] {
            let value = format!("{key} {round}");
            produce_keyed(wire, "compacted", 0, Codec::None, &[(key, Some(&value))]);
        }
    }
    produce_keyed(wire, "compacted", 0, Codec::None, &[("c", None)]);
    produce_keyed(
        wire,
        "compacted",
        0,
        Codec::None,
        &[("d", Some("the last"))],
    );
    let response = wire.call(
        &commit("readers", "plain", &[(0, 7), (1, 3)]),
        OFFSET_COMMIT,
    );
    assert_eq!(commit_error(&response), 0);
    sequence - 1
}

/// One record for each partition of "journaled", flushed together.
fn append_to_both(wire: &mut Wire, value: &str) {
    let partition = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(Batch::of([value]).encode().into()))
    };
    let topic = TopicProduceData::default()
        .with_name(topic_name("journaled"))
        .with_partition_data(vec![partition(0), partition(1)]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let response = wire.call(&request, PRODUCE);
    let results = &response.responses[0].partition_responses;
    assert!(results.iter().all(|result| result.error_code == 0));
}

#[test]
#[ignore = "makes the fixture of the current format"]
fn make_the_fixture() {
    for name in ["clean", "unclean"] {
        make(name);
    }
}

fn make(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let flags = [&FLAGS[..], &["--log-cleaner-backoff-ms", "20"]].concat();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    let producer_id = wire.new_producer_id();
    let last_sequence = fill(&mut wire, producer_id);
    drop(wire);
    // Compaction begins below a checkpoint, and there is one at each stop.
    broker.stop();
    let broker = Broker::with(dir.path(), &flags);
    eventually("it was compacted", || {
        broker.metric("millstream_compaction_dropped_records_total", "") > 0.0
    });
    let mut wire = Wire::connect(broker.kafka);
    let mut count = 0;
    eventually("the journal is in use", || {
        append_to_both(&mut wire, &format!("value {count}"));
        count += 1;
        broker.metric("millstream_journal_groups_total", "") > 5.0
    });
    let mut expected = read(&broker);
    expected.producer = (producer_id, 0, last_sequence);
    expected.cluster_id = cluster_id(dir.path());
    match name {
        "clean" => broker.stop(),
        _ => {
            broker.kill_9();
            leave_to_the_journal(dir.path());
        }
    }
    let target = fixture(VERSION, name);
    let _ = fs::remove_dir_all(&target);
    copy_tree(dir.path(), &target);
    let text = serde_json::to_string_pretty(&expected).unwrap();
    fs::write(target.with_extension("json"), text + "\n").unwrap();
}

/// Takes from the segments what the journal has, and from the journals the zeros at their ends.
fn leave_to_the_journal(data_dir: &Path) {
    let journal = data_dir.join("journal/shard-0-0.journal");
    wipe_segments_behind_direct_flushes(data_dir, &journal, "journaled", 2);
    for half in 0..2 {
        let path = data_dir.join(format!("journal/shard-0-{half}.journal"));
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        bytes.truncate(end.next_multiple_of(4096));
        fs::write(path, bytes).unwrap();
    }
}
