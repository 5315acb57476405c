//! Records that are stored once by their message id, and only if nothing has changed.

use crate::support::wire::Wire;
use crate::support::{Broker, HttpReply, broker_with, eventually, http_exchange};
use millstream::log::batch::build::{BatchBuilder, RecordRef};
use millstream::log::batch::{BatchHeader, Codec};
use millstream::log::records::Records;
use serde_json::{Value, json};

fn put(broker: &Broker, topic: &str, configs: Value) {
    let body = json!({ "partitions": 1, "configs": configs }).to_string();
    let path = format!("/api/topics/{topic}");
    let reply = http_exchange(broker.http, "PUT", &path, &[], body.as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn post(broker: &Broker, path: &str, headers: &[(&str, &str)], body: &str) -> HttpReply {
    http_exchange(broker.http, "POST", path, headers, body.as_bytes())
}

/// Offset, and whether it was there before.
fn stored(reply: &HttpReply) -> (i64, bool) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let one = reply.json();
    (
        one["offset"].as_i64().unwrap(),
        one["duplicate"].as_bool().unwrap(),
    )
}

fn kind(reply: &HttpReply) -> (u16, String) {
    let kind = reply.json()["type"].as_str().unwrap().to_owned();
    (reply.status, kind.replace("urn:millstream:problem:", ""))
}

/// A batch of records with these ids, as a Kafka client sends it.
fn batch(producer: Option<(i64, i32)>, codec: Codec, ids: &[&str]) -> Vec<u8> {
    let headers: Vec<_> = ids
        .iter()
        .map(|id| [(&b"Idempotency-Key"[..], Some(id.as_bytes()))])
        .collect();
    let records: Vec<_> = ids
        .iter()
        .zip(&headers)
        .map(|(id, headers)| RecordRef {
            timestamp_ms: 1_700_000_000_000,
            key: None,
            value: Some(id.as_bytes()),
            headers: if id.is_empty() { &[] } else { &headers[..] },
        })
        .collect();
    let (producer_id, base_sequence) = producer.unwrap_or((-1, -1));
    let builder = BatchBuilder {
        base_timestamp: 1_700_000_000_000,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        base_sequence,
    };
    builder.encode(codec, &records).unwrap()
}

fn values(wire: &mut Wire, topic: &str) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for batch in wire.read_from(topic, 0, 0) {
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        let records = Records::unpack(header, &batch.bytes, 1 << 20).unwrap();
        for record in records.iter() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            all.push((record.offset, value));
        }
    }
    all
}

fn at(offset: i64, value: &str) -> (i64, String) {
    (offset, value.to_owned())
}

#[test]
fn a_record_is_stored_once_by_its_message_id_over_kill_9_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    put(&broker, "t", json!({ "dedup.window.ms": "600000" }));
    let id = |id| [("Idempotency-Key", id)];
    assert_eq!(stored(&post(&broker, "/t/t", &id("a"), "one")), (0, false));
    assert_eq!(stored(&post(&broker, "/t/t", &id("b"), "two")), (1, false));
    assert_eq!(stored(&post(&broker, "/t/t", &id("a"), "one")), (0, true));
    assert_eq!(
        stored(&post(&broker, "/t/t", &[], "one")),
        (2, false),
        "it has no id"
    );
    let other = post(&broker, "/t/t", &id("a"), "another");
    assert_eq!(kind(&other), (422, "other-payload".into()));
    // The id is a header of the record, with the name that the topic gives it.
    let read = http_exchange(broker.http, "GET", "/t/t/0/0", &[], b"");
    assert_eq!(read.header("kafka-header-idempotency-key"), "a");
    broker.kill_9();

    let broker = Broker::start(dir.path());
    assert_eq!(stored(&post(&broker, "/t/t", &id("b"), "two")), (1, true));
    assert_eq!(
        stored(&post(&broker, "/t/t", &id("c"), "three")),
        (3, false)
    );
    // Each of many has its place in the body behind the id.
    let lines = post(&broker, "/t/t?split=lines", &id("many"), "x\ny\n").json();
    assert_eq!(
        (&lines[0]["offset"], &lines[1]["offset"]),
        (&json!(4), &json!(5))
    );
    let again = post(&broker, "/t/t?split=lines", &id("many"), "x\ny\nz\n").json();
    let seen = |place: usize| {
        (
            again[place]["offset"].clone(),
            again[place]["duplicate"].clone(),
        )
    };
    assert_eq!(seen(0), (json!(4), json!(true)));
    assert_eq!(seen(1), (json!(5), json!(true)));
    assert_eq!(again[2]["duplicate"], false);
    for (header, status) in [("", 400), (&*"x".repeat(1_025), 400)] {
        assert_eq!(post(&broker, "/t/t", &id(header), "v").status, status);
    }
}

#[test]
fn an_id_that_was_stored_again_after_its_window_counts_from_then_on_over_kill_9_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    put(&broker, "t", json!({ "dedup.window.ms": "1" }));
    let send = |broker: &Broker| stored(&post(broker, "/t/t", &[("Idempotency-Key", "a")], "v"));
    assert_eq!(send(&broker), (0, false));
    eventually("the window is over", || send(&broker) == (1, false));
    let longer = json!({ "configs": { "dedup.window.ms": "600000" } }).to_string();
    let path = "/api/topics/t";
    let altered = http_exchange(broker.http, "PATCH", path, &[], longer.as_bytes());
    assert_eq!(altered.status, 200);
    let newest = values(&mut Wire::connect(broker.kafka), "t").len() as i64 - 1;
    assert_eq!(send(&broker), (newest, true));
    broker.kill_9();
    let broker = Broker::start(dir.path());
    assert_eq!(send(&broker), (newest, true));
}

#[test]
fn kafka_clients_are_told_where_the_first_ones_are() {
    let (dir, broker, mut wire) = broker_with(&[]);
    put(&broker, "t", json!({ "dedup.window.ms": "600000" }));
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let prefix = codec.name();
        let names: Vec<String> = (0..5).map(|n| format!("{prefix}{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let next = wire.offset("t", 0, -1);
        let send = |wire: &mut Wire, ids: &[&str]| {
            let answer = wire.produce("t", 0, batch(None, codec, ids));
            assert_eq!(answer.error_code, 0);
            answer.base_offset
        };
        assert_eq!(send(&mut wire, &names[..2]), next);
        // All are there, in this order: the first one's offset, and nothing is stored.
        assert_eq!(send(&mut wire, &names[..2]), next);
        // All are there, in another order.
        assert_eq!(send(&mut wire, &[names[1], names[0]]), -1);
        assert_eq!(wire.offset("t", 0, -1), next + 2);
        // Some are: the others keep the offsets that they would have had.
        assert_eq!(
            send(&mut wire, &[names[0], names[2], names[1], names[3]]),
            -1
        );
        assert_eq!(wire.offset("t", 0, -1), next + 6);
        // Twice in one batch.
        assert_eq!(send(&mut wire, &[names[4], names[4]]), -1);
        let found = values(&mut wire, "t");
        let own: Vec<_> = found
            .into_iter()
            .filter(|(_, value)| value.starts_with(prefix))
            .collect();
        let expected = [(0, 0), (1, 1), (3, 2), (5, 3), (6, 4)];
        let expected = expected.map(|(offset, name)| at(next + offset, names[name]));
        assert_eq!(own, expected, "{prefix}");
    }
    // A producer's sequences advance over what is not stored.
    let id = wire.new_producer_id();
    let next = wire.offset("t", 0, -1);
    let send = |wire: &mut Wire, sequence, ids: &[&str]| {
        let answer = wire.produce("t", 0, batch(Some((id, sequence)), Codec::None, ids));
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(send(&mut wire, 0, &["p0", "p1"]), (0, next));
    assert_eq!(
        send(&mut wire, 2, &["p0", "p1"]),
        (0, next),
        "stored as a batch without records"
    );
    assert_eq!(
        send(&mut wire, 2, &["p0", "p1"]),
        (0, next),
        "sent again: where its records are, and not where the batch is"
    );
    assert_eq!(send(&mut wire, 4, &["p1", "p2"]), (0, -1));
    assert_eq!(send(&mut wire, 4, &["p1", "p2"]), (0, -1), "sent again");
    assert_eq!(send(&mut wire, 6, &["p3"]), (0, next + 6));
    assert_eq!(send(&mut wire, 9, &["p4"]).0, 45, "a gap");
    broker.kill_9();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(
        send(&mut wire, 6, &["p3"]),
        (0, next + 6),
        "the same sequence"
    );
    assert_eq!(send(&mut wire, 7, &["p0", "p1"]), (0, next));
    assert_eq!(send(&mut wire, 9, &["p4"]), (0, next + 9));
    let found = values(&mut wire, "t");
    let own: Vec<_> = found
        .into_iter()
        .filter(|(_, value)| value.starts_with('p'))
        .collect();
    let expected = [(0, "p0"), (1, "p1"), (5, "p2"), (6, "p3"), (9, "p4")];
    assert_eq!(
        own,
        expected.map(|(offset, value)| at(next + offset, value))
    );
}

#[test]
fn an_id_counts_within_its_window_and_under_the_name_that_the_topic_says() {
    let (_dir, broker, _) = broker_with(&[]);
    put(&broker, "short", json!({ "dedup.window.ms": "1" }));
    let id = [("Idempotency-Key", "a")];
    assert_eq!(stored(&post(&broker, "/t/short", &id, "v")), (0, false));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(stored(&post(&broker, "/t/short", &id, "v")), (1, false));
    put(
        &broker,
        "few",
        json!({ "dedup.window.ms": "600000", "dedup.max.ids": "2" }),
    );
    for (name, offset) in [("a", 0), ("b", 1), ("c", 2), ("a", 3)] {
        let reply = post(&broker, "/t/few", &[("Idempotency-Key", name)], "v");
        assert_eq!(stored(&reply), (offset, false), "{name}");
    }
    assert!(broker.metric("millstream_dedup_forgotten_total", "") >= 2.0);
    put(
        &broker,
        "nats",
        json!({ "dedup.window.ms": "600000", "dedup.header": "Nats-Msg-Id" }),
    );
    let named = [("Kafka-Header-Nats-Msg-Id", "x")];
    assert_eq!(stored(&post(&broker, "/t/nats", &named, "v")), (0, false));
    assert_eq!(stored(&post(&broker, "/t/nats", &named, "v")), (0, true));
    put(
        &broker,
        "events",
        json!({ "dedup.window.ms": "600000", "dedup.header": "ce_id" }),
    );
    let event = |source| {
        [
            ("Kafka-Header-ce_id", "1"),
            ("Kafka-Header-ce_source", source),
        ]
    };
    assert_eq!(
        stored(&post(&broker, "/t/events", &event("/a"), "v")),
        (0, false)
    );
    assert_eq!(
        stored(&post(&broker, "/t/events", &event("/b"), "v")),
        (1, false)
    );
    assert_eq!(
        stored(&post(&broker, "/t/events", &event("/a"), "v")),
        (0, true)
    );
    // Turned on later: what is in the log counts.
    put(&broker, "later", json!({}));
    assert_eq!(stored(&post(&broker, "/t/later", &id, "v")), (0, false));
    let alter = [
        "topic",
        "alter",
        "later",
        "--config",
        "dedup.window.ms=600000",
    ];
    assert!(broker.run(&alter, b"").status.success());
    assert_eq!(stored(&post(&broker, "/t/later", &id, "v")), (0, true));
}

#[test]
fn a_record_is_stored_only_if_nothing_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    put(&broker, "plain", json!({}));
    let if_match = |tag| [("If-Match", tag)];
    assert_eq!(
        stored(&post(&broker, "/t/plain", &[("If-None-Match", "*")], "a")),
        (0, false)
    );
    assert_eq!(
        stored(&post(&broker, "/t/plain", &if_match("\"p:1\""), "b")),
        (1, false)
    );
    let late = post(&broker, "/t/plain", &if_match("\"p:1\""), "b");
    assert_eq!(kind(&late), (412, "changed".into()));
    assert_eq!(
        (&late.json()["current"], &late.json()["kafka_error"]),
        (&json!(2), &json!(87))
    );
    assert_eq!(late.json()["no_side_effects"], true);
    let read = http_exchange(broker.http, "GET", "/t/plain", &[], b"");
    assert_eq!(read.header("etag"), "\"p:2\"");
    let keyless = post(&broker, "/t/plain?key=k", &if_match("\"k:-1\""), "c");
    assert_eq!(kind(&keyless), (422, "no-key-index".into()));
    for (path, tag) in [
        ("/t/plain", "\"k:0\""),
        ("/t/plain", "7"),
        ("/t/plain?split=lines", "\"p:2\""),
    ] {
        assert_eq!(
            kind(&post(&broker, path, &if_match(tag), "c")).0,
            400,
            "{path} {tag}"
        );
    }

    put(
        &broker,
        "keys",
        json!({ "cleanup.policy": "compact", "conditional.append": "true" }),
    );
    let path = "/t/keys?key=ann";
    assert_eq!(
        stored(&post(&broker, path, &[("If-None-Match", "*")], "1")),
        (0, false)
    );
    let taken = post(&broker, path, &if_match("\"k:-1\""), "2");
    assert_eq!((taken.status, &taken.json()["current"]), (412, &json!(0)));
    assert_eq!(
        stored(&post(&broker, path, &if_match("\"k:0\""), "2")),
        (1, false)
    );
    broker.kill_9();

    let broker = Broker::start(dir.path());
    let mut reply = post(&broker, path, &if_match("\"k:0\""), "3");
    eventually("the index is there after a start", || {
        let is_there = reply.status != 503;
        if !is_there {
            assert_eq!(kind(&reply), (503, "no-key-index".into()));
            assert_eq!(reply.header("retry-after"), "1");
            reply = post(&broker, path, &if_match("\"k:0\""), "3");
        }
        is_there
    });
    assert_eq!((reply.status, &reply.json()["current"]), (412, &json!(1)));
    // Record by record of one body: the others are stored.
    let body = concat!(
        r#"{"key":"bob","value":"1","headers":{"millstream-expected-key-offset":"-1"}}"#,
        "\n",
        r#"{"key":"ann","value":"3","headers":{"millstream-expected-key-offset":"0"}}"#,
        "\n",
        r#"{"key":"ann","value":"3","headers":{"millstream-expected-key-offset":"x"}}"#,
        "\n",
        r#"{"key":"bob","value":"2","headers":{"Millstream-Expected-Offset":"3"}}"#,
        "\n",
    );
    let kind = [("Content-Type", "application/x-ndjson")];
    let reply = post(&broker, "/t/keys", &kind, body);
    assert_eq!(reply.status, 207, "{}", reply.text());
    let each = reply.json();
    assert_eq!(
        (&each[0]["offset"], &each[3]["offset"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(
        (&each[1]["status"], &each[1]["current"]),
        (&json!(412), &json!(1))
    );
    assert_eq!(each[2]["status"], 422);
    // A key that was deleted has no record.
    let deleted = post(
        &broker,
        "/t/keys",
        &kind,
        "{\"key\":\"ann\",\"value\":null}\n",
    );
    assert_eq!(deleted.json()[0]["offset"], 4);
    assert_eq!(
        stored(&post(&broker, path, &if_match("\"k:-1\""), "4")),
        (5, false)
    );
}

#[test]
fn a_retry_of_a_conditional_append_that_succeeded_is_told_so() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    put(
        &broker,
        "t",
        json!({ "dedup.window.ms": "600000", "conditional.append": "true" }),
    );
    let headers = [("If-Match", "\"p:0\""), ("Idempotency-Key", "a")];
    assert_eq!(stored(&post(&broker, "/t/t", &headers, "v")), (0, false));
    assert_eq!(stored(&post(&broker, "/t/t", &headers, "v")), (0, true));
    // A Kafka client is told which record is to blame.
    let headers = [(&b"millstream-expected-offset"[..], Some(&b"0"[..]))];
    let record = RecordRef {
        timestamp_ms: 0,
        key: None,
        value: Some(b"w"),
        headers: &headers,
    };
    let batch = BatchBuilder::default()
        .encode(Codec::None, &[record])
        .unwrap();
    let refused = wire.produce("t", 0, batch);
    assert_eq!((refused.error_code, refused.record_errors.len()), (87, 1));
    let message = refused.record_errors[0]
        .batch_index_error_message
        .as_ref()
        .unwrap();
    assert_eq!(&**message, "expected offset 0, next is 1");
}

#[test]
fn the_newest_value_of_a_key_is_there_with_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    put(
        &broker,
        "t",
        json!({ "key.index": "true", "cleanup.policy": "compact" }),
    );
    let get = |broker: &Broker, key: &str, headers: &[(&str, &str)]| {
        let path = format!("/t/t/keys/{key}");
        http_exchange(broker.http, "GET", &path, headers, b"")
    };
    let mut versions = 0;
    for value in ["one", "two", "three"] {
        let sent = post(
            &broker,
            "/t/t?key=a%2Fb",
            &[("Kafka-Header-Content-Type", "text/x-cake")],
            value,
        );
        versions = stored(&sent).0;
        let reply = get(&broker, "a%2Fb", &[]);
        assert_eq!((reply.status, reply.text().as_str()), (200, value));
        assert_eq!(reply.header("etag"), format!("\"k:{versions}\""));
        assert_eq!(reply.header("content-type"), "text/x-cake");
    }
    let tag = format!("\"k:{versions}\"");
    assert_eq!(
        get(&broker, "a%2Fb", &[("If-None-Match", &tag)]).status,
        304
    );
    assert_eq!(
        get(&broker, "a%2Fb", &[("If-None-Match", "\"k:0\"")]).status,
        200
    );
    assert_eq!(
        kind(&get(&broker, "nobody", &[])),
        (404, "unknown-key".into())
    );
    assert_eq!(kind(&get(&broker, "nobody?partition=7", &[])).0, 404);
    put(&broker, "plain", json!({}));
    let plain = http_exchange(broker.http, "GET", "/t/plain/keys/a", &[], b"");
    assert_eq!(kind(&plain), (503, "no-key-index".into()));
    broker.kill_9();
    let broker = Broker::start(dir.path());
    eventually("the index is there after a start", || {
        let reply = get(&broker, "a%2Fb?max_age=1h", &[]);
        assert!(
            [200, 503].contains(&reply.status),
            "never a false `none`: {}",
            reply.status
        );
        reply.status == 200 && reply.text() == "three"
    });
}

#[test]
fn what_no_client_can_read_hides_no_ids_and_no_keys_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    put(&broker, "t", json!({}));
    // Sound by its checksum, and no gzip.
    let mut nonsense = batch(None, Codec::None, &["x"]);
    nonsense[22] |= 1;
    crate::support::batch::seal(&mut nonsense);
    assert_eq!(
        Wire::connect(broker.kafka)
            .produce("t", 0, nonsense)
            .error_code,
        0
    );
    let alter = [
        "topic",
        "alter",
        "t",
        "--config",
        "dedup.window.ms=600000",
        "--config",
        "key.index=true",
    ];
    assert!(broker.run(&alter, b"").status.success());
    let id = [("Idempotency-Key", "a")];
    assert_eq!(stored(&post(&broker, "/t/t?key=k", &id, "v")), (1, false));
    broker.kill_9();
    let broker = Broker::start(dir.path());
    assert_eq!(stored(&post(&broker, "/t/t?key=k", &id, "v")), (1, true));
    eventually("the keys are known", || {
        http_exchange(broker.http, "GET", "/t/t/keys/k", &[], b"").status == 200
    });
}

#[test]
fn a_retry_goes_where_the_first_one_went_and_many_are_told_of_at_once() {
    let (_dir, broker, _) = broker_with(&["--cores", "2"]);
    let body = json!({ "partitions": 8, "configs": { "dedup.window.ms": "600000" } });
    http_exchange(
        broker.http,
        "PUT",
        "/api/topics/t",
        &[],
        body.to_string().as_bytes(),
    );
    for id in ["a", "b", "c", "d"] {
        let id = [("Idempotency-Key", id)];
        let (offset, _) = stored(&post(&broker, "/t/t", &id, "v"));
        assert_eq!(stored(&post(&broker, "/t/t", &id, "v")), (offset, true));
    }
    // Each batch is read once for all of its records: one by one this would take minutes.
    let lines = "a line\n".repeat(20_000);
    let id = [("Idempotency-Key", "lines")];
    let first = post(&broker, "/t/t?split=lines", &id, &lines).json();
    let again = post(&broker, "/t/t?split=lines", &id, &lines).json();
    let (first, again) = (first.as_array().unwrap(), again.as_array().unwrap());
    assert_eq!((first.len(), again.len()), (20_000, 20_000));
    for (first, again) in first.iter().zip(again) {
        assert_eq!(first["duplicate"], false);
        assert_eq!(again["duplicate"], true);
        assert_eq!(
            (&first["partition"], &first["offset"]),
            (&again["partition"], &again["offset"])
        );
    }
}
