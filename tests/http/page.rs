//! What the page is made of: its files, what is wrong, the last hour of a group, a search by header.

use crate::support::{HttpReply, broker_with, eventually, http_exchange};
use serde_json::{Value, json};

#[test]
fn the_page_is_three_files_that_take_nothing_from_elsewhere() {
    let (_dir, broker, _wire) = broker_with(&[]);
    let get = |path, accept| http_exchange(broker.http, "GET", path, &[("Accept", accept)], b"");
    let html = get("/", "text/html,*/*");
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    let policy = html.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(get("/", "application/json").text(), "{}");
    let css = get("/page.css", "text/css,*/*");
    assert_eq!(css.header("content-type"), "text/css; charset=utf-8");
    let script = get("/page.js", "*/*");
    let kind = script.header("content-type");
    assert_eq!(kind, "text/javascript; charset=utf-8");
    let page = html.text();
    assert!(page.contains("\"page.css\"") && page.contains("\"page.js\""));
    let files = [page, css.text(), script.text()];
    assert!(files.iter().map(String::len).sum::<usize>() < 150_000);
    for file in &files {
        for elsewhere in ["https://", "//cdn", "@import", "eval(", "innerHTML"] {
            assert!(!file.contains(elsewhere), "{elsewhere}");
        }
    }
}

fn checks(reply: &HttpReply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let found = body["warnings"].as_array().unwrap().iter();
    found
        .map(|found| json!([found["severity"], found["check"]]))
        .collect()
}

#[test]
fn what_is_wrong_is_told_the_worst_first() {
    let (_dir, broker, mut wire) = broker_with(&["--durability", "os", "--topics-max", "2"]);
    let look = || http_exchange(broker.http, "GET", "/api/warnings", &[], b"");
    let found = checks(&look());
    assert!(found.contains(&json!(["note", "durability"])), "{found:?}");
    assert!(!found.contains(&json!(["warning", "limits"])), "{found:?}");
    wire.create_topic("a", 1);
    wire.create_topic("b", 1);
    let body = look().json();
    let found = checks(&look());
    assert!(found.contains(&json!(["warning", "limits"])), "{body}");
    let rank = |one: &Value| {
        ["error", "warning", "note"]
            .iter()
            .position(|known| one[0] == *known)
    };
    assert!(found.is_sorted_by_key(rank), "{found:?}");
    // The disk that the test runs on may be nearly full, too.
    let mut all = body["warnings"].as_array().unwrap().iter();
    let limits = all.find(|found| found["check"] == "limits").unwrap();
    assert!(
        limits["what"].as_str().unwrap().contains("topics_max is 2"),
        "{body}"
    );
    assert!(!limits["todo"].as_str().unwrap().is_empty());
}

#[test]
fn the_last_hour_of_a_group_comes_when_it_is_asked_for() {
    let (_dir, broker, mut wire) = broker_with(&["--lag-interval-ms", "50"]);
    wire.create_topic("t", 2);
    let post = |path: &str| http_exchange(broker.http, "POST", path, &[], b"v").status;
    for path in ["/t/t?partition=0", "/t/t?partition=0", "/t/t?partition=1"] {
        assert_eq!(post(path), 200);
    }
    let offsets = "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":0},{\"topic\":\"t\",\"partition\":1,\"offset\":0}]}";
    let path = "/api/groups/g/offsets";
    let stored = http_exchange(broker.http, "PUT", path, &[], offsets.as_bytes());
    assert_eq!(stored.status, 204);
    let get = |path: &str| http_exchange(broker.http, "GET", path, &[], b"").json();
    assert!(get("/api/groups/g")["history"].is_null());
    // It is noted twice a minute: the first sample may be of before.
    eventually("the lag is measured", || {
        let history = get("/api/groups/g?history")["history"].clone();
        let Some(sample) = history.as_array().unwrap().first().cloned() else {
            return false;
        };
        assert_eq!(sample["lag"], 3);
        let group = get("/api/groups/g");
        assert!(group["seconds"].as_f64().is_some(), "{group}");
        let partitions = group["partitions"].as_array().unwrap();
        assert!(
            partitions
                .iter()
                .all(|one| one["seconds"].as_f64().is_some()),
            "{group}"
        );
        assert!(sample["seconds"].as_f64().is_some());
        assert!(sample["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        true
    });
}

#[test]
fn records_are_found_by_their_headers() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    for (value, headers) in [
        ("a", &[("Kafka-Header-Trace", "7")][..]),
        (
            "b",
            &[("Kafka-Header-Trace", "8:9"), ("Kafka-Header-Other", "7")],
        ),
        ("c", &[]),
    ] {
        let stored = http_exchange(broker.http, "POST", "/t/t", headers, value.as_bytes());
        assert_eq!(stored.status, 200);
    }
    let found = |query: &str| {
        let path = format!("/t/t?header={query}");
        http_exchange(broker.http, "GET", &path, &[], b"").text()
    };
    assert_eq!(found("trace"), "a\nb\n");
    assert_eq!(found("trace:7"), "a\n");
    assert_eq!(found("trace:8:9"), "b\n");
    assert_eq!(found("trace:8"), "");
    assert_eq!(found("trace&grep=b"), "b\n");
    assert_eq!(found("nothing"), "");
}
