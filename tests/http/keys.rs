//! Caches: the newest record of each key as a list, and what changes after it.

use crate::support::{Broker, HttpReply, broker_with, eventually, http_exchange};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

fn send(broker: &Broker, key: &str, value: Option<&str>) {
    let body = json!({ "key": key, "value": value }).to_string();
    let kind = [("Content-Type", "application/x-ndjson")];
    let reply = http_exchange(broker.http, "POST", "/t/t", &kind, body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn get(broker: &Broker, path: &str, kind: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[("Accept", kind)], b"")
}

fn pairs(reply: &HttpReply) -> Vec<(String, String)> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let records = reply.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let each = records.as_array().unwrap().iter();
    let mut pairs: Vec<_> = each
        .map(|one| (text(&one["key"]), text(&one["value"])))
        .collect();
    pairs.sort();
    pairs
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn a_cache_is_filled_with_one_request_and_kept_with_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let configs =
        json!({"partitions": 2, "configs": {"key.index": "true", "cleanup.policy": "compact"}});
    http_exchange(
        broker.http,
        "PUT",
        "/api/topics/t",
        &[],
        configs.to_string().as_bytes(),
    );
    assert_eq!(get(&broker, "/t/t/keys", "*/*").text(), "");
    for (key, value) in [
        ("a/1", "1"),
        ("b", "1"),
        ("a/1", "2"),
        ("a/2", "1"),
        ("b", "2"),
    ] {
        send(&broker, key, Some(value));
    }
    send(&broker, "a/2", None);
    let all = [pair("a/1", "2"), pair("b", "2")];
    assert_eq!(pairs(&get(&broker, "/t/t/keys", "application/json")), all);
    assert_eq!(
        pairs(&get(&broker, "/t/t/keys?prefix=a", "application/json")),
        all[..1]
    );
    let mut text: Vec<String> = get(&broker, "/t/t/keys", "*/*")
        .text()
        .lines()
        .map(str::to_owned)
        .collect();
    text.sort();
    assert_eq!(text, ["a/1", "b"]);
    // A page at a time: each key once.
    let page = get(&broker, "/t/t/keys?max=1", "application/json");
    let next = format!("/t/t/keys?from={}", page.header("millstream-next"));
    let mut both = pairs(&page);
    both.extend(pairs(&get(&broker, &next, "application/json")));
    both.sort();
    assert_eq!(both, all);
    broker.kill_9();

    let broker = Broker::start(dir.path());
    eventually("the index is there after a start", || {
        get(&broker, "/t/t/keys", "*/*").status == 200
    });
    let mut stream = TcpStream::connect(broker.http).unwrap();
    let request =
        "GET /t/t/keys?follow HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(object) = line.strip_prefix('{') {
            let record: Value = serde_json::from_str(&format!("{{{object}")).unwrap();
            return (record["key"].clone(), record["value"].clone());
        }
    };
    // What was deleted is told too: a cache may have it.
    let mut snapshot = [next(), next(), next()];
    snapshot.sort_by_key(|(key, _)| key.to_string());
    let expected = [("a/1", json!("2")), ("a/2", json!(null)), ("b", json!("2"))];
    assert_eq!(snapshot, expected.map(|(key, value)| (json!(key), value)));
    send(&broker, "c", Some("3"));
    assert_eq!(next(), (json!("c"), json!("3")));
    send(&broker, "c", None);
    assert_eq!(next(), (json!("c"), json!(null)));
}

#[test]
fn topics_are_changed_shown_and_emptied() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let patch = |body: Value| {
        http_exchange(
            broker.http,
            "PATCH",
            "/api/topics/t",
            &[],
            body.to_string().as_bytes(),
        )
    };
    let changed =
        patch(json!({"partitions": 3, "configs": {"retention.ms": "5000", "segment.ms": "7"}}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(
        changed.json()["configs"],
        json!({"retention.ms": "5000", "segment.ms": "7"})
    );
    let back = patch(json!({"configs": {"segment.ms": null}}));
    assert_eq!(back.json()["configs"], json!({"retention.ms": "5000"}));
    let configs = get(&broker, "/api/topics/t/configs", "*/*").json();
    let of = |name: &str| {
        let configs = configs.as_array().unwrap();
        configs
            .iter()
            .find(|config| config["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        of("retention.ms"),
        json!({"name": "retention.ms", "value": "5000", "default": false})
    );
    assert_eq!(of("segment.ms")["default"], true);
    for (body, status) in [
        (json!({"partitions": 2}), 422),
        (json!({"configs": {"nobody.has.this": "1"}}), 422),
        (json!({"more": 1}), 400),
    ] {
        assert_eq!(patch(body.clone()).status, status, "{body}");
    }
    for _ in 0..3 {
        http_exchange(broker.http, "POST", "/t/t?partition=0", &[], b"x");
    }
    let delete =
        |query: &str| http_exchange(broker.http, "DELETE", &format!("/t/t{query}"), &[], b"");
    assert_eq!(
        delete("?before=0:2").json(),
        json!([{"partition": 0, "start": 2}])
    );
    assert_eq!(
        get(&broker, "/t/t?from=earliest&partition=0", "*/*").text(),
        "x\n"
    );
    for (query, status) in [
        ("", 400),
        ("?before=x", 400),
        ("?before=9:1", 404),
        ("?before=0:99", 416),
    ] {
        assert_eq!(delete(query).status, status, "{query}");
    }
    let internal = http_exchange(
        broker.http,
        "DELETE",
        "/t/__consumer_offsets?before=0:0",
        &[],
        b"",
    );
    assert!([403, 404].contains(&internal.status), "{}", internal.status);
}
