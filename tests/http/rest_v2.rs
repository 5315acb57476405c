//! What clients of a REST proxy's version 2 send, and what they parse: byte by byte.

use crate::support::group::{commit, commit_error};
use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use serde_json::{Value, json};

const BINARY: &str = "application/vnd.kafka.binary.v2+json";
const JSON: &str = "application/vnd.kafka.json.v2+json";
const V2: &str = "application/vnd.kafka.v2+json";

fn get(broker: &Broker, path: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[], b"")
}

fn get_as(broker: &Broker, kind: &str, path: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[("Accept", kind)], b"")
}

fn post(broker: &Broker, kind: &str, path: &str, body: &str) -> HttpReply {
    let headers = [("Content-Type", kind)];
    http_exchange(broker.http, "POST", path, &headers, body.as_bytes())
}

/// Status and body.
fn told(reply: &HttpReply) -> (u16, String) {
    (reply.status, reply.text())
}

/// Status and code of a refusal.
pub fn code(reply: &HttpReply) -> (u16, u64) {
    let body = reply.json();
    assert!(body["message"].is_string(), "{body}");
    (reply.status, body["error_code"].as_u64().unwrap())
}

#[test]
fn records_are_stored_and_read_as_the_proxies_tell_them() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("orders", 2);
    let body = r#"{"records":[{"key":"ann","value":{"a": 1},"partition":0}]}"#;
    let reply = post(&broker, JSON, "/topics/orders", body);
    let one = r#"{"offsets":[{"partition":0,"offset":0,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}"#;
    assert_eq!(told(&reply), (200, one.to_owned()));
    assert_eq!(reply.header("content-type"), V2);
    let body = r#"{"records":[{"key":"YW5u","value":"dGVh","partition":0},{"value":"eA==","partition":1}]}"#;
    let reply = post(&broker, BINARY, "/topics/orders", body);
    let two = r#"{"offsets":[{"partition":0,"offset":1,"error_code":null,"error":null},{"partition":1,"offset":0,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}"#;
    assert_eq!(told(&reply), (200, two.to_owned()));

    let path = "/topics/orders/partitions/0/records?offset=0&timeout=1000&max_bytes=100000";
    let reply = get_as(&broker, BINARY, path);
    let binary = r#"[{"topic":"orders","key":"ImFubiI=","value":"eyJhIjoxfQ==","partition":0,"offset":0},{"topic":"orders","key":"YW5u","value":"dGVh","partition":0,"offset":1}]"#;
    assert_eq!(told(&reply), (200, binary.to_owned()));
    assert_eq!(reply.header("content-type"), BINARY);
    assert_eq!(get(&broker, path).text(), binary, "binary unless said");
    let reply = get_as(&broker, JSON, path);
    // What is no JSON comes as a text.
    let json = r#"[{"topic":"orders","key":"ann","value":{"a":1},"partition":0,"offset":0},{"topic":"orders","key":"ann","value":"tea","partition":0,"offset":1}]"#;
    assert_eq!(told(&reply), (200, json.to_owned()));
    let path = "/topics/orders/partitions/0/records?offset=0&max_bytes=1";
    let reply = get(&broker, path).json();
    assert_eq!(reply.as_array().unwrap().len(), 1);
}

#[test]
fn headers_and_timestamps_are_stored_and_told_when_asked_for() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let body = r#"{"records":[{"value":"tea","timestamp":1700000000000,"headers":[{"key":"h","value":"eA=="},{"key":"n","value":null}]},{"value":null,"key":"k"}]}"#;
    let text = "application/vnd.kafka.text.v2+json";
    assert_eq!(post(&broker, text, "/topics/t", body).status, 200);
    let path = "/topics/t/partitions/0/records?include=headers,timestamp";
    let records = get_as(&broker, text, path).json();
    let first = json!({
        "topic": "t", "key": null, "value": "tea", "partition": 0, "offset": 0,
        "timestamp": 1_700_000_000_000i64,
        "headers": [{"key": "h", "value": "x"}, {"key": "n", "value": null}],
    });
    assert_eq!(records[0], first);
    assert_eq!(
        (&records[1]["key"], &records[1]["value"]),
        (&json!("k"), &Value::Null)
    );
}

#[test]
fn topics_partitions_and_brokers_are_told() {
    let (_dir, broker, mut wire) = broker_with(&["--node-id", "7"]);
    wire.create_topic("b", 1);
    wire.create_topic("a", 2);
    let reply = get(&broker, "/topics");
    assert_eq!(told(&reply), (200, r#"["a","b"]"#.to_owned()));
    assert_eq!(reply.header("content-type"), V2);
    for kind in ["application/json", "application/vnd.kafka+json"] {
        let reply = get_as(&broker, kind, "/topics");
        assert_eq!(reply.header("content-type"), kind);
        let reply = get_as(&broker, kind, "/topics/none");
        assert_eq!(reply.header("content-type"), kind);
    }
    let partition = |index| {
        format!(
            r#"{{"partition":{index},"leader":7,"replicas":[{{"broker":7,"leader":true,"in_sync":true}}]}}"#
        )
    };
    let reply = get(&broker, "/topics/a/partitions");
    assert_eq!(
        told(&reply),
        (200, format!("[{},{}]", partition(0), partition(1)))
    );
    let reply = get(&broker, "/topics/a/partitions/1");
    assert_eq!(told(&reply), (200, partition(1)));
    let topic = get(&broker, "/topics/a").json();
    assert_eq!(topic["name"], "a");
    assert_eq!(topic["configs"]["cleanup.policy"], "delete");
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(get(&broker, "/brokers").text(), r#"{"brokers":[7]}"#);
    wire.append("a", 0, &crate::support::batch::Batch::of(["x", "y"]));
    let reply = get(&broker, "/topics/a/partitions/0/offsets");
    assert_eq!(reply.text(), r#"{"beginning_offset":0,"end_offset":2}"#);

    let new = r#"{"topic_name":"new","partitions_count":3,"replication_factor":1}"#;
    let reply = post(&broker, V2, "/admin/topics", new);
    assert_eq!(told(&reply), (201, String::new()));
    let partitions = get(&broker, "/topics/new/partitions").json();
    assert_eq!(partitions.as_array().unwrap().len(), 3);
    assert_eq!(code(&post(&broker, V2, "/admin/topics", new)), (400, 40002));
    let replicated = r#"{"topic_name":"r","replication_factor":3}"#;
    assert_eq!(
        code(&post(&broker, V2, "/admin/topics", replicated)),
        (400, 40002)
    );
    assert_eq!(code(&post(&broker, V2, "/admin/topics", "{}")), (422, 422));
    assert_eq!(code(&post(&broker, V2, "/admin/topics", "{")), (400, 400));
}

#[test]
fn refusals_have_the_codes_and_the_texts_that_clients_know() {
    let (_dir, broker, mut wire) = broker_with(&["--auto-create-topics=false"]);
    wire.create_topic("t", 1);
    let unknown_topic = r#"{"error_code":40401,"message":"Topic not found."}"#;
    let unknown_partition = r#"{"error_code":40402,"message":"Partition not found."}"#;
    let one = r#"{"records":[{"value":"dGVh"}]}"#;
    for path in [
        "/topics/none",
        "/topics/none/partitions",
        "/topics/none/partitions/0",
        "/topics/none/partitions/0/offsets",
        "/topics/none/partitions/0/records",
    ] {
        assert_eq!(told(&get(&broker, path)), (404, unknown_topic.to_owned()));
    }
    for path in ["/topics/none", "/topics/none/partitions/0"] {
        let reply = post(&broker, BINARY, path, one);
        assert_eq!(told(&reply), (404, unknown_topic.to_owned()));
    }
    for path in [
        "/topics/t/partitions/1",
        "/topics/t/partitions/x",
        "/topics/t/partitions/-1/offsets",
        "/topics/t/partitions/1/records",
    ] {
        let reply = get(&broker, path);
        assert_eq!(told(&reply), (404, unknown_partition.to_owned()), "{path}");
    }
    let reply = post(&broker, BINARY, "/topics/t/partitions/1", one);
    assert_eq!(told(&reply), (404, unknown_partition.to_owned()));

    let registry = r#"{"error_code":42206,"message":"Payload error. Schema Registry must be configured when using schemas."}"#;
    for format in ["avro", "jsonschema", "protobuf"] {
        let kind = format!("application/vnd.kafka.{format}.v2+json");
        let reply = post(&broker, &kind, "/topics/t", "{}");
        assert_eq!(told(&reply), (422, registry.to_owned()));
        let reply = get_as(&broker, &kind, "/topics/t/partitions/0/records");
        assert_eq!(told(&reply), (422, registry.to_owned()));
    }
    let produce = |kind: &str, body: &str| code(&post(&broker, kind, "/topics/t", body));
    assert_eq!(produce("text/plain", one), (415, 415));
    assert_eq!(produce(BINARY, "{\"records\":"), (400, 400));
    assert_eq!(produce(BINARY, ""), (400, 400));
    for wrong in [
        "{}",
        "[]",
        "{\"records\":[]}",
        "{\"records\":7}",
        "{\"records\":[7]}",
    ] {
        assert_eq!(produce(BINARY, wrong), (422, 422), "{wrong}");
    }
    for value in ["\"*\"", "7", "{}"] {
        let body = format!("{{\"records\":[{{\"value\":{value}}}]}}");
        assert_eq!(produce(BINARY, &body), (422, 42207), "{value}");
    }
    let read = |path: &str| code(&get(&broker, path));
    assert_eq!(
        read("/topics/t/partitions/0/records?offset=9"),
        (400, 40002)
    );
    assert_eq!(read("/topics/t/partitions/0/records?offset=x"), (400, 400));
    assert_eq!(read("/topics/t/partitions/0/records?include=x"), (400, 400));
    let reply = get_as(&broker, "image/png", "/topics/t/partitions/0/records");
    assert_eq!(code(&reply), (406, 406));
    // What the router refuses has the same form.
    assert_eq!(read("/topics/t/wat"), (404, 404));
    let reply = http_exchange(broker.http, "DELETE", "/topics/t", &[], b"");
    assert_eq!(code(&reply), (405, 405));
    assert_eq!(reply.header("allow"), "GET, POST, HEAD");
    let evil = [("Host", "evil.example")];
    let reply = http_exchange(broker.http, "GET", "/topics", &evil, b"");
    assert_eq!(code(&reply), (421, 421));
    let other = [("Origin", "http://evil.example")];
    let reply = http_exchange(broker.http, "POST", "/topics/t", &other, one.as_bytes());
    assert_eq!(code(&reply), (403, 403));
    assert_eq!(
        get(&broker, "/wat").header("content-type"),
        "application/problem+json"
    );
}

#[test]
fn a_record_that_fails_is_told_beside_those_that_are_stored() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let large = "A".repeat(2 << 20);
    let body = format!(
        r#"{{"records":[{{"value":"{large}"}},{{"value":"dGVh"}},{{"value":"dGVh","partition":9}}]}}"#
    );
    let reply = post(&broker, BINARY, "/topics/t", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = reply.json();
    let each = told["offsets"].as_array().unwrap().iter();
    let codes: Vec<&Value> = each.map(|one| &one["error_code"]).collect();
    assert_eq!(codes, [&json!(50002), &Value::Null, &json!(50002)]);
    let body = format!(r#"{{"records":[{{"value":"{large}"}}]}}"#);
    assert_eq!(code(&post(&broker, BINARY, "/topics/t", &body)), (413, 413));
    assert_eq!(commit_error(&wire.call(&commit("g", "t", &[(0, 0)]), 7)), 0);
    let reply = post(
        &broker,
        BINARY,
        "/topics/__consumer_offsets",
        r#"{"records":[{"value":"dGVh"}]}"#,
    );
    assert_eq!(code(&reply), (400, 40002));
}

#[test]
fn a_read_waits_for_a_record_and_a_large_body_is_taken_whole() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("t", 1);
    std::thread::scope(|scope| {
        let path = "/topics/t/partitions/0/records?timeout=50000";
        let waits = scope.spawn(|| get_as(&broker, JSON, path));
        crate::support::eventually("it waits", || {
            broker.metric("millstream_parked_fetches", "") == 1.0
        });
        let records: Vec<Value> = (0..30_000).map(|n| json!({ "value": n })).collect();
        let body = json!({ "records": records }).to_string();
        let reply = post(&broker, JSON, "/topics/t", &body);
        assert_eq!(reply.status, 200);
        let offsets = reply.json();
        assert_eq!(offsets["offsets"][29_999]["offset"], 29_999);
        assert_eq!(waits.join().unwrap().json()[0]["value"], 0);
    });
    let reply = get(
        &broker,
        "/topics/t/partitions/0/records?offset=30000&timeout=0",
    );
    assert_eq!(told(&reply), (200, "[]".to_owned()));
}
