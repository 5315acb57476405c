//! What only the journal has when the power goes is there again after the next start.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, eventually};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PARTITIONS: i32 = 16;
const GROUPS: &str = "millstream_journal_groups_total";
const ONE_CORE: &[&str] = &["--cores", "1", "--journal-bytes", "4194304"];

/// One record for each partition in one request: they are flushed together.
fn append_to_all(wire: &mut Wire, value: &str) {
    let batch = Batch::of([value]).encode();
    let partitions = (0..PARTITIONS).map(|index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch.clone().into()))
    });
    let topic = TopicProduceData::default()
        .with_name(topic_name("t"))
        .with_partition_data(partitions.collect());
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let response = wire.call(&request, 9);
    for partition in &response.responses[0].partition_responses {
        assert_eq!(partition.error_code, 0);
    }
}

/// Appends until the journal is in use, and then `count` more. Returns how many records each partition
/// has.
fn append_by_way_of_the_journal(broker: &Broker, count: usize) -> usize {
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", PARTITIONS);
    let mut appended = 0;
    eventually("the journal is in use", || {
        append_to_all(&mut wire, &format!("value {appended}"));
        appended += 1;
        broker.metric(GROUPS, "shard") > 0.0
    });
    for _ in 0..count {
        append_to_all(&mut wire, &format!("value {appended}"));
        appended += 1;
    }
    appended
}

fn journals(data_dir: &Path) -> usize {
    match fs::read_dir(data_dir.join("journal")) {
        Ok(files) => files.count(),
        Err(_) => 0,
    }
}

fn check_values(broker: &Broker, count: usize) {
    let mut wire = Wire::connect(broker.kafka);
    let expected: Vec<Vec<u8>> = (0..count)
        .map(|number| format!("value {number}").into_bytes())
        .collect();
    for index in 0..PARTITIONS {
        assert_eq!(wire.values("t", index), expected, "partition {index}");
    }
}

#[test]
fn what_only_the_journal_has_is_written_back_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), ONE_CORE);
    // What came before the journal was in use is in the segments for certain.
    let count = append_by_way_of_the_journal(&broker, 0);
    broker.stop();
    assert_eq!(journals(dir.path()), 0, "a clean stop needs no journal");

    let broker = Broker::with(dir.path(), ONE_CORE);
    let mut wire = Wire::connect(broker.kafka);
    let mut appended = count;
    eventually("the journal is in use", || {
        append_to_all(&mut wire, &format!("value {appended}"));
        appended += 1;
        broker.metric(GROUPS, "shard") > 20.0
    });
    broker.kill_9();
    assert_eq!(journals(dir.path()), 2);
    let verified = millstream(&["verify"], dir.path());
    assert!(verified.contains("still to be written back"), "{verified}");
    let journal = dir.path().join("journal/shard-0-0.journal");
    let dumped = millstream(&["dump"], &journal);
    assert!(dumped.contains("group 0  entries"), "{dumped}");

    wipe_segments_behind_direct_flushes(dir.path(), &journal, "t", PARTITIONS as usize);
    let broker = Broker::with(dir.path(), &["--cores", "2"]);
    assert!(
        broker.log().contains("wrote the journal back"),
        "{}",
        broker.log()
    );
    assert_eq!(journals(dir.path()), 0);
    check_values(&broker, appended);
    broker.kill_9();
    // And for certain: it is in the segments now.
    let broker = Broker::with(dir.path(), ONE_CORE);
    check_values(&broker, appended);
}

/// Wipes each segment of a topic from the first byte on that the journal has.
pub fn wipe_segments_behind_direct_flushes(
    data_dir: &Path,
    journal: &Path,
    topic: &str,
    partitions: usize,
) {
    let dumped = millstream(&["dump", "--json"], journal);
    let entries = dumped
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut first = std::collections::BTreeMap::new();
    for entry in entries {
        let partition = entry["partition"].as_u64().unwrap();
        let segment = entry["segment"].as_u64().unwrap();
        let position = entry["segment_position"].as_u64().unwrap();
        first.entry((partition, segment)).or_insert(position);
    }
    assert_eq!(first.len(), partitions);
    for ((partition, segment), position) in first {
        let path = data_dir.join(format!("{topic}-{partition}/{segment:020}.log"));
        let file = fs::File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let zeros = vec![0; (length - position) as usize];
        file.write_all_at(&zeros, position).unwrap();
    }
}

#[test]
fn a_journal_that_is_full_many_times_over_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), ONE_CORE);
    let value = "x".repeat(3000);
    let before = append_by_way_of_the_journal(&broker, 0);
    let mut wire = Wire::connect(broker.kafka);
    // 16 times 3 kB: some forty of them fill one half.
    for _ in 0..300 {
        append_to_all(&mut wire, &value);
    }
    let bytes = broker.metric("millstream_journal_bytes_total", "shard");
    assert!(bytes > 3.0 * 2_097_152.0, "{bytes}");
    broker.kill_9();
    let broker = Broker::with(dir.path(), ONE_CORE);
    let mut wire = Wire::connect(broker.kafka);
    for index in 0..PARTITIONS {
        assert_eq!(wire.values("t", index).len(), before + 300);
    }
    broker.stop();
    assert_eq!(journals(dir.path()), 0);
}

#[test]
fn a_deleted_topic_is_not_brought_back_by_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), ONE_CORE);
    append_by_way_of_the_journal(&broker, 3);
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.delete_topic("t"), 0);
    wire.create_topic("t", PARTITIONS);
    append_to_all(&mut wire, "new");
    broker.kill_9();
    let broker = Broker::with(dir.path(), ONE_CORE);
    let mut wire = Wire::connect(broker.kafka);
    for index in 0..PARTITIONS {
        assert_eq!(wire.values("t", index), [b"new"]);
    }
}

#[test]
fn a_deleted_topic_gives_its_files_back_though_the_journal_has_records_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), ONE_CORE);
    append_by_way_of_the_journal(&broker, 3);
    assert!(in_use(&broker, "t-0/"));
    assert_eq!(Wire::connect(broker.kafka).delete_topic("t"), 0);
    eventually("its files are let go of", || {
        !in_use(&broker, "t-0/") && !in_use(&broker, "-delete/")
    });
}

/// Whether the broker has a file open or mapped whose path contains this.
fn in_use(broker: &Broker, path: &str) -> bool {
    let process = format!("/proc/{}", broker.pid());
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let open = fs::read_dir(format!("{process}/fd")).unwrap();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    maps.contains(path) || targets.any(|target| target.to_string_lossy().contains(path))
}

#[test]
fn without_a_journal_every_partition_is_flushed_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--cores", "1", "--journal-bytes", "0"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", PARTITIONS);
    for number in 0..20 {
        append_to_all(&mut wire, &format!("value {number}"));
    }
    assert_eq!(broker.metric(GROUPS, "shard"), 0.0);
    assert_eq!(journals(dir.path()), 0);
    broker.kill_9();
    check_values(&Broker::with(dir.path(), ONE_CORE), 20);
}

fn millstream(arguments: &[&str], path: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
