//! The formats that have schemas, with a registry in this process.

use super::rest_v2::code;
use crate::support::registry::{Mood, Registry};
use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const V2: &str = "application/vnd.kafka.v2+json";
const BINARY: &str = "application/vnd.kafka.binary.v2+json";
const QUICK: &str = "--group-initial-rebalance-delay-ms=0";

const USER: &str = r#"{"type":"record","name":"shop.User","fields":[{"name":"name","type":"string"},{"name":"age","type":["null","int"]}]}"#;
const ORDER: &str =
    r#"{"title":"Order","type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#;
const NOTE: &str =
    r#"syntax = "proto3"; package shop; message Note { string text = 1; int64 n = 2; }"#;

/// A format's name, a schema in it, a value, and the same as it comes back.
const FORMATS: [(&str, &str, &str, &str); 3] = [
    (
        "avro",
        USER,
        r#"{"age":{"int":7},"name":"Ann"}"#,
        r#"{"name":"Ann","age":{"int":7}}"#,
    ),
    (
        "jsonschema",
        ORDER,
        r#"{"a": 1, "b": []}"#,
        r#"{"a":1,"b":[]}"#,
    ),
    (
        "protobuf",
        NOTE,
        r#"{"text":"hi"}"#,
        r#"{"text":"hi","n":"0"}"#,
    ),
];

fn kind(format: &str) -> String {
    format!("application/vnd.kafka.{format}.v2+json")
}

fn post(broker: &Broker, kind: &str, path: &str, body: &str) -> HttpReply {
    let headers = [("Content-Type", kind)];
    http_exchange(broker.http, "POST", path, &headers, body.as_bytes())
}

fn get_as(broker: &Broker, kind: &str, path: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[("Accept", kind)], b"")
}

fn body_of(value: &str, more: Value) -> String {
    let value: Value = serde_json::from_str(value).unwrap();
    let mut body = json!({ "records": [{ "value": value }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// Creates an instance that begins at the earliest record of a topic.
fn consumer(broker: &Broker, format: &str, topic: &str) -> String {
    let new = json!({ "name": "c", "format": format, "auto.offset.reset": "earliest" });
    let path = format!("/consumers/of-{topic}");
    let reply = post(broker, V2, &path, &new.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let path = format!("{path}/instances/c");
    let topics = json!({ "topics": [topic] }).to_string();
    let reply = post(broker, V2, &format!("{path}/subscription"), &topics);
    assert_eq!(reply.status, 204, "{}", reply.text());
    path
}

#[test]
fn each_format_is_stored_with_the_id_of_its_schema_and_read_back() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag(), QUICK]);
    for (id, (format, schema, sent, told)) in (1..).zip(FORMATS) {
        let (kind, topic) = (kind(format), format!("t-{format}"));
        let path = format!("/topics/{topic}");
        let body = body_of(sent, json!({ "value_schema": schema }));
        let reply = post(&broker, &kind, &path, &body);
        let expected = format!(
            r#"{{"offsets":[{{"partition":0,"offset":0,"error_code":null,"error":null}}],"key_schema_id":null,"value_schema_id":{id}}}"#
        );
        assert_eq!((reply.status, reply.text()), (200, expected));
        let body = body_of(sent, json!({ "value_schema_id": id }));
        assert_eq!(post(&broker, &kind, &path, &body).status, 200);

        let path = format!("{path}/partitions/0/records?offset=0");
        let expected = |offset| {
            format!(
                r#"{{"topic":"{topic}","key":null,"value":{told},"partition":0,"offset":{offset}}}"#
            )
        };
        let both = format!("[{},{}]", expected(0), expected(1));
        let reply = get_as(&broker, &kind, &path);
        assert_eq!((reply.status, reply.text()), (200, both.clone()));
        assert_eq!(reply.header("content-type"), kind);
        let raw = get_as(&broker, BINARY, &path).json();
        let raw = BASE64.decode(raw[0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(raw[..5], [0, 0, 0, 0, id as u8]);

        let instance = consumer(&broker, format, &topic);
        let reply = get_as(&broker, &kind, &format!("{instance}/records"));
        assert_eq!((reply.status, reply.text()), (200, both));
    }
    let asked = registry.asked();
    let versions = asked.iter().filter(|asked| asked.ends_with("/versions"));
    assert_eq!(versions.count(), 3, "each is registered once: {asked:?}");
}

#[test]
fn keys_have_schemas_of_their_own_and_nulls_need_none() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag()]);
    let body = json!({
        "key_schema": "\"string\"",
        "value_schema": "[\"null\",\"long\"]",
        "records": [{ "key": "k", "value": { "long": 7 } }, { "key": "k", "value": null }],
    });
    let reply = post(&broker, &kind("avro"), "/topics/t", &body.to_string());
    let told = reply.json();
    assert_eq!(
        (&told["key_schema_id"], &told["value_schema_id"]),
        (&json!(1), &json!(2))
    );
    let path = "/topics/t/partitions/0/records";
    let read = get_as(&broker, &kind("avro"), path).json();
    assert_eq!(
        (&read[0]["key"], &read[0]["value"]),
        (&json!("k"), &json!({ "long": 7 }))
    );
    assert_eq!(read[1]["value"], Value::Null);
    let subjects = ["POST /subjects/t-key", "POST /subjects/t-value"];
    let asked = registry.asked();
    assert!(subjects.iter().all(|path| asked.contains(&(*path).into())));
    let nulls = json!({ "records": [{ "key": null, "value": null }] }).to_string();
    assert_eq!(
        post(&broker, &kind("avro"), "/topics/t", &nulls).status,
        200
    );
}

#[test]
fn what_does_not_fit_has_the_codes_that_clients_know() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag(), "--frame-bytes-max=16MiB"]);
    let id = registry.register("t-value", &json!({ "schema": USER }));
    let elsewhere = registry.register("other-value", &json!({ "schema": "\"string\"" }));
    let produce =
        |format: &str, body: String| code(&post(&broker, &kind(format), "/topics/t", &body));
    let ann = r#"{"name":"Ann","age":null}"#;
    let key = json!({ "records": [{ "key": 1, "value": null }] });
    assert_eq!(produce("avro", key.to_string()), (422, 42201));
    assert_eq!(produce("avro", body_of(ann, json!({}))), (422, 42202));
    for wrong in ["{}", "7", r#"{"name":"Ann","age":7}"#] {
        let body = body_of(wrong, json!({ "value_schema_id": id }));
        assert_eq!(produce("avro", body), (422, 42203), "{wrong}");
    }
    let order = body_of("{}", json!({ "value_schema": ORDER }));
    assert_eq!(produce("jsonschema", order), (422, 42203));
    let note = body_of(r#"{"none":1}"#, json!({ "value_schema": NOTE }));
    assert_eq!(produce("protobuf", note), (422, 42203));
    for format in ["avro", "jsonschema", "protobuf"] {
        let body = body_of(ann, json!({ "value_schema": "{" }));
        assert_eq!(produce(format, body), (422, 42205), "{format}");
        let body = body_of(ann, json!({ "value_schema": " ".repeat(300_000) }));
        assert_eq!(produce(format, body), (422, 42205), "{format}");
    }
    let other = body_of(ann, json!({ "value_schema_id": id }));
    assert_eq!(produce("protobuf", other), (422, 42205), "of another kind");
    for unknown in [99, elsewhere] {
        let body = body_of(ann, json!({ "value_schema_id": unknown }));
        assert_eq!(produce("avro", body), (422, 42207), "{unknown}");
    }
    let two = json!({ "value_schema": USER, "value_schema_id": id });
    assert_eq!(produce("avro", body_of(ann, two)), (400, 400));
    assert_eq!(produce("avro", "{".to_owned()), (400, 400));
    let long = format!("\"{}\"", "x".repeat(3 << 20));
    let long = body_of(&long, json!({ "value_schema": "{}" }));
    assert_eq!(produce("jsonschema", long), (413, 413));
    let bad = json!({ "format": "none" }).to_string();
    assert_eq!(code(&post(&broker, V2, "/consumers/g", &bad)), (422, 42204));
}

#[test]
fn a_record_that_cannot_be_decoded_fails_the_read_and_is_not_passed_over() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag(), QUICK]);
    let produce = |kind: &str, body: String| {
        let reply = post(&broker, kind, "/topics/t", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let good = |name: &str| {
        let value = json!({ "name": name, "age": null }).to_string();
        produce(
            &kind("avro"),
            body_of(&value, json!({ "value_schema": USER })),
        );
    };
    good("first");
    produce(BINARY, body_of("\"dGVh\"", json!({})));
    good("last");
    let names = |reply: &HttpReply| {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let records = reply.json();
        let names = records.as_array().unwrap().iter();
        let names = names.map(|record| record["value"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    let read = |path: &str| get_as(&broker, &kind("avro"), path);
    let from = |offset: i64| read(&format!("/topics/t/partitions/0/records?offset={offset}"));
    assert_eq!(names(&from(0)), ["first"]);
    assert_eq!(code(&from(1)), (408, 40801));
    assert!(from(1).text().contains("offset 1 of partition 0"));
    assert_eq!(names(&from(2)), ["last"]);

    let instance = consumer(&broker, "avro", "t");
    let next = || read(&format!("{instance}/records"));
    assert_eq!(names(&next()), ["first"]);
    assert_eq!(code(&next()), (408, 40801));
    assert_eq!(code(&next()), (408, 40801), "it is not passed over");
    let on = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 2 }] }).to_string();
    let reply = post(&broker, V2, &format!("{instance}/positions"), &on);
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(names(&next()), ["last"]);

    // One of another kind, and one whose schema is gone.
    let order = body_of(r#"{"a":1}"#, json!({ "value_schema": ORDER }));
    produce(&kind("jsonschema"), order);
    assert_eq!(code(&from(3)), (408, 40801));
    produce(BINARY, body_of("\"AAAAAGMA\"", json!({})));
    assert_eq!(code(&from(4)), (408, 40801));
}

/// Records of a stream of version 3, and what is told of each.
fn stream(broker: &Broker, topic: &str, records: &[Value]) -> Vec<Value> {
    let clusters = http_exchange(broker.http, "GET", "/v3/clusters", &[], b"").json();
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap();
    let path = format!("/v3/clusters/{cluster}/topics/{topic}/records");
    let body: String = records.iter().map(Value::to_string).collect();
    let reply = post(broker, "application/json", &path, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn version_3_names_schemas_by_text_id_version_or_subject() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag()]);
    let ann = json!({ "name": "Ann", "age": null });
    let value = |more: Value| {
        let mut value = json!({ "data": ann });
        for (name, more) in more.as_object().unwrap() {
            value[name] = more.clone();
        }
        json!({ "value": value })
    };
    let told = stream(
        &broker,
        "t",
        &[
            value(json!({ "type": "AVRO", "schema": USER })),
            value(json!({ "schema_id": 1 })),
            value(json!({ "schema_version": 1 })),
            value(json!({})),
            value(json!({ "type": "AVRO", "schema": USER, "subject": "own" })),
            value(
                json!({ "type": "AVRO", "schema": USER, "subject_name_strategy": "RECORD_NAME" }),
            ),
            value(json!({ "schema_id": 1, "subject_name_strategy": "TOPIC_RECORD_NAME" })),
        ],
    );
    let expected = |subject: &str| json!({ "type": "AVRO", "subject": subject, "schema_id": 1, "schema_version": 1, "size": 10 });
    for (place, subject) in [
        "t-value",
        "t-value",
        "t-value",
        "t-value",
        "own",
        "shop.User",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(told[place]["error_code"], 200, "{}", told[place]);
        assert_eq!(told[place]["value"], expected(subject), "{place}");
    }
    assert_eq!(told[6]["error_code"], 422, "no such subject: {}", told[6]);
    let read = get_as(&broker, &kind("avro"), "/topics/t/partitions/0/records").json();
    assert_eq!(read.as_array().unwrap().len(), 6);
    assert_eq!(read[3]["value"], ann);

    let order = json!({ "value": { "type": "JSONSCHEMA", "schema": ORDER, "data": { "a": 1 } } });
    let note = json!({ "key": { "type": "PROTOBUF", "schema": NOTE, "data": { "text": "x" } } });
    let told = stream(&broker, "other", &[order, note]);
    assert_eq!(told[0]["value"]["type"], "JSONSCHEMA");
    assert_eq!(told[1]["key"]["type"], "PROTOBUF");
    assert_eq!(told[1]["key"]["subject"], "other-key");
}

#[test]
fn version_3_tells_of_each_record_what_is_wrong_with_it() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag()]);
    let value = |value: Value| json!({ "value": value });
    let told = stream(
        &broker,
        "t",
        &[
            value(json!({ "data": 1 })),
            value(json!({ "type": "AVRO", "data": 1 })),
            value(json!({ "type": "AVRO", "schema": "{", "data": 1 })),
            value(json!({ "type": "AVRO", "schema": "\"int\"", "data": "x" })),
            value(json!({ "schema": "\"int\"", "data": 1 })),
            value(json!({ "schema_id": 1, "schema_version": 1, "data": 1 })),
            value(json!({ "subject": "a", "subject_name_strategy": "TOPIC_NAME", "data": 1 })),
            value(json!({ "subject_name_strategy": "RECORD_NAME", "data": 1 })),
            value(json!({ "schema_id": 99, "data": 1 })),
            value(json!({ "type": "AVRO", "schema": "\"int\"", "data": 1 })),
        ],
    );
    let codes: Vec<u64> = told
        .iter()
        .map(|told| told["error_code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [422, 400, 422, 422, 400, 400, 400, 400, 422, 200]);
    for (place, code) in [(0, "42207"), (2, "42205"), (3, "42203"), (8, "42207")] {
        let message = told[place]["message"].as_str().unwrap();
        assert!(message.contains(code), "{message}");
    }
    let clusters = http_exchange(broker.http, "GET", "/v3/clusters", &[], b"").json();
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap();
    let path = format!("/v3/clusters/{cluster}/topics/t/records:batch");
    let batch = json!({ "entries": [
        { "id": "a", "value": { "data": 7 } },
        { "id": "b", "value": { "data": "x" } },
    ] });
    let reply = post(&broker, "application/json", &path, &batch.to_string());
    assert_eq!(reply.status, 207);
    let told = reply.json();
    assert_eq!(told["successes"][0]["id"], "a");
    assert_eq!(told["successes"][0]["value"]["schema_id"], 1);
    assert_eq!(told["failures"][0]["id"], "b");
}

#[test]
fn a_schema_may_refer_to_others_in_the_registry() {
    let registry = Registry::start();
    let (_dir, broker, _) = broker_with(&[&registry.flag()]);
    registry.register("user", &json!({ "schema": USER }));
    let reference = json!([{ "name": "shop.User", "subject": "user", "version": 1 }]);
    let list =
        json!({ "schema": r#"{"type":"array","items":"shop.User"}"#, "references": reference });
    let id = registry.register("t-value", &list);
    let users = r#"[{"name":"Ann","age":null}]"#;
    let body = body_of(users, json!({ "value_schema_id": id }));
    let reply = post(&broker, &kind("avro"), "/topics/t", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let read = get_as(&broker, &kind("avro"), "/topics/t/partitions/0/records").json();
    assert_eq!(read[0]["value"].to_string(), users);
    // Those that refer to one another never end.
    let endless = json!([{ "name": "again", "subject": "loop-value", "version": 1 }]);
    let endless = json!({ "schema": "\"string\"", "references": endless });
    let id = registry.register("loop-value", &endless);
    let body = body_of("\"x\"", json!({ "value_schema_id": id }));
    assert_eq!(
        code(&post(&broker, &kind("avro"), "/topics/loop", &body)).0,
        422
    );
}

#[test]
fn a_registry_that_never_answers_is_503_in_time_and_holds_up_nobody_else() {
    let registry = Registry::start();
    registry.be(Mood::Hangs);
    let flags = [
        &registry.flag(),
        "--schema-registry-timeout-ms=3s",
        "--cores",
        "1",
    ];
    let (_dir, broker, mut wire) = broker_with(&flags);
    wire.create_topic("t", 1);
    let body = body_of("1", json!({ "value_schema": "\"int\"" }));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            let reply = post(&broker, &kind("avro"), "/topics/t", &body);
            is_over.store(true, Ordering::SeqCst);
            (reply, began.elapsed())
        });
        while registry.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut served = 0;
        while served < 3 {
            let other = post(
                &broker,
                BINARY,
                "/topics/t",
                &body_of("\"eA==\"", json!({})),
            );
            assert_eq!(other.status, 200);
            served += 1;
        }
        assert!(!is_over.load(Ordering::SeqCst), "it still waits");
        let (reply, took) = waiting.join().unwrap();
        assert_eq!(code(&reply), (503, 503));
        assert_eq!(reply.header("retry-after"), "1");
        assert!(reply.text().contains("schema_registry_timeout_ms"));
        assert!(took >= Duration::from_millis(2_900), "{took:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
    registry.be(Mood::Well);
    crate::support::eventually("the registry is asked again", || {
        post(&broker, &kind("avro"), "/topics/t", &body).status == 200
    });
}

#[test]
fn a_registry_that_is_down_is_503_and_is_not_asked_for_each_request() {
    let registry = Registry::start();
    registry.be(Mood::Says(500));
    let (_dir, broker, mut wire) = broker_with(&[&registry.flag()]);
    wire.create_topic("t", 1);
    let body = body_of("1", json!({ "value_schema": "\"int\"" }));
    let began = Instant::now();
    for _ in 0..5 {
        let reply = post(&broker, &kind("avro"), "/topics/t", &body);
        assert_eq!(code(&reply), (503, 503));
    }
    let asked = registry.asked().len();
    let most = 1 + began.elapsed().as_secs() as usize;
    assert!(
        (1..=most).contains(&asked),
        "{asked} in {:?}",
        began.elapsed()
    );
    let line = "the schema registry fails";
    crate::support::eventually("a line of the log", || broker.log().contains(line));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!(
        "--schema-registry-url=http://{}",
        nobody.local_addr().unwrap()
    );
    drop(nobody);
    let (_dir, broker, _) = broker_with(&[&flag, "--schema-registry-timeout-ms=60s"]);
    let began = Instant::now();
    let reply = post(&broker, &kind("avro"), "/topics/t", &body);
    assert_eq!(code(&reply), (503, 503));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    let registry = Registry::start();
    registry.be(Mood::Talks);
    let (_dir, broker, _) = broker_with(&[&registry.flag()]);
    let body = body_of("1", json!({ "value_schema_id": 1 }));
    let reply = post(&broker, &kind("avro"), "/topics/t", &body);
    assert_eq!(code(&reply), (422, 42207), "{}", reply.text());
    assert!(reply.text().contains("more than"), "{}", reply.text());
}

#[test]
fn a_user_and_a_password_are_sent_and_shown_nowhere() {
    let registry = Registry::start();
    registry.ask_for(&format!("Basic {}", BASE64.encode("ann:s3cret")));
    let address = registry.address;
    let url = |user: &str| format!("--schema-registry-url=http://{user}@{address}");
    let (_dir, broker, _) = broker_with(&[&url("ann:s3cret"), "--log-level=trace"]);
    let body = body_of("1", json!({ "value_schema": "\"int\"" }));
    let reply = post(&broker, &kind("avro"), "/topics/t", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let shown = broker.run(&["topic", "describe", "t"], b"");
    for text in [broker.log(), String::from_utf8_lossy(&shown.stdout).into()] {
        assert!(!text.contains("s3cret") && !text.contains(&BASE64.encode("ann:s3cret")));
    }
    let (_dir, broker, _) = broker_with(&[&url("ann:wr0ng")]);
    let reply = post(&broker, &kind("avro"), "/topics/t", &body);
    assert_eq!(code(&reply), (422, 42207));
    assert!(reply.text().contains("schema_registry_url"));
    assert!(!reply.text().contains("wr0ng") && !broker.log().contains("wr0ng"));
}
