//! Every route of the table: that it succeeds, and that garbage is refused as a problem.

use crate::support::group::{OFFSET_COMMIT, commit};
use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use millstream::http::router::{Dialect, ROUTES};
use std::collections::BTreeSet;

/// A request for each route, in an order in which each succeeds: route, path, body, status.
pub const SUCCESS: &[(&str, &str, &str, u16)] = &[
    ("GET /", "/", "", 200),
    ("GET /page.css", "/page.css", "", 200),
    ("GET /page.js", "/page.js", "", 200),
    ("GET /healthz", "/healthz", "", 200),
    ("GET /readyz", "/readyz", "", 200),
    ("GET /openapi.json", "/openapi.json", "", 200),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/t",
        "{\"partitions\":2}",
        201,
    ),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/k",
        "{\"configs\":{\"key.index\":\"true\"}}",
        201,
    ),
    ("POST /t/{topic}", "/t/k?key=a", "value", 200),
    ("POST /t/{topic}", "/t/t?partition=0&key=k", "value", 200),
    ("GET /t/{topic}", "/t/t", "", 200),
    ("GET /t/{topic}/{partition}/{offset}", "/t/t/0/0", "", 200),
    ("GET /t/{topic}/keys/{key}", "/t/k/keys/a", "", 200),
    ("GET /api/topics", "/api/topics", "", 200),
    ("GET /api/topics/{topic}", "/api/topics/t", "", 200),
    ("GET /api/warnings", "/api/warnings", "", 200),
    ("GET /api/groups", "/api/groups", "", 200),
    (
        "PUT /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":0}]}",
        204,
    ),
    (
        "GET /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        "",
        200,
    ),
    (
        "POST /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        "{\"topic\":\"t\",\"to\":\"earliest\"}",
        200,
    ),
    ("GET /api/groups/{group}", "/api/groups/own", "", 200),
    (
        "POST /api/groups/{group}/next",
        "/api/groups/own/next?topic=t",
        "",
        200,
    ),
    ("GET /t/{topic}/keys", "/t/k/keys", "", 200),
    (
        "PATCH /api/topics/{topic}",
        "/api/topics/k",
        "{\"partitions\":2,\"configs\":{\"retention.ms\":\"1000000\"}}",
        200,
    ),
    (
        "GET /api/topics/{topic}/configs",
        "/api/topics/k/configs",
        "",
        200,
    ),
    ("DELETE /t/{topic}", "/t/k?before=0:0", "", 200),
    ("POST /api/producers", "/api/producers", "", 201),
    ("GET /topics", "/topics", "", 200),
    ("GET /topics/{topic}", "/topics/t", "", 200),
    (
        "POST /topics/{topic}",
        "/topics/t",
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        200,
    ),
    (
        "GET /topics/{topic}/partitions",
        "/topics/t/partitions",
        "",
        200,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/0",
        "",
        200,
    ),
    (
        "POST /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/0",
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        200,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/offsets",
        "/topics/t/partitions/0/offsets",
        "",
        200,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/records",
        "/topics/t/partitions/0/records?offset=0",
        "",
        200,
    ),
    ("GET /brokers", "/brokers", "", 200),
    (
        "POST /admin/topics",
        "/admin/topics",
        "{\"topic_name\":\"u\",\"partitions_count\":1}",
        201,
    ),
    ("GET /v3/clusters", "/v3/clusters", "", 200),
    (
        "GET /v3/clusters/{cluster}",
        "/v3/clusters/{cluster}",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/brokers",
        "/v3/clusters/{cluster}/brokers",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/brokers/{broker}",
        "/v3/clusters/{cluster}/brokers/1",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/topics",
        "/kafka/v3/clusters/{cluster}/topics",
        "",
        200,
    ),
    (
        "POST /v3/clusters/{cluster}/topics",
        "/v3/clusters/{cluster}/topics",
        r#"{"topic_name":"w"}"#,
        201,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/t",
        "",
        200,
    ),
    (
        "PATCH /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/t",
        r#"{"partitions_count":3}"#,
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/configs",
        "/v3/clusters/{cluster}/topics/t/configs",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/t/configs/retention.ms",
        "",
        200,
    ),
    (
        "PUT /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/t/configs/retention.ms",
        r#"{"value":"-1"}"#,
        204,
    ),
    (
        "DELETE /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/t/configs/retention.ms",
        "",
        204,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/configs:alter",
        "/v3/clusters/{cluster}/topics/t/configs:alter",
        r#"{"data":[{"name":"retention.ms","value":"-1"}]}"#,
        204,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions",
        "/v3/clusters/{cluster}/topics/t/partitions",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}",
        "/v3/clusters/{cluster}/topics/t/partitions/0",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset",
        "/v3/clusters/{cluster}/topics/t/partitions/0/offset",
        "",
        200,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records",
        "/v3/clusters/{cluster}/topics/t/records",
        r#"{"value":{"type":"JSON","data":1}}"#,
        200,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records:batch",
        "/v3/clusters/{cluster}/topics/t/records:batch",
        r#"{"entries":[{"id":"1","value":{"type":"JSON","data":1}}]}"#,
        207,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups",
        "/v3/clusters/{cluster}/consumer-groups",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}",
        "/v3/clusters/{cluster}/consumer-groups/g",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers",
        "/v3/clusters/{cluster}/consumer-groups/g/consumers",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}",
        "/v3/clusters/{cluster}/consumer-groups/g/consumers/none",
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lag-summary",
        "/v3/clusters/{cluster}/consumer-groups/g/lag-summary",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lags",
        "/v3/clusters/{cluster}/consumer-groups/g/lags",
        "",
        200,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}",
        "/v3/clusters/{cluster}/consumer-groups/g/lags/t/partitions/0",
        "",
        200,
    ),
    (
        "DELETE /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/w",
        "",
        204,
    ),
    (
        "POST /consumers/{group}",
        "/consumers/web",
        r#"{"name":"c"}"#,
        200,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/c/subscription",
        r#"{"topics":["t"]}"#,
        204,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/c/subscription",
        "",
        200,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/records",
        "/consumers/web/instances/c/records",
        "",
        200,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/offsets",
        "/consumers/web/instances/c/offsets",
        "",
        204,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/offsets",
        "/consumers/web/instances/c/offsets",
        r#"{"partitions":[{"topic":"t","partition":0}]}"#,
        200,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions",
        "/consumers/web/instances/c/positions",
        r#"{"offsets":[{"topic":"t","partition":0,"offset":0}]}"#,
        204,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions/beginning",
        "/consumers/web/instances/c/positions/beginning",
        r#"{"partitions":[{"topic":"t","partition":0}]}"#,
        204,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions/end",
        "/consumers/web/instances/c/positions/end",
        r#"{"partitions":[{"topic":"t","partition":0}]}"#,
        204,
    ),
    (
        "DELETE /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/c/subscription",
        "",
        204,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/assignments",
        "/consumers/web/instances/c/assignments",
        r#"{"partitions":[{"topic":"t","partition":0}]}"#,
        204,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/assignments",
        "/consumers/web/instances/c/assignments",
        "",
        200,
    ),
    (
        "DELETE /consumers/{group}/instances/{instance}",
        "/consumers/web/instances/c",
        "",
        204,
    ),
    (
        "DELETE /api/topics/{topic}",
        "/api/topics/t?confirm=t",
        "",
        204,
    ),
    ("GET /metrics", "/metrics", "", 200),
];

/// Whether a refusal is in the form of its route's dialect.
pub fn is_refusal(reply: &HttpReply, dialect: Dialect) -> bool {
    let kind = match dialect {
        Dialect::Native => {
            return reply.header("content-type") == "application/problem+json"
                && reply.json()["status"] == reply.status;
        }
        Dialect::V2 => "application/vnd.kafka.v2+json",
        Dialect::V3 => "application/json",
    };
    let body = reply.json();
    let code = body["error_code"].as_u64().unwrap().to_string();
    reply.header("content-type") == kind
        && code.starts_with(&reply.status.to_string())
        && body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
}

pub fn cluster_id(broker: &Broker) -> String {
    let clusters = http_exchange(broker.http, "GET", "/v3/clusters", &[], b"").json();
    let id = clusters["data"][0]["cluster_id"].as_str();
    id.unwrap().to_owned()
}

#[test]
fn every_route_succeeds_and_is_counted() {
    let (_dir, broker, mut wire) = broker_with(&["--group-initial-rebalance-delay-ms=0"]);
    let cluster = cluster_id(&broker);
    for (route, path, body, status) in SUCCESS {
        if *path == "/v3/clusters" {
            // A group that has committed.
            wire.call(&commit("g", "t", &[(0, 0)]), OFFSET_COMMIT);
        }
        let method = route.split(' ').next().unwrap();
        let path = path.replace("{cluster}", &cluster);
        let reply = http_exchange(
            broker.http,
            method,
            &path,
            &[("Client-Id", "table")],
            body.as_bytes(),
        );
        assert_eq!(reply.status, *status, "{route}: {}", reply.text());
    }
    let asked: BTreeSet<&str> = SUCCESS.iter().map(|(route, ..)| *route).collect();
    for route in ROUTES {
        let label = format!("{} {}", route.method, route.path);
        assert!(asked.contains(label.as_str()), "no test asks for {label}");
        let label = format!("api=\"{label}\"");
        assert!(
            broker.metric("millstream_request_seconds_count", &label) > 0.0,
            "{label}"
        );
    }
}

#[test]
fn every_route_refuses_garbage_in_the_words_of_its_dialect() {
    let (_dir, broker, _) = broker_with(&[]);
    let cluster = cluster_id(&broker);
    for route in ROUTES {
        let method = route.method.as_str();
        let path = route.path.replace("{cluster}", &cluster);
        let named = path.replace(['{', '}'], "");
        // A parameter that no route has, one that comes twice, one that is no text.
        for query in ["nobody_has_this=1", "key=1&key=2", "key=%ff"] {
            // Proxies ignore what they do not know.
            if query.starts_with("nobody") && route.dialect != Dialect::Native {
                continue;
            }
            let path = format!("{named}?{query}");
            let reply = http_exchange(broker.http, method, &path, &[], b"");
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text());
            assert!(is_refusal(&reply, route.dialect), "{method} {path}");
        }
        if !path.contains('{') {
            continue;
        }
        // Names that no topic and no group can have, and bodies that are nothing.
        for part in ["%00", "%2e%2e", "%F0%9F%92%A9", &"x".repeat(300)] {
            let path = path
                .split('/')
                .map(|name| if name.starts_with('{') { part } else { name });
            let path = path.collect::<Vec<_>>().join("/");
            for body in [&b""[..], b"\xff\x00\x01", b"{\"a\":", b"[[[[[[[["] {
                // A group may have any name, and an instance needs no settings.
                if body.is_empty() && route.path == "/consumers/{group}" {
                    continue;
                }
                let reply = http_exchange(broker.http, method, &path, &[], body);
                let what = format!(
                    "{method} {path} {body:?}: {} {}",
                    reply.status,
                    reply.text()
                );
                assert!((400..500).contains(&reply.status), "{what}");
                assert!(is_refusal(&reply, route.dialect), "{what}");
            }
        }
    }
    assert_eq!(
        http_exchange(broker.http, "GET", "/healthz", &[], b"").status,
        200
    );
}
