//! CloudEvents, as the HTTP and the Kafka protocol bindings have them.

use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use serde_json::{Value, json};

fn post(broker: &Broker, headers: &[(&str, &str)], body: &[u8]) -> HttpReply {
    http_exchange(broker.http, "POST", "/t/e", headers, body)
}

fn read(broker: &Broker, offset: i64) -> Value {
    let path = format!("/t/e?from={offset}&partition=0&max=1");
    let kind = [("Accept", "application/json")];
    http_exchange(broker.http, "GET", &path, &kind, b"").json()[0].clone()
}

const BINARY: &[(&str, &str)] = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "7"),
    ("ce-source", "/shop"),
    ("ce-type", "order"),
    ("ce-subject", "caf%C3%A9"),
    ("ce-partitionkey", "ann"),
    ("Content-Type", "application/json"),
];

#[test]
fn events_of_every_mode_are_records_as_kafkas_binding_has_them() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("e", 1);
    assert_eq!(post(&broker, BINARY, b"{\"total\":7}").json()["offset"], 0);
    let record = read(&broker, 0);
    assert_eq!(
        (&record["key"], &record["value"]),
        (&json!("ann"), &json!("{\"total\":7}"))
    );
    let expected = json!({
        "ce_specversion": "1.0", "ce_id": "7", "ce_source": "/shop", "ce_type": "order",
        "ce_subject": "caf\u{e9}", "ce_partitionkey": "ann", "content-type": "application/json",
    });
    assert_eq!(record["headers"], expected);

    let event = json!({"specversion": "1.0", "id": "8", "source": "/shop", "type": "order", "data": {"a": 1}, "partitionkey": "bob"});
    let structured = [(
        "Content-Type",
        "application/cloudevents+json; charset=utf-8",
    )];
    assert_eq!(
        post(&broker, &structured, event.to_string().as_bytes()).json()["offset"],
        1
    );
    let record = read(&broker, 1);
    assert_eq!(record["key"], "bob");
    assert_eq!(record["value"], event.to_string());
    assert_eq!(
        record["headers"]["content-type"],
        "application/cloudevents+json; charset=UTF-8"
    );
    assert_eq!(record["headers"]["ce_id"], "8");

    let batch = [("Content-Type", "application/cloudevents-batch+json")];
    let wrong = json!({"specversion": "1.0", "id": "9"});
    let all = json!([event, wrong, event]);
    let reply = post(&broker, &batch, all.to_string().as_bytes());
    assert_eq!(reply.status, 207, "{}", reply.text());
    let each = reply.json();
    assert_eq!(
        (&each[0]["offset"], &each[2]["offset"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(each[1]["type"], "urn:millstream:problem:no-cloud-event");
    assert_eq!(read(&broker, 3)["value"], event.to_string());

    let refused = |headers: &[(&str, &str)], body: &[u8]| {
        let reply = post(&broker, headers, body);
        (
            reply.status,
            reply.json()["type"]
                .as_str()
                .unwrap()
                .replace("urn:millstream:problem:", ""),
        )
    };
    let no_event = (400, "no-cloud-event".to_owned());
    assert_eq!(refused(&BINARY[..3], b"x"), no_event, "without a type");
    let mut other = BINARY.to_vec();
    other[0] = ("ce-specversion", "0.3");
    assert_eq!(refused(&other, b"x"), no_event);
    for body in [
        "",
        "7",
        "{}",
        "[]",
        "{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"s\",\"type\":\"t\"}",
    ] {
        assert_eq!(refused(&structured, body.as_bytes()), no_event, "{body}");
    }
    assert_eq!(refused(&batch, b"{}"), no_event);
    assert_eq!(refused(&batch, b"[]").0, 400);
    let avro = [("Content-Type", "application/cloudevents+avro")];
    assert_eq!(refused(&avro, b"x"), (415, "unsupported-media-type".into()));
    let split = http_exchange(broker.http, "POST", "/t/e?split=lines", &structured, b"x");
    assert_eq!(split.status, 400);
}
