//! Records over HTTP: every route, with success, each error that it can give, and garbage.

use crate::support::batch::Batch;
use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use millstream::log::batch::Codec;
use millstream::log::batch::build::BatchBuilder;
use serde_json::{Value, json};

fn post(broker: &Broker, path: &str, body: &[u8]) -> HttpReply {
    http_exchange(broker.http, "POST", path, &[], body)
}

fn get(broker: &Broker, path: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[], b"")
}

fn get_as(broker: &Broker, kind: &str, path: &str) -> HttpReply {
    http_exchange(broker.http, "GET", path, &[("Accept", kind)], b"")
}

/// Of a JSON answer.
fn values(reply: &HttpReply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let records = reply.json();
    let each = records.as_array().unwrap().iter();
    each.map(|record| record["value"].clone()).collect()
}

/// A problem's type without what all have, its status, and whether it says that nothing happened.
fn problem(reply: &HttpReply) -> (u16, String) {
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let body = reply.json();
    assert_eq!(body["status"], reply.status);
    for name in ["title", "detail"] {
        assert!(body[name].as_str().is_some_and(|text| !text.is_empty()));
    }
    assert_eq!(body["no_side_effects"], true, "{body}");
    assert_eq!(body["retriable"], !reply.header("retry-after").is_empty());
    let kind = body["type"].as_str().unwrap();
    let kind = kind.strip_prefix("urn:millstream:problem:").unwrap();
    (reply.status, kind.to_owned())
}

#[test]
fn what_is_sent_over_http_is_read_over_http_and_by_kafka_clients() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("orders", 1);
    let reply = http_exchange(
        broker.http,
        "POST",
        "/t/orders?key=ann&timestamp=1700000000000",
        &[
            ("Kafka-Header-Source", "shop"),
            ("Content-Type", "text/plain"),
        ],
        b"tea",
    );
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, "application/json")
    );
    let expected = json!({
        "topic": "orders", "partition": 0, "offset": 0, "timestamp": 1_700_000_000_000i64,
        "duplicate": false,
    });
    assert_eq!(reply.json(), expected);
    assert_eq!(post(&broker, "/t/orders", b"milk\xff").json()["offset"], 1);
    assert_eq!(post(&broker, "/t/orders?key=", b"").json()["offset"], 2);

    let reply = get_as(&broker, "application/json", "/t/orders?from=earliest");
    let records = reply.json();
    let first = json!({
        "partition": 0, "offset": 0, "timestamp": 1_700_000_000_000i64, "key": "ann",
        "value": "tea", "headers": {"source": "shop"},
    });
    assert_eq!(records[0], first);
    assert_eq!(records[1]["value"], json!({"base64": "bWlsa/8="}));
    assert_eq!(
        (&records[1]["key"], &records[2]["key"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!(records[2]["value"], "");
    assert_eq!(reply.header("millstream-next"), "0:3");
    assert_eq!(get(&broker, "/t/orders").body, b"tea\nmilk\xff\n\n");
    let lines = get_as(&broker, "application/x-ndjson", "/t/orders?from=2").text();
    let line: Value = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(line["offset"], 2);

    // And the other way round: a client's compressed batch.
    wire.append("orders", 0, &Batch::of(["coffee", "cake"]));
    assert_eq!(get(&broker, "/t/orders?from=3").text(), "coffee\ncake\n");
    let kafka = wire.fetch("orders", 0, 0);
    assert_eq!(kafka.error_code, 0);
    assert_eq!(kafka.high_watermark, 5);
}

#[test]
fn one_record_comes_as_it_is_and_can_do_nothing_in_a_browser() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("pages", 1);
    let script = b"<script>alert(1)</script>";
    let headers = [
        ("Kafka-Header-content-type", "text/html"),
        ("Kafka-Header-a", "b"),
    ];
    let sent = http_exchange(
        broker.http,
        "POST",
        "/t/pages?timestamp=5",
        &headers,
        script,
    );
    assert_eq!(sent.status, 200);
    let reply = get(&broker, "/t/pages/0/0");
    assert_eq!((reply.status, &reply.body[..]), (200, &script[..]));
    assert_eq!(reply.header("content-type"), "text/html");
    assert_eq!(reply.header("kafka-header-a"), "b");
    assert_eq!(reply.header("millstream-timestamp"), "5");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(
        reply.header("content-security-policy"),
        "default-src 'none'; sandbox"
    );
    assert_eq!(
        get(&broker, "/t/pages").header("content-type"),
        "text/plain; charset=utf-8"
    );

    for path in ["/t/pages/0/1", "/t/pages/0/-1", "/t/pages/0/99"] {
        assert_eq!(
            problem(&get(&broker, path)),
            (404, "unknown-record".to_owned())
        );
    }
    let tombstone = BatchBuilder::default().build_keyed(Codec::None, &[(Some("k"), None)]);
    assert_eq!(wire.produce("pages", 0, tombstone).error_code, 0);
    let reply = get(&broker, "/t/pages/0/1");
    assert_eq!((reply.status, reply.body.len()), (204, 0));
}

#[test]
fn a_read_begins_where_it_is_asked_to_and_goes_on_where_it_ended() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("many", 3);
    for number in 0..30 {
        let path = format!(
            "/t/many?partition={}&timestamp={}",
            number % 3,
            1_000 + number
        );
        let sent = post(&broker, &path, number.to_string().as_bytes());
        assert_eq!(sent.status, 200, "{}", sent.text());
    }
    let read = |path: &str| get_as(&broker, "application/json", path);
    let numbers = |range: std::ops::Range<i32>| {
        let each = range.map(|number| json!(number.to_string()));
        each.collect::<Vec<_>>()
    };
    assert_eq!(values(&read("/t/many")), numbers(20..30), "the newest ten");
    assert_eq!(values(&read("/t/many?from=-4")), numbers(26..30));
    assert_eq!(values(&read("/t/many?max=2")), numbers(28..30));
    assert_eq!(values(&read("/t/many?from=earliest")), numbers(0..30));
    assert_eq!(values(&read("/t/many?from=latest")), numbers(0..0));
    assert_eq!(
        values(&read("/t/many?from=1970-01-01T00:00:01.012Z")),
        numbers(12..30)
    );
    assert_eq!(
        values(&read("/t/many?partition=1&from=8")),
        [json!("25"), json!("28")]
    );
    assert_eq!(
        values(&read("/t/many?grep=7")),
        [json!("7"), json!("17"), json!("27")]
    );

    // In steps, each record once and in order.
    let (mut from, mut seen) = ("earliest".to_owned(), Vec::new());
    loop {
        let reply = read(&format!("/t/many?max=7&from={from}"));
        let some = values(&reply);
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 7);
        seen.extend(some);
        from = reply.header("millstream-next").to_owned();
    }
    assert_eq!(seen, numbers(0..30));
    assert_eq!(from, "0:10,1:10,2:10");
}

#[test]
fn a_read_waits_for_the_record_that_comes() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("later", 2);
    std::thread::scope(|scope| {
        let waits = [(); 3].map(|()| scope.spawn(|| get(&broker, "/t/later?wait=50s")));
        crate::support::eventually("they wait", || {
            broker.metric("millstream_parked_fetches", "") == 3.0
        });
        assert_eq!(post(&broker, "/t/later?key=k", b"now").status, 200);
        for wait in waits {
            let reply = wait.join().unwrap();
            assert_eq!((reply.status, reply.text()), (200, "now\n".to_owned()));
        }
    });
    let nothing = get(&broker, "/t/later?from=latest&wait=10ms");
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
}

#[test]
fn compressed_batches_and_keys_are_found() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("packed", 1);
    let lines: String = (0..2_000)
        .map(|number| format!("k{}:{number}\n", number % 4))
        .collect();
    let args = [
        "produce",
        "packed",
        "--codec",
        "zstd",
        "--key-separator",
        ":",
    ];
    let sent = broker.run(&args, lines.as_bytes());
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let found = get(&broker, "/t/packed?key=k3&max=3").text();
    assert_eq!(found, "3\n7\n11\n");
    let newest = get(&broker, "/t/packed?from=-2").text();
    assert_eq!(newest, "1998\n1999\n");
}

/// Where the records of a body went: partition and offset, or the status of what was wrong.
fn places(reply: &HttpReply) -> Vec<(i64, i64)> {
    let outcomes = reply.json();
    let each = outcomes.as_array().unwrap().iter();
    let place = |one: &Value| match one["status"].as_i64() {
        Some(status) => (status, -1),
        None => (
            one["partition"].as_i64().unwrap(),
            one["offset"].as_i64().unwrap(),
        ),
    };
    each.map(place).collect()
}

#[test]
fn a_body_is_as_many_records_as_it_is_said_to_be() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("split", 3);
    let sent = post(&broker, "/t/split?split=lines&partition=1", b"a\n\nb");
    assert_eq!(
        (sent.status, places(&sent)),
        (200, vec![(1, 0), (1, 1), (1, 2)])
    );
    assert_eq!(get(&broker, "/t/split").text(), "a\n\nb\n");
    let sent = post(
        &broker,
        "/t/split?split=json&partition=1",
        b"{\"a\":\n1} [2]",
    );
    assert_eq!(places(&sent), [(1, 3), (1, 4)]);
    assert_eq!(
        get(&broker, "/t/split?partition=1&from=3&max=1").text(),
        "{\"a\":\n1}\n"
    );

    // What a read shows goes in again as it was, but for the place.
    let all = get_as(&broker, "application/x-ndjson", "/t/split?from=earliest");
    wire.create_topic("copy", 3);
    let kind = [("Content-Type", "application/x-ndjson")];
    let sent = http_exchange(broker.http, "POST", "/t/copy", &kind, &all.body);
    assert_eq!(places(&sent).len(), 5);
    let copy = get_as(&broker, "application/x-ndjson", "/t/copy?from=earliest");
    assert_eq!(copy.text(), all.text());

    // Of several some can be wrong: by themselves, or for the topic.
    let lines = [
        r#"{"key":"k","value":"one","headers":{"h":"x"},"partition":0}"#,
        "nonsense",
        r#"{"value":"two","partition":7}"#,
        r#"{"key":"k","value":null,"partition":0}"#,
    ]
    .join("\n");
    wire.create_topic("mixed", 1);
    let sent = http_exchange(broker.http, "POST", "/t/mixed", &kind, lines.as_bytes());
    assert_eq!(sent.status, 207);
    assert_eq!(places(&sent), [(0, 0), (400, -1), (404, -1), (0, 1)]);
    let read = get_as(&broker, "application/json", "/t/mixed").json();
    assert_eq!(
        (&read[0]["headers"]["h"], &read[1]["value"]),
        (&json!("x"), &Value::Null)
    );

    for (path, body) in [
        ("split=json", "1x"),
        ("split=lines", ""),
        ("split=wat", "a"),
    ] {
        let reply = post(&broker, &format!("/t/mixed?{path}"), body.as_bytes());
        assert_eq!(problem(&reply).0, 400, "{path}");
    }
    assert_eq!(get(&broker, "/t/mixed").text(), "one\n\n");
}

/// Far more than a group, in a topic whose batches are small.
#[test]
fn a_million_bytes_of_lines_go_in_piece_by_piece_and_keep_their_order() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.try_create_topic("long", 1, &[("max.message.bytes", "20000")]);
    let body: String = (0..60_000)
        .map(|number| format!("line number {number}\n"))
        .collect();
    let sent = post(&broker, "/t/long?split=lines", body.as_bytes());
    assert_eq!(sent.status, 200);
    let expected: Vec<(i64, i64)> = (0..60_000).map(|offset| (0, offset)).collect();
    assert_eq!(places(&sent), expected);
    let mut stored = Vec::new();
    for value in wire.values("long", 0) {
        stored.extend(value);
        stored.push(b'\n');
    }
    assert!(stored == body.as_bytes(), "not the lines that were sent");
    let last = get(&broker, "/t/long?from=-1").text();
    assert_eq!(last, "line number 59999\n");
    // A line that is too long ends the body; what came before it is there.
    let long = format!("short\n{}\nbehind\n", "x".repeat(30_000));
    let sent = post(&broker, "/t/long?split=lines", long.as_bytes());
    assert_eq!(sent.status, 207);
    assert_eq!(places(&sent), [(0, 60_000), (400, -1)]);
}

#[test]
fn packed_bodies_are_unpacked_within_their_limits() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("packed", 1);
    let send = |coding, path: &str, body: &[u8]| {
        http_exchange(
            broker.http,
            "POST",
            path,
            &[("Content-Encoding", coding)],
            body,
        )
    };
    let zeros = zstd::encode_all(&vec![0; 900_000][..], 3).unwrap();
    assert_eq!(send("zstd", "/t/packed", &zeros).status, 200);
    assert!(get(&broker, "/t/packed/0/0").body == vec![0; 900_000]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let lines: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    std::io::Write::write_all(&mut gzip, lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let sent = send("gzip", "/t/packed?split=lines", &gzip);
    assert_eq!((sent.status, places(&sent).len()), (200, 100_000));
    assert_eq!(get(&broker, "/t/packed?from=-1").text(), "99999\n");

    let before = broker.own_memory_bytes();
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 4 << 30), 1).unwrap();
    for path in ["/t/packed", "/t/packed?split=lines", "/t/packed?split=json"] {
        let refused = send("zstd", path, &bomb);
        assert!([400, 413].contains(&refused.status), "{path}");
    }
    let cut = send("gzip", "/t/packed", &gzip[..gzip.len() / 2]);
    assert!([400, 413].contains(&cut.status));
    assert_eq!(get(&broker, "/t/packed?from=-1").text(), "99999\n");
    let grown = broker.own_memory_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[test]
fn topics_are_made_on_demand_if_that_is_allowed() {
    let (_dir, broker, _wire) = broker_with(&[]);
    assert_eq!(post(&broker, "/t/fresh", b"x").status, 200);
    assert_eq!(get(&broker, "/t/fresh").text(), "x\n");
    assert_eq!(
        problem(&get(&broker, "/t/never")),
        (404, "unknown-topic".to_owned())
    );
    let (_dir, broker, _wire) = broker_with(&["--auto-create-topics=false"]);
    assert_eq!(
        problem(&post(&broker, "/t/fresh", b"x")),
        (404, "unknown-topic".to_owned())
    );
}

/// Method, path, headers, and what comes: the status, and the problem's type.
type Refused = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    u16,
    &'static str,
);

/// What is asked of a broker whose topic `t` has two partitions and a record, and `small` takes 1,000 bytes.
const REFUSED: &[Refused] = &[
    ("GET", "/nothing", &[], 404, "unknown-path"),
    ("GET", "/t", &[], 404, "unknown-path"),
    ("GET", "/t/t/0", &[], 404, "unknown-path"),
    ("PUT", "/t/t", &[], 405, "method-not-allowed"),
    ("PUT", "/t/t/0/0", &[], 405, "method-not-allowed"),
    ("POST", "/metrics", &[], 405, "method-not-allowed"),
    ("POST", "/t/t?wat=1", &[], 400, "bad-request"),
    ("POST", "/t/t?key=a&key=b", &[], 400, "bad-request"),
    ("POST", "/t/t?partition=x", &[], 400, "bad-request"),
    ("POST", "/t/t?timestamp=soon", &[], 400, "bad-request"),
    ("POST", "/t/t?acks=0", &[], 400, "bad-request"),
    ("POST", "/t/%FF", &[], 400, "bad-request"),
    ("POST", "/t/a%20b", &[], 400, "invalid-topic-name"),
    (
        "POST",
        "/t/t?partition=2",
        &[],
        404,
        "unknown-topic-or-partition",
    ),
    (
        "POST",
        "/t/t?partition=-1",
        &[],
        404,
        "unknown-topic-or-partition",
    ),
    ("POST", "/t/__consumer_offsets", &[], 403, "internal-topic"),
    (
        "POST",
        "/t/t?timestamp=99999999999999",
        &[],
        422,
        "invalid-timestamp",
    ),
    ("POST", "/t/compacted", &[], 422, "without-key"),
    (
        "POST",
        "/t/t",
        &[("Content-Type", "application/cloudevents+xml")],
        415,
        "unsupported-media-type",
    ),
    (
        "POST",
        "/t/t",
        &[("Content-Type", "application/vnd.kafka.json.v2+json")],
        415,
        "unsupported-media-type",
    ),
    (
        "POST",
        "/t/t",
        &[("Content-Encoding", "br")],
        415,
        "unsupported-media-type",
    ),
    (
        "POST",
        "/t/small",
        &[("Content-Length", "5000")],
        413,
        "too-large",
    ),
    (
        "POST",
        "/t/t",
        &[("Host", "evil.example")],
        421,
        "unknown-host",
    ),
    (
        "GET",
        "/t/t",
        &[("Host", "evil.example")],
        421,
        "unknown-host",
    ),
    ("GET", "/", &[("Host", "evil.example")], 421, "unknown-host"),
    (
        "POST",
        "/t/t",
        &[("Origin", "http://evil.example")],
        403,
        "other-origin",
    ),
    (
        "POST",
        "/t/t",
        &[("Sec-Fetch-Site", "cross-site")],
        403,
        "other-origin",
    ),
    ("POST", "/t/t?timestamp=-1", &[], 400, "bad-request"),
    ("POST", "/t/t?key=%FE", &[], 400, "bad-request"),
    (
        "POST",
        "/t/t",
        &[
            ("ce-specversion", "1.0"),
            ("Content-Type", "application/json"),
        ],
        400,
        "no-cloud-event",
    ),
    ("GET", "/t/t?from=soon", &[], 400, "bad-request"),
    ("GET", "/t/t?from=0", &[], 400, "bad-request"),
    ("GET", "/t/t?max=0", &[], 400, "bad-request"),
    ("GET", "/t/t?max=10001", &[], 400, "bad-request"),
    ("GET", "/t/t?wait=61s", &[], 400, "bad-request"),
    ("GET", "/t/t?wait=5", &[], 400, "bad-request"),
    ("GET", "/t/t?wat", &[], 400, "bad-request"),
    (
        "GET",
        "/t/t?partition=2",
        &[],
        404,
        "unknown-topic-or-partition",
    ),
    (
        "GET",
        "/t/t?from=0:0,2:0",
        &[],
        404,
        "unknown-topic-or-partition",
    ),
    (
        "GET",
        "/t/t?partition=0&from=99",
        &[],
        416,
        "offset-out-of-range",
    ),
    (
        "GET",
        "/t/t",
        &[("Accept", "image/png")],
        406,
        "not-acceptable",
    ),
    ("GET", "/api/topics?x", &[], 400, "bad-request"),
    ("POST", "/api/topics", &[], 405, "method-not-allowed"),
    ("GET", "/api/topics/unknown", &[], 404, "unknown-topic"),
    ("GET", "/api/topics/t?x", &[], 400, "bad-request"),
    ("PUT", "/api/topics/a%20b", &[], 400, "invalid-topic-name"),
    ("PUT", "/api/topics/t?x", &[], 400, "bad-request"),
    (
        "PUT",
        "/api/topics/t",
        &[("Origin", "http://evil.example")],
        403,
        "other-origin",
    ),
    ("DELETE", "/api/topics/t", &[], 400, "bad-request"),
    ("DELETE", "/api/topics/t?confirm=T", &[], 400, "bad-request"),
    (
        "DELETE",
        "/api/topics/u?confirm=u",
        &[],
        404,
        "unknown-topic",
    ),
    (
        "DELETE",
        "/api/topics/__consumer_offsets?confirm=__consumer_offsets",
        &[],
        403,
        "internal-topic",
    ),
    ("GET", "/api/groups?x", &[], 400, "bad-request"),
    ("GET", "/t/unknown", &[], 404, "unknown-topic"),
    ("GET", "/t/unknown/0/0", &[], 404, "unknown-topic"),
    ("GET", "/t/t/2/0", &[], 404, "unknown-topic-or-partition"),
    ("GET", "/t/t/0/x", &[], 400, "bad-request"),
    ("GET", "/t/t/x/0", &[], 400, "bad-request"),
    ("GET", "/t/t/0/0?x", &[], 400, "bad-request"),
];

#[test]
fn each_refusal_has_its_status_and_stores_nothing() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("t", 2);
    for (topic, config) in [
        ("small", ("max.message.bytes", "1000")),
        ("compacted", ("cleanup.policy", "compact")),
        ("dated", ("message.timestamp.after.max.ms", "1000")),
    ] {
        wire.try_create_topic(topic, 1, &[config]);
    }
    wire.append("t", 0, &Batch::of(["here"]));
    // So that the topic of committed offsets is there.
    let reset = [
        "group",
        "reset-offsets",
        "g",
        "--topic",
        "t",
        "--to",
        "end",
        "--execute",
    ];
    assert!(broker.run(&reset, b"").status.success());
    for (method, path, headers, status, kind) in REFUSED {
        let path = path.replace("/t/t?timestamp=9", "/t/dated?timestamp=9");
        let reply = http_exchange(broker.http, method, &path, headers, b"");
        let what = format!("{method} {path} {headers:?}: {}", reply.text());
        assert_eq!(reply.status, *status, "{what}");
        assert_eq!(problem(&reply), (*status, (*kind).to_owned()), "{what}");
    }
    let body = vec![b'x'; 5_000];
    let reply = post(&broker, "/t/small", &body);
    assert_eq!(problem(&reply), (413, "too-large".to_owned()));
    let chunked = [("Transfer-Encoding", "chunked")];
    let mut chunk = format!("{:x}\r\n", body.len()).into_bytes();
    chunk.extend_from_slice(&body);
    chunk.extend_from_slice(b"\r\n0\r\n\r\n");
    // The length is said by the chunks alone.
    let reply = http_raw_chunked(&broker, "/t/small", &chunked, &chunk);
    assert_eq!(problem(&reply), (413, "too-large".to_owned()));
    assert_eq!(get(&broker, "/t/t?from=earliest").text(), "here\n");
    for topic in ["small", "compacted", "dated"] {
        assert_eq!(get(&broker, &format!("/t/{topic}")).text(), "");
    }
    let allowed = http_exchange(broker.http, "OPTIONS", "/t/t", &[], b"");
    assert_eq!(
        (allowed.status, allowed.header("allow")),
        (204, "DELETE, GET, POST, HEAD")
    );
    let refused = http_exchange(broker.http, "PUT", "/t/t", &[], b"");
    assert_eq!(refused.header("allow"), "DELETE, GET, POST, HEAD");
    let errors = "error=\"unknown-host\"";
    assert_eq!(
        broker.metric("millstream_partition_errors_total", errors),
        3.0
    );
}

fn http_raw_chunked(
    broker: &Broker,
    path: &str,
    headers: &[(&str, &str)],
    chunks: &[u8],
) -> HttpReply {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(broker.http).unwrap();
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let _ = stream.write_all(chunks);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    HttpReply::parse(&reply)
}

#[test]
fn garbage_is_refused_and_the_next_request_is_answered() {
    use std::io::{Read, Write};
    let (_dir, broker, _wire) = broker_with(&[]);
    let garbage: &[&[u8]] = &[
        b"\x00\x00\x00\x20\x00\x12\x00\x04",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /t/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /t/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /t/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
    ];
    for bytes in garbage {
        let mut stream = std::net::TcpStream::connect(broker.http).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        assert!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 4"),
            "{reply}"
        );
    }
    assert_eq!(broker.get("/healthz").0, 200);
    let long = format!("/t/x?key={}", "k".repeat(100_000));
    let reply = http_exchange(broker.http, "POST", &long, &[], b"x");
    assert!([414, 431].contains(&reply.status), "{}", reply.status);
}

/// A client that follows: the lines that came, without the sizes of chunks and blank ones.
struct Following(std::io::BufReader<std::net::TcpStream>);

impl Following {
    fn start(broker: &Broker, path: &str, headers: &[(&str, &str)]) -> Following {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(broker.http).unwrap();
        let limit = std::time::Duration::from_secs(30);
        stream.set_read_timeout(Some(limit)).unwrap();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let mut following = Following(std::io::BufReader::new(stream));
        assert_eq!(following.line(), "HTTP/1.1 200 OK");
        while !following.raw().is_empty() {}
        following
    }

    /// Empty at a blank line and at the end.
    fn raw(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.0, &mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn line(&mut self) -> String {
        loop {
            let line = self.raw();
            let is_size = line.len() < 5 && u64::from_str_radix(&line, 16).is_ok();
            if !line.is_empty() && !is_size {
                return line;
            }
        }
    }

    /// The next event but `retry`: its name, id and data.
    fn event(&mut self) -> (String, String, Value) {
        let mut line = self.line();
        while line.starts_with("retry:") {
            line = self.line();
        }
        let of = |line: &str, name: &str| {
            let value = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}"));
            value.trim_start().to_owned()
        };
        let name = of(&line, "event:");
        let id = if name == "error" {
            String::new()
        } else {
            of(&self.line(), "id:")
        };
        let data = of(&self.line(), "data:");
        (name, id, serde_json::from_str(&data).unwrap())
    }
}

const EVENTS: [(&str, &str); 1] = [("Accept", "text/event-stream")];

#[test]
fn a_topic_is_followed_as_text_and_the_newest_come_first() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("news", 2);
    let send = |value: &str| {
        let sent = post(&broker, "/t/news", value.as_bytes());
        assert_eq!(sent.status, 200);
    };
    for number in 0..12 {
        send(&format!("old {number}"));
    }
    let mut following = Following::start(&broker, "/t/news?follow", &[]);
    let mut found = Following::start(&broker, "/t/news?follow&grep=even&from=latest", &[]);
    let mut backlog: Vec<String> = (0..10).map(|_| following.line()).collect();
    backlog.sort();
    assert!(backlog.iter().all(|line| line.starts_with("old ")));
    crate::support::eventually("both wait", || {
        broker.metric("millstream_parked_fetches", "") == 2.0
    });
    for number in 0..20 {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        send(&format!("new {number} {kind}"));
        assert_eq!(following.line(), format!("new {number} {kind}"));
    }
    for number in (0..20).step_by(2) {
        assert_eq!(found.line(), format!("new {number} even"));
    }
    drop((following, found));
    crate::support::eventually("nobody waits", || {
        broker.metric("millstream_parked_fetches", "") == 0.0
    });
}

#[test]
fn events_go_on_exactly_where_the_last_one_was() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("feed", 3);
    for number in 0..30 {
        let path = format!("/t/feed?partition={}", number % 3);
        assert_eq!(
            post(&broker, &path, number.to_string().as_bytes()).status,
            200
        );
    }
    // A client that connects again after each few events, and once after `caught-up`.
    let (mut last, mut seen, mut is_caught_up) = (None::<String>, Vec::new(), false);
    while !is_caught_up {
        let mut headers = EVENTS.to_vec();
        headers.extend(last.as_deref().map(|id| ("Last-Event-ID", id)));
        let mut following = Following::start(&broker, "/t/feed?from=earliest", &headers);
        for _ in 0..4 {
            let (name, id, data) = following.event();
            last = Some(id);
            match name.as_str() {
                "record" => seen.push(data["value"].as_str().unwrap().parse::<i32>().unwrap()),
                "caught-up" => {
                    assert_eq!(data["next"], "0:10,1:10,2:10");
                    is_caught_up = true;
                    break;
                }
                other => panic!("{other}"),
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>(), "each once");
    let id = last.unwrap();
    let headers = [EVENTS[0], ("Last-Event-ID", &id)];
    let mut following = Following::start(&broker, "/t/feed?from=earliest", &headers);
    assert_eq!(following.event().0, "caught-up");
    assert_eq!(post(&broker, "/t/feed?key=k", b"next").status, 200);
    let (name, _, data) = following.event();
    assert_eq!(
        (name.as_str(), &data["key"], &data["value"]),
        ("record", &json!("k"), &json!("next"))
    );

    assert_eq!(wire.delete_topic("feed"), 0);
    let (name, _, gone) = following.event();
    assert_eq!((name.as_str(), &gone["status"]), ("error", &json!(404)));
    for path in ["/t/feed?follow&max=1", "/t/feed?follow&wait=1s"] {
        assert_eq!(problem_of(&broker, path), 400);
    }
    let bad = http_exchange(
        broker.http,
        "GET",
        "/t/feed",
        &[EVENTS[0], ("Last-Event-ID", "x")],
        b"",
    );
    assert_eq!(problem(&bad), (400, "bad-request".to_owned()));
}

fn problem_of(broker: &Broker, path: &str) -> u16 {
    problem(&get(broker, path)).0
}

/// Clients that follow and read nothing hold a few pieces each, whatever there is to send.
#[test]
fn followers_that_do_not_read_hold_little_and_hold_nobody_up() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "1"]);
    wire.create_topic("big", 1);
    let line = format!("{}\n", "x".repeat(10_000));
    let body = line.repeat(2_000);
    assert_eq!(
        post(&broker, "/t/big?split=lines", body.as_bytes()).status,
        200
    );
    let silent: Vec<Following> = (0..20)
        .map(|_| Following::start(&broker, "/t/big?from=earliest&follow", &[]))
        .collect();
    for _ in 0..3 {
        assert_eq!(broker.get("/healthz").0, 200);
        assert_eq!(get(&broker, "/t/big?from=-1").body.len(), 10_001);
    }
    // A round of a megabyte, as it is and as it is sent, for each at most.
    let held = broker.own_memory_bytes();
    assert!(held < 150 << 20, "{held} bytes");
    drop(silent);
}

#[test]
fn a_record_with_thousands_of_headers_is_read_with_some() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let headers: String = (0..30_000).map(|n| format!(",\"h{n}\":\"\"")).collect();
    let line = format!("{{\"value\":\"v\",\"headers\":{{{}}}}}", &headers[1..]);
    let kind = [("Content-Type", "application/x-ndjson")];
    let sent = http_exchange(broker.http, "POST", "/t/t", &kind, line.as_bytes());
    assert_eq!(places(&sent), [(0, 0)]);
    let reply = get(&broker, "/t/t/0/0");
    assert_eq!((reply.status, reply.text()), (200, "v".to_owned()));
    let own = reply
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("kafka-header-"));
    assert_eq!(own.count(), 100);
    let all = get_as(&broker, "application/json", "/t/t").json();
    assert_eq!(all[0]["headers"].as_object().unwrap().len(), 30_000);
}

#[test]
fn where_nobody_else_may_wait_a_read_waits_without_keeping_the_core() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "1", "--parked-fetches-max", "1"]);
    wire.create_topic("t", 1);
    let _following = Following::start(&broker, "/t/t?follow&from=latest", &[]);
    crate::support::eventually("it waits", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    // A build with debug assertions ends when a task keeps the core.
    let reply = get(&broker, "/t/t?from=latest&wait=1s");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(broker.get("/healthz").0, 200);
}

#[test]
fn records_whose_clocks_differ_keep_their_partitions_order_and_ids_go_forward() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("t", 2);
    for (partition, timestamp, value) in [
        (0, 2000, "a"),
        (0, 1000, "b"),
        (1, 1500, "x"),
        (0, 3000, "c"),
        (1, 10, "y"),
    ] {
        let path = format!("/t/t?partition={partition}&timestamp={timestamp}");
        assert_eq!(post(&broker, &path, value.as_bytes()).status, 200);
    }
    for path in ["/t/t", "/t/t?from=earliest"] {
        let text = get(&broker, path).text();
        let of = |values: &str| {
            text.lines()
                .filter(|line| values.contains(line))
                .collect::<String>()
        };
        assert_eq!(
            (of("abc"), of("xy")),
            ("abc".to_owned(), "xy".to_owned()),
            "{path}"
        );
    }
    assert_eq!(get(&broker, "/t/t?partition=0&max=2").text(), "b\nc\n");
    let mut following = Following::start(&broker, "/t/t", &EVENTS);
    let mut next = [0, 0];
    for _ in 0..5 {
        let (_, id, data) = following.event();
        next[data["partition"].as_u64().unwrap() as usize] = data["offset"].as_u64().unwrap() + 1;
        assert_eq!(id, format!("0:{},1:{}", next[0], next[1]));
    }
    assert_eq!(following.event().0, "caught-up");
}

/// What comes in while the newest are looked for is not among them: it is for who reads on.
#[test]
fn beside_producers_the_newest_end_where_reading_on_begins() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    wire.create_topic("t", 16);
    let body = "x\n".repeat(50);
    std::thread::scope(|scope| {
        let producers = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..60 {
                    let sent = post(&broker, "/t/t?split=lines&partition=0", body.as_bytes());
                    assert_eq!(sent.status, 200);
                }
            })
        });
        let mut reads = 0;
        while reads < 20 || producers.iter().any(|producer| !producer.is_finished()) {
            let reply = get_as(&broker, "application/json", "/t/t?max=20");
            let next = reply.header("millstream-next").to_owned();
            let end: i64 = next.split(',').next().unwrap()[2..].parse().unwrap();
            let offsets = reply
                .json()
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["offset"].as_i64().unwrap())
                .collect::<Vec<_>>();
            let from = (end - 20).max(0);
            assert_eq!(offsets, (from..end).collect::<Vec<_>>());
            reads += 1;
        }
    });
}

#[test]
fn what_all_records_of_a_body_share_counts_for_each_of_them() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let before = broker.own_memory_bytes();
    let header = "h".repeat(20_000);
    let lines = "x\n".repeat(2_000);
    let headers = [("Kafka-Header-large", header.as_str())];
    let sent = http_exchange(
        broker.http,
        "POST",
        "/t/t?split=lines",
        &headers,
        lines.as_bytes(),
    );
    assert_eq!((sent.status, places(&sent).len()), (200, 2_000));
    let grown = broker.own_memory_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    let last = get_as(&broker, "application/json", "/t/t?from=-1").json();
    assert_eq!(last[0]["headers"]["large"], header);
}

#[test]
fn records_that_are_little_of_what_came_hold_little_memory() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let before = broker.own_memory_bytes();
    let padding = " ".repeat(60_000);
    let records = [
        ("/t/t", "{\"value\":\"x\"}"),
        ("/t/t?split=json", "{\"a\":1}"),
    ];
    for (path, record) in records {
        let body = format!("{record}{padding}\n").repeat(2_000);
        let kind = [("Content-Type", "application/x-ndjson")];
        let headers: &[_] = if path.contains("split") { &[] } else { &kind };
        let sent = http_exchange(broker.http, "POST", path, headers, body.as_bytes());
        assert_eq!((sent.status, places(&sent).len()), (200, 2_000));
        let grown = broker.own_memory_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{path}: {grown} bytes");
    }
}

#[test]
fn who_reads_on_sees_partitions_that_are_new() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    assert_eq!(post(&broker, "/t/t", b"old").status, 200);
    assert_eq!(wire.set_partitions("t", 2, false), 0);
    assert_eq!(post(&broker, "/t/t?partition=1", b"new").status, 200);
    let reply = get(&broker, "/t/t?from=0:1");
    assert_eq!(
        (reply.text(), reply.header("millstream-next")),
        ("new\n".to_owned(), "0:1,1:1")
    );
    assert_eq!(get(&broker, "/t/t?from=0:0&partition=1").text(), "new\n");
    assert_eq!(problem_of(&broker, "/t/t?from=0:0,0:0"), 400);
}

#[test]
fn a_record_that_cannot_be_taken_holds_up_no_others() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.try_create_topic("t", 1, &[("cleanup.policy", "compact")]);
    let lines = "{\"key\":\"a\",\"value\":1}\n{\"value\":2}\n{\"key\":\"b\",\"value\":3,\"timestamp\":-5}\n{\"key\":\"c\",\"value\":null}";
    let kind = [("Content-Type", "application/x-ndjson ; charset=utf-8")];
    let sent = http_exchange(broker.http, "POST", "/t/t", &kind, lines.as_bytes());
    assert_eq!(places(&sent), [(0, 0), (422, -1), (400, -1), (0, 1)]);
    // The answer is there although most of the body was not wanted.
    let long = format!("{{\"key\":\"d\"}}\n{}", "x".repeat(20 << 20));
    let sent = http_exchange(broker.http, "POST", "/t/t", &kind, long.as_bytes());
    assert_eq!((sent.status, places(&sent)), (207, vec![(0, 2), (400, -1)]));
    let whole = vec![b'x'; 20 << 20];
    assert_eq!(
        problem(&post(&broker, "/t/t?key=k", &whole)),
        (413, "too-large".to_owned())
    );
}

#[test]
fn topics_are_made_shown_and_deleted() {
    let (_dir, broker, mut wire) = broker_with(&["--cores", "2"]);
    let put = |name: &str, body: &str| {
        http_exchange(
            broker.http,
            "PUT",
            &format!("/api/topics/{name}"),
            &[],
            body.as_bytes(),
        )
    };
    let wanted = r#"{"partitions":2,"configs":{"retention.ms":"60000"}}"#;
    let made = put("made", wanted);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(post(&broker, "/t/made?partition=1", b"x").status, 200);
    let shown = get(&broker, "/api/topics/made").json();
    assert_eq!(
        (&shown["name"], &shown["internal"]),
        (&json!("made"), &json!(false))
    );
    assert_eq!(shown["configs"], json!({"retention.ms": "60000"}));
    let partitions =
        json!([{"partition": 0, "start": 0, "end": 0}, {"partition": 1, "start": 0, "end": 1}]);
    assert_eq!(shown["partitions"], partitions);
    // Once more it is there already; another one it cannot be.
    for (body, status) in [
        (wanted, 200),
        ("", 200),
        ("{}", 200),
        (r#"{"partitions":3}"#, 409),
        (r#"{"configs":{"retention.ms":"1"}}"#, 409),
    ] {
        assert_eq!(put("made", body).status, status, "{body}");
    }
    assert_eq!(
        put("default", "").json()["partitions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (body, status) in [
        ("7", 400),
        (r#"{"partition":1}"#, 400),
        (r#"{"partitions":0}"#, 422),
        (r#"{"configs":{"no.such":"1"}}"#, 422),
    ] {
        let refused = put("other", body);
        assert_eq!(problem(&refused).0, status, "{body}");
    }
    let large = format!("{{\"configs\":{{\"x\":\"{}\"}}}}", "x".repeat(70_000));
    assert_eq!(problem(&put("other", &large)).0, 400);
    let names = |broker: &Broker| {
        let list = get(broker, "/api/topics").json();
        let list = list.as_array().unwrap().iter();
        list.map(|topic| topic["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&broker), ["default", "made"]);
    assert_eq!(wire.topics(), ["default", "made"]);
    let deleted = http_exchange(
        broker.http,
        "DELETE",
        "/api/topics/made?confirm=made",
        &[],
        b"",
    );
    assert_eq!(deleted.status, 204);
    assert_eq!(names(&broker), ["default"]);
}

#[test]
fn groups_say_how_far_they_are_behind() {
    let (_dir, broker, mut wire) = broker_with(&["--lag-interval-ms", "50"]);
    wire.create_topic("t", 1);
    assert_eq!(get(&broker, "/api/groups").text(), "[]\n");
    for value in [b"a", b"b", b"c"] {
        assert_eq!(post(&broker, "/t/t", value).status, 200);
    }
    let reset = [
        "group",
        "reset-offsets",
        "slow",
        "--topic",
        "t",
        "--to",
        "1",
        "--execute",
    ];
    let done = broker.run(&reset, b"");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    crate::support::eventually("the lag is measured", || {
        let groups = get(&broker, "/api/groups").json();
        groups[0]["group"] == "slow"
            && groups[0]["lag"] == 2
            && groups[0]["partitions"][0]["lag"] == 2
    });
}
