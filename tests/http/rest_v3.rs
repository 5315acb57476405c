//! What clients of a REST proxy's version 3 send, and what they parse.

use super::rest_v2::code;
use crate::support::group::{OFFSET_COMMIT, commit, commit_error, group_of};
use crate::support::{Broker, HttpReply, broker_with, http_exchange};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A broker as a client of version 3 sees it.
struct Proxy<'a> {
    broker: &'a Broker,
    cluster: String,
}

impl Proxy<'_> {
    fn of(broker: &Broker) -> Proxy<'_> {
        let clusters = http_exchange(broker.http, "GET", "/v3/clusters", &[], b"").json();
        let cluster = clusters["data"][0]["cluster_id"].as_str();
        Proxy {
            broker,
            cluster: cluster.unwrap().to_owned(),
        }
    }

    /// `path` in the cluster.
    fn ask(&self, method: &str, path: &str, body: &str) -> HttpReply {
        let path = format!("/v3/clusters/{}/{path}", self.cluster);
        let headers = [("Content-Type", "application/json")];
        http_exchange(self.broker.http, method, &path, &headers, body.as_bytes())
    }

    fn get(&self, path: &str) -> HttpReply {
        self.ask("GET", path, "")
    }

    fn told(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json");
        reply.json()
    }

    /// Under the name that it was asked for.
    fn url(&self, path: &str) -> String {
        format!("http://localhost/v3/clusters/{}/{path}", self.cluster)
    }
}

/// The objects of a stream.
fn objects(reply: &HttpReply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_stream_of_records_is_told_record_by_record() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("orders", 1);
    let proxy = Proxy::of(&broker);
    let cluster = &proxy.cluster;
    let body = r#"{"value":{"type":"STRING","data":"tea"},"timestamp":"2026-11-29T14:00:00Z"}{"value":{"type":"JSON","data":{"a":1}},"key":{"type":"BINARY","data":"YW5u"},"timestamp":"2026-11-29T14:00:00Z"}"#;
    let reply = proxy.ask("POST", "topics/orders/records", body);
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    let expected = format!(
        r#"{{"error_code":200,"cluster_id":"{cluster}","topic_name":"orders","partition_id":0,"offset":0,"timestamp":"2026-11-29T14:00:00Z","value":{{"type":"STRING","size":3}}}}
{{"error_code":200,"cluster_id":"{cluster}","topic_name":"orders","partition_id":0,"offset":1,"timestamp":"2026-11-29T14:00:00Z","key":{{"type":"BINARY","size":3}},"value":{{"type":"JSON","size":7}}}}
"#
    );
    assert_eq!((reply.status, reply.text()), (200, expected));
    assert_eq!(
        wire.values("orders", 0),
        [b"tea".to_vec(), b"{\"a\":1}".to_vec()]
    );

    // One that fails is told in its place; after what is no JSON there is nothing.
    let body = r#"{"value":{"type":"BINARY","data":"*"}} {"value":{"type":"AVRO","data":1}} {"partition_id":9} {} {"value":"#;
    let told = objects(&proxy.ask("POST", "topics/orders/records", body));
    let codes: Vec<&Value> = told.iter().map(|one| &one["error_code"]).collect();
    assert_eq!(codes, [422, 422, 40403, 200, 400]);
    assert_eq!(
        told[1]["message"],
        "Error: 42206 : Payload error. Schema Registry must be configured when using schemas."
    );
    assert_eq!(
        code(&proxy.ask("POST", "topics/orders/records", "")),
        (422, 42206)
    );
    let many: String = (0..5_000)
        .map(|n| format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{n}}}}}\n"))
        .collect();
    let told = objects(&proxy.ask("POST", "topics/orders/records", &many));
    assert_eq!((told.len(), &told[4_999]["offset"]), (5_000, &json!(5_002)));
}

#[test]
fn a_stream_may_stay_open_and_is_told_meanwhile() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let cluster = Proxy::of(&broker).cluster;
    let mut stream = TcpStream::connect(broker.http).unwrap();
    stream.set_read_timeout(Some(crate::support::HANG)).unwrap();
    write!(
        stream,
        "POST /v3/clusters/{cluster}/topics/t/records HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    let mut seen = Vec::new();
    for number in 0..3 {
        let record = format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{number}}}}}");
        write!(stream, "{:x}\r\n{record}\r\n", record.len()).unwrap();
        let told = format!("\"offset\":{number},");
        while !String::from_utf8_lossy(&seen).contains(&told) {
            let mut piece = [0; 4_096];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "the answer ended");
            seen.extend_from_slice(&piece[..read]);
        }
    }
    write!(stream, "0\r\n\r\n").unwrap();
    while !seen.ends_with(b"0\r\n\r\n") {
        let mut piece = [0; 4_096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the answer broke off");
        seen.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn a_batch_tells_what_is_stored_and_what_is_not() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let proxy = Proxy::of(&broker);
    let post = |body: &str| proxy.ask("POST", "topics/t/records:batch", body);
    let body = r#"{"entries":[{"id":"a","value":{"type":"STRING","data":"x"},"timestamp":"2026-11-29T14:00:00.5Z"},{"id":"b","value":{"type":"BINARY","data":"*"}}]}"#;
    let reply = post(body);
    let expected = json!({
        "successes": [{
            "id": "a", "cluster_id": proxy.cluster, "topic_name": "t", "partition_id": 0, "offset": 0,
            "timestamp": "2026-11-29T14:00:00.5Z", "value": {"type": "STRING", "size": 1},
        }],
        "failures": [{
            "id": "b", "error_code": 422, "message": reply.json()["failures"][0]["message"],
        }],
    });
    assert_eq!((reply.status, reply.json()), (207, expected));
    let entries = |ids: &[&str]| {
        let entries: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({ "entries": entries }).to_string()
    };
    let many: Vec<String> = (0..51).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(81);
    for wrong in [&[][..], &["a", "a"], &[""], &[&long], &many] {
        assert_eq!(code(&post(&entries(wrong))), (422, 42208));
    }
    assert_eq!(post(&entries(&many[..50])).status, 207);
    assert_eq!(code(&post(r#"{"entries":[{}]}"#)), (422, 422));
    assert_eq!(code(&post("{}")), (422, 422));
    assert_eq!(code(&post("{")), (400, 400));
}

#[test]
fn topics_are_created_altered_and_deleted() {
    let (_dir, broker, _) = broker_with(&["--node-id", "7"]);
    let proxy = Proxy::of(&broker);
    let new = r#"{"topic_name":"t","partitions_count":2,"replication_factor":1,"configs":[{"name":"cleanup.policy","value":"compact"}]}"#;
    let only_checked = new.replacen('{', "{\"validate_only\":true,", 1);
    assert_eq!(proxy.ask("POST", "topics", &only_checked).status, 200);
    assert_eq!(code(&proxy.get("topics/t")), (404, 40403));
    let reply = proxy.ask("POST", "topics", new);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let topic = json!({
        "kind": "KafkaTopic",
        "metadata": {
            "self": proxy.url("topics/t"),
            "resource_name": format!("crn:///kafka={}/topic=t", proxy.cluster),
        },
        "cluster_id": proxy.cluster,
        "topic_name": "t",
        "is_internal": false,
        "replication_factor": 1,
        "partitions_count": 2,
        "partitions": { "related": proxy.url("topics/t/partitions") },
        "configs": { "related": proxy.url("topics/t/configs") },
        "partition_reassignments": { "related": proxy.url("topics/t/partitions/-/reassignment") },
        "authorized_operations": [],
    });
    assert_eq!(reply.json(), topic);
    assert_eq!(proxy.told("topics/t"), topic);
    let list = json!({
        "kind": "KafkaTopicList",
        "metadata": { "self": proxy.url("topics"), "next": null },
        "data": [topic],
    });
    assert_eq!(proxy.told("topics"), list);
    let kafka = format!("/kafka/v3/clusters/{}/topics", proxy.cluster);
    let kafka = http_exchange(broker.http, "GET", &kafka, &[], b"").json();
    assert!(
        kafka["metadata"]["self"]
            .as_str()
            .unwrap()
            .contains("/kafka/v3/")
    );

    assert_eq!(code(&proxy.ask("POST", "topics", new)), (400, 40002));
    for wrong in [
        r#"{"topic_name":"a b"}"#,
        r#"{"topic_name":"r","replication_factor":3}"#,
    ] {
        assert_eq!(code(&proxy.ask("POST", "topics", wrong)), (400, 40002));
    }
    assert_eq!(code(&proxy.ask("POST", "topics", "{}")), (422, 422));
    let more = proxy.ask("PATCH", "topics/t", r#"{"partitions_count":3}"#);
    assert_eq!(
        (more.status, &more.json()["partitions_count"]),
        (200, &json!(3))
    );
    let fewer = proxy.ask("PATCH", "topics/t", r#"{"partitions_count":1}"#);
    assert_eq!(code(&fewer), (400, 40002));

    let partition = proxy.told("topics/t/partitions/2");
    assert_eq!(
        partition["leader"]["related"],
        proxy.url("topics/t/partitions/2/replicas/7")
    );
    assert_eq!(
        proxy.told("topics/t/partitions")["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let offset = proxy.told("topics/t/partitions/0/offset");
    assert_eq!(
        (&offset["earliest_offset"], &offset["latest_offset"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(code(&proxy.get("topics/t/partitions/3")), (404, 40402));
    assert_eq!(
        code(&proxy.get("topics/t/partitions/x/offset")),
        (404, 40402)
    );

    assert_eq!(proxy.ask("DELETE", "topics/t", "").status, 204);
    assert_eq!(code(&proxy.ask("DELETE", "topics/t", "")), (404, 40403));
    assert_eq!(
        code(&proxy.ask("PATCH", "topics/t", r#"{"partitions_count":9}"#)),
        (404, 40403)
    );
}

#[test]
fn configs_are_told_and_changed() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let proxy = Proxy::of(&broker);
    let of = |name: &str| proxy.told(&format!("topics/t/configs/{name}"));
    let config = of("cleanup.policy");
    assert_eq!(
        (&config["kind"], &config["value"]),
        (&json!("KafkaTopicConfig"), &json!("delete"))
    );
    assert_eq!(
        (&config["source"], &config["is_default"]),
        (&json!("DEFAULT_CONFIG"), &json!(true))
    );
    let put = |name: &str, body: &str| proxy.ask("PUT", &format!("topics/t/configs/{name}"), body);
    assert_eq!(put("cleanup.policy", r#"{"value":"compact"}"#).status, 204);
    let config = of("cleanup.policy");
    assert_eq!(
        (&config["value"], &config["source"]),
        (&json!("compact"), &json!("DYNAMIC_TOPIC_CONFIG"))
    );
    assert_eq!(
        proxy
            .ask("DELETE", "topics/t/configs/cleanup.policy", "")
            .status,
        204
    );
    assert_eq!(of("cleanup.policy")["value"], "delete");
    let alter = |body: &str| proxy.ask("POST", "topics/t/configs:alter", body);
    let both = r#"{"data":[{"name":"retention.ms","value":"5"},{"name":"cleanup.policy","operation":"DELETE"}]}"#;
    assert_eq!(alter(both).status, 204);
    assert_eq!(of("retention.ms")["value"], "5");
    let list = proxy.told("topics/t/configs");
    assert!(list["data"].as_array().unwrap().len() > 10);

    assert_eq!(code(&proxy.get("topics/t/configs/wat")), (404, 404));
    assert_eq!(code(&put("wat", r#"{"value":"1"}"#)), (400, 40002));
    assert_eq!(code(&put("retention.ms", r#"{"value":"x"}"#)), (400, 40002));
    assert_eq!(code(&put("retention.ms", "7")), (422, 422));
    let unknown = r#"{"data":[{"name":"retention.ms","value":"1","operation":"APPEND"}]}"#;
    assert_eq!(code(&alter(unknown)), (422, 422));
    assert_eq!(code(&alter("{")), (400, 400));
    for path in ["topics/none/configs", "topics/none/configs/retention.ms"] {
        assert_eq!(code(&proxy.get(path)), (404, 40403));
    }
}

#[test]
fn groups_are_told_with_their_members_and_their_lag() {
    let (_dir, broker, mut wire) = broker_with(&["--group-initial-rebalance-delay-ms=0"]);
    wire.create_topic("t", 2);
    let proxy = Proxy::of(&broker);
    assert_eq!(code(&proxy.get("consumer-groups/g")), (404, 404));
    let mut members = group_of(broker.kafka, "g", 1);
    for partition in [0, 1] {
        wire.append(
            "t",
            partition,
            &crate::support::batch::Batch::of(["a", "b", "c"]),
        );
    }
    assert_eq!(members[0].commit("t", &[(0, 1), (1, 3)]), 0);
    assert_eq!(
        commit_error(&wire.call(&commit("simple", "t", &[(0, 0)]), OFFSET_COMMIT)),
        0
    );

    let group = proxy.told("consumer-groups/g");
    assert_eq!(
        (&group["state"], &group["is_simple"]),
        (&json!("STABLE"), &json!(false))
    );
    assert_eq!(group["partition_assignor"], "range");
    assert_eq!(proxy.told("consumer-groups/simple")["is_simple"], true);
    let groups = proxy.told("consumer-groups");
    let names: Vec<&Value> = groups["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["consumer_group_id"])
        .collect();
    assert_eq!(names, ["g", "simple"]);
    let consumers = proxy.told("consumer-groups/g/consumers");
    let id = consumers["data"][0]["consumer_id"].as_str().unwrap();
    let consumer = proxy.told(&format!("consumer-groups/g/consumers/{id}"));
    assert_eq!(consumer, consumers["data"][0]);
    assert_eq!(
        code(&proxy.get("consumer-groups/g/consumers/none")),
        (404, 404)
    );

    let lag = proxy.told("consumer-groups/g/lags/t/partitions/0");
    assert_eq!(
        (&lag["current_offset"], &lag["log_end_offset"], &lag["lag"]),
        (&json!(1), &json!(3), &json!(2))
    );
    assert_eq!(
        proxy.told("consumer-groups/g/lags")["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let summary = proxy.told("consumer-groups/g/lag-summary");
    assert_eq!(
        (&summary["max_lag"], &summary["total_lag"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(summary["max_lag_partition_id"], 0);
    for path in [
        "consumer-groups/none/lags",
        "consumer-groups/none/lag-summary",
        "consumer-groups/none/consumers",
    ] {
        assert_eq!(code(&proxy.get(path)), (404, 404), "{path}");
    }
    assert_eq!(
        code(&proxy.get("consumer-groups/simple/lags/t/partitions/1")),
        (404, 404)
    );
    assert_eq!(
        code(&proxy.get("consumer-groups/g/lags/none/partitions/0")),
        (404, 40403)
    );
    assert_eq!(
        code(&proxy.get("consumer-groups/g/lags/t/partitions/9")),
        (404, 40402)
    );
}

#[test]
fn the_cluster_and_its_broker_are_told_and_no_other() {
    let (_dir, broker, _) = broker_with(&["--node-id", "7", "--auto-create-topics=false"]);
    let proxy = Proxy::of(&broker);
    let brokers = proxy.told("brokers");
    assert_eq!(brokers["data"][0], proxy.told("brokers/7"));
    assert_eq!(brokers["data"][0]["port"], broker.kafka.port());
    assert_eq!(code(&proxy.get("brokers/8")), (404, 404));
    let clusters = http_exchange(broker.http, "GET", "/v3/clusters", &[], b"").json();
    let cluster = &clusters["data"][0];
    assert_eq!(cluster["controller"]["related"], proxy.url("brokers/7"));
    let one = format!("/v3/clusters/{}", proxy.cluster);
    assert_eq!(
        &http_exchange(broker.http, "GET", &one, &[], b"").json(),
        cluster
    );
    let reply = http_exchange(broker.http, "GET", "/v3/clusters/other/topics", &[], b"");
    let refusal = r#"{"error_code":404,"message":"Cluster other cannot be found."}"#;
    assert_eq!((reply.status, reply.text()), (404, refusal.to_owned()));
    let record = r#"{"value":{"type":"JSON","data":1}}"#;
    assert_eq!(
        code(&proxy.ask("POST", "topics/none/records", record)),
        (404, 40403)
    );
    let batch = format!("{{\"entries\":[{{\"id\":\"1\",{}]}}", &record[1..]);
    assert_eq!(
        code(&proxy.ask("POST", "topics/none/records:batch", &batch)),
        (404, 40403)
    );
    assert_eq!(code(&proxy.ask("DELETE", "topics", "")), (405, 405));
    assert_eq!(code(&proxy.get("wat")), (404, 404));
}
