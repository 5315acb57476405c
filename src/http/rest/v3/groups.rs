//! Consumer groups, their members, and how far they are behind.

use super::links::{Links, shown};
use crate::coordinator::groups::classic::messages::{GroupDescription, MemberDescription};
use crate::coordinator::groups::consumer_protocol::{PROTOCOL_TYPE, decode_assignment};
use crate::coordinator::groups::lag::records_behind;
use crate::engine::PartitionKey;
use crate::engine::catalog::Topic;
use crate::engine::offsets::OffsetSpec;
use crate::http::Services;
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::request::Asked;
use crate::http::rest::v2::topics::key_of;
use crate::io::reactor::Slice;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The most bytes of offsets that are asked for at once.
const OFFSETS_BYTES_MAX: usize = 16 << 20;
/// About what a lag takes until it is sent.
const LAG_BYTES: usize = 2 << 10;

/// `GET /v3/clusters/{cluster}/consumer-groups`.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let groups = &asked.services.coordinators.groups;
    let node_id = asked.services.engine.config.node_id;
    let mut memory = asked.services.engine.memory.share();
    let mut data = Vec::new();
    let mut slice = Slice::new();
    for group in groups.list_groups().await {
        // One that went away meanwhile is left out.
        if let Some(known) = groups.describe_group(group.group_id.clone()).await? {
            data.push(described(&links, &group.group_id, &known, node_id));
        }
        memory.grow(data.len() * LAG_BYTES).await;
        slice.rest().await;
    }
    let mut answer = links.list("KafkaConsumerGroupList", &["consumer-groups"], data);
    answer.body_mut().hold(memory);
    Ok(answer)
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}`.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let group = group(&asked.services, &asked.params[1]).await?;
    let node_id = asked.services.engine.config.node_id;
    Ok(shown(&described(&links, &asked.params[1], &group, node_id)))
}

/// # Errors
/// 404 where there is no such group.
async fn group(services: &Services, name: &str) -> Result<GroupDescription, Problem> {
    let known = services.coordinators.groups.describe_group(name.to_owned());
    known.await?.ok_or_else(|| {
        let detail = format!("Consumer group {name} cannot be found.");
        Problem::new(StatusCode::NOT_FOUND, "unknown-group", detail)
    })
}

fn described(links: &Links, name: &str, group: &GroupDescription, node_id: i32) -> Value {
    let path = ["consumer-groups", name];
    let within = |last| links.related(&["consumer-groups", name, last]);
    let more = json!({
        "consumer_group_id": name,
        "is_simple": group.protocol_type.is_empty(),
        "partition_assignor": group.protocol,
        "state": state(group.state),
        "type": "CLASSIC",
        "is_mixed_consumer_group": false,
        "coordinator": links.related(&["brokers", &node_id.to_string()]),
        "consumers": within("consumers"),
        "lag_summary": within("lag-summary"),
    });
    links.item(
        "KafkaConsumerGroup",
        &path,
        &[("consumer-group", name)],
        more,
    )
}

/// `PreparingRebalance` as `PREPARING_REBALANCE`.
fn state(state: &str) -> String {
    let mut words = String::new();
    for letter in state.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_uppercase());
    }
    words
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers`.
pub async fn consumers(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let name = &asked.params[1];
    let group = group(&asked.services, name).await?;
    let mut data = Vec::with_capacity(group.members.len());
    let mut slice = Slice::new();
    for member in &group.members {
        data.push(consumer_item(&links, name, member));
        slice.rest().await;
    }
    let path = ["consumer-groups", name, "consumers"];
    Ok(links.list("KafkaConsumerList", &path, data))
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}`.
pub async fn consumer(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let [_, name, id] = &asked.params[..] else {
        return Err(Problem::bad_request("a cluster, a group and a consumer"));
    };
    let group = group(&asked.services, name).await?;
    let mut members = group.members.iter();
    let member = members.find(|member| member.member_id == *id);
    let member = member.ok_or_else(|| {
        let detail = format!("Consumer {id} cannot be found in group {name}.");
        Problem::new(StatusCode::NOT_FOUND, "unknown-consumer", detail)
    })?;
    Ok(shown(&consumer_item(&links, name, member)))
}

fn consumer_item(links: &Links, group: &str, member: &MemberDescription) -> Value {
    let id = member.member_id.as_str();
    let path = ["consumer-groups", group, "consumers", id];
    let more = json!({
        "consumer_group_id": group,
        "consumer_id": id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "assignments": links.related(&[&path[..], &["assignments"]].concat()),
    });
    let names = [("consumer-group", group), ("consumer", id)];
    links.item("KafkaConsumer", &path, &names, more)
}

/// How far a group is behind in one partition.
struct Lag {
    topic: Arc<Topic>,
    partition: u32,
    offset: i64,
    end: i64,
    records: i64,
    /// Its place in the group.
    member: Option<usize>,
}

/// The lags of a group, where it has committed, as of now.
async fn lags(
    services: &Services,
    name: &str,
    group: &GroupDescription,
) -> Result<Vec<Lag>, Problem> {
    let engine = &services.engine;
    let groups = &services.coordinators.groups;
    let offsets = groups.fetch_offsets(name.to_owned(), None, OFFSETS_BYTES_MAX);
    let offsets = offsets.await?;
    let members = members_of(services, group).await;
    let mut lags = Vec::with_capacity(offsets.len());
    let mut slice = Slice::new();
    for (key, committed) in offsets {
        slice.rest().await;
        let Some(topic) = engine.topic_by_id(key.topic_id) else {
            continue;
        };
        let start = reading::at(engine, key, OffsetSpec::Earliest).await?;
        let end = reading::at(engine, key, OffsetSpec::Latest).await?;
        lags.push(Lag {
            topic,
            partition: key.index,
            offset: committed.offset,
            end,
            records: records_behind(committed.offset, start, end),
            member: members.get(&key).copied(),
        });
    }
    Ok(lags)
}

/// Which member has which partition.
async fn members_of(services: &Services, group: &GroupDescription) -> HashMap<PartitionKey, usize> {
    let mut members = HashMap::new();
    let mut slice = Slice::new();
    if group.protocol_type != PROTOCOL_TYPE {
        return members;
    }
    for (place, member) in group.members.iter().enumerate() {
        // One without any has not even a version.
        let Ok(assignment) = decode_assignment(&member.assignment) else {
            continue;
        };
        for topic in assignment.assigned_partitions {
            for index in topic.partitions {
                let key = services.engine.key_of(topic.topic, index);
                members.extend(key.map(|key| (key, place)));
                slice.rest().await;
            }
        }
    }
    members
}

impl Lag {
    fn to_json(&self, links: &Links, group: &str, members: &[MemberDescription]) -> Value {
        let (topic, partition) = (self.topic.name.as_str(), self.partition.to_string());
        let member = self.member.and_then(|place| members.get(place));
        let path = [
            "consumer-groups",
            group,
            "lags",
            topic,
            "partitions",
            &partition,
        ];
        let names = [
            ("consumer-group", group),
            ("lag", topic),
            ("partition", &partition),
        ];
        let more = json!({
            "consumer_group_id": group,
            "topic_name": topic,
            "partition_id": self.partition,
            "consumer_id": member.map_or("", |member| &member.member_id),
            "instance_id": member.and_then(|member| member.instance_id.as_deref()),
            "client_id": member.map_or("", |member| &member.client_id),
            "current_offset": self.offset,
            "log_end_offset": self.end,
            "lag": self.records,
        });
        links.item("KafkaConsumerLag", &path, &names, more)
    }
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}/lags`.
pub async fn all_lags(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let name = &asked.params[1];
    let group = group(&asked.services, name).await?;
    let lags = lags(&asked.services, name, &group).await?;
    let mut memory = asked.services.engine.memory.share();
    memory.grow(lags.len() * LAG_BYTES).await;
    let mut data = Vec::with_capacity(lags.len());
    let mut slice = Slice::new();
    for lag in lags {
        data.push(lag.to_json(&links, name, &group.members));
        slice.rest().await;
    }
    let path = ["consumer-groups", name, "lags"];
    let mut answer = links.list("KafkaConsumerLagList", &path, data);
    answer.body_mut().hold(memory);
    Ok(answer)
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}`.
pub async fn lag(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let name = &asked.params[1];
    let group = group(&asked.services, name).await?;
    let topic = reading::topic(&asked.services.engine, &asked.params[2])?;
    let key = key_of(&topic, &asked.params[3])?;
    let lags = lags(&asked.services, name, &group).await?;
    let mut lags = lags.iter();
    let found = lags.find(|lag| (lag.topic.id, lag.partition) == (key.topic_id, key.index));
    let found = found.ok_or_else(|| {
        let detail = format!(
            "Consumer lag of group {name} in partition {} of topic {} cannot be found.",
            key.index, topic.name
        );
        Problem::new(StatusCode::NOT_FOUND, "unknown-lag", detail)
    })?;
    Ok(shown(&found.to_json(&links, name, &group.members)))
}

/// `GET /v3/clusters/{cluster}/consumer-groups/{group}/lag-summary`.
pub async fn lag_summary(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let name = asked.params[1].as_str();
    let group = group(&asked.services, name).await?;
    let lags = lags(&asked.services, name, &group).await?;
    let total = lags
        .iter()
        .fold(0i64, |total, lag| total.saturating_add(lag.records));
    let Some(most) = lags.iter().max_by_key(|lag| lag.records) else {
        let detail = format!("Consumer group {name} has committed no offsets.");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-lag", detail));
    };
    let member = most.member.and_then(|place| group.members.get(place));
    let member_id = member.map_or("", |member| &member.member_id);
    let (topic, partition) = (most.topic.name.as_str(), most.partition.to_string());
    // Without a member in that partition, the group's.
    let path_parts = if member.is_some() { 4 } else { 3 };
    let more = json!({
        "consumer_group_id": name,
        "max_lag_client_id": member.map_or("", |member| &member.client_id),
        "max_lag_consumer_id": member_id,
        "max_lag_instance_id": member.and_then(|member| member.instance_id.as_deref()),
        "max_lag_topic_name": topic,
        "max_lag_partition_id": most.partition,
        "max_lag": most.records,
        "total_lag": total,
        "max_lag_consumer": links.related(&["consumer-groups", name, "consumers", member_id][..path_parts]),
        "max_lag_partition": links.related(&["topics", topic, "partitions", &partition]),
    });
    let path = ["consumer-groups", name, "lag-summary"];
    let names = [("consumer-group", name), ("lag-summary", "")];
    Ok(shown(&links.item(
        "KafkaConsumerGroupLagSummary",
        &path,
        &names,
        more,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_in_capitals() {
        assert_eq!(state("Stable"), "STABLE");
        assert_eq!(state("PreparingRebalance"), "PREPARING_REBALANCE");
    }
}
