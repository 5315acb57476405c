//! Lag as the broker measures it by itself and tells it in its metrics.

use super::broker_with;
use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, eventually};
use kafka_protocol::messages::DeleteGroupsRequest;
use std::time::UNIX_EPOCH;

const RECORDS: &str = "millstream_group_lag_records";
const SECONDS: &str = "millstream_group_lag_seconds";
const LEFT_OUT: &str = "millstream_group_lag_left_out_series";
const LAST_RUN: &str = "millstream_group_lag_last_run_timestamp_seconds";
const HOUR_S: i64 = 3600;

fn broker(flags: &[&str]) -> (tempfile::TempDir, Broker, Wire) {
    broker_with(&[&["--lag-interval-ms", "20"], flags].concat())
}

/// Three records: of three hours ago, of two, and of one.
fn three_records() -> Batch {
    let now_s = UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    Batch::at_times(&[3, 2, 1].map(|hours| (now_s - hours * HOUR_S) * 1000))
}

fn commit_to(wire: &mut Wire, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let response = wire.call(&commit(group, topic, offsets), OFFSET_COMMIT);
    assert_eq!(commit_error(&response), NONE);
}

fn labels(group: &str, topic: &str, partition: i32) -> String {
    format!("{{group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"}}")
}

/// One sample of a page of metrics.
fn sample(page: &str, name: &str, labels: &str) -> Option<f64> {
    let start = format!("{name}{labels} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(value.parse().unwrap())
}

/// Waits until a page of metrics has what a test waits for.
fn await_metrics(broker: &Broker, what: &str, mut has: impl FnMut(&str) -> bool) {
    eventually(what, || {
        let (status, page) = broker.get("/metrics");
        assert_eq!(status, 200);
        has(&page)
    });
}

/// Waits until a group is so many records behind, the oldest of them so many hours old.
fn await_lag(broker: &Broker, labels: &str, records: i64, hours: i64) {
    let what = format!("{labels} is {records} records and {hours} hours behind");
    await_metrics(broker, &what, |page| {
        let seconds = sample(page, SECONDS, labels).map(|s| s as i64 / HOUR_S);
        sample(page, RECORDS, labels) == Some(records as f64) && seconds == Some(hours)
    });
}

fn await_no_lag(broker: &Broker, labels: &str) {
    await_metrics(broker, "there is no lag", |page| {
        let found = [RECORDS, SECONDS].map(|name| sample(page, name, labels));
        found == [Some(0.0); 2]
    });
}

#[test]
fn lag_in_records_and_seconds_follows_what_is_committed_on_every_shard() {
    let (_dir, broker, mut wire) = broker(&[]);
    for partition in 0..4 {
        wire.append("t", partition, &three_records());
    }
    // Their names lead them to both shards, and the partitions lie on both.
    let groups = ["g0", "g1", "g2", "g3", "g4", "g5"];
    for group in groups {
        commit_to(&mut wire, group, "t", &[(0, 0), (1, 1), (2, 2), (3, 3)]);
    }
    for group in groups {
        await_lag(&broker, &labels(group, "t", 0), 3, 3);
        await_lag(&broker, &labels(group, "t", 1), 2, 2);
        await_lag(&broker, &labels(group, "t", 2), 1, 1);
        await_no_lag(&broker, &labels(group, "t", 3));
    }
    commit_to(&mut wire, "g0", "t", &[(0, 3), (1, 2)]);
    await_no_lag(&broker, &labels("g0", "t", 0));
    await_lag(&broker, &labels("g0", "t", 1), 1, 1);
    await_lag(&broker, &labels("g1", "t", 0), 3, 3);
    // What comes meanwhile counts, and its age is that of what came first.
    wire.append("t", 0, &three_records());
    await_lag(&broker, &labels("g0", "t", 0), 3, 3);
    await_lag(&broker, &labels("g1", "t", 0), 6, 3);
    assert_eq!(broker.metric(LEFT_OUT, ""), 0.0);
    for shard in 0..2 {
        let label = format!("shard=\"{shard}\"");
        let ended = broker.metric(LAST_RUN, &label);
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now - HOUR_S as f64..=now).contains(&ended), "{ended}");
    }
}

#[test]
fn the_command_line_says_the_same() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.append("t", 0, &three_records());
    commit_to(&mut wire, "g", "t", &[(0, 1)]);
    await_lag(&broker, &labels("g", "t", 0), 2, 2);
    let output = broker.run(&["group", "describe", "g", "--json"], b"");
    let described: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &described[0]["partitions"][0];
    assert_eq!(row["lag"], 2);
    assert_eq!(row["lag_seconds"].as_f64().unwrap() as i64 / HOUR_S, 2);
}

#[test]
fn offsets_outside_of_the_log_are_never_ahead_and_count_what_is_left() {
    let (_dir, broker, mut wire) = broker(&[]);
    for partition in 0..2 {
        wire.append("t", partition, &three_records());
    }
    commit_to(&mut wire, "g", "t", &[(0, 99), (1, 0)]);
    await_no_lag(&broker, &labels("g", "t", 0));
    await_lag(&broker, &labels("g", "t", 1), 3, 3);
    assert_eq!(wire.delete_records("t", 1, 2).error_code, NONE);
    await_lag(&broker, &labels("g", "t", 1), 1, 1);
}

#[test]
fn records_of_the_future_have_no_age() {
    let (_dir, broker, mut wire) = broker(&[]);
    let configs = [("message.timestamp.after.max.ms", i64::MAX.to_string())];
    let configs = configs.each_ref().map(|(name, value)| (*name, &**value));
    assert_eq!(
        wire.try_create_topic("future", 1, &configs).error_code,
        NONE
    );
    let mut batch = three_records();
    batch.base_timestamp += 1000 * 1000 * HOUR_S;
    wire.append("future", 0, &batch);
    commit_to(&mut wire, "g", "future", &[(0, 0)]);
    await_lag(&broker, &labels("g", "future", 0), 3, 0);
}

#[test]
fn deleted_groups_and_topics_vanish() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("gone", 1);
    for group in ["a", "b"] {
        commit_to(&mut wire, group, "t", &[(0, 0)]);
        commit_to(&mut wire, group, "gone", &[(0, 0)]);
        await_no_lag(&broker, &labels(group, "gone", 0));
    }
    assert_eq!(wire.delete_topic("gone"), NONE);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id("b")]);
    assert_eq!(wire.call(&delete, 2).results[0].error_code, NONE);
    await_metrics(&broker, "only one is left", |page| {
        let left = page.lines().filter(|line| line.starts_with(RECORDS));
        left.eq([format!("{RECORDS}{} 0", labels("a", "t", 0))])
    });
}

#[test]
fn what_is_beyond_the_limit_is_left_out_by_name_and_counted() {
    let (_dir, broker, mut wire) = broker(&["--lag-series-max", "5"]);
    let long = "a".repeat(256);
    for group in ["g4", "g1", "g3", &long, "g0", "g2"] {
        commit_to(&mut wire, group, "t", &[(0, 0), (1, 0)]);
    }
    let groups = ["g0", "g1", "g2", "g3", "g4", &long];
    await_metrics(&broker, "seven are left out", |page| {
        let shown = groups.map(|group| {
            let start = format!("{RECORDS}{{group=\"{group}\",");
            page.lines().filter(|line| line.starts_with(&start)).count()
        });
        shown == [2, 2, 1, 0, 0, 0] && sample(page, LEFT_OUT, "") == Some(7.0)
    });
}

#[test]
fn group_names_may_have_any_characters() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.append("t", 0, &three_records());
    let group = "<b>\"quoted\" \\ back\nnext & é";
    commit_to(&mut wire, group, "t", &[(0, 2)]);
    let escaped = r#"<b>\"quoted\" \\ back\nnext & é"#;
    await_lag(&broker, &labels(escaped, "t", 0), 1, 1);
}

#[test]
fn lag_is_not_measured_when_it_is_turned_off() {
    let (_dir, broker, mut wire) = broker_with(&["--lag-interval-ms", "0"]);
    commit_to(&mut wire, "g", "t", &[(0, 0)]);
    let (_, page) = broker.get("/metrics");
    assert!(page.contains(&format!("# TYPE {RECORDS} gauge")));
    assert_eq!(broker.metric(LAST_RUN, ""), 0.0);
}
