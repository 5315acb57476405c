//! Consumer instances, as clients of a REST proxy's version 2 use them.

use super::rest_v2::code;
use crate::support::batch::Batch;
use crate::support::group::{Member, NONE, committed};
use crate::support::wire::Wire;
use crate::support::{Broker, HttpReply, broker_with, eventually, http_exchange};
use millstream::coordinator::groups::consumer_protocol::decode_assignment;
use serde_json::{Value, json};

const V2: &str = "application/vnd.kafka.v2+json";
const JSON: &str = "application/vnd.kafka.json.v2+json";
const BINARY: &str = "application/vnd.kafka.binary.v2+json";
/// Groups that wait for no more members: tests are to be quick.
const QUICK: &str = "--group-initial-rebalance-delay-ms=0";

/// An instance as its client sees it.
struct Consumer<'a> {
    broker: &'a Broker,
    path: String,
}

impl Consumer<'_> {
    /// Creates one that begins at the earliest record and reads JSON.
    fn create<'a>(broker: &'a Broker, group: &str, name: &str, more: Value) -> Consumer<'a> {
        let mut new = json!({ "name": name, "format": "json", "auto.offset.reset": "earliest" });
        for (setting, value) in more.as_object().unwrap() {
            new[setting] = value.clone();
        }
        let reply = post(broker, &format!("/consumers/{group}"), &new.to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        Consumer::of(broker, group, name)
    }

    fn of<'a>(broker: &'a Broker, group: &str, name: &str) -> Consumer<'a> {
        Consumer {
            broker,
            path: format!("/consumers/{group}/instances/{name}"),
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> HttpReply {
        let path = format!("{}{path}", self.path);
        let headers = [("Content-Type", V2)];
        http_exchange(self.broker.http, method, &path, &headers, body.as_bytes())
    }

    fn done(&self, method: &str, path: &str, body: &str) {
        let reply = self.ask(method, path, body);
        assert_eq!(
            (reply.status, reply.text()),
            (204, String::new()),
            "{method} {path}"
        );
    }

    fn subscribe(&self, topic: &str) {
        self.done(
            "POST",
            "/subscription",
            &json!({ "topics": [topic] }).to_string(),
        );
    }

    fn records_as(&self, kind: &str, query: &str) -> HttpReply {
        let path = format!("{}/records{query}", self.path);
        http_exchange(self.broker.http, "GET", &path, &[("Accept", kind)], b"")
    }

    /// The values of one read.
    fn values(&self, query: &str) -> Vec<Value> {
        let reply = self.records_as(JSON, query);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let records = reply.json();
        let each = records.as_array().unwrap().iter();
        each.map(|record| record["value"].clone()).collect()
    }
}

fn post(broker: &Broker, path: &str, body: &str) -> HttpReply {
    let headers = [("Content-Type", V2)];
    http_exchange(broker.http, "POST", path, &headers, body.as_bytes())
}

fn numbers(from: u32, to: u32) -> Batch {
    let numbers: Vec<String> = (from..to).map(|number| number.to_string()).collect();
    Batch::of(&numbers)
}

#[test]
fn an_instance_is_created_subscribes_and_reads_at_once() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("orders", 1);
    let body = r#"{"records":[{"key":"ann","value":{"a":1}}]}"#;
    let headers = [("Content-Type", JSON)];
    http_exchange(
        broker.http,
        "POST",
        "/topics/orders",
        &headers,
        body.as_bytes(),
    );
    // The transcript, to the byte; with the delay that a new group has, the first read waits.
    let new = r#"{"name":"c1","format":"json","auto.offset.reset":"earliest"}"#;
    let headers = [("Content-Type", V2), ("Host", "localhost:8082")];
    let reply = http_exchange(
        broker.http,
        "POST",
        "/consumers/g1",
        &headers,
        new.as_bytes(),
    );
    let created =
        r#"{"instance_id":"c1","base_uri":"http://localhost:8082/consumers/g1/instances/c1"}"#;
    assert_eq!((reply.status, reply.text()), (200, created.to_owned()));
    assert_eq!(reply.header("content-type"), V2);
    let consumer = Consumer::of(&broker, "g1", "c1");
    consumer.done("POST", "/subscription", r#"{"topics":["orders"]}"#);
    let reply = consumer.records_as(JSON, "");
    let record = r#"[{"topic":"orders","key":"ann","value":{"a":1},"partition":0,"offset":0}]"#;
    assert_eq!((reply.status, reply.text()), (200, record.to_owned()));
    assert_eq!(reply.header("content-type"), JSON);
    assert_eq!(consumer.records_as(JSON, "?timeout=1").text(), "[]");
    assert_eq!(
        consumer.ask("GET", "/subscription", "").text(),
        r#"{"topics":["orders"]}"#
    );
    let assigned = r#"{"partitions":[{"topic":"orders","partition":0}]}"#;
    assert_eq!(consumer.ask("GET", "/assignments", "").text(), assigned);
    consumer.done("DELETE", "", "");
    let gone = r#"{"error_code":40403,"message":"Consumer instance not found."}"#;
    let reply = consumer.records_as(JSON, "");
    assert_eq!((reply.status, reply.text()), (404, gone.to_owned()));
}

#[test]
fn what_was_returned_is_committed_by_the_next_read_or_when_asked_for() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    wire.create_topic("t", 1);
    wire.append("t", 0, &numbers(0, 3));
    let consumer = Consumer::create(&broker, "auto", "c", json!({}));
    consumer.subscribe("t");
    assert_eq!(consumer.values(""), [0, 1, 2]);
    assert_eq!(committed(&mut wire, "auto", "t", 0), -1);
    assert!(consumer.values("?timeout=0").is_empty());
    assert_eq!(committed(&mut wire, "auto", "t", 0), 3);
    wire.append("t", 0, &numbers(3, 4));
    assert_eq!(consumer.values(""), [3]);
    consumer.done("DELETE", "", "");
    assert_eq!(committed(&mut wire, "auto", "t", 0), 4, "and at the end");

    let by_hand = json!({ "auto.commit.enable": "false" });
    let consumer = Consumer::create(&broker, "hand", "c", by_hand);
    consumer.subscribe("t");
    assert_eq!(consumer.values(""), [0, 1, 2, 3]);
    assert!(consumer.values("?timeout=0").is_empty());
    assert_eq!(committed(&mut wire, "hand", "t", 0), -1);
    consumer.done("POST", "/offsets", "");
    assert_eq!(committed(&mut wire, "hand", "t", 0), 4);
    let offsets = r#"{"offsets":[{"topic":"t","partition":0,"offset":2,"metadata":"m"}]}"#;
    consumer.done("POST", "/offsets?async=true", offsets);
    let asked = r#"{"partitions":[{"topic":"t","partition":0}]}"#;
    for body in [asked, ""] {
        assert_eq!(consumer.ask("GET", "/offsets", body).text(), offsets);
    }
    consumer.done("DELETE", "", "");
    let again = Consumer::create(&broker, "hand", "d", json!({}));
    again.subscribe("t");
    assert_eq!(again.values(""), [2, 3]);
}

#[test]
fn head_takes_no_records_away() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    wire.create_topic("t", 1);
    let consumer = Consumer::create(&broker, "g", "c", json!({}));
    let path = format!("{}/records", consumer.path);
    let reply = http_exchange(broker.http, "HEAD", &path, &[("Accept", JSON)], b"");
    assert_eq!(reply.status, 405);
}

#[test]
fn positions_are_moved_and_partitions_named() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    wire.create_topic("t", 2);
    wire.append("t", 0, &numbers(0, 3));
    wire.append("t", 1, &numbers(10, 12));
    let consumer = Consumer::create(&broker, "g", "c", json!({}));
    consumer.done(
        "POST",
        "/assignments",
        r#"{"partitions":[{"topic":"t","partition":0}]}"#,
    );
    assert_eq!(consumer.values(""), [0, 1, 2]);
    let first = r#"{"partitions":[{"topic":"t","partition":0}]}"#;
    consumer.done("POST", "/positions/beginning", first);
    assert_eq!(consumer.values(""), [0, 1, 2]);
    consumer.done(
        "POST",
        "/positions",
        r#"{"offsets":[{"topic":"t","partition":0,"offset":1}]}"#,
    );
    assert_eq!(consumer.values(""), [1, 2]);
    let time = r#"{"timestamps":[{"topic":"t","partition":0,"timestamp":"1970-01-01T00:00:00Z"}]}"#;
    consumer.done("POST", "/positions", time);
    assert_eq!(consumer.values(""), [0, 1, 2]);
    consumer.done("POST", "/positions/beginning", first);
    consumer.done("POST", "/positions/end", first);
    assert!(consumer.values("?timeout=0").is_empty());
    // An offset that the log has not: the instance begins where it is to begin.
    consumer.done(
        "POST",
        "/positions",
        r#"{"offsets":[{"topic":"t","partition":0,"offset":99}]}"#,
    );
    assert_eq!(consumer.values(""), [0, 1, 2]);
    let other = r#"{"partitions":[{"topic":"t","partition":1}]}"#;
    assert_eq!(
        code(&consumer.ask("POST", "/positions/end", other)),
        (409, 40903)
    );
    consumer.done("POST", "/assignments", other);
    assert_eq!(consumer.values(""), [10, 11]);
    let subscription = r#"{"topics":["t"]}"#;
    assert_eq!(
        code(&consumer.ask("POST", "/subscription", subscription)),
        (409, 40903)
    );
    consumer.done("POST", "/assignments", r#"{"partitions":[]}"#);
    consumer.done("POST", "/subscription", subscription);
    assert_eq!(
        code(&consumer.ask("POST", "/assignments", first)),
        (409, 40903)
    );
    consumer.done("DELETE", "/subscription", "");
    assert_eq!(
        consumer.ask("GET", "/subscription", "").text(),
        r#"{"topics":[]}"#
    );
    assert_eq!(code(&consumer.records_as(JSON, "")), (409, 40903));
}

#[test]
fn the_instances_of_a_group_share_partitions_with_each_other() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK, "--cores", "2"]);
    wire.create_topic("t", 4);
    let consumers = ["a", "b"].map(|name| Consumer::create(&broker, "g", name, json!({})));
    for consumer in &consumers {
        consumer.subscribe("t");
    }
    let assigned = |consumer: &Consumer<'_>| {
        let told = consumer.ask("GET", "/assignments", "").json();
        told["partitions"].as_array().unwrap().len()
    };
    eventually("each has two", || {
        consumers.iter().all(|one| assigned(one) == 2)
    });
    for partition in 0..4 {
        wire.append(
            "t",
            partition,
            &numbers(partition as u32, partition as u32 + 1),
        );
    }
    let mut seen: Vec<Value> = Vec::new();
    while seen.len() < 4 {
        for consumer in &consumers {
            seen.extend(consumer.values("?timeout=100"));
        }
    }
    seen.sort_by_key(|value| value.as_u64());
    assert_eq!(seen, [0, 1, 2, 3]);
    // One that waits is told of what changes.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| consumers[0].values("?timeout=50000"));
        consumers[1].done("DELETE", "", "");
        eventually("it has all", || assigned(&consumers[0]) == 4);
        wire.set_partitions("t", 5, false);
        eventually("and the new one", || assigned(&consumers[0]) == 5);
        wire.append("t", 4, &numbers(7, 8));
        assert_eq!(waits.join().unwrap(), [7]);
    });
    // And deleted while it waits.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| consumers[0].records_as(JSON, "?timeout=50000"));
        eventually("it waits", || {
            broker.metric("millstream_parked_fetches", "") >= 1.0
        });
        consumers[0].done("DELETE", "", "");
        assert_eq!(code(&waits.join().unwrap()), (404, 40403));
    });
}

#[test]
fn an_instance_shares_a_group_with_clients_of_kafka() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    wire.create_topic("t", 2);
    let consumer = Consumer::create(&broker, "g", "c", json!({}));
    consumer.subscribe("t");
    let assigned = || {
        let told = consumer.ask("GET", "/assignments", "").json();
        told["partitions"].as_array().unwrap().len()
    };
    eventually("it has both", || assigned() == 2);
    let mut member = Member::new(broker.kafka, "g");
    member.get_id();
    member.send_join();
    assert_eq!(member.receive_join().error_code, NONE);
    assert_ne!(member.leader, member.id, "the instance assigns");
    let synced = member.sync(&[]);
    assert_eq!(synced.error_code, NONE);
    let given = decode_assignment(&synced.assignment).unwrap();
    let topics = given.assigned_partitions;
    assert_eq!((topics.len(), topics[0].topic), (1, "t"));
    assert_eq!(topics[0].partitions.len(), 1);
    eventually("it has the other", || assigned() == 1);
    assert_eq!(member.leave(), NONE);
    eventually("it has both again", || assigned() == 2);
}

#[test]
fn a_pattern_subscribes_to_topics_as_they_come() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    for topic in ["orders-1", "orders", "bills"] {
        wire.create_topic(topic, 1);
        wire.append(topic, 0, &numbers(1, 2));
    }
    let consumer = Consumer::create(&broker, "g", "c", json!({}));
    consumer.done("POST", "/subscription", r#"{"topic_pattern":"orders-.*"}"#);
    let read = consumer.records_as(JSON, "").json();
    assert_eq!(read.as_array().unwrap().len(), 1);
    assert_eq!(read[0]["topic"], "orders-1");
    let subscribed = || consumer.ask("GET", "/subscription", "").text();
    assert_eq!(subscribed(), r#"{"topics":["orders-1"]}"#);
    wire.create_topic("orders-2", 1);
    wire.append("orders-2", 0, &numbers(2, 3));
    assert_eq!(consumer.values("?timeout=50000"), [2]);
    assert_eq!(subscribed(), r#"{"topics":["orders-1","orders-2"]}"#);
}

#[test]
fn an_instance_is_there_again_after_the_broker_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [QUICK, "--cores", "2"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 2);
    for name in ["a", "b"] {
        let consumer = Consumer::create(&broker, "g", name, json!({}));
        consumer.subscribe("t");
        consumer.values("?timeout=0");
    }
    let assigned = |consumer: &Consumer<'_>| {
        let told = consumer.ask("GET", "/assignments", "").json();
        told["partitions"].as_array().unwrap().len()
    };
    let both = |broker: &Broker| {
        ["a", "b"]
            .iter()
            .all(|name| assigned(&Consumer::of(broker, "g", name)) == 1)
    };
    eventually("each has one", || both(&broker));
    for partition in 0..2 {
        wire.append("t", partition, &numbers(0, 2));
    }
    for name in ["a", "b"] {
        let consumer = Consumer::of(&broker, "g", name);
        assert_eq!(consumer.values("?timeout=20000"), [0, 1]);
        consumer.done("POST", "/offsets", "");
    }
    broker.kill_9();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    eventually("each has one again", || both(&broker));
    for partition in 0..2 {
        wire.append("t", partition, &numbers(2, 3));
    }
    for name in ["a", "b"] {
        let consumer = Consumer::of(&broker, "g", name);
        assert_eq!(consumer.values("?timeout=20000"), [2], "its format too");
        assert_eq!(
            consumer.ask("GET", "/subscription", "").text(),
            r#"{"topics":["t"]}"#
        );
    }
}

#[test]
fn there_are_so_many_instances_and_no_more() {
    let (_dir, broker, _) = broker_with(&["--cores", "2"]);
    // Those of a group live on one of two shards, which has half of the places.
    for number in 0..500 {
        let reply = post(
            &broker,
            "/consumers/g",
            &json!({ "name": number.to_string() }).to_string(),
        );
        assert_eq!(reply.status, 200, "{number}: {}", reply.text());
    }
    assert_eq!(code(&post(&broker, "/consumers/g", "{}")), (429, 42901));
    Consumer::of(&broker, "g", "7").done("DELETE", "", "");
    assert_eq!(post(&broker, "/consumers/g", "{}").status, 200);
}

#[test]
fn what_an_instance_cannot_be_or_do_is_refused() {
    let (_dir, broker, mut wire) = broker_with(&[QUICK]);
    wire.create_topic("t", 1);
    let create = |new: &str| code(&post(&broker, "/consumers/g", new));
    for (wrong, expected) in [
        ("{", (400, 400)),
        ("[]", (422, 422)),
        (r#"{"format":"wat"}"#, (422, 42204)),
        (r#"{"format":"avro"}"#, (422, 42206)),
        (r#"{"auto.offset.reset":"wat"}"#, (422, 42204)),
        (r#"{"auto.commit.enable":"wat"}"#, (422, 42204)),
        (r#"{"fetch.min.bytes":"wat"}"#, (422, 42204)),
        (r#"{"name":""}"#, (422, 42204)),
    ] {
        assert_eq!(create(wrong), expected, "{wrong}");
    }
    let settings = json!({
        "id": "c", "name": "ignored", "auto.commit.enable": true, "fetch.min.bytes": "-1",
        "consumer.request.timeout.ms": "100",
    });
    let reply = post(&broker, "/consumers/g", &settings.to_string());
    assert_eq!(reply.json()["instance_id"], "c");
    assert_eq!(create(r#"{"name":"c"}"#), (409, 40902));
    let unnamed = post(&broker, "/consumers/g", "").json();
    assert!(
        unnamed["instance_id"]
            .as_str()
            .unwrap()
            .starts_with("rest-consumer-")
    );

    let consumer = Consumer::of(&broker, "g", "c");
    for path in [
        "/subscription",
        "/assignments",
        "/positions",
        "/positions/end",
        "/positions/beginning",
    ] {
        assert_eq!(code(&consumer.ask("POST", path, "{")), (400, 400), "{path}");
        assert_eq!(
            code(&consumer.ask("POST", path, "[[]")),
            (400, 400),
            "{path}"
        );
    }
    assert_eq!(code(&consumer.ask("POST", "/offsets", "{")), (400, 400));
    assert_eq!(code(&consumer.ask("GET", "/offsets", "{")), (400, 400));
    for wrong in ["{}", r#"{"topics":[]}"#, r#"{"topic_pattern":"("}"#] {
        assert_eq!(
            code(&consumer.ask("POST", "/subscription", wrong)),
            (422, 422),
            "{wrong}"
        );
    }
    let both = r#"{"topics":["t"],"topic_pattern":"t"}"#;
    assert_eq!(
        code(&consumer.ask("POST", "/subscription", both)),
        (409, 40903)
    );
    let bad = r#"{"topics":["a b"]}"#;
    assert_eq!(
        code(&consumer.ask("POST", "/subscription", bad)),
        (400, 40002)
    );
    let unknown = r#"{"partitions":[{"topic":"t","partition":9}]}"#;
    assert_eq!(
        code(&consumer.ask("POST", "/assignments", unknown)),
        (404, 40403)
    );
    assert_eq!(
        code(&consumer.ask("GET", "/offsets", unknown)),
        (404, 40403)
    );
    consumer.subscribe("t");
    assert_eq!(code(&consumer.records_as(JSON, "")), (406, 40601));
    assert_eq!(consumer.records_as(BINARY, "?timeout=0").status, 200);
    assert_eq!(consumer.records_as("*/*", "?timeout=0").status, 200);
    assert_eq!(code(&consumer.records_as("image/png", "")), (406, 406));
    let path = format!("{}/records", consumer.path);
    let page = [("Origin", "http://evil.example")];
    let reply = http_exchange(broker.http, "GET", &path, &page, b"");
    assert_eq!(code(&reply), (403, 403), "a page may not take records away");
    let avro = "application/vnd.kafka.avro.v2+json";
    assert_eq!(code(&consumer.records_as(avro, "")), (422, 42206));
    assert_eq!(code(&consumer.records_as(BINARY, "?timeout=x")), (400, 400));
    let time = r#"{"timestamps":[{"topic":"t","partition":0,"timestamp":"soon"}]}"#;
    assert_eq!(code(&consumer.ask("POST", "/positions", time)), (422, 422));

    let none = Consumer::of(&broker, "g", "none");
    for (method, path, body) in [
        ("DELETE", "", ""),
        ("POST", "/subscription", r#"{"topics":["t"]}"#),
        ("GET", "/subscription", ""),
        ("DELETE", "/subscription", ""),
        ("POST", "/assignments", r#"{"partitions":[]}"#),
        ("GET", "/assignments", ""),
        ("GET", "/records", ""),
        ("POST", "/offsets", ""),
        ("GET", "/offsets", ""),
        ("POST", "/positions", "{}"),
        ("POST", "/positions/beginning", "{}"),
        ("POST", "/positions/end", "{}"),
    ] {
        assert_eq!(
            code(&none.ask(method, path, body)),
            (404, 40403),
            "{method} {path}"
        );
    }
}
