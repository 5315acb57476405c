//! The commands that look at a running broker as a whole: `doctor` and `top`.

use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::terminal::AtTerminal;
use crate::support::wire::*;
use crate::support::{Broker, eventually, own_address, run_with_input};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");

/// How full the disk of the machine is, is not asked.
const QUICK: [&str; 4] = ["--for", "10ms", "--disk-free", "0"];

fn broker(flags: &[&str]) -> (tempfile::TempDir, Broker, Wire) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), flags);
    let wire = Wire::connect(broker.kafka);
    (dir, broker, wire)
}

/// What `doctor --json` says; its exit status goes with it.
fn doctor(broker: &Broker, more: &[&str]) -> Value {
    let defaults = QUICK.chunks(2).filter(|pair| !more.contains(&pair[0]));
    let defaults = defaults.flatten().copied().collect::<Vec<_>>();
    let args = [&["doctor", "--json"], &defaults[..], more].concat();
    report(broker.run(&args, b""))
}

fn report(output: Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let is_well = report["well"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!is_well)), "{report}");
    report
}

/// The findings of a check, each as its severity and what it is.
fn findings(report: &Value, check: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = report["findings"].as_array().unwrap().iter();
    let found = found.filter(|finding| finding["check"] == check);
    found
        .map(|f| (text(&f["severity"]), text(&f["what"])))
        .collect()
}

#[test]
fn a_doctor_finds_nothing_wrong_with_a_broker_that_is_well() {
    let (_dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::of(["x"]));
    let report = doctor(&broker, &[]);
    assert_eq!(report["well"], true, "{report}");
    let output = broker.run(&[&["doctor"], &QUICK[..]].concat(), b"");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("0 errors, 0 warnings"), "{said}");
}

#[test]
fn a_doctor_names_partitions_that_are_offline_and_what_to_do() {
    let (dir, broker, mut wire) = broker(&[]);
    wire.create_topic("orders", 2);
    wire.append("orders", 1, &Batch::of(["x"]));
    broker.stop();
    let partition = dir.path().join("orders-1");
    fs::remove_dir_all(&partition).unwrap();
    fs::write(&partition, b"not a directory").unwrap();
    let broker = Broker::start(dir.path());
    let report = doctor(&broker, &[]);
    let what = "1 partition of topic orders could not be opened".to_owned();
    let offline = findings(&report, "offline-partitions");
    assert_eq!(offline, [("error".to_owned(), what.clone())]);
    assert_eq!(findings(&report, "stopped-partitions"), []);
    let output = broker.run(&[&["doctor"], &QUICK[..]].concat(), b"");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(&format!("ERROR  {what}\n    ")), "{said}");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_doctor_tells_what_was_refused_before_from_what_is_refused_now() {
    let (_dir, broker, mut wire) = broker(&["--topics-max", "10"]);
    for number in 0..11 {
        let created = wire.try_create_topic(&format!("t{number}"), 1, &[]);
        assert_eq!(created.error_code != 0, number == 10);
    }
    let limits = |report: &Value| findings(report, "limits");
    let found = limits(&doctor(&broker, &[]));
    let told: Vec<(&str, bool)> = found
        .iter()
        .map(|(severity, what)| {
            (
                severity.as_str(),
                what.contains("topics_max was reached 1 time"),
            )
        })
        .collect();
    // That it is full now is a warning, that it was met is a note.
    assert_eq!(told, [("warning", false), ("note", true)]);
    // While somebody goes on.
    let now = "the limit topics_max is reached now";
    eventually("it is told of as of now", || {
        std::thread::scope(|scope| {
            let look = scope.spawn(|| doctor(&broker, &["--for", "200ms"]));
            while !look.is_finished() {
                wire.try_create_topic("more", 1, &[]);
            }
            let found = limits(&look.join().unwrap());
            found
                .iter()
                .any(|(severity, what)| severity == "warning" && what.contains(now))
        })
    });
}

#[test]
fn a_doctor_warns_of_groups_that_are_far_behind() {
    let (_dir, broker, mut wire) = broker(&["--lag-interval-ms", "20"]);
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::at_times(&[1000, 2000, 3000]));
    let committed = wire.call(&commit("late", "t", &[(0, 1)]), OFFSET_COMMIT);
    assert_eq!(commit_error(&committed), 0);
    eventually("the group is told of", || {
        let found = findings(&doctor(&broker, &[]), "lag");
        let is_it = |(severity, what): &(String, String)| {
            severity == "warning"
                && what.starts_with("group late is ")
                && what.ends_with(" behind, by 2 records")
        };
        found.iter().any(is_it)
    });
    let report = doctor(&broker, &["--lag", "100000d"]);
    assert_eq!(findings(&report, "lag"), []);
}

#[test]
fn a_doctor_says_when_the_disk_is_fuller_than_asked() {
    let (_dir, broker, _) = broker(&[]);
    let report = doctor(&broker, &["--disk-free", "100"]);
    let found = findings(&report, "disk");
    assert_eq!(found.len(), 1, "{report}");
    assert!(found[0].1.contains(" are free, "), "{report}");
}

#[test]
fn a_doctor_tells_a_broker_that_does_not_answer_from_http_that_does_not() {
    let (_dir, broker, _) = broker(&[]);
    let nowhere = format!("{}:1", own_address().ip());
    let with = |bootstrap: &str, http: &str| {
        let mut command = Command::new(MILLSTREAM);
        command.args(["doctor", "--json", "--bootstrap", bootstrap]);
        command.args(QUICK).args(["--http", http]);
        report(run_with_input(&mut command, b""))
    };
    let neither = with(&nowhere, &nowhere);
    assert_eq!(findings(&neither, "broker")[0].0, "error");
    assert_eq!(findings(&neither, "metrics")[0].0, "warning");
    let half = with(&broker.bootstrap(), &nowhere);
    assert_eq!(findings(&half, "broker"), []);
    assert_eq!(findings(&half, "metrics").len(), 1);
    let other = with(&nowhere, &broker.http.to_string());
    assert_eq!(findings(&other, "broker").len(), 1);
    assert_eq!(findings(&other, "metrics"), []);
}

/// A running command whose lines are read one by one.
fn spawned(args: &[&str], broker: &Broker) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(MILLSTREAM)
        .args(args)
        .env("MILLSTREAM_BOOTSTRAP", broker.bootstrap())
        .env("MILLSTREAM_HTTP", broker.http.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[test]
fn top_shows_rates_cores_disk_and_lag_while_records_come_in() {
    let (_dir, broker, mut wire) = broker(&["--lag-interval-ms", "20"]);
    wire.create_topic("busy", 2);
    wire.create_topic("idle", 1);
    wire.append("idle", 0, &Batch::at_times(&[1000, 2000]));
    wire.call(&commit("late", "idle", &[(0, 0)]), OFFSET_COMMIT);
    let (mut top, lines) = spawned(&["top", "--json", "--interval", "50ms"], &broker);
    let mut looks = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let busy = loop {
        wire.append("busy", 0, &Batch::of(["x", "y"]));
        let look = looks.next().unwrap();
        if look["records_in_per_second"].as_f64() > Some(0.0) && look["groups"][0].is_object() {
            break look;
        }
    };
    assert_eq!(busy["topics"][0]["topic"], "busy");
    assert!(busy["topics"][0]["records_in_per_second"].as_f64() > Some(0.0));
    assert_eq!(busy["cores"].as_array().unwrap().len(), 2);
    assert_eq!(
        busy["partitions"].as_f64(),
        Some(broker.metric("millstream_partitions", ""))
    );
    assert!(busy["disk"]["total_bytes"].as_u64() > Some(0));
    assert_eq!(busy["groups"][0]["group"], "late");
    assert_eq!(busy["groups"][0]["lag"], 2);
    assert!(busy["groups"][0]["lag_seconds"].as_f64() > Some(1e6));
    drop(looks);
    assert!(top.wait().unwrap().success(), "who read it has gone");
    let once = broker.run(&["top", "--once", "--interval", "10ms"], b"");
    assert_eq!(once.status.code(), Some(0));
    let text = String::from_utf8(once.stdout).unwrap();
    for said in [
        "RECORDS/S",
        "  busy\n",
        "BEHIND  GROUP",
        "  late\n",
        " free, ",
    ] {
        assert!(text.contains(said), "{said:?} in {text}");
    }
    assert!(!text.contains('\x1b'), "a pipe gets no escapes");
}

#[test]
fn top_redraws_in_place_and_fits_the_terminal() {
    let (_dir, broker, mut wire) = broker(&[]);
    let long = "x".repeat(100);
    for number in 0..30 {
        wire.create_topic(&format!("{long}-{number}"), 1);
    }
    let mut command = Command::new(MILLSTREAM);
    command
        .args(["top", "--interval", "20ms"])
        .env("MILLSTREAM_BOOTSTRAP", broker.bootstrap())
        .env("MILLSTREAM_HTTP", broker.http.to_string());
    let (columns, rows) = (50, 20);
    let mut top = AtTerminal::run(command, columns, rows);
    let (home, clear_below) = ("\x1b[H", "\x1b[J");
    let seen = top.until(&format!("{clear_below}{home}"));
    let screen = seen.split(clear_below).next().unwrap();
    let screen = screen.strip_prefix(home).unwrap();
    let lines: Vec<&str> = screen.lines().collect();
    assert!(lines.len() < usize::from(rows), "{screen}");
    for line in lines {
        let escapes = ["\x1b[K", "\x1b[1m", "\x1b[0m"];
        let text = escapes
            .iter()
            .fold(line.to_owned(), |text, e| text.replace(e, ""));
        assert!(
            text.trim_end().chars().count() <= usize::from(columns),
            "{text:?}"
        );
    }
    assert!(
        screen.contains("xxx") && !screen.contains(&long),
        "{screen}"
    );
}

#[test]
fn top_and_watches_go_on_when_the_broker_comes_back() {
    let (dir, broker, mut wire) = broker(&[]);
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::of(["x"]));
    wire.call(&commit("g", "t", &[(0, 0)]), OFFSET_COMMIT);
    let (mut top, mut looks) = spawned(&["top", "--json", "--interval", "20ms"], &broker);
    let watch = [
        "group",
        "describe",
        "g",
        "--json",
        "--watch",
        "--interval",
        "20ms",
    ];
    let (mut watch, mut seen) = spawned(&watch, &broker);
    let look: Value = serde_json::from_str(&looks.next().unwrap().unwrap()).unwrap();
    assert_eq!(look["topics"].as_array().unwrap().len(), 2);
    assert!(seen.next().unwrap().unwrap().contains("\"lag\":1"));
    let (listen, http) = (broker.kafka, broker.http.to_string());
    broker.kill_9();
    let broker = Broker::at(listen, dir.path(), &["--http", &http]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("new", 1);
    wire.append("t", 0, &Batch::of(["y"]));
    let has_new = |line: Result<String, std::io::Error>| line.unwrap().contains("\"new\"");
    assert!(looks.any(has_new));
    assert!(seen.any(|line| line.unwrap().contains("\"lag\":2")));
    drop((looks, seen));
    assert!(top.wait().unwrap().success());
    assert!(watch.wait().unwrap().success());
}

#[test]
fn top_fails_when_nothing_answers_at_first() {
    let nowhere = format!("{}:1", own_address().ip());
    let output = Command::new(MILLSTREAM)
        .args(["top", "--http", &nowhere])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("no broker answers HTTP at {nowhere}")),
        "{said}"
    );
}

/// A metric that is renamed must not make a finding silently impossible.
#[test]
fn all_metrics_that_the_commands_read_are_there() {
    let (_dir, broker, mut wire) = broker(&["--lag-interval-ms", "20"]);
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::of(["x"]));
    wire.call(&commit("g", "t", &[(0, 0)]), OFFSET_COMMIT);
    eventually("lag is measured", || {
        broker
            .get("/metrics")
            .1
            .contains("millstream_group_lag_seconds{")
    });
    let (_, page) = broker.get("/metrics");
    let families = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let families: BTreeSet<&str> = families.collect();
    let sources = [
        include_str!("../src/findings/checks.rs"),
        include_str!("../src/cli/top/snapshot.rs"),
    ];
    for source in sources {
        let parts =
            source.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let names: BTreeSet<&str> = parts
            .filter(|part| part.starts_with("millstream_"))
            .collect();
        assert!(!names.is_empty());
        for name in names {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(families.contains(family), "{name}");
        }
    }
}
