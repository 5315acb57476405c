//! What monitors and people ask over HTTP.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, http_request};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

mod cloud_events;
mod connections;
mod docs;
mod groups;
mod keys;
mod once;
mod page;
mod records;
mod refused;
mod rest_consumers;
mod rest_schemas;
mod rest_v2;
mod rest_v3;
pub mod table;

/// The families there are: dashboards and alerts are built on these names.
const FAMILIES: &[(&str, &str)] = &[
    ("millstream_info", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("millstream_topics", "gauge"),
    ("millstream_partitions", "gauge"),
    ("millstream_connections", "gauge"),
    ("millstream_connections_accepted_total", "counter"),
    ("millstream_connections_closed_total", "counter"),
    ("millstream_received_bytes_total", "counter"),
    ("millstream_sent_bytes_total", "counter"),
    ("millstream_inflight_bytes", "gauge"),
    ("millstream_journal_bytes_total", "counter"),
    ("millstream_journal_errors_total", "counter"),
    ("millstream_journal_full_total", "counter"),
    ("millstream_journal_groups_total", "counter"),
    ("millstream_parked_fetches", "gauge"),
    ("millstream_fetch_sessions", "gauge"),
    ("millstream_fetch_session_partitions", "gauge"),
    ("millstream_fetch_session_evictions_total", "counter"),
    ("millstream_limit_reached_total", "counter"),
    ("millstream_inflight_requests", "gauge"),
    ("millstream_dedup_bytes", "gauge"),
    ("millstream_dedup_forgotten_total", "counter"),
    ("millstream_key_index_bytes", "gauge"),
    ("millstream_key_index_dropped_total", "counter"),
    ("millstream_mailbox_depth", "gauge"),
    ("millstream_maps", "gauge"),
    ("millstream_flushes_total", "counter"),
    ("millstream_flush_errors_total", "counter"),
    ("millstream_compaction_runs_total", "counter"),
    ("millstream_compaction_errors_total", "counter"),
    ("millstream_compaction_read_bytes_total", "counter"),
    ("millstream_compaction_written_bytes_total", "counter"),
    ("millstream_compaction_dropped_records_total", "counter"),
    ("millstream_compaction_debt_bytes", "gauge"),
    ("millstream_compaction_failed_partitions", "gauge"),
    ("millstream_compaction_last_run_timestamp_seconds", "gauge"),
    ("millstream_compaction_last_duration_seconds", "gauge"),
    ("millstream_flush_seconds", "histogram"),
    ("millstream_shard_turn_seconds", "histogram"),
    ("millstream_request_seconds", "histogram"),
    ("millstream_partition_errors_total", "counter"),
    ("millstream_topic_appended_records_total", "counter"),
    ("millstream_topic_appended_batches_total", "counter"),
    ("millstream_topic_appended_bytes_total", "counter"),
    ("millstream_topic_duplicate_records_total", "counter"),
    ("millstream_topic_fetched_bytes_total", "counter"),
    ("millstream_topic_log_bytes", "gauge"),
    ("millstream_topic_segments", "gauge"),
    ("millstream_topic_producers", "gauge"),
    ("millstream_scrub_read_bytes_total", "counter"),
    ("millstream_scrub_findings_total", "counter"),
    ("millstream_scrub_rounds_total", "counter"),
    ("millstream_scrub_last_round_timestamp_seconds", "gauge"),
    ("millstream_topic_offline_partitions", "gauge"),
    ("millstream_topic_damaged_partitions", "gauge"),
    ("millstream_topic_damaged_offsets", "gauge"),
    ("millstream_topic_stopped_partitions", "gauge"),
    ("millstream_group_bytes", "gauge"),
    ("millstream_group_lag_records", "gauge"),
    ("millstream_group_lag_seconds", "gauge"),
    ("millstream_group_lag_left_out_series", "gauge"),
    ("millstream_group_lag_last_run_timestamp_seconds", "gauge"),
    ("millstream_group_lag_last_duration_seconds", "gauge"),
];

#[test]
fn health_readiness_and_the_page_answer_and_other_paths_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    assert_eq!(broker.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(broker.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(broker.get("/").0, 200);
    assert_eq!(broker.get("/nothing").0, 404);
    assert_eq!(http_request(broker.http, "POST", "/healthz").0, 405);
    let (status, body) = http_request(broker.http, "HEAD", "/metrics");
    assert_eq!((status, body.as_str()), (200, ""));
}

/// Clients that ask for much and read nothing take all places, and give them up to who comes later.
#[test]
fn health_can_be_asked_for_beside_clients_that_do_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--http-connections-max", "64"]);
    let many = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let silent: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(broker.http).unwrap();
            stream.set_nonblocking(true).unwrap();
            // What does not fit is not sent; the broker does not read it either.
            let _ = stream.write(many.as_bytes());
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(broker.get("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(broker.get("/metrics").0, 200);
    }
    drop(silent);
}

#[test]
fn metrics_have_the_documented_families_and_count_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("counted", 2);
    let batch = Batch::of(["one", "two", "three"]);
    let mut bytes = 0;
    for index in 0..2 {
        wire.append("counted", index, &batch);
        bytes += batch.encode().len();
    }
    let id = wire.new_producer_id();
    let mine = batch.clone().by(id, 0, 0);
    wire.append("counted", 0, &mine);
    wire.append("counted", 0, &mine);
    bytes += mine.encode().len();
    wire.fetch("counted", 1, 0);
    assert_eq!(wire.fetch("counted", 1, 99).error_code, 1);

    let (status, page) = broker.get("/metrics");
    assert_eq!(status, 200);
    let types: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert_eq!(types, FAMILIES.iter().copied().collect());
    let documented = page.lines().filter(|line| line.starts_with("# HELP "));
    assert_eq!(documented.count(), FAMILIES.len());

    let of = |name: &str, labels: &str| broker.metric(name, labels);
    let topic = |name: &str| of(&format!("millstream_topic_{name}"), "topic=\"counted\"");
    assert_eq!(topic("appended_records_total"), 9.0, "a retry is no append");
    assert_eq!(topic("appended_batches_total"), 3.0);
    assert_eq!(topic("appended_bytes_total"), bytes as f64);
    assert_eq!(topic("log_bytes"), bytes as f64);
    assert_eq!(topic("producers"), 1.0);
    assert_eq!(topic("fetched_bytes_total"), batch.encode().len() as f64);
    assert_eq!(topic("stopped_partitions"), 0.0);
    assert_eq!(of("millstream_topics", ""), 1.0);
    assert_eq!(of("millstream_partitions", ""), 2.0);
    assert_eq!(of("millstream_connections", ""), 1.0);
    assert_eq!(of("millstream_info", "durability=\"fsync\""), 1.0);
    assert_eq!(
        of("millstream_request_seconds_count", "api=\"Produce\""),
        4.0
    );
    let errors = of(
        "millstream_partition_errors_total",
        "error=\"OFFSET_OUT_OF_RANGE\"",
    );
    assert_eq!(errors, 1.0);
    assert!(of("millstream_flushes_total", "") >= 1.0);
    assert!(of("millstream_received_bytes_total", "") > bytes as f64);
}

#[test]
fn topics_beyond_the_limit_share_one_row_of_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--metrics-topics-max", "2"]);
    let mut wire = Wire::connect(broker.kafka);
    for name in ["a", "b", "c", "d"] {
        wire.create_topic(name, 1);
        wire.append(name, 0, &Batch::of(["x"]));
    }
    let records = |topic: &str| {
        let label = format!("topic=\"{topic}\"");
        broker.metric("millstream_topic_appended_records_total", &label)
    };
    assert_eq!([records("a"), records("b")], [1.0, 1.0]);
    assert_eq!([records("c"), records("d")], [0.0, 0.0]);
    assert_eq!(records("(other)"), 2.0);
}

#[test]
fn http_can_be_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::support::command(
        crate::support::own_address(),
        dir.path(),
        &["--http", "off"],
    );
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut ready).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.contains("http off"), "{ready}");
}
