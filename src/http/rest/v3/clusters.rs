//! The cluster, which is this broker.

use super::links::{Links, list_at, shown};
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::http::request::Asked;
use hyper::StatusCode;
use serde_json::{Value, json};

/// `GET /v3/clusters`.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let links = Links::of(engine, &asked.uri, &asked.headers);
    let data = vec![cluster(&links, engine.config.node_id)];
    Ok(list_at("KafkaClusterList", links.clusters(), data))
}

/// `GET /v3/clusters/{cluster}`.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    Ok(shown(&cluster(
        &links,
        asked.services.engine.config.node_id,
    )))
}

fn cluster(links: &Links, node_id: i32) -> Value {
    let node_id = node_id.to_string();
    let more = json!({
        "controller": links.related(&["brokers", &node_id]),
        "acls": links.related(&["acls"]),
        "brokers": links.related(&["brokers"]),
        "broker_configs": links.related(&["broker-configs"]),
        "consumer_groups": links.related(&["consumer-groups"]),
        "topics": links.related(&["topics"]),
        "partition_reassignments": links.related(&["topics", "-", "partitions", "-", "reassignment"]),
    });
    links.item("KafkaCluster", &[], &[], more)
}

/// `GET /v3/clusters/{cluster}/brokers`.
pub async fn brokers(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let data = vec![described(&links, &asked)];
    Ok(links.list("KafkaBrokerList", &["brokers"], data))
}

/// `GET /v3/clusters/{cluster}/brokers/{broker}`.
pub async fn broker(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let named = &asked.params[1];
    if *named != asked.services.engine.config.node_id.to_string() {
        let detail = format!("Broker {named} cannot be found.");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-broker",
            detail,
        ));
    }
    Ok(shown(&described(&links, &asked)))
}

fn described(links: &Links, asked: &Asked) -> Value {
    let config = &asked.services.engine.config;
    let id = config.node_id.to_string();
    let more = json!({
        "broker_id": config.node_id,
        "host": config.advertised().host,
        "port": config.advertised().port,
        "rack": null,
        "configs": links.related(&["brokers", &id, "configs"]),
        "partition_replicas": links.related(&["brokers", &id, "partition-replicas"]),
    });
    links.item("KafkaBroker", &["brokers", &id], &[("broker", &id)], more)
}
