//! `millstream perf` against a broker: that it does what it says, not how fast.

use crate::support::Broker;
use serde_json::Value;

const SHORT: [&str; 4] = ["--seconds", "0.5", "--warmup-seconds", "0.1"];

/// Runs a mode with `--json` and returns what it printed.
fn perf(broker: &Broker, mode: &str, args: &[&str]) -> Value {
    let output = broker.run(&[&["perf", mode, "--json"], &SHORT[..], args].concat(), b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stored(broker: &Broker, topic: &str) -> u64 {
    let output = broker.run(&["topic", "describe", "--json", topic], b"");
    let described: Value = serde_json::from_slice(&output.stdout).unwrap();
    let partitions = described[0]["partitions"].as_array().unwrap().iter();
    partitions
        .map(|partition| partition["end_offset"].as_u64().unwrap())
        .sum()
}

#[test]
fn what_it_counts_as_written_is_stored_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let args = [
        "--topic",
        "load",
        "--partitions",
        "3",
        "--connections",
        "2",
        "--record-bytes",
        "100",
    ];
    let codec = ["--batch-bytes", "10000", "--codec", "lz4", "--ceiling"];
    let written = perf(&broker, "produce", &[&args[..], &codec].concat());
    let records = written["written"]["records"].as_u64().unwrap();
    assert!(records > 0, "{written}");
    assert_eq!(written["written"]["bytes"], records * 100);
    assert!(stored(&broker, "load") >= records);
    assert!(written["ceiling"]["records"].as_u64().unwrap() > 0);
    assert!(written["acknowledged_us"]["p99"].as_f64().unwrap() > 0.0);

    let topic = ["--topic", "load", "--partitions", "3"];
    let again = perf(&broker, "consume", &topic);
    assert!(again["read"]["records"].as_u64().unwrap() > 0, "{again}");
    let random = perf(
        &broker,
        "consume",
        &[&topic[..], &["--from", "random"]].concat(),
    );
    assert!(
        random["fetch_us"]["count"].as_u64().unwrap() > 0,
        "{random}"
    );
}

#[test]
fn every_record_of_a_latency_run_is_timed_to_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let args = ["--partitions", "4", "--connections", "2", "--rate", "200"];
    let latency = perf(&broker, "latency", &args);
    let acknowledged = latency["acknowledged_us"]["count"].as_u64().unwrap();
    // 200 a second for half a second, counted from when each was due: none is left out.
    assert!((99..=101).contains(&acknowledged), "{latency}");
    let read = latency["end_to_end_us"]["count"].as_u64().unwrap();
    assert!(read > 0 && read <= acknowledged, "{latency}");

    let mixed = perf(
        &broker,
        "mixed",
        &["--topic", "both", "--batch-bytes", "5000", "--acks", "1"],
    );
    assert!(mixed["read"]["records"].as_u64().unwrap() > 0, "{mixed}");
    assert!(mixed["written"]["records"].as_u64().unwrap() > 0, "{mixed}");
}

#[test]
fn failures_are_told_and_not_counted_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let args = [
        "perf",
        "produce",
        "--topic",
        "t",
        "--seconds",
        "0.2",
        "--batch-bytes",
        "8000000",
    ];
    let output = broker.run(&args, b"");
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("MESSAGE_TOO_LARGE"), "{printed}");
    assert!(printed.contains("written: 0 records"), "{printed}");
    assert_eq!(stored(&broker, "t"), 0);

    let nothing = broker.run(
        &["perf", "consume", "--topic", "t", "--seconds", "0.2"],
        b"",
    );
    let errors = String::from_utf8(nothing.stderr).unwrap();
    assert!(errors.contains("nothing to read"), "{errors}");
    let other = broker.run(
        &["perf", "consume", "--topic", "t", "--partitions", "2"],
        b"",
    );
    let errors = String::from_utf8(other.stderr).unwrap();
    assert!(errors.contains("--fresh"), "{errors}");
}
