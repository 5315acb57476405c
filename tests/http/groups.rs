//! Groups and producers over HTTP, as the binary protocol has them too.

use crate::support::wire::Wire;
use crate::support::{Broker, HttpReply, broker_with, eventually, http_exchange};
use serde_json::{Value, json};

fn ask(
    broker: &Broker,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> HttpReply {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    http_exchange(broker.http, method, path, headers, body.as_bytes())
}

fn kind(reply: &HttpReply) -> (u16, String) {
    let kind = reply.json()["type"].as_str().unwrap_or_default().to_owned();
    (reply.status, kind.replace("urn:millstream:problem:", ""))
}

fn values(reply: &HttpReply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let records = body["records"].as_array().unwrap().iter();
    records
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect()
}

fn commit(reply: &HttpReply) -> String {
    reply.json()["commit"].as_str().unwrap().to_owned()
}

fn next(broker: &Broker, client: &str, query: &str) -> HttpReply {
    let path = format!("/api/groups/g/next?topic=t{query}");
    ask(
        broker,
        "POST",
        &path,
        &[("Client-Id", client)],
        &Value::Null,
    )
}

#[test]
fn offsets_are_read_committed_and_moved() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 2);
    for value in ["a", "b", "c"] {
        http_exchange(
            broker.http,
            "POST",
            "/t/t?partition=0",
            &[],
            value.as_bytes(),
        );
    }
    let path = "/api/groups/g/offsets";
    let put = |offset: i64| {
        let body = json!({"offsets": [{"topic": "t", "partition": 0, "offset": offset, "metadata": "why"}]});
        ask(&broker, "PUT", path, &[], &body)
    };
    assert_eq!(put(1).status, 204);
    let offsets = ask(&broker, "GET", path, &[], &Value::Null);
    let expected = json!([{"topic": "t", "partition": 0, "offset": 1, "metadata": "why"}]);
    assert_eq!(offsets.json(), expected);
    let group = ask(&broker, "GET", "/api/groups/g", &[], &Value::Null).json();
    assert_eq!(
        (&group["state"], &group["lag"]),
        (&json!("Empty"), &json!(2))
    );
    // A Kafka client sees the same.
    let described = broker.run(&["group", "describe", "g", "--json"], b"");
    assert!(
        String::from_utf8_lossy(&described.stdout).contains("\"committed_offset\": 1"),
        "{described:?}"
    );

    let reset = |body: Value| ask(&broker, "POST", path, &[], &body);
    let shown = reset(json!({"topic": "t", "to": "latest", "dry_run": true})).json();
    assert_eq!(
        shown[0],
        json!({"topic": "t", "partition": 0, "from": 1, "to": 3})
    );
    assert_eq!(
        shown[1],
        json!({"topic": "t", "partition": 1, "from": null, "to": 0})
    );
    assert_eq!(
        ask(&broker, "GET", path, &[], &Value::Null).json(),
        expected,
        "nothing was done"
    );
    for (to, offset) in [
        (json!("earliest"), 0),
        (json!("-1"), 2),
        (json!("0:1"), 1),
        (json!({"0": 99}), 3),
        (json!("1970-01-01T00:00:00Z"), 0),
    ] {
        let moved = reset(json!({"topic": "t", "partition": 0, "to": to}));
        assert_eq!(moved.json()[0]["to"], offset, "{to}: {}", moved.text());
        let now = ask(&broker, "GET", path, &[], &Value::Null).json();
        assert_eq!(now[0]["offset"], offset);
    }
    for (body, status) in [
        (json!({"topic": "t", "to": "nowhere"}), 400),
        (json!({"topic": "t", "to": 1}), 400),
        (json!({"topic": "t", "to": "latest", "partition": 7}), 404),
        (json!({"topic": "other", "to": "latest"}), 404),
        (json!({"topic": "t", "to": "latest", "more": 1}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(reset(body.clone()).status, status, "{body}");
    }
    assert_eq!(put(-1).status, 400);
    let unknown = json!({"offsets": [{"topic": "t", "partition": 2, "offset": 0}]});
    assert_eq!(ask(&broker, "PUT", path, &[], &unknown).status, 404);
    let long = json!({"offsets": [{"topic": "t", "partition": 0, "offset": 0, "metadata": "x".repeat(5_000)}]});
    assert_eq!(
        kind(&ask(&broker, "PUT", path, &[], &long)),
        (422, "metadata-too-large".into())
    );
    let nobody = ask(&broker, "GET", "/api/groups/nobody", &[], &Value::Null);
    assert_eq!(kind(&nobody), (404, "unknown-group".into()));
    let none = ask(
        &broker,
        "GET",
        "/api/groups/nobody/offsets",
        &[],
        &Value::Null,
    );
    assert_eq!(kind(&none), (404, "unknown-group".into()));
}

#[test]
fn a_group_is_read_on_and_commits_only_what_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    Wire::connect(broker.kafka).create_topic("t", 1);
    for value in ["a", "b", "c", "d"] {
        http_exchange(broker.http, "POST", "/t/t", &[], value.as_bytes());
    }
    let first = next(&broker, "one", "&max=2");
    assert_eq!(values(&first), ["a", "b"]);
    // Without a token the same again: the client may have failed.
    let again = next(&broker, "one", "&max=2");
    assert_eq!(values(&again), ["a", "b"]);
    assert_eq!(commit(&again), commit(&first));
    let token = commit(&first);
    // Nobody else has the partition, and nobody else's token counts.
    let other = next(&broker, "two", "");
    assert_eq!(
        (values(&other), &other.json()["commit"]),
        (Vec::new(), &Value::Null)
    );
    assert_eq!(
        kind(&next(&broker, "two", &format!("&commit={token}"))),
        (409, "lost-lease".into())
    );
    let second = next(&broker, "one", &format!("&commit={token}"));
    assert_eq!(values(&second), ["c", "d"]);
    let end = next(
        &broker,
        "one",
        &format!("&commit={}&wait=50ms", commit(&second)),
    );
    assert_eq!(
        (values(&end), &end.json()["commit"]),
        (Vec::new(), &Value::Null)
    );
    let offsets = ask(&broker, "GET", "/api/groups/g/offsets", &[], &Value::Null).json();
    assert_eq!(offsets[0]["offset"], 4);
    // A lease that ends goes to another, and its token is lost.
    http_exchange(broker.http, "POST", "/t/t", &[], b"e");
    let last = next(&broker, "one", "&lease=1s");
    assert_eq!(values(&last), ["e"]);
    let token = commit(&last);
    let mut taken = next(&broker, "two", "");
    eventually("the lease ends", || {
        let is_taken = !values(&taken).is_empty();
        if !is_taken {
            taken = next(&broker, "two", "&wait=500ms");
        }
        is_taken
    });
    assert_eq!(values(&taken), ["e"]);
    assert_eq!(
        kind(&next(&broker, "one", &format!("&commit={token}"))),
        (409, "lost-lease".into())
    );
    let token = commit(&taken);
    broker.kill_9();
    // No lease outlives the broker; what was not committed comes again.
    let broker = Broker::start(dir.path());
    assert_eq!(
        kind(&next(&broker, "two", &format!("&commit={token}"))),
        (409, "lost-lease".into())
    );
    assert_eq!(values(&next(&broker, "two", "")), ["e"]);
    for query in ["&commit=x", "&max=0", "&lease=1ms", "&wait=2m", "&from=7"] {
        assert_eq!(next(&broker, "two", query).status, 400, "{query}");
    }
    let path = "/api/groups/g/next?topic=t";
    assert_eq!(
        ask(&broker, "POST", path, &[], &Value::Null).status,
        400,
        "no Client-Id"
    );
    let path = "/api/groups/g/next?topic=none";
    assert_eq!(
        ask(&broker, "POST", path, &[("Client-Id", "x")], &Value::Null).status,
        404
    );
}

#[test]
fn a_producer_may_send_a_record_again_over_restarts_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let made = ask(&broker, "POST", "/api/producers", &[], &Value::Null);
    assert_eq!((made.status, &made.json()["epoch"]), (201, &json!(0)));
    let id = made.json()["producer_id"].to_string();
    let send = |broker: &Broker, epoch: &str, sequence: &str, body: &[u8]| {
        let headers = [
            ("Producer-Id", &*id),
            ("Producer-Epoch", epoch),
            ("Sequence", sequence),
        ];
        http_exchange(broker.http, "POST", "/t/t", &headers, body)
    };
    let stored = |reply: HttpReply| {
        assert_eq!(reply.status, 200, "{}", reply.text());
        (
            reply.json()["offset"].as_i64().unwrap(),
            reply.json()["duplicate"] == true,
        )
    };
    assert_eq!(stored(send(&broker, "0", "0", b"a")), (0, false));
    assert_eq!(stored(send(&broker, "0", "1", b"b")), (1, false));
    assert_eq!(stored(send(&broker, "0", "1", b"b")), (1, true));
    broker.kill_9();
    let broker = Broker::start(dir.path());
    assert_eq!(stored(send(&broker, "0", "0", b"a")), (0, true));
    let gap = send(&broker, "0", "5", b"f");
    assert_eq!(kind(&gap), (409, "out-of-order-sequence".into()));
    assert_eq!(gap.json()["expected_sequence"], 2);
    assert_eq!(stored(send(&broker, "0", "2", b"c")), (2, false));
    assert_eq!(stored(send(&broker, "1", "0", b"d")), (3, false));
    assert_eq!(
        kind(&send(&broker, "0", "3", b"e")),
        (409, "stale-producer-epoch".into())
    );
    assert_eq!(send(&broker, "0", "x", b"e").status, 400);
    let some = [("Producer-Id", &*id), ("Sequence", "4")];
    assert_eq!(
        http_exchange(broker.http, "POST", "/t/t", &some, b"e").status,
        400
    );
}
