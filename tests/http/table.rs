//! Every route of the table: that it succeeds, and that garbage is refused as a problem.

use crate::support::{HttpReply, broker_with, http_exchange};
use millstream::http::router::ROUTES;
use std::collections::BTreeSet;

/// A request for each route, in an order in which each succeeds: route, path, body, status.
const SUCCESS: &[(&str, &str, &str, u16)] = &[
    ("GET /", "/", "", 200),
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
    ("GET /api/groups", "/api/groups", "", 200),
    (
        "DELETE /api/topics/{topic}",
        "/api/topics/t?confirm=t",
        "",
        204,
    ),
    ("GET /metrics", "/metrics", "", 200),
];

fn is_problem(reply: &HttpReply) -> bool {
    reply.header("content-type") == "application/problem+json"
        && reply.json()["status"] == reply.status
}

#[test]
fn every_route_succeeds_and_is_counted() {
    let (_dir, broker, _) = broker_with(&[]);
    for (route, path, body, status) in SUCCESS {
        let method = route.split(' ').next().unwrap();
        let reply = http_exchange(broker.http, method, path, &[], body.as_bytes());
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
fn every_route_refuses_garbage_with_a_problem() {
    let (_dir, broker, _) = broker_with(&[]);
    for route in ROUTES {
        let method = route.method.as_str();
        let named = route.path.replace(['{', '}'], "");
        // A parameter that no route has, one that comes twice, one that is no text.
        for query in ["nobody_has_this=1", "key=1&key=2", "key=%ff"] {
            let path = format!("{named}?{query}");
            let reply = http_exchange(broker.http, method, &path, &[], b"");
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text());
            assert!(is_problem(&reply), "{method} {path}");
        }
        if !route.path.contains('{') {
            continue;
        }
        // Names that no topic and no group can have, and bodies that are nothing.
        for part in ["%00", "%2e%2e", "%F0%9F%92%A9", &"x".repeat(300)] {
            let path = route
                .path
                .split('/')
                .map(|name| if name.starts_with('{') { part } else { name });
            let path = path.collect::<Vec<_>>().join("/");
            for body in [&b""[..], b"\xff\x00\x01", b"{\"a\":", b"[[[[[[[["] {
                let reply = http_exchange(broker.http, method, &path, &[], body);
                let what = format!(
                    "{method} {path} {body:?}: {} {}",
                    reply.status,
                    reply.text()
                );
                assert!((400..500).contains(&reply.status), "{what}");
                assert!(is_problem(&reply), "{what}");
            }
        }
    }
    assert_eq!(
        http_exchange(broker.http, "GET", "/healthz", &[], b"").status,
        200
    );
}
