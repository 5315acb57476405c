//! What each route refuses, and with which status: those that a client of it must know. What all routes refuse alike is
//! tested with the hosts, the origins and the garbage (`table.rs`, `connections.rs`).

use super::table::{cluster_id, is_refusal};
use crate::support::{broker_with, http_exchange};
use millstream::http::router::ROUTES;
use std::collections::BTreeSet;

type Headers = &'static [(&'static str, &'static str)];

const V2: Headers = &[("Content-Type", "application/vnd.kafka.v2+json")];
const BINARY: Headers = &[("Content-Type", "application/vnd.kafka.binary.v2+json")];
const PNG: Headers = &[("Accept", "image/png")];
const CLIENT: Headers = &[("Client-Id", "a")];
/// Bodies that are made for the occasion: of a record that is larger than a topic takes, such a record in base64, and
/// an offset with a note that is too long.
const LARGE: &str = "(large)";
const LARGE_RECORD: &str = "(large record)";
const LARGE_NOTE: &str = "(large note)";

/// What is done before: method, path, headers, body.
const BEFORE: &[(&str, &str, Headers, &str)] = &[
    (
        "PUT",
        "/api/topics/t",
        &[],
        "{\"partitions\":1,\"configs\":{\"dedup.window.ms\":\"600000\",\"conditional.append\":\"true\"}}",
    ),
    (
        "PUT",
        "/api/topics/k",
        &[],
        "{\"partitions\":1,\"configs\":{\"key.index\":\"true\"}}",
    ),
    (
        "PUT",
        "/api/topics/c",
        &[],
        "{\"configs\":{\"cleanup.policy\":\"compact\"}}",
    ),
    ("POST", "/t/t", &[("Idempotency-Key", "a")], "v"),
    ("POST", "/t/t", &[], "v"),
    (
        "PUT",
        "/api/groups/own/offsets",
        &[],
        "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":0}]}",
    ),
    (
        "POST",
        "/consumers/web",
        V2,
        "{\"name\":\"i\",\"format\":\"binary\"}",
    ),
    (
        "POST",
        "/consumers/web/instances/i/subscription",
        V2,
        "{\"topics\":[\"t\"]}",
    ),
    (
        "POST",
        "/consumers/web",
        V2,
        "{\"name\":\"n\",\"format\":\"binary\"}",
    ),
    (
        "POST",
        "/t/t",
        &[
            ("Producer-Id", "77"),
            ("Producer-Epoch", "0"),
            ("Sequence", "0"),
        ],
        "v",
    ),
];

/// Route, path, headers, body, status.
const REFUSED: &[(&str, &str, Headers, &str, u16)] = &[
    ("POST /t/{topic}", "/t/nobody", &[], "v", 404),
    ("POST /t/{topic}", "/t/t?partition=9", &[], "v", 404),
    (
        "POST /t/{topic}",
        "/t/t",
        &[("If-Match", "\"p:0\"")],
        "v",
        412,
    ),
    (
        "POST /t/{topic}",
        "/t/t",
        &[
            ("Producer-Id", "77"),
            ("Producer-Epoch", "0"),
            ("Sequence", "9"),
        ],
        "v",
        409,
    ),
    ("POST /t/{topic}", "/t/t", &[], LARGE, 413),
    (
        "POST /t/{topic}",
        "/t/t",
        &[("Content-Encoding", "br")],
        "v",
        415,
    ),
    (
        "POST /t/{topic}",
        "/t/t",
        &[("Idempotency-Key", "a")],
        "w",
        422,
    ),
    ("POST /t/{topic}", "/t/c", &[], "v", 422),
    ("POST /t/{topic}", "/t/__consumer_offsets", &[], "v", 403),
    (
        "POST /t/{topic}",
        "/t/t?key=a",
        &[("If-Match", "\"k:0\"")],
        "v",
        412,
    ),
    ("GET /t/{topic}", "/t/nobody", &[], "", 404),
    ("GET /t/{topic}", "/t/t?from=99", &[], "", 416),
    ("GET /t/{topic}", "/t/t", PNG, "", 406),
    (
        "GET /t/{topic}/{partition}/{offset}",
        "/t/nobody/0/0",
        &[],
        "",
        404,
    ),
    (
        "GET /t/{topic}/{partition}/{offset}",
        "/t/t/0/99",
        &[],
        "",
        404,
    ),
    ("GET /t/{topic}/keys", "/t/nobody/keys", &[], "", 404),
    ("GET /t/{topic}/keys", "/t/t/keys", PNG, "", 406),
    ("GET /t/{topic}/keys", "/t/c/keys", &[], "", 503),
    (
        "GET /t/{topic}/keys/{key}",
        "/t/k/keys/nobody",
        &[],
        "",
        404,
    ),
    ("GET /t/{topic}/keys/{key}", "/t/c/keys/a", &[], "", 503),
    ("DELETE /t/{topic}", "/t/nobody?before=0:0", &[], "", 404),
    ("DELETE /t/{topic}", "/t/t?before=0:99", &[], "", 416),
    ("DELETE /t/{topic}", "/t/t?before=7:0", &[], "", 404),
    (
        "DELETE /t/{topic}",
        "/t/__consumer_offsets?before=0:0",
        &[],
        "",
        403,
    ),
    (
        "GET /api/topics/{topic}",
        "/api/topics/nobody",
        &[],
        "",
        404,
    ),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/t",
        &[],
        "{\"partitions\":7}",
        409,
    ),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/u",
        &[],
        "{\"partitions\":0}",
        422,
    ),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/u",
        &[],
        "{\"configs\":{\"retention.ms\":\"x\"}}",
        422,
    ),
    (
        "PUT /api/topics/{topic}",
        "/api/topics/__transaction_state",
        &[],
        "{}",
        403,
    ),
    (
        "PATCH /api/topics/{topic}",
        "/api/topics/nobody",
        &[],
        "{\"partitions\":2}",
        404,
    ),
    (
        "PATCH /api/topics/{topic}",
        "/api/topics/t",
        &[],
        "{\"partitions\":0}",
        422,
    ),
    (
        "PATCH /api/topics/{topic}",
        "/api/topics/t",
        &[],
        "{\"configs\":{\"nobody\":\"1\"}}",
        422,
    ),
    (
        "GET /api/topics/{topic}/configs",
        "/api/topics/nobody/configs",
        &[],
        "",
        404,
    ),
    (
        "DELETE /api/topics/{topic}",
        "/api/topics/nobody?confirm=nobody",
        &[],
        "",
        404,
    ),
    (
        "DELETE /api/topics/{topic}",
        "/api/topics/t?confirm=u",
        &[],
        "",
        400,
    ),
    ("GET /topics/{topic}", "/topics/nobody", &[], "", 404),
    (
        "POST /topics/{topic}",
        "/topics/nobody",
        BINARY,
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        404,
    ),
    (
        "POST /topics/{topic}",
        "/topics/t",
        BINARY,
        "{\"records\":[]}",
        422,
    ),
    (
        "POST /topics/{topic}",
        "/topics/t",
        BINARY,
        "{\"records\":[{\"value\":\"?\"}]}",
        422,
    ),
    (
        "POST /topics/{topic}",
        "/topics/t",
        &[("Content-Type", "text/plain")],
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        415,
    ),
    (
        "POST /topics/{topic}",
        "/topics/t",
        BINARY,
        LARGE_RECORD,
        413,
    ),
    (
        "GET /topics/{topic}/partitions",
        "/topics/nobody/partitions",
        &[],
        "",
        404,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/9",
        &[],
        "",
        404,
    ),
    (
        "POST /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/9",
        BINARY,
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        404,
    ),
    (
        "POST /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/0",
        BINARY,
        "{\"records\":[]}",
        422,
    ),
    (
        "POST /topics/{topic}/partitions/{partition}",
        "/topics/t/partitions/0",
        &[("Content-Type", "text/plain")],
        "{\"records\":[{\"value\":\"dGVh\"}]}",
        415,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/offsets",
        "/topics/t/partitions/9/offsets",
        &[],
        "",
        404,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/records",
        "/topics/t/partitions/9/records?offset=0",
        &[],
        "",
        404,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/records",
        "/topics/t/partitions/0/records?offset=99",
        &[],
        "",
        400,
    ),
    (
        "GET /topics/{topic}/partitions/{partition}/records",
        "/topics/t/partitions/0/records?offset=0",
        PNG,
        "",
        406,
    ),
    (
        "POST /admin/topics",
        "/admin/topics",
        V2,
        "{\"topic_name\":\"t\",\"partitions_count\":1}",
        400,
    ),
    (
        "POST /consumers/{group}",
        "/consumers/web",
        V2,
        "{\"name\":\"i\"}",
        409,
    ),
    (
        "POST /consumers/{group}",
        "/consumers/web",
        V2,
        "{\"format\":\"nothing\"}",
        422,
    ),
    (
        "DELETE /consumers/{group}/instances/{instance}",
        "/consumers/web/instances/nobody",
        V2,
        "",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/nobody/subscription",
        V2,
        "{\"topics\":[\"t\"]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/i/subscription",
        V2,
        "{\"topics\":[\"t\"],\"topic_pattern\":\"t\"}",
        409,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/i/subscription",
        V2,
        "{}",
        422,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/nobody/subscription",
        V2,
        "",
        404,
    ),
    (
        "DELETE /consumers/{group}/instances/{instance}/subscription",
        "/consumers/web/instances/nobody/subscription",
        V2,
        "",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/assignments",
        "/consumers/web/instances/nobody/assignments",
        V2,
        "{\"partitions\":[]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/assignments",
        "/consumers/web/instances/i/assignments",
        V2,
        "{\"partitions\":[{\"topic\":\"t\",\"partition\":0}]}",
        409,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/assignments",
        "/consumers/web/instances/nobody/assignments",
        V2,
        "",
        404,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/records",
        "/consumers/web/instances/nobody/records",
        &[],
        "",
        404,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/records",
        "/consumers/web/instances/i/records",
        &[("Accept", "application/vnd.kafka.json.v2+json")],
        "",
        406,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/records",
        "/consumers/web/instances/n/records",
        &[],
        "",
        409,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/offsets",
        "/consumers/web/instances/nobody/offsets",
        V2,
        "",
        404,
    ),
    (
        "GET /consumers/{group}/instances/{instance}/offsets",
        "/consumers/web/instances/nobody/offsets",
        V2,
        "{\"partitions\":[]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions",
        "/consumers/web/instances/nobody/positions",
        V2,
        "{\"offsets\":[]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions",
        "/consumers/web/instances/i/positions",
        V2,
        "{\"offsets\":[{\"topic\":\"t\",\"partition\":9,\"offset\":0}]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions/beginning",
        "/consumers/web/instances/nobody/positions/beginning",
        V2,
        "{\"partitions\":[]}",
        404,
    ),
    (
        "POST /consumers/{group}/instances/{instance}/positions/end",
        "/consumers/web/instances/nobody/positions/end",
        V2,
        "{\"partitions\":[]}",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}",
        "/v3/clusters/nobody",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/brokers",
        "/v3/clusters/nobody/brokers",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/brokers/{broker}",
        "/v3/clusters/{cluster}/brokers/9",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics",
        "/v3/clusters/nobody/topics",
        &[],
        "",
        404,
    ),
    (
        "POST /v3/clusters/{cluster}/topics",
        "/v3/clusters/{cluster}/topics",
        &[],
        "{\"topic_name\":\"t\"}",
        400,
    ),
    (
        "POST /v3/clusters/{cluster}/topics",
        "/v3/clusters/nobody/topics",
        &[],
        "{\"topic_name\":\"z\"}",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/nobody",
        &[],
        "",
        404,
    ),
    (
        "PATCH /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/nobody",
        &[],
        "{\"partitions_count\":2}",
        404,
    ),
    (
        "PATCH /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/t",
        &[],
        "{\"partitions_count\":1}",
        400,
    ),
    (
        "DELETE /v3/clusters/{cluster}/topics/{topic}",
        "/v3/clusters/{cluster}/topics/nobody",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/configs",
        "/v3/clusters/{cluster}/topics/nobody/configs",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/t/configs/nobody",
        &[],
        "",
        404,
    ),
    (
        "PUT /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/t/configs/retention.ms",
        &[],
        "{\"value\":\"x\"}",
        400,
    ),
    (
        "PUT /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/nobody/configs/retention.ms",
        &[],
        "{\"value\":\"1\"}",
        404,
    ),
    (
        "DELETE /v3/clusters/{cluster}/topics/{topic}/configs/{name}",
        "/v3/clusters/{cluster}/topics/nobody/configs/retention.ms",
        &[],
        "",
        404,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/configs:alter",
        "/v3/clusters/{cluster}/topics/nobody/configs:alter",
        &[],
        "{\"data\":[]}",
        404,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/configs:alter",
        "/v3/clusters/{cluster}/topics/t/configs:alter",
        &[],
        "{\"data\":[{\"name\":\"retention.ms\",\"value\":\"x\"}]}",
        400,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions",
        "/v3/clusters/{cluster}/topics/nobody/partitions",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}",
        "/v3/clusters/{cluster}/topics/t/partitions/9",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset",
        "/v3/clusters/{cluster}/topics/t/partitions/9/offset",
        &[],
        "",
        404,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records",
        "/v3/clusters/{cluster}/topics/t/records",
        &[],
        "",
        422,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records",
        "/v3/clusters/{cluster}/topics/nobody/records",
        &[],
        "{\"value\":{\"type\":\"STRING\",\"data\":\"x\"}}",
        404,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records:batch",
        "/v3/clusters/{cluster}/topics/t/records:batch",
        &[],
        "{\"entries\":[]}",
        422,
    ),
    (
        "POST /v3/clusters/{cluster}/topics/{topic}/records:batch",
        "/v3/clusters/{cluster}/topics/nobody/records:batch",
        &[],
        "{\"entries\":[{\"id\":\"1\",\"value\":{\"type\":\"STRING\",\"data\":\"x\"}}]}",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups",
        "/v3/clusters/nobody/consumer-groups",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}",
        "/v3/clusters/{cluster}/consumer-groups/nobody",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers",
        "/v3/clusters/{cluster}/consumer-groups/nobody/consumers",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}",
        "/v3/clusters/{cluster}/consumer-groups/web/consumers/nobody",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lag-summary",
        "/v3/clusters/{cluster}/consumer-groups/nobody/lag-summary",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lags",
        "/v3/clusters/{cluster}/consumer-groups/nobody/lags",
        &[],
        "",
        404,
    ),
    (
        "GET /v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}",
        "/v3/clusters/{cluster}/consumer-groups/own/lags/t/partitions/9",
        &[],
        "",
        404,
    ),
    (
        "GET /api/groups/{group}",
        "/api/groups/nobody",
        &[],
        "",
        404,
    ),
    (
        "GET /api/groups/{group}/offsets",
        "/api/groups/nobody/offsets",
        &[],
        "",
        404,
    ),
    (
        "PUT /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        &[],
        "{\"offsets\":[{\"topic\":\"nobody\",\"partition\":0,\"offset\":0}]}",
        404,
    ),
    (
        "PUT /api/groups/{group}/offsets",
        "/api/groups/web/offsets",
        &[],
        "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":0}]}",
        409,
    ),
    (
        "PUT /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        &[],
        LARGE_NOTE,
        422,
    ),
    (
        "POST /api/groups/{group}/offsets",
        "/api/groups/own/offsets",
        &[],
        "{\"topic\":\"nobody\",\"to\":\"earliest\"}",
        404,
    ),
    (
        "POST /api/groups/{group}/offsets",
        "/api/groups/web/offsets",
        &[],
        "{\"topic\":\"t\",\"to\":\"earliest\"}",
        409,
    ),
    (
        "POST /api/groups/{group}/next",
        "/api/groups/own/next?topic=nobody",
        CLIENT,
        "",
        404,
    ),
    (
        "POST /api/groups/{group}/next",
        "/api/groups/own/next?topic=t&commit=0:0:77",
        CLIENT,
        "",
        409,
    ),
    (
        "POST /api/groups/{group}/next",
        "/api/groups/web/next?topic=t&commit=0:0:77",
        CLIENT,
        "",
        409,
    ),
];

fn body(body: &str) -> String {
    match body {
        LARGE => "x".repeat(2_000_000),
        LARGE_RECORD => format!(
            "{{\"records\":[{{\"value\":\"{}\"}}]}}",
            "eHh4".repeat(400_000)
        ),
        LARGE_NOTE => {
            let note = "x".repeat(5_000);
            let offset =
                format!("{{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"metadata\":\"{note}\"}}");
            format!("{{\"offsets\":[{offset}]}}")
        }
        other => other.to_owned(),
    }
}

#[test]
fn every_route_with_a_name_in_it_refuses_what_its_clients_must_know() {
    let arguments = [
        "--group-initial-rebalance-delay-ms=0",
        "--auto-create-topics=false",
    ];
    let (_dir, broker, _) = broker_with(&arguments);
    let cluster = cluster_id(&broker);
    for (method, path, headers, body) in BEFORE {
        let reply = http_exchange(broker.http, method, path, headers, body.as_bytes());
        assert!(reply.status < 300, "{method} {path}: {}", reply.text());
    }
    for (route, path, headers, sent, status) in REFUSED {
        let method = route.split(' ').next().unwrap();
        let path = path.replace("{cluster}", &cluster);
        let sent = body(sent);
        let reply = http_exchange(broker.http, method, &path, headers, sent.as_bytes());
        let what = format!("{route} {path}: {} {}", reply.status, reply.text());
        assert_eq!(reply.status, *status, "{what}");
        let same = |known: &&millstream::http::router::Route| {
            *route == format!("{} {}", known.method, known.path)
        };
        let known = ROUTES.iter().find(same).expect(route);
        assert!(is_refusal(&reply, known.dialect), "{what}");
    }
    let refused: BTreeSet<&str> = REFUSED.iter().map(|(route, ..)| *route).collect();
    for route in ROUTES.iter().filter(|route| route.path.contains('{')) {
        let label = format!("{} {}", route.method, route.path);
        assert!(
            refused.contains(label.as_str()),
            "nothing that {label} refuses is tested"
        );
    }
}
