//! `millstream group` against a broker, with groups that librdkafka makes.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, HANG, eventually};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn broker() -> (tempfile::TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--group-initial-rebalance-delay-ms=0"]);
    (dir, broker)
}

/// Standard output of a command that succeeded.
fn ok(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that failed.
fn failed(output: Output) -> String {
    ended_with(1, output)
}

/// Standard error of a command that was given something that does not exist.
fn missing(output: Output) -> String {
    ended_with(3, output)
}

fn ended_with(exit: i32, output: Output) -> String {
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn json(output: Output) -> Value {
    serde_json::from_str(&ok(output)).unwrap()
}

fn consumer(broker: &Broker, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", group)
        .set("client.id", "reader")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    config.create().unwrap()
}

/// A member of `group` that has been assigned all `partitions` of `topic`.
fn member(broker: &Broker, group: &str, topic: &str, partitions: usize) -> BaseConsumer {
    let consumer = consumer(broker, group);
    consumer.subscribe(&[topic]).unwrap();
    let until = Instant::now() + HANG;
    while consumer.assignment().unwrap().count() < partitions {
        assert!(Instant::now() < until, "no partitions are assigned");
        let _ = consumer.poll(Duration::from_millis(50));
    }
    consumer
}

fn commit(consumer: &BaseConsumer, topic: &str, offsets: &[(i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for &(partition, offset) in offsets {
        let offset = Offset::Offset(offset);
        list.add_partition_offset(topic, partition, offset).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// A topic `t` with two partitions: four records of the seventies in partition 0, none in 1.
fn topic(broker: &Broker) {
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 2);
    wire.append("t", 0, &Batch::at_times(&[1000, 2000, 3000, 4000]));
}

/// The committed offset in partition 0 of the only group described; None if there is none.
fn committed(broker: &Broker, group: &str) -> Option<i64> {
    let described = json(broker.run(&["group", "describe", group, "--json"], b""));
    let rows = described[0]["partitions"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["partition"] == 0)?;
    row["committed_offset"].as_i64()
}

#[test]
fn a_group_shows_its_members_and_how_far_behind_they_are() {
    let (_dir, broker) = broker();
    topic(&broker);
    let run = |args: &[&str]| broker.run(&[&["group"], args].concat(), b"");
    assert_eq!(json(run(&["list", "--json"])), Value::Array(Vec::new()));
    let reader = member(&broker, "readers", "t", 2);
    commit(&reader, "t", &[(0, 1)]);

    let listed = json(run(&["list", "--json"]));
    assert_eq!(listed[0]["group"], "readers");
    assert_eq!(listed[0]["state"], "Stable");
    assert_eq!(listed[0]["protocol_type"], "consumer");
    assert!(ok(run(&["list", "--state", "stable"])).starts_with("readers\tStable\t"));
    assert_eq!(ok(run(&["list", "--state", "Empty"])), "");

    let described = json(run(&["describe", "readers", "--json"]));
    let group = &described[0];
    assert_eq!(group["state"], "Stable");
    assert_eq!(group["protocol"], "range");
    assert_eq!(group["members"][0]["client"], "reader");
    assert_eq!(
        group["members"][0]["assigned"]["t"],
        serde_json::json!([0, 1])
    );
    let row = &group["partitions"][0];
    assert_eq!(row["committed_offset"], 1);
    assert_eq!(row["end_offset"], 4);
    assert_eq!(row["lag"], 3);
    // The record at offset 1 is of two seconds after 1970 began.
    assert!(row["lag_seconds"].as_f64().unwrap() > 1_700_000_000.0);
    assert_eq!(row["member"], group["members"][0]["member"]);
    assert!(row["host"].as_str().unwrap().starts_with("127."), "{row}");
    let never_committed = &group["partitions"][1];
    assert_eq!(never_committed["end_offset"], 0);
    assert!(never_committed["committed_offset"].is_null());
    assert!(never_committed["lag"].is_null());

    let rows = ok(run(&["describe", "readers"]));
    let cells: Vec<_> = rows.lines().next().unwrap().split('\t').collect();
    assert_eq!(cells[..6], ["readers", "t", "0", "1", "4", "3"]);
    assert!(
        rows.lines()
            .nth(1)
            .unwrap()
            .starts_with("readers\tt\t1\t-\t0\t-\t-\t")
    );
    let members = ok(run(&["describe", "readers", "--members"]));
    assert!(members.trim_end().ends_with("\t2\tt:0,1"), "{members}");

    commit(&reader, "t", &[(0, 4)]);
    let caught_up = json(run(&["describe", "readers", "--json"]));
    assert_eq!(caught_up[0]["partitions"][0]["lag"], 0);
    assert_eq!(caught_up[0]["partitions"][0]["lag_seconds"], 0.0);

    let said = missing(run(&["describe", "readers", "nobody"]));
    assert!(said.contains("group nobody does not exist"), "{said}");
}

#[test]
fn a_group_is_watched_until_nobody_reads_on() {
    let (_dir, broker) = broker();
    topic(&broker);
    let group = consumer(&broker, "g");
    commit(&group, "t", &[(0, 1)]);
    let watch = |more: &[&str]| {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["group", "describe", "g", "--watch", "--interval", "20ms"])
            .args(more)
            .env("MILLSTREAM_BOOTSTRAP", broker.bootstrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        (watch, lines.map(Result::unwrap))
    };
    let (mut rows, mut lines) = watch(&[]);
    assert!(lines.next().unwrap().starts_with("g\tt\t0\t1\t4\t3\t"));
    assert_eq!(lines.next().unwrap(), "");
    let (mut objects, mut looks) = watch(&["--json"]);
    let look: Value = serde_json::from_str(&looks.next().unwrap()).unwrap();
    assert_eq!(look[0]["partitions"][0]["lag"], 3);
    commit(&group, "t", &[(0, 4)]);
    assert!(lines.any(|line| line.starts_with("g\tt\t0\t4\t4\t0\t")));
    let caught_up = |line: String| {
        let look: Value = serde_json::from_str(&line).unwrap();
        look[0]["partitions"][0]["lag"] == 0
    };
    assert!(looks.any(caught_up));
    drop((lines, looks));
    assert!(rows.wait().unwrap().success());
    assert!(objects.wait().unwrap().success());
    missing(broker.run(&["group", "describe", "nobody", "--watch"], b""));
    let alone = ["group", "describe", "g", "--interval", "1"];
    ended_with(2, broker.run(&alone, b""));
}

#[test]
fn lag_in_seconds_is_the_age_of_the_first_record_not_committed() {
    let (_dir, broker) = broker();
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    wire.append("t", 0, &Batch::at_times(&[1000, now - 60_000, now]));
    commit(&consumer(&broker, "g"), "t", &[(0, 1)]);
    let seconds = || {
        let described = json(broker.run(&["group", "describe", "g", "--json"], b""));
        described[0]["partitions"][0]["lag_seconds"]
            .as_f64()
            .unwrap()
    };
    // One batch holds all three: the answer is the record's age, not the batch's.
    assert!((60.0..600.0).contains(&seconds()), "{}", seconds());
}

#[test]
fn offsets_are_reset_where_told_and_only_when_told_to_execute() {
    let (_dir, broker) = broker();
    topic(&broker);
    commit(&consumer(&broker, "g"), "t", &[(0, 2)]);
    let reset = |args: &[&str]| broker.run(&[&["group", "reset-offsets", "g"], args].concat(), b"");

    let shown = reset(&["--all-topics", "--to", "beginning"]);
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert_eq!(ok(shown), "t\t0\t2\t0\n");
    assert!(said.contains("nothing changed yet"), "{said}");
    assert_eq!(committed(&broker, "g"), Some(2));

    let targets = [
        ("beginning", 0),
        ("end", 4),
        ("-3", 1),
        ("+1", 2),
        ("3", 3),
        ("@1500", 1),
        ("1970-01-01T00:00:03Z", 2),
        ("@9000", 4),
        ("-100", 0),
        ("99", 4),
    ];
    for (to, offset) in targets {
        ok(reset(&["--topic", "t:0", "--to", to, "--execute"]));
        assert_eq!(committed(&broker, "g"), Some(offset), "--to {to}");
    }

    let step = failed(reset(&["--topic", "t:1", "--to", "+1"]));
    assert!(step.contains("no committed offset to step from"), "{step}");
    let said = missing(reset(&["--topic", "t:7", "--to", "end"]));
    assert!(said.contains("no partition 7"), "{said}");
    assert_eq!(reset(&["--to", "end"]).status.code(), Some(2));

    let moves = json(reset(&["--topic", "t", "--to", "1", "--json", "--execute"]));
    assert_eq!(moves[0]["from"], 4);
    assert_eq!(moves[0]["to"], 1);
    // Partition 1 is empty: there is no offset 1 in it.
    assert_eq!(moves[1]["from"], Value::Null);
    assert_eq!(moves[1]["to"], 0);
}

#[test]
fn a_consumer_goes_on_from_where_its_group_was_reset_to() {
    let (_dir, broker) = broker();
    topic(&broker);
    let reset = ["group", "reset-offsets", "g", "--topic", "t", "--to", "3"];
    // The group is made by this, before its first consumer comes.
    ok(broker.run(&[&reset[..], &["--execute"]].concat(), b""));
    let reader = consumer(&broker, "g");
    reader.subscribe(&["t"]).unwrap();
    let until = Instant::now() + HANG;
    let first = loop {
        match reader.poll(Duration::from_millis(100)) {
            Some(message) => break rdkafka::Message::offset(&message.unwrap()),
            None => assert!(Instant::now() < until, "no record comes"),
        }
    };
    assert_eq!(first, 3);
}

#[test]
fn a_group_with_members_is_left_alone() {
    let (_dir, broker) = broker();
    topic(&broker);
    let reader = member(&broker, "g", "t", 2);
    commit(&reader, "t", &[(0, 2)]);
    let run = |args: &[&str]| broker.run(&[&["group"], args].concat(), b"");
    let reset = [
        "reset-offsets",
        "g",
        "--all-topics",
        "--to",
        "end",
        "--execute",
    ];
    let refused = failed(run(&reset));
    assert!(
        refused.contains("group g is Stable with 1 member"),
        "{refused}"
    );
    let refused = failed(run(&["delete", "g"]));
    assert!(
        refused.contains("cannot delete group g: the group has members"),
        "{refused}"
    );
    let refused = failed(run(&["delete-offsets", "g", "--topic", "t"]));
    assert!(refused.contains("subscribed to the topic"), "{refused}");
    assert_eq!(committed(&broker, "g"), Some(2));

    drop(reader);
    eventually("the member has left", || {
        ok(run(&["list", "--state", "empty"])).starts_with("g\t")
    });
    ok(run(&reset));
    assert_eq!(committed(&broker, "g"), Some(4));
}

#[test]
fn offsets_and_groups_are_deleted() {
    let (_dir, broker) = broker();
    topic(&broker);
    let run = |args: &[&str]| broker.run(&[&["group"], args].concat(), b"");
    for group in ["a", "b"] {
        commit(&consumer(&broker, group), "t", &[(0, 2), (1, 0)]);
    }
    let deleted = ok(run(&["delete-offsets", "a", "--topic", "t:0"]));
    assert!(deleted.contains("of group a in t partition 0"), "{deleted}");
    assert_eq!(committed(&broker, "a"), None);
    let again = missing(run(&["delete-offsets", "a", "--topic", "t:0"]));
    assert!(
        again.contains("group a has committed no offset of t partition 0"),
        "{again}"
    );
    assert_eq!(ok(run(&["describe", "a"])).lines().count(), 1);

    assert_eq!(
        ok(run(&["delete", "a", "b"])),
        "deleted group a\ndeleted group b\n"
    );
    assert_eq!(ok(run(&["list"])), "");
    let gone = missing(run(&["delete", "a"]));
    assert!(
        gone.contains("there is no such group (GROUP_ID_NOT_FOUND"),
        "{gone}"
    );
}
