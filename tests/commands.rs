//! The command line against a broker.

use crate::support::batch::Batch;
use crate::support::terminal::AtTerminal;
use crate::support::wire::*;
use crate::support::{Broker, Random};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");

fn broker() -> (tempfile::TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
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

/// Standard error of a command that ended with this exit status.
fn ended_with(exit: i32, output: Output) -> String {
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn json(output: Output) -> Value {
    serde_json::from_str(&ok(output)).unwrap()
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let (_dir, broker) = broker();
    let run = |args: &[&str]| broker.run(args, b"");
    let created = ok(run(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--config",
        "retention.ms=60000",
    ]));
    assert!(created.contains("created topic orders with 3 partitions"));
    let again = failed(run(&["topic", "create", "orders"]));
    assert!(again.contains("orders"), "{again}");
    ok(run(&["topic", "create", "orders", "--if-not-exists"]));
    let bad = failed(run(&["topic", "create", "a/b"]));
    assert!(bad.contains("a/b"), "{bad}");

    let listed: Value = serde_json::from_str(&ok(run(&["topic", "list", "--json"]))).unwrap();
    assert_eq!(listed[0]["name"], "orders");
    assert_eq!(listed[0]["partitions"], 3);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(ok(run(&["topic", "list"])).contains("orders"));

    ok(broker.run(&["produce", "orders", "--partition", "1"], b"a\nb\n"));
    let describe = |args: &[&str]| -> Value {
        let output = run(&[&["topic", "describe", "--json"], args].concat());
        serde_json::from_str(&ok(output)).unwrap()
    };
    let described = describe(&["orders"]);
    let partitions = described[0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    assert_eq!(partitions[1]["end_offset"], 2);
    assert_eq!(partitions[2]["end_offset"], 0);
    let retention = described[0]["configs"].as_array().unwrap();
    let retention = retention
        .iter()
        .find(|config| config["name"] == "retention.ms");
    assert_eq!(retention.unwrap()["value"], "60000");
    assert!(ok(run(&["topic", "describe", "orders"])).contains("retention.ms"));

    ok(run(&["topic", "alter", "orders", "--partitions", "5"]));
    let grown = describe(&["orders"]);
    assert_eq!(grown[0]["partitions"].as_array().unwrap().len(), 5);
    failed(run(&["topic", "alter", "orders", "--partitions", "2"]));

    let retention = || {
        let described = describe(&["orders"]);
        let configs = described[0]["configs"].as_array().unwrap().clone();
        let found = configs
            .into_iter()
            .find(|config| config["name"] == "retention.ms");
        found.map(|config| config["value"].clone())
    };
    ok(run(&[
        "topic",
        "alter",
        "orders",
        "--config",
        "retention.ms=70000",
    ]));
    assert_eq!(retention(), Some("70000".into()));
    ok(run(&[
        "topic",
        "alter",
        "orders",
        "--delete-config",
        "retention.ms",
    ]));
    assert_ne!(retention(), Some("70000".into()));
    let unknown = failed(run(&["topic", "alter", "orders", "--config", "no.such=1"]));
    assert!(unknown.contains("no.such"), "{unknown}");
    let slip = [
        "--config",
        "retention.ms=1",
        "--delete-config",
        "retention.m",
    ];
    let slip = [&["topic", "alter", "orders"][..], &slip].concat();
    let unknown = failed(run(&slip));
    assert!(unknown.contains("`retention.m`"), "{unknown}");
    assert_ne!(retention(), Some("1".into()), "nothing of it was done");

    let deleted = ok(run(&["topic", "delete", "orders"]));
    assert!(deleted.contains("deleted topic orders"), "{deleted}");
    ended_with(3, run(&["topic", "delete", "orders"]));
    ended_with(3, run(&["topic", "describe", "orders"]));
    assert_eq!(ok(run(&["topic", "list", "--json"])).trim(), "[]");
}

#[test]
fn lines_come_back_with_their_keys_headers_and_in_every_codec() {
    let (_dir, broker) = broker();
    let lines = "k1:first\nk2:second\nk1:\n:empty key\nk3:a:b\n";
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        ok(broker.run(&["topic", "create", codec], b""));
        let produced = broker.run(
            &[
                "produce",
                codec,
                "--codec",
                codec,
                "--key-separator",
                ":",
                "--header",
                "from=test",
            ],
            lines.as_bytes(),
        );
        let said = String::from_utf8_lossy(&produced.stderr).into_owned();
        ok(produced);
        assert!(said.contains("produced 5 records"), "{said}");
        let plain = ok(broker.run(&["consume", codec], b""));
        assert_eq!(plain, "first\nsecond\n\nempty key\na:b\n");
        let keyed = ok(broker.run(&["consume", codec, "--key-separator", ":"], b""));
        assert_eq!(keyed, lines);
        let with_headers = ok(broker.run(&["consume", codec, "--headers", "--max", "1"], b""));
        assert_eq!(with_headers, "from=test\tfirst\n");
        let json = ok(broker.run(
            &["consume", codec, "--json", "--from", "1", "--max", "1"],
            b"",
        ));
        let record: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(record["topic"], codec);
        assert_eq!(record["offset"], 1);
        assert_eq!(record["key"], "k2");
        assert_eq!(record["value"], "second");
        assert_eq!(record["headers"][0]["key"], "from");
        assert!(record["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
    }
}

#[test]
fn files_go_in_and_come_out_whole_whatever_acks_say() {
    let (dir, broker) = broker();
    let mut random = Random::new();
    // Lines of all lengths, some longer than a batch is by default.
    let mut content = Vec::new();
    for _ in 0..3000 {
        let length = random.below(200);
        let letters = random.bytes(length).into_iter();
        content.extend(letters.map(|byte| b'a' + byte % 26));
        content.push(b'\n');
    }
    content.extend([vec![b'x'; 700_000], b"\nno newline at the end".to_vec()].concat());
    let file = dir.path().join("lines.txt");
    std::fs::write(&file, &content).unwrap();
    content.push(b'\n');
    for acks in ["0", "1", "all"] {
        let topic = format!("acks-{acks}");
        ok(broker.run(&["topic", "create", &topic], b""));
        let path = file.to_str().unwrap();
        ok(broker.run(&["produce", &topic, path, "--acks", acks], b""));
        let mut wire = Wire::connect(broker.kafka);
        crate::support::eventually("all records are durable", || {
            wire.offset(&topic, 0, -1) == 3002
        });
        let output = broker.run(&["consume", &topic], b"");
        assert!(output.stdout == content, "acks={acks}");
    }
    let missing = failed(broker.run(&["produce", "acks-1", "/no/such/file"], b""));
    assert!(missing.contains("/no/such/file"), "{missing}");
}

#[test]
fn many_lines_into_head_end_without_an_error() {
    let (_dir, broker) = broker();
    let lines: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    ok(broker.run(&["topic", "create", "long"], b""));
    ok(broker.run(&["produce", "long"], lines.as_bytes()));
    let mut consume = Command::new(MILLSTREAM)
        .args(["consume", "long", "--follow", "--bootstrap"])
        .arg(broker.bootstrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(consume.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "line 0\n");
    drop(reader);
    let output = consume.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn consume_follows_what_is_written_and_starts_where_it_is_told() {
    let (_dir, broker) = broker();
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::at_times(&[1000, 2000, 3000, 4000]));
    let consume = |from: &str| ok(broker.run(&["consume", "t", "--from", from], b""));
    assert_eq!(consume("beginning"), "1000\n2000\n3000\n4000\n");
    assert_eq!(consume("end"), "");
    assert_eq!(consume("2"), "3000\n4000\n");
    assert_eq!(consume("@1500"), "2000\n3000\n4000\n");
    assert_eq!(consume("1970-01-01T00:00:04Z"), "4000\n");
    let beyond = failed(broker.run(&["consume", "t", "--from", "9"], b""));
    assert!(beyond.contains("out of range"), "{beyond}");

    let mut follow = Command::new(MILLSTREAM)
        .args(["consume", "t", "--follow", "--from", "3"])
        .args(["--max", "3"])
        .env("MILLSTREAM_BOOTSTRAP", broker.bootstrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "4000");
    wire.append("t", 0, &Batch::of(["fifth"]));
    assert_eq!(next(), "fifth");
    wire.append("t", 0, &Batch::of(["sixth", "not asked for"]));
    assert_eq!(next(), "sixth");
    assert!(follow.wait().unwrap().success());
}

#[test]
fn a_format_says_how_records_are_written_and_how_lines_are_read() {
    let (_dir, broker) = broker();
    let run = |args: &[&str], input: &str| broker.run(args, input.as_bytes());
    ok(run(&["topic", "create", "a", "--partitions", "3"], ""));
    ok(run(&["topic", "create", "b", "--partitions", "3"], ""));
    let lines = "2 1700000000000 from=test,x=1|ann\ttea\tand scones\n0 1700000000001 |bob\t\n";
    let format = "%p %T %h|%k\\t%v\\n";
    ok(run(&["produce", "a", "-f", format], lines));
    let read = |topic: &str, format: &str| {
        let printed = ok(run(&["consume", topic, "-f", format], ""));
        let mut printed: Vec<String> = printed.split_inclusive('\n').map(str::to_owned).collect();
        printed.sort_unstable_by(|a, b| b.cmp(a));
        printed.concat()
    };
    assert_eq!(read("a", format), lines);
    ok(run(&["produce", "b", "-f", format], &read("a", format)));
    assert_eq!(read("b", format), lines, "what was printed is read again");
    assert_eq!(read("b", "%t/%p@%o 100%%\\n"), "b/2@0 100%\nb/0@0 100%\n");
    let one = ok(run(&["consume", "b", "--partition", "0", "-f", "<%k>"], ""));
    assert_eq!(one, "<bob>", "no newline is added");

    let wrong = failed(run(&["produce", "a", "-f", "%k:%v"], "k:v\nno separator\n"));
    assert!(
        wrong.contains("line 2 of standard input has no \":\""),
        "{wrong}"
    );
    let beyond = ended_with(3, run(&["produce", "a", "-f", "%p:%v"], "3:v\n"));
    assert!(
        beyond.contains("line 1") && beyond.contains("no partition 3"),
        "{beyond}"
    );
    for args in [
        &["consume", "a", "-f", "%x"][..],
        &["consume", "a", "-f", "%v", "--json"],
        &["produce", "a", "-f", "%o %v"],
        &["produce", "a", "-f", "%k%v"],
        &["produce", "a", "-f", "%k:%v", "--key", "k"],
        &["produce", "a", "-f", "%p:%v", "--partition", "1"],
        &["produce", "a", "--key-separator", ":", "--key", "k"],
    ] {
        ended_with(2, run(args, ""));
    }
}

#[test]
fn a_person_is_asked_before_something_is_deleted_and_a_script_is_not() {
    let (_dir, broker) = broker();
    let create = |topic: &str| ok(broker.run(&["topic", "create", topic], b""));
    create("t");
    let delete = |more: &[&str]| {
        let mut command = Command::new(MILLSTREAM);
        command.args(["topic", "delete", "t", "--bootstrap", &broker.bootstrap()]);
        command.args(more);
        AtTerminal::run(command, 80, 24)
    };
    for answer in ["n\n", "\n"] {
        let mut asked = delete(&[]);
        asked.until("delete topic t with all records? [y/N] ");
        asked.type_in(answer);
        let (status, said) = asked.end();
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("nothing was done"), "{said}");
    }
    assert!(ok(broker.run(&["topic", "list"], b"")).starts_with("t\t"));
    let mut asked = delete(&[]);
    asked.until("[y/N] ");
    asked.type_in("y\n");
    let (status, said) = asked.end();
    assert_eq!(status.code(), Some(0), "{said}");
    create("t");
    let (status, said) = delete(&["--yes"]).end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("deleted topic t") && !said.contains("[y/N]"),
        "{said}"
    );
    create("t");
    ok(broker.run(&["topic", "delete", "t"], b""));
}

#[test]
fn topics_are_listed_with_their_sizes_the_largest_first() {
    let (_dir, broker) = broker();
    let run = |args: &[&str], input: &[u8]| broker.run(args, input);
    for topic in ["a-empty", "b-small", "c-large"] {
        ok(run(&["topic", "create", topic, "--partitions", "2"], b""));
    }
    ok(run(&["produce", "b-small"], b"x\n"));
    for partition in ["0", "1"] {
        let args = ["produce", "c-large", "--partition", partition];
        ok(run(&args, &[b'x'; 5000]));
    }
    let listed = json(run(&["topic", "list", "--size", "--json"], b""));
    let bytes = |at: usize| listed[at]["bytes"].as_u64().unwrap();
    let names: Vec<&str> = (0..3)
        .map(|at| listed[at]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c-large", "b-small", "a-empty"]);
    let log_bytes = |topic: &str| {
        let label = format!("topic=\"{topic}\"");
        broker.metric("millstream_topic_log_bytes", &label) as u64
    };
    assert_eq!(bytes(0), log_bytes("c-large"), "both partitions");
    assert!(
        bytes(0) > 10_000 && bytes(1) > 0 && bytes(2) == 0,
        "{listed}"
    );
    let rows = ok(run(&["topic", "list", "--size"], b""));
    let last = rows.lines().next().unwrap().rsplit('\t').next().unwrap();
    assert_eq!(last, bytes(0).to_string());
    // Without --size all is as it was.
    let plain = ok(run(&["topic", "list"], b""));
    let first = plain.lines().next().unwrap();
    assert!(
        first.starts_with("a-empty\t2\t") && first.split('\t').count() == 3,
        "{first}"
    );
    let plain = json(run(&["topic", "list", "--json"], b""));
    assert_eq!(plain[0].get("bytes"), None);
}

#[test]
fn one_key_for_all_lines_leads_them_to_one_partition() {
    let (_dir, broker) = broker();
    ok(broker.run(&["topic", "create", "t", "--partitions", "8"], b""));
    ok(broker.run(&["produce", "t", "--key", "ann"], b"one\ntwo\n"));
    ok(broker.run(&["produce", "t", "--key", "bob"], b"three\n"));
    let found = ok(broker.run(&["consume", "t", "--key", "ann"], b""));
    assert_eq!(found, "one\ntwo\n");
    let places = ok(broker.run(&["consume", "t", "--key", "ann", "-f", "%p %k\\n"], b""));
    let places: Vec<&str> = places.lines().collect();
    assert_eq!(places[0], places[1]);
}

#[test]
fn consume_finds_records_by_key_text_and_time_and_the_newest_of_them() {
    let (_dir, broker) = broker();
    let run = |args: &[&str], input: &str| broker.run(args, input.as_bytes());
    ok(run(&["topic", "create", "t", "--partitions", "2"], ""));
    // Times go back and forth between the partitions. In partition 1 another thousand came before.
    let early: String = (0..1000)
        .map(|n| format!("1 {n} old:early {n}\n"))
        .collect();
    let late = "0 10001 ann:tea\n1 10002 bob:coffee\n0 10003 bob:tea\n1 10004 ann:tea\n\
                0 10005 cid:scones for ann\n";
    ok(run(&["produce", "t", "-f", "%p %T %k:%v"], &(early + late)));
    let consume = |args: &[&str]| {
        let args = [&["consume", "t", "-f", "%k:%v "][..], args].concat();
        ok(run(&args, ""))
    };
    assert_eq!(
        consume(&["--last", "3"]),
        "bob:tea ann:tea cid:scones for ann "
    );
    assert_eq!(consume(&["--last", "1", "--key", "bob"]), "bob:tea ");
    assert_eq!(
        consume(&["--grep", "ann", "--last", "5"]),
        "ann:tea ann:tea cid:scones for ann "
    );
    assert_eq!(consume(&["--key", "ann", "--grep", "coffee"]), "");
    assert_eq!(
        consume(&["--since", "@10004", "--partition", "1"]),
        "ann:tea "
    );
    let since = ["--since", "1970-01-01T00:00:10.003Z", "--key", "ann"];
    assert_eq!(consume(&since), "ann:tea ");
    assert_eq!(
        consume(&[&since[..], &["--last", "9"]].concat()),
        "ann:tea "
    );
    for now in ["1h", "-1h"] {
        assert_eq!(consume(&["--since", now]), "", "all of it is of 1970");
    }
    assert_eq!(consume(&["--from=-1h"]), "");
    // Far behind the end, where only a longer look back finds it.
    assert_eq!(
        consume(&["--last", "2", "--grep", "early 7"]),
        "old:early 798 old:early 799 "
    );
    assert_eq!(
        consume(&["--last", "9000", "--key", "old"])
            .matches("old:")
            .count(),
        1000
    );
    assert_eq!(
        consume(&["--last", "5", "--max", "2"]),
        "ann:tea bob:coffee "
    );
    for args in [
        &["--last", "0"][..],
        &["--last", "5", "--from", "3"],
        &["--since", "1h", "--from", "end"],
        &["--since", "yesterday"],
    ] {
        ended_with(2, run(&[&["consume", "t"], args].concat(), ""));
    }
}

#[test]
fn consume_shows_the_last_records_that_are_wanted_and_follows_with_such() {
    let (_dir, broker) = broker();
    ok(broker.run(&["topic", "create", "t"], b""));
    ok(broker.run(&["produce", "t"], b"a1\nb1\na2\nb2\na3\n"));
    let mut follow = Command::new(MILLSTREAM)
        .args([
            "consume", "t", "--last", "2", "--grep", "a", "-F", "--max", "3",
        ])
        .args(["--bootstrap", &broker.bootstrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!([next(), next()], ["a2", "a3"]);
    ok(broker.run(&["produce", "t"], b"b3\na4\n"));
    assert_eq!(next(), "a4");
    assert!(follow.wait().unwrap().success());
}

#[test]
fn produce_sends_a_line_that_is_typed_before_the_next_one_comes() {
    let (_dir, broker) = broker();
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("typed", 1);
    let mut produce = Command::new(MILLSTREAM)
        .args(["produce", "typed", "--bootstrap", &broker.bootstrap()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = produce.stdin.take().unwrap();
    for line in 1..4 {
        writeln!(stdin, "line {line}").unwrap();
        crate::support::eventually("the line is there", || wire.offset("typed", 0, -1) == line);
    }
    drop(stdin);
    assert!(produce.wait().unwrap().success());
}

#[test]
fn produce_says_at_once_and_at_the_end_that_the_leaders_address_cannot_be_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--advertise", "no-host.invalid:9092"]);
    Wire::connect(broker.kafka).create_topic("t", 1);
    let output = broker.run(&["produce", "t", "--timeout-ms", "1000"], b"line\n");
    let said = ended_with(5, output);
    let why = "broker 1 is advertised at no-host.invalid:9092, which does not answer";
    let (early, late) = (
        format!("not delivered yet, trying again: {why}"),
        format!("given up after 1000 ms (--timeout-ms): {why}"),
    );
    let (first, last) = (said.find(&early), said.find(&late));
    assert!(first.is_some() && first < last, "{said}");
    assert_eq!(said.matches(&early).count(), 1, "{said}");
}

#[test]
fn commands_say_what_is_wrong_and_fail() {
    let (_dir, broker) = broker();
    let missing = ended_with(3, broker.run(&["consume", "missing"], b""));
    assert!(missing.contains("missing"), "{missing}");
    let nobody = crate::support::own_address();
    let output = Command::new(MILLSTREAM)
        .args([
            "topic",
            "list",
            "--bootstrap",
            &format!("{}:1", nobody.ip()),
        ])
        .output()
        .unwrap();
    let said = failed(output);
    assert!(said.contains(&nobody.ip().to_string()), "{said}");
    let nonsense = Command::new(MILLSTREAM).args(["produce"]).output().unwrap();
    assert_eq!(nonsense.status.code(), Some(2));
}

#[test]
fn exit_statuses_tell_what_is_missing_from_what_failed_and_help_lists_them() {
    let (_dir, broker) = broker();
    let run = |args: &[&str]| broker.run(args, b"");
    ok(run(&["topic", "create", "t", "--partitions", "2"]));
    for args in [
        &["topic", "describe", "nowhere"][..],
        &["topic", "alter", "nowhere", "--partitions", "3"],
        &["topic", "delete", "nowhere"],
        &["consume", "nowhere"],
        &["consume", "t", "--partition", "7"],
        &["produce", "t", "--partition", "7"],
        &["group", "describe", "nobody"],
        &["group", "delete", "nobody"],
        &["group", "delete-offsets", "nobody", "--topic", "t"],
        &[
            "group",
            "reset-offsets",
            "g",
            "--topic",
            "t:7",
            "--to",
            "end",
        ],
    ] {
        ended_with(3, run(args));
    }
    // Two that are missing are still missing; with another failure it is a failure.
    ended_with(3, run(&["topic", "describe", "nowhere", "neither", "t"]));
    failed(run(&["topic", "create", "t"]));
    failed(run(&["topic", "alter", "t", "--partitions", "1"]));
    let help = ok(run(&["--help"]));
    for said in ["0 done", "1 failed", "3 a topic", "4 denied", "5 no answer"] {
        assert!(help.contains(said), "{help}");
    }
}

#[test]
fn what_was_done_is_told_as_json_too() {
    let (_dir, broker) = broker();
    let run = |args: &[&str]| json(broker.run(&[args, &["--json"]].concat(), b"a\nb\n"));
    let created = run(&["topic", "create", "t", "--partitions", "2"]);
    assert_eq!(created["name"], "t");
    assert_eq!(created["created"], true);
    assert_eq!(created["partitions"], 2);
    let again = run(&["topic", "create", "t", "--if-not-exists"]);
    assert_eq!(again["created"], false);
    let altered = run(&["topic", "alter", "t", "--config", "retention.ms=70000"]);
    assert_eq!(altered["set"]["retention.ms"], "70000");
    let produced = run(&["produce", "t", "--partition", "0"]);
    assert_eq!(produced["records"], 2);
    assert_eq!(produced["bytes"], 2);
    let reset = ["group", "reset-offsets", "g", "--topic", "t", "--to", "end"];
    let moves = run(&[&reset[..], &["--execute"]].concat());
    assert_eq!(moves[0]["to"], 2);
    let deleted = run(&["group", "delete-offsets", "g", "--topic", "t:0"]);
    let one = serde_json::json!([{ "group": "g", "topic": "t", "partition": 0 }]);
    assert_eq!(deleted, one);
    let deleted = run(&["group", "delete", "g", "--yes"]);
    assert_eq!(deleted, serde_json::json!([{ "group": "g" }]));
    let deleted = run(&["topic", "delete", "t", "--yes"]);
    assert_eq!(deleted, serde_json::json!([{ "name": "t" }]));
}
